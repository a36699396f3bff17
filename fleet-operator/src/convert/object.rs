//! Sveltos' objects, written anew as ours.
//!
//! Which object of ours means the same, [`Translation`] says: the one that is read when theirs is taken as it is. What is
//! added here is what only matters to who writes it down: templates in minijinja, and as few fields as say it.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fleet_core::render::GoPasses;
use fleet_kube::api::{
    GO_CLUSTER_ANNOTATION, GO_EVENT_ANNOTATION, KUBERNETES_VERSION_LABEL, TEMPLATE_ANNOTATION, crds,
};
use fleet_kube::definitions::sveltos::{Translation, VERSION_LABEL, passes_of_contents};
use fleet_kube::definitions::{RawObject, text_of_secret};
use serde_json::{Map, Value, json};

use super::template::translate;

/// A template in an object that has no translation.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// The field that holds it, as a JSON pointer.
    pub(super) pointer: String,
    /// The line in the template, counted from 1.
    pub(super) line: u32,
    /// Whether the template has more than one line, and so begins below its field.
    pub(super) is_block: bool,
    /// What has none, and what to do.
    pub(super) reason: String,
}

/// Rewrites one object. What is none of Sveltos' stays as it is.
pub(super) struct Rewriter {
    faults: Vec<Fault>,
}

impl Rewriter {
    /// The object as ours, and what of its templates has no translation.
    pub(super) fn rewrite(object: &RawObject) -> (Value, Vec<Fault>) {
        let mut rewriter = Self { faults: Vec::new() };
        let rewritten = match Translation::of(object) {
            Some(Translation { ours: Some(ours), action, texts, .. }) => {
                rewriter.written(ours, action, texts)
            }
            Some(Translation { action, texts, .. }) => {
                // It stays as it is; what has no translation in its templates is told all the same.
                rewriter.templates(&mut object.value.clone(), action, texts);
                object.value.clone()
            }
            None if is_contents(&object.value) => rewriter.contents(&object.value),
            None => object.value.clone(),
        };
        (rewritten, rewriter.faults)
    }

    fn translate(&mut self, pointer: &str, text: &str, passes: GoPasses) -> String {
        match translate(text, passes) {
            Ok(text) => text,
            Err(faults) => {
                let is_block = text.trim_end().contains('\n');
                let faults = faults.into_iter().map(|it| Fault {
                    pointer: pointer.to_owned(),
                    line: it.line,
                    is_block,
                    reason: it.reason,
                });
                self.faults.extend(faults);
                text.to_owned()
            }
        }
    }

    fn written(&mut self, mut ours: Value, action: GoPasses, texts: GoPasses) -> Value {
        self.templates(&mut ours, action, texts);
        leave_out_defaults(&mut ours);
        call_version_as_ours(&mut ours);
        ours
    }

    /// The templates of a trigger or profile. They stand in the same fields of theirs and of ours.
    fn templates(&mut self, object: &mut Value, action: GoPasses, texts: GoPasses) {
        if let Some(Value::String(text)) = object.pointer_mut("/spec/cloudEventAction") {
            *text = self.translate("/spec/cloudEventAction", text, action);
        }
        if let Some(Value::Array(refs)) = object.pointer_mut("/spec/templateResourceRefs") {
            for (index, reference) in refs.iter_mut().enumerate() {
                if let Some(resource) = reference.get_mut("resource") {
                    self.strings(&format!("/spec/templateResourceRefs/{index}/resource"), resource, texts);
                }
            }
        }
        if let Some(charts) = object.pointer_mut("/spec/helmCharts") {
            self.strings("/spec/helmCharts", charts, texts);
        }
    }

    /// Each text in it is a template.
    fn strings(&mut self, pointer: &str, value: &mut Value, passes: GoPasses) {
        match value {
            // What is none in Go may look like one in minijinja.
            Value::String(text) if ["{{", "{%", "{#"].iter().any(|tag| text.contains(tag)) => {
                *text = self.translate(pointer, text, passes);
            }
            Value::Array(items) => {
                for (index, item) in items.iter_mut().enumerate() {
                    self.strings(&format!("{pointer}/{index}"), item, passes);
                }
            }
            Value::Object(fields) => {
                for (key, value) in fields {
                    self.strings(&format!("{pointer}/{}", escaped(key)), value, passes);
                }
            }
            _ => {}
        }
    }

    fn contents(&mut self, object: &Value) -> Value {
        let annotations = object.pointer("/metadata/annotations");
        let has = |annotation: &str| annotations.is_some_and(|all| all.get(annotation).is_some());
        let Some(passes) = passes_of_contents(has) else { return object.clone() };
        let mut rewritten = object.clone();
        without_annotations(&mut rewritten, &BTreeSet::from([GO_EVENT_ANNOTATION, GO_CLUSTER_ANNOTATION]));
        if let Some(metadata) = rewritten.get_mut("metadata").and_then(Value::as_object_mut) {
            let annotations = metadata.entry("annotations").or_insert_with(|| json!({}));
            annotations[TEMPLATE_ANNOTATION] = "true".into();
        }
        let is_secret = object["kind"] == "Secret";
        for field in ["data", "stringData"] {
            let Some(Value::Object(entries)) = rewritten.get_mut(field) else { continue };
            for (key, value) in entries {
                let Some(text) = value.as_str() else { continue };
                let pointer = format!("/{field}/{}", escaped(key));
                *value = if is_secret && field == "data" {
                    // What is no text is no template, to either.
                    let Ok(decoded) = text_of_secret(text) else { continue };
                    STANDARD.encode(self.translate(&pointer, &decoded, passes)).into()
                } else {
                    self.translate(&pointer, text, passes).into()
                };
            }
        }
        rewritten
    }
}

fn is_contents(object: &Value) -> bool {
    object["apiVersion"] == "v1" && matches!(object["kind"].as_str(), Some("ConfigMap" | "Secret"))
}

fn escaped(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

fn without_annotations(object: &mut Value, unwanted: &BTreeSet<&str>) {
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else { return };
    if let Some(Value::Object(annotations)) = metadata.get_mut("annotations") {
        annotations.retain(|key, _| !unwanted.contains(key.as_str()));
        if annotations.is_empty() {
            metadata.remove("annotations");
        }
    }
}

/// Leaves out what an API server, or who reads it from a folder, fills in again.
fn leave_out_defaults(object: &mut Value) {
    static SCHEMAS: LazyLock<Map<String, Value>> = LazyLock::new(|| {
        let schemas = crds().into_iter().filter_map(|crd| {
            let schema = json!(crd.spec.versions.first()?.schema.as_ref()?.open_api_v3_schema);
            Some((crd.spec.names.kind, schema.pointer("/properties/spec")?.clone()))
        });
        schemas.collect()
    });
    let schema = object["kind"].as_str().and_then(|kind| SCHEMAS.get(kind));
    if let Some((schema, spec)) = schema.zip(object.get_mut("spec")) {
        without_defaults(spec, schema);
    }
}

fn without_defaults(value: &mut Value, schema: &Value) {
    match value {
        Value::Object(fields) => {
            let Some(Value::Object(properties)) = schema.get("properties") else { return };
            fields.retain(|name, value| {
                properties.get(name).and_then(|schema| schema.get("default")) != Some(value)
            });
            for (name, value) in fields {
                if let Some(schema) = properties.get(name) {
                    without_defaults(value, schema);
                }
            }
        }
        Value::Array(items) => {
            let Some(schema) = schema.get("items") else { return };
            items.iter_mut().for_each(|item| without_defaults(item, schema));
        }
        _ => {}
    }
}

/// A Cluster of ours tells its version of Kubernetes in another label than a SveltosCluster, so what selects by it has to
/// name that one. The one thing that is not said by [`Translation`]: whose objects are read has Sveltos' label on them.
fn call_version_as_ours(object: &mut Value) {
    let renamed = |labels: Option<&mut Value>| {
        if let Some(Value::Object(labels)) = labels
            && let Some(version) = labels.remove(VERSION_LABEL)
        {
            labels.insert(KUBERNETES_VERSION_LABEL.to_owned(), version);
        }
    };
    if object["kind"] == "Cluster" {
        renamed(object.pointer_mut("/metadata/labels"));
    }
    for field in ["clusterSelector", "sourceClusterSelector", "destinationClusterSelector"] {
        let Some(selector) = object.get_mut("spec").and_then(|spec| spec.get_mut(field)) else { continue };
        renamed(selector.get_mut("matchLabels"));
        let expressions = selector.get_mut("matchExpressions").and_then(Value::as_array_mut);
        for expression in expressions.into_iter().flatten() {
            if expression["key"] == VERSION_LABEL {
                expression["key"] = KUBERNETES_VERSION_LABEL.into();
            }
        }
    }
}
