//! Chance: every choice of a history comes from its seed, in the order in which it is made.

use std::ops::Range;
use std::time::Duration;

use fleet_core::environment::{Entropy, SplitMix};

/// The dice of one history.
#[derive(Debug)]
pub(crate) struct Dice(SplitMix);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(SplitMix::new(seed))
    }

    /// A number in a range.
    pub(crate) fn roll(&self, range: Range<u64>) -> u64 {
        range.start + self.0.next() % (range.end - range.start).max(1)
    }

    /// True so many times in a thousand.
    pub(crate) fn chance(&self, per_mille: u64) -> bool {
        self.roll(0..1000) < per_mille
    }

    pub(crate) fn millis(&self, range: Range<u64>) -> Duration {
        Duration::from_millis(self.roll(range))
    }

    pub(crate) fn pick<T: Clone>(&self, from: &[T]) -> T {
        from[usize::try_from(self.roll(0..from.len() as u64)).unwrap()].clone()
    }
}
