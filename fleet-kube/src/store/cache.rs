//! What is known of the stored records, so that reads cost nothing: own writes at once, others' as the watches tell.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::ops::{Bound, RangeBounds as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fleet_core::cluster::ClusterId;
use fleet_core::store::Stored;
use fleet_core::work::{AppliedWork, WorkId};
use tokio::sync::broadcast;

use super::record::{Place, PlannedWork, Record, Version};
use super::status::Statuses;

/// How many changes a reader of [`watch`](fleet_core::store::WorkStore::watch) may be behind.
const TOLD: usize = 1024;

/// All records, whom to tell of others' changes, and whose status is to be written.
pub(super) struct Cache {
    pub(super) works: Mutex<Table<PlannedWork>>,
    pub(super) applied: Mutex<Table<AppliedWork>>,
    pub(super) changes: broadcast::Sender<Place>,
    pub(super) statuses: Statuses,
}

impl Default for Cache {
    fn default() -> Self {
        Self {
            works: Mutex::default(),
            applied: Mutex::default(),
            changes: broadcast::Sender::new(TOLD),
            statuses: Statuses::default(),
        }
    }
}

impl Cache {
    pub(super) fn lock<R: Record>(&self) -> MutexGuard<'_, Table<R>> {
        R::table(self).lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was done for a Work in a cluster, or else is planned.
    pub(super) fn applied_in(&self, work: &WorkId, cluster: &ClusterId) -> Option<Stored<Arc<AppliedWork>>> {
        // Both, and always in this order: a plan is taken out of its Work only while its AppliedWork is there.
        let (works, applied) = (self.lock::<PlannedWork>(), self.lock::<AppliedWork>());
        if let Some((applied, version)) = applied.get(&Place::in_cluster(work, cluster)) {
            return Some(stored(applied, version));
        }
        let (planned, version) = works.get(&Place::of_work(work))?;
        planned.plan(cluster).map(|plan| plan.stored(version))
    }

    /// What was done or is planned for Works, from a place on, in order, as long as `wanted` says.
    pub(super) fn applied(
        &self,
        from: Bound<&Place>,
        limit: usize,
        wanted: impl Fn(&Place) -> bool,
    ) -> Vec<Stored<Arc<AppliedWork>>> {
        let (works, applied) = (self.lock::<PlannedWork>(), self.lock::<AppliedWork>());
        let objects = applied.range(from).take_while(|(place, ..)| wanted(place));
        let objects = objects.map(|(place, applied, version)| (place.clone(), stored(applied, version)));
        let of_work = match from {
            Bound::Included(place) | Bound::Excluded(place) => Bound::Included(Place::of_work(&place.work)),
            Bound::Unbounded => Bound::Unbounded,
        };
        let plans = works
            .range(of_work.as_ref())
            .take_while(|(place, ..)| wanted(place))
            .flat_map(|(_, planned, version)| planned.plans.iter().map(move |plan| (plan, version)))
            .map(|(plan, version)| (plan.applied.place(), plan.stored(version)))
            .filter(|(place, _)| (from, Bound::Unbounded).contains(place) && applied.get(place).is_none());
        // The first of both together are among the first of each.
        let both: BTreeMap<_, _> = objects.take(limit).chain(plans.take(limit)).collect();
        both.into_values().take(limit).collect()
    }

    /// Has the status written of the Work that a record is of.
    fn mark(&self, place: &Place) {
        if place.cluster.is_none() {
            return self.statuses.mark(&place.work);
        }
        let local = {
            let applied = self.lock::<AppliedWork>();
            applied.get(place).map(|(record, _)| record.local.as_ref().map(|local| local.work.clone()))
        };
        match local {
            Some(Some(work)) => self.statuses.note_local(place, work),
            Some(None) => self.statuses.mark(&place.work),
            // Gone: what it was is remembered.
            None => self.statuses.forget(place),
        }
    }

    /// What was done for a Work, also what is local.
    pub(super) fn applied_of(&self, work: &WorkId) -> Vec<Arc<AppliedWork>> {
        let place = Place::of_work(work);
        let own = self.applied(Bound::Included(&place), usize::MAX, |place| place.work == *work);
        let mut all: Vec<_> = own.into_iter().map(|stored| stored.value).collect();
        let local = self.statuses.local_of(work);
        let applied = self.lock::<AppliedWork>();
        all.extend(local.iter().filter_map(|place| applied.get(place)).map(|(record, _)| Arc::clone(record)));
        all
    }

    /// Passes on what a change came to.
    pub(super) fn follow(&self, place: &Place, effect: Effect) {
        if effect.changed {
            self.mark(place);
        }
        if effect.by_others {
            // Nobody has to watch.
            let _ = self.changes.send(place.clone());
        }
    }

    /// Begins a write of our own.
    pub(super) fn begin<R: Record>(&self, place: Place) -> OwnWrite<'_, R> {
        self.lock::<R>().underway.entry(place.clone()).or_default().writers += 1;
        OwnWrite { cache: self, place, settled: false, kind: std::marker::PhantomData }
    }
}

/// What a change came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Effect {
    /// A record is another one, or gone, or new.
    pub(super) changed: bool,
    /// And it was not us.
    pub(super) by_others: bool,
}

/// A write under way. Dropped before its end is known, it leaves the record in doubt: the next to read it asks the API
/// server.
pub(super) struct OwnWrite<'a, R: Record> {
    cache: &'a Cache,
    place: Place,
    settled: bool,
    kind: std::marker::PhantomData<R>,
}

impl<R: Record> OwnWrite<'_, R> {
    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// It was written.
    pub(super) fn wrote(mut self, record: Arc<R>, version: Version) {
        self.settled = true;
        let effect = self.cache.lock::<R>().wrote(&self.place, record, version);
        self.cache.follow(&self.place, effect);
    }

    /// It was deleted.
    pub(super) fn deleted(mut self, uid: &Arc<str>) {
        self.settled = true;
        let effect = self.cache.lock::<R>().deleted(&self.place, uid);
        self.cache.follow(&self.place, effect);
    }

    /// It certainly had no effect, or what is there was read since.
    pub(super) fn had_no_effect(mut self) {
        self.settled = true;
    }
}

impl<R: Record> Drop for OwnWrite<'_, R> {
    fn drop(&mut self) {
        let effect = {
            let mut table = self.cache.lock::<R>();
            if !self.settled {
                table.doubt(&self.place);
            }
            table.end(&self.place)
        };
        self.cache.follow(&self.place, effect);
    }
}

/// The records of one kind.
pub(super) struct Table<R> {
    rows: BTreeMap<Place, Row<R>>,
    /// Counts what happens here: tells which of two things came first.
    clock: u64,
    /// What we deleted and no watch told of yet, by UID, and when: an older event must not bring it back.
    deleted: HashMap<Arc<str>, u64>,
    underway: HashMap<Place, Underway>,
    /// Records of which it is not known what a write of ours did, and since when. As many as keys at most, and each
    /// only until it is read or listed again.
    doubts: BTreeMap<Place, u64>,
    /// When the list began that is being read.
    listing: u64,
}

struct Row<R> {
    record: Arc<R>,
    version: Version,
    /// When it was last seen to be there.
    seen: u64,
}

/// Our writes of one record that are under way.
#[derive(Default)]
struct Underway {
    writers: usize,
    /// What was heard meanwhile; it may be the echo of ours.
    heard: Vec<Heard>,
    ours: Vec<Heard>,
}

#[derive(Clone, PartialEq, Eq)]
enum Heard {
    Written(u64),
    Deleted(Arc<str>),
}

impl<R> Default for Table<R> {
    fn default() -> Self {
        Self {
            rows: BTreeMap::new(),
            clock: 0,
            deleted: HashMap::new(),
            underway: HashMap::new(),
            doubts: BTreeMap::new(),
            listing: 0,
        }
    }
}

impl<R: Record> Table<R> {
    /// The time now, for [`fetched`](Self::fetched).
    pub(super) fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    pub(super) fn get(&self, place: &Place) -> Option<(&Arc<R>, &Version)> {
        self.rows.get(place).map(|row| (&row.record, &row.version))
    }

    pub(super) fn is_doubtful(&self, place: &Place) -> bool {
        self.doubts.contains_key(place)
    }

    /// The doubtful records of a Work.
    pub(super) fn doubts_of(&self, work: &WorkId) -> Vec<Place> {
        let from = Place::of_work(work);
        self.doubts.range(from..).map(|(place, _)| place).take_while(|it| it.work == *work).cloned().collect()
    }

    /// The records from a place on, in order.
    pub(super) fn range(&self, from: Bound<&Place>) -> impl Iterator<Item = (&Place, &Arc<R>, &Version)> {
        let rows = self.rows.range::<Place, _>((from, Bound::Unbounded));
        rows.map(|(place, row)| (place, &row.record, &row.version))
    }

    fn wrote(&mut self, place: &Place, record: Arc<R>, version: Version) -> Effect {
        let seen = self.tick();
        if let Some(underway) = self.underway.get_mut(place) {
            underway.ours.push(Heard::Written(version.resource));
        }
        match self.rows.get_mut(place) {
            // Somebody wrote after us, and a watch told of it before we had our answer.
            Some(row) if row.version.resource > version.resource => row.seen = seen,
            _ => {
                self.rows.insert(place.clone(), Row { record, version, seen });
            }
        }
        Effect { changed: true, by_others: false }
    }

    fn deleted(&mut self, place: &Place, uid: &Arc<str>) -> Effect {
        let now = self.tick();
        let heard = Heard::Deleted(Arc::clone(uid));
        let mut told = false;
        if let Some(underway) = self.underway.get_mut(place) {
            told = underway.heard.contains(&heard);
            underway.ours.push(heard);
        }
        if !told {
            self.deleted.insert(Arc::clone(uid), now);
        }
        if self.rows.get(place).is_some_and(|row| row.version.uid == *uid) {
            self.rows.remove(place);
        }
        Effect { changed: true, by_others: false }
    }

    fn doubt(&mut self, place: &Place) {
        let now = self.tick();
        self.doubts.insert(place.clone(), now);
    }

    /// A write of ours is over. What others did meanwhile is told only now.
    fn end(&mut self, place: &Place) -> Effect {
        let Some(underway) = self.underway.get_mut(place) else { return Effect::default() };
        underway.writers = underway.writers.saturating_sub(1);
        if underway.writers > 0 {
            return Effect::default();
        }
        let by_others = underway.heard.iter().any(|heard| !underway.ours.contains(heard));
        self.underway.remove(place);
        Effect { changed: false, by_others }
    }

    /// Something changed that we did not do, as far as we know yet.
    fn heard(&mut self, place: &Place, what: Heard) -> Effect {
        let by_others = match self.underway.get_mut(place) {
            Some(underway) => {
                underway.heard.push(what);
                false
            }
            None => true,
        };
        Effect { changed: true, by_others }
    }

    /// Whether `version` is news. If so, the record has to be read and [`put`](Self::put).
    pub(super) fn is_news(&mut self, place: &Place, version: &Version) -> bool {
        if self.deleted.contains_key(&version.uid) {
            return false;
        }
        let seen = self.tick();
        let Some(row) = self.rows.get_mut(place) else { return true };
        row.seen = seen;
        if row.version.uid == version.uid && row.version.generation == version.generation {
            // A status or a label.
            row.version.resource = row.version.resource.max(version.resource);
            return false;
        }
        row.version.resource < version.resource
    }

    /// Takes a record that [is news](Self::is_news).
    pub(super) fn put(&mut self, place: &Place, record: Arc<R>, version: Version) -> Effect {
        let seen = self.tick();
        let heard = Heard::Written(version.resource);
        self.rows.insert(place.clone(), Row { record, version, seen });
        self.heard(place, heard)
    }

    /// A watch told that an object is gone.
    pub(super) fn gone(&mut self, place: &Place, uid: &Arc<str>) -> Effect {
        if self.deleted.remove(uid).is_some() {
            return Effect::default();
        }
        if self.rows.get(place).is_none_or(|row| row.version.uid != *uid) {
            return Effect::default();
        }
        self.rows.remove(place);
        self.heard(place, Heard::Deleted(Arc::clone(uid)))
    }

    /// The API server was asked at `began`, and has no such object.
    pub(super) fn absent(&mut self, place: &Place, began: u64) -> Effect {
        self.settle_doubt(place, began);
        match self.rows.get(place) {
            Some(row) if row.seen < began => {
                let uid = Arc::clone(&row.version.uid);
                self.rows.remove(place);
                self.heard(place, Heard::Deleted(uid))
            }
            _ => Effect::default(),
        }
    }

    /// The API server was asked at `began`, and what it answered was taken.
    pub(super) fn settle_doubt(&mut self, place: &Place, began: u64) {
        if self.doubts.get(place).is_some_and(|since| *since < began) {
            self.doubts.remove(place);
        }
    }

    /// A watch begins to read everything (again).
    pub(super) fn list_begins(&mut self) {
        self.listing = self.tick();
    }

    /// A watch has read everything: what it did not see, and was there before it began, is gone.
    pub(super) fn list_ends(&mut self) -> Vec<(Place, Effect)> {
        let begun = self.listing;
        self.deleted.retain(|_, at| *at > begun);
        self.doubts.retain(|_, since| *since > begun);
        let missing = self.rows.iter().filter(|(_, row)| row.seen < begun);
        let missing: Vec<_> =
            missing.map(|(place, row)| (place.clone(), Arc::clone(&row.version.uid))).collect();
        let drop = |(place, uid): (Place, Arc<str>)| {
            self.rows.remove(&place);
            let effect = self.heard(&place, Heard::Deleted(uid));
            (place, effect)
        };
        missing.into_iter().map(drop).collect()
    }
}

pub(super) fn stored<R>(record: &Arc<R>, version: &Version) -> Stored<Arc<R>> {
    Stored { value: Arc::clone(record), revision: version.revision() }
}
