//! What one agent hands on of an EventSource, as a feed of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use fleet_core::cluster::ClusterId;
use fleet_core::event::{DecodeError, Event};
use fleet_core::position::{Domain, Position};
use fleet_core::source::{
    Delivery, EventSource, Message, Settle, SettleError, Settler, SourceError, SourceItem, SourceStatus,
};
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use jiff::Timestamp;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};

use super::inbox::{Next, Origin};
use super::{DEADLINE, Decode, Place, Shared};
use crate::agent::relayed_path_in;
use crate::api::RelayedEvent;
use crate::client::{Call, Failure, Patience};

/// When an event that was dropped unsettled is delivered again.
const AGAIN: Duration = Duration::from_secs(1);

/// What the agent of a cluster hands on of an EventSource.
pub struct RelayedFeed {
    shared: Arc<Shared>,
    place: Place,
    cluster: ClusterId,
    feed: String,
    decode: Decode,
    bell: Arc<Notify>,
}

impl RelayedFeed {
    pub(super) fn new(shared: Arc<Shared>, source: &str, cluster: &ClusterId, decode: Decode) -> Self {
        let place = (cluster.namespace().to_owned(), source.to_owned());
        let feed = Self::name_of(source, cluster);
        let bell = Arc::clone(shared.lock().bells.entry(place.clone()).or_default());
        Self { shared, place, cluster: cluster.clone(), feed, decode, bell }
    }

    /// What the feed is called.
    pub fn name_of(source: &str, cluster: &ClusterId) -> String {
        format!("{source}/{cluster}/by its agent")
    }
}

#[async_trait]
impl EventSource for RelayedFeed {
    fn name(&self) -> &str {
        &self.place.1
    }

    fn feed(&self) -> &str {
        &self.feed
    }

    fn origin(&self) -> Option<ClusterId> {
        Some(self.cluster.clone())
    }

    async fn open(&self, floors: Vec<Position>) -> Result<BoxStream<'static, SourceItem>, SourceError> {
        let status = SourceStatus {
            ready: true,
            reason: "ReadByAgents".to_owned(),
            message: "its agent reads it, and hands on what concerns other clusters".to_owned(),
            lost: 0,
        };
        let reading = Reading {
            shared: Arc::clone(&self.shared),
            place: self.place.clone(),
            cluster: self.cluster.clone(),
            decode: Arc::clone(&self.decode),
            bell: Arc::clone(&self.bell),
            told: floors.into_iter().map(|floor| (floor.domain.clone(), floor)).collect(),
        };
        let first = stream::once(async { SourceItem::Status(status) });
        let items = stream::unfold(reading, |mut reading| async move {
            let item = reading.next().await;
            Some((item, reading))
        });
        Ok(first.chain(items).boxed())
    }

    fn report_settled(&self) -> bool {
        if let Some(inbox) = self.shared.lock().boxes.get_mut(&self.place) {
            inbox.asked = true;
        }
        self.bell.notify_waiters();
        // What the agent did not read yet may still come.
        true
    }

    fn decode(&self, message: &Message, raw: &Bytes) -> Result<Event, DecodeError> {
        (self.decode)(message, raw)
    }
}

struct Reading {
    shared: Arc<Shared>,
    place: Place,
    cluster: ClusterId,
    decode: Decode,
    bell: Arc<Notify>,
    /// The floors that were told, by domain.
    told: BTreeMap<Domain, Position>,
}

impl Reading {
    async fn next(&mut self) -> SourceItem {
        let mut patience = Patience::default();
        loop {
            let shared = Arc::clone(&self.shared);
            // What is told from here on is not missed.
            let bell = Arc::clone(&self.bell);
            let news = bell.notified();
            match self.look() {
                Next::Deliver { name, uid, position } => {
                    // Made first: whatever happens, dropping it gives the event back.
                    let settler = Settling { shared, place: self.place.clone(), name, uid, settled: false };
                    match self.fetch(&settler).await {
                        Ok(Some(Fetched { message, raw, published })) => {
                            return SourceItem::Delivery(Delivery {
                                event: (self.decode)(&message, &raw),
                                origin: Some(self.cluster.clone()),
                                message: Arc::new(message),
                                raw,
                                position: Some(position),
                                published,
                                settle: Settle::new(settler),
                            });
                        }
                        // Somebody deleted it; the watch will tell.
                        Ok(None) => settler.finish(),
                        Err(failure) => {
                            tracing::debug!(
                                namespace = self.place.0,
                                "what an agent handed on cannot be read: {failure}"
                            );
                            sleep(patience.next().unwrap_or(AGAIN)).await;
                        }
                    }
                }
                Next::Floor(floor) => {
                    self.told.insert(floor.domain.clone(), floor.clone());
                    return SourceItem::Floor(floor);
                }
                Next::Settled(until) => return SourceItem::Settled(until),
                Next::Wait(Some(at)) => tokio::select! {
                    () = news => {}
                    () = sleep_until(at) => {}
                },
                Next::Wait(None) => news.await,
            }
        }
    }

    fn look(&self) -> Next {
        let mut state = self.shared.lock();
        if !state.loaded {
            return Next::Wait(None);
        }
        let of = Origin { cluster: &self.cluster, source: &self.place.1 };
        state.boxes.get_mut(&self.place).map_or(Next::Wait(None), |inbox| inbox.next(&of, &self.told))
    }

    /// What is in an object; nothing if it is not there any more.
    async fn fetch(&self, of: &Settling) -> Result<Option<Fetched>, Failure> {
        let path = format!("{}/{}", relayed_path_in(&self.place.0), of.name);
        let answer = match self.shared.client.call(Call::get(path), Instant::now() + DEADLINE).await {
            Ok(answer) => answer,
            Err(Failure::NotFound { .. }) => return Ok(None),
            Err(failure) => return Err(failure),
        };
        let object = serde_json::from_slice::<RelayedEvent>(&answer).ok();
        let object = object.filter(|object| object.metadata.uid.as_deref() == Some(&*of.uid));
        let Some(event) = object.and_then(|object| object.spec.event) else { return Ok(None) };
        let headers = event.message.headers.into_iter().map(|header| (header.name, header.value));
        let message = Message { subject: event.message.subject, headers: headers.collect() };
        // What is no base64 is no event either.
        let raw = Bytes::from(STANDARD.decode(&event.body.0).unwrap_or_default());
        Ok(Some(Fetched { message, raw, published: event.published.parse().ok() }))
    }
}

/// What is in an object.
struct Fetched {
    message: Message,
    raw: Bytes,
    published: Option<Timestamp>,
}

/// Has an object deleted once its event is durable.
struct Settling {
    shared: Arc<Shared>,
    place: Place,
    name: String,
    uid: String,
    settled: bool,
}

impl Settling {
    fn finish(mut self) {
        self.settled = true;
        if let Some(inbox) = self.shared.lock().boxes.get_mut(&self.place) {
            inbox.done(&self.name, &self.uid);
        }
        self.shared.news.notify_waiters();
    }

    fn again(&self, delay: Duration) {
        let mut state = self.shared.lock();
        if let Some(inbox) = state.boxes.get_mut(&self.place) {
            inbox.again(&self.name, &self.uid, Instant::now() + delay);
        }
        state.ring(&self.place);
    }
}

impl Drop for Settling {
    fn drop(&mut self) {
        if !self.settled {
            self.again(AGAIN);
        }
    }
}

#[async_trait]
impl Settler for Settling {
    async fn ack(self: Box<Self>) -> Result<(), SettleError> {
        self.finish();
        Ok(())
    }

    async fn give_back(mut self: Box<Self>, delay: Duration) -> Result<(), SettleError> {
        self.settled = true;
        self.again(delay);
        Ok(())
    }

    async fn terminate(self: Box<Self>, _reason: &str) -> Result<(), SettleError> {
        self.finish();
        Ok(())
    }

    async fn progress(&self) -> Result<(), SettleError> {
        Ok(())
    }
}
