//! Bringing about that what a Work says is there.

use std::sync::Arc;
use std::time::Duration;

use super::{By, Step};
use crate::apply::{ApplyRequest, Claim, Mode, Outcome};
use crate::cluster::Cluster;
use crate::engine::digest::digest;
use crate::engine::recent::Phase;
use crate::engine::record::Record;
use crate::engine::references::Unrendered;
use crate::engine::rollout::Wanted;
use crate::engine::schedule::Verdict;
use crate::engine::summary::Summary;
use crate::engine::triggers::{Fault, Rendered, Trigger};
use crate::manifest::Manifest;
use crate::policy::SyncMode;
use crate::store::{StoreError, Stored};
use crate::work::{AppliedState, AppliedWork, EventKey, Work};

impl Step<'_> {
    pub(super) async fn present(
        &mut self,
        work: &Work,
        By { trigger, part, cluster, events }: By<'_>,
        target: Arc<Cluster>,
        record: Option<Stored<Arc<AppliedWork>>>,
    ) -> Result<Verdict, StoreError> {
        let (shared, trigger) = (self.shared, &trigger);
        let sync = trigger.def.policy.sync;
        let mut record = record.map_or_else(
            || self.blank(work),
            |stored| Record::read(shared, self.job, stored, Some(Arc::clone(&work.trigger))),
        );
        record.let_go_of_what_others_have(shared);
        record.take_orphans(std::mem::take(&mut self.orphans));
        let is_certain = record.unsettled(shared.now()).is_none();
        let is_applied = record.applied.state == AppliedState::Applied && is_certain;
        let received = events.received(work);
        let set = (sync == SyncMode::OneTime).then(|| events.fingerprint()).flatten();
        // Of this very event, in full, or of these.
        let was_applied = is_applied
            && record.applied.generation == work.generation
            && set
                .as_ref()
                .is_none_or(|set| record.applied.digest.as_ref().is_some_and(|it| it.ends_with(set)));
        if sync == SyncMode::OneTime && was_applied {
            drop(events);
            shared.rendered_from.forget(&self.job.work, &target.id);
            return self.leave_as_it_is(work, record).await;
        }
        let (rendered, rest) = {
            let mut look = shared.look_up_for(&self.job.work, &target.id);
            events.render(shared, work, (trigger, part), &cluster, &mut look)
        };
        self.rest = rest;
        let rendered = match rendered {
            Ok(rendered) => Ok(rendered),
            Err(Unrendered::Stalled(fault)) => Err(fault),
            Err(Unrendered::Unread) => return Ok(self.wait_for_resources()),
        };
        let digest = rendered.as_ref().ok().map(|rendered| {
            let mut digest = digest(&rendered.manifests, trigger);
            digest.extend(set.iter().flat_map(|set| [".", set]));
            digest
        });
        // What keys render together changes with every event, and no rollout holds up events.
        if work.key != EventKey::All {
            let waits = self.has_to_wait(work, trigger, &record, digest.as_deref());
            if trigger.def.policy.max_update.is_some() {
                let (trigger, generation) = (Arc::clone(trigger), work.generation);
                record.wanted = Some(Wanted { trigger, digest: digest.clone(), generation });
            }
            if waits {
                return self.wait(record).await;
            }
        }
        let Rendered { manifests, templates } = match rendered {
            Ok(rendered) => rendered,
            Err(Fault { reason, message }) => {
                // What was applied before stays; nothing is tried until an input changes.
                shared.counters.stalled.add();
                record.stall(work, reason, message);
                record.write(shared).await?;
                self.note(Phase::Stalled);
                return Ok(Verdict::Done);
            }
        };
        let is_current = is_applied && record.applied.digest == digest && record.has_all(&manifests);
        let is_other = is_applied && !is_current && record.applied.digest.is_some();
        if self.job.only_seen && is_other && !self.has_to_put_back(trigger) {
            // Something else should be there, and that is looked at for a reason of its own; or another operator, by
            // mistake, knows other definitions: then each would undo at once what the other does.
            return Ok(Verdict::Done);
        }
        let mut summary = Summary::default();
        let todo = if is_current {
            let drifted = self.drifted(&mut record, &manifests, trigger);
            self.not_contested(drifted, &mut summary)
        } else {
            Arc::clone(&manifests)
        };
        if todo.is_empty() && !record.has_more_than(&manifests) {
            if summary.is_done() {
                return self.leave_as_it_is(work, record).await;
            }
            return self.conclude(&mut record, summary).await;
        }
        if !is_current && let Some(reason) = self.unmet(trigger) {
            record.applied.generation = work.generation;
            record.applied.state = AppliedState::Waiting { reason };
            record.write(shared).await?;
            self.note(Phase::Waiting);
            // Looked at again when that has changed.
            return Ok(Verdict::Done);
        }
        // Written down before the first attempt: every object that may come to be, and that what was there may change.
        record.applied.plan(&manifests);
        if record.applied.digest.take().is_some() {
            record.applied.state = AppliedState::Pending;
        }
        record.applied.generation = work.generation;
        record.write(shared).await?;
        let now = shared.now();
        let outcomes = self.apply(&record, &todo, &target, trigger).await;
        record.applied.blocked.clear();
        let is_conflict = |outcome: &Outcome| matches!(outcome, Outcome::Conflict { .. });
        let is_held_up = !trigger.def.policy.continue_on_conflict && outcomes.iter().any(is_conflict);
        for (manifest, outcome) in todo.iter().zip(&outcomes) {
            let from = manifests.iter().position(|it| it.id() == manifest.id());
            let template = from.and_then(|place| templates.get(place));
            record.take_in(manifest, outcome, template, now, shared.uncertain_until());
            if is_current && matches!(outcome, Outcome::Applied(_)) {
                shared.counters.repaired.add();
                record.repaired(manifest.id(), now);
            }
            // What waits for the conflict to end is not tried more often than that.
            if !(is_held_up && matches!(outcome, Outcome::Waiting { .. })) {
                summary.add(manifest.id(), outcome, |owner| self.name_of(owner));
            }
        }
        // What was there before is not taken away for something that cannot take its place.
        if summary.lets_others_go(&trigger.def.policy) {
            self.prune(&mut record, &manifests, &target, trigger, &mut summary).await;
        }
        record.applied.generation = work.generation;
        if summary.is_done() {
            if !is_current {
                shared.counters.applied.add();
            }
            if !was_applied && let Ok(took) = Duration::try_from(now.duration_since(received)) {
                shared.counters.applied_latency.record(took);
            }
            summary.unsettled = record.unsettled(now);
            if summary.unsettled.is_none() {
                if sync == SyncMode::OneTime {
                    // It is not rendered again.
                    shared.rendered_from.forget(&work.id, &target.id);
                }
                record.applied.digest = digest;
            }
        }
        self.conclude(&mut record, summary).await
    }

    /// Everything is there as it should be; only how it is doing may be another now.
    async fn leave_as_it_is(&self, work: &Work, mut record: Record) -> Result<Verdict, StoreError> {
        record.applied.generation = work.generation;
        record.applied.health = self.shared.holdings.health(&self.job.work, &self.lane.cluster);
        record.write(self.shared).await?;
        self.note(Phase::Done);
        Ok(Verdict::Done)
    }

    /// Applies manifests; those that another Work has, once more if it has to leave them to this one.
    async fn apply(
        &mut self,
        record: &Record,
        manifests: &Arc<[Manifest]>,
        target: &Arc<Cluster>,
        trigger: &Trigger,
    ) -> Vec<Outcome> {
        let mut outcomes = self.call(record, manifests, Vec::new(), target, trigger).await;
        let claims = self.claims(record, manifests, &outcomes, trigger);
        if claims.is_empty() {
            return outcomes;
        }
        // A conflict may have kept others from being tried.
        let is_open =
            |outcome: &Outcome| matches!(outcome, Outcome::Conflict { .. } | Outcome::Waiting { .. });
        let open = manifests.iter().zip(&outcomes).filter(|(_, outcome)| is_open(outcome));
        let again: Arc<[Manifest]> = open.map(|(manifest, _)| manifest.clone()).collect();
        let mut second = self.call(record, &again, claims, target, trigger).await.into_iter();
        for outcome in outcomes.iter_mut().filter(|outcome| is_open(outcome)) {
            if let Some(now) = second.next() {
                *outcome = now;
            }
        }
        outcomes
    }

    async fn call(
        &mut self,
        record: &Record,
        manifests: &Arc<[Manifest]>,
        claims: Vec<Claim>,
        target: &Arc<Cluster>,
        trigger: &Trigger,
    ) -> Vec<Outcome> {
        if manifests.is_empty() {
            return Vec::new();
        }
        let shared = self.shared;
        let request = ApplyRequest {
            cluster: Arc::clone(target),
            work: record.applied.work.clone(),
            manifests: Arc::clone(manifests),
            inventory: record.applied.inventory.clone(),
            claims,
            policy: Arc::clone(&trigger.def.policy),
            identity: trigger.def.identity.clone(),
            mode: Mode::Write,
            deadline: shared.config.apply_deadline,
        };
        let outcomes = shared.bounded(self.lane, shared.applier.apply(request), manifests.len()).await;
        self.job.note(shared, &outcomes);
        outcomes
    }
}
