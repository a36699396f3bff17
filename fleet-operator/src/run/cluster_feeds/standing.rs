//! Feeds that say something.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use fleet_core::cluster::ClusterId;
use fleet_core::event::{DecodeError, Event};
use fleet_core::position::Position;
use fleet_core::source::{EventSource, Message, SourceError, SourceItem, SourceStatus};
use fleet_nats::binding;
use fleet_nats::connection::NAME_NOT_RESOLVED;
use futures::StreamExt;
use futures::stream::{self, BoxStream};

/// A feed that delivers nothing, and says why.
pub(super) struct Standing {
    pub(super) name: Arc<str>,
    pub(super) feed: String,
    pub(super) origin: ClusterId,
    pub(super) status: SourceStatus,
    /// Whether there may be messages in its place that nobody reads.
    pub(super) unread: bool,
}

#[async_trait]
impl EventSource for Standing {
    fn name(&self) -> &str {
        &self.name
    }

    fn feed(&self) -> &str {
        &self.feed
    }

    fn origin(&self) -> Option<ClusterId> {
        Some(self.origin.clone())
    }

    async fn open(&self, _floors: Vec<Position>) -> Result<BoxStream<'static, SourceItem>, SourceError> {
        let status = SourceItem::Status(self.status.clone());
        Ok(stream::once(async { status }).chain(stream::pending()).boxed())
    }

    fn report_settled(&self) -> bool {
        self.unread
    }

    fn decode(&self, message: &Message, raw: &Bytes) -> Result<Event, DecodeError> {
        binding::decode_pairs(&message.headers, raw.clone())
    }
}

/// A feed whose name of a server may be one that only the cluster knows: then it says what to do.
pub(super) struct Advised {
    source: Arc<dyn EventSource>,
    advice: Arc<str>,
}

impl Advised {
    pub(super) fn new(source: Arc<dyn EventSource>, advice: String) -> Self {
        Self { source, advice: advice.into() }
    }
}

#[async_trait]
impl EventSource for Advised {
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
        let advice = Arc::clone(&self.advice);
        let advise = move |item| match item {
            SourceItem::Status(mut status) if status.reason == NAME_NOT_RESOLVED => {
                status.message += &format!("; {advice}");
                SourceItem::Status(status)
            }
            item => item,
        };
        Ok(self.source.open(floors).await?.map(advise).boxed())
    }

    fn report_settled(&self) -> bool {
        self.source.report_settled()
    }

    fn decode(&self, message: &Message, raw: &Bytes) -> Result<Event, DecodeError> {
        self.source.decode(message, raw)
    }
}
