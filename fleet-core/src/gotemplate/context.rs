//! The context of a rendering, with Sveltos' names for what is in it.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Map, Value as Json, json};

use super::value::{Heap, Value};
use crate::cluster::Cluster;
use crate::event::Event;
use crate::printed::Planes;
use crate::render::{Context, TemplateError, TemplateFault};
use crate::resource::{Referred, Resource};
use crate::source::Message;

/// What a template sees.
pub(super) struct Seen<'c> {
    context: &'c Context<'c>,
    /// Whether it is rendered with the event, not for the target.
    event: bool,
}

impl<'c> Seen<'c> {
    /// With the event.
    pub(super) fn with_event(context: &'c Context<'c>) -> Self {
        Self { context, event: true }
    }

    /// For the target.
    pub(super) fn for_target(context: &'c Context<'c>) -> Self {
        Self { context, event: false }
    }

    /// What is read of it, as the dot of the template. Tells which planes occur in it.
    pub(super) fn root(&self, reads: &BTreeSet<String>, heap: &mut Heap, planes: &mut Planes) -> Value {
        let reads = |root: &str| reads.iter().any(|path| path.split('.').next() == Some(root));
        let Context { event, message, events, cluster, origin, resources, trigger } = *self.context;
        let mut root = Map::new();
        let mut put = |name: &str, value: Option<Json>| {
            if let Some(value) = value {
                root.insert(name.to_owned(), value);
            }
        };
        if self.event {
            put("CloudEvent", event.filter(|_| reads("event")).map(|event| event.to_json()));
            let all = events.filter(|_| reads("events"));
            put("CloudEvents", all.map(|all| all.iter().map(|arrival| arrival.event.to_json()).collect()));
            let resource = event.filter(|_| reads("event")).and_then(Event::resource);
            put("Resource", resource.map(|it| Json::Object(it.clone())));
            put("MatchingResource", resource.map(reference));
            let resources = all.map(|all| all.iter().filter_map(|it| it.event.resource()));
            let resources: Option<Vec<_>> = resources.map(Iterator::collect);
            let list =
                |of: &Vec<&Map<String, Json>>| of.iter().map(|it| Json::Object((*it).clone())).collect();
            put("Resources", resources.as_ref().map(list));
            put("MatchingResources", resources.map(|of| of.into_iter().map(reference).collect()));
            put("Message", message.filter(|_| reads("message")).map(self::message));
        }
        let shown = if self.event { origin.or(cluster) } else { cluster };
        put("Cluster", shown.filter(|_| reads("cluster")).map(self::cluster));
        let resources = resources.filter(|_| reads("resources"));
        put("MgmtResources", resources.map(self::resources));
        put("Trigger", Some(json!({"name": trigger})).filter(|_| reads("trigger")));
        let root = heap.take_in(Json::Object(root), planes);
        if let Value::Map(root) = &root {
            heap.resources = heap.entries(*root).get("MgmtResources").cloned();
        }
        root
    }

    /// Says why a part of the context is not there.
    pub(super) fn with_hint(&self, mut error: TemplateError) -> TemplateError {
        let part = error.reason.strip_prefix('.').and_then(|rest| rest.split([' ', '.']).next());
        let hint = match part {
            _ if error.fault != TemplateFault::Undefined => None,
            Some(
                "CloudEvent" | "CloudEvents" | "Message" | "MatchingResource" | "MatchingResources"
                | "Resource" | "Resources",
            ) if !self.event => Some(
                "the event is there only where a template is rendered with it (projectsveltos.io/instantiate)",
            ),
            Some("MatchingResource" | "Resource") if self.context.events.is_some() => Some(
                "the trigger has oneForEvent: false, so what there is, is a list: {{ range .Resources }}{{ .metadata.name }}{{ end }}",
            ),
            Some("MatchingResources" | "Resources") if self.context.events.is_none() => Some(
                "only where a trigger has oneForEvent: false there is a list of objects, else there is .Resource",
            ),
            Some("CloudEvent" | "Message") if self.context.events.is_some() => Some(
                "the trigger has oneForEvent: false, so what there is, is a list: {{ range .CloudEvents }}{{ .id }}{{ end }}",
            ),
            Some("CloudEvents") => Some(
                "only where a trigger has oneForEvent: false there is a list of events, else there is .CloudEvent",
            ),
            Some("MatchingResource" | "Resource") => {
                Some("the event tells of no object; those of an EventSource with resourceSelectors do")
            }
            _ => None,
        };
        if let Some(hint) = hint {
            error.reason = format!(".{} does not exist here: {hint}", part_of(&error.reason));
        }
        error
    }
}

fn part_of(reason: &str) -> &str {
    reason.strip_prefix('.').and_then(|rest| rest.split([' ', '.']).next()).unwrap_or_default()
}

/// As Sveltos refers to an object.
fn reference(resource: &Map<String, Json>) -> Json {
    let metadata = resource.get("metadata");
    let of = |field: &str| match field {
        "apiVersion" | "kind" => resource.get(field),
        _ => metadata?.get(field),
    };
    let fields = ["apiVersion", "kind", "namespace", "name", "uid"];
    fields.into_iter().filter_map(|field| Some((field.to_owned(), of(field)?.clone()))).collect()
}

fn message(message: &Message) -> Json {
    let mut headers: Map<String, Json> = Map::new();
    for (name, value) in &message.headers {
        match headers.get_mut(name) {
            // Values of one header, as HTTP joins them.
            Some(Json::String(values)) => {
                values.push_str(", ");
                values.push_str(value);
            }
            _ => {
                headers.insert(name.clone(), value.as_str().into());
            }
        }
    }
    let tokens: Vec<&str> = message.tokens().collect();
    json!({"subject": message.subject, "tokens": tokens, "headers": headers})
}

/// By identifier; what is optional and does not exist is nil, as is what `getResource` gives for it.
fn resources(resources: &Referred) -> Json {
    let value = |resource: &Option<Arc<Resource>>| match resource {
        Some(resource) => resource.value().clone(),
        None => Json::Null,
    };
    Json::Object(resources.iter().map(|(id, resource)| (id.to_string(), value(resource))).collect())
}

/// As the object that Sveltos has for it.
fn cluster(cluster: &Cluster) -> Json {
    json!({
        "apiVersion": "lib.projectsveltos.io/v1beta1",
        "kind": "SveltosCluster",
        "metadata": {
            "namespace": cluster.id.namespace(),
            "name": cluster.id.name(),
            "labels": cluster.labels,
            "annotations": cluster.annotations,
        },
    })
}
