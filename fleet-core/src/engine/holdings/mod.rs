//! What Works have in clusters, by object: an index over all inventories, so that what is seen in a cluster can be told
//! from what is expected there without reading the store.
//!
//! It follows the records: it is filled from them at the start, and told of each one that is written.

mod books;
mod sights;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard, RwLock};
use tokio::time::Instant;

pub use self::sights::Stray;
pub(super) use self::sights::{Met, Sight};

use crate::cluster::ClusterId;
use crate::health::Health;
use crate::manifest::{Gvk, ObjectRef};
use crate::work::{AppliedWork, Local, WorkId};

/// Repairs within such a time count together.
const MINUTE: Duration = Duration::from_secs(60);
/// Whoever changes nothing for so long after a pause is forgiven.
const QUIET: Duration = Duration::from_secs(1200);

/// What Works have in all clusters.
#[derive(Debug, Default)]
pub(super) struct Holdings {
    clusters: RwLock<HashMap<ClusterId, Arc<Mutex<InCluster>>>>,
    /// By Work, what it has in the management cluster for other clusters: its name, and where it is.
    local: RwLock<HashMap<WorkId, BTreeSet<(WorkId, ClusterId)>>>,
    /// Whether all records were taken in that were there at the start.
    loaded: AtomicBool,
}

#[derive(Debug, Default)]
struct InCluster {
    objects: HashMap<Key, Held>,
    works: HashMap<WorkId, OfWork>,
    /// The Works by the number of their mark.
    marks: HashMap<u64, WorkId>,
    kinds: HashMap<KindKey, OfKind>,
    /// What is for this cluster, also where that is in the management cluster.
    triggers: HashMap<Arc<str>, Tally>,
    /// Who wants an object that another Work has.
    wanted: HashMap<Key, BTreeSet<WorkId>>,
    /// To whom an object is being left.
    handed: HashMap<Key, WorkId>,
    strays: sights::Strays,
}

/// Names an object, in whichever version of its API.
#[derive(Clone, Debug)]
pub(super) struct Key(pub(super) ObjectRef);

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.0.same_object(&other.0)
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.name.hash(state);
        self.0.namespace.hash(state);
        self.0.gvk.kind.hash(state);
    }
}

/// Names a kind, in whichever version.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct KindKey {
    group: Arc<str>,
    kind: Arc<str>,
}

impl KindKey {
    pub(super) fn of(gvk: &Gvk) -> Self {
        Self { group: Arc::clone(&gvk.group), kind: Arc::clone(&gvk.kind) }
    }

    fn covers(&self, object: &ObjectRef) -> bool {
        self.kind == object.gvk.kind && self.group == object.gvk.group
    }
}

/// An object that a Work has, or may come to have.
#[derive(Debug)]
struct Held {
    work: WorkId,
    uid: Option<Arc<str>>,
    print: Option<Arc<str>>,
    version: Option<Arc<str>>,
    /// When that was taken in; `None` at the start of this process.
    at: Option<Instant>,
    /// How it is doing, as last seen, and which version that was.
    health: Option<(Option<Arc<str>>, Health)>,
    /// What was seen that is not as expected, until somebody looks.
    sight: Option<Sight>,
    /// Kept only for what was ever repaired.
    contest: Option<Box<Contest>>,
}

#[derive(Debug)]
struct OfWork {
    trigger: Arc<str>,
    /// What it is, if it is local.
    local: Option<Arc<Local>>,
    objects: Vec<Key>,
    /// Objects that another Work has.
    blocked: Vec<Key>,
    /// Whether all is there and healthy.
    ready: bool,
    /// Whether it turned out to be doing otherwise since its record was last taken in, or somebody began to look.
    news: bool,
    /// Objects with its mark that it does not know of.
    orphans: Vec<(ObjectRef, Arc<str>)>,
}

#[derive(Debug)]
struct OfKind {
    gvk: Gvk,
    objects: usize,
}

/// What became of the readiness of a Work.
#[derive(Clone, Copy, Debug)]
struct Turn {
    /// Whether it was ready; `None` if it was not there.
    was: Option<bool>,
    /// The same now.
    is: Option<bool>,
}

/// The Works of one trigger in one cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Tally {
    works: usize,
    ready: usize,
}

impl Tally {
    fn is_ready(self) -> bool {
        self.works > 0 && self.ready == self.works
    }
}

/// How often an object was repaired lately.
#[derive(Debug, Default)]
struct Contest {
    repairs: VecDeque<Instant>,
    /// How often in a row that was too often, and when last.
    pauses: u32,
    paused: Option<Instant>,
}

impl Contest {
    fn repair(&mut self, most: usize) -> Option<u32> {
        let now = Instant::now();
        if self.paused.is_some_and(|last| now.duration_since(last) >= QUIET) {
            *self = Self::default();
        }
        while self.repairs.front().is_some_and(|at| now.duration_since(*at) >= MINUTE) {
            self.repairs.pop_front();
        }
        // Who went on after a pause gets no second chance.
        if self.paused.is_none() && self.repairs.len() < most {
            self.repairs.push_back(now);
            return None;
        }
        self.paused = Some(now);
        self.pauses = self.pauses.saturating_add(1);
        Some(self.pauses - 1)
    }
}

/// What follows from a record.
#[derive(Debug, Default)]
#[must_use]
pub(super) struct Effects {
    /// Kinds that are there for the first time.
    pub(super) kinds: Vec<Gvk>,
    /// Works that have lost an object to this one, or may have it now.
    pub(super) concerned: Vec<WorkId>,
    /// All Works of the trigger are healthy there from now on (`true`), or not any more.
    pub(super) turned: Option<bool>,
    /// Nothing is left there of the trigger.
    pub(super) last_of_trigger: bool,
}

impl Holdings {
    fn find(&self, cluster: &ClusterId) -> Option<Arc<Mutex<InCluster>>> {
        self.clusters.read().get(cluster).cloned()
    }

    fn cluster(&self, cluster: &ClusterId) -> Arc<Mutex<InCluster>> {
        if let Some(found) = self.find(cluster) {
            return found;
        }
        Arc::clone(self.clusters.write().entry(cluster.clone()).or_default())
    }

    /// Takes in a record as it is stored, or is about to be.
    pub(super) fn take_in(&self, record: &AppliedWork, trigger: &Arc<str>) -> Effects {
        let cluster = self.cluster(&record.cluster);
        let mut cluster = cluster.lock();
        let (effects, turn) = cluster.take_in(record, trigger, Some(Instant::now()));
        self.count(cluster, effects, turn, record, trigger)
    }

    /// Counts for the cluster that a record is for.
    fn count(
        &self,
        mut there: MutexGuard<'_, InCluster>,
        mut effects: Effects,
        turn: Turn,
        record: &AppliedWork,
        trigger: &Arc<str>,
    ) -> Effects {
        match &record.local {
            None => there.count(trigger, turn, &mut effects),
            Some(local) => {
                drop(there);
                self.note_local(local, &record.cluster);
                self.cluster(&local.cluster).lock().count(trigger, turn, &mut effects);
            }
        }
        effects
    }

    fn note_local(&self, local: &Local, there: &ClusterId) {
        let place = (local.id(), there.clone());
        if !self.local.read().get(&local.work).is_some_and(|known| known.contains(&place)) {
            self.local.write().entry(local.work.clone()).or_default().insert(place);
        }
    }

    /// What a Work has in the management cluster for other clusters: the name of each, and where it is.
    pub(super) fn local_of(&self, work: &WorkId) -> Vec<(WorkId, ClusterId)> {
        self.local.read().get(work).into_iter().flatten().cloned().collect()
    }

    /// Whether a Work has anything in the management cluster for other clusters.
    pub(super) fn has_local(&self, work: &WorkId) -> bool {
        self.local.read().contains_key(work)
    }

    /// What something is that is known by its name, if it is local.
    pub(super) fn local(&self, work: &WorkId, cluster: &ClusterId) -> Option<Arc<Local>> {
        self.find(cluster)?.lock().works.get(work)?.local.clone()
    }

    /// The same for a record that was there at the start, unless a later one is known already.
    pub(super) fn load(&self, record: &AppliedWork, trigger: &Arc<str>) {
        let cluster = self.cluster(&record.cluster);
        let mut cluster = cluster.lock();
        if !cluster.works.contains_key(&record.work) {
            let (effects, turn) = cluster.take_in(record, trigger, None);
            // Everything is looked at anyway after the start.
            let _ = self.count(cluster, effects, turn, record, trigger);
        }
    }

    /// All records were taken in. Returns the kinds that are there.
    pub(super) fn end_of_load(&self) -> Vec<(ClusterId, Gvk)> {
        self.loaded.store(true, Ordering::Release);
        let clusters: Vec<_> = self.clusters.read().keys().cloned().collect();
        let kinds = |id: ClusterId| self.kinds(&id).into_iter().map(move |gvk| (id.clone(), gvk));
        clusters.into_iter().flat_map(kinds).collect()
    }

    pub(super) fn is_loaded(&self) -> bool {
        self.loaded.load(Ordering::Acquire)
    }

    /// The kinds of which anything is in a cluster.
    pub(super) fn kinds(&self, cluster: &ClusterId) -> Vec<Gvk> {
        let found = self.find(cluster);
        found
            .map(|found| found.lock().kinds.values().map(|kind| kind.gvk.clone()).collect())
            .unwrap_or_default()
    }

    /// Whether anything of a kind is in a cluster.
    pub(super) fn has_kind(&self, cluster: &ClusterId, kind: &KindKey) -> bool {
        self.find(cluster).is_some_and(|found| found.lock().kinds.contains_key(kind))
    }

    /// Whether no Work has anything in a cluster, or for it in the management cluster.
    pub(super) fn is_empty(&self, cluster: &ClusterId) -> bool {
        let is_empty = |found: &InCluster| found.works.is_empty() && found.triggers.is_empty();
        self.find(cluster).is_none_or(|found| is_empty(&found.lock()))
    }

    /// The record of a Work in a cluster is gone.
    pub(super) fn forget(&self, work: &WorkId, cluster: &ClusterId) -> Effects {
        let Some(found) = self.find(cluster) else { return Effects::default() };
        let mut found = found.lock();
        let Some((mut effects, OfWork { trigger, local, ready, .. })) = found.forget(work) else {
            return Effects::default();
        };
        let turn = Turn { was: Some(ready), is: None };
        let Some(local) = local else {
            found.count(&trigger, turn, &mut effects);
            return effects;
        };
        drop(found);
        self.cluster(&local.cluster).lock().count(&trigger, turn, &mut effects);
        let mut all = self.local.write();
        if let Some(places) = all.get_mut(&local.work) {
            places.retain(|(id, there)| id != work || there != cluster);
            if places.is_empty() {
                all.remove(&local.work);
            }
        }
        effects
    }

    /// How a Work is doing in a cluster; `None` while that was not seen.
    pub(super) fn health(&self, work: &WorkId, cluster: &ClusterId) -> Option<Health> {
        self.find(cluster)?.lock().health(work)
    }

    /// Whether a trigger has Works in a cluster, and all of them are healthy.
    pub(super) fn is_ready(&self, trigger: &str, cluster: &ClusterId) -> bool {
        let tally = |found: Arc<Mutex<InCluster>>| found.lock().triggers.get(trigger).copied();
        self.find(cluster).and_then(tally).is_some_and(Tally::is_ready)
    }

    /// Whether a trigger has anything in a cluster.
    pub(super) fn has_in(&self, trigger: &str, cluster: &ClusterId) -> bool {
        self.find(cluster).is_some_and(|found| found.lock().triggers.contains_key(trigger))
    }

    /// Whether a trigger has anything anywhere.
    pub(super) fn has_trigger(&self, trigger: &str) -> bool {
        self.clusters.read().values().any(|cluster| cluster.lock().triggers.contains_key(trigger))
    }

    /// The Work with this mark, if it has anything in a cluster, and its trigger.
    pub(super) fn by_mark(&self, mark: &str, cluster: &ClusterId) -> Option<(WorkId, Arc<str>)> {
        let found = self.find(cluster)?;
        let found = found.lock();
        let id = found.by_mark(mark)?;
        Some((id.clone(), Arc::clone(&found.works.get(id)?.trigger)))
    }

    /// The Work that has an object for certain.
    pub(super) fn holder(&self, object: &ObjectRef, cluster: &ClusterId) -> Option<WorkId> {
        let found = self.find(cluster)?;
        let found = found.lock();
        let held = found.objects.get(&Key(object.clone()))?;
        held.uid.as_ref().map(|_| held.work.clone())
    }

    /// Leaves an object to whoever waits for it: the one that `rank` ranks lowest. Returns that one.
    pub(super) fn hand_over(
        &self,
        object: &ObjectRef,
        (work, cluster): (&WorkId, &ClusterId),
        rank: impl Fn(&str) -> u32,
    ) -> Option<WorkId> {
        let found = self.find(cluster)?;
        let mut found = found.lock();
        let key = Key(object.clone());
        let waiting = found.wanted.get(&key)?.iter().filter(|waiting| *waiting != work);
        let ranked = waiting.filter_map(|id| Some((rank(&found.works.get(id)?.trigger), id)));
        let heir = ranked.min()?.1.clone();
        found.handed.insert(key, heir.clone());
        Some(heir)
    }

    /// Whether an object is being left to a Work.
    pub(super) fn is_handed_to(&self, object: &ObjectRef, (work, cluster): (&WorkId, &ClusterId)) -> bool {
        self.find(cluster).is_some_and(|found| found.lock().handed.get(&Key(object.clone())) == Some(work))
    }

    /// Counts a repair of an object. If it is to be left alone for a pause instead: for the how manieth time in a row,
    /// from 0.
    pub(super) fn repair(&self, object: &ObjectRef, cluster: &ClusterId, most: usize) -> Option<u32> {
        let found = self.find(cluster)?;
        let mut found = found.lock();
        let held = found.objects.get_mut(&Key(object.clone()))?;
        held.contest.get_or_insert_default().repair(most.max(1))
    }
}
