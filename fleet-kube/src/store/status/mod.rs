//! The status of Works: what their AppliedWorks say, summed up. Written beside the path of events, by one task, about
//! once a second for each Work at most.

mod summary;

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fleet_core::work::WorkId;
use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};

use super::cache::Cache;
use super::objects::{Objects, deadline};
use super::record::{Place, PlannedWork, Rooms};
use crate::api::WorkStatus;
use crate::client::Failure;
use summary::sum_up;

/// How long a status waits for what else happens.
const DEBOUNCE: Duration = Duration::from_secs(1);
/// After a write nothing is written for this many times what it took: a flood of events needs the API server more, and
/// the busier it is, the longer writes take.
const REST: u32 = 4;
/// But no longer than this.
const LONGEST_REST: Duration = Duration::from_secs(1);
/// How long nothing is written after a write failed.
const PAUSE: Duration = Duration::from_secs(2);
/// Which statuses are known, and which are to be written.
#[derive(Default)]
pub(super) struct Statuses {
    state: Mutex<State>,
    added: Notify,
}

#[derive(Default)]
struct State {
    /// What objects say now.
    written: HashMap<WorkId, Arc<WorkStatus>>,
    /// In the order of their times, as all wait equally long.
    queue: VecDeque<(Instant, WorkId)>,
    queued: HashSet<WorkId>,
    /// What is local, by its place: of which Work it is. And by Work.
    of: HashMap<Place, WorkId>,
    local: HashMap<WorkId, BTreeSet<Place>>,
}

impl Statuses {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something changed that a Work's status may depend on.
    pub(super) fn mark(&self, work: &WorkId) {
        let mut state = self.lock();
        if state.queued.insert(work.clone()) {
            state.queue.push_back((Instant::now() + DEBOUNCE, work.clone()));
            drop(state);
            self.added.notify_one();
        }
    }

    /// Something local of a Work changed, or is there.
    pub(super) fn note_local(&self, place: &Place, work: WorkId) {
        let mut state = self.lock();
        state.local.entry(work.clone()).or_default().insert(place.clone());
        state.of.insert(place.clone(), work.clone());
        drop(state);
        self.mark(&work);
    }

    /// A record is gone.
    pub(super) fn forget(&self, place: &Place) {
        let mut state = self.lock();
        let work = state.of.remove(place);
        if let Some(places) = work.as_ref().and_then(|work| state.local.get_mut(work)) {
            places.remove(place);
        }
        if let Some(work) = &work
            && state.local.get(work).is_some_and(BTreeSet::is_empty)
        {
            state.local.remove(work);
        }
        drop(state);
        self.mark(work.as_ref().unwrap_or(&place.work));
    }

    /// What is local of a Work.
    pub(super) fn local_of(&self, work: &WorkId) -> Vec<Place> {
        self.lock().local.get(work).into_iter().flatten().cloned().collect()
    }

    /// A Work's status is this now; none if it has none, or is gone. Whether that is news.
    pub(super) fn observe(&self, work: &WorkId, status: Option<WorkStatus>) -> bool {
        let mut state = self.lock();
        match status {
            Some(status) if state.written.get(work).is_some_and(|known| **known == status) => false,
            Some(status) => {
                state.written.insert(work.clone(), Arc::new(status));
                true
            }
            None => state.written.remove(work).is_some(),
        }
    }

    fn written(&self, work: &WorkId) -> Option<Arc<WorkStatus>> {
        self.lock().written.get(work).cloned()
    }

    /// Waits for the next Work whose time has come.
    async fn next(&self) -> WorkId {
        loop {
            let due = self.lock().queue.front().map(|(due, _)| *due);
            let Some(due) = due else {
                self.added.notified().await;
                continue;
            };
            sleep_until(due).await;
            let mut state = self.lock();
            if let Some((_, work)) = state.queue.pop_front() {
                state.queued.remove(&work);
                return work;
            }
        }
    }
}

/// Writes statuses until it is dropped.
pub(super) async fn mirror(cache: Arc<Cache>, objects: Objects, rooms: Rooms) {
    loop {
        let work = cache.statuses.next().await;
        let began = Instant::now();
        match write(&cache, &objects, &rooms, &work).await {
            Ok(false) => {}
            Ok(true) => sleep((began.elapsed() * REST).min(LONGEST_REST)).await,
            // Gone, or another one by now, which was marked for that.
            Err(Failure::NotFound { .. } | Failure::UidMismatch | Failure::Conflict { .. }) => {}
            Err(failure) => {
                tracing::debug!(%work, reason = reason(&failure), "a status cannot be written; trying again");
                cache.statuses.mark(&work);
                sleep(PAUSE).await;
            }
        }
    }
}

/// The server's words may quote values.
fn reason(failure: &Failure) -> String {
    match failure {
        Failure::Invalid { .. } | Failure::Other { .. } => "the API server refuses it".to_owned(),
        other => other.to_string(),
    }
}

/// Whether anything had to be written.
async fn write(cache: &Cache, objects: &Objects, rooms: &Rooms, id: &WorkId) -> Result<bool, Failure> {
    let place = Place::of_work(id);
    let (work, version) = {
        let works = cache.lock::<PlannedWork>();
        match works.get(&place) {
            Some((planned, version)) => (Arc::clone(&planned.work), version.clone()),
            None => {
                drop(works);
                cache.statuses.observe(id, None);
                return Ok(false);
            }
        }
    };
    let applied = cache.applied_of(id);
    let before = cache.statuses.written(id);
    let status = sum_up(&work, version.generation, &applied, before.as_deref(), Timestamp::now());
    if before.is_some_and(|before| *before == status) {
        return Ok(false);
    }
    let mut value = serde_json::to_value(&status).unwrap_or_default();
    if let Some(fields) = value.as_object_mut() {
        // A merge keeps what it does not name.
        fields.entry("failing").or_insert(Value::Null);
    }
    let address = place.address(rooms);
    let written = objects.write_status(&address, &version.uid, value, deadline()).await?;
    // Takes the new resourceVersion; a deletion needs it.
    cache.lock::<PlannedWork>().is_news(&place, &written);
    cache.statuses.observe(id, Some(status));
    Ok(true)
}
