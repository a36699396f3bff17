//! Filling in: what the characters in parsed scalars stand for.

use serde_json::Value as Json;

use super::{Plane, Quotes, Refusal, Slot};
use crate::render::TemplateFault;
use crate::yaml::{FaultKind, Fill, Misfit};

/// The keys under which a mapping's own keys are data: a template may print them.
const MAPPINGS_OF_DATA: [&str; 8] =
    ["labels", "annotations", "matchLabels", "nodeSelector", "selector", "data", "stringData", "binaryData"];

/// What one rendering printed.
pub(crate) struct Printed {
    plane: Plane,
    slots: Vec<Slot>,
}

impl Printed {
    pub(super) fn new(plane: Plane) -> Self {
        Self { plane, slots: Vec::new() }
    }

    pub(super) fn put(&mut self, slot: Slot) -> Result<char, Refusal> {
        let Some(char) = self.plane.char(self.slots.len()) else {
            let reason =
                format!("more than {} values are printed; print fewer, or split the template", Plane::SIZE);
            return Err(Refusal::new(TemplateFault::Limit, reason));
        };
        self.slots.push(slot);
        Ok(char)
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
        Some(Ok(match self.only(text)? {
            Slot::Plain(value) | Slot::Leaf(value) => value.clone(),
            Slot::Text(text) | Slot::Quoted(text, _) => Json::from(&**text),
            Slot::Key(text) => Json::from(text.as_str()),
        }))
    }

    fn text(&self, text: &str, room: usize) -> Result<String, Misfit> {
        let mut filled = String::with_capacity(text.len());
        for char in text.chars() {
            match self.slot(char) {
                None => filled.push(char),
                Some(Slot::Text(text)) => filled.push_str(text),
                Some(Slot::Plain(value) | Slot::Leaf(value)) => filled.push_str(&value.to_string()),
                Some(Slot::Key(text)) => filled.push_str(&Json::from(text.as_str()).to_string()),
                Some(Slot::Quoted(text, Quotes::Double)) => {
                    filled.push_str(&Json::from(&**text).to_string());
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
                "a key is printed here; printed keys are allowed only under {}: write the key, or print the mapping as a \
                 whole, as YAML or JSON",
                MAPPINGS_OF_DATA.join(", ")
            );
            return Err(Misfit { kind: FaultKind::Place, reason });
        }
        match only {
            Some(Slot::Leaf(Json::String(text))) => Ok(text.clone()),
            Some(Slot::Quoted(text, _)) => Ok(text.as_ref().to_owned()),
            Some(Slot::Leaf(Json::Null)) => {
                let reason = "null is printed where a key is needed; give a text instead".to_owned();
                Err(Misfit { kind: FaultKind::Place, reason })
            }
            _ => self.text(text, room),
        }
    }
}
