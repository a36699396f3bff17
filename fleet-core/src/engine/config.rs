//! The engine's bounds. Every default is bounded.

use std::time::Duration;

/// How much the engine does at a time, and how patient it is.
#[derive(Clone, Debug)]
pub struct Config {
    /// Deliveries taken from a source and not yet settled, per source. At the bound, reading pauses.
    pub max_in_flight: usize,
    /// Works that are applied to one cluster at the same time.
    pub cluster_concurrency: usize,
    /// Works that wait in memory for their turn in one cluster, and as many more for the time of their next try. What
    /// finds no room follows from the store.
    pub max_queued: usize,
    /// So many Works a second are looked at again, counted once for each cluster, because definitions or clusters changed,
    /// or after the start. Events do not wait for them.
    pub rerenders_per_second: u32,
    /// Works that are kept only because an older event of their key may still come. At the bound reading pauses, as far
    /// as the source can deliver again, until floors have passed some of them.
    pub max_tombstones: usize,
    /// How long one call of the Applier may take.
    pub apply_deadline: Duration,
    /// How long a delivery waits for a store that cannot be written, before it is given back.
    pub store_patience: Duration,
    /// How long stopping may take until what is in flight is given up.
    pub drain_deadline: Duration,
    /// The share of all Works, in percent, that a change of definitions or clusters may withdraw, or a snapshot of what is
    /// live delete, without being confirmed.
    pub max_withdraw_percent: usize,
    /// So many Works may always be withdrawn.
    pub max_withdraw_floor: usize,
    /// The first and the longest pause before something that failed for a reason outside is tried again.
    pub retry: Backoff,
    /// The same for something that waits for the cluster to finish.
    pub waiting: Backoff,
    /// The same for what a cluster refused.
    pub stalled: Backoff,
    /// The same for a cluster that is out of reach.
    pub cluster_down: Backoff,
    /// So often within a minute an object is repaired, until it is left for a pause to whoever changes it.
    pub most_repairs: usize,
    /// The first and the longest of these pauses.
    pub contested: Backoff,
    /// The first and the longest pause before a preview is made anew.
    pub preview: Backoff,
    /// Of so many deliveries it is known what came of them, for people who ask ([`Handle::recent`]); about 1 KiB of memory
    /// each. 0: of none.
    ///
    /// [`Handle::recent`]: crate::engine::Handle::recent
    pub recent_deliveries: usize,
}

/// Pauses that double from the first to the longest, with jitter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The first pause.
    pub first: Duration,
    /// The longest pause.
    pub longest: Duration,
}

impl Backoff {
    const fn millis(first: u64, longest: u64) -> Self {
        Self { first: Duration::from_millis(first), longest: Duration::from_millis(longest) }
    }

    /// The pause after so many failures (0: the first), between half of it and all of it by `entropy`, so that what
    /// failed together does not come back together.
    pub fn pause(&self, failures: u32, entropy: u64) -> Duration {
        let full = self.first.saturating_mul(1 << failures.min(20)).min(self.longest);
        let half = full / 2;
        let spread = u64::try_from(half.as_nanos()).unwrap_or(u64::MAX).saturating_add(1);
        half + Duration::from_nanos(entropy % spread)
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_in_flight: 1024,
            cluster_concurrency: 32,
            max_queued: 10_000,
            rerenders_per_second: 5_000,
            max_tombstones: 100_000,
            apply_deadline: Duration::from_secs(10),
            store_patience: Duration::from_secs(30),
            drain_deadline: Duration::from_secs(20),
            max_withdraw_percent: 20,
            max_withdraw_floor: 10,
            retry: Backoff::millis(200, 60_000),
            waiting: Backoff::millis(100, 3_000),
            stalled: Backoff::millis(5_000, 600_000),
            cluster_down: Backoff::millis(250, 30_000),
            most_repairs: 5,
            contested: Backoff::millis(30_000, 600_000),
            preview: Backoff::millis(15_000, 30_000),
            recent_deliveries: 1_000,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_bound_and_vary() {
        let backoff = Backoff::millis(100, 1000);
        for (failures, least, most) in
            [(0, 50, 100), (1, 100, 200), (3, 400, 800), (9, 500, 1000), (u32::MAX, 500, 1000)]
        {
            for entropy in [0, 1, 12_345_678_901, u64::MAX] {
                let pause = backoff.pause(failures, entropy).as_millis();
                assert!((least..=most).contains(&pause), "{failures} {entropy}: {pause}");
            }
        }
    }
}
