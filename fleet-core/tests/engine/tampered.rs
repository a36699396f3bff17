//! A store that a test can make wait or fail at any call.

use std::sync::Arc;

use async_trait::async_trait;
use fleet_core::cluster::ClusterId;
use fleet_core::dead_letter::DeadLetter;
use fleet_core::memory::MemoryStore;
use fleet_core::position::{Domain, Position};
use fleet_core::store::{Revision, StoreChange, StoreError, Stored, WorkStore};
use fleet_core::work::{AppliedWork, Work, WorkId};
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use parking_lot::Mutex;

/// A call of the store, before it takes effect or after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    PutWork,
    WorkPut,
    Works,
    Applied,
    AllApplied,
    PutApplied(ClusterId),
    RaiseFloor,
}

type Hook = dyn Fn(Call) -> Option<BoxFuture<'static, Result<(), StoreError>>> + Send + Sync;

/// A store in memory, with something in between.
#[derive(Default)]
pub(crate) struct Tampered {
    pub(crate) inner: MemoryStore,
    hook: Mutex<Option<Arc<Hook>>>,
}

impl Tampered {
    /// From now on, asks before each call what is to happen; `None`: nothing.
    pub(crate) fn hook(
        &self,
        hook: impl Fn(Call) -> Option<BoxFuture<'static, Result<(), StoreError>>> + Send + Sync + 'static,
    ) {
        *self.hook.lock() = Some(Arc::new(hook));
    }

    /// The next such call fails.
    pub(crate) fn fail_once(&self, call: Call) {
        let failed = std::sync::atomic::AtomicBool::new(false);
        self.hook(move |now| {
            let fails = now == call && !failed.swap(true, std::sync::atomic::Ordering::Relaxed);
            fails.then(|| Box::pin(async { Err(StoreError::Unavailable("on purpose".to_owned())) }) as _)
        });
    }

    /// What was applied in a cluster cannot be written while the test says so.
    pub(crate) fn fail_writing_while(
        &self,
        cluster: ClusterId,
        fails: impl Fn() -> bool + Send + Sync + 'static,
    ) {
        self.hook(move |now| {
            let fails = now == Call::PutApplied(cluster.clone()) && fails();
            fails.then(|| Box::pin(async { Err(StoreError::Unavailable("on purpose".to_owned())) }) as _)
        });
    }

    /// Such calls wait until the guard is dropped.
    pub(crate) fn hold(&self, call: Call) -> Held {
        let (held, wait) = tokio::sync::watch::channel(());
        let reached = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let flag = Arc::clone(&reached);
        self.hook(move |now| {
            (now == call).then(|| {
                flag.store(true, std::sync::atomic::Ordering::Relaxed);
                let mut wait = wait.clone();
                Box::pin(async move {
                    while wait.changed().await.is_ok() {}
                    Ok(())
                }) as _
            })
        });
        Held { _held: held, reached }
    }

    async fn at(&self, call: Call) -> Result<(), StoreError> {
        let hook = self.hook.lock().clone();
        match hook.and_then(|hook| hook(call)) {
            Some(what) => what.await,
            None => Ok(()),
        }
    }
}

pub(crate) struct Held {
    _held: tokio::sync::watch::Sender<()>,
    reached: Arc<std::sync::atomic::AtomicBool>,
}

impl Held {
    pub(crate) async fn reached(&self) {
        crate::rig::until("the held call", async || self.reached.load(std::sync::atomic::Ordering::Relaxed))
            .await;
    }
}

#[async_trait]
impl WorkStore for Tampered {
    async fn next_epoch(&self, domain: &Domain) -> Result<u64, StoreError> {
        self.inner.next_epoch(domain).await
    }
    async fn work(&self, id: &WorkId) -> Result<Option<Stored<Arc<Work>>>, StoreError> {
        self.inner.work(id).await
    }
    async fn put_work(
        &self,
        work: Arc<Work>,
        expected: Option<Revision>,
        plans: Vec<AppliedWork>,
    ) -> Result<Revision, StoreError> {
        self.at(Call::PutWork).await?;
        let revision = self.inner.put_work(work, expected, plans).await?;
        self.at(Call::WorkPut).await?;
        Ok(revision)
    }
    async fn delete_work(&self, id: &WorkId, expected: Revision) -> Result<(), StoreError> {
        self.inner.delete_work(id, expected).await
    }
    async fn works<'a>(
        &self,
        trigger: Option<&'a str>,
        after: Option<&'a WorkId>,
        limit: usize,
    ) -> Result<Vec<Stored<Arc<Work>>>, StoreError> {
        self.at(Call::Works).await?;
        self.inner.works(trigger, after, limit).await
    }
    async fn applied(&self, work: &WorkId) -> Result<Vec<Stored<Arc<AppliedWork>>>, StoreError> {
        self.at(Call::Applied).await?;
        self.inner.applied(work).await
    }
    async fn applied_in(
        &self,
        work: &WorkId,
        cluster: &ClusterId,
    ) -> Result<Option<Stored<Arc<AppliedWork>>>, StoreError> {
        self.inner.applied_in(work, cluster).await
    }
    async fn all_applied<'a>(
        &self,
        after: Option<(&'a WorkId, &'a ClusterId)>,
        limit: usize,
    ) -> Result<Vec<Stored<Arc<AppliedWork>>>, StoreError> {
        self.at(Call::AllApplied).await?;
        self.inner.all_applied(after, limit).await
    }
    async fn put_applied(
        &self,
        applied: Arc<AppliedWork>,
        expected: Option<Revision>,
    ) -> Result<Revision, StoreError> {
        self.at(Call::PutApplied(applied.cluster.clone())).await?;
        self.inner.put_applied(applied, expected).await
    }
    async fn delete_applied(
        &self,
        work: &WorkId,
        cluster: &ClusterId,
        expected: Revision,
    ) -> Result<(), StoreError> {
        self.inner.delete_applied(work, cluster, expected).await
    }
    async fn floors(&self, source: &str) -> Result<Vec<Position>, StoreError> {
        self.inner.floors(source).await
    }
    async fn raise_floor(&self, source: &str, floor: &Position) -> Result<(), StoreError> {
        self.at(Call::RaiseFloor).await?;
        self.inner.raise_floor(source, floor).await
    }
    async fn add_dead_letter(&self, letter: Arc<DeadLetter>) -> Result<(), StoreError> {
        self.inner.add_dead_letter(letter).await
    }
    async fn dead_letters<'a>(
        &self,
        after: Option<&'a str>,
        limit: usize,
    ) -> Result<Vec<Arc<DeadLetter>>, StoreError> {
        self.inner.dead_letters(after, limit).await
    }
    async fn dead_letter(&self, id: &str) -> Result<Option<Arc<DeadLetter>>, StoreError> {
        self.inner.dead_letter(id).await
    }
    async fn drop_dead_letter(&self, id: &str) -> Result<bool, StoreError> {
        self.inner.drop_dead_letter(id).await
    }
    async fn watch(&self) -> Result<BoxStream<'static, StoreChange>, StoreError> {
        self.inner.watch().await
    }
}
