//! The delays between attempts to watch.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use kube::runtime::utils::Backoff;
use tokio::time::Instant;

/// Delays between attempts. The watcher says "well" before each attempt to list, so what counts is only how long ago
/// the last failure was.
#[derive(Debug, Default)]
pub(crate) struct Patience {
    last: Option<(Instant, Duration)>,
}

impl Patience {
    const SHORTEST: Duration = Duration::from_millis(250);
    const LONGEST: Duration = Duration::from_secs(5);
    /// After that much time without a failure the delays begin anew.
    const FORGIVEN: Duration = Duration::from_secs(30);
}

impl Iterator for Patience {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let now = Instant::now();
        let delay = match self.last {
            Some((at, delay)) if now < at + delay + Self::FORGIVEN => (delay * 2).min(Self::LONGEST),
            _ => Self::SHORTEST,
        };
        self.last = Some((now, delay));
        Some(delay)
    }
}

impl Backoff for Patience {
    fn reset(&mut self) {}
}

/// About as long, a fifth more or less, so that many do not move in step.
pub(crate) fn spread(duration: Duration) -> Duration {
    // A new RandomState hashes differently each time.
    let part = RandomState::new().hash_one(0) % 400;
    duration.mul_f64(0.8 + part as f64 / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn patience_grows_and_is_forgiven() {
        let mut patience = Patience::default();
        let delays: Vec<u128> = patience.by_ref().take(6).map(|delay| delay.as_millis()).collect();
        assert_eq!(delays, [250, 500, 1000, 2000, 4000, 5000]);
        patience.reset();
        assert_eq!(patience.next(), Some(Patience::LONGEST), "a list that is tried again is no success");
        tokio::time::advance(Patience::LONGEST + Patience::FORGIVEN).await;
        assert_eq!(patience.next(), Some(Patience::SHORTEST));
    }
}
