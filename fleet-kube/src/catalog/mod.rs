//! The Catalog of a management cluster: definitions from the Kubernetes API, and conditions written back.
//!
//! One task owns all watches and everything that they told (`index`); it publishes [`Definitions`] when all of them
//! are complete. Another writes statuses (`status`). The API server may go away at any time: what was read last holds.
//!
//! # Permissions
//! Of `eventsources`, `eventtriggers` and `clusters` in group `fleet-events.dev`: list, watch; `clusters`: patch (for the
//! label with the version); their `/status`: patch. ConfigMaps and Secrets are listed and watched only in namespaces
//! that a trigger, an EventSource or a Cluster refers to, so a Role in each of those is enough; a namespace that may not
//! be read is a problem of those who refer to it, and of nobody else.

mod index;
mod scope;
mod status;
mod watching;

use std::sync::Arc;

use async_trait::async_trait;
use fleet_core::catalog::{Catalog, CatalogError, CatalogSnapshot, Condition, Subject};
use fleet_core::cluster::ClusterId;
use futures::stream::{self, BoxStream, StreamExt};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::definitions::{Definitions, Kind, ObjectId};
pub use scope::WATCH;
use status::{Reports, Verdict};
use watching::Watching;

/// Definitions in a management cluster.
///
/// Dropping it ends its tasks.
pub struct KubeCatalog {
    definitions: watch::Receiver<Option<Arc<Definitions>>>,
    health: watch::Receiver<CatalogHealth>,
    reports: Arc<Reports>,
    stop: CancellationToken,
    tasks: [AbortOnDropHandle<()>; 2],
}

/// How the catalog itself is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CatalogHealth {
    /// Whether everything was read once.
    pub loaded: bool,
    /// What keeps definitions from being read now, each a sentence that says what to do. While there is any, what was
    /// read last holds.
    pub troubles: Vec<String>,
}

impl KubeCatalog {
    /// Starts to watch the cluster that the client talks to. Needs a tokio runtime.
    ///
    /// Watches end by themselves after [`WATCH`]. The client should have a read timeout a little above that, so that a
    /// connection that died without a word is noticed.
    pub fn start(client: kube::Client) -> Self {
        let (publish, definitions) = watch::channel(None);
        let (tell, health) = watch::channel(CatalogHealth::default());
        let reports = Arc::new(Reports::default());
        let stop = CancellationToken::new();
        let watching = Watching::new(client.clone(), publish, tell, Arc::clone(&reports));
        let tasks = [
            AbortOnDropHandle::new(tokio::spawn(watching.run(stop.clone()))),
            AbortOnDropHandle::new(tokio::spawn(status::write(client, Arc::clone(&reports), stop.clone()))),
        ];
        Self { definitions, health, reports, stop, tasks }
    }

    /// The definitions: none until everything was read once, then always the last good ones.
    pub fn definitions(&self) -> watch::Receiver<Option<Arc<Definitions>>> {
        self.definitions.clone()
    }

    /// How the catalog itself is doing, for readiness and for whoever waits.
    pub fn health(&self) -> watch::Receiver<CatalogHealth> {
        self.health.clone()
    }

    /// Takes word on how a managed cluster is doing, to show it in the status of its `Cluster` object, and its version
    /// of Kubernetes in a label. Does not block. Without a version the last one stays.
    pub fn report_cluster(
        &self,
        id: &ClusterId,
        ready: bool,
        version: Option<&str>,
        reason: &str,
        message: impl Into<String>,
    ) {
        let verdict = Verdict {
            ready,
            // It is tried again, whatever it is.
            stalled: false,
            reason: reason.to_owned(),
            message: message.into(),
            version: version.map(str::to_owned),
        };
        self.reports.report(ObjectId::namespaced(Kind::Cluster, id.namespace(), id.name()), verdict);
    }

    /// Stops watching and writing, and waits until that is done.
    pub async fn stop(self) {
        self.stop.cancel();
        for task in self.tasks {
            // A task that panicked has ended too.
            let _ = task.await;
        }
    }
}

#[async_trait]
impl Catalog for KubeCatalog {
    async fn subscribe(&self) -> Result<BoxStream<'static, Arc<CatalogSnapshot>>, CatalogError> {
        let mut definitions = self.definitions.clone();
        definitions.mark_changed();
        let snapshots = stream::unfold(definitions, |mut definitions| async move {
            loop {
                definitions.changed().await.ok()?;
                let snapshot =
                    definitions.borrow_and_update().as_ref().map(|read| Arc::new(read.catalog.clone()));
                if let Some(snapshot) = snapshot {
                    return Some((snapshot, definitions));
                }
            }
        });
        Ok(snapshots.boxed())
    }

    fn report(&self, subject: &Subject, condition: Condition) {
        let Condition { ready, reason, message } = condition;
        let (id, stalled) = match subject {
            // A source tries again by itself; a trigger waits for somebody to change something.
            Subject::Source(name) => (ObjectId::cluster_scoped(Kind::EventSource, name), false),
            Subject::Trigger(name) => (ObjectId::cluster_scoped(Kind::EventTrigger, name), !ready),
            other => {
                tracing::debug!(subject = ?other, "there is no object to show this condition on");
                return;
            }
        };
        self.reports.report(id, Verdict { ready, stalled, reason, message, version: None });
    }
}
