//! The seam to rendering: places in a text that stand for something else.

use serde_json::Value;

use super::Mark;
use super::fault::{Fault, FaultKind};

/// What stands for something else in the text that is read. A rendered template has such places where it printed
/// values; other texts have [`Nothing`].
pub(crate) trait Fill {
    /// How many places to fill a text has.
    fn places(&self, text: &str) -> usize;
    /// The value of a plain scalar that has places; `None` unless it is one place and nothing else.
    fn whole(&self, text: &str) -> Option<Result<Value, Misfit>>;
    /// The text of a scalar with its places filled, which must not become longer than `room` bytes.
    fn text(&self, text: &str, room: usize) -> Result<String, Misfit>;
    /// Whether keys may be printed in a mapping that stands under this key.
    fn keys_allowed(&self, parent: Option<&str>) -> bool;
    /// The text of a key that has places, in a mapping that stands under the key `parent`.
    fn key(&self, text: &str, plain: bool, parent: Option<&str>, room: usize) -> Result<String, Misfit>;
}

/// A text without places to fill.
pub(crate) struct Nothing;

impl Fill for Nothing {
    fn places(&self, _text: &str) -> usize {
        0
    }
    fn whole(&self, _text: &str) -> Option<Result<Value, Misfit>> {
        None
    }
    fn text(&self, text: &str, _room: usize) -> Result<String, Misfit> {
        Ok(text.to_owned())
    }
    fn keys_allowed(&self, _parent: Option<&str>) -> bool {
        true
    }
    fn key(&self, text: &str, _: bool, _: Option<&str>, _room: usize) -> Result<String, Misfit> {
        Ok(text.to_owned())
    }
}

/// Why a place cannot be filled.
#[derive(Debug)]
pub(crate) struct Misfit {
    pub(crate) kind: FaultKind,
    pub(crate) reason: String,
}

impl Misfit {
    pub(super) fn at(self, at: Mark) -> Fault {
        Fault { at, kind: self.kind, reason: self.reason }
    }
}
