//! Where values go when they are printed.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value as Json;

use super::{Plane, Printed, Refusal};
use crate::render::TemplateFault;

/// What a character in the printed text stands for.
#[derive(Clone, Debug)]
pub(crate) enum Slot {
    /// A text that an expression printed.
    Text(Arc<str>),
    /// A number or boolean that an expression printed.
    Plain(Json),
    /// A key of a mapping that was printed with its structure.
    Key(String),
    /// A string, number, boolean or null that was printed with the structure around it.
    Leaf(Json),
    /// A text that was printed with quotes.
    Quoted(Arc<str>, Quotes),
}

/// The quotes that a [`Slot::Quoted`] gets within a larger text.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Quotes {
    Double,
    Single,
}

/// Takes what one rendering prints.
pub(crate) struct Sink {
    plane: Plane,
    printed: Mutex<Printed>,
}

impl Sink {
    pub(crate) fn new(plane: Plane) -> Self {
        Self { plane, printed: Mutex::new(Printed::new(plane)) }
    }

    /// Keeps what is printed; the character stands for it.
    pub(crate) fn put(&self, slot: Slot) -> Result<char, Refusal> {
        self.printed.lock().unwrap_or_else(PoisonError::into_inner).put(slot)
    }

    /// Refuses text that holds printed text without being printed text itself: a slice of a macro's output, say. It
    /// would show characters that stand for something.
    pub(crate) fn whole(&self, text: &str) -> Result<(), Refusal> {
        if self.plane.count(text) == 0 {
            return Ok(());
        }
        Err(Refusal::new(
            TemplateFault::Structure,
            "text that was printed before was taken apart; it may only be printed, indented and trimmed as a whole",
        ))
    }

    /// How many of the characters that stand for values a text has.
    #[cfg(feature = "go-templates")]
    pub(crate) fn places(&self, text: &str) -> usize {
        self.plane.count(text)
    }

    /// A text with everything filled in that was printed so far, if it is not longer than `room` bytes.
    #[cfg(feature = "go-templates")]
    pub(crate) fn filled(&self, text: &str, room: usize) -> Result<String, Refusal> {
        use super::documents::fault_of;
        use crate::yaml::Fill;
        let printed = self.printed.lock().unwrap_or_else(PoisonError::into_inner);
        printed.text(text, room).map_err(|misfit| Refusal::new(fault_of(misfit.kind), misfit.reason))
    }

    pub(crate) fn take(&self) -> Printed {
        let mut printed = self.printed.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut printed, Printed::new(self.plane))
    }
}

impl fmt::Debug for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sink")
    }
}
