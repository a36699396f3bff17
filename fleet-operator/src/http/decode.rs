//! Requests become events, by the [HTTP protocol binding] of CloudEvents 1.0.2.
//!
//! [HTTP protocol binding]: https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md

use std::sync::Arc;

use bytes::Bytes;
use fleet_core::event::{DecodeError, Event};
use fleet_core::source::Message;
use http::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, COOKIE, PROXY_AUTHORIZATION};
use http::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::percent_decode_str;

/// One event of a request, or what stood in the place of one.
#[derive(Clone)]
pub(super) struct Incoming {
    pub(super) event: Result<Event, DecodeError>,
    pub(super) raw: Bytes,
    /// Whether it is no event because its format is none that is read here.
    pub(super) is_unknown_format: bool,
}

/// Decodes a request: one event in structured or binary mode, or a batch.
///
/// A browser sends a request with one of the content types of HTML forms, or with none, to any server without asking;
/// so JSON is only taken for an event where the content type says JSON.
pub(super) fn decode(headers: &HeaderMap, body: &Bytes) -> Vec<Incoming> {
    let one = |event| vec![Incoming { event, raw: body.clone(), is_unknown_format: false }];
    let unknown = |reason: String| {
        vec![Incoming { event: Err(DecodeError { reason }), raw: body.clone(), is_unknown_format: true }]
    };
    let encoding = headers.get(CONTENT_ENCODING).map(|value| value.to_str().unwrap_or_default());
    if let Some(encoding) = encoding.filter(|encoding| !encoding.eq_ignore_ascii_case("identity")) {
        return unknown(format!("Content-Encoding {encoding} is not supported; send the body as it is"));
    }
    let content_type = headers.get(CONTENT_TYPE).map(|value| value.to_str().unwrap_or_default());
    let essence =
        content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match essence.as_str() {
        "application/cloudevents-batch+json" => match Event::batch_from_json(body) {
            Ok(events) => events
                .into_iter()
                .map(|(raw, event)| Incoming { event, raw, is_unknown_format: false })
                .collect(),
            Err(error) => one(Err(error)),
        },
        "application/cloudevents+json" | "application/cloudevents" => one(Event::from_json(body)),
        format if format.starts_with("application/cloudevents") => {
            unknown(format!("Content-Type {format} is not supported; send application/cloudevents+json"))
        }
        _ if headers.contains_key("ce-specversion") => one(binary(headers, content_type, body.clone())),
        "application/json" => one(Event::from_json(body)),
        "" => unknown(
            "there is neither a Content-Type (application/cloudevents+json) nor a ce-specversion header"
                .to_owned(),
        ),
        other => unknown(format!(
            "Content-Type is {other} and there is no ce-specversion header; send a JSON event with Content-Type \
             application/cloudevents+json"
        )),
    }
}

/// Decodes what was kept of one event of a request: its headers as text, and its own bytes, also if it came in a batch.
pub(crate) fn decode_kept(message: &Message, raw: &Bytes) -> Result<Event, DecodeError> {
    let mut headers = HeaderMap::new();
    for (name, value) in &message.headers {
        // They were headers before.
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_bytes(value.as_bytes()))
        {
            headers.append(name, value);
        }
    }
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if content_type.to_ascii_lowercase().trim_start().starts_with("application/cloudevents-batch") {
        return Event::from_json(raw);
    }
    let nothing = || Err(DecodeError { reason: "it holds no event".to_owned() });
    decode(&headers, raw).into_iter().next().map_or_else(nothing, |incoming| incoming.event)
}

fn binary(headers: &HeaderMap, content_type: Option<&str>, body: Bytes) -> Result<Event, DecodeError> {
    let mut attributes = Vec::new();
    for (name, value) in headers {
        if let Some(attribute) = name.as_str().strip_prefix("ce-") {
            // Section 3.1.3.1: the content type travels in its own header.
            if attribute == "datacontenttype" {
                return Err(DecodeError {
                    reason: "use Content-Type instead of ce-datacontenttype".to_owned(),
                });
            }
            attributes.push((attribute, header_text(name, value)?));
        }
    }
    if let Some(content_type) = content_type.filter(|text| !text.is_empty()) {
        attributes.push(("datacontenttype", content_type.to_owned()));
    }
    Event::from_attributes(attributes, body)
}

/// A header's value as an attribute's, by section 3.1.3.2: double quotes taken off, then percent-decoded once.
fn header_text(name: &HeaderName, value: &HeaderValue) -> Result<String, DecodeError> {
    let fault = |what: &str| DecodeError { reason: format!("header {name} {what}") };
    let text = std::str::from_utf8(value.as_bytes()).map_err(|_| fault("is not UTF-8"))?;
    let unquoted = match text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(quoted) if text.len() > 1 => unescape(quoted),
        _ => text.to_owned(),
    };
    percent_decode_str(&unquoted)
        .decode_utf8()
        .map(std::borrow::Cow::into_owned)
        .map_err(|_| fault("does not percent-decode to UTF-8"))
}

fn unescape(quoted: &str) -> String {
    let mut chars = quoted.chars();
    let mut text = String::with_capacity(quoted.len());
    while let Some(char) = chars.next() {
        text.push(if char == '\\' { chars.next().unwrap_or(char) } else { char });
    }
    text
}

/// What templates and dead letters see of a request: path and headers, without credentials.
pub(super) fn message(path: &str, headers: &HeaderMap) -> Arc<Message> {
    let headers = headers
        .iter()
        .filter(|(name, _)| ![AUTHORIZATION, PROXY_AUTHORIZATION, COOKIE].contains(name))
        .map(|(name, value)| {
            (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
        })
        .collect();
    Arc::new(Message { subject: path.to_owned(), headers })
}

#[cfg(test)]
mod tests {
    use super::*;
    use fleet_core::event::Data;

    const LOGIN: &str = r#"{"specversion":"1.0","type":"t","source":"s","id":"1","subject":"mgianluc"}"#;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap()))
            .collect()
    }

    fn only(pairs: &[(&str, &str)], body: &str) -> Result<Event, DecodeError> {
        let mut events = decode(&headers(pairs), &Bytes::copy_from_slice(body.as_bytes()));
        assert_eq!(events.len(), 1);
        events.remove(0).event
    }

    #[test]
    fn structured_mode() {
        for content_type in [
            "application/cloudevents+json",
            "application/CloudEvents+JSON; charset=utf-8",
            "application/json",
        ] {
            assert_eq!(only(&[("content-type", content_type)], LOGIN).unwrap().subject(), Some("mgianluc"));
        }
    }

    #[test]
    fn binary_mode() {
        let event = only(
            &[
                ("ce-specversion", "1.0"),
                ("ce-id", "1"),
                ("ce-source", "/s"),
                ("CE-Type", "t"),
                ("ce-subject", "Gianl%C3%BCca%20%2541"),
                ("ce-quoted", "\"a \\\"b\\\" c\""),
                ("content-type", "application/json"),
                ("authorization", "Bearer secret"),
            ],
            r#"{"a":1}"#,
        )
        .unwrap();
        assert_eq!(event.subject(), Some("Gianlüca %41"), "decoded once");
        assert_eq!(event.attribute("quoted").as_deref(), Some("a \"b\" c"));
        assert_eq!(event.data(), Some(&Data::Json(serde_json::json!({"a": 1}))));
    }

    #[test]
    fn a_batch_keeps_the_bytes_of_each_event() {
        let body = format!("[{LOGIN}, 5]");
        let batch = decode(
            &headers(&[("content-type", "application/cloudevents-batch+json")]),
            &Bytes::from(body.clone()),
        );
        assert_eq!(batch.len(), 2);
        assert_eq!(batch[0].raw, LOGIN);
        assert!(batch[0].event.is_ok() && batch[1].event.is_err());
        assert!(only(&[("content-type", "application/cloudevents-batch+json")], LOGIN).is_err());
    }

    /// A dead letter is decoded as its request was.
    #[test]
    fn what_was_kept_is_decoded_as_it_came() {
        let binary = [("ce-specversion", "1.0"), ("ce-id", "1"), ("ce-source", "/s"), ("ce-type", "%C3%BC")];
        let batch = [("content-type", "application/cloudevents-batch+json")];
        let structured = [("content-type", "application/cloudevents+json")];
        let list = format!("[{LOGIN}]");
        for (pairs, body) in [(&binary[..], "5"), (&batch, &list), (&structured, LOGIN)] {
            let headers = headers(pairs);
            let came = decode(&headers, &Bytes::copy_from_slice(body.as_bytes())).remove(0);
            let kept = decode_kept(&message("/events", &headers), &came.raw).unwrap();
            assert_eq!(kept, came.event.unwrap());
        }
    }

    #[test]
    fn what_is_no_event_says_how_to_send_one() {
        for (pairs, body, expected) in [
            (&[("content-type", "text/plain")][..], LOGIN, "application/cloudevents+json"),
            (&[], LOGIN, "neither a Content-Type"),
            (&[("content-type", "application/cloudevents+avro")], LOGIN, "not supported"),
            (&[("content-type", "application/json")], "hello", "not JSON"),
            (&[("content-type", "application/cloudevents+json")], "{}", "specversion is missing"),
            (&[("ce-specversion", "1.0"), ("ce-id", "%ff")], "", "header ce-id does not percent-decode"),
            (&[("ce-specversion", "1.0"), ("ce-datacontenttype", "a/b")], "", "use Content-Type"),
            (
                &[("content-encoding", "gzip"), ("content-type", "application/json")],
                LOGIN,
                "send the body as it is",
            ),
        ] {
            let error = only(pairs, body).unwrap_err();
            assert!(error.reason.contains(expected), "{}", error.reason);
        }
    }

    #[test]
    fn credentials_are_left_out_of_messages() {
        let message =
            message("/events", &headers(&[("authorization", "a"), ("cookie", "b"), ("x-team", "c")]));
        assert_eq!(message.headers, [("x-team".to_owned(), "c".to_owned())]);
    }
}
