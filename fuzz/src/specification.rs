//! What an event is, told anew from the specification, to judge what decoding accepted.
//!
//! [CloudEvents 1.0.2](https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md), and its JSON format. Not held
//! against an event is what `Event::from_json` says that it tolerates.

use std::sync::LazyLock;

use base64::Engine as _;
use fleet_core::event::Event;
use regex::Regex;
use serde_json::Value;

/// RFC 3339, section 5.6. That a month has such a day is asked of the calendar.
static TIME: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r"^(\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01]))[Tt](?:[01]\d|2[0-3]):[0-5]\d:(?:[0-5]\d|60)(?:\.\d+)?(?:[Zz]|[+-](?:[01]\d|2[0-3]):[0-5]\d)$",
    )
    .unwrap()
});
/// RFC 2045, section 5.1.
static MEDIA_TYPE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"^\s*[!#$%&'*+.^_`|~0-9A-Za-z-]+/[!#$%&'*+.^_`|~0-9A-Za-z-]+\s*(;(?s:.*))?$").unwrap()
});
static NAME: LazyLock<Regex> = LazyLock::new(|| Regex::new("^[a-z0-9]+$").unwrap());

/// Holds an event that was accepted to the specification.
pub(crate) fn hold(event: &Event) {
    let json = event.to_json();
    let fields = json.as_object().unwrap();
    for required in ["specversion", "id", "source", "type"] {
        assert!(fields.contains_key(required), "{required} is missing");
    }
    assert_eq!(fields["specversion"], "1.0");
    for (name, value) in fields {
        match &**name {
            "data" => {}
            "data_base64" => {
                let text = value.as_str().expect("data_base64 is text");
                base64::engine::general_purpose::STANDARD.decode(text).expect("data_base64 is base64");
                assert!(!fields.contains_key("data"), "there is data of both kinds");
            }
            "specversion" | "id" | "source" | "type" | "subject" | "time" | "datacontenttype"
            | "dataschema" => {
                let text = value.as_str().expect("a context attribute is text");
                assert!(!text.is_empty(), "{name} is empty");
                let fault = match &**name {
                    "source" | "dataschema" => text.contains(char::is_whitespace),
                    "time" => !is_time(text),
                    "datacontenttype" => !MEDIA_TYPE.is_match(text),
                    _ => false,
                };
                assert!(!fault, "{name} {text:?} is not as the specification has it");
            }
            _ => {
                assert!(NAME.is_match(name), "{name:?} is no name of an attribute");
                assert!(!value.is_null(), "{name} is null, which is to be absent");
            }
        }
    }
}

fn is_time(text: &str) -> bool {
    TIME.captures(text).is_some_and(|found| found[1].parse::<jiff::civil::Date>().is_ok())
}

/// An event says the same after it was written and read again.
pub(crate) fn comes_back(event: &Event) {
    let json = event.to_json();
    let again = Event::from_json(json.to_string().as_bytes()).expect("what was accepted is accepted again");
    assert!(again == *event && again.to_json() == json, "{json} came back as {}", again.to_json());
    let stored: Event = serde_json::from_value(serde_json::to_value(event).unwrap()).unwrap();
    assert!(stored == *event, "{json} is another one after it was stored");
    for (name, value) in json.as_object().unwrap() {
        match (&**name, value) {
            ("data" | "data_base64", _) => {}
            (_, Value::String(text)) => assert_eq!(event.attribute(name).as_deref(), Some(&**text), "{name}"),
            _ => assert!(event.attribute(name).is_some(), "{name}"),
        }
    }
}
