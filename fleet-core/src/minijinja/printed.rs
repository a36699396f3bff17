//! What templates print: not values, but one private-use character for each, which stands for the value until the
//! text has been parsed. Data never becomes structure because it is never part of the text.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use minijinja::value::{Object, ValueKind};
use minijinja::{AutoEscape, Error, Output, State, Value};
use serde_json::Value as Json;

use super::environment::AUTO_ESCAPE;
use super::error::{refuse, refuse_value};
use super::fill;
use crate::render::TemplateFault;

/// The name of the [`Sink`] in the context. No template can spell it.
pub(super) const SINK: &str = "printed values";

/// The characters of one private-use plane: U+F0000 to U+FFFFD, or U+100000 to U+10FFFD. YAML takes them anywhere, no
/// filter changes them, and a single character cannot be cut in two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Plane {
    first: u32,
    lead: u8,
}

impl Plane {
    /// How many characters there are.
    pub(super) const SIZE: usize = 0xFFFE;
    pub(super) const A: Self = Self { first: 0xF_0000, lead: 0xF3 };
    pub(super) const B: Self = Self { first: 0x10_0000, lead: 0xF4 };

    fn char(self, index: usize) -> Option<char> {
        if index >= Self::SIZE {
            return None;
        }
        char::from_u32(self.first.checked_add(u32::try_from(index).ok()?)?)
    }

    /// Which character of the plane it is.
    pub(super) fn index(self, char: char) -> Option<usize> {
        let index = usize::try_from(u32::from(char).checked_sub(self.first)?).ok()?;
        (index < Self::SIZE).then_some(index)
    }

    /// How many of its characters a text has.
    pub(super) fn count(self, text: &str) -> usize {
        if !text.as_bytes().contains(&self.lead) {
            return 0;
        }
        text.chars().filter(|char| self.index(*char).is_some()).count()
    }
}

/// Which planes occur in what a rendering starts from.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Planes {
    a: bool,
    b: bool,
}

impl Planes {
    pub(super) fn see(&mut self, text: &str) {
        self.a = self.a || Plane::A.count(text) > 0;
        self.b = self.b || Plane::B.count(text) > 0;
    }

    /// A plane that does not occur.
    pub(super) fn unused(self) -> Option<Plane> {
        match self {
            Self { a: false, .. } => Some(Plane::A),
            Self { b: false, .. } => Some(Plane::B),
            _ => None,
        }
    }
}

/// What a character in the printed text stands for.
#[derive(Clone, Debug)]
pub(super) enum Slot {
    /// A value that an expression printed.
    Value(Value),
    /// A key that `tojson` or `toyaml` printed.
    Key(String),
    /// A string, number, boolean or null that `tojson` or `toyaml` printed.
    Leaf(Json),
    /// A text that `quote` or `squote` printed.
    Quoted(String, Quotes),
}

/// The quotes that a [`Slot::Quoted`] gets within a larger text.
#[derive(Clone, Copy, Debug)]
pub(super) enum Quotes {
    Double,
    Single,
}

/// Takes what one rendering prints. An object of the context, so that formatter and filters find it.
pub(super) struct Sink {
    plane: Plane,
    slots: Mutex<Vec<Slot>>,
}

impl Sink {
    pub(super) fn new(plane: Plane) -> Self {
        Self { plane, slots: Mutex::default() }
    }

    /// The sink of a rendering that is under way.
    pub(super) fn of(state: &mut State<'_, '_>) -> Result<Arc<Self>, Error> {
        struct Found(Arc<Sink>);
        if let Some(Found(sink)) = state.get_extension::<Found>() {
            return Ok(Arc::clone(sink));
        }
        let sink = state
            .lookup(SINK)
            .and_then(|value| value.downcast_object::<Self>())
            .ok_or_else(|| refuse(TemplateFault::Evaluation, "nothing can be printed here"))?;
        state.get_or_insert_extension(Found(Arc::clone(&sink)));
        Ok(sink)
    }

    /// Keeps what is printed; the character stands for it.
    pub(super) fn put(&self, slot: Slot) -> Result<char, Error> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(char) = self.plane.char(slots.len()) else {
            let reason =
                format!("more than {} values are printed; print fewer, or split the template", Plane::SIZE);
            return Err(refuse(TemplateFault::Limit, reason));
        };
        slots.push(slot);
        Ok(char)
    }

    /// Refuses text that holds printed text without being printed text itself: a slice of a macro's output, say. It
    /// would show characters that stand for something.
    pub(super) fn whole(&self, text: &str) -> Result<(), Error> {
        if self.plane.count(text) == 0 {
            return Ok(());
        }
        Err(refuse(
            TemplateFault::Structure,
            "text that was printed before (by a macro, call, set block or filter block) was taken apart; it may only \
             be printed, joined with ~ and passed to indent, nindent and trim",
        ))
    }

    pub(super) fn plane(&self) -> Plane {
        self.plane
    }

    pub(super) fn take(&self) -> Vec<Slot> {
        std::mem::take(&mut self.slots.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Object for Sink {
    fn repr(self: &Arc<Self>) -> minijinja::value::ObjectRepr {
        minijinja::value::ObjectRepr::Plain
    }
}

impl fmt::Debug for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sink")
    }
}

/// The formatter: prints one character for a value, and printed text as it is.
pub(super) fn print(out: &mut Output<'_>, state: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    if !matches!(state.auto_escape(), AutoEscape::Custom(name) if name == AUTO_ESCAPE) {
        return Err(refuse(
            TemplateFault::Structure,
            "autoescape is not available; values are always safe to print",
        ));
    }
    if value.is_safe() {
        out.write_str(value.as_str().unwrap_or_default())?;
        return Ok(());
    }
    let sink = Sink::of(state)?;
    if let Some(text) = value.as_str().filter(|_| value.kind() == ValueKind::String) {
        sink.whole(text)?;
    } else {
        fill::scalar(value).map_err(|why| refuse_value(value, why))?;
    }
    out.write_str(sink.put(Slot::Value(value.clone()))?.encode_utf8(&mut [0; 4]))?;
    Ok(())
}
