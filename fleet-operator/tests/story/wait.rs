//! Waiting for something to hold. What was seen last is told when it never does.

use std::time::{Duration, Instant};

/// Far more than anything takes, also on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(10);

/// Waits until something holds; until then it says what is seen instead.
pub(crate) fn until<T>(what: &str, look: impl FnMut() -> Result<T, String>) -> T {
    until_within(PATIENCE, what, look)
}

/// As [`until`], with another patience.
pub(crate) fn until_within<T>(
    patience: Duration,
    what: &str,
    mut look: impl FnMut() -> Result<T, String>,
) -> T {
    let begun = Instant::now();
    loop {
        match look() {
            Ok(value) => return value,
            Err(seen) => assert!(begun.elapsed() < patience, "gave up waiting: {what}\nseen last: {seen}"),
        }
        std::thread::sleep(POLL);
    }
}
