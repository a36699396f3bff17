//! What was measured, as lines.

use std::time::Duration;

/// Prints a figure with its name.
pub(crate) fn line(name: &str, figure: impl std::fmt::Display) {
    println!("{name:<72} {figure:>16}");
}

/// A percentile of durations; sorts them.
pub(crate) fn percentile(durations: &mut [Duration], percent: usize) -> Duration {
    durations.sort_unstable();
    let place = (durations.len() * percent / 100).min(durations.len().saturating_sub(1));
    durations.get(place).copied().unwrap_or_default()
}

/// The middle one.
pub(crate) fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or_default()
}

/// Milliseconds with two digits.
pub(crate) fn millis(duration: Duration) -> String {
    format!("{:.2} ms", duration.as_secs_f64() * 1e3)
}

/// A rate a second.
pub(crate) fn rate(count: usize, took: Duration) -> f64 {
    // A count of events is far below where a float loses digits.
    #[allow(clippy::cast_precision_loss)]
    let count = count as f64;
    count / took.as_secs_f64()
}
