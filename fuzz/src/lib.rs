//! What must hold of any input, wherever one comes in: each module is a target, with what it holds its input to.
//!
//! An input is text, so that what is in `corpus` can be read. libFuzzer looks for one that breaks a rule (`.ci/fuzz`, targets
//! in `libfuzzer`), and every test run gives all of `corpus` to the same functions (`tests/replay.rs`). What is found goes into
//! `corpus`.

// A rule that does not hold stops the run.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

pub mod cluster_nats;
pub mod definitions;
pub mod events;
pub mod expressions;
pub mod gotemplates;
pub mod http;
pub mod kubeconfigs;
pub mod manifests;
pub mod minijinja;
pub mod nats;
pub mod patterns;
pub mod selectors;
mod specification;
mod templates;
pub mod values;

// Positions for values, and what is rendered there, are those of the renderers' tests.
#[path = "../../fleet-core/tests/render/go/positions.rs"]
mod go_positions;
#[path = "../../fleet-core/tests/selectors/kubernetes.rs"]
#[allow(dead_code, unreachable_pub)]
mod kubernetes;
#[path = "../../fleet-core/tests/render/positions.rs"]
mod positions;
#[path = "../../fleet-core/tests/render/setting.rs"]
#[allow(dead_code)]
mod setting;

/// What became of an input, if no rule was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was understood.
    Taken,
    /// It was refused, with a reason.
    Refused,
}

/// A target: its name and its function.
pub type Target = (&'static str, fn(&[u8]) -> Outcome);

/// All targets.
pub const TARGETS: &[Target] = &[
    ("cluster_nats", cluster_nats::run),
    ("definitions", definitions::run),
    ("events", events::run),
    ("expressions", expressions::run),
    ("gotemplates", gotemplates::run),
    ("http", http::run),
    ("kubeconfigs", kubeconfigs::run),
    ("manifests", manifests::run),
    ("minijinja", minijinja::run),
    ("nats", nats::run),
    ("patterns", patterns::run),
    ("selectors", selectors::run),
    ("values", values::run),
];

/// A word that no template, expression or rule has by itself. Where it stands for a secret, no error may show it.
const SECRET: &str = "hunter2";

/// What is wrong was told without the secret, unless the input itself speaks of it.
#[track_caller]
fn shows_no_secret(told: &str, input: &str) {
    assert!(input.contains(SECRET) || !told.contains(SECRET), "{told:?} shows a value");
}

/// The input as a message: headers of one line each, an empty line, and what follows.
fn message(input: &[u8]) -> Option<(Vec<(String, String)>, bytes::Bytes)> {
    let mut headers = Vec::new();
    let mut rest = input;
    loop {
        let end = rest.iter().position(|byte| *byte == b'\n')?;
        let line = std::str::from_utf8(&rest[..end]).ok()?.trim_end_matches('\r');
        rest = &rest[end + 1..];
        match line.split_once(':') {
            Some((name, value)) => headers.push((name.to_owned(), value.trim_start().to_owned())),
            None => return line.is_empty().then(|| (headers, bytes::Bytes::copy_from_slice(rest))),
        }
    }
}

/// The input as text: its first line, and what follows.
fn halves(input: &[u8]) -> Option<(&str, &str)> {
    std::str::from_utf8(input).ok()?.split_once('\n')
}
