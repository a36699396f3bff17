//! The renderer of Go templates.

mod hostile;
pub(crate) mod positions;
mod refusals;
mod rules;

use fleet_core::render::{GoPasses, TemplateError, TemplateFault, TemplateKind};
use serde_json::Value;

use self::positions::compile;
use crate::setting::Setting;

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
