//! A WorkStore in memory.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::broadcast;

use crate::cluster::ClusterId;
use crate::dead_letter::DeadLetter;
use crate::position::{Domain, Position};
use crate::store::{Revision, StoreChange, StoreError, Stored, WorkStore};
use crate::work::{AppliedWork, Work, WorkId};

/// How many parts the records are spread over, so that writers on several cores rarely meet.
const SHARDS: usize = 64;
/// How many changes a watcher may be behind before it is told to look at everything.
const WATCH_BUFFER: usize = 1024;

/// A WorkStore in memory. Nothing in it survives the process; otherwise it keeps the whole contract.
#[derive(Debug)]
pub struct MemoryStore {
    records: Arc<Records>,
    /// Tells this handle from others on the same records.
    handle: u64,
}

/// What all handles share.
#[derive(Debug)]
struct Records {
    shards: Vec<Mutex<Shard>>,
    rest: Mutex<Rest>,
    revisions: AtomicU64,
    handles: AtomicU64,
    /// Which Work was changed, and through which handle.
    changes: broadcast::Sender<(WorkId, u64)>,
}

type Applied = Vec<(Arc<AppliedWork>, u64)>;

#[derive(Debug, Default)]
struct Shard {
    works: HashMap<WorkId, (Arc<Work>, u64)>,
    /// The ids of `works`, for listing.
    ids: BTreeSet<WorkId>,
    applied: BTreeMap<WorkId, Applied>,
}

#[derive(Debug, Default)]
struct Rest {
    epochs: BTreeMap<Domain, u64>,
    floors: BTreeMap<String, Vec<Position>>,
    letters: BTreeMap<String, Arc<DeadLetter>>,
}

impl Default for MemoryStore {
    fn default() -> Self {
        let records = Records {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            rest: Mutex::default(),
            revisions: AtomicU64::new(1),
            handles: AtomicU64::new(1),
            changes: broadcast::Sender::new(WATCH_BUFFER),
        };
        Self { records: Arc::new(records), handle: 0 }
    }
}

impl MemoryStore {
    /// Another handle on the same records, as another operator on the same store would have it.
    pub fn another_handle(&self) -> Self {
        let handle = self.records.handles.fetch_add(1, Ordering::Relaxed);
        Self { records: Arc::clone(&self.records), handle }
    }

    fn shard(&self, id: &WorkId) -> &Mutex<Shard> {
        // There are SHARDS of them.
        #[allow(clippy::indexing_slicing)]
        &self.records.shards[id.shard(SHARDS)]
    }

    fn rest(&self) -> MutexGuard<'_, Rest> {
        self.records.rest.lock()
    }

    fn next_revision(&self) -> u64 {
        self.records.revisions.fetch_add(1, Ordering::Relaxed)
    }

    fn changed(&self, id: WorkId) {
        // Nobody has to watch.
        let _ = self.records.changes.send((id, self.handle));
    }
}

fn check(
    what: impl std::fmt::Display,
    found: Option<u64>,
    expected: Option<&Revision>,
) -> Result<(), StoreError> {
    if found.map(Revision::Counted).as_ref() == expected {
        Ok(())
    } else {
        Err(StoreError::Conflict(what.to_string()))
    }
}

fn stored<T>(value: &(Arc<T>, u64)) -> Stored<Arc<T>> {
    Stored { value: Arc::clone(&value.0), revision: Revision::Counted(value.1) }
}

#[async_trait]
impl WorkStore for MemoryStore {
    async fn next_epoch(&self, domain: &Domain) -> Result<u64, StoreError> {
        let mut rest = self.rest();
        let epoch = rest.epochs.entry(domain.clone()).or_default();
        *epoch += 1;
        Ok(*epoch)
    }

    async fn work(&self, id: &WorkId) -> Result<Option<Stored<Arc<Work>>>, StoreError> {
        Ok(self.shard(id).lock().works.get(id).map(stored))
    }

    async fn put_work(
        &self,
        work: Arc<Work>,
        expected: Option<Revision>,
        plans: Vec<AppliedWork>,
    ) -> Result<Revision, StoreError> {
        let id = work.id.clone();
        let revision = self.next_revision();
        {
            let mut shard = self.shard(&id).lock();
            check(&id, shard.works.get(&id).map(|(_, revision)| *revision), expected.as_ref())?;
            if shard.works.insert(id.clone(), (work, revision)).is_none() {
                shard.ids.insert(id.clone());
            }
            if !plans.is_empty() {
                let applied = shard.applied.entry(id.clone()).or_default();
                for plan in plans {
                    if applied.iter().all(|(there, _)| there.cluster != plan.cluster) {
                        let place = applied.partition_point(|(there, _)| there.cluster < plan.cluster);
                        applied.insert(place, (Arc::new(plan), revision));
                    }
                }
            }
        }
        self.changed(id);
        Ok(Revision::Counted(revision))
    }

    async fn delete_work(&self, id: &WorkId, expected: Revision) -> Result<(), StoreError> {
        let mut shard = self.shard(id).lock();
        check(id, shard.works.get(id).map(|(_, revision)| *revision), Some(&expected))?;
        shard.works.remove(id);
        shard.ids.remove(id);
        drop(shard);
        self.changed(id.clone());
        Ok(())
    }

    async fn works<'a>(
        &self,
        trigger: Option<&'a str>,
        after: Option<&'a WorkId>,
        limit: usize,
    ) -> Result<Vec<Stored<Arc<Work>>>, StoreError> {
        // All parts at once, so that a page costs what it holds and not that times the number of parts.
        let shards: Vec<_> = self.records.shards.iter().map(Mutex::lock).collect();
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let parts = shards.iter().map(|shard| {
            let ids = shard.ids.range::<WorkId, _>((start, Bound::Unbounded));
            let works = ids.filter_map(|id| shard.works.get_key_value(id));
            works.filter(|(_, (work, _))| trigger.is_none_or(|trigger| *work.trigger == *trigger)).peekable()
        });
        let mut parts: Vec<_> = parts.collect();
        let mut next: BTreeSet<_> =
            parts.iter_mut().enumerate().filter_map(|(part, works)| Some((works.peek()?.0, part))).collect();
        let mut page = Vec::new();
        while page.len() < limit
            && let Some((_, part)) = next.pop_first()
        {
            let Some(works) = parts.get_mut(part) else { continue };
            page.extend(works.next().map(|(_, work)| stored(work)));
            next.extend(works.peek().map(|(id, _)| (*id, part)));
        }
        Ok(page)
    }

    async fn applied(&self, work: &WorkId) -> Result<Vec<Stored<Arc<AppliedWork>>>, StoreError> {
        let shard = self.shard(work).lock();
        Ok(shard.applied.get(work).map(|applied| applied.iter().map(stored).collect()).unwrap_or_default())
    }

    async fn applied_in(
        &self,
        work: &WorkId,
        cluster: &ClusterId,
    ) -> Result<Option<Stored<Arc<AppliedWork>>>, StoreError> {
        let shard = self.shard(work).lock();
        let found =
            shard.applied.get(work).and_then(|all| all.iter().find(|(one, _)| one.cluster == *cluster));
        Ok(found.map(stored))
    }

    async fn all_applied<'a>(
        &self,
        after: Option<(&'a WorkId, &'a ClusterId)>,
        limit: usize,
    ) -> Result<Vec<Stored<Arc<AppliedWork>>>, StoreError> {
        let start = after.map_or(Bound::Unbounded, |(work, _)| Bound::Included(work));
        let mut found: Vec<_> = Vec::new();
        for shard in &self.records.shards {
            let shard = shard.lock();
            let records = shard.applied.range::<WorkId, _>((start, Bound::Unbounded));
            // A page of each part is enough for a page of all.
            let later = |(one, _): &&(Arc<AppliedWork>, u64)| {
                after.is_none_or(|after| (&one.work, &one.cluster) > after)
            };
            found.extend(records.flat_map(|(_, all)| all.iter().filter(later)).take(limit).map(stored));
        }
        found.sort_by(|a, b| (&a.value.work, &a.value.cluster).cmp(&(&b.value.work, &b.value.cluster)));
        found.truncate(limit);
        Ok(found)
    }

    async fn put_applied(
        &self,
        applied: Arc<AppliedWork>,
        expected: Option<Revision>,
    ) -> Result<Revision, StoreError> {
        let revision = self.next_revision();
        let mut shard = self.shard(&applied.work).lock();
        let all = shard.applied.entry(applied.work.clone()).or_default();
        let there = all.iter_mut().find(|(one, _)| one.cluster == applied.cluster);
        check(
            format_args!("{} in {}", applied.work, applied.cluster),
            there.as_ref().map(|(_, revision)| *revision),
            expected.as_ref(),
        )?;
        match there {
            Some(there) => *there = (applied, revision),
            None => {
                let place = all.partition_point(|(one, _)| one.cluster < applied.cluster);
                all.insert(place, (applied, revision));
            }
        }
        Ok(Revision::Counted(revision))
    }

    async fn delete_applied(
        &self,
        work: &WorkId,
        cluster: &ClusterId,
        expected: Revision,
    ) -> Result<(), StoreError> {
        let mut shard = self.shard(work).lock();
        let Some(all) = shard.applied.get_mut(work) else {
            return Err(StoreError::Conflict(format!("{work} in {cluster}")));
        };
        let found = all.iter().find(|(one, _)| one.cluster == *cluster).map(|(_, revision)| *revision);
        check(format_args!("{work} in {cluster}"), found, Some(&expected))?;
        all.retain(|(one, _)| one.cluster != *cluster);
        if all.is_empty() {
            shard.applied.remove(work);
        }
        Ok(())
    }

    async fn floors(&self, source: &str) -> Result<Vec<Position>, StoreError> {
        Ok(self.rest().floors.get(source).cloned().unwrap_or_default())
    }

    async fn raise_floor(&self, source: &str, floor: &Position) -> Result<(), StoreError> {
        let mut rest = self.rest();
        let floors = rest.floors.entry(source.to_owned()).or_default();
        match floors.iter_mut().find(|there| there.domain == floor.domain) {
            Some(there) if floor.is_above(there) => *there = floor.clone(),
            Some(_) => {}
            None => floors.push(floor.clone()),
        }
        Ok(())
    }

    async fn add_dead_letter(&self, letter: Arc<DeadLetter>) -> Result<(), StoreError> {
        self.rest().letters.insert(letter.id.clone(), letter);
        Ok(())
    }

    async fn dead_letters<'a>(
        &self,
        after: Option<&'a str>,
        limit: usize,
    ) -> Result<Vec<Arc<DeadLetter>>, StoreError> {
        let rest = self.rest();
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        Ok(rest
            .letters
            .range::<str, _>((start, Bound::Unbounded))
            .take(limit)
            .map(|(_, it)| Arc::clone(it))
            .collect())
    }

    async fn dead_letter(&self, id: &str) -> Result<Option<Arc<DeadLetter>>, StoreError> {
        Ok(self.rest().letters.get(id).cloned())
    }

    async fn drop_dead_letter(&self, id: &str) -> Result<bool, StoreError> {
        Ok(self.rest().letters.remove(id).is_some())
    }

    async fn watch(&self) -> Result<BoxStream<'static, StoreChange>, StoreError> {
        let watcher = (self.records.changes.subscribe(), self.handle);
        let changes = futures::stream::unfold(watcher, |(mut changes, own)| async move {
            loop {
                match changes.recv().await {
                    Ok((_, writer)) if writer == own => {}
                    Ok((id, _)) => return Some((StoreChange::Work(id), (changes, own))),
                    Err(broadcast::error::RecvError::Lagged(_)) => {
                        return Some((StoreChange::Many, (changes, own)));
                    }
                    Err(broadcast::error::RecvError::Closed) => return None,
                }
            }
        });
        Ok(changes.boxed())
    }
}
