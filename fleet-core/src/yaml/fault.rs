//! Why a document cannot be read.

use granit_parser::ScanError;

use super::{MAX_DEPTH, Mark};

/// Why a document cannot be read, and where. The reason quotes the text that is read, never what fills its places.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) at: Mark,
    pub(crate) kind: FaultKind,
    pub(crate) reason: String,
}

/// The kinds of [`Fault`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FaultKind {
    /// The text is no YAML, or no JSON value.
    Text,
    /// A place to fill stands where none may.
    Place,
    /// The text is too large or too deep.
    Limit,
}

pub(super) fn scan_fault(error: &ScanError) -> Fault {
    text_fault((*error.marker()).into(), format!("not YAML: {}", error.info()))
}

pub(super) fn text_fault(at: Mark, reason: String) -> Fault {
    Fault { at, kind: FaultKind::Text, reason }
}

pub(super) fn place_fault(at: Mark, reason: String) -> Fault {
    Fault { at, kind: FaultKind::Place, reason }
}

pub(super) fn too_deep(at: Mark) -> Fault {
    let reason = format!("the document nests deeper than {MAX_DEPTH} levels");
    Fault { at, kind: FaultKind::Limit, reason }
}
