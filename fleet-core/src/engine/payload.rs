//! The pieces of a payload, compiled: what a Work is rendered from.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::triggers::{Fault, guarded};
use crate::catalog::{Composed, Payload};
use crate::manifest::Manifest;
use crate::policy::JsonPointer;
use crate::render::{Context, Renderer, Template, TemplateError, TemplateFault, TemplateSource};

/// One piece of a payload.
pub(super) struct Piece {
    /// What errors and inventories call it.
    pub(super) name: Arc<str>,
    form: Form,
}

enum Form {
    Documents(Arc<dyn Template>),
    Object { base: Map<String, Value>, texts: Vec<Part>, values: Vec<Part> },
}

/// A field, and what gives it.
type Part = (JsonPointer, Arc<dyn Template>);

impl Piece {
    /// Compiles a piece.
    pub(super) fn compile(payload: &Payload, renderer: &dyn Renderer) -> Result<Self, Fault> {
        match payload {
            Payload::Template(source) => {
                let form = Form::Documents(compile(source, renderer)?);
                Ok(Self { name: source.name.as_str().into(), form })
            }
            Payload::Composed(composed) => {
                let Composed { name, object, texts, values, .. } = &**composed;
                let form = Form::Object {
                    base: object.clone(),
                    texts: parts(texts, renderer)?,
                    values: parts(values, renderer)?,
                };
                Ok(Self { name: Arc::clone(name), form })
            }
            Payload::Missing { reason } => Err(Fault { reason: "ReferenceMissing", message: reason.clone() }),
        }
    }

    /// What its templates read.
    pub(super) fn reads(&self) -> impl Iterator<Item = &BTreeSet<String>> {
        let templates: Vec<_> = match &self.form {
            Form::Documents(template) => vec![template],
            Form::Object { texts, values, .. } => texts.iter().chain(values).map(|(_, it)| it).collect(),
        };
        templates.into_iter().map(|template| template.reads())
    }

    /// What it gives in a context.
    pub(super) fn render(&self, context: &Context<'_>) -> Result<Vec<Manifest>, TemplateError> {
        let name = || self.name.to_string();
        match &self.form {
            Form::Documents(template) => guarded(name, || template.manifests(context)),
            Form::Object { base, texts, values } => {
                let mut object = base.clone();
                for (field, template) in texts {
                    let text = guarded(name, || template.text(context))?;
                    self.put(field, Value::String(text), &mut object)?;
                }
                for (field, template) in values {
                    let mut merged = match field.find(&object) {
                        Some(Value::Object(before)) => before.clone(),
                        _ => Map::new(),
                    };
                    merge(&mut merged, guarded(name, || template.values(context))?);
                    self.put(field, Value::Object(merged), &mut object)?;
                }
                let manifest = Manifest::new(Value::Object(object));
                Ok(vec![manifest.map_err(|error| self.unfit(error.reason))?])
            }
        }
    }

    fn put(
        &self,
        field: &JsonPointer,
        value: Value,
        object: &mut Map<String, Value>,
    ) -> Result<(), TemplateError> {
        let has_room = field.put(object, value);
        has_room.then_some(()).ok_or_else(|| self.unfit("a field has no room in the object".to_owned()))
    }

    fn unfit(&self, reason: String) -> TemplateError {
        TemplateError { template: self.name.to_string(), line: None, fault: TemplateFault::Output, reason }
    }
}

fn compile(source: &TemplateSource, renderer: &dyn Renderer) -> Result<Arc<dyn Template>, Fault> {
    Ok(guarded(|| source.name.clone(), || renderer.compile(source))?)
}

fn parts(parts: &[(JsonPointer, TemplateSource)], renderer: &dyn Renderer) -> Result<Vec<Part>, Fault> {
    parts.iter().map(|(field, source)| Ok((field.clone(), compile(source, renderer)?))).collect()
}

/// Lays a mapping over another one: mappings key by key, anything else as a whole.
fn merge(under: &mut Map<String, Value>, over: Map<String, Value>) {
    for (key, value) in over {
        match (under.get_mut(&key), value) {
            (Some(Value::Object(under)), Value::Object(over)) => merge(under, over),
            (_, value) => {
                under.insert(key, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_lies_over_wins_key_by_key() {
        let mut under = json!({"a": {"x": 1, "y": [1, 2]}, "b": 1, "c": {"z": 1}});
        let over = json!({"a": {"y": [3], "w": null}, "b": {"n": 1}, "c": null});
        let (Value::Object(under), Value::Object(over)) = (&mut under, over) else { unreachable!() };
        merge(under, over);
        assert_eq!(
            Value::Object(under.clone()),
            json!({"a": {"x": 1, "y": [3], "w": null}, "b": {"n": 1}, "c": null})
        );
    }
}
