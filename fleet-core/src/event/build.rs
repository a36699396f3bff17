//! Building events in code: publishers, tests, examples.

use bytes::Bytes;
use serde_json::{Map, Value};

use super::{Data, DecodeError, Event, Extension};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Puts an [`Event`] together; [`build`](Self::build) checks it as decoding would.
#[derive(Clone, Default)]
#[must_use]
pub struct EventBuilder {
    fields: Map<String, Value>,
    data: Option<Data>,
}

impl Event {
    /// Begins an event with the attributes that each must have.
    ///
    /// ```
    /// # use fleet_core::event::Event;
    /// # fn main() -> Result<(), fleet_core::event::DecodeError> {
    /// let login = Event::builder("10001", "auth.example.com", "auth.example.com.login")
    ///     .subject("mgianluc")
    ///     .json(serde_json::json!({"message": "User mgianluc login"}))
    ///     .build()?;
    /// assert_eq!(login.subject(), Some("mgianluc"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn builder(id: impl Into<String>, source: impl Into<String>, ty: impl Into<String>) -> EventBuilder {
        EventBuilder::default()
            .attribute("specversion", "1.0")
            .attribute("id", id)
            .attribute("source", source)
            .attribute("type", ty)
    }
}

impl EventBuilder {
    /// What the event is about, within its source.
    pub fn subject(self, subject: impl Into<String>) -> Self {
        self.attribute("subject", subject)
    }

    /// When it happened, as RFC 3339 has it.
    pub fn time(self, time: impl Into<String>) -> Self {
        self.attribute("time", time)
    }

    /// The schema that the data adheres to.
    pub fn data_schema(self, schema: impl Into<String>) -> Self {
        self.attribute("dataschema", schema)
    }

    /// An extension attribute.
    pub fn extension(mut self, name: impl Into<String>, value: impl Into<Extension>) -> Self {
        self.fields.insert(name.into(), value.into().to_json());
        self
    }

    /// JSON data, without saying a content type.
    pub fn json(mut self, data: Value) -> Self {
        self.data = Some(Data::Json(data));
        self
    }

    /// Data of a content type. Text of a JSON content type is a JSON string.
    pub fn data(mut self, content_type: impl Into<String>, data: Data) -> Self {
        self.data = Some(data);
        self.attribute("datacontenttype", content_type)
    }

    /// Data, and its content type if that is known.
    #[cfg(feature = "cloudevents")]
    pub(super) fn content(mut self, content_type: Option<String>, data: Option<Data>) -> Self {
        self.data = data;
        match content_type {
            Some(content_type) => self.attribute("datacontenttype", content_type),
            None => self,
        }
    }

    /// Checks the event.
    ///
    /// # Errors
    /// When an attribute is not allowed by the specification.
    pub fn build(self) -> Result<Event, DecodeError> {
        let Self { mut fields, data } = self;
        for name in ["data", "data_base64"] {
            if fields.contains_key(name) {
                return Err(DecodeError {
                    reason: format!("{name} is no extension: use the builder's json or data"),
                });
            }
        }
        match data {
            None => {}
            Some(Data::Json(value)) => drop(fields.insert("data".to_owned(), value)),
            Some(Data::Text(text)) => drop(fields.insert("data".to_owned(), text.into())),
            Some(Data::Binary(bytes)) => {
                drop(fields.insert("data_base64".to_owned(), STANDARD.encode(bytes).into()))
            }
        }
        Event::from_fields(fields)
    }

    fn attribute(mut self, name: &str, value: impl Into<String>) -> Self {
        self.fields.insert(name.to_owned(), Value::String(value.into()));
        self
    }
}

impl From<&str> for Extension {
    fn from(text: &str) -> Self {
        Self::String(text.to_owned())
    }
}

impl From<String> for Extension {
    fn from(text: String) -> Self {
        Self::String(text)
    }
}

impl From<i64> for Extension {
    fn from(number: i64) -> Self {
        Self::Integer(number)
    }
}

impl From<bool> for Extension {
    fn from(flag: bool) -> Self {
        Self::Boolean(flag)
    }
}

impl From<Vec<u8>> for Data {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Binary(Bytes::from(bytes))
    }
}

impl From<Value> for Data {
    fn from(value: Value) -> Self {
        Self::Json(value)
    }
}

impl From<&str> for Data {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_built_is_what_decoding_gives() {
        let builders = [
            Event::builder("1", "/s", "t"),
            Event::builder("1", "/s", "t")
                .subject("x")
                .time("2026-11-23T10:00:00+02:00")
                .data_schema("#schema"),
            Event::builder("1", "/s", "t").extension("n", 5).extension("flag", true).extension("text", "ü"),
            Event::builder("1", "/s", "t").json(json!({"a": [1, null]})),
            Event::builder("1", "/s", "t").data("application/x-own", vec![0_u8, 255].into()),
            Event::builder("1", "/s", "t").data("text/plain", "hello".into()),
            Event::builder("1", "/s", "t").data("application/json", "a string".into()),
        ];
        for builder in builders {
            let event = builder.build().unwrap();
            assert_eq!(Event::from_json(event.to_json().to_string().as_bytes()).unwrap(), event);
        }
    }

    #[test]
    fn what_decoding_refuses_is_not_built() {
        for (builder, expected) in [
            (Event::builder("", "/s", "t"), "id is empty"),
            (Event::builder("1", "a b", "t"), "source is no URI"),
            (Event::builder("1", "/s", "t").time("now"), "time is no RFC 3339"),
            (Event::builder("1", "/s", "t").extension("No", 1), "attribute name \"No\""),
            (Event::builder("1", "/s", "t").extension("data", 1), "data is no extension"),
            (Event::builder("1", "/s", "t").data("json", "x".into()), "datacontenttype is no media type"),
        ] {
            let reason = builder.build().unwrap_err().reason;
            assert!(reason.starts_with(expected), "{reason}");
        }
    }
}
