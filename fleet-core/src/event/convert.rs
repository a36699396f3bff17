//! Conversions to and from the event type of the CloudEvents SDK.

use cloudevents::event::{AttributesWriter, Data as SdkData, ExtensionValue, TryIntoTime, TryIntoUrl};
use cloudevents::{AttributesReader, Event as SdkEvent};
use serde_json::Value;

use super::decode::{Content, is_timestamp};
use super::{Data, DecodeError, Event, EventBuilder, Extension};

/// As lossless as the SDK's type allows. It cannot hold, and so changes or leaves out: the offset of `time` (it becomes
/// UTC), a leap second in `time` or another form that the SDK does not parse, or that is after the year 9999 then, a relative `dataschema`, and extensions
/// that are neither string, integer nor boolean (they become their JSON text).
impl From<Event> for SdkEvent {
    fn from(event: Event) -> Self {
        let mut sdk = SdkEvent::default();
        sdk.set_id(event.id);
        sdk.set_source(event.source);
        sdk.set_type(event.ty);
        sdk.set_subject(event.subject);
        let time = event.time.and_then(|time| time.into_time().ok());
        sdk.set_time(time.filter(|time| is_timestamp(&time.to_rfc3339())));
        sdk.set_datacontenttype(event.data_content_type);
        sdk.set_dataschema(event.data_schema.and_then(|schema| schema.into_url().ok()));
        for (name, value) in event.extensions {
            let value = match value {
                Extension::String(text) => ExtensionValue::String(text),
                Extension::Integer(number) => ExtensionValue::Integer(number),
                Extension::Boolean(flag) => ExtensionValue::Boolean(flag),
                Extension::Json(value) => ExtensionValue::String(value.to_string()),
            };
            sdk.set_extension(&name, value);
        }
        match event.data {
            None => {}
            Some(Data::Json(value)) => drop(sdk.set_data_unchecked(value)),
            Some(Data::Text(text)) => drop(sdk.set_data_unchecked(text)),
            Some(Data::Binary(bytes)) => drop(sdk.set_data_unchecked(bytes.to_vec())),
        }
        sdk
    }
}

/// The SDK checks little: an event of its type need not be a CloudEvent. Text and bytes that are said to be JSON are
/// parsed: the SDK keeps data of that content type in whichever form it was received in.
impl TryFrom<SdkEvent> for Event {
    type Error = DecodeError;

    fn try_from(sdk: SdkEvent) -> Result<Self, DecodeError> {
        let mut builder = Event::builder(sdk.id(), sdk.source().as_str(), sdk.ty());
        if let Some(subject) = sdk.subject() {
            builder = builder.subject(subject);
        }
        if let Some(time) = sdk.time() {
            builder = builder.time(time.to_rfc3339());
        }
        if let Some(schema) = sdk.dataschema() {
            builder = builder.data_schema(schema.as_str());
        }
        for (name, value) in sdk.iter_extensions() {
            builder = match value {
                ExtensionValue::String(text) => builder.extension(name, text.as_str()),
                ExtensionValue::Integer(number) => builder.extension(name, *number),
                ExtensionValue::Boolean(flag) => builder.extension(name, *flag),
            };
        }
        let content_type = sdk.datacontenttype().map(str::to_owned);
        let data = sdk.data().cloned();
        with_data(builder, content_type, data)?.build()
    }
}

fn with_data(
    builder: EventBuilder,
    content_type: Option<String>,
    data: Option<SdkData>,
) -> Result<EventBuilder, DecodeError> {
    let json = Content::of(content_type.as_deref()) == Content::Json;
    let data = match data {
        None => None,
        Some(SdkData::Json(value)) => Some(Data::Json(value)),
        Some(SdkData::String(text)) if json => Some(Data::Json(parsed(text.as_bytes())?)),
        Some(SdkData::Binary(bytes)) if json => Some(Data::Json(parsed(&bytes)?)),
        Some(SdkData::String(text)) => Some(Data::Text(text)),
        Some(SdkData::Binary(bytes)) => Some(Data::from(bytes)),
    };
    Ok(builder.content(content_type, data))
}

fn parsed(bytes: &[u8]) -> Result<Value, DecodeError> {
    serde_json::from_slice(bytes).map_err(|error| DecodeError {
        reason: format!(
            "data is not JSON (line {}, column {}), as datacontenttype says",
            error.line(),
            error.column()
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use cloudevents::{EventBuilder as _, EventBuilderV10};
    use serde_json::json;

    fn there_and_back(event: &Event) -> Event {
        Event::try_from(SdkEvent::from(event.clone())).unwrap()
    }

    #[test]
    fn what_the_sdk_can_hold_comes_back_equal() {
        let full = Event::builder("1", "../relative", "t").subject("s").time("2026-11-23T10:00:00+00:00");
        let full = full.data_schema("https://example.com/schema").extension("n", -5).extension("flag", true);
        for event in [
            Event::builder("1", "/s", "t"),
            full.clone(),
            full.clone().json(json!({"a": 1.5})),
            full.clone().data("application/vnd.x+json; charset=utf-8", json!([null]).into()),
            full.clone().data("Application/JSON", json!("a string").into()),
            full.clone().data("text/xml", "<a/>".into()),
            full.data("application/x-own", vec![0_u8, 255].into()),
        ] {
            let event = event.build().unwrap();
            assert_eq!(there_and_back(&event).to_json(), event.to_json());
        }
    }

    #[test]
    fn what_it_cannot_hold_is_changed_as_documented() {
        let event = Event::builder("1", "/s", "t").time("2026-11-23T12:00:00+02:00").data_schema("#schema");
        let mut event = event.build().unwrap();
        event.extensions.insert("rate".to_owned(), Extension::Json(json!(1.5)));
        let back = there_and_back(&event);
        assert_eq!(back.time(), Some("2026-11-23T10:00:00+00:00"));
        let last = Event::builder("1", "/s", "t").time("9999-12-31T23:59:59-23:59").build().unwrap();
        assert_eq!(there_and_back(&last).time(), None);
        assert_eq!(back.data_schema(), None);
        assert_eq!(back.attribute("rate").as_deref(), Some("1.5"));
    }

    #[test]
    fn an_event_of_the_sdk_is_checked() {
        let sdk = |id: &str| EventBuilderV10::new().id(id).source("/s").ty("t");
        assert_eq!(Event::try_from(sdk("").build().unwrap()).unwrap_err().reason, "id is empty");
        let upper = sdk("1").extension("ExtName", "x").build().unwrap();
        assert!(Event::try_from(upper).unwrap_err().reason.starts_with("attribute name"));
        let broken = sdk("1").data("application/json", b"{".to_vec()).build().unwrap();
        assert!(Event::try_from(broken).unwrap_err().reason.starts_with("data is not JSON"));
        let binary = sdk("1").data("application/json", br#"{"a":1}"#.to_vec()).build().unwrap();
        assert_eq!(Event::try_from(binary).unwrap().data(), Some(&Data::Json(json!({"a": 1}))));
    }
}
