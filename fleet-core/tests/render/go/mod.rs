//! The renderer of Go templates.

mod hostile;
mod refusals;
mod rules;

use std::sync::Arc;

use fleet_core::languages::Languages;
use fleet_core::render::{
    GoPasses, Language, Renderer, Template, TemplateError, TemplateFault, TemplateKind, TemplateSource,
};
use serde_json::Value;

use crate::setting::Setting;

pub(crate) fn compile(
    kind: TemplateKind,
    passes: GoPasses,
    text: &str,
) -> Result<Arc<dyn Template>, TemplateError> {
    let source = TemplateSource::new("ConfigMap default/t, key a.yaml", text, kind);
    Languages.compile(&source.in_language(Language::Go(passes)))
}

/// Renders a template that stands in the `x` of an object, after some definitions.
fn render_in(
    setting: &Setting,
    passes: GoPasses,
    definitions: &str,
    x: &str,
) -> Result<Value, TemplateError> {
    let text = format!("{definitions}apiVersion: v1\nkind: A\nmetadata: {{name: a}}\nx: {x}\n");
    let template = compile(TemplateKind::Manifests, passes, &text)?;
    let mut manifests = setting.render_compiled(&*template)?;
    assert_eq!(manifests.len(), 1, "{text}");
    Ok(manifests.remove(0)["x"].take())
}

#[track_caller]
fn gives(x: &str, expected: Value) {
    let found = render_in(&Setting::default(), GoPasses::Event, "", x);
    assert_eq!(found.as_ref(), Ok(&expected), "{x}");
}

#[track_caller]
fn refuses(x: &str, fault: TemplateFault, reason: &str) -> TemplateError {
    let error = render_in(&Setting::default(), GoPasses::Event, "", x).unwrap_err();
    assert_eq!(error.fault, fault, "{x}: {error}");
    assert!(error.reason.contains(reason), "{x}: {error}");
    error
}
