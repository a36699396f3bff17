//! The renderer of all languages that templates may be written in.

use std::sync::Arc;

use crate::gotemplate::GoRenderer;
use crate::minijinja::MinijinjaRenderer;
use crate::render::{Language, Renderer, Template, TemplateError, TemplateSource};

/// Renders a template by the [`Language`] that its source names.
#[derive(Clone, Copy, Debug, Default)]
pub struct Languages;

impl Renderer for Languages {
    fn compile(&self, source: &TemplateSource) -> Result<Arc<dyn Template>, TemplateError> {
        match source.language {
            Language::Minijinja => MinijinjaRenderer.compile(source),
            Language::Go(_) => GoRenderer.compile(source),
        }
    }
}
