//! An applier that takes its time.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use fleet_core::apply::{Applier, ApplyRequest, Outcome, RemoveRequest};
use fleet_core::cluster::ClusterId;
use fleet_core::manifest::Gvk;
use fleet_core::memory::MemoryApplier;
use fleet_core::observe::{Depth, Observation};
use futures::stream::BoxStream;
use tokio::sync::Semaphore;

pub(crate) struct Slow {
    inner: Arc<MemoryApplier>,
    takes: Duration,
    turns: Semaphore,
}

impl Slow {
    /// Each call takes so long.
    pub(crate) fn new(inner: &Arc<MemoryApplier>, takes: Duration) -> Self {
        Self { inner: Arc::clone(inner), takes, turns: Semaphore::new(Semaphore::MAX_PERMITS) }
    }

    /// The same, one call after the other.
    pub(crate) fn one_by_one(inner: &Arc<MemoryApplier>, takes: Duration) -> Self {
        Self { turns: Semaphore::new(1), ..Self::new(inner, takes) }
    }
}

#[async_trait]
impl Applier for Slow {
    async fn apply(&self, request: ApplyRequest) -> Vec<Outcome> {
        let _turn = self.turns.acquire().await.unwrap();
        tokio::time::sleep(self.takes).await;
        self.inner.apply(request).await
    }

    async fn remove(&self, request: RemoveRequest) -> Vec<Outcome> {
        self.inner.remove(request).await
    }

    fn settle_time(&self) -> Duration {
        Duration::ZERO
    }

    fn observe(&self, cluster: &ClusterId, kind: &Gvk, depth: Depth) -> BoxStream<'static, Observation> {
        self.inner.observe(cluster, kind, depth)
    }
}
