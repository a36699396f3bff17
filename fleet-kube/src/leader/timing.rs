//! The three times of an election.

use std::time::Duration;

/// How long a Lease holds, and how often it is renewed. [`Timing::default`] is client-go's: 15 s, 10 s and 2 s.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    lease: Duration,
    renew: Duration,
    retry: Duration,
}

/// Times that do not go together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TimingError(String);

impl Timing {
    /// * `lease`: so long after its last sign of life a leader counts as dead. Whole seconds, from 1 s to a day.
    /// * `renew`: so long after it was last renewed a leader stops leading. Less than `lease`: what lies between is what
    ///   its clock and its last requests may be late.
    /// * `retry`: the pause between two attempts. Fits at least twice into `renew`.
    ///
    /// # Errors
    /// When they do not keep to that.
    pub fn new(lease: Duration, renew: Duration, retry: Duration) -> Result<Self, TimingError> {
        let refuse = |why: String| Err(TimingError(why));
        if lease.subsec_nanos() != 0 || !(1..=86_400).contains(&lease.as_secs()) {
            return refuse(format!(
                "a lease of {lease:?} cannot be written down: take whole seconds, at least 1 and at most a day"
            ));
        }
        if renew >= lease {
            return refuse(format!(
                "the renew deadline ({renew:?}) must be shorter than the lease ({lease:?})"
            ));
        }
        if retry.is_zero() || retry * 2 > renew {
            return refuse(format!(
                "the retry period ({retry:?}) must fit twice into the renew deadline ({renew:?})"
            ));
        }
        Ok(Self { lease, renew, retry })
    }

    /// The times for a lease of this length, in client-go's proportions.
    ///
    /// # Errors
    /// When it is not whole seconds, shorter than 1 s, or longer than a day.
    pub fn for_lease(lease: Duration) -> Result<Self, TimingError> {
        Self::new(lease, lease * 2 / 3, lease * 2 / 15)
    }

    /// So long after its last sign of life a leader counts as dead.
    pub fn lease(&self) -> Duration {
        self.lease
    }

    /// So long after it was last renewed a leader stops leading.
    pub fn renew(&self) -> Duration {
        self.renew
    }

    /// The pause between two attempts.
    pub fn retry(&self) -> Duration {
        self.retry
    }

    /// How long one request may take: two fit into the renew deadline, so that one that hangs is not the last.
    pub(super) fn request(&self) -> Duration {
        self.renew / 2
    }
}

impl Default for Timing {
    fn default() -> Self {
        Self { lease: Duration::from_secs(15), renew: Duration::from_secs(10), retry: Duration::from_secs(2) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_that_cannot_work_are_refused() {
        let secs = Duration::from_secs;
        assert_eq!(Timing::for_lease(secs(15)), Ok(Timing::default()));
        assert_eq!(Timing::new(secs(15), secs(10), secs(2)), Ok(Timing::default()));
        for (lease, renew, retry) in [
            (secs(0), secs(0), secs(0)),
            (Duration::from_millis(1500), secs(1), Duration::from_millis(100)),
            (secs(86_401), secs(10), secs(2)),
            (secs(10), secs(10), secs(2)),
            (secs(15), secs(10), secs(6)),
            (secs(15), secs(10), secs(0)),
        ] {
            assert!(Timing::new(lease, renew, retry).is_err(), "{lease:?} {renew:?} {retry:?}");
        }
    }
}
