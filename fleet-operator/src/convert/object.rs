//! Sveltos' objects, written anew as ours.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fleet_core::render::GoPasses;
use fleet_kube::api::{
    GO_CLUSTER_ANNOTATION, GO_EVENT_ANNOTATION, GROUP, RESOLVE_ANNOTATION, TEMPLATE_ANNOTATION, VERSION,
};
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
    /// The object as ours, and what in it has no translation.
    pub(super) fn rewrite(object: &Value) -> (Value, Vec<Fault>) {
        let mut rewriter = Self { faults: Vec::new() };
        let text = |field: &str| object.get(field).and_then(Value::as_str).unwrap_or_default();
        let rewritten = match (text("apiVersion"), text("kind")) {
            ("lib.projectsveltos.io/v1beta1", "EventSource") => rewriter.source(object),
            ("lib.projectsveltos.io/v1beta1", "EventTrigger") => rewriter.trigger(object),
            ("lib.projectsveltos.io/v1beta1", "SveltosCluster") => rewriter.cluster(object),
            ("config.projectsveltos.io/v1beta1", "ClusterProfile") => rewriter.profile(object),
            ("v1", "ConfigMap" | "Secret") => rewriter.contents(object),
            _ => object.clone(),
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

    fn source(&mut self, object: &Value) -> Value {
        if let Some(selectors) = object.pointer("/spec/resourceSelectors").and_then(Value::as_array)
            && !selectors.is_empty()
        {
            let mut spec =
                Map::from_iter([("resourceSelectors".to_owned(), selectors.iter().map(resources).collect())]);
            if let Some(Value::Bool(true)) = object.pointer("/spec/collectResources") {
                spec.insert("collectResources".to_owned(), true.into());
            }
            return ours("EventSource", object, Map::from_iter([("kubernetes".to_owned(), spec.into())]));
        }
        let criteria = object.pointer("/spec/messagingMatchCriteria").and_then(Value::as_array);
        let mut any: Vec<Vec<Value>> = Vec::new();
        for criterion in criteria.into_iter().flatten() {
            let given = |field: &str| {
                let text = criterion.get(field).and_then(Value::as_str)?;
                (!text.is_empty()).then(|| text.to_owned())
            };
            let mut all: Vec<Value> =
                given("subject").map(|subject| json!({"messageSubject": subject})).into_iter().collect();
            let attributes = [
                ("source", given("cloudEventSource")),
                ("type", given("cloudEventType")),
                ("subject", given("cloudEventSubject")),
            ];
            let attributes: Map<String, Value> = attributes
                .into_iter()
                .filter_map(|(name, pattern)| Some((name.to_owned(), pattern?.into())))
                .collect();
            all.extend((!attributes.is_empty()).then(|| json!({"pattern": attributes})));
            any.push(all);
        }
        let mut spec = Map::from_iter([("nats".to_owned(), json!({"clusterSecretRef": {}}))]);
        let filters: Vec<Value> = match any.len() {
            // Of one that lets everything pass, the others do not matter.
            _ if any.iter().any(Vec::is_empty) => Vec::new(),
            1 => any.remove(0),
            _ => {
                let all = any.into_iter().map(|mut all| match all.len() {
                    1 => all.remove(0),
                    _ => json!({"all": all}),
                });
                vec![json!({"any": all.collect::<Vec<_>>()})]
            }
        };
        if !filters.is_empty() {
            spec.insert("filters".to_owned(), filters.into());
        }
        ours("EventSource", object, spec)
    }

    fn trigger(&mut self, object: &Value) -> Value {
        let mut spec = spec(object);
        let one_for_event = spec.get("oneForEvent") == Some(&Value::Bool(true));
        spec.insert("oneForEvent".to_owned(), one_for_event.into());
        match spec.remove("cloudEventAction") {
            Some(Value::String(action)) if one_for_event && !action.is_empty() => {
                let action = self.translate("/spec/cloudEventAction", &action, GoPasses::Event);
                spec.insert("cloudEventAction".to_owned(), action.into());
            }
            // To a rendering of all together it does not matter.
            _ => {}
        }
        if let Some(Value::Array(names)) = spec.get_mut("dependsOn") {
            for name in names {
                if let Some(text) = name.as_str() {
                    *name = format!("ClusterProfile/{text}").into();
                }
            }
        }
        self.payload(&mut spec, GoPasses::Event);
        ours("EventTrigger", object, spec)
    }

    fn profile(&mut self, object: &Value) -> Value {
        let mut spec = spec(object);
        // To Sveltos, a selector that is empty selects nothing.
        if spec.get("clusterSelector").and_then(Value::as_object).is_some_and(Map::is_empty) {
            spec.remove("clusterSelector");
        }
        if let Some(Value::Array(clusters)) = spec.get_mut("clusterRefs") {
            for cluster in clusters {
                *cluster = json!({"namespace": cluster["namespace"], "name": cluster["name"]});
            }
        }
        self.payload(&mut spec, GoPasses::Cluster);
        ours("ClusterProfile", object, spec)
    }

    /// What triggers and profiles have in common.
    fn payload(&mut self, spec: &mut Map<String, Value>, passes: GoPasses) {
        if let Some(Value::Array(refs)) = spec.get_mut("policyRefs") {
            for policy in refs.iter_mut().filter_map(Value::as_object_mut) {
                if policy.get("deploymentType").is_some_and(|kind| kind != "Local") {
                    policy.remove("deploymentType");
                }
            }
        }
        if let Some(Value::Array(refs)) = spec.get_mut("templateResourceRefs") {
            for (index, reference) in refs.iter_mut().enumerate() {
                self.resource(&format!("/spec/templateResourceRefs/{index}"), reference, passes);
            }
        }
        if let Some(charts) = spec.get_mut("helmCharts") {
            self.strings("/spec/helmCharts", charts, passes);
        }
    }

    /// An object of the management cluster. What is watched of it needs not be said.
    fn resource(&mut self, pointer: &str, reference: &mut Value, passes: GoPasses) {
        let text = |field: &str| {
            let text = reference.get("resource")?.get(field)?.as_str()?;
            (!text.is_empty()).then(|| text.to_owned())
        };
        let mut resource = Map::new();
        resource
            .insert("apiVersion".to_owned(), text("apiVersion").unwrap_or_else(|| "v1".to_owned()).into());
        for field in ["kind", "namespace", "name"] {
            resource.extend(text(field).map(|text| (field.to_owned(), text.into())));
        }
        let mut resource = Value::Object(resource);
        self.strings(&format!("{pointer}/resource"), &mut resource, passes);
        let mut ours = Map::from_iter([
            ("identifier".to_owned(), reference.get("identifier").cloned().unwrap_or_default()),
            ("resource".to_owned(), resource),
        ]);
        if reference.get("optional") == Some(&Value::Bool(true)) {
            ours.insert("optional".to_owned(), true.into());
        }
        *reference = Value::Object(ours);
    }

    /// Each text of a chart is a template.
    fn strings(&mut self, pointer: &str, value: &mut Value, passes: GoPasses) {
        match value {
            Value::String(text) if text.contains("{{") => {
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

    fn cluster(&mut self, object: &Value) -> Value {
        let text =
            |pointer: &str| object.pointer(pointer).and_then(Value::as_str).filter(|it| !it.is_empty());
        let name = text("/metadata/name").unwrap_or_default();
        let secret =
            text("/spec/kubeconfigName").map_or_else(|| format!("{name}-sveltos-kubeconfig"), str::to_owned);
        let key = text("/spec/kubeconfigKeyName").unwrap_or("kubeconfig");
        let mut spec =
            Map::from_iter([("kubeconfigSecretRef".to_owned(), json!({"name": secret, "key": key}))]);
        let resolve = object.pointer("/metadata/annotations").and_then(|all| all.get(RESOLVE_ANNOTATION));
        if let Some(mappings) = resolve.and_then(Value::as_str) {
            let mappings: Vec<&str> =
                mappings.split([',', ' ', '\n']).filter(|text| !text.is_empty()).collect();
            spec.insert("resolve".to_owned(), mappings.into());
        }
        let mut cluster = ours("Cluster", object, spec);
        without_annotations(&mut cluster, &BTreeSet::from([RESOLVE_ANNOTATION]));
        cluster
    }

    fn contents(&mut self, object: &Value) -> Value {
        let has = |annotation: &str| {
            object.pointer("/metadata/annotations").is_some_and(|all| all.get(annotation).is_some())
        };
        let passes = match (has(GO_EVENT_ANNOTATION), has(GO_CLUSTER_ANNOTATION)) {
            (true, true) => GoPasses::Both,
            (true, false) => GoPasses::Event,
            (false, true) => GoPasses::Cluster,
            (false, false) => return object.clone(),
        };
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
                    let decoded = STANDARD.decode(text).ok().and_then(|bytes| String::from_utf8(bytes).ok());
                    let Some(decoded) = decoded else { continue };
                    STANDARD.encode(self.translate(&pointer, &decoded, passes)).into()
                } else {
                    self.translate(&pointer, text, passes).into()
                };
            }
        }
        rewritten
    }
}

fn escaped(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

fn spec(object: &Value) -> Map<String, Value> {
    object.get("spec").and_then(Value::as_object).cloned().unwrap_or_default()
}

/// An object of ours, with the names, labels and annotations of another.
fn ours(kind: &str, object: &Value, spec: Map<String, Value>) -> Value {
    let mut metadata = Map::new();
    for field in ["name", "namespace", "labels", "annotations"] {
        let value = object.get("metadata").and_then(|metadata| metadata.get(field));
        metadata.extend(value.map(|value| (field.to_owned(), value.clone())));
    }
    json!({
        "apiVersion": format!("{GROUP}/{VERSION}"),
        "kind": kind,
        "metadata": metadata,
        "spec": spec,
    })
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

/// Which objects, without what is empty, and with filters on labels as a selector.
fn resources(theirs: &Value) -> Value {
    let mut ours = theirs.as_object().cloned().unwrap_or_default();
    ours.retain(|_, value| match value {
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        value => !value.is_null(),
    });
    let Some(Value::Array(filters)) = ours.remove("labelFilters") else { return ours.into() };
    let expressions = filters.iter().map(|filter| {
        let (key, value) = (&filter["key"], &filter["value"]);
        match filter["operation"].as_str() {
            Some("Equal") => json!({"key": key, "operator": "In", "values": [value]}),
            Some("Different") => json!({"key": key, "operator": "NotIn", "values": [value]}),
            Some("Has") => json!({"key": key, "operator": "Exists"}),
            _ => json!({"key": key, "operator": "DoesNotExist"}),
        }
    });
    let expressions: Vec<Value> = expressions.collect();
    let selector = ours.entry("selector").or_insert_with(|| json!({}));
    if let Some(all) = selector.as_object_mut() {
        match all.get_mut("matchExpressions").and_then(Value::as_array_mut) {
            Some(all) => all.extend(expressions),
            None => drop(all.insert("matchExpressions".to_owned(), expressions.into())),
        }
    }
    ours.into()
}
