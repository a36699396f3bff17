//! A text without anything to render.

use std::collections::BTreeSet;

use serde_json::{Map, Value as Json};

use super::documents::{manifests, output_error};
use super::wrong_kind;
use crate::manifest::Manifest;
use crate::render::{Context, Template, TemplateError, TemplateKind, TemplateSource};
use crate::yaml;

/// Documents that are the same whatever happened.
pub(crate) struct Constant {
    name: String,
    manifests: Vec<Manifest>,
    reads: BTreeSet<String>,
}

impl Constant {
    pub(crate) fn new(source: &TemplateSource) -> Result<Self, TemplateError> {
        let manifests = manifests(&source.text, &yaml::Nothing)
            .map_err(|fault| output_error(&source.name, Some(fault.at.line), fault))?;
        Ok(Self { name: source.name.clone(), manifests, reads: BTreeSet::new() })
    }
}

impl Template for Constant {
    fn reads(&self) -> &BTreeSet<String> {
        &self.reads
    }

    fn manifests(&self, _context: &Context<'_>) -> Result<Vec<Manifest>, TemplateError> {
        Ok(self.manifests.clone())
    }

    fn text(&self, _context: &Context<'_>) -> Result<String, TemplateError> {
        Err(wrong_kind(&self.name, TemplateKind::Literal, TemplateKind::Text))
    }

    fn values(&self, _context: &Context<'_>) -> Result<Map<String, Json>, TemplateError> {
        Err(wrong_kind(&self.name, TemplateKind::Literal, TemplateKind::Values))
    }
}
