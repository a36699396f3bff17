//! Templates in JSON, in which `{"$value": "event.data.user"}` stands for the value there, and `{"$text": [..]}` for its
//! pieces joined. Values are put into the parsed tree, so none of them can become structure.

use std::collections::BTreeSet;
use std::sync::Arc;

use fleet_core::cluster::Cluster;
use fleet_core::manifest::Manifest;
use fleet_core::render::{Context, Renderer, Template, TemplateError, TemplateFault, TemplateSource};
use serde_json::{Map, Value, json};

/// The renderer. A template of manifests is an object, or a list of them.
pub struct JsonRenderer;

struct Parsed {
    source: TemplateSource,
    tree: Value,
    reads: BTreeSet<String>,
}

impl Renderer for JsonRenderer {
    fn compile(&self, source: &TemplateSource) -> Result<Arc<dyn Template>, TemplateError> {
        let tree = serde_json::from_str(&source.text).map_err(|why| {
            let line = u32::try_from(why.line()).ok();
            TemplateError {
                line,
                ..TemplateError::new(&source.name, TemplateFault::Syntax, "this is no JSON")
            }
        })?;
        let mut reads = BTreeSet::new();
        read(&tree, &mut reads);
        Ok(Arc::new(Parsed { source: source.clone(), tree, reads }))
    }
}

/// The path that a node stands for, if it stands for a value.
fn path(node: &Value) -> Option<&str> {
    node.as_object().filter(|it| it.len() == 1)?.get("$value")?.as_str()
}

/// The pieces of a text, if a node stands for one.
fn pieces(node: &Value) -> Option<&Vec<Value>> {
    node.as_object().filter(|it| it.len() == 1)?.get("$text")?.as_array()
}

fn read(node: &Value, reads: &mut BTreeSet<String>) {
    match node {
        node if path(node).is_some() => reads.extend(path(node).map(str::to_owned)),
        Value::Array(items) => items.iter().for_each(|item| read(item, reads)),
        Value::Object(fields) => fields.values().for_each(|field| read(field, reads)),
        _ => {}
    }
}

impl Parsed {
    fn error(&self, fault: TemplateFault, reason: impl Into<String>) -> TemplateError {
        TemplateError::new(&self.source.name, fault, reason)
    }

    /// The line in which a path stands first.
    fn line(&self, path: &str) -> Option<u32> {
        let before = self.source.text.split_once(&Value::from(path).to_string())?.0;
        u32::try_from(before.matches('\n').count() + 1).ok()
    }

    fn fill(&self, node: &Value, seen: &Value) -> Result<Value, TemplateError> {
        if let Some(path) = path(node) {
            let found = path.split('.').try_fold(seen, |value, field| value.get(field));
            return found.cloned().ok_or_else(|| TemplateError {
                line: self.line(path),
                ..self.error(TemplateFault::Undefined, format!("there is no {path}"))
            });
        }
        if let Some(pieces) = pieces(node) {
            let text = |piece| {
                Ok(match self.fill(piece, seen)? {
                    Value::String(text) => text,
                    other => other.to_string(),
                })
            };
            return pieces.iter().map(text).collect::<Result<String, _>>().map(Value::String);
        }
        Ok(match node {
            Value::Array(items) => {
                items.iter().map(|item| self.fill(item, seen)).collect::<Result<_, _>>()?
            }
            Value::Object(fields) => {
                let filled = |(key, field): (&String, &Value)| Ok((key.clone(), self.fill(field, seen)?));
                Value::Object(fields.iter().map(filled).collect::<Result<_, _>>()?)
            }
            other => other.clone(),
        })
    }

    fn filled(&self, context: &Context<'_>) -> Result<Value, TemplateError> {
        let cluster = |cluster: &Cluster| json!({"name": cluster.id.name(), "labels": cluster.labels, "annotations": cluster.annotations});
        let headers = context
            .message
            .map(|message| message.headers.iter().cloned().map(|(name, value)| (name, value.into())));
        let headers: Map<String, Value> = headers.into_iter().flatten().collect();
        let seen = json!({
            "event": context.event.map(|event| event.to_json()),
            "message": {"headers": headers},
            "cluster": context.cluster.map(cluster),
            "origin": context.origin.map(cluster),
            "trigger": {"name": context.trigger},
        });
        self.fill(&self.tree, &seen)
    }
}

impl Template for Parsed {
    fn reads(&self) -> &BTreeSet<String> {
        &self.reads
    }

    fn manifests<'a>(&self, context: &Context<'a>) -> Result<Vec<Manifest>, TemplateError> {
        let objects = match self.filled(context)? {
            Value::Array(objects) => objects,
            object => vec![object],
        };
        let there = objects.into_iter().filter(|object| !object.is_null());
        let manifest =
            |object| Manifest::new(object).map_err(|why| self.error(TemplateFault::Output, why.to_string()));
        there.map(manifest).collect()
    }

    fn text<'a>(&self, context: &Context<'a>) -> Result<String, TemplateError> {
        match self.filled(context)? {
            Value::String(text) => Ok(text),
            _ => Err(self.error(TemplateFault::Output, "this is no text")),
        }
    }
}
