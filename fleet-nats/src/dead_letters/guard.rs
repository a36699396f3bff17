//! A source that is not read before its dead letters can be kept.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use fleet_core::cluster::ClusterId;
use fleet_core::event::{DecodeError, Event};
use fleet_core::position::Position;
use fleet_core::source::{EventSource, Message, SourceError, SourceItem, SourceStatus};
use futures::stream::{self, BoxStream, StreamExt};

use super::JetStreamLetters;
use crate::backoff::Backoff;
use crate::connection::Trouble;

/// A source together with the place of its dead letters. It is read only once the letters can be kept; until then its
/// status says why not, and it is looked at again and again.
pub struct Guarded {
    source: Arc<dyn EventSource>,
    letters: Arc<JetStreamLetters>,
}

impl Guarded {
    /// This source, whose letters are kept there.
    pub fn new(source: Arc<dyn EventSource>, letters: Arc<JetStreamLetters>) -> Self {
        Self { source, letters }
    }
}

impl std::fmt::Debug for Guarded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guarded").field("source", &self.source.name()).finish_non_exhaustive()
    }
}

#[async_trait]
impl EventSource for Guarded {
    fn name(&self) -> &str {
        self.source.name()
    }

    fn feed(&self) -> &str {
        self.source.feed()
    }

    fn origin(&self) -> Option<ClusterId> {
        self.source.origin()
    }

    async fn open(&self, floors: Vec<Position>) -> Result<BoxStream<'static, SourceItem>, SourceError> {
        // Opened, but not polled: nothing is read of it yet.
        let items = self.source.open(floors).await?;
        let checking =
            Checking { letters: Arc::clone(&self.letters), backoff: Backoff::default(), told: None };
        let troubles = stream::unfold(checking, |mut checking| async {
            let trouble = checking.next().await?;
            Some((SourceItem::Status(trouble), checking))
        });
        Ok(troubles.chain(items).boxed())
    }

    fn report_settled(&self) -> bool {
        self.source.report_settled()
    }

    fn decode(&self, message: &Message, raw: &Bytes) -> Result<Event, DecodeError> {
        self.source.decode(message, raw)
    }
}

struct Checking {
    letters: Arc<JetStreamLetters>,
    backoff: Backoff,
    told: Option<Trouble>,
}

impl Checking {
    /// What else keeps letters from being kept; `None` once nothing does.
    async fn next(&mut self) -> Option<SourceStatus> {
        loop {
            if self.told.is_some() {
                tokio::time::sleep(self.backoff.next()).await;
            }
            let trouble = self.letters.prepare().await.err()?;
            if self.told.as_ref() != Some(&trouble) {
                let message =
                    format!("nothing is read, for dead letters could not be kept: {}", trouble.message);
                let status =
                    SourceStatus { ready: false, reason: trouble.reason.to_owned(), message, lost: 0 };
                self.told = Some(trouble);
                return Some(status);
            }
        }
    }
}
