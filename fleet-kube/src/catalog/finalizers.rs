//! The finalizer that holds back triggers and Clusters until what is there because of them is withdrawn.
//!
//! It is put on once, when an object is first seen, and taken away when the engine says that nothing is left; from a
//! Cluster also when that takes too long, for it may never be reached again. One task does it, a few objects at a time;
//! what is to be done is bounded by the number of objects.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fleet_core::cluster::ClusterId;
use futures::StreamExt;
use futures::future::BoxFuture;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use serde_json::json;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::index::chain;
use super::scope::resource;
use super::status::{DEADLINE, MANAGER, WRITERS, api};
use crate::api::WITHDRAW_FINALIZER;
use crate::client::Patience;
use crate::definitions::{Family, Kind, ObjectId};

/// How long a note of an Event may be, in bytes.
const NOTE: usize = 1024;

/// How deletions are held back, and by whom.
#[derive(Clone)]
pub struct Holding {
    /// What the management cluster is called where no Cluster stands for it: no other Cluster may have that name, and none
    /// in that namespace an agent.
    pub management: Option<ClusterId>,
    /// A Cluster that is deleted goes after this time, whatever is left in it.
    pub withdraw_timeout: Duration,
    /// Whether this process may act now: where a leader is elected, only that one.
    pub leads: Arc<dyn Fn() -> bool + Send + Sync>,
    /// Tells what is left in a cluster, for the log and an Event of one that goes before its time.
    pub remains: Arc<dyn Fn(ClusterId) -> BoxFuture<'static, String> + Send + Sync>,
}

/// What there is to know of an object to hold it back or to let it go.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Held {
    uid: Option<String>,
    version: Option<String>,
    finalizers: Vec<String>,
    /// When it was deleted.
    deleted: Option<Timestamp>,
}

impl Held {
    pub(super) fn new(object: &DynamicObject) -> Self {
        let metadata = &object.metadata;
        Self {
            uid: metadata.uid.clone(),
            version: metadata.resource_version.clone(),
            finalizers: metadata.finalizers.clone().unwrap_or_default(),
            deleted: metadata.deletion_timestamp.as_ref().map(|since| since.0),
        }
    }

    fn is_held(&self) -> bool {
        self.finalizers.iter().any(|one| one == WITHDRAW_FINALIZER)
    }
}

/// All that may be held back, and what is to be done about it.
#[derive(Default)]
pub(super) struct Finalizers {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    seen: BTreeMap<ObjectId, Seen>,
    /// Those of which something may have to be done.
    waiting: BTreeSet<ObjectId>,
    /// Clusters that are deleted and held back.
    leaving: BTreeSet<ObjectId>,
}

struct Seen {
    held: Held,
    /// Whether the finalizer was put on: who takes it off by hand will have a reason.
    put_on: bool,
    /// Whether nothing is left of it.
    withdrawn: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Hold,
    LetGo,
    /// It took too long.
    GiveUp,
}

impl Seen {
    fn step(&self, id: &ObjectId, now: Timestamp, patience: Duration) -> Option<Step> {
        match (self.held.deleted, self.held.is_held()) {
            (None, false) => (!self.put_on).then_some(Step::Hold),
            (Some(_), true) if self.withdrawn => Some(Step::LetGo),
            (Some(since), true) if id.kind == Kind::Cluster => {
                left(since, now, patience).is_none().then_some(Step::GiveUp)
            }
            _ => None,
        }
    }
}

/// How much of the patience with a deletion is left, if any.
fn left(since: Timestamp, now: Timestamp, patience: Duration) -> Option<Duration> {
    let gone = Duration::try_from(now.duration_since(since)).unwrap_or_default();
    patience.checked_sub(gone).filter(|left| !left.is_zero())
}

fn cut(note: &str) -> &str {
    let end = (0..=NOTE.min(note.len())).rev().find(|end| note.is_char_boundary(*end));
    note.get(..end.unwrap_or_default()).unwrap_or_default()
}

impl Finalizers {
    /// Takes in how an object is now; nothing if it is gone.
    pub(super) fn observe(&self, id: &ObjectId, held: Option<&Held>) {
        if !matches!(id.kind, Kind::EventTrigger | Kind::ClusterProfile | Kind::Cluster) {
            return;
        }
        let mut state = self.lock();
        let Some(held) = held else {
            state.seen.remove(id);
            state.waiting.remove(id);
            state.leaving.remove(id);
            return;
        };
        let before = state.seen.get(id).filter(|before| before.held.uid == held.uid);
        let seen = Seen {
            held: held.clone(),
            put_on: held.is_held() || before.is_some_and(|before| before.put_on),
            withdrawn: before.is_some_and(|before| before.withdrawn),
        };
        if id.kind == Kind::Cluster && held.deleted.is_some() && held.is_held() {
            state.leaving.insert(id.clone());
        } else {
            state.leaving.remove(id);
        }
        state.waiting.insert(id.clone());
        state.seen.insert(id.clone(), seen);
        drop(state);
        self.changed.notify_one();
    }

    /// Takes the word that nothing is left of an object that is deleted.
    pub(super) fn withdrawn(&self, id: &ObjectId) {
        let mut state = self.lock();
        // Of one that is not deleted nobody can say so: it is about an earlier one of that name.
        if let Some(seen) = state.seen.get_mut(id).filter(|seen| seen.held.deleted.is_some()) {
            seen.withdrawn = true;
            state.waiting.insert(id.clone());
            drop(state);
            self.changed.notify_one();
        }
    }

    /// A few objects of which something has to be done, and when to look again if there are none.
    fn due(&self, now: Timestamp, patience: Duration) -> (Vec<(ObjectId, Held, Step)>, Option<Duration>) {
        let mut guard = self.lock();
        let state = &mut *guard;
        let mut soonest: Option<Duration> = None;
        for id in &state.leaving {
            let since = state.seen.get(id).filter(|seen| !seen.withdrawn).and_then(|seen| seen.held.deleted);
            match since.map(|since| left(since, now, patience)) {
                Some(Some(left)) => soonest = Some(soonest.map_or(left, |soonest| soonest.min(left))),
                Some(None) => {
                    state.waiting.insert(id.clone());
                }
                None => {}
            }
        }
        let mut due = Vec::new();
        while due.len() < WRITERS {
            let Some(id) = state.waiting.pop_first() else { break };
            let Some(seen) = state.seen.get(&id) else { continue };
            if let Some(step) = seen.step(&id, now, patience) {
                due.push((id, seen.held.clone(), step));
            }
        }
        (due, soonest)
    }

    fn again(&self, ids: impl IntoIterator<Item = ObjectId>) {
        self.lock().waiting.extend(ids);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Holds back and lets go, until it is stopped.
pub(super) async fn keep(
    client: Client,
    family: Family,
    finalizers: Arc<Finalizers>,
    holding: Holding,
    stop: CancellationToken,
) {
    let reporter = Reporter { controller: MANAGER.to_owned(), instance: None };
    let recorder = Recorder::new(client.clone(), reporter);
    let keeper = Keeper { recorder, client, family, holding };
    stop.run_until_cancelled(keeper.run(&finalizers)).await;
}

struct Keeper {
    client: Client,
    family: Family,
    recorder: Recorder,
    holding: Holding,
}

struct Failed {
    reason: String,
    forbidden: bool,
}

impl Failed {
    fn new(reason: &str) -> Self {
        Self { reason: reason.to_owned(), forbidden: false }
    }
}

impl Keeper {
    async fn run(&self, finalizers: &Finalizers) {
        let mut patience = Patience::default();
        let mut forbidden = BTreeSet::new();
        loop {
            let (due, soonest) = finalizers.due(Timestamp::now(), self.holding.withdraw_timeout);
            if due.is_empty() {
                let changed = finalizers.changed.notified();
                match soonest {
                    Some(soonest) => drop(timeout(soonest, changed).await),
                    None => changed.await,
                }
                continue;
            }
            let steps = futures::stream::iter(due).map(|(id, held, step)| async move {
                let done = self.take(&id, &held, step).await;
                (id, done)
            });
            let mut failed = Vec::new();
            let mut steps = steps.buffer_unordered(WRITERS);
            while let Some((id, done)) = steps.next().await {
                match done {
                    Ok(Some(now)) => finalizers.observe(&id, Some(&now)),
                    Ok(None) => {}
                    Err(Failed { reason, forbidden: true }) if forbidden.insert(id.kind) => {
                        tracing::warn!(
                            "{id}: the finalizer cannot be changed: {reason}; grant patch; trying again"
                        );
                        failed.push(id);
                    }
                    Err(Failed { reason, .. }) => {
                        tracing::debug!(object = %id, "the finalizer cannot be changed: {reason}; trying again");
                        failed.push(id);
                    }
                }
            }
            if !failed.is_empty() {
                finalizers.again(failed);
                sleep(patience.next().unwrap_or(DEADLINE)).await;
            }
        }
    }

    /// How the object is after the step; nothing if it is gone.
    async fn take(&self, id: &ObjectId, held: &Held, step: Step) -> Result<Option<Held>, Failed> {
        if !(self.holding.leads)() {
            return Err(Failed::new("this operator does not lead any more"));
        }
        if step == Step::GiveUp {
            self.tell_what_remains(id, held).await;
        }
        let others = held.finalizers.iter().filter(|one| *one != WITHDRAW_FINALIZER).map(String::as_str);
        let ours = (step == Step::Hold).then_some(WITHDRAW_FINALIZER);
        let finalizers: Vec<&str> = others.chain(ours).collect();
        // With its version: a list is replaced as a whole, and others write into it too.
        let patch = json!({"metadata": {"resourceVersion": held.version, "finalizers": finalizers}});
        let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        let (client, patch) = (api(&self.client, self.family, id), Patch::Merge(patch));
        match timeout(DEADLINE, client.patch(&id.name, &params, &patch)).await {
            Ok(Ok(object)) => Ok(Some(Held::new(&object))),
            Ok(Err(kube::Error::Api(status))) if status.is_not_found() => Ok(None),
            Ok(Err(error)) => {
                let forbidden = matches!(&error, kube::Error::Api(status) if status.is_forbidden());
                Err(Failed { reason: chain(&error), forbidden })
            }
            Err(_) => Err(Failed::new("there was no answer")),
        }
    }

    async fn tell_what_remains(&self, id: &ObjectId, held: &Held) {
        let namespace = id.namespace.as_deref().unwrap_or_default();
        let Ok(cluster) = ClusterId::new(namespace, &id.name) else { return };
        let remains = timeout(DEADLINE, (self.holding.remains)(cluster)).await;
        let mut note = format!(
            "what Fleet put there could not be withdrawn within {} s, so the Cluster goes without that. ",
            self.holding.withdraw_timeout.as_secs()
        );
        let _ = match remains {
            Ok(remains) => write!(note, "{remains}"),
            Err(_) => write!(note, "What stays there could not be found out"),
        };
        tracing::warn!("{id}: {note}");
        let resource = resource(id.kind, self.family);
        let reference = ObjectReference {
            api_version: Some(resource.api_version),
            kind: Some(resource.kind),
            namespace: id.namespace.as_deref().map(str::to_owned),
            name: Some(id.name.to_string()),
            uid: held.uid.clone(),
            ..ObjectReference::default()
        };
        let event = Event {
            type_: EventType::Warning,
            reason: "LeftBehind".to_owned(),
            note: Some(cut(&note).to_owned()),
            action: "Withdraw".to_owned(),
            secondary: None,
        };
        match timeout(DEADLINE, self.recorder.publish(&event, &reference)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!("{id}: no Event can be written: {}; it is in this log", chain(&error))
            }
            Err(_) => tracing::warn!("{id}: no Event can be written: there was no answer; it is in this log"),
        }
    }
}
