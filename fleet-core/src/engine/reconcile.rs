//! Bringing one Work up to date in one cluster: look at what should be there and what was done, do the difference,
//! write down what came of it. Level, not edge: it may run at any time, any number of times.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use sha2::{Digest, Sha256};

use crate::apply::{ApplyRequest, InventoryItem, Mode, Outcome, RemoveRequest};
use crate::cluster::{Cluster, ClusterId};
use crate::engine::Shared;
use crate::engine::schedule::{Job, Lane, Verdict};
use crate::engine::triggers::{Fault, Found, Trigger};
use crate::manifest::Manifest;
use crate::store::{StoreError, Stored};
use crate::work::{AppliedState, AppliedWork, Intent, Work, WorkId};

/// What should be there.
enum Desired {
    Present(Arc<Trigger>),
    Absent,
    /// It does not belong there any more, though its last event said Create; not to be taken away unless allowed.
    Withdrawn,
    /// What is there stays there, and is nobody's from now on.
    Forgotten,
    /// Its trigger could not be read: everything stays as it is.
    Unknown,
}

/// The record of a Work in a cluster, and what is stored of it.
struct Record {
    applied: AppliedWork,
    stored: Option<Stored<Arc<AppliedWork>>>,
    /// The Work's trigger, if the Work is still there.
    trigger: Option<Arc<str>>,
}

/// Looks at a Work in a cluster, and does what is to be done.
pub(super) async fn step(shared: &Shared, job: &mut Job, lane: &Lane) -> Verdict {
    match try_step(shared, job, lane).await {
        Ok(verdict) => verdict,
        // Somebody else wrote: look at what there is now.
        Err(error) if error.is_conflict() => Verdict::Again,
        Err(error) => {
            tracing::warn!(work = %job.work, cluster = %lane.cluster, %error, "the store failed; trying again");
            shared.later(shared.config.retry)
        }
    }
}

async fn try_step(shared: &Shared, job: &mut Job, lane: &Lane) -> Result<Verdict, StoreError> {
    let cluster = &lane.cluster;
    let stored = shared.store.work(&job.work).await?;
    let record = shared.store.applied_in(&job.work, cluster).await?;
    let Some(Stored { value: work, revision }) = stored else {
        // Dropped by somebody else; what was applied for it is taken away by what we wrote down.
        return match record {
            Some(record) => remove(shared, job, lane, Record::read(shared, job, record, None)).await,
            None => Ok(Verdict::Done),
        };
    };
    let Some(target) = shared.reachable(cluster) else {
        return Ok(Verdict::Done);
    };
    let verdict = match desired(shared, &work, &target) {
        Desired::Present(trigger) => {
            // What was allowed before it belonged here again is not allowed for the next time.
            job.withdraw = false;
            present(shared, job, &work, &trigger, target, record, lane).await?
        }
        Desired::Unknown => Verdict::Done,
        Desired::Withdrawn if !job.withdraw => Verdict::Done,
        Desired::Forgotten => {
            if let Some(record) = record {
                shared.store.delete_applied(&job.work, cluster, record.revision).await?;
            }
            shared.conditions.moved_on(Some(&work.trigger), (&job.work, cluster), &*shared.catalog);
            Verdict::Done
        }
        Desired::Absent | Desired::Withdrawn => match record {
            Some(record) => {
                let trigger = Some(Arc::clone(&work.trigger));
                let record = Record::read(shared, job, record, trigger);
                remove(shared, job, lane, record).await?
            }
            None => Verdict::Done,
        },
    };
    if verdict == Verdict::Done {
        // Gone is another revision too: then what was just applied has to go again.
        if shared.store.work(&job.work).await?.is_none_or(|now| now.revision != revision) {
            return Ok(Verdict::Again);
        }
        if work.intent == Intent::Delete || job.withdraw {
            shared.finish_removal(&job.work).await?;
        }
    }
    Ok(verdict)
}

fn desired(shared: &Shared, work: &Work, cluster: &Cluster) -> Desired {
    let is_here = shared.clusters.get(&cluster.id).is_some();
    match work.intent {
        _ if !is_here && cluster.keeps_resources() => return Desired::Forgotten,
        Intent::Delete => return Desired::Absent,
        Intent::Create if !is_here => return Desired::Withdrawn,
        Intent::Create => {}
    }
    match shared.definitions.load().find(&work.trigger) {
        Found::Trigger(trigger)
            if trigger.targets_cluster(work.origin.as_ref(), cluster, &shared.clusters) =>
        {
            Desired::Present(Arc::clone(trigger))
        }
        Found::Trigger(_) | Found::Gone => Desired::Withdrawn,
        Found::Unknown => Desired::Unknown,
    }
}

async fn present(
    shared: &Shared,
    job: &mut Job,
    work: &Work,
    trigger: &Trigger,
    target: Arc<Cluster>,
    record: Option<Stored<Arc<AppliedWork>>>,
    lane: &Lane,
) -> Result<Verdict, StoreError> {
    let mut record = record.map_or_else(
        || Record::new(work, target.id.clone(), shared.now()),
        |stored| Record::read(shared, job, stored, Some(Arc::clone(&work.trigger))),
    );
    let origin = work.origin.as_ref().and_then(|origin| shared.clusters.get(origin));
    let manifests: Arc<[Manifest]> = match trigger.render(work, &target, origin.as_deref()) {
        Ok(manifests) => manifests.into(),
        Err(Fault { reason, message }) => {
            // What was applied before stays; nothing is tried until an input changes.
            shared.counters.stalled.add();
            record.stall(work, reason, message);
            record.write(shared).await?;
            return Ok(Verdict::Done);
        }
    };
    let digest = digest(&manifests, trigger);
    if record.applied.digest.as_ref() == Some(&digest) && record.applied.state == AppliedState::Applied {
        record.applied.generation = work.generation;
        record.write(shared).await?;
        return Ok(Verdict::Done);
    }
    // Written down before the first attempt: every object that may come to be, and that what was there may change.
    record.applied.plan(&manifests);
    if record.applied.digest.take().is_some() {
        record.applied.state = AppliedState::Pending;
    }
    record.applied.generation = work.generation;
    record.write(shared).await?;
    let request = ApplyRequest {
        cluster: Arc::clone(&target),
        work: work.id.clone(),
        manifests: Arc::clone(&manifests),
        inventory: record.applied.inventory.clone(),
        identity: trigger.def.identity.clone(),
        mode: Mode::Write,
        deadline: shared.config.apply_deadline,
    };
    let outcomes = shared.bounded(lane, shared.applier.apply(request), manifests.len()).await;
    job.note(shared, &outcomes);
    let mut summary = Summary::default();
    let now = shared.now();
    for (manifest, outcome) in manifests.iter().zip(&outcomes) {
        record.take_in(manifest, outcome, now, shared.uncertain_until());
        summary.add(manifest.id().to_string(), outcome);
    }
    if summary.cluster.is_none() {
        prune(shared, job, &mut record, &manifests, &target, trigger, lane, &mut summary).await;
    }
    record.applied.generation = work.generation;
    if summary.is_done() {
        if record.applied.state != AppliedState::Applied {
            shared.counters.applied.add();
            if let Ok(took) = Duration::try_from(now.duration_since(work.received)) {
                shared.counters.applied_latency.record(took);
            }
        }
        summary.unsettled = record.unsettled(now);
        if summary.unsettled.is_none() {
            record.applied.digest = Some(digest);
        }
    }
    match conclude(shared, &mut record, summary).await {
        Err(error) if error.is_conflict() => overtaken(shared, record.applied).await,
        verdict => verdict,
    }
}

/// Deletes what is in the inventory and not rendered any more.
#[allow(clippy::too_many_arguments)]
async fn prune(
    shared: &Shared,
    job: &mut Job,
    record: &mut Record,
    manifests: &[Manifest],
    target: &Arc<Cluster>,
    trigger: &Trigger,
    lane: &Lane,
    summary: &mut Summary,
) {
    let rendered =
        |item: &InventoryItem| manifests.iter().any(|manifest| manifest.id().same_object(&item.object));
    let stale: Vec<_> = record.applied.inventory.iter().filter(|item| !rendered(item)).cloned().collect();
    if stale.is_empty() {
        return;
    }
    let request = RemoveRequest {
        cluster: Arc::clone(target),
        work: record.applied.work.clone(),
        items: stale.clone(),
        identity: trigger.def.identity.clone(),
        deadline: shared.config.apply_deadline,
    };
    let began = shared.now();
    let outcomes = shared.bounded(lane, shared.applier.remove(request), stale.len()).await;
    job.note(shared, &outcomes);
    record.applied.inventory.retain(&rendered);
    let left = stale.into_iter().zip(&outcomes);
    record
        .applied
        .inventory
        .extend(left.filter_map(|(item, outcome)| summary.left(shared, item, outcome, began)));
}

async fn remove(
    shared: &Shared,
    job: &mut Job,
    lane: &Lane,
    mut record: Record,
) -> Result<Verdict, StoreError> {
    let work = &job.work.clone();
    let cluster = &lane.cluster;
    let Some(target) = shared.reachable(cluster) else {
        return Ok(Verdict::Done);
    };
    // Written down before the first attempt: nothing is there as rendered any more.
    if record.applied.digest.take().is_some() || record.applied.state == AppliedState::Applied {
        record.applied.state = AppliedState::Waiting { reason: "to be removed".to_owned() };
        record.write(shared).await?;
    }
    let mut summary = Summary::default();
    if !record.applied.inventory.is_empty() {
        let items = record.applied.inventory.clone();
        let definitions = shared.definitions.load();
        let trigger = work_trigger(shared, work).await?.and_then(|name| definitions.triggers.get(&name));
        let request = RemoveRequest {
            cluster: target,
            work: work.clone(),
            items: items.clone(),
            identity: trigger.and_then(|trigger| trigger.def.identity.clone()),
            deadline: shared.config.apply_deadline,
        };
        let began = shared.now();
        let outcomes = shared.bounded(lane, shared.applier.remove(request), items.len()).await;
        job.note(shared, &outcomes);
        let left = items.into_iter().zip(&outcomes);
        record.applied.inventory =
            left.filter_map(|(item, outcome)| summary.left(shared, item, outcome, began)).collect();
    }
    if record.applied.inventory.is_empty() {
        if let Some(stored) = record.stored {
            match shared.store.delete_applied(work, cluster, stored.revision).await {
                Err(error) if error.is_conflict() => return overtaken(shared, record.applied).await,
                deleted => deleted?,
            }
        }
        shared.conditions.moved_on(record.trigger.as_ref(), (work, cluster), &*shared.catalog);
        shared.counters.removed.add();
        return Ok(Verdict::Done);
    }
    match conclude(shared, &mut record, summary).await {
        Err(error) if error.is_conflict() => overtaken(shared, record.applied).await,
        verdict => verdict,
    }
}

/// Another operator wrote the record during a call of ours: what the call made must not be forgotten, and what they
/// applied may not be there any more.
async fn overtaken(shared: &Shared, ours: AppliedWork) -> Result<Verdict, StoreError> {
    loop {
        let mut record = match shared.store.applied_in(&ours.work, &ours.cluster).await? {
            Some(stored) => Record::of(stored, None),
            None if ours.inventory.is_empty() => return Ok(Verdict::Again),
            None => Record {
                applied: AppliedWork { inventory: Vec::new(), ..ours.clone() },
                stored: None,
                trigger: None,
            },
        };
        record.applied.digest = None;
        record.applied.state = AppliedState::Pending;
        for item in &ours.inventory {
            match record.applied.inventory.iter_mut().find(|it| it.object.same_object(&item.object)) {
                None => record.applied.inventory.push(item.clone()),
                Some(theirs) => theirs.uncertain_until = theirs.uncertain_until.max(item.uncertain_until),
            }
        }
        match record.write(shared).await {
            Err(error) if error.is_conflict() => {}
            written => return written.map(|()| Verdict::Again),
        }
    }
}

async fn work_trigger(shared: &Shared, work: &WorkId) -> Result<Option<Arc<str>>, StoreError> {
    Ok(shared.store.work(work).await?.map(|stored| Arc::clone(&stored.value.trigger)))
}

/// Writes down what came of an attempt, and says what is next.
async fn conclude(shared: &Shared, record: &mut Record, summary: Summary) -> Result<Verdict, StoreError> {
    let before = record.applied.state.clone();
    let verdict = if let Some((least, reason)) = summary.cluster {
        // Every Work there has the same trouble: it is told once, with the cluster, and not written into each.
        tracing::debug!(cluster = %record.applied.cluster, reason, "the cluster failed");
        shared.counters.retried.add();
        record.write(shared).await?;
        return Ok(Verdict::ClusterFailed { backoff: shared.config.cluster_down, least });
    } else if let Some((least, reason)) = summary.retry {
        shared.counters.retried.add();
        record.applied.state = AppliedState::Retrying { reason };
        Verdict::Later { backoff: shared.config.retry, least }
    } else if let Some(reason) = summary.waiting {
        record.applied.state = AppliedState::Waiting { reason };
        shared.later(shared.config.waiting)
    } else if let Some((reason, message)) = summary.stalled {
        record.applied.state = AppliedState::Stalled { reason: reason.to_owned(), message };
        shared.later(shared.config.stalled)
    } else {
        record.applied.state = AppliedState::Applied;
        match summary.unsettled {
            // It is as it should be, and an earlier call may still change that: applied once more when it cannot.
            Some(least) => Verdict::Later { backoff: shared.config.waiting, least },
            None => Verdict::Done,
        }
    };
    if record.applied.state != before && matches!(record.applied.state, AppliedState::Stalled { .. }) {
        shared.counters.stalled.add();
    }
    record.write(shared).await?;
    Ok(verdict)
}

impl Job {
    /// Remembers a call without an answer also where the record may not come to say so.
    fn note(&mut self, shared: &Shared, outcomes: &[Outcome]) {
        if outcomes.iter().any(|outcome| matches!(outcome, Outcome::Unknown { .. })) {
            self.uncertain_until = self.uncertain_until.max(shared.uncertain_until());
        }
    }
}

impl Record {
    fn new(work: &Work, cluster: ClusterId, now: Timestamp) -> Self {
        let applied = AppliedWork::pending(work, cluster, now);
        Self { applied, stored: None, trigger: Some(Arc::clone(&work.trigger)) }
    }

    fn of(stored: Stored<Arc<AppliedWork>>, trigger: Option<Arc<str>>) -> Self {
        Self { applied: (*stored.value).clone(), stored: Some(stored), trigger }
    }

    /// A record as it is stored. A call that nobody knows of may have been under way when the last process died; and one
    /// that only the job knows of, if the record could not be written after it.
    fn read(shared: &Shared, job: &Job, stored: Stored<Arc<AppliedWork>>, trigger: Option<Arc<str>>) -> Self {
        let mut record = Self::of(stored, trigger);
        if let Some(until) = job.uncertain_until.filter(|until| *until > shared.now()) {
            for item in &mut record.applied.inventory {
                item.uncertain_until = item.uncertain_until.max(Some(until));
            }
        }
        if record.applied.digest.is_none() && record.applied.updated < shared.started() {
            let until = shared.uncertain_since_start().filter(|until| *until > shared.now());
            for item in &mut record.applied.inventory {
                item.uncertain_until = item.uncertain_until.max(until);
            }
        }
        record
    }

    /// For how long a call without an answer may still change what is there.
    fn unsettled(&self, now: Timestamp) -> Option<Duration> {
        let last = self.applied.inventory.iter().filter_map(|item| item.uncertain_until).max()?;
        Duration::try_from(last.duration_since(now)).ok().filter(|left| !left.is_zero())
    }

    fn stall(&mut self, work: &Work, reason: &str, message: String) {
        self.applied.generation = work.generation;
        self.applied.digest = None;
        self.applied.state = AppliedState::Stalled { reason: reason.to_owned(), message };
    }

    fn take_in(
        &mut self,
        manifest: &Manifest,
        outcome: &Outcome,
        now: Timestamp,
        uncertain_until: Option<Timestamp>,
    ) {
        let inventory = &mut self.applied.inventory;
        let Some(place) = inventory.iter().position(|item| item.object.same_object(manifest.id())) else {
            return;
        };
        let Some(item) = inventory.get_mut(place) else {
            return;
        };
        match outcome {
            Outcome::Applied { uid } => {
                *item = InventoryItem {
                    object: manifest.id().clone(),
                    uid: Some(Arc::clone(uid)),
                    // An earlier call without an answer is not settled by the answer to this one.
                    uncertain_until: item.uncertain_until.filter(|until| *until > now),
                    applied_at: Some(now),
                };
            }
            // The answer says that it is not ours, and an earlier try cannot make it so any more.
            Outcome::Conflict { .. } | Outcome::Rejected { .. }
                if item.uid.is_none() && item.uncertain_until.is_none_or(|until| until <= now) =>
            {
                inventory.remove(place);
            }
            Outcome::Unknown { .. } => item.uncertain_until = uncertain_until,
            _ => {}
        }
    }

    /// Writes the record, unless it is stored like that.
    async fn write(&mut self, shared: &Shared) -> Result<(), StoreError> {
        self.tell(shared);
        if self.stored.as_ref().is_some_and(|stored| *stored.value == self.applied) {
            return Ok(());
        }
        self.applied.updated = shared.now();
        let value = Arc::new(self.applied.clone());
        let expected = self.stored.take().map(|stored| stored.revision);
        let revision = shared.store.put_applied(Arc::clone(&value), expected).await?;
        self.stored = Some(Stored { value, revision });
        Ok(())
    }

    /// Tells, as the trigger's condition, whether the Work is stalled here.
    fn tell(&self, shared: &Shared) {
        let place = (&self.applied.work, &self.applied.cluster);
        match (&self.trigger, &self.applied.state) {
            (Some(trigger), AppliedState::Stalled { reason, message }) => {
                shared.conditions.stalled(trigger, place, format!("{reason}: {message}"), &*shared.catalog);
            }
            (trigger, _) => shared.conditions.moved_on(trigger.as_ref(), place, &*shared.catalog),
        }
    }
}

/// The worst of a set of outcomes, by what is to be done about it.
#[derive(Default)]
struct Summary {
    cluster: Option<(Duration, String)>,
    retry: Option<(Duration, String)>,
    waiting: Option<String>,
    stalled: Option<(&'static str, String)>,
    /// All is as it should be, but a call without an answer may still change that for so long.
    unsettled: Option<Duration>,
}

impl Summary {
    fn add(&mut self, object: String, outcome: &Outcome) {
        match outcome {
            Outcome::Applied { .. } | Outcome::Gone => {}
            Outcome::Retry { after, reason, cluster: true } => {
                self.cluster.get_or_insert_with(|| (*after, reason.clone()));
            }
            Outcome::Retry { after, reason, cluster: false } => {
                self.retry.get_or_insert_with(|| (*after, format!("{object}: {reason}")));
            }
            Outcome::Unknown { reason } => {
                self.retry.get_or_insert_with(|| (Duration::ZERO, format!("{object}: {reason}")));
            }
            Outcome::Waiting { reason } => {
                self.waiting.get_or_insert_with(|| format!("{object}: {reason}"));
            }
            Outcome::Conflict { owner } => {
                self.stalled.get_or_insert_with(|| {
                    ("Conflict", format!("{object} exists and is not ours; it belongs to {owner} and is left alone; give ours another name"))
                });
            }
            Outcome::Rejected { reason } => {
                self.stalled.get_or_insert_with(|| ("Rejected", format!("{object}: {reason}")));
            }
        }
    }

    /// What is left of an item after an attempt that `began` then to remove it.
    fn left(
        &mut self,
        shared: &Shared,
        mut item: InventoryItem,
        outcome: &Outcome,
        began: Timestamp,
    ) -> Option<InventoryItem> {
        match (outcome, item.uncertain_until) {
            (Outcome::Gone, Some(until)) if until > began => {
                self.waiting.get_or_insert_with(|| {
                    format!("{}: a request without an answer may still create it until {until}", item.object)
                });
            }
            (Outcome::Gone, _) => return None,
            (Outcome::Unknown { .. }, _) => item.uncertain_until = shared.uncertain_until(),
            _ => {}
        }
        self.add(item.object.to_string(), outcome);
        Some(item)
    }

    fn is_done(&self) -> bool {
        self.cluster.is_none() && self.retry.is_none() && self.waiting.is_none() && self.stalled.is_none()
    }
}

/// What was applied, in short: all that decides whether it has to be applied again.
fn digest(manifests: &[Manifest], trigger: &Trigger) -> String {
    use std::fmt::Write;
    let mut hasher = Sha256::new();
    for manifest in manifests {
        // Writing into a hasher cannot fail.
        let _ = serde_json::to_writer(Hashing(&mut hasher), manifest.object());
        hasher.update([0]);
    }
    if let Some(identity) = &trigger.def.identity {
        hasher.update(identity.namespace.as_bytes());
        hasher.update([0]);
        hasher.update(identity.name.as_bytes());
    }
    let mut text = String::with_capacity(32);
    for byte in hasher.finalize().iter().take(16) {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

struct Hashing<'a>(&'a mut Sha256);

impl std::io::Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
