//! An open JetStream source: attaches to stream and consumer, hands out what arrives, and attaches anew when anything
//! is not as it was.

mod attach;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use async_nats::Subject;
use async_nats::jetstream::{Context, consumer, stream};
use bytes::Bytes;
use fleet_core::cluster::ClusterId;
use fleet_core::event::{DecodeError, Event};
use fleet_core::position::Position;
use fleet_core::source::{Delivery, Message, Settle, SourceItem, SourceStatus};
use futures::StreamExt;
use jiff::Timestamp;
use serde::Deserialize;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::JetStreamConfig;
use super::api::{self, ApiError};
use super::epoch::{Epochs, Seen};
use super::notes::Notes;
use super::pull::{Facts, Pull, Stop};
use super::replay::Replay;
use super::settle::{JetStreamSettler, Outstanding, Wire};
use super::settled;
use crate::backoff::Backoff;
use crate::binding;
use crate::connection::{Connection, Link, Trouble};

/// How often floors are raised while messages arrive.
const WHILE_BUSY: Duration = Duration::from_secs(1);
/// How often they are raised while messages are only outstanding.
const WHILE_OUTSTANDING: Duration = Duration::from_secs(3);
/// How often stream and consumer are looked at otherwise.
const WHILE_IDLE: Duration = Duration::from_secs(30);

pub(super) struct Feed {
    source: String,
    origin: Option<ClusterId>,
    config: JetStreamConfig,
    connection: Arc<Connection>,
    link: watch::Receiver<Link>,
    session: Option<Session>,
    /// Made with the first session, and kept.
    pull: Option<Pull>,
    items: VecDeque<SourceItem>,
    replay: Replay,
    /// Earlier replays whose consumer is to be deleted.
    left_behind: Vec<u64>,
    /// Somebody asks up to when all is settled.
    asked: Arc<Notify>,
    epochs: Epochs,
    outstanding: Outstanding,
    notes: Notes,
    backoff: Backoff,
    attach_at: Instant,
    inspect_at: Instant,
    /// A connection was lost since it was looked for messages that cannot be read.
    suspicious: bool,
    told: Option<SourceStatus>,
    witness: Option<Position>,
}

/// What exists while stream and consumer are there.
struct Session {
    wire: Arc<Wire>,
    context: Context,
    consumer: String,
    advisories: Option<async_nats::Subscriber>,
}

enum Woken {
    Link,
    Inspect,
    Asked,
    Advisory(async_nats::Message),
    Message(Result<async_nats::Message, Stop>),
}

impl Feed {
    pub(super) fn new(
        (source, origin): (&str, Option<ClusterId>),
        config: JetStreamConfig,
        connection: Arc<Connection>,
        replay: Replay,
        floors: &[Position],
        asked: Arc<Notify>,
    ) -> Self {
        let link = connection.link();
        let begun = replay.begun().filter(|begun| floors.iter().all(|floor| floor.domain != begun.domain));
        Self {
            epochs: Epochs::restore(replay.domain(), replay.witness_domain(), floors),
            left_behind: replay.earlier().to_vec(),
            replay,
            asked,
            source: source.to_owned(),
            origin,
            config,
            connection,
            link,
            session: None,
            pull: None,
            items: begun.map(SourceItem::Floor).into_iter().collect(),
            outstanding: Outstanding::default(),
            notes: Notes::default(),
            backoff: Backoff::default(),
            attach_at: Instant::now(),
            inspect_at: Instant::now(),
            suspicious: false,
            told: None,
            witness: None,
        }
    }

    pub(super) async fn next(&mut self) -> SourceItem {
        loop {
            if let Some(item) = self.items.pop_front() {
                return item;
            }
            let (Some(session), Some(pull)) = (&mut self.session, &mut self.pull) else {
                self.begin().await;
                continue;
            };
            match session.woken(pull, &mut self.link, &self.asked, self.inspect_at).await {
                Woken::Link => self.follow_link(),
                Woken::Inspect => self.inspect().await,
                Woken::Asked => self.answer().await,
                Woken::Advisory(advisory) => self.hear(&advisory),
                Woken::Message(Ok(message)) => {
                    let wire = Arc::clone(&session.wire);
                    self.take(message, wire);
                }
                Woken::Message(Err(stop)) => self.stumble(&stop),
            }
        }
    }

    /// Waits until there is a connection and it is time, then tries to attach.
    async fn begin(&mut self) {
        let link = self.link.borrow_and_update().clone();
        let client = match link {
            Link::Up(client) => client,
            Link::Down(trouble) => {
                self.tell_trouble(trouble);
                if self.items.is_empty() {
                    let _ = self.link.changed().await;
                }
                return;
            }
        };
        tokio::select! {
            Ok(()) = self.link.changed() => return,
            () = tokio::time::sleep_until(self.attach_at) => {}
        }
        match self.attach(&client).await {
            Ok(session) => {
                self.session = Some(session);
                self.inspect_at = Instant::now();
                self.tell_ready();
            }
            Err(trouble) => {
                self.attach_at = Instant::now() + self.backoff.next();
                self.tell_trouble(trouble);
            }
        }
    }

    fn follow_link(&mut self) {
        let link = self.link.borrow_and_update().clone();
        match link {
            Link::Down(trouble) => self.tell_trouble(trouble),
            // Whatever the server is now, it is looked at anew.
            Link::Up(_) => {
                self.suspicious = true;
                self.leave();
            }
        }
    }

    fn stumble(&mut self, stop: &Stop) {
        tracing::debug!(source = self.source, stream = self.config.stream, ?stop, "no more messages come");
        self.leave();
        if *stop != Stop::ConsumerDeleted {
            self.attach_at = Instant::now() + self.backoff.next();
        }
    }

    /// Stream and consumer are to be looked at anew.
    fn leave(&mut self) {
        self.session = None;
        self.attach_at = Instant::now();
    }

    /// Looks at stream and consumer: raises floors, notices what left the stream unread.
    async fn inspect(&mut self) {
        self.inspect_at = Instant::now() + WHILE_IDLE;
        let Some(session) = &self.session else { return };
        if matches!(*self.link.borrow(), Link::Down(_)) {
            return;
        }
        let context = session.context.clone();
        // In this order: what the consumer has delivered is newer than what the stream has dropped.
        let stream = api::stream_info(&context, &self.config.stream).await;
        let consumer = api::consumer_info(&context, &self.config.stream, &session.consumer).await;
        let (stream, consumer) = match (stream, consumer) {
            (Ok(stream), Ok(consumer)) => (stream, consumer),
            (Err(ApiError::StreamNotFound), _) | (_, Err(ApiError::ConsumerNotFound)) => return self.leave(),
            _ => {
                self.inspect_at = Instant::now() + WHILE_OUTSTANDING;
                return;
            }
        };
        let shorter = self.epochs.newest().is_some_and(|newest| stream.state.last_sequence < newest.sequence);
        if shorter || !self.epochs.is_present(nanos(stream.created.unix_timestamp_nanos())) {
            return self.leave();
        }
        self.notes.count_unread(&stream, &consumer.config, consumer.delivered.stream_sequence);
        let settled = self.raise_floor(&stream, &consumer);
        if settled < consumer.delivered.stream_sequence {
            self.inspect_at = Instant::now() + WHILE_OUTSTANDING;
        }
        self.tell_ready();
    }

    /// Says up to when all is settled. Whoever does not hear it asks again.
    async fn answer(&mut self) {
        let Some(session) = &self.session else { return };
        match settled::until(&session.context, &self.config.stream, &session.consumer).await {
            Ok(until) => self.items.extend(until.map(SourceItem::Settled)),
            Err(error) => tracing::debug!(source = self.source, ?error, "what is settled cannot be asked"),
        }
    }

    /// Up to which sequence all is settled.
    fn raise_floor(&mut self, stream: &stream::Info, consumer: &consumer::Info) -> u64 {
        // Stored first, for without it a loss of what lies below the floor could not be seen.
        self.keep_witness();
        let ceiling = self.outstanding.ceiling(self.epochs.first()).unwrap_or(0);
        let settled = consumer.ack_floor.stream_sequence.min(ceiling);
        if let Some(floor) = self.epochs.raise(settled, stream.state.last_sequence) {
            self.items.push_back(SourceItem::Floor(floor));
        }
        self.keep_witness();
        settled
    }

    fn keep_witness(&mut self) {
        let witness = self.epochs.witness();
        if self.witness != witness {
            self.items.extend(witness.clone().map(SourceItem::Floor));
            self.witness = witness;
        }
    }

    fn hear(&mut self, advisory: &async_nats::Message) {
        #[derive(Deserialize)]
        struct Exhausted {
            stream_seq: u64,
        }
        if let Ok(Exhausted { stream_seq }) = serde_json::from_slice(&advisory.payload) {
            self.notes.exhausted += 1;
            tracing::warn!(
                source = self.source,
                stream_seq,
                "the consumer gave up a message after max_deliver attempts"
            );
            self.tell_ready();
        }
    }

    fn take(&mut self, message: async_nats::Message, wire: Arc<Wire>) {
        let Some(facts) = message.reply.as_deref().and_then(Facts::parse) else {
            tracing::warn!(
                source = self.source,
                "a message without the facts that JetStream adds was skipped"
            );
            return;
        };
        self.backoff.reset();
        let headers = binding::pairs(message.headers.as_ref());
        let event = binding::decode_pairs(&headers, message.payload.clone());
        let facts_of_transport = Message { subject: message.subject.to_string(), headers };
        self.hand_out(facts, event, facts_of_transport, message.payload, message.reply, wire);
    }

    fn hand_out(
        &mut self,
        Facts { sequence, published }: Facts,
        event: Result<Event, DecodeError>,
        message: Message,
        raw: Bytes,
        reply: Option<Subject>,
        wire: Arc<Wire>,
    ) {
        let (epoch, lost) = self.epochs.see(Seen { sequence, published });
        if lost {
            self.tail_was_lost();
            self.tell_ready();
        }
        self.inspect_at = self.inspect_at.min(Instant::now() + WHILE_BUSY);
        let entry = self.outstanding.add(epoch, sequence);
        self.items.push_back(SourceItem::Delivery(Delivery {
            event,
            origin: self.origin.clone(),
            message: Arc::new(message),
            raw,
            position: Some(self.epochs.position(epoch, sequence)),
            published: Timestamp::from_nanosecond(published.into()).ok(),
            settle: Settle::new(JetStreamSettler::new(wire, reply, entry)),
        }));
    }

    fn tell_ready(&mut self) {
        let Some(session) = &self.session else {
            return;
        };
        let limited = session.advisories.is_some();
        let message = self.notes.message(&self.config.stream, &session.consumer, limited);
        self.tell(true, "Connected", message);
    }

    fn tell_trouble(&mut self, trouble: Trouble) {
        self.tell(false, trouble.reason, trouble.message);
    }

    fn tell(&mut self, ready: bool, reason: &str, message: String) {
        let lost = self.notes.lost();
        let status = SourceStatus { ready, reason: reason.to_owned(), message, lost };
        if self.told.as_ref() != Some(&status) {
            self.told = Some(status.clone());
            self.items.push_back(SourceItem::Status(status));
        }
    }
}

impl Session {
    /// Cancel safe: nothing is taken out before it is returned.
    async fn woken(
        &mut self,
        pull: &mut Pull,
        link: &mut watch::Receiver<Link>,
        asked: &Notify,
        inspect_at: Instant,
    ) -> Woken {
        let advisory = async {
            match &mut self.advisories {
                Some(advisories) => advisories.next().await,
                None => None,
            }
        };
        tokio::select! {
            biased;
            Ok(()) = link.changed() => Woken::Link,
            () = tokio::time::sleep_until(inspect_at) => Woken::Inspect,
            () = asked.notified() => Woken::Asked,
            Some(advisory) = advisory => Woken::Advisory(advisory),
            message = pull.next() => Woken::Message(message),
        }
    }
}

/// Gives back what waits, and what is on its way: it should not have to wait for its acknowledgement to be overdue.
impl Drop for Feed {
    fn drop(&mut self) {
        if let Some(pull) = self.pull.take() {
            self.connection.after_drop(give_back(pull, Arc::clone(&self.connection)));
        }
    }
}

async fn give_back(pull: Pull, connection: Arc<Connection>) {
    let client = pull.client().clone();
    for reply in pull.end().await {
        connection.give_back(client.clone(), reply, Duration::ZERO);
    }
}

/// Times before 1970 and after 2554 do not occur.
fn nanos(since_1970: i128) -> u64 {
    u64::try_from(since_1970).unwrap_or_default()
}
