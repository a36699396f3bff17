//! Bars and spinners on stderr for what takes long. Where nobody looks (no terminal) there are none.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// How often a spinner turns.
const TURN: Duration = Duration::from_millis(120);

/// A bar for so many steps. Dropped, it is gone.
pub(super) struct Bar(ProgressBar);

impl Bar {
    pub(super) fn of(steps: usize, what: &'static str) -> Self {
        let bar = ProgressBar::new(u64::try_from(steps).unwrap_or(u64::MAX)).with_message(what);
        Self(styled(bar, "{msg} [{bar:30}] {pos}/{len} ({eta} left)"))
    }

    pub(super) fn step(&self) {
        self.0.inc(1);
    }

    /// Prints something without the bar in it.
    pub(super) fn apart<T>(&self, print: impl FnOnce() -> T) -> T {
        self.0.suspend(print)
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// Something that is waited for, nobody knows how long. Dropped, it is gone.
pub(super) struct Spinner(ProgressBar);

impl Spinner {
    pub(super) fn turn(what: String) -> Self {
        let spinner = styled(ProgressBar::new_spinner().with_message(what), "{spinner} {msg} ({elapsed})");
        spinner.enable_steady_tick(TURN);
        Self(spinner)
    }

    /// Whether anybody sees it.
    pub(super) fn is_seen(&self) -> bool {
        !self.0.is_hidden()
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

fn styled(bar: ProgressBar, template: &str) -> ProgressBar {
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
