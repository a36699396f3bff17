//! Decoding: bytes and headers become an [`Event`].

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Map, Value};

use super::{Data, Event, Extension};

/// Why a message is no CloudEvent. Names the attribute; never shows data.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a CloudEvent: {reason}")]
pub struct DecodeError {
    /// What is wrong, where, and what was expected.
    pub reason: String,
}

/// One event of a batch: its own bytes, and what became of it.
pub type BatchEntry = (Bytes, Result<Event, DecodeError>);

fn fault<T>(reason: impl Into<String>) -> Result<T, DecodeError> {
    Err(DecodeError { reason: reason.into() })
}

impl Event {
    /// Decodes an event in the [JSON format] (structured mode).
    ///
    /// Tolerant beyond the specification in three places, because such events exist: an extension may hold any JSON
    /// value, `dataschema` may be a relative reference, and texts may hold characters that the specification has not
    /// (control characters; in `source` and `dataschema` those that a URI would have to encode).
    ///
    /// # Errors
    /// When it is not JSON, or an attribute is missing or not allowed by the specification.
    ///
    /// [JSON format]: https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md
    pub fn from_json(bytes: &[u8]) -> Result<Self, DecodeError> {
        match serde_json::from_slice(bytes) {
            Ok(Value::Object(fields)) => Self::from_fields(fields),
            Ok(_) => fault("the message is JSON, but not an object"),
            Err(error) => fault(format!(
                "the message is not JSON (line {}, column {}), and nothing says that it is in binary mode",
                error.line(),
                error.column()
            )),
        }
    }

    /// Decodes a batch (`application/cloudevents-batch+json`): for each event its own bytes and what became of it.
    ///
    /// # Errors
    /// When the batch itself is not a JSON array.
    pub fn batch_from_json(bytes: &[u8]) -> Result<Vec<BatchEntry>, DecodeError> {
        let Ok(entries) = serde_json::from_slice::<Vec<&serde_json::value::RawValue>>(bytes) else {
            return fault("a batch must be a JSON array of events");
        };
        let decode = |entry: &&serde_json::value::RawValue| {
            let bytes = entry.get().as_bytes();
            (Bytes::copy_from_slice(bytes), Self::from_json(bytes))
        };
        Ok(entries.iter().map(decode).collect())
    }

    /// Decodes an event in binary mode: its attributes, without any prefix and already unescaped, and the bytes of its
    /// data. Names are compared without regard to case, as transports change it.
    ///
    /// # Errors
    /// When an attribute is missing or not allowed by the specification, or data that is said to be JSON is not.
    pub fn from_attributes<K: AsRef<str>, V: Into<String>>(
        attributes: impl IntoIterator<Item = (K, V)>,
        data: Bytes,
    ) -> Result<Self, DecodeError> {
        let mut fields = Map::new();
        for (name, value) in attributes {
            let name = name.as_ref().to_ascii_lowercase();
            if name == "data" || name == "data_base64" {
                return fault(format!("attribute {name} is not allowed in binary mode"));
            }
            if fields.insert(name.clone(), Value::String(value.into())).is_some() {
                return fault(format!("attribute {name} is given twice"));
            }
        }
        let mut event = Self::from_fields(fields)?;
        if !data.is_empty() {
            event.data = Some(match event.content() {
                Content::Json => match serde_json::from_slice(&data) {
                    // In the JSON format, as which it is stored, this is how an event without data may be written.
                    Ok(Value::Null) => return Ok(event),
                    Ok(value) => Data::Json(value),
                    Err(error) => {
                        return fault(format!(
                            "data is not JSON (line {}, column {}), as datacontenttype {} says",
                            error.line(),
                            error.column(),
                            event.data_content_type().unwrap_or("(absent, which means JSON)")
                        ));
                    }
                },
                Content::Text => match String::from_utf8(data.to_vec()) {
                    Ok(text) => Data::Text(text),
                    Err(_) => Data::Binary(data),
                },
                Content::Other => Data::Binary(data),
            });
        }
        Ok(event)
    }

    pub(super) fn from_fields(mut fields: Map<String, Value>) -> Result<Self, DecodeError> {
        match fields.remove("specversion") {
            Some(Value::String(version)) if version == "1.0" => {}
            Some(Value::String(_)) => return fault("specversion is not \"1.0\", the only one supported"),
            _ => return fault("specversion is missing; expected \"1.0\""),
        }
        let id = required(&mut fields, "id")?;
        let source = reference(required(&mut fields, "source")?, "source")?;
        let ty = required(&mut fields, "type")?;
        let subject = optional(&mut fields, "subject")?;
        let time = optional(&mut fields, "time")?;
        if time.as_ref().is_some_and(|time| !is_timestamp(time)) {
            return fault("time is no RFC 3339 timestamp, such as 2026-11-23T10:00:00Z");
        }
        let data_content_type = optional(&mut fields, "datacontenttype")?;
        if data_content_type.as_ref().is_some_and(|ty| !is_media_type(ty)) {
            return fault("datacontenttype is no media type, such as application/json");
        }
        let data_schema = match optional(&mut fields, "dataschema")? {
            Some(schema) => Some(reference(schema, "dataschema")?),
            None => None,
        };
        let data = fields.remove("data");
        let base64 = fields.remove("data_base64");
        let mut event = Self {
            id,
            source,
            ty,
            subject,
            time,
            data_content_type,
            data_schema,
            extensions: extensions(fields)?,
            data: None,
        };
        event.data = match (data, base64) {
            (Some(_), Some(_)) => return fault("both data and data_base64 are given; only one is allowed"),
            (None | Some(Value::Null), None | Some(Value::Null)) => None,
            (_, Some(Value::String(text))) => match STANDARD.decode(text) {
                Ok(bytes) => Some(Data::Binary(bytes.into())),
                Err(_) => return fault("data_base64 is not base64"),
            },
            (_, Some(_)) => return fault("data_base64 must be a string"),
            (Some(Value::String(text)), _) if event.content() != Content::Json => Some(Data::Text(text)),
            (Some(value), _) => Some(Data::Json(value)),
        };
        Ok(event)
    }

    /// The event in the JSON format, as [`from_json`](Self::from_json) reads it.
    pub fn to_json(&self) -> Value {
        let mut fields = Map::new();
        fields.insert("specversion".to_owned(), "1.0".into());
        fields.insert("id".to_owned(), self.id.as_str().into());
        fields.insert("source".to_owned(), self.source.as_str().into());
        fields.insert("type".to_owned(), self.ty.as_str().into());
        for (name, value) in [
            ("subject", &self.subject),
            ("time", &self.time),
            ("datacontenttype", &self.data_content_type),
            ("dataschema", &self.data_schema),
        ] {
            if let Some(value) = value {
                fields.insert(name.to_owned(), value.as_str().into());
            }
        }
        for (name, value) in &self.extensions {
            fields.insert(name.clone(), value.to_json());
        }
        match &self.data {
            None => {}
            Some(Data::Json(value)) => {
                fields.insert("data".to_owned(), value.clone());
            }
            Some(Data::Text(text)) => {
                fields.insert("data".to_owned(), text.as_str().into());
            }
            Some(Data::Binary(bytes)) => {
                fields.insert("data_base64".to_owned(), STANDARD.encode(bytes).into());
            }
        }
        Value::Object(fields)
    }

    fn content(&self) -> Content {
        Content::of(self.data_content_type.as_deref())
    }
}

/// How data of a content type is kept.
#[derive(PartialEq)]
pub(super) enum Content {
    Json,
    Text,
    Other,
}

impl Content {
    /// Absent means JSON.
    pub(super) fn of(content_type: Option<&str>) -> Self {
        let Some(ty) = content_type else { return Self::Json };
        let essence = ty.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        if essence.ends_with("/json") || essence.ends_with("+json") {
            Self::Json
        } else if essence.starts_with("text/") || essence.ends_with("/xml") || essence.ends_with("+xml") {
            Self::Text
        } else {
            Self::Other
        }
    }
}

impl Extension {
    /// The value as JSON.
    pub fn to_json(&self) -> Value {
        match self {
            Self::String(text) => text.as_str().into(),
            Self::Integer(number) => (*number).into(),
            Self::Boolean(flag) => (*flag).into(),
            Self::Json(value) => value.clone(),
        }
    }
}

fn required(fields: &mut Map<String, Value>, name: &str) -> Result<String, DecodeError> {
    match optional(fields, name)? {
        Some(text) => Ok(text),
        None => fault(format!("{name} is missing")),
    }
}

/// A string attribute. `null` means absent (JSON format, section 2.2); present, it must not be empty.
fn optional(fields: &mut Map<String, Value>, name: &str) -> Result<Option<String>, DecodeError> {
    match fields.remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.is_empty() => fault(format!("{name} is empty")),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => fault(format!("{name} must be a string")),
    }
}

/// A URI reference, as far as it matters: something without spaces and control characters.
fn reference(text: String, name: &str) -> Result<String, DecodeError> {
    if text.chars().any(|char| char.is_whitespace() || char.is_control()) {
        return fault(format!("{name} is no URI reference: it has spaces or control characters"));
    }
    Ok(text)
}

/// RFC 3339, section 5.6, to the letter: what reads times reads more than that.
pub(super) fn is_timestamp(text: &str) -> bool {
    let number = |text: &str, most: u8| {
        text.len() == 2
            && text.bytes().all(|it| it.is_ascii_digit())
            && text.parse().is_ok_and(|it: u8| it <= most)
    };
    let clock = |text: &str| {
        text.split_once(':').is_some_and(|(hour, minute)| number(hour, 23) && number(minute, 59))
    };
    let Some((date, time)) = text.split_once(['T', 't']) else { return false };
    let is_date = date.len() == 10
        && date
            .bytes()
            .enumerate()
            .all(|(at, it)| if at == 4 || at == 7 { it == b'-' } else { it.is_ascii_digit() })
        && date.parse::<jiff::civil::Date>().is_ok();
    let (time, is_offset) = match time.strip_suffix(['Z', 'z']) {
        Some(time) => (time, true),
        None => match time.split_once(['+', '-']) {
            Some((time, offset)) => (time, clock(offset)),
            None => return false,
        },
    };
    let (time, is_fraction) = match time.split_once('.') {
        Some((time, digits)) => (time, !digits.is_empty() && digits.bytes().all(|it| it.is_ascii_digit())),
        None => (time, true),
    };
    // A leap second is one.
    let is_time = time.rsplit_once(':').is_some_and(|(minute, second)| clock(minute) && number(second, 60));
    is_date && is_time && is_fraction && is_offset
}

fn is_media_type(text: &str) -> bool {
    let token = |text: &str| {
        !text.is_empty()
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$&-^_.+*'%`|~".contains(&byte))
    };
    let essence = text.split(';').next().unwrap_or_default().trim();
    essence.split_once('/').is_some_and(|(ty, subtype)| token(ty) && token(subtype))
}

fn extensions(fields: Map<String, Value>) -> Result<BTreeMap<String, Extension>, DecodeError> {
    let mut extensions = BTreeMap::new();
    for (name, value) in fields {
        let lawful = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        if name.is_empty() || !name.bytes().all(lawful) {
            return fault(format!(
                "attribute name {name:?} is not allowed: lower case letters and digits only"
            ));
        }
        let value = match value {
            Value::Null => continue,
            Value::String(text) => Extension::String(text),
            Value::Bool(flag) => Extension::Boolean(flag),
            Value::Number(number) if number.is_i64() => {
                Extension::Integer(number.as_i64().unwrap_or_default())
            }
            other => Extension::Json(other),
        };
        extensions.insert(name, value);
    }
    Ok(extensions)
}

impl serde::Serialize for Event {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_json().serialize(serializer)
    }
}

impl<'de> serde::Deserialize<'de> for Event {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let fields = Map::deserialize(deserializer)?;
        Self::from_fields(fields).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const LOGIN: &str = r#"{"specversion":"1.0","type":"auth.example.com.login","source":"auth.example.com","id":"10001",
        "subject":"mgianluc","datacontenttype":"application/json","data":{"message":"User mgianluc login"}}"#;

    fn with(field: &str, value: Value) -> Result<Event, DecodeError> {
        let mut event: Value = serde_json::from_str(LOGIN).unwrap();
        event[field] = value;
        Event::from_json(event.to_string().as_bytes())
    }

    #[test]
    fn the_articles_event_decodes_and_comes_back_whole() {
        let event = Event::from_json(LOGIN.as_bytes()).unwrap();
        assert_eq!((event.ty(), event.subject()), ("auth.example.com.login", Some("mgianluc")));
        assert_eq!(event.to_json(), serde_json::from_str::<Value>(LOGIN).unwrap());
        assert!(!format!("{event:?}").contains("User mgianluc"), "debug output must not show data");
    }

    #[test]
    fn what_the_specification_forbids_is_refused_by_name() {
        for (field, value, expected) in [
            ("specversion", json!("0.3"), "specversion"),
            ("specversion", Value::Null, "specversion"),
            ("id", json!(""), "id is empty"),
            ("id", json!(5), "id must be a string"),
            ("source", Value::Null, "source is missing"),
            ("source", json!("a b"), "source is no URI"),
            ("type", json!(""), "type is empty"),
            ("subject", json!(""), "subject is empty"),
            ("time", json!("yesterday"), "time is no RFC 3339"),
            ("time", json!("2026-11-23 10:00:00Z"), "time is no RFC 3339"),
            ("time", json!("20261123T100000Z"), "time is no RFC 3339"),
            ("time", json!("2026-11-23T10:00:00+02:00[Europe/Zurich]"), "time is no RFC 3339"),
            ("time", json!("2026-02-30T10:00:00Z"), "time is no RFC 3339"),
            ("time", json!("2026-11-23T10:00:00"), "time is no RFC 3339"),
            ("datacontenttype", json!("json"), "datacontenttype is no media type"),
            ("ExtName", json!("x"), "attribute name \"ExtName\""),
            ("data_base64", json!("aGk="), "both data and data_base64"),
        ] {
            let error = with(field, value).unwrap_err();
            assert!(error.reason.starts_with(expected), "{field}: {}", error.reason);
        }
        for garbage in ["", "hello", "[]", "5", "{", "\u{0}"] {
            assert!(Event::from_json(garbage.as_bytes()).is_err(), "{garbage}");
        }
    }

    #[test]
    fn what_exists_in_the_wild_is_taken() {
        let float = with("rate", json!(1.5)).unwrap();
        assert_eq!(float.to_json()["rate"], json!(1.5));
        assert_eq!(with("ext", json!({"a": 1})).unwrap().to_json()["ext"], json!({"a": 1}));
        assert!(with("dataschema", json!("#")).is_ok());
        assert!(with("subject", Value::Null).unwrap().subject().is_none());
        for ty in ["application/vnd.x+json; charset=utf-8", "Application/JSON"] {
            assert!(
                matches!(with("datacontenttype", json!(ty)).unwrap().data(), Some(Data::Json(_))),
                "{ty}"
            );
        }
        for time in
            ["2016-12-31t23:59:60.25z", "9999-12-31T23:59:59-23:59", "0000-01-01T00:00:00.123456789012Z"]
        {
            assert_eq!(with("time", json!(time)).unwrap().time(), Some(time));
        }
        // It was read as one number, and once stored as another.
        let float = "33333333333333333333333333333333333333333333333333";
        let float = with("rate", serde_json::from_str(float).unwrap()).unwrap();
        assert_eq!(Event::from_json(float.to_json().to_string().as_bytes()).unwrap(), float);
        let offset = with("time", json!("2026-11-23T10:00:00+02:00")).unwrap();
        assert_eq!(offset.time(), Some("2026-11-23T10:00:00+02:00"));
    }

    #[test]
    fn binary_mode() {
        let attributes = [("SpecVersion", "1.0"), ("id", "1"), ("source", "/s"), ("type", "t"), ("n", "5")];
        let event = Event::from_attributes(attributes, Bytes::from_static(br#"{"a":1}"#)).unwrap();
        assert_eq!(event.data(), Some(&Data::Json(json!({"a": 1}))));
        assert_eq!(event.attribute("n").as_deref(), Some("5"));
        let broken = Event::from_attributes(attributes, Bytes::from_static(b"{")).unwrap_err();
        assert!(broken.reason.starts_with("data is not JSON"), "{}", broken.reason);

        let octets = attributes.into_iter().chain([("datacontenttype", "application/x-own")]);
        let event = Event::from_attributes(octets, Bytes::from_static(b"\x00\xff")).unwrap();
        assert_eq!(event.data(), Some(&Data::Binary(Bytes::from_static(b"\x00\xff"))));
        assert_eq!(Event::from_json(event.to_json().to_string().as_bytes()).unwrap(), event);
    }

    #[test]
    fn a_batch_keeps_its_good_events() {
        let batch = format!("[{LOGIN}, {{\"id\":\"x\"}}]");
        let events = Event::batch_from_json(batch.as_bytes()).unwrap();
        assert!(events[0].1.is_ok());
        assert_eq!(events[1].0, Bytes::from_static(b"{\"id\":\"x\"}"));
        assert!(events[1].1.is_err());
        assert!(Event::batch_from_json(b"{}").is_err());
    }

    #[test]
    fn null_is_no_data_in_either_mode() {
        let attributes = [("specversion", "1.0"), ("id", "1"), ("source", "/s"), ("type", "t")];
        let event = Event::from_attributes(attributes, bytes::Bytes::from_static(b" null\n")).unwrap();
        assert_eq!(event.data(), None);
        assert_eq!(Event::from_json(event.to_json().to_string().as_bytes()).unwrap(), event);
    }
}
