//! The store: a disk that survives every process, and a handle on it for each. A handle sees what others wrote only
//! after a while, as one does that follows a watch; whether a write may happen is always decided on the disk.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use async_trait::async_trait;
use fleet_core::cluster::ClusterId;
use fleet_core::dead_letter::DeadLetter;
use fleet_core::position::{Domain, Position};
use fleet_core::store::{Revision, StoreChange, StoreError, Stored, WorkStore};
use fleet_core::work::{AppliedWork, Intent, Work, WorkId};
use futures::StreamExt;
use futures::stream::BoxStream;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::process::Process;
use crate::world::{Lie, World};

/// The records of Works, as the disk or as a handle has them.
#[derive(Clone, Default)]
pub(crate) struct Records {
    pub(crate) works: BTreeMap<WorkId, Stored<Arc<Work>>>,
    pub(crate) applied: BTreeMap<(WorkId, ClusterId), Stored<Arc<AppliedWork>>>,
}

#[derive(Clone)]
enum Key {
    Work(WorkId),
    Applied((WorkId, ClusterId)),
}

impl Records {
    fn copy(&mut self, from: &Self, key: &Key) {
        match key {
            Key::Work(id) => copy(&mut self.works, &from.works, id),
            Key::Applied(place) => copy(&mut self.applied, &from.applied, place),
        }
    }

    fn of(&self, work: &WorkId) -> Vec<Stored<Arc<AppliedWork>>> {
        self.applied.values().filter(|stored| stored.value.work == *work).cloned().collect()
    }
}

fn copy<K: Ord + Clone, V: Clone>(to: &mut BTreeMap<K, V>, from: &BTreeMap<K, V>, key: &K) {
    match from.get(key) {
        Some(value) => drop(to.insert(key.clone(), value.clone())),
        None => drop(to.remove(key)),
    }
}

/// What a handle sees, and what it is still to see.
#[derive(Default)]
struct View {
    records: Records,
    /// By kind, because watches of different kinds do not wait for each other.
    works_behind: VecDeque<(Instant, Key)>,
    applied_behind: VecDeque<(Instant, Key)>,
    told: VecDeque<WorkId>,
    wake: Arc<Notify>,
}

impl View {
    fn catch_up(&mut self, disk: &Records) {
        let now = Instant::now();
        for behind in [&mut self.works_behind, &mut self.applied_behind] {
            while behind.front().is_some_and(|(due, _)| *due <= now) {
                let Some((_, key)) = behind.pop_front() else { break };
                self.records.copy(disk, &key);
                if let Key::Work(id) = key {
                    self.told.push_back(id);
                }
            }
        }
    }
}

#[derive(Default)]
struct State {
    records: Records,
    revision: u64,
    epochs: BTreeMap<Domain, u64>,
    floors: BTreeMap<String, Vec<Position>>,
    letters: BTreeMap<String, Arc<DeadLetter>>,
    views: BTreeMap<u64, View>,
    handles: u64,
    /// The number of the newest event that each Work ever had.
    newest: BTreeMap<WorkId, u64>,
    /// Nothing can be read or written.
    down: bool,
    /// Everything takes long.
    slow: bool,
}

/// What all handles share.
pub(crate) struct Disk {
    world: Arc<World>,
    state: Mutex<State>,
}

impl Disk {
    pub(crate) fn new(world: &Arc<World>) -> Arc<Self> {
        Arc::new(Self { world: Arc::clone(world), state: Mutex::default() })
    }

    pub(crate) fn set_down(&self, down: bool) {
        self.world.trace(|| format!("the store is {}", if down { "down" } else { "up" }));
        self.state.lock().down = down;
    }

    pub(crate) fn set_slow(&self, slow: bool) {
        self.world.trace(|| format!("the store is {}", if slow { "slow" } else { "fast" }));
        self.state.lock().slow = slow;
    }

    pub(crate) fn records(&self) -> Records {
        self.state.lock().records.clone()
    }

    pub(crate) fn floors(&self, source: &str) -> Vec<Position> {
        self.state.lock().floors.get(source).cloned().unwrap_or_default()
    }

    pub(crate) fn letters(&self) -> Vec<Arc<DeadLetter>> {
        self.state.lock().letters.values().cloned().collect()
    }

    pub(crate) fn open(self: &Arc<Self>, process: &Arc<Process>) -> Arc<SimStore> {
        let mut state = self.state.lock();
        state.handles += 1;
        let handle = state.handles;
        let view = View { records: state.records.clone(), ..View::default() };
        state.views.insert(handle, view);
        Arc::new(SimStore { disk: Arc::clone(self), process: Arc::clone(process), handle })
    }
}

impl State {
    /// Tells every handle of a change; the writer's own at once, if it gets to know that it wrote.
    fn changed(&mut self, world: &World, key: &Key, writer: Option<u64>) {
        for (handle, view) in &mut self.views {
            if writer == Some(*handle) {
                view.records.copy(&self.records, key);
                continue;
            }
            let behind = match key {
                Key::Work(_) => &mut view.works_behind,
                Key::Applied(_) => &mut view.applied_behind,
            };
            let least = behind.back().map_or_else(Instant::now, |(due, _)| *due);
            let delay = if world.is_calm() { world.dice.millis(0..5) } else { world.dice.millis(0..1500) };
            behind.push_back((least.max(Instant::now() + delay), key.clone()));
            view.wake.notify_one();
        }
    }

    /// A change that a handle's watch tells now, else when to look again.
    #[allow(clippy::type_complexity)]
    fn watch(&mut self, handle: u64) -> Option<(Option<WorkId>, Option<Instant>, Arc<Notify>)> {
        let view = self.views.get_mut(&handle)?;
        view.catch_up(&self.records);
        let next = view.works_behind.front().map(|(due, _)| *due);
        Some((view.told.pop_front(), next, Arc::clone(&view.wake)))
    }

    fn next_revision(&mut self) -> Revision {
        self.revision += 1;
        Revision::Counted(self.revision)
    }

    /// A single operator never stores an event over a newer one, nor after that was forgotten.
    fn note_newest(&mut self, world: &World, work: &Work) {
        let number: u64 = work.event.id().trim_start_matches('e').parse().unwrap();
        let newest = self.newest.entry(work.id.clone()).or_default();
        if number < *newest && !world.faults.second {
            world.violated(format!("{} is stored for e{number}, after e{newest} was", work.id));
        }
        *newest = number.max(*newest);
    }

    fn forget_tombstone(&mut self, world: &World, id: &WorkId) {
        let is_gone = self.records.works.get(id).is_some_and(|work| work.value.intent == Intent::Delete);
        if is_gone && self.records.of(id).is_empty() {
            world.trace(|| format!("the store forgets {id}"));
            self.records.works.remove(id);
            self.changed(world, &Key::Work(id.clone()), None);
        }
    }
}

fn check<T>(
    name: impl std::fmt::Display,
    there: Option<&Stored<T>>,
    expected: Option<&Revision>,
) -> Result<(), StoreError> {
    match there.map(|there| &there.revision) == expected {
        true => Ok(()),
        false => Err(StoreError::Conflict(name.to_string())),
    }
}

fn unavailable() -> StoreError {
    StoreError::Unavailable("simulated".to_owned())
}

/// One process's handle.
pub(crate) struct SimStore {
    disk: Arc<Disk>,
    process: Arc<Process>,
    handle: u64,
}

impl Drop for SimStore {
    fn drop(&mut self) {
        self.disk.state.lock().views.remove(&self.handle);
    }
}

impl SimStore {
    /// A call: it takes time, may fail before or after its effect, and the process may die on either side of it. The
    /// effect gets to know as whose its writes count: its own, if it hears that they went well.
    async fn call<T>(
        &self,
        what: impl Fn() -> String,
        effect: impl FnOnce(&mut State, &World, Option<u64>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let world = &*self.disk.world;
        let name = || format!("{} store {}", self.process.name, what());
        world.latency().await;
        self.process.may_die(|| format!("before store {}", what())).await;
        let slow = self.disk.state.lock().slow;
        if world.fault(world.faults.store, if slow { 300 } else { 10 }) {
            tokio::time::sleep(world.dice.millis(0..15_000)).await;
        }
        if world.fault(world.faults.store, 40) {
            world.trace(|| format!("{}: fails", name()));
            return Err(unavailable());
        }
        let is_heard = !world.fault(world.faults.store, 30);
        let result = {
            let mut state = self.disk.state.lock();
            if state.down {
                return Err(unavailable());
            }
            let State { records, views, .. } = &mut *state;
            if let Some(view) = views.get_mut(&self.handle) {
                view.catch_up(records);
            }
            effect(&mut state, world, is_heard.then_some(self.handle))
        };
        self.process.may_die(|| format!("after store {}", what())).await;
        world.latency().await;
        if is_heard {
            return result;
        }
        world.trace(|| format!("{}: no answer", name()));
        Err(unavailable())
    }

    /// Reads as the handle sees it.
    async fn read<T>(&self, what: &'static str, read: impl FnOnce(&Records) -> T) -> Result<T, StoreError> {
        self.call(
            || what.to_owned(),
            |state, _, _| Ok(read(&state.views.get(&self.handle).ok_or_else(unavailable)?.records)),
        )
        .await
    }

    /// Writes, if what is on the disk is what was expected; if not, the handle sees what is there.
    async fn write<T>(
        &self,
        what: impl Fn() -> String,
        key: Key,
        write: impl FnOnce(&mut State, &World, Option<u64>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let line = || format!("{} store {}", self.process.name, what());
        self.call(&what, |state, world, writer| {
            let result = write(state, world, writer);
            world.trace(|| {
                format!(
                    "{}: {}",
                    line(),
                    result.as_ref().map_or_else(ToString::to_string, |_| "ok".to_owned())
                )
            });
            let State { records, views, .. } = state;
            if result.is_err()
                && let Some(view) = views.get_mut(&self.handle)
            {
                view.records.copy(records, &key);
            }
            result
        })
        .await
    }
}

#[async_trait]
impl WorkStore for SimStore {
    async fn next_epoch(&self, domain: &Domain) -> Result<u64, StoreError> {
        self.call(
            || "next_epoch".to_owned(),
            |state, _, _| {
                let epoch = state.epochs.entry(domain.clone()).or_default();
                *epoch += 1;
                Ok(*epoch)
            },
        )
        .await
    }

    async fn work(&self, id: &WorkId) -> Result<Option<Stored<Arc<Work>>>, StoreError> {
        self.read("work", |records| records.works.get(id).cloned()).await
    }

    async fn put_work(
        &self,
        work: Arc<Work>,
        expected: Option<Revision>,
        plans: Vec<AppliedWork>,
    ) -> Result<Revision, StoreError> {
        let id = work.id.clone();
        let what = || {
            let positions: Vec<_> = work.positions.iter().map(ToString::to_string).collect();
            format!("put {id} {:?} of {} at {positions:?}", work.intent, work.event.id())
        };
        self.write(what, Key::Work(id.clone()), |state, world, writer| {
            check(&id, state.records.works.get(&id), expected.as_ref())?;
            state.note_newest(world, &work);
            let revision = state.next_revision();
            let stored = Stored { value: Arc::clone(&work), revision: revision.clone() };
            state.records.works.insert(id.clone(), stored);
            state.changed(world, &Key::Work(id.clone()), writer);
            for plan in plans {
                let place = (id.clone(), plan.cluster.clone());
                if !state.records.applied.contains_key(&place) {
                    let stored = Stored { value: Arc::new(plan), revision: revision.clone() };
                    state.records.applied.insert(place.clone(), stored);
                    state.changed(world, &Key::Applied(place), writer);
                }
            }
            if world.lie == Lie::TombstonesDropEarly {
                state.forget_tombstone(world, &id);
            }
            Ok(revision)
        })
        .await
    }

    async fn delete_work(&self, id: &WorkId, expected: Revision) -> Result<(), StoreError> {
        self.write(
            || format!("delete {id}"),
            Key::Work(id.clone()),
            |state, world, writer| {
                check(id, state.records.works.get(id), Some(&expected))?;
                state.records.works.remove(id);
                state.changed(world, &Key::Work(id.clone()), writer);
                Ok(())
            },
        )
        .await
    }

    async fn works<'a>(
        &self,
        trigger: Option<&'a str>,
        after: Option<&'a WorkId>,
        limit: usize,
    ) -> Result<Vec<Stored<Arc<Work>>>, StoreError> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.read("works", |records| {
            let works = records.works.range::<WorkId, _>((start, Bound::Unbounded)).map(|(_, work)| work);
            let of_trigger = works.filter(|work| trigger.is_none_or(|it| *work.value.trigger == *it));
            of_trigger.take(limit).cloned().collect()
        })
        .await
    }

    async fn applied(&self, work: &WorkId) -> Result<Vec<Stored<Arc<AppliedWork>>>, StoreError> {
        self.read("applied", |records| records.of(work)).await
    }

    async fn applied_in(
        &self,
        work: &WorkId,
        cluster: &ClusterId,
    ) -> Result<Option<Stored<Arc<AppliedWork>>>, StoreError> {
        self.read("applied_in", |records| records.applied.get(&(work.clone(), cluster.clone())).cloned())
            .await
    }

    async fn all_applied<'a>(
        &self,
        after: Option<(&'a WorkId, &'a ClusterId)>,
        limit: usize,
    ) -> Result<Vec<Stored<Arc<AppliedWork>>>, StoreError> {
        self.read("all_applied", |records| {
            let later = |(work, cluster): &(WorkId, ClusterId)| after.is_none_or(|it| (work, cluster) > it);
            let all = records.applied.iter().filter(|(place, _)| later(place));
            all.take(limit).map(|(_, applied)| applied.clone()).collect()
        })
        .await
    }

    async fn put_applied(
        &self,
        applied: Arc<AppliedWork>,
        expected: Option<Revision>,
    ) -> Result<Revision, StoreError> {
        let place = (applied.work.clone(), applied.cluster.clone());
        let what = || {
            let items: Vec<_> = applied
                .inventory
                .iter()
                .map(|item| format!("{} {:?} {:?}", item.object.name, item.uid, item.uncertain_until))
                .collect();
            let AppliedWork { work, cluster, state, digest, .. } = &*applied;
            format!("put {work} in {cluster}: {state:?} {} {items:?}", digest.is_some())
        };
        self.write(what, Key::Applied(place.clone()), |state, world, writer| {
            check(&place.0, state.records.applied.get(&place), expected.as_ref())?;
            let revision = state.next_revision();
            let stored = Stored { value: Arc::clone(&applied), revision: revision.clone() };
            state.records.applied.insert(place.clone(), stored);
            state.changed(world, &Key::Applied(place.clone()), writer);
            Ok(revision)
        })
        .await
    }

    async fn delete_applied(
        &self,
        work: &WorkId,
        cluster: &ClusterId,
        expected: Revision,
    ) -> Result<(), StoreError> {
        let place = (work.clone(), cluster.clone());
        let what = || format!("delete {work} in {cluster}");
        self.write(what, Key::Applied(place.clone()), |state, world, writer| {
            check(work, state.records.applied.get(&place), Some(&expected))?;
            state.records.applied.remove(&place);
            state.changed(world, &Key::Applied(place.clone()), writer);
            if world.lie == Lie::TombstonesDropEarly {
                state.forget_tombstone(world, work);
            }
            Ok(())
        })
        .await
    }

    async fn floors(&self, source: &str) -> Result<Vec<Position>, StoreError> {
        self.call(
            || "floors".to_owned(),
            |state, _, _| Ok(state.floors.get(source).cloned().unwrap_or_default()),
        )
        .await
    }

    async fn raise_floor(&self, source: &str, floor: &Position) -> Result<(), StoreError> {
        self.call(
            || format!("raise floor {floor}"),
            |state, world, _| {
                world.trace(|| format!("{} store raise floor of {source} to {floor}", self.process.name));
                let floors = state.floors.entry(source.to_owned()).or_default();
                match floors.iter_mut().find(|there| there.domain == floor.domain) {
                    Some(there) if floor.is_above(there) => *there = floor.clone(),
                    Some(_) => {}
                    None => floors.push(floor.clone()),
                }
                Ok(())
            },
        )
        .await
    }

    async fn add_dead_letter(&self, letter: Arc<DeadLetter>) -> Result<(), StoreError> {
        self.call(
            || "add letter".to_owned(),
            |state, world, _| {
                world.trace(|| {
                    format!("{} store keeps letter {}: {}", self.process.name, letter.id, letter.reason)
                });
                state.letters.insert(letter.id.clone(), Arc::clone(&letter));
                Ok(())
            },
        )
        .await
    }

    async fn dead_letters<'a>(
        &self,
        after: Option<&'a str>,
        limit: usize,
    ) -> Result<Vec<Arc<DeadLetter>>, StoreError> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.call(
            || "letters".to_owned(),
            |state, _, _| {
                let letters = state.letters.range::<str, _>((start, Bound::Unbounded));
                Ok(letters.take(limit).map(|(_, letter)| Arc::clone(letter)).collect())
            },
        )
        .await
    }

    async fn dead_letter(&self, id: &str) -> Result<Option<Arc<DeadLetter>>, StoreError> {
        self.call(|| "letter".to_owned(), |state, _, _| Ok(state.letters.get(id).cloned())).await
    }

    async fn drop_dead_letter(&self, id: &str) -> Result<bool, StoreError> {
        self.call(|| "drop letter".to_owned(), |state, _, _| Ok(state.letters.remove(id).is_some())).await
    }

    async fn watch(&self) -> Result<BoxStream<'static, StoreChange>, StoreError> {
        let watcher = (Arc::clone(&self.disk), self.handle);
        Ok(futures::stream::unfold(watcher, |(disk, handle)| async move {
            loop {
                let (told, next, wake) = disk.state.lock().watch(handle)?;
                if let Some(id) = told {
                    return Some((StoreChange::Work(id), (disk, handle)));
                }
                match next {
                    Some(due) => drop(tokio::time::timeout_at(due, wake.notified()).await),
                    None => wake.notified().await,
                }
            }
        })
        .boxed())
    }
}
