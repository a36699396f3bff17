//! CloudEvents on NATS: the [NATS protocol binding] (1.0.3 working draft, the one with headers), and what exists in
//! the wild beside it.
//!
//! | how a message says what it is | what it is |
//! |---|---|
//! | `Content-Type: application/cloudevents…` | structured mode: the payload is the event in the JSON format |
//! | a `ce-…` header | binary mode: each attribute a header, the payload is the data |
//! | neither | structured JSON without a header |
//!
//! In binary mode values are unquoted, then percent-decoded once, as the HTTP binding has it. Go's SDK writes them as
//! they are, and the content type of the data as `content-type` without prefix: by that header it is recognized, and
//! its values are taken as they stand. Header names are compared without regard to case: NATS itself keeps it.
//!
//! [NATS protocol binding]: https://github.com/cloudevents/spec/blob/main/cloudevents/bindings/nats-protocol-binding.md

use std::borrow::Cow;

use async_nats::HeaderMap;
use bytes::Bytes;
use fleet_core::event::{DecodeError, Event};
use percent_encoding::percent_decode_str;

const PREFIX: &str = "ce-";
const CONTENT_TYPE: &str = "content-type";
const STRUCTURED: &str = "application/cloudevents";

/// Decodes a message.
///
/// # Errors
/// When the message is no CloudEvent, or one that a single NATS message cannot carry (a batch: it could not be settled
/// event by event).
pub fn decode(headers: Option<&HeaderMap>, payload: Bytes) -> Result<Event, DecodeError> {
    decode_pairs(&pairs(headers), payload)
}

/// Decodes a message whose headers are given by name and value. See [`decode`].
///
/// # Errors
/// As [`decode`].
pub fn decode_pairs(headers: &[(String, String)], payload: Bytes) -> Result<Event, DecodeError> {
    let content_type = headers
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(CONTENT_TYPE))
        .map(|(_, value)| value.trim());
    if let Some(format) = content_type.and_then(|ty| strip_prefix_ignoring_case(ty, STRUCTURED)) {
        return structured(format, &payload);
    }
    let attributes: Vec<(&str, &str)> = headers
        .iter()
        .filter_map(|(name, value)| Some((strip_prefix_ignoring_case(name, PREFIX)?, value.as_str())))
        .collect();
    if attributes.is_empty() {
        return Event::from_json(&payload);
    }
    let prefixed_type = attributes.iter().any(|(name, _)| name.eq_ignore_ascii_case("datacontenttype"));
    match content_type {
        Some(content_type) if !prefixed_type => {
            let ty = std::iter::once(("datacontenttype", content_type.to_owned()));
            Event::from_attributes(
                attributes.into_iter().map(|(name, value)| (name, value.to_owned())).chain(ty),
                payload,
            )
        }
        _ => {
            let decoded = attributes.into_iter().map(|(name, value)| Ok((name, header_value(name, value)?)));
            Event::from_attributes(decoded.collect::<Result<Vec<_>, DecodeError>>()?, payload)
        }
    }
}

/// Encodes an event in structured mode: headers and payload.
pub fn encode(event: &Event) -> (HeaderMap, Bytes) {
    let mut headers = HeaderMap::new();
    headers.insert("Content-Type", "application/cloudevents+json; charset=utf-8");
    (headers, Bytes::from(event.to_json().to_string()))
}

/// Headers by name and value. The client library does not keep their order, so they are sorted: what is rendered from
/// the same message is the same each time.
pub(crate) fn pairs(headers: Option<&HeaderMap>) -> Vec<(String, String)> {
    let mut pairs: Vec<(String, String)> = headers
        .into_iter()
        .flat_map(HeaderMap::iter)
        .flat_map(|(name, values)| {
            values.iter().map(move |value| (name.to_string(), value.as_str().to_owned()))
        })
        .collect();
    pairs.sort_by(|(a, _), (b, _)| a.cmp(b));
    pairs
}

/// `rest` is what follows `application/cloudevents`: `+json`, `-batch+json`, parameters.
fn structured(rest: &str, payload: &[u8]) -> Result<Event, DecodeError> {
    let format = rest.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let refuse = |reason: String| Err(DecodeError { reason });
    match format.as_str() {
        "" | "+json" => Event::from_json(payload),
        batch if batch.starts_with("-batch") => refuse(
            "the message is a batch of events, which NATS has no binding for; publish each event as a message".to_owned(),
        ),
        other => refuse(format!(
            "the event format {other:?} (of content type application/cloudevents{other}) is not supported; publish it as application/cloudevents+json"
        )),
    }
}

/// A header value as the HTTP binding has it (section 3.1.3.2): unquoted, then percent-decoded once.
fn header_value(name: &str, value: &str) -> Result<String, DecodeError> {
    let value = unquoted(value.trim());
    match percent_decode_str(&value).decode_utf8() {
        Ok(text) => Ok(text.into_owned()),
        Err(_) => {
            Err(DecodeError { reason: format!("header ce-{name} is not UTF-8 after percent-decoding") })
        }
    }
}

fn unquoted(value: &str) -> Cow<'_, str> {
    let Some(inner) = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
        return Cow::Borrowed(value);
    };
    if !inner.contains('\\') {
        return Cow::Borrowed(inner);
    }
    let mut text = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(char) = chars.next() {
        match char {
            '\\' => text.extend(chars.next()),
            other => text.push(other),
        }
    }
    Cow::Owned(text)
}

fn strip_prefix_ignoring_case<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let (head, rest) = text.split_at_checked(prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then_some(rest)
}
