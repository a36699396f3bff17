//! Attaching to stream and consumer: which life of the stream it is, where reading begins, and what the connection before
//! left behind.

use std::sync::Arc;
use std::time::Duration;

use async_nats::Client;
use async_nats::jetstream::consumer::{self, DeliverPolicy};
use async_nats::jetstream::stream::RetentionPolicy;
use async_nats::jetstream::{Context, stream};
use fleet_core::event::DecodeError;
use fleet_core::source::{Message, SourceItem};

use super::{Feed, Session, nanos};
use crate::connection::Trouble;
use crate::jetstream::Start;
use crate::jetstream::api::{self, ApiError};
use crate::jetstream::consumer::{bind, delete_earlier};
use crate::jetstream::epoch::Met;
use crate::jetstream::pull::{Facts, Pull};
use crate::jetstream::settle::Wire;
use crate::jetstream::unreadable::{self, Delivered, Unreadable};

impl Feed {
    pub(super) async fn attach(&mut self, client: &Client) -> Result<Session, Trouble> {
        let context = api::context(client);
        let stream = self.find_stream(&context).await?;
        let wire = Arc::new(Wire { connection: Arc::clone(&self.connection), client: client.clone() });
        // What arrived before that answer is of the stream as it was.
        for message in self.pull.as_mut().map(Pull::arrived).unwrap_or_default() {
            self.take(message, Arc::clone(&wire));
        }
        self.meet(&context, &stream).await?;
        let work_queue = stream.config.retention == RetentionPolicy::WorkQueue;
        if work_queue {
            // There the server allows one consumer at a time, and keeps what is not acknowledged without one.
            self.end_earlier(&context).await;
        }
        let bound = bind(&context, &self.source, &self.config, self.start()).await?;
        if !work_queue {
            // Afterwards: a stream may keep messages only for as long as there is a consumer for them.
            self.end_earlier(&context).await;
        }
        let info = bound.consumer.cached_info();
        if bound.created && self.find_stream(&context).await?.created != stream.created {
            // Made anew in between: there the consumer would begin too late.
            let _ = api::delete_consumer(&context, &self.config.stream, &info.name).await;
            let message = format!("stream {} was just made anew; it is looked at again", self.config.stream);
            return Err(Trouble { reason: "StreamChanged", message });
        }
        match self.epochs.floor_sequence() {
            // A consumer that is made anew begins behind the floor, or with what is left of the stream.
            Some(floor) if bound.created => {
                self.notes.count_unread(&stream, &info.config, floor);
                let note = format!("its consumer was gone and is created again from sequence {}", floor + 1);
                self.notes.consumer = Some(note);
            }
            _ => self.notes.count_unread(&stream, &info.config, info.delivered.stream_sequence),
        }
        let pull = match &mut self.pull {
            Some(pull) => pull,
            none => none.insert(Pull::open(client.clone()).await.map_err(|error| {
                ApiError::Refused(error).trouble(&self.config.stream, "subscribing to an inbox")
            })?),
        };
        pull.aim(info, self.config.batch);
        let advisories = match info.config.max_deliver {
            limit if limit > 0 => {
                let subject = format!(
                    "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.{}.{}",
                    self.config.stream, info.name
                );
                client.subscribe(subject).await.ok()
            }
            _ => None,
        };
        if self.suspicious {
            self.put_aside(&context, info, &wire).await;
        }
        Ok(Session { wire, context, consumer: info.name.clone(), advisories })
    }

    /// Deletes the consumers of earlier replays, and closes those for good.
    async fn end_earlier(&mut self, context: &Context) {
        let mut failed = Vec::new();
        for number in std::mem::take(&mut self.left_behind) {
            if let Err(name) = delete_earlier(context, &self.source, &self.config, number).await {
                failed.push(name);
                self.left_behind.push(number);
            }
        }
        self.notes.left_behind = (!failed.is_empty()).then(|| failed.join(", "));
        // Nobody reads through them any more, deleted or not.
        self.items.extend(self.replay.close().into_iter().map(SourceItem::Floor));
    }

    /// Hands out what cannot be read as what it is. What was delivered behind it on the connection that was lost is given
    /// back, so that it does not wait for its acknowledgement to be overdue.
    async fn put_aside(&mut self, context: &Context, consumer: &consumer::Info, wire: &Arc<Wire>) {
        let Delivered { unreadable, readable } = match unreadable::look(context, consumer).await {
            Ok(delivered) => delivered,
            // The next time the connection is lost it is looked again.
            Err(error) => {
                let trouble = error.trouble(&self.config.stream, "looking for messages that cannot be read");
                return tracing::warn!(source = self.source, "{}", trouble.message);
            }
        };
        self.suspicious = false;
        let lost = readable.into_iter().filter(|_| !unreadable.is_empty());
        for (sequence, reply) in lost {
            if !self.outstanding.holds(sequence) {
                self.connection.give_back(wire.client.clone(), reply, Duration::ZERO);
            }
        }
        for Unreadable { sequence, published, reply, subject, headers, payload, reason } in unreadable {
            let reason = format!(
                "the headers of the message cannot be read: {reason}; look at what publishes to {subject}"
            );
            let facts = Facts { sequence, published };
            let message = Message { subject, headers };
            let event = Err(DecodeError { reason });
            self.hand_out(facts, event, message, payload, Some(reply), Arc::clone(wire));
        }
    }

    async fn find_stream(&self, context: &Context) -> Result<stream::Info, Trouble> {
        let name = &self.config.stream;
        match api::stream_info(context, name).await {
            Err(ApiError::StreamNotFound) if self.config.create => {
                let config = stream::Config {
                    name: name.clone(),
                    subjects: self.config.subjects.clone(),
                    description: Some(format!("created for EventSource {} of Fleet", self.source)),
                    ..stream::Config::default()
                };
                tracing::info!(source = self.source, stream = name, "creating the stream");
                let created = api::create_stream(context, &config).await;
                created.map_err(|error| error.trouble(name, &format!("creating stream {name}")))
            }
            found => found.map_err(|error| error.trouble(name, &format!("looking for stream {name}"))),
        }
    }

    /// Finds out which life of the stream this is.
    async fn meet(&mut self, context: &Context, stream: &stream::Info) -> Result<(), Trouble> {
        let name = &self.config.stream;
        match self.epochs.meet(nanos(stream.created.unix_timestamp_nanos())) {
            Met::Same => {}
            Met::Recreated => {
                self.outstanding.begin_life();
                self.notes.stream_is_new();
            }
            Met::Older => {
                let message = format!(
                    "stream {name} is older than the one this EventSource read before, so its sequences cannot be put in order; restore the stream, or begin anew by raising spec.replay"
                );
                return Err(Trouble { reason: "StreamOlder", message });
            }
        }
        let Some(newest) = self.epochs.newest() else {
            return Ok(());
        };
        let last = stream.state.last_sequence;
        let published = match api::message(context, name, newest.sequence).await {
            Ok(message) => Some(message.published),
            Err(ApiError::MessageNotFound) => None,
            Err(error) => return Err(error.trouble(name, "looking at the newest message seen")),
        };
        if self.epochs.check_tail(last, published) {
            self.tail_was_lost();
        }
        Ok(())
    }

    pub(super) fn tail_was_lost(&mut self) {
        self.outstanding.begin_life();
        self.notes.epoch = Some(
            "the stream lost its newest messages and gives their sequences again: a new epoch began"
                .to_owned(),
        );
        tracing::warn!(
            source = self.source,
            stream = self.config.stream,
            "the stream lost its newest messages"
        );
        self.keep_witness();
    }

    /// Where a consumer begins that does not exist yet.
    fn start(&self) -> DeliverPolicy {
        match self.epochs.floor_sequence() {
            Some(floor) => DeliverPolicy::ByStartSequence { start_sequence: floor + 1 },
            None if self.epochs.has_history() => DeliverPolicy::All,
            None => match self.config.start {
                Start::All => DeliverPolicy::All,
                Start::New => DeliverPolicy::New,
                Start::Sequence(start_sequence) => DeliverPolicy::ByStartSequence { start_sequence },
            },
        }
    }
}
