//! The context of a rendering, as far as the template reads it: what it does not read costs nothing.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use indexmap::IndexMap;
use minijinja::Value;
use minijinja::value::{Object, ObjectRepr};
use serde_json::Value as Json;

use super::print::SINK;
use super::reads::{Parts, Reads};
use crate::cluster::{Cluster, Labels};
use crate::event::{Data, Event, Extension};
use crate::printed::{Planes, Sink};
use crate::render::{Arrival, Context};
use crate::resource::Referred;
use crate::source::Message;

/// The attributes that the specification names, in its order.
const ATTRIBUTES: [&str; 8] =
    ["specversion", "id", "source", "type", "subject", "time", "datacontenttype", "dataschema"];

/// What templates look names up in.
pub(super) struct Root {
    parts: Vec<(&'static str, Value)>,
    sink: Option<Value>,
}

impl Root {
    /// Converts what is read of a context. Tells which planes occur in it, besides those of the template.
    pub(super) fn new(context: &Context<'_>, reads: &Reads, planes: &mut Planes) -> Self {
        let mut values = Values { planes };
        let mut parts = Vec::with_capacity(7);
        let clusters = [("cluster", context.cluster), ("origin", context.origin)];
        if let (Some(wanted), Some(event)) = (reads.parts("event"), context.event) {
            parts.push(("event", values.event(event, wanted)));
        }
        let resource = context.event.and_then(Event::resource);
        if let (Some(wanted), Some(resource)) = (reads.parts("resource"), resource) {
            parts.push(("resource", values.resource(resource, wanted)));
        }
        if let (Some(wanted), Some(message)) = (reads.parts("message"), context.message) {
            parts.push(("message", values.message(message, wanted)));
        }
        if let (Some(_), Some(events)) = (reads.parts("events"), context.events) {
            let events: Vec<Value> = events.iter().map(|arrival| values.arrival(arrival)).collect();
            parts.push(("events", Value::from(events)));
        }
        for (name, cluster) in clusters {
            if let (Some(wanted), Some(cluster)) = (reads.parts(name), cluster) {
                parts.push((name, values.cluster(cluster, wanted)));
            }
        }
        if let (Some(wanted), Some(resources)) = (reads.parts("resources"), context.resources) {
            parts.push(("resources", values.resources(resources, wanted)));
        }
        if reads.parts("trigger").is_some() {
            parts.push(("trigger", Value::from_pairs([("name", values.text(context.trigger))])));
        }
        Self { parts, sink: None }
    }

    pub(super) fn with_sink(mut self, sink: &Arc<Sink>) -> Value {
        self.sink = Some(Value::from_dyn_object(Arc::clone(sink)));
        Value::from_object(self)
    }
}

impl Object for Root {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Map
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.get_value_by_str(key.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        if key == SINK {
            return self.sink.clone();
        }
        self.parts.iter().find_map(|(name, value)| (*name == key).then(|| value.clone()))
    }
}

impl fmt::Debug for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Root")
    }
}

/// Makes minijinja's values of ours, and looks at every text that passes.
struct Values<'p> {
    planes: &'p mut Planes,
}

impl Values<'_> {
    fn text(&mut self, text: &str) -> Value {
        self.planes.see(text);
        Value::from(text)
    }

    fn event(&mut self, event: &Event, wanted: &Parts) -> Value {
        let mut parts = IndexMap::new();
        let mut take = |name: &str| {
            let value = match name {
                "data" => event.data().map(|data| self.data(data)),
                _ if ATTRIBUTES.contains(&name) => event.attribute(name).map(|text| self.text(&text)),
                _ => event.extensions().get(name).map(|extension| self.extension(extension)),
            };
            if let Some(value) = value {
                parts.insert(name.to_owned(), value);
            }
        };
        match wanted {
            Parts::Some(names) => names.iter().for_each(|name| take(name)),
            Parts::All => {
                ATTRIBUTES.into_iter().for_each(&mut take);
                event.extensions().keys().for_each(|name| take(name));
                take("data");
            }
        }
        Value::from_pairs(parts)
    }

    fn resource(&mut self, resource: &serde_json::Map<String, Json>, wanted: &Parts) -> Value {
        let read = resource.iter().filter(|(field, _)| wanted.has(field));
        Value::from_pairs(read.map(|(field, value)| (self.text(field), self.json(value))).collect::<Vec<_>>())
    }

    /// All of it: which parts a loop reads shows in no name.
    fn arrival(&mut self, arrival: &Arrival<'_>) -> Value {
        let mut parts = vec![
            ("event", self.event(arrival.event, &Parts::All)),
            ("message", self.message(arrival.message, &Parts::All)),
        ];
        if let Some(resource) = arrival.event.resource() {
            parts.push(("resource", self.resource(resource, &Parts::All)));
        }
        if let Some(origin) = arrival.origin {
            parts.push(("origin", self.cluster(origin, &Parts::All)));
        }
        Value::from_pairs(parts)
    }

    fn extension(&mut self, extension: &Extension) -> Value {
        match extension {
            Extension::String(text) => self.text(text),
            Extension::Integer(number) => Value::from(*number),
            Extension::Boolean(flag) => Value::from(*flag),
            Extension::Json(value) => self.json(value),
        }
    }

    fn data(&mut self, data: &Data) -> Value {
        match data {
            Data::Json(value) => self.json(value),
            Data::Text(text) => self.text(text),
            Data::Binary(bytes) => Value::from(STANDARD.encode(bytes)),
        }
    }

    fn json(&mut self, value: &Json) -> Value {
        match value {
            Json::Null => Value::from(()),
            Json::Bool(flag) => Value::from(*flag),
            Json::Number(number) => match (number.as_i64(), number.as_u64()) {
                (Some(number), _) => Value::from(number),
                (None, Some(number)) => Value::from(number),
                (None, None) => Value::from(number.as_f64()),
            },
            Json::String(text) => self.text(text),
            Json::Array(items) => Value::from(items.iter().map(|item| self.json(item)).collect::<Vec<_>>()),
            Json::Object(entries) => Value::from_pairs(entries.iter().map(|(key, value)| {
                let key = self.text(key);
                (key, self.json(value))
            })),
        }
    }

    fn message(&mut self, message: &Message, wanted: &Parts) -> Value {
        let mut parts = Vec::new();
        if wanted.has("subject") && !message.subject.is_empty() {
            parts.push(("subject", self.text(&message.subject)));
        }
        if wanted.has("tokens") {
            parts.push((
                "tokens",
                Value::from(message.tokens().map(|token| self.text(token)).collect::<Vec<_>>()),
            ));
        }
        if wanted.has("headers") {
            let mut headers: IndexMap<&str, Cow<'_, str>> = IndexMap::new();
            for (name, value) in &message.headers {
                match headers.get_mut(name.as_str()) {
                    // Values of one header, as HTTP joins them.
                    Some(values) => {
                        let values = values.to_mut();
                        values.push_str(", ");
                        values.push_str(value);
                    }
                    None => {
                        headers.insert(name, value.into());
                    }
                }
            }
            let headers = headers.iter().map(|(name, value)| (self.text(name), self.text(value)));
            parts.push(("headers", Value::from_pairs(headers.collect::<Vec<_>>())));
        }
        Value::from_pairs(parts)
    }

    fn cluster(&mut self, cluster: &Cluster, wanted: &Parts) -> Value {
        let mut parts = Vec::new();
        // A cluster's name and namespace obey Kubernetes' rules.
        if wanted.has("namespace") {
            parts.push(("namespace", Value::from(cluster.id.namespace())));
        }
        if wanted.has("name") {
            parts.push(("name", Value::from(cluster.id.name())));
        }
        if wanted.has("labels") {
            parts.push(("labels", self.labels(&cluster.labels)));
        }
        if wanted.has("annotations") {
            parts.push(("annotations", self.labels(&cluster.annotations)));
        }
        Value::from_pairs(parts)
    }

    /// What does not exist is undefined.
    fn resources(&mut self, resources: &Referred, wanted: &Parts) -> Value {
        let wanted = resources.iter().filter(|(identifier, _)| wanted.has(identifier));
        let found = wanted.filter_map(|(identifier, resource)| Some((&**identifier, resource.as_ref()?)));
        let found = found.map(|(identifier, resource)| (identifier, self.json(resource.value())));
        Value::from_pairs(found.collect::<Vec<_>>())
    }

    fn labels(&mut self, labels: &Labels) -> Value {
        Value::from_pairs(
            labels.iter().map(|(key, value)| (self.text(key), self.text(value))).collect::<Vec<_>>(),
        )
    }
}
