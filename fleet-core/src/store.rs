//! The WorkStore: the one record that must be durable before an acknowledgement.

use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::BoxStream;

use crate::cluster::ClusterId;
use crate::dead_letter::DeadLetter;
use crate::position::{Domain, Position};
use crate::work::{AppliedWork, Work, WorkId};

/// Keeps Works, what was applied for them, floors, epochs and dead letters.
///
/// # Contract
/// * When a call returns `Ok`, what it wrote survives a crash of the process and of the machine (memory excepted, which
///   says so). When it returns an error or is cancelled, it may or may not have been written: read again.
/// * Every record has a revision that changes with each write. A write names the revision it expects, and MUST fail
///   with [`StoreError::Conflict`] where another one is there: two operators by mistake cannot overwrite each other.
/// * Reads see all writes that returned through the same handle before they began. What others wrote is seen at the
///   latest once [`watch`](Self::watch) has told of it; after a [`StoreError::Conflict`] the record is read anew.
///   Floors and epochs are always read as they are.
/// * Records come back exactly as they were written.
/// * A floor is never lowered.
/// * What a call reads or writes is bounded by its arguments: pages have a limit.
///
/// # Example
/// How the engine changes a record: read, decide, write what was read, and begin anew where somebody was faster.
///
/// ```
/// use std::sync::Arc;
///
/// use fleet_core::store::{StoreError, WorkStore};
/// use fleet_core::work::WorkId;
///
/// async fn touch(store: &dyn WorkStore, id: &WorkId) -> Result<(), StoreError> {
///     loop {
///         let Some(stored) = store.work(id).await? else { return Ok(()) };
///         let mut work = (*stored.value).clone();
///         work.generation += 1;
///         match store.put_work(Arc::new(work), Some(stored.revision), Vec::new()).await {
///             Err(error) if error.is_conflict() => continue,
///             written => return written.map(drop),
///         }
///     }
/// }
/// ```
#[cfg_attr(any(test, feature = "testing"), mockall::automock)]
#[async_trait]
pub trait WorkStore: Send + Sync + 'static {
    /// Hands out the next epoch of a domain, from 1. Each call gives a higher one, also after a restart.
    async fn next_epoch(&self, domain: &Domain) -> Result<u64, StoreError>;

    /// One Work.
    async fn work(&self, id: &WorkId) -> Result<Option<Stored<Arc<Work>>>, StoreError>;

    /// Writes a Work if its revision is `expected` (`None`: if there is none yet), and with it `plans`: an AppliedWork
    /// for each cluster where none is stored yet. A plan for which one is stored already is left out. A store that
    /// cannot write several records in one step writes the Work first.
    async fn put_work(
        &self,
        work: Arc<Work>,
        expected: Option<Revision>,
        plans: Vec<AppliedWork>,
    ) -> Result<Revision, StoreError>;

    /// Drops a Work for good, positions included.
    async fn delete_work(&self, id: &WorkId, expected: Revision) -> Result<(), StoreError>;

    /// A page of Works in the order of their ids, those of one trigger or all, after an id.
    async fn works<'a>(
        &self,
        trigger: Option<&'a str>,
        after: Option<&'a WorkId>,
        limit: usize,
    ) -> Result<Vec<Stored<Arc<Work>>>, StoreError>;

    /// What was done for a Work, in every cluster.
    async fn applied(&self, work: &WorkId) -> Result<Vec<Stored<Arc<AppliedWork>>>, StoreError>;

    /// What was done for a Work in one cluster.
    async fn applied_in(
        &self,
        work: &WorkId,
        cluster: &ClusterId,
    ) -> Result<Option<Stored<Arc<AppliedWork>>>, StoreError>;

    /// A page of what was done for any Work, in a stable order by Work and cluster, after a place in it. What belongs
    /// to a Work that is gone is among it.
    async fn all_applied<'a>(
        &self,
        after: Option<(&'a WorkId, &'a ClusterId)>,
        limit: usize,
    ) -> Result<Vec<Stored<Arc<AppliedWork>>>, StoreError>;

    /// Writes what was done for a Work in a cluster.
    async fn put_applied(
        &self,
        applied: Arc<AppliedWork>,
        expected: Option<Revision>,
    ) -> Result<Revision, StoreError>;

    /// Forgets what was done for a Work in a cluster: nothing is there any more.
    async fn delete_applied(
        &self,
        work: &WorkId,
        cluster: &ClusterId,
        expected: Revision,
    ) -> Result<(), StoreError>;

    /// The floors of an EventSource, one a domain.
    async fn floors(&self, source: &str) -> Result<Vec<Position>, StoreError>;

    /// Raises a floor; one that is not above the stored floor is ignored.
    async fn raise_floor(&self, source: &str, floor: &Position) -> Result<(), StoreError>;

    /// Keeps what never became Work. A letter with the same id is replaced.
    async fn add_dead_letter(&self, letter: Arc<DeadLetter>) -> Result<(), StoreError>;

    /// A page of dead letters in the order of their ids (that is, of time), after an id.
    async fn dead_letters<'a>(
        &self,
        after: Option<&'a str>,
        limit: usize,
    ) -> Result<Vec<Arc<DeadLetter>>, StoreError>;

    /// One dead letter.
    async fn dead_letter(&self, id: &str) -> Result<Option<Arc<DeadLetter>>, StoreError>;

    /// Drops a dead letter; whether there was one.
    async fn drop_dead_letter(&self, id: &str) -> Result<bool, StoreError>;

    /// Tells which Works others change, from now on. What is written through this handle may be left out. A reader that
    /// falls behind gets [`StoreChange::Many`]. A store that has one writer only never tells anything.
    async fn watch(&self) -> Result<BoxStream<'static, StoreChange>, StoreError>;
}

/// A record and its revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored<T> {
    /// The record.
    pub value: T,
    /// The revision it has.
    pub revision: Revision,
}

/// The revision of a record: opaque, compared for equality only.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Revision {
    /// A number that the store counts.
    Counted(u64),
    /// A text that the store was given by somebody else, as Kubernetes' resourceVersion.
    Text(Arc<str>),
}

/// What changed in a store.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreChange {
    /// This Work was written or deleted.
    Work(WorkId),
    /// Changes were missed: look at everything.
    Many,
}

/// Why a call of a store failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Another revision is stored than the one expected: read it again and decide anew.
    #[error("{0} was changed by somebody else meanwhile")]
    Conflict(String),
    /// The store cannot be reached or written now; trying again may help.
    #[error("the store cannot be used now: {0}")]
    Unavailable(String),
    /// What is stored cannot be understood; trying again does not help.
    #[error("the store holds something unreadable: {0}")]
    Corrupt(String),
}

impl StoreError {
    /// Whether somebody else was faster.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Conflict(_))
    }

    /// Whether the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Conflict(_) | Self::Unavailable(_))
    }
}
