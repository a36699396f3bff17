//! Bringing one Work up to date in one cluster: look at what should be there and what was done, do the difference,
//! write down what came of it. Level, not edge: it may run at any time, any number of times.

mod claim;
mod conclude;
pub(super) mod depend;
mod drift;
mod present;
mod preview;
mod remove;
mod wait;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::cluster::Cluster;
use crate::engine::Shared;
use crate::engine::holdings::Sight;
use crate::engine::lane::{Job, Lane};
use crate::engine::recent::Phase;
use crate::engine::record::Record;
use crate::engine::schedule::Verdict;
use crate::engine::together::{Events, Wanted};
use crate::engine::triggers::{Found, Trigger};
use crate::manifest::ObjectRef;
use crate::policy::{StopMatching, SyncMode};
use crate::store::{StoreError, Stored};
use crate::work::{AppliedState, AppliedWork, Intent, Work};

/// What should be there.
enum Desired<'a> {
    Present(Arc<Trigger>, Events<'a>),
    Absent,
    /// It does not belong there any more, though its last event said Create; not to be taken away unless allowed.
    Withdrawn,
    /// What is there stays, and is known to stay.
    Left(&'static str),
    /// What is there stays there, and is nobody's from now on.
    Forgotten,
    /// Nothing is written; only told what would be: as it should be by this trigger, or that it should be gone.
    Previewed(Option<(Arc<Trigger>, Events<'a>)>),
    /// Its trigger could not be read: everything stays as it is.
    Unknown,
}

/// One look at one Work in one cluster.
struct Step<'a> {
    shared: &'a Arc<Shared>,
    job: &'a mut Job,
    lane: &'a Lane,
    /// What was seen of its objects and is not as expected.
    sights: Vec<(ObjectRef, Sight)>,
    /// Objects with its mark that its record does not name, and their UIDs.
    orphans: Vec<(ObjectRef, Arc<str>)>,
    /// How long nothing more is done for the Work here.
    rest: Duration,
    /// When the event was received that this is about.
    received: Option<Timestamp>,
    /// Whether nothing was done, because something it is rendered from is being looked up.
    is_unread: bool,
}

/// Looks at a Work in a cluster, and does what is to be done.
pub(super) async fn step(shared: &Arc<Shared>, job: &mut Job, lane: &Lane) -> Verdict {
    let sights = shared.holdings.take_sights(&job.work, &lane.cluster);
    let orphans = shared.holdings.take_orphans(&job.work, &lane.cluster);
    let seen = sights.clone();
    let mut step =
        Step { shared, job, lane, sights, orphans, rest: Duration::ZERO, received: None, is_unread: false };
    let result = try_step(&mut step).await;
    if !step.rest.is_zero() {
        shared.stop.run_until_cancelled(tokio::time::sleep(step.rest)).await;
    }
    if result.is_err() || step.is_unread {
        // Nobody else tells of it again.
        shared.holdings.put_back(&job.work, &lane.cluster, seen);
    }
    match result {
        Ok(verdict) => verdict,
        // Somebody else wrote: look at what there is now.
        Err(error) if error.is_conflict() => Verdict::Again,
        Err(error) => {
            job.unheard = true;
            tracing::warn!(work = %job.work, cluster = %lane.cluster, %error, "the store failed; trying again");
            shared.later(shared.config.retry)
        }
    }
}

async fn try_step(step: &mut Step<'_>) -> Result<Verdict, StoreError> {
    let (shared, cluster, id) = (step.shared, &step.lane.cluster, step.job.work.clone());
    let stored = shared.store.work(&id).await?;
    let mut record = shared.store.applied_in(&id, cluster).await?;
    if step.job.unheard {
        step.job.unheard = false;
        if let Some(Stored { value, revision }) = &mut record {
            // A conflict brings what is really there; a record that seems to be missing is made, or conflicts too.
            *revision = shared.store.put_applied(Arc::clone(value), Some(revision.clone())).await?;
        }
    }
    let Some(Stored { value: work, revision }) = stored else {
        // Dropped by somebody else; what was applied for it is taken away by what we wrote down.
        return match record {
            Some(record) => step.remove(Record::read(shared, step.job, record, None)).await,
            None => {
                shared.forget_held(&id, cluster, None);
                Ok(Verdict::Done)
            }
        };
    };
    let Some(target) = shared.reachable(cluster) else {
        return Ok(Verdict::Done);
    };
    if record.is_none() {
        // Somebody else may have been faster.
        shared.forget_held(&id, cluster, Some(&work.trigger));
    }
    let trigger = || Some(Arc::clone(&work.trigger));
    // After the record: whoever takes in a later event writes that.
    let events = match shared.clusters.get(cluster) {
        Some(_) => shared.events(&work, &target).await?,
        None => Events::Own,
    };
    let is_nothing = matches!(events, Events::Nothing);
    step.received = Some(events.received(&work));
    let verdict = match desired(shared, &work, &target, record.as_ref().map(|record| &*record.value), events)
    {
        Desired::Present(trigger, events) => {
            // What was allowed before it belonged here again is not allowed for the next time.
            step.job.withdraw = false;
            step.present(&work, &trigger, target, record, events).await?
        }
        Desired::Unknown => Verdict::Done,
        Desired::Withdrawn if !step.job.withdraw => {
            if record.is_some() {
                shared.rollouts.forget(&id, cluster);
                // What was to be removed by an event, perhaps, before another one came for elsewhere.
                shared.left_behind(&work, cluster);
            }
            Verdict::Done
        }
        Desired::Forgotten => {
            if let Some(record) = record {
                step.forget(Record::read(shared, step.job, record, trigger())).await?;
            }
            Verdict::Done
        }
        Desired::Previewed(by) => step.preview(&work, by, target, record).await?,
        Desired::Left(why) => match record {
            Some(record) => step.leave(Record::read(shared, step.job, record, trigger()), why).await?,
            None => Verdict::Done,
        },
        Desired::Absent | Desired::Withdrawn => match record {
            Some(record) => {
                let verdict = step.remove(Record::read(shared, step.job, record, trigger())).await?;
                if verdict == Verdict::Done && work.intent == Intent::Delete {
                    step.note(Phase::Done);
                }
                verdict
            }
            None => Verdict::Done,
        },
    };
    if verdict == Verdict::Done {
        // Gone is another revision too: then what was just applied has to go again.
        if shared.store.work(&id).await?.is_none_or(|now| now.revision != revision) {
            return Ok(Verdict::Again);
        }
        if work.intent == Intent::Delete || step.job.withdraw || is_nothing {
            shared.finish_removal(&id).await?;
        }
    }
    Ok(verdict)
}

fn desired<'a>(
    shared: &Shared,
    work: &Work,
    cluster: &Cluster,
    record: Option<&AppliedWork>,
    events: Events<'a>,
) -> Desired<'a> {
    let is_here = shared.clusters.get(&cluster.id).is_some();
    if !is_here && cluster.keeps_resources() {
        return Desired::Forgotten;
    }
    let definitions = shared.definitions.load();
    let found = definitions.find(&work.trigger);
    let was_previewed = record.is_some_and(|record| matches!(record.state, AppliedState::Previewed { .. }));
    let only_previews = match &found {
        Found::Trigger(trigger) => trigger.def.policy.sync == SyncMode::DryRun,
        Found::Gone | Found::Unknown => was_previewed,
    };
    let absent = |otherwise| match (only_previews, &found) {
        (false, _) => otherwise,
        (true, Found::Gone) => {
            Desired::Left("its trigger was in mode DryRun when it was deleted, so nothing was removed")
        }
        (true, _) => Desired::Previewed(None),
    };
    let Wanted { intent, belongs } = match &found {
        Found::Trigger(trigger) => events.wanted(work, trigger, cluster, &shared.clusters),
        Found::Gone | Found::Unknown => Wanted { intent: work.intent, belongs: false },
    };
    match (intent, &found) {
        (Intent::Delete, _) => absent(Desired::Absent),
        (Intent::Create, Found::Unknown) if is_here => Desired::Unknown,
        (Intent::Create, Found::Trigger(trigger)) if is_here && belongs => match only_previews {
            true => Desired::Previewed(Some((Arc::clone(trigger), events))),
            false => Desired::Present(Arc::clone(trigger), events),
        },
        (Intent::Create, Found::Trigger(trigger))
            if is_here
                && trigger.def.policy.stop_matching == StopMatching::LeavePolicies
                && !only_previews =>
        {
            Desired::Left("the cluster does not match any more, and the trigger says LeavePolicies")
        }
        (Intent::Create, Found::Gone) if record.is_some_and(|record| record.is_left()) && is_here => {
            Desired::Left("the cluster did not match any more when the trigger was deleted")
        }
        (Intent::Create, _) => absent(Desired::Withdrawn),
    }
}

impl Step<'_> {
    /// Notes how far the event is here, for people.
    fn note(&self, phase: Phase) {
        if let Some(received) = self.received {
            let shared = self.shared;
            shared.recent.note(&self.job.work, received, &self.lane.cluster, phase, shared.now());
        }
    }

    /// Something it is rendered from is being looked up. Once it is known, the Work is looked at; a look now and then
    /// costs little.
    fn wait_for_resources(&mut self) -> Verdict {
        self.is_unread = true;
        self.shared.later(self.shared.config.retry)
    }

    /// What is there stays, and is known to stay: a Delete event finds it, and so does the trigger if it comes back.
    async fn leave(&mut self, mut record: Record, why: &str) -> Result<Verdict, StoreError> {
        if record.applied.inventory.is_empty() {
            self.forget(record).await?;
            return Ok(Verdict::Done);
        }
        if !record.applied.is_left() {
            record.applied.state = AppliedState::Left { reason: why.to_owned() };
        }
        record.applied.digest = None;
        record.applied.health = None;
        record.applied.blocked.clear();
        record.write(self.shared).await?;
        Ok(Verdict::Done)
    }

    /// Drops the record: nothing is there, or it is nobody's from now on.
    async fn forget(&mut self, record: Record) -> Result<(), StoreError> {
        let (shared, cluster, work) = (self.shared, &self.lane.cluster, &self.job.work);
        if let Some(stored) = record.stored {
            shared.store.delete_applied(work, cluster, stored.revision).await?;
        }
        shared.forget_held(work, cluster, record.trigger.as_ref());
        if let Some(trigger) = &record.trigger {
            shared.let_needed_go(trigger, cluster);
        }
        shared.conditions.moved_on(record.trigger.as_ref(), (work, cluster), &*shared.catalog);
        Ok(())
    }
}
