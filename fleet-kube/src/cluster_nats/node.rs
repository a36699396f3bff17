//! Reading JSON field by field, so that each mistake is told with its place and without its value.

use serde_json::{Map, Value};

/// What is wrong with the text of a Secret. It never holds anything out of it but names of fields.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}{}{reason}", if path.is_empty() { "" } else { ": " })]
pub struct Mistake {
    /// Where in the JSON: `jetstream.configuration.streams[0].name`; empty for all of it.
    pub path: String,
    /// What is wrong, and what to do.
    pub reason: String,
}

/// A mapping, and where it stands.
pub(super) struct Node<'a> {
    path: String,
    fields: &'a Map<String, Value>,
}

impl<'a> Node<'a> {
    pub(super) fn new(path: String, value: &'a Value, known: &[&str]) -> Result<Self, Mistake> {
        let Some(fields) = value.as_object() else {
            return Err(Mistake { path, reason: "must be a mapping".to_owned() });
        };
        let node = Self { path, fields };
        match fields.keys().find(|key| !known.contains(&key.as_str())) {
            Some(key) => Err(node.wrong(key, format!("is unknown; expected {}", known.join(", ")))),
            None => Ok(node),
        }
    }

    /// A mistake in one of its fields; in itself if the name is empty.
    pub(super) fn wrong(&self, field: &str, reason: impl Into<String>) -> Mistake {
        let field: String = field.chars().take(63).collect();
        let path = match (self.path.as_str(), field.as_str()) {
            ("", _) => field,
            (path, "") => path.to_owned(),
            (path, field) => format!("{path}.{field}"),
        };
        Mistake { path, reason: reason.into() }
    }

    fn get(&self, field: &str) -> Option<&'a Value> {
        self.fields.get(field).filter(|value| !value.is_null())
    }

    pub(super) fn has(&self, field: &str) -> bool {
        self.get(field).is_some()
    }

    /// A mapping in it.
    pub(super) fn node(&self, field: &str, known: &[&str]) -> Result<Option<Node<'a>>, Mistake> {
        let path = self.wrong(field, "").path;
        self.get(field).map(|value| Node::new(path, value, known)).transpose()
    }

    /// A text that is not empty.
    pub(super) fn text(&self, field: &str) -> Result<Option<&'a str>, Mistake> {
        match self.get(field) {
            None => Ok(None),
            Some(Value::String(text)) if text.trim().is_empty() => Err(self.wrong(field, "is empty")),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.wrong(field, "must be a text")),
        }
    }

    pub(super) fn needed_text(&self, field: &str) -> Result<&'a str, Mistake> {
        self.text(field)?.ok_or_else(|| self.wrong(field, "is missing"))
    }

    pub(super) fn flag(&self, field: &str) -> Result<bool, Mistake> {
        match self.get(field) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(_) => Err(self.wrong(field, "must be true or false")),
        }
    }

    pub(super) fn number(&self, field: &str) -> Result<Option<u64>, Mistake> {
        match self.get(field) {
            None => Ok(None),
            Some(value) => {
                value.as_u64().map(Some).ok_or_else(|| self.wrong(field, "must be a number from 0"))
            }
        }
    }

    /// A list, as fields of which each has a name of its own; at most `most` of them.
    pub(super) fn list(&self, field: &str, most: usize) -> Result<Vec<(String, &'a Value)>, Mistake> {
        let Some(value) = self.get(field) else { return Ok(Vec::new()) };
        let Some(items) = value.as_array() else {
            return Err(self.wrong(field, "must be a list"));
        };
        if items.len() > most {
            return Err(self.wrong(field, format!("has {} items; at most {most} are read", items.len())));
        }
        Ok(items.iter().enumerate().map(|(index, item)| (format!("{field}[{index}]"), item)).collect())
    }

    /// A list of texts, each of which `check` finds right.
    pub(super) fn texts<T>(
        &self,
        field: &str,
        most: usize,
        check: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Vec<T>, Mistake> {
        let checked = self.list(field, most)?.into_iter().map(|(at, item)| {
            let text = item.as_str().ok_or_else(|| self.wrong(&at, "must be a text"))?;
            check(text).map_err(|why| self.wrong(&at, why))
        });
        checked.collect()
    }
}
