//! Which Applier an object goes through: by how its cluster is reached.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use fleet_core::apply::{Applier, ApplyRequest, Drift, Outcome, RemoveRequest};
use fleet_core::cluster::ClusterId;
use fleet_core::directory::DirectoryApplier;
use fleet_kube::applier::KubeApplier;
use fleet_kube::clusters::{Clusters, Route};
use fleet_kube::connection::{ClusterDefinition, Connection};
use fleet_kube::leader::Tenure;
use futures::stream::BoxStream;

/// Applies to folders and to API servers alike.
pub(super) struct Routed {
    clusters: Arc<Clusters>,
    folders: DirectoryApplier,
    servers: KubeApplier,
    /// Whether there is, or was, a cluster that is no folder.
    any_server: AtomicBool,
    /// While this does not hold any more, another operator may be at work.
    tenure: Option<Tenure>,
}

/// When somebody who leads no more might try again; the process ends before.
const LEADS_NO_MORE: Duration = Duration::from_secs(1);

impl Routed {
    pub(super) fn new(clusters: Arc<Clusters>, folders: DirectoryApplier, tenure: Option<Tenure>) -> Self {
        let servers = KubeApplier::new(Arc::clone(&clusters));
        Self { clusters, folders, servers, any_server: AtomicBool::new(false), tenure }
    }

    /// Takes note of how clusters are reached, before anything is applied to them.
    pub(super) fn note(&self, clusters: &[ClusterDefinition]) {
        if clusters.iter().any(|cluster| !matches!(cluster.connection, Connection::Directory)) {
            self.any_server.store(true, Ordering::Release);
        }
    }

    /// What is answered in place of acting, by a process that was frozen and does not lead any more.
    fn refusal(&self, objects: usize) -> Option<Vec<Outcome>> {
        let leads = self.tenure.as_ref().is_none_or(Tenure::holds);
        let reason = "this operator does not lead any more".to_owned();
        let outcome = Outcome::Retry { after: LEADS_NO_MORE, reason, cluster: true };
        (!leads).then(|| vec![outcome; objects])
    }

    fn applier(&self, cluster: &ClusterId) -> &dyn Applier {
        match self.clusters.route(cluster) {
            Route::Directory => &self.folders,
            // A folder that left is still there, so that it can be cleaned.
            Route::Unknown if self.folders.has(cluster) => &self.folders,
            _ => &self.servers,
        }
    }
}

#[async_trait]
impl Applier for Routed {
    async fn apply(&self, request: ApplyRequest) -> Vec<Outcome> {
        if let Some(refusal) = self.refusal(request.manifests.len()) {
            return refusal;
        }
        self.applier(&request.cluster.id).apply(request).await
    }

    async fn remove(&self, request: RemoveRequest) -> Vec<Outcome> {
        if let Some(refusal) = self.refusal(request.items.len()) {
            return refusal;
        }
        self.applier(&request.cluster.id).remove(request).await
    }

    fn settle_time(&self) -> Duration {
        let servers =
            if self.any_server.load(Ordering::Acquire) { self.servers.settle_time() } else { Duration::ZERO };
        servers.max(self.folders.settle_time())
    }

    fn drift(&self, cluster: &ClusterId) -> BoxStream<'static, Drift> {
        self.applier(cluster).drift(cluster)
    }
}
