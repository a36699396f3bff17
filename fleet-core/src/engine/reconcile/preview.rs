//! Telling what would be done, and doing nothing.

use std::sync::Arc;
use std::time::Duration;

use super::{By, Step};
use crate::apply::{ApplyRequest, Change, InventoryItem, Mode, Outcome, RemoveRequest};
use crate::cluster::Cluster;
use crate::engine::recent::Phase;
use crate::engine::record::Record;
use crate::engine::references::Unrendered;
use crate::engine::schedule::Verdict;
use crate::engine::triggers::{Fault, Rendered, Trigger};
use crate::manifest::{Manifest, ObjectRef};
use crate::store::{StoreError, Stored};
use crate::work::{AppliedState, AppliedWork, Foreseen, Work};

impl Step<'_> {
    /// Writes down what would happen: to all that the trigger renders, or to all that is there if it is to be gone.
    pub(super) async fn preview(
        &mut self,
        work: &Work,
        by: Option<By<'_>>,
        target: Arc<Cluster>,
        record: Option<Stored<Arc<AppliedWork>>>,
    ) -> Result<Verdict, StoreError> {
        let shared = self.shared;
        let trigger = by.as_ref().map(|by| Arc::clone(&by.trigger));
        let trigger = trigger.as_deref();
        if record.is_none() && trigger.is_none() {
            return Ok(Verdict::Done);
        }
        let mut record = record.map_or_else(
            || self.blank(work),
            |stored| Record::read(shared, self.job, stored, Some(Arc::clone(&work.trigger))),
        );
        record.let_go_of_what_others_have(shared);
        if trigger.is_none() && record.applied.inventory.is_empty() {
            self.forget(record).await?;
            return Ok(Verdict::Done);
        }
        let manifests: Arc<[Manifest]> = match by {
            None => Arc::default(),
            Some(By { trigger, part, cluster, events }) => {
                let (rendered, rest) = {
                    let mut look = shared.look_up_for(&self.job.work, &target.id);
                    events.render(shared, work, (&trigger, part), &cluster, &mut look)
                };
                self.rest = rest;
                match rendered {
                    Ok(Rendered { manifests, .. }) => manifests,
                    Err(Unrendered::Unread) => return Ok(self.wait_for_resources()),
                    Err(Unrendered::Stalled(Fault { reason, message })) => {
                        record.stall(work, reason, message);
                        record.write(shared).await?;
                        self.note(Phase::Stalled);
                        return Ok(Verdict::Done);
                    }
                }
            }
        };
        let mut changes = Vec::new();
        if !manifests.is_empty() {
            let outcomes = self.ask_to_apply(&record, &manifests, &target, trigger).await;
            changes.extend(
                manifests
                    .iter()
                    .zip(outcomes)
                    .filter_map(|(manifest, outcome)| foresee(manifest.id(), outcome)),
            );
        }
        let is_stale =
            |item: &&InventoryItem| !manifests.iter().any(|manifest| manifest.id().same_object(&item.object));
        let stale: Vec<_> = record.applied.inventory.iter().filter(is_stale).cloned().collect();
        if !stale.is_empty() {
            let outcomes = self.ask_to_remove(&record, &stale, &target, trigger).await;
            changes.extend(
                stale.iter().zip(outcomes).filter_map(|(item, outcome)| foresee(&item.object, outcome)),
            );
        }
        record.applied.generation = work.generation;
        record.applied.digest = None;
        record.applied.health = None;
        record.applied.blocked.clear();
        record.applied.state = AppliedState::Previewed { changes };
        record.write(shared).await?;
        self.note(Phase::Previewed);
        // What others do there shows only when one looks.
        Ok(Verdict::Later { backoff: shared.config.preview, least: Duration::ZERO })
    }

    async fn ask_to_apply(
        &mut self,
        record: &Record,
        manifests: &Arc<[Manifest]>,
        target: &Arc<Cluster>,
        trigger: Option<&Trigger>,
    ) -> Vec<Outcome> {
        let shared = self.shared;
        let request = ApplyRequest {
            cluster: Arc::clone(target),
            work: record.applied.work.clone(),
            manifests: Arc::clone(manifests),
            inventory: record.applied.inventory.clone(),
            claims: Vec::new(),
            policy: trigger.map(|trigger| Arc::clone(&trigger.def.policy)).unwrap_or_default(),
            identity: trigger.and_then(|trigger| trigger.def.identity.clone()),
            mode: Mode::Preview,
            deadline: shared.config.apply_deadline,
        };
        shared.bounded(self.lane, shared.applier.apply(request), manifests.len()).await
    }

    async fn ask_to_remove(
        &mut self,
        record: &Record,
        items: &[InventoryItem],
        target: &Arc<Cluster>,
        trigger: Option<&Trigger>,
    ) -> Vec<Outcome> {
        let shared = self.shared;
        let request = RemoveRequest {
            cluster: Arc::clone(target),
            work: record.applied.work.clone(),
            items: items.to_vec(),
            mode: Mode::Preview,
            identity: trigger.and_then(|trigger| trigger.def.identity.clone()),
            deadline: shared.config.apply_deadline,
        };
        shared.bounded(self.lane, shared.applier.remove(request), items.len()).await
    }
}

/// What would become of an object; nothing where nothing would.
fn foresee(object: &ObjectRef, outcome: Outcome) -> Option<Foreseen> {
    let (change, reason) = match outcome {
        Outcome::Would(Change::Nothing) | Outcome::Gone | Outcome::Applied(_) => return None,
        Outcome::Would(change) => (Some(change), None),
        Outcome::Conflict { owner } => (None, Some(Foreseen::conflict(&owner))),
        Outcome::Waiting { reason }
        | Outcome::Rejected { reason }
        | Outcome::Retry { reason, .. }
        | Outcome::Unknown { reason } => (None, Some(reason)),
    };
    Some(Foreseen { object: object.clone(), change, reason })
}
