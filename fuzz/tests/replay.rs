//! What was found before, and what shows the way to it: all inputs of `corpus` keep all rules.

// A test that meets the unexpected says so loudly and stops, in its helpers too.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeSet;
use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use fleet_fuzz::{Outcome, TARGETS};

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The names of files in a folder, without what follows the last dot.
fn names(folder: &str) -> BTreeSet<String> {
    let names = fs::read_dir(here(folder)).unwrap().map(|it| it.unwrap().path());
    names.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect()
}

fn replay(name: &str) {
    let run = TARGETS.iter().find(|(target, _)| *target == name).unwrap().1;
    let (mut taken, mut refused, mut broken) = (0, 0, Vec::new());
    for file in fs::read_dir(here("corpus").join(name)).unwrap() {
        let path = file.unwrap().path();
        let input = fs::read(&path).unwrap();
        match catch_unwind(|| run(&input)) {
            Ok(Outcome::Taken) => taken += 1,
            Ok(Outcome::Refused) => refused += 1,
            Err(_) => broken.push(path),
        }
    }
    assert!(broken.is_empty(), "these break a rule: {broken:#?}");
    assert!(
        taken > 2 && refused > 0,
        "of the corpus {taken} are taken and {refused} refused: too few to find more by"
    );
}

macro_rules! replays {
    ($($target:ident),*) => {
        $(#[test]
        fn $target() {
            replay(stringify!($target));
        })*
        const REPLAYED: &[&str] = &[$(stringify!($target)),*];
    };
}

replays!(
    cluster_nats,
    definitions,
    events,
    expressions,
    gotemplates,
    http,
    kubeconfigs,
    manifests,
    minijinja,
    nats,
    patterns,
    selectors,
    values
);

#[test]
fn each_target_has_a_corpus_and_is_fuzzed_and_replayed() {
    let targets: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names("corpus"), targets);
    assert_eq!(names("libfuzzer/targets"), targets);
    assert_eq!(REPLAYED.iter().map(|it| (*it).to_owned()).collect::<BTreeSet<_>>(), targets);
}
