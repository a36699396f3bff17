//! Filling in: what the characters in parsed scalars stand for.

use minijinja::Value;
use minijinja::value::ValueKind;
use serde_json::{Number, Value as Json};

use super::printed::{Plane, Quotes, Slot};
use crate::render::TemplateFault;
use crate::yaml::{FaultKind, Fill, Misfit};

/// The keys under which a mapping's own keys are data: a template may print them.
const MAPPINGS_OF_DATA: [&str; 8] =
    ["labels", "annotations", "matchLabels", "nodeSelector", "selector", "data", "stringData", "binaryData"];

/// What one rendering printed.
pub(super) struct Printed {
    plane: Plane,
    slots: Vec<Slot>,
}

impl Printed {
    pub(super) fn new(plane: Plane, slots: Vec<Slot>) -> Self {
        Self { plane, slots }
    }

    fn slot(&self, char: char) -> Option<&Slot> {
        self.slots.get(self.plane.index(char)?)
    }

    /// The slot that is all of a text.
    fn only(&self, text: &str) -> Option<&Slot> {
        let mut chars = text.chars();
        let slot = self.slot(chars.next()?)?;
        chars.next().is_none().then_some(slot)
    }
}

impl Fill for Printed {
    fn places(&self, text: &str) -> usize {
        self.plane.count(text)
    }

    fn whole(&self, text: &str) -> Option<Result<Json, Misfit>> {
        Some(match self.only(text)? {
            Slot::Value(value) => scalar(value).map_err(misfit),
            Slot::Leaf(leaf) => Ok(leaf.clone()),
            Slot::Key(text) | Slot::Quoted(text, _) => Ok(text.as_str().into()),
        })
    }

    fn text(&self, text: &str, room: usize) -> Result<String, Misfit> {
        let mut filled = String::with_capacity(text.len());
        for char in text.chars() {
            match self.slot(char) {
                None => filled.push(char),
                Some(Slot::Value(value)) => match value.as_str() {
                    Some(text) if value.kind() == ValueKind::String => filled.push_str(text),
                    _ => filled.push_str(&text_of(value).map_err(misfit)?),
                },
                Some(Slot::Leaf(leaf)) => filled.push_str(&leaf.to_string()),
                Some(Slot::Key(text) | Slot::Quoted(text, Quotes::Double)) => {
                    filled.push_str(&Json::from(text.as_str()).to_string());
                }
                Some(Slot::Quoted(text, Quotes::Single)) => {
                    filled.push('\'');
                    filled.push_str(&text.replace('\'', "''"));
                    filled.push('\'');
                }
            }
            if filled.len() > room {
                return Err(Misfit {
                    kind: FaultKind::Limit,
                    reason: "the documents become too large with the values that are printed".to_owned(),
                });
            }
        }
        Ok(filled)
    }

    fn keys_allowed(&self, parent: Option<&str>) -> bool {
        parent.is_some_and(|parent| MAPPINGS_OF_DATA.contains(&parent))
    }

    fn key(&self, text: &str, plain: bool, parent: Option<&str>, room: usize) -> Result<String, Misfit> {
        let only = self.only(text).filter(|_| plain);
        if let Some(Slot::Key(text)) = only {
            return Ok(text.clone());
        }
        if !self.keys_allowed(parent) {
            let reason = format!(
                "a key is printed here; printed keys are allowed only under {}: write the key, or print the mapping with \
                 toyaml or tojson",
                MAPPINGS_OF_DATA.join(", ")
            );
            return Err(Misfit { kind: FaultKind::Place, reason });
        }
        match only {
            Some(Slot::Leaf(Json::String(text)) | Slot::Quoted(text, _)) => Ok(text.clone()),
            Some(Slot::Leaf(Json::Null)) => Err(misfit(no_text("null"))),
            _ => self.text(text, room),
        }
    }
}

/// A value as a JSON scalar.
///
/// # Errors
/// For undefined, null, lists and mappings. The reason does not show the value.
pub(super) fn scalar(value: &Value) -> Result<Json, (TemplateFault, String)> {
    match value.kind() {
        ValueKind::String => Ok(value.as_str().unwrap_or_default().into()),
        ValueKind::Bool => Ok(value.is_true().into()),
        ValueKind::Number => {
            let number = if !value.is_integer() {
                f64::try_from(value.clone()).ok().and_then(Number::from_f64)
            } else if let Some(number) = value.as_i64() {
                Some(number.into())
            } else {
                u64::try_from(value.clone()).ok().map(Number::from)
            };
            let fault = || (TemplateFault::Output, "JSON cannot hold this number".to_owned());
            number.map(Json::Number).ok_or_else(fault)
        }
        ValueKind::Undefined => Err((TemplateFault::Undefined, String::new())),
        ValueKind::None => Err(no_text("null")),
        ValueKind::Seq | ValueKind::Iterable => Err(no_text("a list")),
        ValueKind::Map => Err(no_text("a mapping")),
        ValueKind::Bytes => Err(no_text("bytes")),
        _ => Err((
            TemplateFault::Structure,
            "this is not a value, and cannot be printed; is a call missing?".to_owned(),
        )),
    }
}

/// A value as the text that it is within a larger text.
pub(super) fn text_of(value: &Value) -> Result<String, (TemplateFault, String)> {
    Ok(match scalar(value)? {
        Json::String(text) => text,
        other => other.to_string(),
    })
}

fn no_text(what: &str) -> (TemplateFault, String) {
    let how = match what {
        "null" => "give a value instead with default(\"…\", true), or print it with tojson",
        _ => "print what is in it, or all of it with tojson or toyaml",
    };
    (TemplateFault::Structure, format!("{what} is printed where a text, number or boolean is needed; {how}"))
}

fn misfit((_, reason): (TemplateFault, String)) -> Misfit {
    Misfit { kind: FaultKind::Place, reason }
}
