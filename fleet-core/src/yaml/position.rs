//! Where things stand in a text.

use std::collections::BTreeMap;

use serde_path_to_error::{Path, Segment};

/// A place in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    /// In bytes.
    pub(crate) offset: usize,
    /// Counted from 1.
    pub(crate) line: u32,
    /// Counted from 1, in characters.
    pub(crate) column: u32,
}

impl From<granit_parser::Marker> for Mark {
    fn from(marker: granit_parser::Marker) -> Self {
        let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        Self {
            offset: marker.byte_offset().unwrap_or_default(),
            line: number(marker.line()),
            column: number(marker.col().saturating_add(1)),
        }
    }
}

/// Where each part of a document stands, by JSON pointer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Positions(BTreeMap<String, Mark>);

impl Positions {
    pub(super) fn insert(&mut self, pointer: &str, mark: Mark) {
        self.0.insert(pointer.to_owned(), mark);
    }

    /// The place of what the pointer names, or of the nearest thing around it that has one.
    pub(crate) fn nearest(&self, mut pointer: &str) -> Option<Mark> {
        loop {
            if let Some(mark) = self.0.get(pointer) {
                return Some(*mark);
            }
            (pointer, _) = pointer.rsplit_once('/')?;
        }
    }
}

/// Lengthens a pointer by a member's name.
pub(super) fn push(pointer: &mut String, member: &str) {
    pointer.push('/');
    for char in member.chars() {
        match char {
            '~' => pointer.push_str("~0"),
            '/' => pointer.push_str("~1"),
            _ => pointer.push(char),
        }
    }
}

/// A path of serde's as a pointer.
pub(super) fn pointer(path: &Path) -> String {
    let mut pointer = String::new();
    for segment in path {
        match segment {
            Segment::Seq { index } => push(&mut pointer, &index.to_string()),
            Segment::Map { key } => push(&mut pointer, key),
            Segment::Enum { variant } => push(&mut pointer, variant),
            Segment::Unknown => {}
        }
    }
    pointer
}
