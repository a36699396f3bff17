//! ConfigMaps and Secrets: texts by key. No message shows anything of a value.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use fleet_core::render::Language;
use serde_json::{Map, Value};

use super::object::{Fault, Place, Problem, join};
use super::parse::Metadata;
use super::sveltos;
use crate::api::TEMPLATE_ANNOTATION;

/// What a ConfigMap or Secret holds.
pub(crate) struct Contents {
    /// What the templates that it holds are written in; `None` if it holds none.
    pub(crate) template: Option<Language>,
    /// The texts by key, or why a key holds no text. That is a problem only for whoever needs the key.
    pub(crate) entries: BTreeMap<String, Result<Arc<str>, &'static str>>,
}

impl Contents {
    pub(super) fn config_map(
        place: &Place,
        metadata: &Metadata,
        object: &Map<String, Value>,
    ) -> Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut entries = BTreeMap::new();
        for (key, text) in texts(place, object, "data", &mut problems) {
            entries.insert(key.to_owned(), Ok(text.into()));
        }
        for (key, _) in texts(place, object, "binaryData", &mut problems) {
            entries.insert(key.to_owned(), Err("holds binary data; only text can be used"));
        }
        Self::checked(place, metadata, entries, problems)
    }

    pub(super) fn secret(
        place: &Place,
        metadata: &Metadata,
        object: &Map<String, Value>,
    ) -> Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut entries = BTreeMap::new();
        for (key, text) in texts(place, object, "data", &mut problems) {
            entries.insert(key.to_owned(), text_of_secret(text));
        }
        // As the API server does: stringData wins.
        for (key, text) in texts(place, object, "stringData", &mut problems) {
            entries.insert(key.to_owned(), Ok(text.into()));
        }
        Self::checked(place, metadata, entries, problems)
    }

    fn checked(
        place: &Place,
        metadata: &Metadata,
        entries: BTreeMap<String, Result<Arc<str>, &'static str>>,
        mut problems: Vec<Problem>,
    ) -> Result<Self, Vec<Problem>> {
        let mut template = None;
        let mut refuse = |annotation: &str, fault, reason: &str| {
            problems.push(place.problem(&join("/metadata/annotations", annotation), fault, reason));
        };
        let has = |annotation: &str| metadata.annotations.contains_key(annotation);
        match metadata.annotations.get(TEMPLATE_ANNOTATION).map(String::as_str) {
            Some("true") => template = Some(Language::Minijinja),
            None | Some("false") => {}
            Some(_) => refuse(TEMPLATE_ANNOTATION, Fault::Invalid, "must be \"true\" or \"false\""),
        }
        let passes = sveltos::passes_of_contents(has);
        if has(sveltos::LUA) {
            refuse(sveltos::LUA, Fault::NotSupported, "there is no Lua here; write a template");
        }
        match passes {
            Some(_) if template.is_some() => {
                let reason =
                    "says minijinja, and an annotation of projectsveltos.io says Go; keep one of them";
                refuse(TEMPLATE_ANNOTATION, Fault::Invalid, reason);
            }
            passes => template = template.or(passes.map(Language::Go)),
        }
        if problems.is_empty() { Ok(Self { template, entries }) } else { Err(problems) }
    }
}

impl fmt::Debug for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Contents")
            .field("template", &self.template)
            .field("keys", &self.entries.keys())
            .finish_non_exhaustive()
    }
}

/// The strings of a mapping of strings.
fn texts<'a>(
    place: &Place,
    object: &'a Map<String, Value>,
    field: &str,
    problems: &mut Vec<Problem>,
) -> Vec<(&'a str, &'a str)> {
    let pointer = join("", field);
    let mapping = match object.get(field) {
        None | Some(Value::Null) => return Vec::new(),
        Some(Value::Object(mapping)) => mapping,
        Some(_) => {
            problems.push(place.problem(&pointer, Fault::Invalid, "must be a mapping of names to texts"));
            return Vec::new();
        }
    };
    let mut texts = Vec::with_capacity(mapping.len());
    for (key, value) in mapping {
        match value {
            Value::String(text) => texts.push((key.as_str(), text.as_str())),
            other => {
                let what = match other {
                    Value::Number(_) | Value::Bool(_) => "must be a text; quote it",
                    Value::Null => "is empty; write \"\" for an empty text",
                    _ => "must be a text; a block of text begins with | after the colon",
                };
                problems.push(place.problem(&join(&pointer, key), Fault::Invalid, what));
            }
        }
    }
    texts
}

/// The text under a key of a Secret's `data`.
///
/// # Errors
/// When it is no text; why, for a sentence that begins with the key.
pub fn text_of_secret(text: &str) -> Result<Arc<str>, &'static str> {
    // Lines in base64 are allowed, as the API server allows them.
    let joined: String = text.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
    let bytes = STANDARD.decode(joined).map_err(|_| "is no base64; use stringData for plain text")?;
    String::from_utf8(bytes).map(Into::into).map_err(|_| "is no UTF-8 text")
}
