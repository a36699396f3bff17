//! Any text, in any position of a template, from any place that data comes from: it stays a value (invariant 6).
//!
//! `cargo +nightly fuzz run values -- -max_total_time=300 -dict=fuzz/values.dict`, in `fleet-core`. What it finds goes
//! into `tests/render/corpus.rs`, which every test run replays.

#![no_main]

use std::sync::LazyLock;

use arbitrary::Arbitrary;
use libfuzzer_sys::{Corpus, fuzz_target};

#[path = "../../tests/render/positions.rs"]
mod positions;
#[path = "../../tests/render/setting.rs"]
#[allow(dead_code)]
mod setting;

use positions::{POSITIONS, Position, SOURCES, leaves_room};

#[derive(Debug, Arbitrary)]
struct Input<'a> {
    position: u8,
    source: u8,
    value: &'a str,
}

static COMPILED: LazyLock<Vec<Vec<Position>>> = LazyLock::new(|| {
    let in_all = |source: &&str| POSITIONS.iter().map(|position| Position::new(*position, source)).collect();
    SOURCES.iter().map(in_all).collect()
});

fuzz_target!(|input: Input<'_>| -> Corpus {
    let source = usize::from(input.source) % SOURCES.len();
    // No event has an empty subject.
    if !leaves_room(input.value) || (input.value.is_empty() && SOURCES[source] == "event.subject") {
        return Corpus::Reject;
    }
    let position = &COMPILED[source][usize::from(input.position) % POSITIONS.len()];
    if let Err(fault) = position.check(input.value) {
        panic!("{fault}");
    }
    Corpus::Keep
});
