//! Any text as a minijinja template, behind a line that says of which kind: `0` manifests, `1` text, `2` values of a chart.

use fleet_core::minijinja::MinijinjaRenderer;
use fleet_core::render::Language;

use crate::templates::{chosen, hold};
use crate::{Outcome, halves};

/// The target.
pub fn run(input: &[u8]) -> Outcome {
    let Some((line, text)) = halves(input) else { return Outcome::Refused };
    hold(&MinijinjaRenderer, chosen(line).0, Language::Minijinja, text)
}
