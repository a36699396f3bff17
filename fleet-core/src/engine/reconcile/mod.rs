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

use crate::cluster::{Cluster, ClusterId};
use crate::engine::Shared;
use crate::engine::definitions::Found;
use crate::engine::holdings::Sight;
use crate::engine::lane::{Job, Lane};
use crate::engine::local::Part;
use crate::engine::recent::Phase;
use crate::engine::record::Record;
use crate::engine::schedule::Verdict;
use crate::engine::together::{Events, Wanted};
use crate::engine::triggers::Trigger;
use crate::manifest::ObjectRef;
use crate::policy::{StopMatching, SyncMode};
use crate::store::{StoreError, Stored};
use crate::work::{AppliedState, AppliedWork, Intent, Local, Work, WorkId};

/// What should be there.
enum Desired<'a> {
    Present(By<'a>),
    Absent,
    /// It does not belong there any more, though its last event said Create; not to be taken away unless allowed.
    Withdrawn,
    /// What is there stays, and is known to stay.
    Left(&'static str),
    /// What is there stays there, and is nobody's from now on.
    Forgotten,
    /// Nothing is written; only told what would be: as it should be by this trigger, or that it should be gone.
    Previewed(Option<By<'a>>),
    /// Its trigger could not be read: everything stays as it is.
    Unknown,
}

/// What it is rendered by.
struct By<'a> {
    trigger: Arc<Trigger>,
    part: Part,
    /// For which cluster.
    cluster: Arc<Cluster>,
    events: Events<'a>,
}

/// One look at one Work in one cluster.
struct Step<'a> {
    shared: &'a Arc<Shared>,
    job: &'a mut Job,
    lane: &'a Lane,
    /// What it is, if it is local.
    local: Option<Arc<Local>>,
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
    let local = job.local.clone().or_else(|| shared.holdings.local(&job.work, &lane.cluster));
    let mut step = Step {
        shared,
        job,
        lane,
        local,
        sights,
        orphans,
        rest: Duration::ZERO,
        received: None,
        is_unread: false,
    };
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
    let mut stored = shared.store.work(step.work()).await?;
    let mut record = shared.store.applied_in(&id, cluster).await?;
    if let (None, Some(local)) = (&step.local, record.as_ref().and_then(|it| it.value.local.clone())) {
        // Nobody but the record knew what it is.
        step.local = Some(Arc::new(local));
        stored = shared.store.work(step.work()).await?;
        record = shared.store.applied_in(&id, cluster).await?;
    }
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
    let there = shared.clusters.get(step.for_cluster());
    let events = match &there {
        Some(there) => shared.events(&work, there).await?,
        None => Events::Own,
    };
    let is_nothing = matches!(events, Events::Nothing);
    step.received = Some(events.received(&work));
    let applied = record.as_ref().map(|record| &*record.value);
    let verdict = match step.desired(&work, &target, there, applied, events) {
        Desired::Present(by) => {
            // What was allowed before it belonged here again is not allowed for the next time.
            step.job.withdraw = false;
            step.present(&work, by, target, record).await?
        }
        Desired::Unknown => Verdict::Done,
        Desired::Withdrawn if !step.job.withdraw => {
            if record.is_some() {
                shared.rollouts.forget(&id, step.for_cluster());
                // What was to be removed by an event, perhaps, before another one came for elsewhere.
                shared.left_behind(&work, (id, cluster.clone()), step.for_cluster());
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
        if shared.store.work(&work.id).await?.is_none_or(|now| now.revision != revision) {
            return Ok(Verdict::Again);
        }
        if work.intent == Intent::Delete || step.job.withdraw || is_nothing {
            shared.finish_removal(&work.id).await?;
        }
    }
    Ok(verdict)
}

impl<'a> Step<'a> {
    /// What should be in the cluster; `there` is the one that it is for, if that is managed.
    fn desired(
        &self,
        work: &Work,
        cluster: &Cluster,
        there: Option<Arc<Cluster>>,
        record: Option<&AppliedWork>,
        events: Events<'a>,
    ) -> Desired<'a> {
        let shared = self.shared;
        let is_here = shared.clusters.get(&cluster.id).is_some();
        if !is_here && cluster.keeps_resources() {
            return Desired::Forgotten;
        }
        let definitions = shared.definitions.load();
        let found = definitions.find(&work.trigger);
        let was_previewed =
            record.is_some_and(|record| matches!(record.state, AppliedState::Previewed { .. }));
        let only_previews = match &found {
            Found::Trigger(trigger) => trigger.def.policy.sync == SyncMode::DryRun,
            Found::Leaves | Found::Gone | Found::Unknown => was_previewed,
        };
        let absent = |otherwise| match (only_previews, &found) {
            (false, _) => otherwise,
            (true, Found::Gone) => {
                Desired::Left("its trigger was in mode DryRun when it was deleted, so nothing was removed")
            }
            (true, _) => Desired::Previewed(None),
        };
        let part = Part::of(self.local.as_deref());
        let wanted = match &found {
            // There is no such part any more.
            Found::Trigger(trigger) if !trigger.has(part) => {
                Wanted { intent: Intent::Delete, belongs: false }
            }
            Found::Trigger(trigger) => match &there {
                Some(there) => events.wanted(work, trigger, there, &shared.clusters),
                None => Wanted { intent: work.intent, belongs: false },
            },
            Found::Leaves | Found::Gone | Found::Unknown => Wanted { intent: work.intent, belongs: false },
        };
        let Wanted { intent, belongs } = wanted;
        if self.local.is_some() && intent == Intent::Create && belongs {
            match shared.clusters.management() {
                Some(management) if management.id == cluster.id => {}
                // It is the same one under another name: there it is known by its mark.
                Some(_) => return Desired::Forgotten,
                None => return Desired::Unknown,
            }
        }
        match (intent, &found) {
            (Intent::Delete, _) => absent(Desired::Absent),
            (Intent::Create, Found::Unknown) if is_here => Desired::Unknown,
            (Intent::Create, Found::Trigger(trigger))
                if is_here
                    && belongs
                    && let Some(cluster) = there =>
            {
                let by = By { trigger: Arc::clone(trigger), part, cluster, events };
                if only_previews { Desired::Previewed(Some(by)) } else { Desired::Present(by) }
            }
            (Intent::Create, Found::Trigger(trigger))
                if is_here
                    && there.is_some()
                    && trigger.def.policy.stop_matching == StopMatching::LeavePolicies
                    && !only_previews =>
            {
                Desired::Left("the cluster does not match any more, and the trigger says LeavePolicies")
            }
            (Intent::Create, Found::Leaves) if is_here && !only_previews => {
                Desired::Left("the cluster does not match any more, and the trigger says LeavePolicies")
            }
            (Intent::Create, Found::Gone) if record.is_some_and(|record| record.is_left()) && is_here => {
                Desired::Left("the cluster did not match any more when the trigger was deleted")
            }
            (Intent::Create, _) => absent(Desired::Withdrawn),
        }
    }
}

impl Step<'_> {
    /// The Work that this is of.
    fn work(&self) -> &WorkId {
        self.local.as_ref().map_or(&self.job.work, |local| &local.work)
    }

    /// The cluster that this is for.
    fn for_cluster(&self) -> &ClusterId {
        self.local.as_ref().map_or(&self.lane.cluster, |local| &local.cluster)
    }

    /// The record of nothing.
    fn blank(&self, work: &Work) -> Record {
        let cluster = self.lane.cluster.clone();
        Record::new(work, self.local.as_deref(), cluster, self.shared.now())
    }

    /// Notes how far the event is here, for people.
    fn note(&self, phase: Phase) {
        if let Some(received) = self.received {
            let shared = self.shared;
            let place = (&self.lane.cluster, self.for_cluster());
            shared.recent.note(self.work(), received, place, phase, shared.now());
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
        let for_cluster = self.for_cluster().clone();
        if let Some(stored) = record.stored {
            shared.store.delete_applied(work, cluster, stored.revision).await?;
        }
        shared.forget_held(work, cluster, record.trigger.as_ref());
        if let Some(trigger) = &record.trigger {
            shared.let_needed_go(trigger, &for_cluster);
        }
        shared.conditions.moved_on(record.trigger.as_ref(), (work, cluster), &*shared.catalog);
        Ok(())
    }
}
