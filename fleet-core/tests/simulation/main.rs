//! The engine in simulated worlds: virtual time, everything random from one seed, and faults of every kind. Each history
//! is compared with a [model] of a few lines. A failure prints its seed and what happened;
//! `FLEET_SIM_SEED=n cargo test -p fleet-core --test simulation` runs that one again. `FLEET_SIM_HISTORIES` says how many
//! there are (20,000), `FLEET_SIM_FIRST` with which seed they begin.
//!
//! # Limits: what is not simulated, because it is not so
//! * One of two operators is never killed. What it did in a cluster and had not written down, the other does not know;
//!   only a watch for marked objects would show it.
//! * With two operators, and from one that is killed before it has stored the newest message it saw as a floor (a second
//!   at most), the stream loses no message that was handed out. The loss would not be seen, and what gets such a number
//!   next would count as seen, or two operators would begin two epochs.
//! * What a store says that it did not write is not written later.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that meets the unexpected says so and stops; so do its helpers"
)]

mod applier;
mod clusters;
mod dice;
/// The epochs of fleet-nats' JetStream source, the very code: what they make of a stream decides about order.
#[path = "../../../fleet-nats/src/jetstream/epoch.rs"]
#[allow(dead_code, unreachable_pub)]
mod epoch;
mod history;
mod ledger;
mod model;
mod process;
mod source;
mod store;
mod stream;
mod templates;
mod world;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::Mutex;

use crate::history::End;
use crate::world::Lie;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable)
        .ok()
        .map(|text| text.parse().unwrap_or_else(|_| panic!("{variable} is no number")))
}

/// Runs histories on all cores until one fails or all are done; the seed of the first that failed.
fn search(seeds: std::ops::Range<u64>, lie: Lie) -> Option<u64> {
    let (next, stop, failed) = (AtomicU64::new(seeds.start), AtomicBool::new(false), Mutex::new(None));
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    if !history::run(seed, lie, false).problems.is_empty() {
                        stop.store(true, Ordering::Relaxed);
                        let mut failed = failed.lock();
                        *failed = Some(failed.map_or(seed, |other: u64| other.min(seed)));
                    }
                }
            });
        }
    });
    failed.into_inner()
}

fn tell(seed: u64, End { problems, trace, .. }: &End) -> String {
    format!(
        "{trace}\n\nhistory {seed} ends badly:\n  {}\nto run it again: FLEET_SIM_SEED={seed} cargo test -p fleet-core --test simulation",
        problems.join("\n  ")
    )
}

/// Invariants 1, 2, 3, 4, 9 and 11: whatever happens, the clusters come to what the model says.
#[test]
fn whatever_happens_the_clusters_come_to_what_the_events_say() {
    if let Some(seed) = number("FLEET_SIM_SEED") {
        let end = history::run(seed, Lie::None, true);
        assert!(end.problems.is_empty(), "{}", tell(seed, &end));
        println!("{}", end.trace);
        return;
    }
    let first = number("FLEET_SIM_FIRST").unwrap_or(1);
    let histories = number("FLEET_SIM_HISTORIES").unwrap_or(20_000);
    let began = Instant::now();
    if let Some(seed) = search(first..first + histories, Lie::None) {
        panic!("{}", tell(seed, &history::run(seed, Lie::None, true)));
    }
    println!("{histories} histories in {:?}", began.elapsed());
}

/// What a seed gives is the same each time: else it would replay nothing.
#[test]
fn a_seed_gives_the_same_history_each_time() {
    for seed in 1..=20 {
        let (one, two) = (history::run(seed, Lie::None, true), history::run(seed, Lie::None, true));
        assert_eq!(one.fingerprint, two.fingerprint, "history {seed}");
        assert!(one.trace.lines().count() > 20);
    }
}

/// The simulation can fail: a world in which one part lies is found out.
fn is_found_out(lie: Lie) {
    const HISTORIES: u64 = 5000;
    let found = search(1..1 + HISTORIES, lie);
    assert!(found.is_some(), "{lie:?}: {HISTORIES} histories, and none ended badly");
    println!("{lie:?}: found out by history {}", found.unwrap());
}

#[test]
fn acknowledging_before_storing_is_found_out() {
    is_found_out(Lie::AckBeforeStore);
}

#[test]
fn not_minding_what_is_superseded_is_found_out() {
    is_found_out(Lie::NothingIsSuperseded);
}

#[test]
fn dropping_tombstones_early_is_found_out() {
    is_found_out(Lie::TombstonesDropEarly);
}

#[test]
fn taking_floors_from_the_server_is_found_out() {
    is_found_out(Lie::FloorFromServer);
}

#[test]
fn trusting_a_404_right_after_a_time_out_is_found_out() {
    is_found_out(Lie::NothingLandsLate);
}
