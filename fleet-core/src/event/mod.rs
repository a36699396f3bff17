//! Events: CloudEvents 1.0, strict where the specification is, tolerant where it is silent.

mod build;
#[cfg(feature = "cloudevents")]
mod convert;
mod decode;

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use serde_json::{Map, Value};

pub use build::EventBuilder;
pub use decode::{BatchEntry, DecodeError};

/// With this the type of an event begins that tells of an object of Kubernetes. The kind in lower case follows, and `.live`
/// or `.gone`; its data is the object.
pub const RESOURCE: &str = "dev.fleet-events.resource.";

/// A [CloudEvents 1.0](https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md) event.
///
/// Its `Debug` output leaves out extensions and data: event data is treated like a Secret's.
#[derive(Clone, PartialEq)]
pub struct Event {
    pub(crate) id: String,
    pub(crate) source: String,
    pub(crate) ty: String,
    pub(crate) subject: Option<String>,
    pub(crate) time: Option<String>,
    pub(crate) data_content_type: Option<String>,
    pub(crate) data_schema: Option<String>,
    pub(crate) extensions: BTreeMap<String, Extension>,
    pub(crate) data: Option<Data>,
}

/// The value of an extension attribute.
#[derive(Clone, PartialEq)]
pub enum Extension {
    /// A string; all that binary mode knows.
    String(String),
    /// An integer.
    Integer(i64),
    /// A boolean.
    Boolean(bool),
    /// Anything else: beyond the specification, but kept as it came.
    Json(Value),
}

/// The payload of an event.
#[derive(Clone, PartialEq)]
pub enum Data {
    /// A JSON value: the content type is JSON, or none is given.
    Json(Value),
    /// Text of another content type.
    Text(String),
    /// Bytes of another content type.
    Binary(Bytes),
}

impl Event {
    /// Identifies the event together with its source.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The context in which the event happened: a URI reference.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The type of the event.
    pub fn ty(&self) -> &str {
        &self.ty
    }

    /// What the event is about, within the source.
    pub fn subject(&self) -> Option<&str> {
        self.subject.as_deref()
    }

    /// When it happened, as written (RFC 3339).
    pub fn time(&self) -> Option<&str> {
        self.time.as_deref()
    }

    /// The content type of the data; absent means JSON.
    pub fn data_content_type(&self) -> Option<&str> {
        self.data_content_type.as_deref()
    }

    /// The schema that the data adheres to.
    pub fn data_schema(&self) -> Option<&str> {
        self.data_schema.as_deref()
    }

    /// The extension attributes, by name.
    pub fn extensions(&self) -> &BTreeMap<String, Extension> {
        &self.extensions
    }

    /// The data.
    pub fn data(&self) -> Option<&Data> {
        self.data.as_ref()
    }

    /// The object of Kubernetes that it tells of, if it does.
    pub fn resource(&self) -> Option<&Map<String, Value>> {
        match self.data() {
            Some(Data::Json(Value::Object(object))) if self.ty.starts_with(RESOURCE) => Some(object),
            _ => None,
        }
    }

    /// Whether another event says the same of the same thing: all but its id and time.
    pub(crate) fn says_the_same_as(&self, other: &Self) -> bool {
        let Self { id: _, time: _, source, ty, subject, data_content_type, data_schema, extensions, data } =
            self;
        (source, ty, subject) == (&other.source, &other.ty, &other.subject)
            && (data_content_type, data_schema) == (&other.data_content_type, &other.data_schema)
            && *extensions == other.extensions
            && *data == other.data
    }

    /// A context attribute or extension by its name, as text.
    pub fn attribute(&self, name: &str) -> Option<std::borrow::Cow<'_, str>> {
        use std::borrow::Cow;
        match name {
            "specversion" => Some(Cow::Borrowed("1.0")),
            "id" => Some(Cow::Borrowed(&self.id)),
            "source" => Some(Cow::Borrowed(&self.source)),
            "type" => Some(Cow::Borrowed(&self.ty)),
            "subject" => self.subject().map(Cow::Borrowed),
            "time" => self.time().map(Cow::Borrowed),
            "datacontenttype" => self.data_content_type().map(Cow::Borrowed),
            "dataschema" => self.data_schema().map(Cow::Borrowed),
            _ => self.extensions.get(name).map(|value| match value {
                Extension::String(text) => Cow::Borrowed(text.as_str()),
                Extension::Integer(number) => Cow::Owned(number.to_string()),
                Extension::Boolean(flag) => Cow::Borrowed(if *flag { "true" } else { "false" }),
                Extension::Json(value) => Cow::Owned(value.to_string()),
            }),
        }
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event")
            .field("id", &self.id)
            .field("source", &self.source)
            .field("type", &self.ty)
            .field("subject", &self.subject)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Data::Json(_) => "Json(…)",
            Data::Text(_) => "Text(…)",
            Data::Binary(_) => "Binary(…)",
        })
    }
}
