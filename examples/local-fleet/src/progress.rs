//! Tells the user what takes long.

use std::fmt;
use std::io::Write;
use std::sync::Arc;

/// Takes the lines in which the lab tells what it is doing.
///
/// By default they go to standard error, also from tests: a first run builds programs for minutes, and a silent
/// test looks like one that hangs.
#[derive(Clone)]
pub struct Progress(Arc<dyn Fn(&str) + Send + Sync>);

impl Progress {
    /// Gives each line to `sink`.
    pub fn new(sink: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Progress(Arc::new(sink))
    }

    /// Says nothing.
    pub fn silent() -> Self {
        Progress::new(|_| {})
    }

    /// Says one line.
    pub fn say(&self, line: impl AsRef<str>) {
        (self.0)(line.as_ref());
    }
}

impl Default for Progress {
    fn default() -> Self {
        // Written directly, not by `eprintln!`, which the test harness captures. Nothing can be done if it fails.
        Progress::new(|line| drop(writeln!(std::io::stderr().lock(), "local-fleet: {line}")))
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Progress")
    }
}
