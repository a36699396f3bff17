//! From places in the rendered text back to lines of the template.

/// A part of the rendered text, and what wrote it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    /// Where it begins, in bytes. It ends where the next one begins.
    pub(crate) start: usize,
    /// The line of the template that wrote its beginning, counted from 1.
    pub(crate) line: usize,
    /// Whether it stands in the template as it stands here.
    pub(crate) raw: bool,
}

/// Knows which part of the template wrote which part of the text.
#[derive(Debug, Default)]
pub(crate) struct Lines(Vec<Span>);

impl Lines {
    /// Of spans in the order of the text.
    pub(crate) fn new(spans: Vec<Span>) -> Self {
        Self(spans)
    }

    /// The line of the template that wrote what stands at a byte of the text.
    pub(crate) fn line(&self, text: &str, byte: usize) -> Option<u32> {
        let after = self.0.partition_point(|span| span.start <= byte);
        let span = self.0.get(after.saturating_sub(1))?;
        let before = if span.raw {
            let written = text.get(span.start..byte).unwrap_or_default();
            written.bytes().filter(|byte| *byte == b'\n').count()
        } else {
            0
        };
        u32::try_from(span.line + before).ok()
    }
}
