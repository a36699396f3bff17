//! The objects of one cluster as an EventSource.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use fleet_core::cluster::ClusterId;
use fleet_core::position::Position;
use fleet_core::source::{EventSource, SourceError, SourceItem};
use futures::StreamExt;
use futures::stream::BoxStream;

use super::again::Again;
use super::reading::Reading;
use super::selection::Selection;
use super::shared::KindWatches;

/// The objects of one cluster that a [`Selection`] chooses. Its definition has to say that it
/// [tells states](fleet_core::catalog::Tells::States).
pub struct ObjectSource {
    name: Arc<str>,
    feed: String,
    cluster: ClusterId,
    selection: Arc<Selection>,
    watches: Arc<KindWatches>,
    again: Arc<Again>,
}

impl fmt::Debug for ObjectSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectSource").field("feed", &self.feed).finish_non_exhaustive()
    }
}

impl ObjectSource {
    /// What an EventSource reads in a cluster. Needs a tokio runtime when it is opened.
    pub fn new(
        name: impl Into<Arc<str>>,
        cluster: ClusterId,
        selection: Arc<Selection>,
        watches: Arc<KindWatches>,
    ) -> Self {
        let name = name.into();
        let feed = format!("{name}/{cluster}");
        Self { name, feed, cluster, selection, watches, again: Arc::default() }
    }
}

#[async_trait]
impl EventSource for ObjectSource {
    fn name(&self) -> &str {
        &self.name
    }

    fn feed(&self) -> &str {
        &self.feed
    }

    fn origin(&self) -> Option<ClusterId> {
        Some(self.cluster.clone())
    }

    async fn open(&self, _floors: Vec<Position>) -> Result<BoxStream<'static, SourceItem>, SourceError> {
        if !self.watches.has_api_server(&self.cluster) {
            let reason = "the cluster is a folder, and nothing in one is an event".to_owned();
            return Err(SourceError { reason });
        }
        let reading = Reading::new(
            self.cluster.clone(),
            Arc::clone(&self.selection),
            Arc::clone(&self.watches),
            Arc::clone(&self.again),
        );
        let items = futures::stream::unfold(reading, |mut reading| async move {
            let item = reading.next().await;
            Some((item, reading))
        });
        Ok(items.boxed())
    }

    fn tell_again(&self) {
        self.again.now();
    }
}
