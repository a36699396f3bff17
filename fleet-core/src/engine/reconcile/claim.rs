//! Two Works that want one object: who gets it.

use std::sync::Arc;

use super::Step;
use crate::apply::{Claim, Outcome, Owner};
use crate::catalog::Subject;
use crate::engine::definitions::Found;
use crate::engine::record::Record;
use crate::engine::triggers::Trigger;
use crate::manifest::{Manifest, ObjectRef};
use crate::policy::DEFAULT_TIER;

impl Step<'_> {
    /// Of the objects that other Works have: those that they have to leave to this one.
    pub(super) fn claims(
        &self,
        record: &Record,
        manifests: &[Manifest],
        outcomes: &[Outcome],
        trigger: &Trigger,
    ) -> Vec<Claim> {
        let mut claims = Vec::new();
        for (manifest, outcome) in manifests.iter().zip(outcomes) {
            if let Outcome::Conflict { owner: Owner::Work(from) } = outcome
                && self.may_claim(record, manifest.id(), from, trigger)
            {
                claims.push(Claim { object: manifest.id().clone(), from: Arc::clone(from) });
            }
        }
        claims
    }

    fn may_claim(&self, record: &Record, object: &ObjectRef, from: &str, trigger: &Trigger) -> bool {
        let (shared, cluster) = (self.shared, &self.lane.cluster);
        let Some((holder, of_holder)) = shared.holdings.by_mark(from, cluster) else {
            // No Work has this mark here. What is ours by its UID was marked anew by somebody.
            return record.has(object);
        };
        shared.holdings.is_handed_to(object, (&self.job.work, cluster))
            || trigger.def.policy.tier < self.tier(&of_holder)
            // It is marked with a Work that knows nothing of it.
            || (record.has(object) && shared.holdings.holder(object, cluster).is_none_or(|it| it != holder))
    }

    /// The tier of a trigger's Works; what is not known wins over nobody.
    pub(super) fn tier(&self, trigger: &str) -> u32 {
        match self.shared.definitions.load().find(trigger) {
            Found::Trigger(trigger) => trigger.def.policy.tier,
            Found::Gone => u32::MAX,
            Found::Leaves | Found::Unknown => DEFAULT_TIER,
        }
    }

    /// Whose an object is, in words.
    pub(super) fn name_of(&self, owner: &Owner) -> String {
        let Owner::Work(mark) = owner else { return owner.to_string() };
        match self.shared.holdings.by_mark(mark, &self.lane.cluster) {
            Some((work, trigger)) => {
                format!("Work {work} of {} (tier {})", Subject::of_trigger(&trigger), self.tier(&trigger))
            }
            None => format!("{owner}, which is not known here (another installation may have made it)"),
        }
    }
}
