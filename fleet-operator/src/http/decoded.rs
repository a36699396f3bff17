//! What requests are decoded to, for whoever wants to know without a server.

use bytes::Bytes;
use fleet_core::event::{DecodeError, Event};
use http::HeaderMap;

use super::decode::{decode, decode_kept, message};

/// The events of a request, each with its own bytes; or why there is none in their place.
pub fn events(headers: &HeaderMap, body: &Bytes) -> Vec<(Bytes, Result<Event, DecodeError>)> {
    decode(headers, body).into_iter().map(|incoming| (incoming.raw, incoming.event)).collect()
}

/// The event that is made of what a dead letter keeps of a request: its headers, and the bytes of one event.
///
/// # Errors
/// When it is no event.
pub fn kept(path: &str, headers: &HeaderMap, raw: &Bytes) -> Result<Event, DecodeError> {
    decode_kept(&message(path, headers), raw)
}
