//! An event source in memory, fed by the program itself.

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use crate::cluster::ClusterId;
use crate::event::Event;
use crate::position::Position;
use crate::source::{Delivery, EventSource, Settle, Settled, SourceError, SourceItem};

/// How many events may wait before [`MemorySource::send`] waits.
const BUFFER: usize = 1024;

/// An event source in memory: what is [sent](Self::send) to it is delivered once, and not again if it is given back.
#[derive(Debug)]
pub struct MemorySource {
    name: String,
    sender: mpsc::Sender<Delivery>,
    receiver: Mutex<Option<mpsc::Receiver<Delivery>>>,
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
        let raw = Bytes::from(event.to_json().to_string());
        // Nobody has to wait for it.
        let settle = Settle::tell(move |settled| drop(settler.send(settled)));
        let delivery = Delivery { origin, ..Delivery::new(Ok(event), raw, settle) };
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
