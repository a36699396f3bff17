//! JetStream: a stream, read through a durable pull consumer, as an event source that loses nothing.
//!
//! * What is not acknowledged comes again. `max_deliver` is -1: the server never gives up.
//! * A user's stream is never changed, and neither is a user's consumer: only one that this source created (its
//!   metadata say so) is updated when the configuration changes.
//! * Positions are (domain, epoch, sequence): the domain is the stream as this source reads it, the epoch one life of
//!   the stream, the sequence the stream's. See `epoch.rs` for how epochs survive restarts.
//! * A floor is raised to a sequence when two things hold: nothing that was handed out at or below it is unsettled, and
//!   the server, too, has nothing at or below it to deliver. The server's word alone is not taken: it forgets what is
//!   outstanding when its consumer is made anew. Ours alone would not do either: what another reader of the same
//!   consumer holds is not known here.

pub(crate) mod api;
mod consumer;
mod epoch;
mod feed;
mod notes;
mod pull;
mod replay;
mod settle;
mod settled;
mod unreadable;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use fleet_core::cluster::ClusterId;
use fleet_core::event::{DecodeError, Event};
use fleet_core::position::Position;
use fleet_core::source::{EventSource, Message, SourceError, SourceItem};
use futures::stream::{self, BoxStream, StreamExt};
use tokio::sync::Notify;

use crate::binding;
use crate::connection::{ConfigError, Connections, NatsConfig, wrong};
use crate::place::Place;
use crate::subject;

/// More would not fit among the deliveries that are given back when the source is closed.
const LARGEST_BATCH: usize = 1024;

/// What a [`JetStreamSource`] reads, and how.
#[derive(Clone, Debug)]
pub struct JetStreamConfig {
    /// The stream.
    pub stream: String,
    /// The subjects to read of it; none: all.
    pub subjects: Vec<String>,
    /// The durable consumer. It is created if it does not exist. Default: `fleet-` and the name of the source.
    pub durable: Option<String>,
    /// Where to begin, when this source was never read before.
    pub start: Start,
    /// Create the stream, with `subjects`, if it does not exist.
    pub create: bool,
    /// Raised, everything is delivered again from `start`, above what was delivered before, through another consumer,
    /// whose name ends with `-replay-` and this number. It may only grow: the source does not open with less than it
    /// had before.
    pub replay: u64,
    /// How long a delivery may be without a word before it is delivered again; progress prolongs it. So long, too, what
    /// a killed operator had fetched waits for the next one, so the default is short: 10 s, in which the engine says
    /// five times that it is at work. What comes twice because of that is seen to be a duplicate.
    pub ack_wait: Duration,
    /// How many deliveries may be unsettled at a time.
    pub max_ack_pending: u32,
    /// How many messages are asked for at a time, while the source is read.
    pub batch: usize,
}

/// Where a source begins to read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Start {
    /// With the oldest message in the stream.
    #[default]
    All,
    /// With what is published from now on.
    New,
    /// With this sequence.
    Sequence(u64),
}

impl JetStreamConfig {
    /// Reads all of a stream from its beginning.
    pub fn new(stream: impl Into<String>) -> Self {
        Self {
            stream: stream.into(),
            subjects: Vec::new(),
            durable: None,
            start: Start::All,
            create: false,
            replay: 0,
            ack_wait: Duration::from_secs(10),
            max_ack_pending: 1024,
            batch: 256,
        }
    }

    fn check(&self) -> Result<(), ConfigError> {
        let allowed = "no dots, slashes, spaces, `*` or `>`, and not empty";
        if !subject::is_name(&self.stream) {
            return wrong(format!("{:?} is no name of a stream: {allowed}", self.stream));
        }
        if let Some(durable) = self.durable.as_ref().filter(|durable| !subject::is_name(durable)) {
            return wrong(format!("{durable:?} is no name of a durable consumer: {allowed}"));
        }
        subject::check_filters(&self.subjects)?;
        if self.create && self.subjects.is_empty() {
            return wrong(format!(
                "stream {} is to be created, but no subjects are given for it",
                self.stream
            ));
        }
        if self.start == Start::Sequence(0) {
            return wrong("sequences of a stream begin with 1, not 0");
        }
        if self.replay > 0 && self.start == Start::New {
            return wrong(
                "a replay that starts with new events delivers nothing again, and skips what was not read yet; start with all of them",
            );
        }
        if self.ack_wait < Duration::from_secs(1) || self.max_ack_pending == 0 {
            return wrong("ackWait must be at least one second, and maxAckPending at least 1");
        }
        if self.batch == 0 || self.batch > LARGEST_BATCH {
            return wrong(format!("batch must be between 1 and {LARGEST_BATCH}"));
        }
        Ok(())
    }
}

/// A stream of JetStream as an [`EventSource`].
#[derive(Clone, Debug)]
pub struct JetStreamSource {
    name: String,
    connections: Connections,
    nats: NatsConfig,
    config: JetStreamConfig,
    place: Option<Place>,
    /// Somebody asks up to when all is settled.
    asked: Arc<Notify>,
}

impl JetStreamSource {
    /// A source of this name, which takes its connection from `connections`.
    pub fn new(
        name: impl Into<String>,
        connections: &Connections,
        nats: NatsConfig,
        config: JetStreamConfig,
    ) -> Self {
        let (connections, asked) = (connections.clone(), Arc::default());
        Self { name: name.into(), connections, nats, config, place: None, asked }
    }

    /// Makes it what one cluster has of its EventSource. The positions are in a domain of the feed's own.
    #[must_use]
    pub fn in_place(self, place: Place) -> Self {
        Self { place: Some(place), ..self }
    }
}

#[async_trait]
impl EventSource for JetStreamSource {
    fn name(&self) -> &str {
        &self.name
    }

    fn feed(&self) -> &str {
        self.place.as_ref().map_or(&self.name, |place| &place.feed)
    }

    fn origin(&self) -> Option<ClusterId> {
        self.place.as_ref().map(|place| place.origin.clone())
    }

    /// Closing the stream gives back what waits in it; deliveries handed out are settled on their own.
    async fn open(&self, floors: Vec<Position>) -> Result<BoxStream<'static, SourceItem>, SourceError> {
        self.config.check()?;
        let replay = replay::Replay::restore(self.feed(), &self.config.stream, self.config.replay, &floors)?;
        let connection = self.connections.get(&self.nats)?;
        let (config, asked) = (self.config.clone(), Arc::clone(&self.asked));
        let whose = (self.name.as_str(), self.origin());
        let feed = feed::Feed::new(whose, config, connection, replay, &floors, asked);
        let next = async |mut feed: feed::Feed| {
            let item = feed.next().await;
            Some((item, feed))
        };
        Ok(stream::unfold(feed, next).boxed())
    }

    fn report_settled(&self) -> bool {
        self.asked.notify_one();
        true
    }

    fn decode(&self, message: &Message, raw: &Bytes) -> Result<Event, DecodeError> {
        binding::decode_pairs(&message.headers, raw.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_that_cannot_work_is_refused_with_the_reason() {
        let good = JetStreamConfig::new("EVENTS");
        assert!(good.check().is_ok());
        for (config, expected) in [
            (JetStreamConfig::new("a.b"), "\"a.b\" is no name of a stream"),
            (
                JetStreamConfig { durable: Some("a b".to_owned()), ..good.clone() },
                "\"a b\" is no name of a durable",
            ),
            (
                JetStreamConfig { subjects: vec!["a..b".to_owned()], ..good.clone() },
                "subject \"a..b\" cannot be read",
            ),
            (JetStreamConfig { create: true, ..good.clone() }, "stream EVENTS is to be created"),
            (
                JetStreamConfig { start: Start::Sequence(0), ..good.clone() },
                "sequences of a stream begin with 1",
            ),
            (
                JetStreamConfig { replay: 1, start: Start::New, ..good.clone() },
                "a replay that starts with new events delivers nothing again",
            ),
            (JetStreamConfig { batch: 0, ..good.clone() }, "batch must be between"),
            (JetStreamConfig { max_ack_pending: 0, ..good }, "ackWait must be"),
        ] {
            let reason = config.check().unwrap_err().reason;
            assert!(reason.starts_with(expected), "{reason}");
        }
    }
}
