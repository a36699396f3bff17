//! What the renderers have in common: they print no values, but one private-use character for each (`plane`, `sink`). The
//! text that comes of it is parsed, and the characters are replaced inside the scalars that were parsed (`fill`). Data
//! never becomes structure because it is never part of the text.

mod constant;
mod documents;
mod fill;
mod lines;
mod plane;
mod sink;
mod structure;

pub(crate) use constant::Constant;
pub(crate) use documents::Rendered;
pub(crate) use fill::Printed;
pub(crate) use lines::{Lines, Span};
pub(crate) use plane::{Plane, Planes};
pub(crate) use sink::{Quotes, Sink, Slot};
pub(crate) use structure::Tree;

use crate::render::{TemplateError, TemplateFault, TemplateKind};

/// How long a rendered text may be, in bytes, before values are filled in.
pub(crate) const LONGEST: usize = 4 << 20;

/// What a renderer refuses. The reason must not show values.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub(crate) struct Refusal {
    pub(crate) fault: TemplateFault,
    pub(crate) reason: String,
}

impl Refusal {
    pub(crate) fn new(fault: TemplateFault, reason: impl Into<String>) -> Self {
        Self { fault, reason: reason.into() }
    }

    /// The error of the template with this name, at this line of it.
    pub(crate) fn at(self, template: &str, line: Option<u32>) -> TemplateError {
        TemplateError { template: template.to_owned(), line, fault: self.fault, reason: self.reason }
    }
}

/// A template that is asked for something else than it gives.
pub(crate) fn wrong_kind(name: &str, is: TemplateKind, wanted: TemplateKind) -> TemplateError {
    let reason = format!("the template is one of {is:?}, not of {wanted:?}");
    Refusal::new(TemplateFault::Evaluation, reason).at(name, None)
}

/// The two private-use planes both occur in what a rendering starts from.
pub(crate) fn no_plane() -> Refusal {
    let reason = "template and event together hold private-use characters of both U+F0000 and U+100000, one of \
                  which rendering needs";
    Refusal::new(TemplateFault::Limit, reason)
}

/// The rendered text is longer than [`LONGEST`].
pub(crate) fn too_long() -> Refusal {
    let reason = format!("the rendered text is longer than {LONGEST} bytes; split the template");
    Refusal::new(TemplateFault::Limit, reason)
}
