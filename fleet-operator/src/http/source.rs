//! HTTP as an EventSource: what the server takes in, the engine reads.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use fleet_core::event::{DecodeError, Event};
use fleet_core::position::Position;
use fleet_core::source::{
    Delivery, EventSource, Message, Settle, SettleError, Settler, SourceError, SourceItem, SourceStatus,
};
use futures::StreamExt;
use futures::future::try_join_all;
use futures::stream::BoxStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;

use super::decode::{Incoming, decode_kept};

/// So many deliveries wait for the engine, for each EventSource. More is back-pressure.
const WAITING: usize = 1024;

/// Takes events in for all EventSources that have `http: {}`: every one of them gets every event.
#[derive(Clone)]
pub struct Intake {
    sources: Arc<Mutex<Places>>,
    second: bool,
    /// How many deliveries wait for the engine, for each EventSource.
    room: usize,
}

impl Default for Intake {
    fn default() -> Self {
        Self::of(WAITING)
    }
}

/// By whether they are the second reader's, and by name.
type Places = BTreeMap<(bool, Arc<str>), Place>;

/// Where events for an EventSource go; nowhere, or into a channel that is closed, while it is not read.
type Place = Option<mpsc::Sender<SourceItem>>;

/// What became of one delivery.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Settled {
    /// It is durable.
    Stored,
    /// It could not be taken now.
    GivenBack(Duration),
    /// It will never be taken; why.
    Refused(String),
}

/// Why an event was not even taken in.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Full {
    /// No EventSource listens to HTTP.
    NobodyListens,
    /// One that listens is not read now.
    NotReady,
    /// The engine is behind.
    Behind,
}

impl Intake {
    /// With room for so many deliveries.
    pub(super) fn of(room: usize) -> Self {
        Self { sources: Arc::default(), second: false, room }
    }

    /// How many deliveries wait to be read.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        let sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        sources.values().flatten().map(|place| place.max_capacity() - place.capacity()).sum()
    }

    /// Which EventSources there are. As long as one of them is not read, no event is taken: it would be lost for that one.
    pub fn set_sources(&self, names: &BTreeSet<Arc<str>>) {
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        sources.retain(|(second, name), _| *second != self.second || names.contains(name));
        for name in names {
            sources.entry((self.second, Arc::clone(name))).or_default();
        }
    }

    /// The EventSource of this name, which has to be one of [those that there are](Self::set_sources). Opening it again
    /// replaces the stream opened before.
    pub fn source(&self, name: impl Into<Arc<str>>) -> HttpSource {
        HttpSource { name: name.into(), intake: self.clone() }
    }

    /// For another reader with sources of its own: an event is taken once all readers' have taken it.
    pub fn second(&self) -> Self {
        Self { second: true, ..self.clone() }
    }

    /// Hands an event to every source, waiting for a place with each. The receivers tell what became of it.
    pub(super) async fn offer(
        &self,
        incoming: &Incoming,
        message: &Arc<Message>,
        patience: Duration,
    ) -> Result<Vec<oneshot::Receiver<Settled>>, Full> {
        let senders: Vec<_> = {
            let sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
            if sources.is_empty() {
                return Err(Full::NobodyListens);
            }
            sources.values().cloned().collect::<Option<_>>().ok_or(Full::NotReady)?
        };
        // A place with each source first: an event goes to all of them or to none.
        let places = try_join_all(senders.iter().map(mpsc::Sender::reserve));
        let places = timeout(patience, places).await.map_err(|_| Full::Behind)?;
        let places = places.map_err(|_| Full::NotReady)?;
        let hand_over = |place: mpsc::Permit<'_, SourceItem>| {
            let (tell, told) = oneshot::channel();
            place.send(SourceItem::Delivery(Delivery {
                event: incoming.event.clone(),
                origin: None,
                message: Arc::clone(message),
                raw: incoming.raw.clone(),
                position: None,
                published: None,
                settle: Settle::new(Requester { tell }),
            }));
            told
        };
        Ok(places.into_iter().map(hand_over).collect())
    }
}

/// An EventSource fed by the HTTP server.
pub struct HttpSource {
    name: Arc<str>,
    intake: Intake,
}

#[async_trait]
impl EventSource for HttpSource {
    fn name(&self) -> &str {
        &self.name
    }

    /// Never fails. HTTP cannot deliver again by itself, so `floors` mean nothing here.
    async fn open(&self, _floors: Vec<Position>) -> Result<BoxStream<'static, SourceItem>, SourceError> {
        let (sender, receiver) = mpsc::channel(self.intake.room);
        let status = SourceStatus {
            ready: true,
            reason: "Listening".to_owned(),
            message: "Events are taken over HTTP at /events.".to_owned(),
            lost: 0,
        };
        let mut sources = self.intake.sources.lock().unwrap_or_else(PoisonError::into_inner);
        // One that is gone meanwhile has no place any more: its stream ends at once.
        if let Some(place) = sources.get_mut(&(self.intake.second, Arc::clone(&self.name))) {
            *place = Some(sender);
        }
        let first = futures::stream::iter([SourceItem::Status(status)]);
        Ok(first.chain(ReceiverStream::new(receiver)).boxed())
    }

    fn decode(&self, message: &Message, raw: &Bytes) -> Result<Event, DecodeError> {
        decode_kept(message, raw)
    }
}

/// Tells the request that waits. Dropped, the request learns that nobody took the event.
struct Requester {
    tell: oneshot::Sender<Settled>,
}

impl Requester {
    fn tell(self, settled: Settled) -> Result<(), SettleError> {
        self.tell
            .send(settled)
            .map_err(|_| SettleError("whoever sent it did not wait for the answer".to_owned()))
    }
}

#[async_trait]
impl Settler for Requester {
    async fn ack(self: Box<Self>) -> Result<(), SettleError> {
        self.tell(Settled::Stored)
    }

    async fn give_back(self: Box<Self>, delay: Duration) -> Result<(), SettleError> {
        self.tell(Settled::GivenBack(delay))
    }

    async fn terminate(self: Box<Self>, reason: &str) -> Result<(), SettleError> {
        self.tell(Settled::Refused(reason.to_owned()))
    }

    async fn progress(&self) -> Result<(), SettleError> {
        Ok(())
    }
}
