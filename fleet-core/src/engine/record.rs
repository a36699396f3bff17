//! The record of one Work in one cluster while it is worked on: what is known of each object, and until when a call that
//! got no answer may still change that.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::apply::{InventoryItem, Outcome};
use crate::cluster::ClusterId;
use crate::engine::Shared;
use crate::engine::lane::Job;
use crate::engine::rollout::Wanted;
use crate::manifest::{Manifest, ObjectRef};
use crate::store::{StoreError, Stored};
use crate::work::{AppliedState, AppliedWork, Blocked, Local, Work};

/// The record of a Work in a cluster, and what is stored of it.
pub(super) struct Record {
    pub(super) applied: AppliedWork,
    pub(super) stored: Option<Stored<Arc<AppliedWork>>>,
    /// The Work's trigger, if the Work is still there.
    pub(super) trigger: Option<Arc<str>>,
    /// What should be there, where that matters to a rollout.
    pub(super) wanted: Option<Wanted>,
}

impl Job {
    /// Remembers a call without an answer also where the record may not come to say so.
    pub(super) fn note(&mut self, shared: &Shared, outcomes: &[Outcome]) {
        if outcomes.iter().any(|outcome| matches!(outcome, Outcome::Unknown { .. })) {
            self.uncertain_until = self.uncertain_until.max(shared.uncertain_until());
        }
    }
}

impl Record {
    pub(super) fn new(work: &Work, local: Option<&Local>, cluster: ClusterId, now: Timestamp) -> Self {
        let applied = match local {
            None => AppliedWork::pending(work, cluster, now),
            Some(local) => AppliedWork::pending_local(work, local.clone(), cluster, now),
        };
        Self { applied, stored: None, trigger: Some(Arc::clone(&work.trigger)), wanted: None }
    }

    pub(super) fn of(stored: Stored<Arc<AppliedWork>>, trigger: Option<Arc<str>>) -> Self {
        Self { applied: (*stored.value).clone(), stored: Some(stored), trigger, wanted: None }
    }

    /// A record as it is stored. A call that nobody knows of may have been under way when the last process died; and one
    /// that only the job knows of, if the record could not be written after it.
    pub(super) fn read(
        shared: &Shared,
        job: &Job,
        stored: Stored<Arc<AppliedWork>>,
        trigger: Option<Arc<str>>,
    ) -> Self {
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
    pub(super) fn unsettled(&self, now: Timestamp) -> Option<Duration> {
        let last = self.applied.inventory.iter().filter_map(|item| item.uncertain_until).max()?;
        Duration::try_from(last.duration_since(now)).ok().filter(|left| !left.is_zero())
    }

    /// What is recorded of an object.
    pub(super) fn item(&mut self, object: &ObjectRef) -> Option<&mut InventoryItem> {
        self.applied.inventory.iter_mut().find(|item| item.object.same_object(object))
    }

    /// Whether an object is there, as far as is known.
    pub(super) fn has(&self, object: &ObjectRef) -> bool {
        self.applied.inventory.iter().any(|item| item.uid.is_some() && item.object.same_object(object))
    }

    pub(super) fn has_all(&self, manifests: &[Manifest]) -> bool {
        manifests.iter().all(|manifest| self.has(manifest.id()))
    }

    /// Whether there is anything beside these.
    pub(super) fn has_more_than(&self, manifests: &[Manifest]) -> bool {
        let is_rendered =
            |item: &InventoryItem| manifests.iter().any(|manifest| manifest.id().same_object(&item.object));
        !self.applied.inventory.iter().all(is_rendered)
    }

    /// Forgets objects that other Works have taken over: they were left to these.
    pub(super) fn let_go_of_what_others_have(&mut self, shared: &Shared) {
        let AppliedWork { work, cluster, inventory, .. } = &mut self.applied;
        inventory.retain(|item| {
            item.uid.is_none()
                || shared.holdings.holder(&item.object, cluster).is_none_or(|holder| holder == *work)
        });
    }

    /// Takes in objects that carry the mark and were not known.
    pub(super) fn take_orphans(&mut self, orphans: Vec<(ObjectRef, Arc<str>)>) {
        for (object, uid) in orphans {
            match self.item(&object) {
                Some(item) => item.uid = Some(uid),
                None => self
                    .applied
                    .inventory
                    .push(InventoryItem { uid: Some(uid), ..InventoryItem::planned(object) }),
            }
        }
    }

    /// Notes that an object was put right after somebody had changed it.
    pub(super) fn repaired(&mut self, object: &ObjectRef, now: Timestamp) {
        if let Some(item) = self.item(object) {
            item.repaired_at = Some(now);
        }
    }

    pub(super) fn stall(&mut self, work: &Work, reason: &str, message: String) {
        self.applied.blocked.clear();
        self.applied.generation = work.generation;
        self.applied.digest = None;
        self.applied.state = AppliedState::Stalled { reason: reason.to_owned(), message };
    }

    pub(super) fn take_in(
        &mut self,
        manifest: &Manifest,
        outcome: &Outcome,
        template: Option<&Arc<str>>,
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
            Outcome::Applied(placed) => {
                // Whatever was adopted is still that; what took its place is not.
                let is_same = item.uid.as_ref() == Some(&placed.uid);
                *item = InventoryItem {
                    object: manifest.id().clone(),
                    uid: Some(Arc::clone(&placed.uid)),
                    print: placed.print.clone(),
                    version: placed.version.clone(),
                    adopted: (is_same && item.adopted) || placed.adopted,
                    repaired_at: item.repaired_at,
                    template: template.cloned(),
                    chart: placed.chart.clone(),
                    // An earlier call without an answer is not settled by the answer to this one.
                    uncertain_until: item.uncertain_until.filter(|until| *until > now),
                    applied_at: Some(now),
                };
            }
            Outcome::Conflict { owner } => {
                self.applied.blocked.push(Blocked { object: manifest.id().clone(), owner: owner.clone() });
                let Some(item) = inventory.get(place) else { return };
                if item.uid.is_some() || item.uncertain_until.is_some_and(|until| until > now) {
                    return;
                }
                inventory.remove(place);
            }
            // The answer says that it is not ours, and an earlier try cannot make it so any more.
            Outcome::Rejected { .. }
                if item.uid.is_none() && item.uncertain_until.is_none_or(|until| until <= now) =>
            {
                inventory.remove(place);
            }
            Outcome::Unknown { .. } => item.uncertain_until = uncertain_until,
            _ => {}
        }
    }

    /// Writes the record, unless it is stored like that.
    pub(super) async fn write(&mut self, shared: &Arc<Shared>) -> Result<(), StoreError> {
        self.prepare(shared);
        if self.stored.as_ref().is_some_and(|stored| *stored.value == self.applied) {
            shared.rollouts.note(&self.applied, self.wanted.as_ref());
            return Ok(());
        }
        self.put(shared).await
    }

    /// Writes the record, also if it reads like that already: what is read may be older than a write that got no answer.
    pub(super) async fn write_again(&mut self, shared: &Arc<Shared>) -> Result<(), StoreError> {
        self.prepare(shared);
        self.put(shared).await
    }

    fn prepare(&mut self, shared: &Arc<Shared>) {
        self.tell(shared);
        shared.take_in(&self.applied, self.trigger.as_ref());
        let AppliedWork { work, cluster, state, .. } = &self.applied;
        self.applied.health =
            if *state == AppliedState::Applied { shared.holdings.health(work, cluster) } else { None };
    }

    async fn put(&mut self, shared: &Arc<Shared>) -> Result<(), StoreError> {
        self.applied.updated = shared.now();
        let value = Arc::new(self.applied.clone());
        let expected = self.stored.take().map(|stored| stored.revision);
        let revision = shared.store.put_applied(Arc::clone(&value), expected).await?;
        self.stored = Some(Stored { value, revision });
        shared.rollouts.note(&self.applied, self.wanted.as_ref());
        Ok(())
    }

    /// Tells, as the trigger's condition, whether the Work is stalled here.
    fn tell(&self, shared: &Shared) {
        let place = (&self.applied.work, &self.applied.cluster);
        match (&self.trigger, &self.applied.state) {
            (Some(trigger), AppliedState::Stalled { reason, message }) => {
                let local = self.applied.local.as_ref();
                let whose = local.map(|local| format!("what is local for {}: ", local.cluster));
                let why = format!("{}{reason}: {message}", whose.unwrap_or_default());
                shared.conditions.stalled(trigger, place, why, &*shared.catalog);
            }
            (trigger, _) => shared.conditions.moved_on(trigger.as_ref(), place, &*shared.catalog),
        }
    }
}
