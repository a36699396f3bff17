//! How long to wait before something is tried again.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);
const CAP: Duration = Duration::from_secs(5);

/// Doubling delays with jitter, so that many sources do not come back in step.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The delay before the next attempt.
    pub(crate) fn next(&mut self) -> Duration {
        let delay = after(self.failures);
        self.failures = self.failures.saturating_add(1);
        delay
    }

    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }
}

/// The delay after so many failures in a row: between half and the whole of the doubled delay.
pub(crate) fn after(failures: u32) -> Duration {
    let whole = FIRST.saturating_mul(1 << failures.min(10)).min(CAP);
    // A new RandomState hashes with keys of its own: chance enough for jitter.
    let chance = RandomState::new().build_hasher().finish() % 1000;
    whole / 2 + whole.mul_f64(chance as f64 / 2000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_the_cap_and_are_not_all_the_same() {
        let mut backoff = Backoff::default();
        let delays: Vec<Duration> = (0..40).map(|_| backoff.next()).collect();
        assert!(delays.iter().all(|delay| *delay >= FIRST / 2 && *delay <= CAP));
        assert!(delays[8..].iter().all(|delay| *delay >= CAP / 2));
        assert!(delays[8..].windows(2).any(|pair| pair[0] != pair[1]));
        backoff.reset();
        assert!(backoff.next() <= FIRST);
    }
}
