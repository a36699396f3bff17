//! Core NATS: subjects as an event source. Nothing is redelivered: what is published while nobody is connected, or
//! faster than it is taken, is lost. What had to be dropped on this side is counted and said.

use std::sync::Arc;
use std::time::Duration;

use async_nats::Client;
use async_trait::async_trait;
use bytes::Bytes;
use fleet_core::cluster::ClusterId;
use fleet_core::event::{DecodeError, Event};
use fleet_core::position::Position;
use fleet_core::source::{Delivery, EventSource, Message, Settle, SourceError, SourceItem, SourceStatus};
use futures::stream::{self, BoxStream, SelectAll, StreamExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast, mpsc, watch};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use crate::binding;
use crate::connection::{ConfigError, Connection, Connections, Link, NatsConfig, round_trip, wrong};
use crate::place::Place;
use crate::subject;

/// Losses are told at most this often.
const TELL_LOSSES: Duration = Duration::from_secs(1);

/// What a [`CoreSource`] reads, and how much may wait in it.
#[derive(Clone, Debug)]
pub struct CoreConfig {
    /// The subjects, with wildcards if need be.
    pub subjects: Vec<String>,
    /// The queue group: of all subscribers in it, one gets each message. Replicas share one.
    pub queue_group: Option<String>,
    /// How many messages wait at most while the source is not read. Those that come then are dropped and counted.
    pub queue_messages: usize,
    /// How many bytes of messages wait at most.
    pub queue_bytes: usize,
}

impl CoreConfig {
    /// Reads these subjects, without a queue group; at most 16,384 messages and 64 MiB wait.
    pub fn new(subjects: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            subjects: subjects.into_iter().map(Into::into).collect(),
            queue_group: None,
            queue_messages: 16_384,
            queue_bytes: 64 << 20,
        }
    }

    fn check(&self) -> Result<(), ConfigError> {
        if self.subjects.is_empty() {
            return wrong("no subject is given; name at least one to read");
        }
        subject::check_filters(&self.subjects)?;
        match &self.queue_group {
            Some(group) if !subject::is_plain(group) => {
                wrong(format!("queue group {group:?} cannot be used: no spaces, `*` or `>`, and not empty"))
            }
            _ => Ok(()),
        }
    }
}

/// Subjects of core NATS as an [`EventSource`].
///
/// Its deliveries have no position, and settling them does nothing: core NATS cannot redeliver. When its status is
/// ready, the server knows the subscription.
#[derive(Clone, Debug)]
pub struct CoreSource {
    name: String,
    connections: Connections,
    nats: NatsConfig,
    config: CoreConfig,
    place: Option<Place>,
}

impl CoreSource {
    /// A source of this name, which takes its connection from `connections`.
    pub fn new(
        name: impl Into<String>,
        connections: &Connections,
        nats: NatsConfig,
        config: CoreConfig,
    ) -> Self {
        Self { name: name.into(), connections: connections.clone(), nats, config, place: None }
    }

    /// Makes it what one cluster has of its EventSource.
    #[must_use]
    pub fn in_place(self, place: Place) -> Self {
        Self { place: Some(place), ..self }
    }
}

#[async_trait]
impl EventSource for CoreSource {
    fn name(&self) -> &str {
        &self.name
    }

    fn feed(&self) -> &str {
        self.place.as_ref().map_or(&self.name, |place| &place.feed)
    }

    fn origin(&self) -> Option<ClusterId> {
        self.place.as_ref().map(|place| place.origin.clone())
    }

    async fn open(&self, _floors: Vec<Position>) -> Result<BoxStream<'static, SourceItem>, SourceError> {
        self.config.check()?;
        let feed = Feed::new(self.config.clone(), self.connections.get(&self.nats)?, self.origin());
        let next = async |mut feed: Feed| {
            let item = feed.next().await;
            Some((item, feed))
        };
        Ok(stream::unfold(feed, next).boxed())
    }

    fn decode(&self, message: &Message, raw: &Bytes) -> Result<Event, DecodeError> {
        binding::decode_pairs(&message.headers, raw.clone())
    }
}

/// An open source.
struct Feed {
    config: CoreConfig,
    origin: Option<ClusterId>,
    _connection: Arc<Connection>,
    link: watch::Receiver<Link>,
    complaints: broadcast::Receiver<String>,
    subscription: Option<Subscription>,
    /// How many connections there have been since the subscription was made.
    reconnected: u64,
    denied: Option<String>,
    losses: Losses,
    told: Option<SourceStatus>,
}

struct Subscription {
    messages: mpsc::Receiver<Waiting>,
    _reader: AbortOnDropHandle<()>,
}

/// A message and the room that it takes in the queue.
struct Waiting {
    message: async_nats::Message,
    _room: OwnedSemaphorePermit,
}

enum Woken {
    Link,
    Complaint(String),
    Losses,
    Message(Option<Waiting>),
}

impl Feed {
    fn new(config: CoreConfig, connection: Arc<Connection>, origin: Option<ClusterId>) -> Self {
        let mut link = connection.link();
        link.mark_changed();
        Self {
            losses: Losses::new(connection.dropped()),
            complaints: connection.complaints(),
            config,
            origin,
            _connection: connection,
            link,
            subscription: None,
            reconnected: 0,
            denied: None,
            told: None,
        }
    }

    async fn next(&mut self) -> SourceItem {
        loop {
            match self.woken().await {
                Woken::Message(Some(waiting)) => {
                    return SourceItem::Delivery(delivery(waiting.message, self.origin.clone()));
                }
                // The reader only ends with the client, which lives as long as the connection.
                Woken::Message(None) => self.subscription = None,
                Woken::Link => self.follow_link().await,
                Woken::Complaint(text) => self.hear(text),
                Woken::Losses => {}
            }
            if let Some(status) = self.news() {
                return SourceItem::Status(status);
            }
        }
    }

    /// Cancel safe: nothing is taken out before it is returned.
    async fn woken(&mut self) -> Woken {
        let messages = async {
            match &mut self.subscription {
                Some(subscription) => subscription.messages.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            Ok(()) = self.link.changed() => Woken::Link,
            Ok(text) = self.complaints.recv() => Woken::Complaint(text),
            () = self.losses.untold() => Woken::Losses,
            waiting = messages => Woken::Message(waiting),
        }
    }

    async fn follow_link(&mut self) {
        let link = self.link.borrow_and_update().clone();
        let Link::Up(client) = link else { return };
        self.denied = None;
        match self.subscription {
            // The client library subscribes again by itself.
            Some(_) => self.reconnected += 1,
            None => self.subscription = self.subscribe(&client).await,
        }
        round_trip(&client).await;
    }

    async fn subscribe(&self, client: &Client) -> Option<Subscription> {
        let mut subscribers = SelectAll::new();
        for subject in &self.config.subjects {
            let subscriber = match &self.config.queue_group {
                Some(group) => client.queue_subscribe(subject.clone(), group.clone()).await,
                None => client.subscribe(subject.clone()).await,
            };
            subscribers.push(subscriber.ok()?);
        }
        let (sender, messages) = mpsc::channel(self.config.queue_messages.max(1));
        let room = self.config.queue_bytes.clamp(1, Semaphore::MAX_PERMITS);
        let reader = read(subscribers, sender, room, self.losses.own.clone());
        Some(Subscription { messages, _reader: AbortOnDropHandle::new(tokio::spawn(reader)) })
    }

    fn hear(&mut self, complaint: String) {
        let about = |subject: &String| complaint.contains(&format!("Subscription to \"{subject}\""));
        if self.config.subjects.iter().any(about) {
            self.denied = Some(complaint);
        }
    }

    /// The status, if it is not what was told last.
    fn news(&mut self) -> Option<SourceStatus> {
        let status = self.status();
        if self.told.as_ref() == Some(&status) {
            return None;
        }
        self.told = Some(status.clone());
        Some(status)
    }

    fn status(&mut self) -> SourceStatus {
        let lost = self.losses.count();
        let not_ready = |reason: &str, message: String| SourceStatus {
            ready: false,
            reason: reason.to_owned(),
            message,
            lost,
        };
        if let Link::Down(trouble) = &*self.link.borrow() {
            return not_ready(trouble.reason, trouble.message.clone());
        }
        let subjects = self.config.subjects.join(", ");
        if let Some(complaint) = &self.denied {
            let advice = "allow this user to subscribe there, or use another user";
            return not_ready(
                "PermissionDenied",
                format!("{subjects} cannot be read: {complaint}; {advice}"),
            );
        }
        if self.subscription.is_none() {
            return not_ready("Subscribing", format!("subscribing to {subjects}"));
        }
        let mut message = format!("reading {subjects}");
        if self.reconnected > 0 {
            message += "; the connection was lost and made again: core NATS keeps nothing that was published meanwhile";
        }
        if lost > 0 {
            message += &format!(
                "; {lost} events were dropped because they came faster than they are processed; use JetStream where none may be lost"
            );
        }
        let reason = if lost > 0 { "SlowConsumer" } else { "Connected" };
        SourceStatus { ready: true, reason: reason.to_owned(), message, lost }
    }
}

/// What was dropped: by the reader for want of room, and by the client library, which cannot say for whom.
struct Losses {
    own: watch::Sender<u64>,
    library: watch::Receiver<u64>,
    library_before: u64,
    told: u64,
    tell: Instant,
}

impl Losses {
    fn new(library: watch::Receiver<u64>) -> Self {
        let library_before = *library.borrow();
        Self { own: watch::Sender::new(0), library, library_before, told: 0, tell: Instant::now() }
    }

    fn now(&self) -> u64 {
        *self.own.borrow() + self.library.borrow().saturating_sub(self.library_before)
    }

    /// The losses so far, which count as told.
    fn count(&mut self) -> u64 {
        let lost = self.now();
        if lost != self.told {
            self.told = lost;
            self.tell = Instant::now() + TELL_LOSSES;
        }
        lost
    }

    /// Until there are losses that were not told, and it is time to tell them.
    async fn untold(&mut self) {
        let mut own = self.own.subscribe();
        while self.now() == self.told {
            tokio::select! {
                Ok(()) = own.changed() => {}
                Ok(()) = self.library.changed() => {}
                else => std::future::pending().await,
            }
        }
        tokio::time::sleep_until(self.tell).await;
    }
}

/// Takes messages as they come, so that the client library never has to drop one; what finds no room is counted.
async fn read(
    mut subscribers: SelectAll<async_nats::Subscriber>,
    sender: mpsc::Sender<Waiting>,
    room: usize,
    lost: watch::Sender<u64>,
) {
    let free = Arc::new(Semaphore::new(room));
    while let Some(message) = subscribers.next().await {
        let size = u32::try_from(message.length.clamp(1, room)).unwrap_or(u32::MAX);
        let taken = Arc::clone(&free)
            .try_acquire_many_owned(size)
            .is_ok_and(|room| sender.try_send(Waiting { message, _room: room }).is_ok());
        if !taken {
            lost.send_modify(|lost| *lost += 1);
        }
    }
}

fn delivery(message: async_nats::Message, origin: Option<ClusterId>) -> Delivery {
    let headers = binding::pairs(message.headers.as_ref());
    Delivery {
        event: binding::decode_pairs(&headers, message.payload.clone()),
        origin,
        message: Arc::new(Message { subject: message.subject.to_string(), headers }),
        raw: message.payload,
        position: None,
        published: None,
        settle: Settle::nothing(),
    }
}
