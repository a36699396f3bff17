//! Taking away what a Work has in a cluster, all of it or what is not rendered any more. Never renders.

use std::sync::Arc;

use super::Step;
use crate::apply::{Identity, InventoryItem, Mode, RemoveRequest};
use crate::cluster::Cluster;
use crate::engine::record::Record;
use crate::engine::schedule::Verdict;
use crate::engine::summary::Summary;
use crate::engine::triggers::Trigger;
use crate::manifest::Manifest;
use crate::store::StoreError;
use crate::work::AppliedState;

impl Step<'_> {
    /// Deletes what is in the inventory and not rendered any more.
    pub(super) async fn prune(
        &mut self,
        record: &mut Record,
        manifests: &[Manifest],
        target: &Arc<Cluster>,
        trigger: &Trigger,
        summary: &mut Summary,
    ) {
        let rendered =
            |item: &InventoryItem| manifests.iter().any(|manifest| manifest.id().same_object(&item.object));
        let (kept, stale): (Vec<_>, Vec<_>) = record.applied.inventory.drain(..).partition(rendered);
        record.applied.inventory = kept;
        let left = self.take_away(record, stale, target, trigger.def.identity.clone(), summary).await;
        record.applied.inventory.extend(left);
    }

    /// Takes away whatever the record says may be there.
    pub(super) async fn remove(&mut self, mut record: Record) -> Result<Verdict, StoreError> {
        let shared = self.shared;
        let Some(target) = shared.reachable(&self.lane.cluster) else {
            return Ok(Verdict::Done);
        };
        record.let_go_of_what_others_have(shared);
        record.take_orphans(std::mem::take(&mut self.orphans));
        // Written down before the first attempt: nothing is there as rendered any more.
        if record.applied.digest.take().is_some() || record.applied.state == AppliedState::Applied {
            record.applied.state = AppliedState::Waiting { reason: "to be removed".to_owned() };
            record.applied.health = None;
            record.applied.blocked.clear();
            record.write(shared).await?;
        }
        let waiting = record.trigger.as_ref().and_then(|trigger| self.leaving_first(trigger));
        let mut summary = Summary { waiting, ..Summary::default() };
        if summary.waiting.is_some() {
            return self.conclude(&mut record, summary).await;
        }
        let items = std::mem::take(&mut record.applied.inventory);
        let identity = {
            let definitions = shared.definitions.load();
            let trigger = record.trigger.as_ref().and_then(|name| definitions.triggers.get(name));
            trigger.and_then(|trigger| trigger.def.identity.clone())
        };
        record.applied.inventory = self.take_away(&record, items, &target, identity, &mut summary).await;
        if !record.applied.inventory.is_empty() {
            return self.conclude(&mut record, summary).await;
        }
        let applied = record.applied.clone();
        match self.forget(record).await {
            Err(error) if error.is_conflict() => return self.overtaken(applied).await,
            forgotten => forgotten?,
        }
        shared.counters.removed.add();
        Ok(Verdict::Done)
    }

    /// Removes items, except those that another Work waits for: it gets them as they are. Returns what is left.
    async fn take_away(
        &mut self,
        record: &Record,
        items: Vec<InventoryItem>,
        target: &Arc<Cluster>,
        identity: Option<Identity>,
        summary: &mut Summary,
    ) -> Vec<InventoryItem> {
        let shared = self.shared;
        let (mut left, mut stale) = (Vec::new(), Vec::new());
        for item in items {
            let work = &record.applied.work;
            let place = (work, &self.lane.cluster);
            match shared.holdings.hand_over(&item.object, place, |trigger| self.tier(trigger)) {
                Some(heir) => {
                    summary.waiting.get_or_insert_with(|| format!("{}: is left to Work {heir}", item.object));
                    shared.enqueue(&heir, &self.lane.cluster);
                    left.push(item);
                }
                None => stale.push(item),
            }
        }
        if stale.is_empty() {
            return left;
        }
        let request = RemoveRequest {
            cluster: Arc::clone(target),
            work: record.applied.work.clone(),
            items: stale.clone(),
            mode: Mode::Write,
            identity,
            deadline: shared.config.apply_deadline,
        };
        let began = shared.now();
        let outcomes = shared.bounded(self.lane, shared.applier.remove(request), stale.len()).await;
        self.job.note(shared, &outcomes);
        let stale = stale.into_iter().zip(&outcomes);
        left.extend(stale.filter_map(|(item, outcome)| {
            summary.left(shared, item, outcome, began, |owner| self.name_of(owner))
        }));
        left
    }
}
