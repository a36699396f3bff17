//! Durations as users write them.

use std::time::Duration;

/// What a CustomResourceDefinition says of a duration.
pub(super) const PATTERN: &str = r"^([0-9]+(ms|s|m|h))+$";

/// Reads a duration as Go and Kubernetes write it, in whole numbers: `30s`, `1m30s`, `500ms`.
///
/// # Errors
/// When it is written differently, is zero, or is longer than a year.
pub fn parse_duration(text: &str) -> Result<Duration, InvalidDuration> {
    const YEAR: u64 = 365 * 24 * 3_600_000;
    let fault = |why| InvalidDuration { text: text.chars().take(40).collect(), why };
    let mut rest = text;
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let digits =
            rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(|| fault("has no unit at its end"))?;
        let (number, tail) = rest.split_at(digits);
        let number: u64 = number.parse().map_err(|_| fault("is not made of numbers and units"))?;
        let units = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000)];
        let (tail, millis) = units
            .iter()
            .find_map(|(unit, millis)| Some((tail.strip_prefix(unit)?, *millis)))
            .ok_or_else(|| fault("has an unknown unit"))?;
        total = total.saturating_add(number.saturating_mul(millis));
        rest = tail;
    }
    match total {
        0 => Err(fault("is not longer than zero")),
        YEAR.. => Err(fault("is longer than a year")),
        _ => Ok(Duration::from_millis(total)),
    }
}

/// Why a text is no duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} {why}; write a duration such as 30s, 1m30s or 500ms")]
pub struct InvalidDuration {
    text: String,
    why: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_writes_them() {
        for (text, millis) in [("30s", 30_000), ("1m30s", 90_000), ("500ms", 500), ("2h", 7_200_000)] {
            assert_eq!(parse_duration(text).map(|d| d.as_millis()), Ok(millis), "{text}");
        }
        for (text, why) in [
            ("", "is not longer than zero"),
            ("0s", "is not longer than zero"),
            ("30", "no unit"),
            ("30 s", "unknown unit"),
            ("s", "not made of numbers"),
            ("5d", "unknown unit"),
            ("-5s", "not made of numbers"),
            ("99999999999999999999h", "not made of numbers"),
            ("9999999999999999999h", "longer than a year"),
        ] {
            let error = parse_duration(text).unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
