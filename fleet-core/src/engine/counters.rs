//! What the engine counts: for metrics and tests. Label sets are bounded; subjects and keys never appear.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub(crate) fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// How many so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The upper bounds of a [`Histogram`]'s buckets, in microseconds; one more bucket holds what is above.
pub const BUCKETS: [u64; 14] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000, 10_000_000,
    60_000_000,
];

/// How long something took, in buckets.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [AtomicU64; BUCKETS.len() + 1],
    sum: AtomicU64,
}

impl Histogram {
    pub(crate) fn record(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let place = BUCKETS.partition_point(|bound| *bound < micros);
        if let Some(bucket) = self.buckets.get(place) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.sum.fetch_add(micros, Ordering::Relaxed);
    }

    /// How many were at most as long as each of [`BUCKETS`], and how many there were at all.
    pub fn cumulative(&self) -> [u64; BUCKETS.len() + 1] {
        let mut total = 0;
        self.buckets.each_ref().map(|bucket| {
            total += bucket.load(Ordering::Relaxed);
            total
        })
    }

    /// All durations together, in microseconds.
    pub fn sum_micros(&self) -> u64 {
        self.sum.load(Ordering::Relaxed)
    }
}

/// Everything the engine counts since it was made.
#[derive(Debug, Default)]
pub struct Counters {
    /// Deliveries read from sources.
    pub received: Counter,
    /// Deliveries that no trigger wanted: acknowledged, nothing stored.
    pub unmatched: Counter,
    /// Intents that were stored as Work.
    pub stored: Counter,
    /// Deliveries at or below a floor or their key's position, and states that were known: acknowledged, nothing stored.
    pub superseded: Counter,
    /// Deliveries with the source and id of one that was processed lately, where the EventSource says that this makes
    /// them duplicates: acknowledged, nothing stored.
    pub duplicates: Counter,
    /// Keys that were deleted because no event renewed them within their trigger's ttl, and events that came too late for
    /// theirs.
    pub expired: Counter,
    /// Keys that were deleted because a snapshot of what is live lacks them.
    pub missing: Counter,
    /// Deliveries that became dead letters, per trigger that refused them.
    pub dead_letters: Counter,
    /// Deliveries given back because nothing could be stored, or because there are too many tombstones.
    pub given_back: Counter,
    /// Times a Work was brought up to date in a cluster.
    pub applied: Counter,
    /// Times an object was put right that somebody had changed or deleted.
    pub repaired: Counter,
    /// Times an object was left for a pause to somebody who changes it again and again.
    pub contested: Counter,
    /// Objects seen that carry a mark without being any Work's.
    pub strays: Counter,
    /// Times a Work was removed from a cluster.
    pub removed: Counter,
    /// Times a Work stalled in a cluster.
    pub stalled: Counter,
    /// Attempts in a cluster that failed for a reason outside.
    pub retried: Counter,
    /// From reading a delivery to its Work being durable.
    pub durable_latency: Histogram,
    /// From accepting an event to its Work being applied in a cluster, first attempts only.
    pub applied_latency: Histogram,
}
