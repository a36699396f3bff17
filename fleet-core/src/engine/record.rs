//! The record of one Work in one cluster while it is worked on: what is known of each object, and until when a call that
//! got no answer may still change that.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::apply::{InventoryItem, Outcome};
use crate::cluster::ClusterId;
use crate::engine::Shared;
use crate::engine::lane::Job;
use crate::manifest::Manifest;
use crate::store::{StoreError, Stored};
use crate::work::{AppliedState, AppliedWork, Work};

/// The record of a Work in a cluster, and what is stored of it.
pub(super) struct Record {
    pub(super) applied: AppliedWork,
    pub(super) stored: Option<Stored<Arc<AppliedWork>>>,
    /// The Work's trigger, if the Work is still there.
    pub(super) trigger: Option<Arc<str>>,
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
    pub(super) fn new(work: &Work, cluster: ClusterId, now: Timestamp) -> Self {
        let applied = AppliedWork::pending(work, cluster, now);
        Self { applied, stored: None, trigger: Some(Arc::clone(&work.trigger)) }
    }

    pub(super) fn of(stored: Stored<Arc<AppliedWork>>, trigger: Option<Arc<str>>) -> Self {
        Self { applied: (*stored.value).clone(), stored: Some(stored), trigger }
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

    pub(super) fn stall(&mut self, work: &Work, reason: &str, message: String) {
        self.applied.generation = work.generation;
        self.applied.digest = None;
        self.applied.state = AppliedState::Stalled { reason: reason.to_owned(), message };
    }

    pub(super) fn take_in(
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
            Outcome::Applied(placed) => {
                *item = InventoryItem {
                    object: manifest.id().clone(),
                    uid: Some(Arc::clone(&placed.uid)),
                    print: placed.print.clone(),
                    version: placed.version.clone(),
                    adopted: item.adopted || placed.adopted,
                    repaired_at: item.repaired_at,
                    template: item.template.clone(),
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
    pub(super) async fn write(&mut self, shared: &Shared) -> Result<(), StoreError> {
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
