//! What becomes of a rendered text: Kubernetes objects, a mapping, or a text.

use serde_json::{Map, Value as Json};

use super::{LONGEST, Lines, Printed, Refusal};
use crate::manifest::Manifest;
use crate::render::{TemplateError, TemplateFault};
use crate::yaml::{self, Fault, FaultKind, Fill, Reader};

/// What a rendering wrote, before values are filled in.
pub(crate) struct Rendered {
    pub(crate) text: String,
    pub(crate) lines: Lines,
    pub(crate) printed: Printed,
}

impl Rendered {
    /// The documents, as manifests. Errors name the template.
    pub(crate) fn manifests(&self, template: &str) -> Result<Vec<Manifest>, TemplateError> {
        manifests(&self.text, &self.printed).map_err(|fault| self.error(template, fault))
    }

    /// The one document, as a mapping.
    pub(crate) fn mapping(&self, template: &str) -> Result<Map<String, Json>, TemplateError> {
        mapping(&self.text, &self.printed).map_err(|fault| self.error(template, fault))
    }

    /// The text as such.
    pub(crate) fn text(&self, template: &str) -> Result<String, TemplateError> {
        let text = self.printed.text(&self.text, LONGEST);
        text.map_err(|misfit| Refusal::new(fault_of(misfit.kind), misfit.reason).at(template, None))
    }

    fn error(&self, template: &str, fault: Fault) -> TemplateError {
        output_error(template, self.lines.line(&self.text, fault.at.offset), fault)
    }
}

/// Reads the documents of a text as manifests.
pub(super) fn manifests<F: Fill>(text: &str, fill: &F) -> Result<Vec<Manifest>, Fault> {
    let mut reader = Reader::new(text, fill);
    let mut manifests = Vec::new();
    let mut index = 0;
    while let Some(document) = reader.next_document() {
        let document = document?;
        if !document.value.is_null() {
            let manifest = Manifest::new(document.value).map_err(|error| Fault {
                at: field(text, fill, index, error.field).unwrap_or(document.start),
                kind: FaultKind::Text,
                reason: error.reason,
            })?;
            manifests.push(manifest);
        }
        index += 1;
    }
    Ok(manifests)
}

/// Reads a text as one mapping.
fn mapping<F: Fill>(text: &str, fill: &F) -> Result<Map<String, Json>, Fault> {
    let mut reader = Reader::new(text, fill);
    let mut mapping = Map::new();
    while let Some(document) = reader.next_document() {
        let document = document?;
        let fault =
            |reason: &str| Fault { at: document.start, kind: FaultKind::Text, reason: reason.to_owned() };
        match document.value {
            Json::Null => {}
            Json::Object(values) if mapping.is_empty() => mapping = values,
            Json::Object(_) => return Err(fault("values are one document; merge the others into the first")),
            _ => return Err(fault("is not a mapping; the values of a chart are one")),
        }
    }
    Ok(mapping)
}

/// Where a field of a document stands. Reads the text again: only documents at fault pay for positions.
fn field<F: Fill>(text: &str, fill: &F, document: usize, pointer: &str) -> Option<yaml::Mark> {
    let mut reader = Reader::new(text, fill).with_positions();
    std::iter::from_fn(|| reader.next_document()).nth(document)?.ok()?.positions.nearest(pointer)
}

pub(super) fn output_error(template: &str, line: Option<u32>, fault: Fault) -> TemplateError {
    Refusal::new(fault_of(fault.kind), fault.reason).at(template, line)
}

pub(super) fn fault_of(kind: FaultKind) -> TemplateFault {
    match kind {
        FaultKind::Text => TemplateFault::Output,
        FaultKind::Place => TemplateFault::Structure,
        FaultKind::Limit => TemplateFault::Limit,
    }
}
