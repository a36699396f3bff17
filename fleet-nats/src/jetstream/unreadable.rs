//! Messages whose headers the client library cannot read: it gives up the connection over one, and the server would
//! deliver it again on the next, for ever, so that nobody else's events came through any more. So after a connection was
//! lost, what may have been delivered on it is looked at through the API of JetStream, which wraps up what it sends.

use std::str::FromStr;

use async_nats::jetstream::{Context, consumer};
use async_nats::{HeaderName, StatusCode, Subject};
use bytes::Bytes;
use futures::stream::{self, StreamExt};

use super::api::{self, ApiError};
use super::consumer::filters;
use crate::subject::covers;

/// How many messages are looked at in one go; the others after the next connection is lost.
const MOST: u64 = 4096;
/// How many are looked at at a time.
const AT_A_TIME: usize = 32;

/// A message that can only be put aside.
pub(super) struct Unreadable {
    pub(super) sequence: u64,
    /// In nanoseconds since 1970.
    pub(super) published: u64,
    /// Where it is settled.
    pub(super) reply: Subject,
    pub(super) subject: String,
    /// As far as they can be read.
    pub(super) headers: Vec<(String, String)>,
    pub(super) payload: Bytes,
    /// What is the matter with its headers.
    pub(super) reason: &'static str,
}

/// What a consumer has delivered and perhaps nobody has settled.
#[derive(Default)]
pub(super) struct Delivered {
    pub(super) unreadable: Vec<Unreadable>,
    /// The others, by sequence, with where each is settled.
    pub(super) readable: Vec<(u64, Subject)>,
}

/// Looks at what a consumer has delivered and perhaps nobody has settled.
pub(super) async fn look(context: &Context, consumer: &consumer::Info) -> Result<Delivered, ApiError> {
    let mut delivered = Delivered::default();
    if consumer.num_ack_pending == 0 {
        return Ok(delivered);
    }
    let first = consumer.ack_floor.stream_sequence + 1;
    let last = consumer.delivered.stream_sequence.min(first + MOST - 1);
    let messages = stream::iter(first..=last).map(async |sequence| {
        match api::message(context, &consumer.stream_name, sequence).await {
            Ok(message) => Ok(Some((sequence, message))),
            Err(ApiError::MessageNotFound) => Ok(None),
            Err(error) => Err(error),
        }
    });
    let mut messages = messages.buffered(AT_A_TIME);
    let read = filters(&consumer.config.filter_subject, &consumer.config.filter_subjects);
    while let Some(looked) = messages.next().await {
        let Some((sequence, message)) = looked? else { continue };
        let api::Message { subject, published, headers, payload } = message;
        if !read.is_empty() && !read.iter().any(|filter| covers(filter, &subject)) {
            continue;
        }
        // As the server writes it (ADR-15 of NATS); it goes by the sequence.
        let reply =
            format!("$JS.ACK.{}.{}.1.{sequence}.1.{published}.0", consumer.stream_name, consumer.name);
        match fault(&headers) {
            Some(reason) => delivered.unreadable.push(Unreadable {
                sequence,
                published,
                reply: reply.into(),
                subject,
                headers: legible(&headers),
                payload: payload.into(),
                reason,
            }),
            None => delivered.readable.push((sequence, reply.into())),
        }
    }
    Ok(delivered)
}

/// What the client library does not take, if anything.
fn fault(headers: &[u8]) -> Option<&'static str> {
    if headers.is_empty() {
        return None;
    }
    let Ok(text) = std::str::from_utf8(headers) else {
        return Some("they are not UTF-8");
    };
    let mut lines = text.lines();
    let Some(status) = lines.next().and_then(|line| line.strip_prefix("NATS/1.0")).map(str::trim) else {
        return Some("they do not begin with NATS/1.0");
    };
    let status = status.split(' ').next().unwrap_or_default();
    if !status.is_empty() && status.parse::<StatusCode>().is_err() {
        return Some("their first line is none of NATS");
    }
    let mut follows_a_header = false;
    for line in lines {
        let goes_on = follows_a_header && line.starts_with(char::is_whitespace);
        follows_a_header = goes_on || !line.is_empty();
        if goes_on || line.is_empty() {
            continue;
        }
        match line.split_once(':') {
            None => return Some("a line of them has no colon"),
            Some((name, _)) if HeaderName::from_str(name).is_err() => {
                return Some("a name among them has spaces, or letters that are not ASCII");
            }
            Some(_) => {}
        }
    }
    None
}

/// What can be shown of headers.
fn legible(headers: &[u8]) -> Vec<(String, String)> {
    let text = String::from_utf8_lossy(headers);
    let pairs = text.lines().skip(1).filter_map(|line| line.split_once(':'));
    pairs.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_library_does_not_take() {
        for good in [
            &b""[..],
            b"NATS/1.0\r\n\r\n",
            b"NATS/1.0\r\na: b\r\nc:\r\n\r\n",
            b"NATS/1.0\r\na: b\r\n  goes on\r\n\r\n",
            b"NATS/1.0 503\r\n\r\n",
        ] {
            assert_eq!(fault(good), None, "{}", String::from_utf8_lossy(good));
        }
        for bad in [
            &b"NATS/1.0\r\na: \xff\r\n\r\n"[..],
            b"NATS/2.0\r\na: b\r\n\r\n",
            b"NATS/1.0 x\r\na: b\r\n\r\n",
            b"NATS/1.0\r\nno colon\r\n\r\n",
            b"NATS/1.0\r\na b: c\r\n\r\n",
            b"NATS/1.0\r\n goes on from nothing\r\n\r\n",
        ] {
            assert!(fault(bad).is_some(), "{}", String::from_utf8_lossy(bad));
        }
    }
}
