//! An event source in memory, fed by the program itself.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use crate::cluster::ClusterId;
use crate::event::Event;
use crate::position::Position;
use crate::source::{Delivery, EventSource, Message, Settle, SettleError, Settler, SourceError, SourceItem};

/// How many events may wait before [`MemorySource::send`] waits.
const BUFFER: usize = 1024;

/// An event source in memory: what is [sent](Self::send) to it is delivered once, and not again if it is given back.
#[derive(Debug)]
pub struct MemorySource {
    name: String,
    sender: mpsc::Sender<Delivery>,
    receiver: Mutex<Option<mpsc::Receiver<Delivery>>>,
}

/// How a delivery ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settled {
    /// The event is durable, or needs no Work.
    Acked,
    /// It was given back: nothing was stored.
    GivenBack,
    /// It was refused, for this reason.
    Terminated(String),
    /// It was dropped unsettled.
    Dropped,
}

impl MemorySource {
    /// A source of this name.
    pub fn new(name: impl Into<String>) -> Self {
        let (sender, receiver) = mpsc::channel(BUFFER);
        Self { name: name.into(), sender, receiver: Mutex::new(Some(receiver)) }
    }

    /// Delivers an event, waiting while too many wait, and returns a future that tells how it was settled.
    pub async fn send(&self, event: Event) -> impl Future<Output = Settled> + Send + use<> {
        self.send_from(event, None).await
    }

    /// The same for an event that came from a cluster.
    pub async fn send_from(
        &self,
        event: Event,
        origin: Option<ClusterId>,
    ) -> impl Future<Output = Settled> + Send + use<> {
        let (settler, settled) = oneshot::channel();
        let delivery = Delivery {
            raw: Bytes::from(event.to_json().to_string()),
            event: Ok(event),
            origin,
            message: Arc::new(Message::default()),
            position: None,
            published: None::<Timestamp>,
            settle: Settle::new(Once(settler)),
        };
        // The receiver lives as long as the source; a closed stream drops the delivery, and the future says so.
        let _ = self.sender.send(delivery).await;
        async move { settled.await.unwrap_or(Settled::Dropped) }
    }
}

#[async_trait]
impl EventSource for MemorySource {
    fn name(&self) -> &str {
        &self.name
    }

    async fn open(&self, _floors: Vec<Position>) -> Result<BoxStream<'static, SourceItem>, SourceError> {
        let Some(receiver) = self.receiver.lock().take() else {
            return Err(SourceError {
                reason: format!("{} is open already; a memory source opens once", self.name),
            });
        };
        let items = futures::stream::unfold(receiver, |mut receiver| async move {
            receiver.recv().await.map(|delivery| (SourceItem::Delivery(delivery), receiver))
        });
        Ok(items.boxed())
    }
}

struct Once(oneshot::Sender<Settled>);

impl Once {
    fn settle(self, settled: Settled) -> Result<(), SettleError> {
        self.0.send(settled).map_err(|_| SettleError("nobody waits for the settlement".to_owned()))
    }
}

#[async_trait]
impl Settler for Once {
    async fn ack(self: Box<Self>) -> Result<(), SettleError> {
        self.settle(Settled::Acked)
    }
    async fn give_back(self: Box<Self>, _delay: Duration) -> Result<(), SettleError> {
        self.settle(Settled::GivenBack)
    }
    async fn terminate(self: Box<Self>, reason: &str) -> Result<(), SettleError> {
        self.settle(Settled::Terminated(reason.to_owned()))
    }
    async fn progress(&self) -> Result<(), SettleError> {
        Ok(())
    }
}
