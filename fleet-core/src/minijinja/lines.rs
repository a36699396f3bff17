//! From places in the rendered text back to lines of the template.

use minijinja::{OutputSpan, OutputSpanKind};

/// Knows which part of the template wrote which part of the text.
pub(super) struct Lines(Vec<OutputSpan>);

impl Lines {
    pub(super) fn new(spans: Vec<OutputSpan>) -> Self {
        Self(spans)
    }

    /// The line of the template that wrote what stands at a byte of the text.
    pub(super) fn line(&self, text: &str, byte: usize) -> Option<u32> {
        let found = self.0.partition_point(|span| span.output_range().end <= byte);
        let span = self.0.get(found).or(self.0.last())?;
        let before = match span.kind() {
            // Written as it stands in the template.
            OutputSpanKind::Raw => {
                let written = text.get(span.output_range().start..byte).unwrap_or_default();
                written.bytes().filter(|byte| *byte == b'\n').count()
            }
            _ => 0,
        };
        u32::try_from(span.line() + before).ok()
    }
}
