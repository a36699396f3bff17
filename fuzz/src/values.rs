//! Any value, in any position of a template, from any place that data comes from: it stays a value (invariant 6).
//!
//! The first line chooses, by two characters, position and source; the rest is the value.

use std::sync::LazyLock;

use fleet_core::render::GoPasses;

use crate::positions::{POSITIONS, Position, SOURCES, leaves_room};
use crate::{Outcome, go_positions, halves};

/// In both languages, Go's in one pass and in two; by the source of the value.
static COMPILED: LazyLock<Vec<Vec<Position>>> = LazyLock::new(|| {
    let minijinja = SOURCES
        .iter()
        .map(|source| POSITIONS.iter().map(|position| Position::new(*position, source)).collect());
    let go = go_positions::SOURCES.iter().flat_map(|source| {
        let in_one = go_positions::POSITIONS.iter();
        let in_two = in_one.clone().chain(go_positions::IN_THE_SECOND_PASS);
        [
            in_one.map(|it| go_positions::position(*it, source, GoPasses::Event)).collect(),
            in_two.map(|it| go_positions::position(*it, source, GoPasses::Both)).collect(),
        ]
    });
    minijinja.chain(go).collect()
});

/// The target.
pub fn run(input: &[u8]) -> Outcome {
    let Some((line, value)) = halves(input) else { return Outcome::Refused };
    // No event has an empty subject.
    if !leaves_room(value) || value.is_empty() {
        return Outcome::Refused;
    }
    let at = |place: usize| line.as_bytes().get(place).map_or(0, |byte| usize::from(*byte));
    let positions = &COMPILED[at(1) % COMPILED.len()];
    if let Err(fault) = positions[at(0) % positions.len()].check(value) {
        panic!("{fault}");
    }
    Outcome::Taken
}
