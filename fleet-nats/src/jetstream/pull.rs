//! Pulling messages: one request at a time, made only while somebody reads, through one inbox for as long as the source
//! is open. So what is under way when stream and consumer are looked at anew arrives all the same: left behind in an
//! inbox of its own, it would come again only when its acknowledgement is overdue.

use std::time::Duration;

use async_nats::jetstream::consumer;
use async_nats::{Client, Message, StatusCode, Subject, Subscriber};
use bytes::Bytes;
use futures::{FutureExt, StreamExt};
use serde_json::json;
use tokio::time::Instant;

use crate::connection::round_trip;

/// A request is made anew after this time; meanwhile the server says every now and then that it is there.
const EXPIRES: Duration = Duration::from_secs(30);
const HEARTBEAT: Duration = Duration::from_secs(2);

/// The inbox, and the request that is open.
pub(super) struct Pull {
    client: Client,
    inbox: String,
    subscriber: Subscriber,
    target: Option<Target>,
    /// The number of the last request, the last part of its reply subject.
    request: u64,
    /// How many messages it can still bring.
    open: usize,
    heard: Instant,
}

/// The consumer to pull from.
struct Target {
    subject: String,
    payload: Bytes,
    batch: usize,
    silence: Duration,
}

/// Why no more messages come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// The server does not say any more that it is there.
    Silent,
    /// The consumer or its stream was deleted.
    ConsumerDeleted,
    /// The server ended the request for this reason.
    Ended(String),
}

impl Pull {
    pub(super) async fn open(client: Client) -> Result<Self, String> {
        let inbox = client.new_inbox();
        let subscriber = client.subscribe(format!("{inbox}.*")).await.map_err(|error| error.to_string())?;
        Ok(Self { client, inbox, subscriber, target: None, request: 0, open: 0, heard: Instant::now() })
    }

    /// Pulls from this consumer from now on. What was requested before may still arrive.
    pub(super) fn aim(&mut self, consumer: &consumer::Info, batch: usize) {
        let limit = usize::try_from(consumer.config.max_batch).unwrap_or_default();
        let batch = if limit > 0 { batch.min(limit) } else { batch };
        let limit = consumer.config.max_expires;
        let expires = if limit.is_zero() { EXPIRES } else { EXPIRES.min(limit) };
        let heartbeat = HEARTBEAT.min(expires / 2);
        let payload = json!({
            "batch": batch,
            "expires": expires.as_nanos() as u64,
            "idle_heartbeat": heartbeat.as_nanos() as u64,
        });
        self.target = Some(Target {
            subject: format!("$JS.API.CONSUMER.MSG.NEXT.{}.{}", consumer.stream_name, consumer.name),
            payload: payload.to_string().into(),
            batch,
            silence: heartbeat * 2 + Duration::from_secs(1),
        });
        self.open = 0;
    }

    /// The next message, for which the server is asked if need be; or why there will be none until [`aim`](Self::aim)
    /// is called again.
    ///
    /// Cancel safe.
    pub(super) async fn next(&mut self) -> Result<Message, Stop> {
        loop {
            let Some(target) = &self.target else { return std::future::pending().await };
            if self.open == 0 {
                let reply = format!("{}.{}", self.inbox, self.request + 1);
                let (subject, payload) = (target.subject.clone(), target.payload.clone());
                let sent = self.client.publish_with_reply(subject, reply, payload).await;
                sent.map_err(|error| Stop::Ended(error.to_string()))?;
                self.request += 1;
                self.open = target.batch;
                self.heard = Instant::now();
            }
            let Ok(message) =
                tokio::time::timeout_at(self.heard + target.silence, self.subscriber.next()).await
            else {
                return Err(Stop::Silent);
            };
            let Some(message) = message else {
                return Err(Stop::Ended("the connection is closed".to_owned()));
            };
            self.heard = Instant::now();
            match message.status {
                None | Some(StatusCode::OK) => {
                    self.open = self.open.saturating_sub(1);
                    return Ok(message);
                }
                Some(StatusCode::IDLE_HEARTBEAT) => {}
                Some(_) if !self.is_of_open_request(&message.subject) => {}
                Some(StatusCode::TIMEOUT | StatusCode::NOT_FOUND) => self.open = 0,
                Some(status) => {
                    self.open = 0;
                    return match message.description.as_deref() {
                        // The request brought what it could.
                        Some("Batch Completed") => continue,
                        Some("Consumer Deleted") => Err(Stop::ConsumerDeleted),
                        description => {
                            Err(Stop::Ended(format!("{status} {}", description.unwrap_or_default())))
                        }
                    };
                }
            }
        }
    }

    /// Takes what has arrived so far.
    pub(super) fn arrived(&mut self) -> Vec<Message> {
        let mut arrived = Vec::new();
        while let Some(Some(message)) = self.subscriber.next().now_or_never() {
            if message.status.is_none_or(|status| status == StatusCode::OK) {
                arrived.push(message);
            }
        }
        arrived
    }

    fn is_of_open_request(&self, subject: &str) -> bool {
        subject.strip_prefix(&self.inbox).is_some_and(|rest| rest == format!(".{}", self.request))
    }

    /// Takes no more, and says where to settle the messages that arrived and were not taken.
    ///
    /// The server goes on with the request that is open until it knows that nobody listens; what it sends in that moment
    /// reaches nobody, and comes again only when its acknowledgement is overdue. So this listens on until the request has
    /// brought all that it may, or nothing comes any more. Where messages come too slowly for the one and too fast for the
    /// other, one may be lost in that moment now and then.
    pub(super) async fn end(mut self) -> Vec<Subject> {
        const LONGEST: Duration = Duration::from_secs(1);
        const QUIET: Duration = Duration::from_millis(50);
        let until = Instant::now() + LONGEST;
        let mut replies = Vec::new();
        // What the server had sent before it answers this has arrived.
        let _ = tokio::time::timeout_at(until, round_trip(&self.client)).await;
        loop {
            let wait = if self.open > 0 { QUIET } else { Duration::ZERO };
            let next = tokio::time::timeout_at(until.min(Instant::now() + wait), self.subscriber.next());
            let Ok(Some(message)) = next.await else { return replies };
            match message.status {
                None | Some(StatusCode::OK) => {
                    self.open = self.open.saturating_sub(1);
                    replies.extend(message.reply);
                }
                Some(StatusCode::IDLE_HEARTBEAT) => {}
                Some(_) if !self.is_of_open_request(&message.subject) => {}
                Some(_) => self.open = 0,
            }
        }
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }
}

/// What JetStream says about a message, in its reply subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    /// Its sequence in the stream.
    pub(super) sequence: u64,
    /// When it was published, in nanoseconds since 1970.
    pub(super) published: u64,
}

impl Facts {
    /// `$JS.ACK.<stream>.<consumer>.<delivered>.<sequence>.<consumer sequence>.<time>.<pending>`, or with domain and
    /// account in front of the stream, and possibly more at the end (ADR-15 of NATS).
    pub(super) fn parse(reply: &str) -> Option<Self> {
        let tokens: Vec<&str> = reply.strip_prefix("$JS.ACK.")?.split('.').collect();
        let behind_stream = match tokens.len() {
            7 => tokens.get(1..),
            length if length >= 9 => tokens.get(3..),
            _ => None,
        }?;
        let number = |at: usize| behind_stream.get(at)?.parse().ok();
        Some(Self { sequence: number(2)?, published: number(4)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_of_both_forms() {
        let facts = Some(Facts { sequence: 100, published: 1_790_230_470_084_404_000 });
        for reply in [
            "$JS.ACK.events.durable.3.100.7.1790230470084404000.42",
            "$JS.ACK._.szMpdrwD.events.durable.3.100.7.1790230470084404000.42",
            "$JS.ACK.hub.szMpdrwD.events.durable.3.100.7.1790230470084404000.42.rand.more",
        ] {
            assert_eq!(Facts::parse(reply), facts, "{reply}");
        }
        for reply in ["", "_INBOX.x", "$JS.ACK.a.b.1.2", "$JS.ACK.a.b.1.x.1.1.1", "$JS.ACK.h.a.s.d.1.2.3.4"] {
            assert_eq!(Facts::parse(reply), None, "{reply}");
        }
    }
}
