//! The status of Works: what their AppliedWorks say, summed up. Written beside the path of events, by one task, about
//! once a second for each Work at most.

use std::collections::{HashMap, HashSet, VecDeque};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fleet_core::work::{AppliedState, AppliedWork, Intent, Work, WorkId};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use serde_json::Value;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};

use super::cache::Cache;
use super::objects::{Objects, deadline};
use super::record::{Place, PlannedWork};
use crate::api::{FailingCluster, WorkStatus};
use crate::client::Failure;

/// How long a status waits for what else happens.
const DEBOUNCE: Duration = Duration::from_secs(1);
/// After a write nothing is written for this many times what it took: a flood of events needs the API server more, and
/// the busier it is, the longer writes take.
const REST: u32 = 4;
/// But no longer than this.
const LONGEST_REST: Duration = Duration::from_secs(1);
/// How long nothing is written after a write failed.
const PAUSE: Duration = Duration::from_secs(2);
/// How many failing clusters a status names.
const FAILING: usize = 20;
/// How long an explanation may be, in characters.
const MESSAGE: usize = 512;

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
pub(super) async fn mirror(cache: Arc<Cache>, objects: Objects, namespace: Arc<str>) {
    loop {
        let work = cache.statuses.next().await;
        let began = Instant::now();
        match write(&cache, &objects, &namespace, &work).await {
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
async fn write(cache: &Cache, objects: &Objects, namespace: &str, id: &WorkId) -> Result<bool, Failure> {
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
    let applied = cache.applied(Bound::Included(&place), usize::MAX, |place| place.work == *id);
    let applied: Vec<_> = applied.into_iter().map(|stored| stored.value).collect();
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
    let address = place.address(namespace);
    let written = objects.write_status(&address, &version.uid, value, deadline()).await?;
    // Takes the new resourceVersion; a deletion needs it.
    cache.lock::<PlannedWork>().is_news(&place, &written);
    cache.statuses.observe(id, Some(status));
    Ok(true)
}

/// What AppliedWorks come to.
fn sum_up(
    work: &Work,
    observed: i64,
    applied: &[Arc<AppliedWork>],
    before: Option<&WorkStatus>,
    now: Timestamp,
) -> WorkStatus {
    let mut failing = Vec::new();
    let (mut done, mut stalled) = (0, 0);
    for one in applied {
        // What is to be removed was applied once; that says nothing about its removal.
        let is_current = one.generation == work.generation && work.intent == Intent::Create;
        let failure = match &one.state {
            AppliedState::Applied if is_current => {
                done += 1;
                continue;
            }
            AppliedState::Stalled { reason, message } => {
                stalled += 1;
                (0, reason.as_str(), message)
            }
            AppliedState::Retrying { reason } => (1, "Retrying", reason),
            _ => continue,
        };
        failing.push((failure, &one.cluster));
    }
    let failed = failing.len();
    failing.sort_unstable();
    let failing: Vec<_> = failing
        .into_iter()
        .take(FAILING)
        .map(|((_, reason, message), cluster)| FailingCluster {
            cluster: cluster.to_string(),
            reason: reason.to_owned(),
            message: message.chars().take(MESSAGE).collect(),
        })
        .collect();
    let clusters = applied.len();
    let (ready, reason, message) = match (failing.first(), work.intent) {
        (Some(first), _) => {
            let more = if failed > 1 { format!(", and {} more", failed - 1) } else { String::new() };
            (false, first.reason.as_str(), format!("{}: {}{more}", first.cluster, first.message))
        }
        (None, Intent::Create) if clusters == 0 => {
            (true, "NoClusters", "no cluster is to have it now".to_owned())
        }
        (None, Intent::Create) if done == clusters => {
            (true, "Applied", format!("applied in {}", number(clusters)))
        }
        (None, Intent::Create) => (false, "Applying", format!("applied in {done} of {}", number(clusters))),
        (None, Intent::Delete) if clusters == 0 => {
            (true, "Removed", "nothing is left; kept for as long as an older event may come".to_owned())
        }
        (None, Intent::Delete) => (false, "Removing", format!("to be removed from {}", number(clusters))),
    };
    let before = before.map(|before| before.conditions.as_slice()).unwrap_or_default();
    let condition = |kind: &str, holds: bool| {
        let status = if holds { "True" } else { "False" };
        let same = before.iter().find(|condition| condition.type_ == kind && condition.status == status);
        let since = same.map(|condition| condition.last_transition_time.clone());
        Condition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message: message.clone(),
            last_transition_time: since.unwrap_or_else(|| Time(whole_seconds(now))),
            observed_generation: None,
        }
    };
    let mut conditions = vec![condition("Ready", ready)];
    if !ready {
        conditions.push(condition(if stalled > 0 { "Stalled" } else { "Reconciling" }, true));
    }
    let count = |number: usize| i32::try_from(number).unwrap_or(i32::MAX);
    WorkStatus {
        observed_generation: Some(observed),
        clusters: count(clusters),
        applied: count(done),
        failed: count(failed),
        failing,
        conditions,
    }
}

fn number(clusters: usize) -> String {
    if clusters == 1 { "1 cluster".to_owned() } else { format!("{clusters} clusters") }
}

/// As they are written.
fn whole_seconds(now: Timestamp) -> Timestamp {
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use fleet_core::cluster::ClusterId;
    use fleet_core::event::Event;
    use fleet_core::work::EventKey;

    use super::*;

    fn work(intent: Intent) -> Work {
        let key = EventKey::Text("k".to_owned());
        let event = br#"{"specversion":"1.0","id":"1","source":"s","type":"t"}"#;
        Work {
            id: WorkId::new("t", &key),
            trigger: "t".into(),
            source: "s".into(),
            key,
            origin: None,
            generation: 2,
            intent,
            event: Arc::new(Event::from_json(event).unwrap()),
            message: Arc::default(),
            positions: Default::default(),
            received: Timestamp::UNIX_EPOCH,
            published: None,
            recent: Vec::new(),
        }
    }

    fn applied(number: usize, generation: u64, state: AppliedState) -> Arc<AppliedWork> {
        let cluster = ClusterId::new("civo", &format!("c{number:03}")).unwrap();
        let pending = AppliedWork::pending(&work(Intent::Create), cluster, Timestamp::UNIX_EPOCH);
        Arc::new(AppliedWork { generation, state, ..pending })
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn reasons(status: &WorkStatus) -> Vec<String> {
        let conditions = status.conditions.iter();
        conditions.map(|it| format!("{}={} {}", it.type_, it.status, it.reason)).collect()
    }

    #[test]
    fn conditions_say_what_is_and_since_when() {
        let (create, delete) = (work(Intent::Create), work(Intent::Delete));
        let done = applied(1, 2, AppliedState::Applied);
        let old = applied(1, 1, AppliedState::Applied);
        for (work, applied, expected) in [
            (&create, vec![], &["Ready=True NoClusters"][..]),
            (&create, vec![done.clone()], &["Ready=True Applied"]),
            (&create, vec![old.clone()], &["Ready=False Applying", "Reconciling=True Applying"]),
            (&delete, vec![old], &["Ready=False Removing", "Reconciling=True Removing"]),
            (&delete, vec![done.clone()], &["Ready=False Removing", "Reconciling=True Removing"]),
            (&delete, vec![], &["Ready=True Removed"]),
        ] {
            assert_eq!(reasons(&sum_up(work, 5, &applied, None, at(0))), expected);
        }
        let first = sum_up(&create, 5, std::slice::from_ref(&done), None, at(10));
        let later = sum_up(&create, 5, std::slice::from_ref(&done), Some(&first), at(20));
        assert_eq!(first, later, "nothing to write");
        let retrying = applied(2, 2, AppliedState::Retrying { reason: "no answer".to_owned() });
        let worse = sum_up(&create, 5, &[done, retrying], Some(&later), at(30));
        assert_eq!(reasons(&worse), ["Ready=False Retrying", "Reconciling=True Retrying"]);
        assert_eq!(worse.conditions[0].last_transition_time.0, at(30));
        assert_eq!((worse.clusters, worse.applied, worse.failed), (2, 1, 1));
    }

    #[test]
    fn twenty_failing_clusters_are_named_the_stalled_first() {
        let mut all: Vec<_> = (0..30)
            .map(|number| applied(number, 2, AppliedState::Retrying { reason: "r".to_owned() }))
            .collect();
        let message = "m".repeat(10_000);
        all.push(applied(99, 2, AppliedState::Stalled { reason: "Conflict".to_owned(), message }));
        let status = sum_up(&work(Intent::Create), 5, &all, None, at(0));
        assert_eq!((status.failing.len(), status.failed), (20, 31));
        assert_eq!((status.failing[0].cluster.as_str(), status.failing[0].message.len()), ("civo/c099", 512));
        assert_eq!(status.failing[1].cluster, "civo/c000");
        assert_eq!(reasons(&status), ["Ready=False Conflict", "Stalled=True Conflict"]);
        assert!(status.conditions[0].message.ends_with("and 30 more"));
    }
}
