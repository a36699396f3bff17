//! Reading YAML as kubectl does, with positions; and writing it.
//!
//! [`documents`] is the one way from YAML text to JSON values: folders, literal manifests and rendered templates all
//! pass through the same reader, so that a text means the same everywhere, and what it means to `kubectl apply`.
//! Stricter than kubectl in two ways: a key that comes twice is an error, and what Kubernetes could not store anyway
//! (nesting beyond [`MAX_DEPTH`], aliases that expand without end) is refused.

// The seam to rendering has no user without a renderer.
#![cfg_attr(not(any(feature = "minijinja", feature = "go-templates")), allow(dead_code, unused_imports))]

mod fault;
mod fill;
mod position;
mod read;
mod resolve;
#[cfg(feature = "diff")]
mod write;

use std::fmt;

use serde::de::DeserializeOwned;
use serde_json::Value;

pub(crate) use fault::{Fault, FaultKind};
pub(crate) use fill::{Fill, Misfit, Nothing};
pub(crate) use position::{Mark, Positions};
pub(crate) use read::Reader;
#[cfg(feature = "diff")]
pub use write::{WriteError, to_string};

/// How deep a document may nest.
pub const MAX_DEPTH: usize = 100;

/// Reads the documents of a YAML text, in order. Empty documents are left out; one that is at fault does not hide the
/// others.
pub fn documents(text: &str) -> Vec<Result<Document, YamlError>> {
    let mut reader = Reader::new(text, &Nothing).with_positions();
    std::iter::from_fn(|| reader.next_document())
        .filter_map(|result| match result {
            Ok(document) if document.value.is_null() => None,
            Ok(document) => Some(Ok(Document {
                line: document.start.line,
                value: document.value,
                positions: document.positions,
            })),
            Err(fault) => Some(Err(fault.into())),
        })
        .collect()
}

/// Whether a plain scalar of this text is a string.
#[cfg(feature = "go-templates")]
pub(crate) fn is_string(text: &str) -> bool {
    matches!(resolve::plain(text), Ok(Value::String(_)))
}

/// One document of a YAML text.
#[derive(Clone)]
pub struct Document {
    /// The line where its content begins, counted from 1.
    pub line: u32,
    /// What it holds.
    pub value: Value,
    positions: Positions,
}

impl Document {
    /// The line where what a JSON pointer (RFC 6901) names is written: a field's key, a list's item. For something that
    /// is not written there, the line of the nearest thing around it.
    pub fn line_of(&self, pointer: &str) -> u32 {
        self.positions.nearest(pointer).map_or(self.line, |mark| mark.line)
    }

    /// Turns the document into a typed value.
    ///
    /// # Errors
    /// When it does not fit the type. The error has the line of the field at fault, and names its path.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, YamlError> {
        serde_path_to_error::deserialize(&self.value).map_err(|error| {
            let (path, pointer) = (error.path().to_string(), position::pointer(error.path()));
            let reason = without_value(&error.into_inner().to_string());
            let mark = self.positions.nearest(&pointer);
            YamlError {
                line: mark.map_or(self.line, |mark| mark.line),
                column: mark.map_or(1, |mark| mark.column),
                reason: if path == "." { reason } else { format!("{path}: {reason}") },
            }
        })
    }
}

/// The content may be a Secret's.
impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Document").field("line", &self.line).finish_non_exhaustive()
    }
}

/// serde quotes the text that it did not expect, which may be a secret.
fn without_value(reason: &str) -> String {
    match (reason.find(": string \""), reason.rfind("\", expected ")) {
        (Some(start), Some(end)) if start < end => {
            let (before, after) =
                (reason.get(..start).unwrap_or_default(), reason.get(end + 1..).unwrap_or_default());
            format!("{before}: a string{after}")
        }
        _ => reason.to_owned(),
    }
}

/// Why a text is no YAML, or a document not what was expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {reason}")]
pub struct YamlError {
    /// The line, counted from 1.
    pub line: u32,
    /// The column, counted from 1 in characters.
    pub column: u32,
    /// What is wrong, and what to do.
    pub reason: String,
}

impl From<Fault> for YamlError {
    fn from(fault: Fault) -> Self {
        Self { line: fault.at.line, column: fault.at.column, reason: fault.reason }
    }
}

#[cfg(test)]
mod tests;
