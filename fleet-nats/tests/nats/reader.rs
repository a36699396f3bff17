//! What the tests share: a server, events, and a reader of a source that waits with a deadline.

use std::collections::VecDeque;
use std::time::Duration;

use fleet_core::event::Event;
use fleet_core::position::{Domain, Position};
use fleet_core::source::{Delivery, EventSource, SourceItem, SourceStatus};
use fleet_nats::connection::{Auth, NatsConfig};
use futures::StreamExt;
use futures::stream::BoxStream;
use jiff::Timestamp;
use local_fleet::{Nats, NatsAccess, NatsOptions, Route};
use secrecy::SecretString;
use tempfile::TempDir;

/// Longer than anything takes, also on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A server in a folder of its own.
pub(crate) struct Server {
    pub(crate) nats: Nats,
    pub(crate) dir: TempDir,
}

impl Server {
    pub(crate) async fn start(options: NatsOptions) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let nats = Nats::start(dir.path(), &options).await.unwrap();
        Self { nats, dir }
    }

    pub(crate) async fn with_jetstream() -> Self {
        Self::start(NatsOptions::default().jetstream(true)).await
    }

    /// How to connect to it, with the right credentials.
    pub(crate) fn config(&self) -> NatsConfig {
        let config = NatsConfig::new([self.nats.url(Route::Direct)]).unwrap();
        config.auth(match self.nats.access().clone() {
            NatsAccess::UserPassword { user, password } => {
                Auth::UserPassword { user, password: SecretString::from(password) }
            }
            NatsAccess::Token(token) => Auth::Token(SecretString::from(token)),
            NatsAccess::NKey { seed, .. } => Auth::NKey(SecretString::from(seed)),
            NatsAccess::Creds { creds, .. } => Auth::Creds(SecretString::from(creds)),
            _ => Auth::None,
        })
    }

    /// A plain client, as another program has it. For servers that let everybody in.
    pub(crate) async fn client(&self) -> async_nats::Client {
        async_nats::connect(self.nats.url(Route::Direct)).await.unwrap()
    }
}

/// An event about a subject, with an id.
pub(crate) fn event(id: impl ToString) -> Event {
    Event::builder(id.to_string(), "auth.example.com", "auth.example.com.login")
        .subject("mgianluc")
        .build()
        .unwrap()
}

/// An event as the payload of a message without headers.
pub(crate) fn payload(id: impl ToString) -> bytes::Bytes {
    event(id).to_json().to_string().into()
}

/// Reads a source, keeping what was not asked for yet.
pub(crate) struct Reader {
    items: BoxStream<'static, SourceItem>,
    deliveries: VecDeque<Delivery>,
    statuses: VecDeque<SourceStatus>,
    settled: Option<Timestamp>,
    pub(crate) floors: Vec<Position>,
}

impl Reader {
    pub(crate) async fn open(source: &dyn EventSource) -> Self {
        Self::open_at(source, Vec::new()).await
    }

    pub(crate) async fn open_at(source: &dyn EventSource, floors: Vec<Position>) -> Self {
        let items = source.open(floors).await.unwrap();
        let (deliveries, statuses) = (VecDeque::new(), VecDeque::new());
        Self { items, deliveries, statuses, settled: None, floors: Vec::new() }
    }

    async fn read_one(&mut self, waiting_for: &str) {
        let Ok(item) = tokio::time::timeout(PATIENCE, self.items.next()).await else {
            panic!(
                "waited too long for {waiting_for}; there were {:#?} and {:?}",
                self.statuses, self.floors
            );
        };
        match item.expect("the source ended") {
            SourceItem::Delivery(delivery) => self.deliveries.push_back(delivery),
            SourceItem::Status(status) => self.statuses.push_back(status),
            SourceItem::Floor(floor) => self.floors.push(floor),
            SourceItem::Settled(until) => self.settled = Some(until),
            other => panic!("unexpected: {other:?}"),
        }
    }

    pub(crate) async fn delivery(&mut self) -> Delivery {
        while self.deliveries.is_empty() {
            self.read_one("a delivery").await;
        }
        self.deliveries.pop_front().unwrap()
    }

    /// The id of the next event, acknowledged.
    pub(crate) async fn acked(&mut self) -> String {
        let delivery = self.delivery().await;
        let id = delivery.event.as_ref().unwrap().id().to_owned();
        delivery.settle.ack().await.unwrap();
        id
    }

    /// The next status that is as asked for; those before it are passed over.
    pub(crate) async fn status(&mut self, what: &str, fits: impl Fn(&SourceStatus) -> bool) -> SourceStatus {
        let mut passed = Vec::new();
        loop {
            match self.statuses.pop_front() {
                Some(status) if fits(&status) => return status,
                Some(status) => passed.push(status),
                None => self.read_one(&format!("status {what} (passed over: {passed:?})")).await,
            }
        }
    }

    pub(crate) async fn reason(&mut self, reason: &str) -> SourceStatus {
        self.status(reason, |status| status.reason == reason).await
    }

    pub(crate) async fn ready(&mut self) -> SourceStatus {
        self.status("ready", |status| status.ready).await
    }

    /// Waits for a floor of the stream itself at or above a sequence, and gives all floors as a store keeps them.
    pub(crate) async fn floor(&mut self, sequence: u64) -> Vec<Position> {
        let is_there = |floors: &[Position]| {
            floors
                .iter()
                .any(|floor| !floor.domain.as_str().ends_with("/newest") && floor.sequence >= sequence)
        };
        while !is_there(&self.floors) {
            self.read_one(&format!("a floor at {sequence} (seen: {:?})", self.floors)).await;
        }
        self.stored_floors()
    }

    /// Waits for a floor of a domain at or above a sequence, and gives all floors as a store keeps them.
    pub(crate) async fn floor_in(&mut self, domain: &Domain, sequence: u64) -> Vec<Position> {
        while !self.floors.iter().any(|floor| floor.domain == *domain && floor.sequence >= sequence) {
            self.read_one(&format!("a floor of {domain:?} at {sequence} (seen: {:?})", self.floors)).await;
        }
        self.stored_floors()
    }

    /// Up to when all is settled, as the source says when it is asked.
    pub(crate) async fn settled(&mut self, source: &dyn EventSource) -> Timestamp {
        assert!(source.report_settled());
        loop {
            if let Some(until) = self.settled.take() {
                return until;
            }
            self.read_one("what is settled").await;
        }
    }

    /// The highest floor of each domain.
    pub(crate) fn stored_floors(&self) -> Vec<Position> {
        let mut stored: Vec<Position> = Vec::new();
        for floor in &self.floors {
            match stored.iter_mut().find(|known| known.domain == floor.domain) {
                Some(known) if floor.is_above(known) => *known = floor.clone(),
                Some(_) => {}
                None => stored.push(floor.clone()),
            }
        }
        stored
    }

    /// That nothing is delivered for a while. Other items are read on.
    pub(crate) async fn nothing_for(&mut self, time: Duration) {
        let quiet = async {
            while self.deliveries.is_empty() {
                self.read_one("quiet").await;
            }
        };
        if tokio::time::timeout(time, quiet).await.is_ok() {
            panic!("unexpected delivery: {:?}", self.deliveries);
        }
    }
}
