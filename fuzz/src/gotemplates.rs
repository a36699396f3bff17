//! Any text as a Go template, behind a line of two digits: its kind, as of minijinja's; and when it is rendered: `0` with the
//! event, `1` for the target, `2` both.

use fleet_core::gotemplate::GoRenderer;
use fleet_core::render::{GoPasses, Language};

use crate::templates::{chosen, hold};
use crate::{Outcome, halves};

/// The target.
pub fn run(input: &[u8]) -> Outcome {
    let Some((line, text)) = halves(input) else { return Outcome::Refused };
    let (kind, passes) = chosen(line);
    let passes = [GoPasses::Event, GoPasses::Cluster, GoPasses::Both][passes % 3];
    hold(&GoRenderer, kind, Language::Go(passes), text)
}
