//! Bringing one Work up to date in one cluster: look at what should be there and what was done, do the difference,
//! write down what came of it. Level, not edge: it may run at any time, any number of times.

use std::sync::Arc;
use std::time::Duration;

use crate::apply::{ApplyRequest, InventoryItem, Mode, RemoveRequest};
use crate::cluster::Cluster;
use crate::engine::Shared;
use crate::engine::digest::digest;
use crate::engine::lane::{Job, Lane};
use crate::engine::record::Record;
use crate::engine::schedule::Verdict;
use crate::engine::summary::Summary;
use crate::engine::triggers::{Fault, Found, Trigger};
use crate::manifest::Manifest;
use crate::store::{StoreError, Stored};
use crate::work::{AppliedState, AppliedWork, Intent, Work};

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

/// One look at one Work in one cluster.
struct Step<'a> {
    shared: &'a Shared,
    job: &'a mut Job,
    lane: &'a Lane,
}

/// Looks at a Work in a cluster, and does what is to be done.
pub(super) async fn step(shared: &Shared, job: &mut Job, lane: &Lane) -> Verdict {
    match try_step(&mut Step { shared, job, lane }).await {
        Ok(verdict) => verdict,
        // Somebody else wrote: look at what there is now.
        Err(error) if error.is_conflict() => Verdict::Again,
        Err(error) => {
            tracing::warn!(work = %job.work, cluster = %lane.cluster, %error, "the store failed; trying again");
            shared.later(shared.config.retry)
        }
    }
}

async fn try_step(step: &mut Step<'_>) -> Result<Verdict, StoreError> {
    let (shared, cluster, id) = (step.shared, &step.lane.cluster, step.job.work.clone());
    let stored = shared.store.work(&id).await?;
    let record = shared.store.applied_in(&id, cluster).await?;
    let Some(Stored { value: work, revision }) = stored else {
        // Dropped by somebody else; what was applied for it is taken away by what we wrote down.
        return match record {
            Some(record) => step.remove(Record::read(shared, step.job, record, None)).await,
            None => Ok(Verdict::Done),
        };
    };
    let Some(target) = shared.reachable(cluster) else {
        return Ok(Verdict::Done);
    };
    let verdict = match desired(shared, &work, &target) {
        Desired::Present(trigger) => {
            // What was allowed before it belonged here again is not allowed for the next time.
            step.job.withdraw = false;
            step.present(&work, &trigger, target, record).await?
        }
        Desired::Unknown => Verdict::Done,
        Desired::Withdrawn if !step.job.withdraw => {
            if record.is_some() {
                // What was to be removed by an event, perhaps, before another one came for elsewhere.
                shared.sweeps.left_behind(&work, cluster);
            }
            Verdict::Done
        }
        Desired::Forgotten => {
            if let Some(record) = record {
                shared.store.delete_applied(&id, cluster, record.revision).await?;
            }
            shared.conditions.moved_on(Some(&work.trigger), (&id, cluster), &*shared.catalog);
            Verdict::Done
        }
        Desired::Absent | Desired::Withdrawn => match record {
            Some(record) => {
                let trigger = Some(Arc::clone(&work.trigger));
                let record = Record::read(shared, step.job, record, trigger);
                step.remove(record).await?
            }
            None => Verdict::Done,
        },
    };
    if verdict == Verdict::Done {
        // Gone is another revision too: then what was just applied has to go again.
        if shared.store.work(&id).await?.is_none_or(|now| now.revision != revision) {
            return Ok(Verdict::Again);
        }
        if work.intent == Intent::Delete || step.job.withdraw {
            shared.finish_removal(&id).await?;
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

impl Step<'_> {
    /// Brings about that what the Work says is there.
    async fn present(
        &mut self,
        work: &Work,
        trigger: &Trigger,
        target: Arc<Cluster>,
        record: Option<Stored<Arc<AppliedWork>>>,
    ) -> Result<Verdict, StoreError> {
        let shared = self.shared;
        let mut record = record.map_or_else(
            || Record::new(work, target.id.clone(), shared.now()),
            |stored| Record::read(shared, self.job, stored, Some(Arc::clone(&work.trigger))),
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
        let is_applied = record.applied.state == AppliedState::Applied;
        let is_certain = record.unsettled(shared.now()).is_none();
        if is_certain && is_applied && record.applied.digest.as_ref() == Some(&digest) {
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
            claims: Vec::new(),
            policy: Arc::clone(&trigger.def.policy),
            identity: trigger.def.identity.clone(),
            mode: Mode::Write,
            deadline: shared.config.apply_deadline,
        };
        let outcomes = shared.bounded(self.lane, shared.applier.apply(request), manifests.len()).await;
        self.job.note(shared, &outcomes);
        let mut summary = Summary::default();
        let now = shared.now();
        for (manifest, outcome) in manifests.iter().zip(&outcomes) {
            record.take_in(manifest, outcome, now, shared.uncertain_until());
            summary.add(manifest.id().to_string(), outcome);
        }
        if summary.cluster.is_none() {
            self.prune(&mut record, &manifests, &target, trigger, &mut summary).await;
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
            Err(error) if error.is_retryable() => overtaken(shared, record.applied).await,
            verdict => verdict,
        }
    }

    /// Deletes what is in the inventory and not rendered any more.
    async fn prune(
        &mut self,
        record: &mut Record,
        manifests: &[Manifest],
        target: &Arc<Cluster>,
        trigger: &Trigger,
        summary: &mut Summary,
    ) {
        let shared = self.shared;
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
            mode: Mode::Write,
            identity: trigger.def.identity.clone(),
            deadline: shared.config.apply_deadline,
        };
        let began = shared.now();
        let outcomes = shared.bounded(self.lane, shared.applier.remove(request), stale.len()).await;
        self.job.note(shared, &outcomes);
        record.applied.inventory.retain(&rendered);
        let left = stale.into_iter().zip(&outcomes);
        record
            .applied
            .inventory
            .extend(left.filter_map(|(item, outcome)| summary.left(shared, item, outcome, began)));
    }

    /// Takes away whatever the record says may be there.
    async fn remove(&mut self, mut record: Record) -> Result<Verdict, StoreError> {
        let (shared, cluster, work) = (self.shared, &self.lane.cluster, self.job.work.clone());
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
            let trigger = record.trigger.as_ref().and_then(|name| definitions.triggers.get(name));
            let request = RemoveRequest {
                cluster: target,
                work: work.clone(),
                items: items.clone(),
                mode: Mode::Write,
                identity: trigger.and_then(|trigger| trigger.def.identity.clone()),
                deadline: shared.config.apply_deadline,
            };
            let began = shared.now();
            let outcomes = shared.bounded(self.lane, shared.applier.remove(request), items.len()).await;
            self.job.note(shared, &outcomes);
            let left = items.into_iter().zip(&outcomes);
            record.applied.inventory =
                left.filter_map(|(item, outcome)| summary.left(shared, item, outcome, began)).collect();
        }
        if record.applied.inventory.is_empty() {
            if let Some(stored) = record.stored {
                match shared.store.delete_applied(&work, cluster, stored.revision).await {
                    Err(error) if error.is_conflict() => return overtaken(shared, record.applied).await,
                    deleted => deleted?,
                }
            }
            shared.conditions.moved_on(record.trigger.as_ref(), (&work, cluster), &*shared.catalog);
            shared.counters.removed.add();
            return Ok(Verdict::Done);
        }
        match conclude(shared, &mut record, summary).await {
            Err(error) if error.is_retryable() => overtaken(shared, record.applied).await,
            verdict => verdict,
        }
    }
}

/// Another operator wrote the record during a call of ours, or may have while the store failed: what the call made must
/// not be forgotten, and what they applied may not be there any more.
async fn overtaken(shared: &Shared, ours: AppliedWork) -> Result<Verdict, StoreError> {
    let mut failures = 0;
    loop {
        match add_to_record(shared, &ours).await {
            Err(error) if error.is_conflict() => {}
            // Nobody else knows what the call made.
            Err(error) if error.is_retryable() => {
                tracing::warn!(work = %ours.work, cluster = %ours.cluster, %error, "the store failed; trying again");
                let pause = tokio::time::sleep(shared.pause(shared.config.retry, failures));
                if shared.stop.run_until_cancelled(pause).await.is_none() {
                    return Err(error);
                }
                failures += 1;
            }
            written => return written.map(|()| Verdict::Again),
        }
    }
}

async fn add_to_record(shared: &Shared, ours: &AppliedWork) -> Result<(), StoreError> {
    let mut record = match shared.store.applied_in(&ours.work, &ours.cluster).await? {
        Some(stored) => Record::of(stored, None),
        None if ours.inventory.is_empty() => return Ok(()),
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
    record.write(shared).await
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
