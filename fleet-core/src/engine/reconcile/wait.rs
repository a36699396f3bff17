//! Waiting for a rollout: what a Work has in a cluster stays until it is the cluster's turn.

use super::Step;
use crate::engine::holdings::Sight;
use crate::engine::record::Record;
use crate::engine::schedule::Verdict;
use crate::engine::triggers::Trigger;
use crate::policy::SyncMode;
use crate::store::StoreError;
use crate::work::{AppliedState, Work};

impl Step<'_> {
    /// Whether another rendering has to wait: this very event is applied already, and it is not the cluster's turn.
    pub(super) fn has_to_wait(
        &self,
        work: &Work,
        trigger: &Trigger,
        record: &Record,
        digest: Option<&str>,
    ) -> bool {
        let applied = &record.applied;
        trigger.def.policy.max_update.is_some()
            && applied.generation == work.generation
            && applied.digest.is_some()
            && applied.digest.as_deref() != digest
            && !(digest.is_some() && self.has_to_put_back(trigger))
            && self.shared.rollouts.holds(
                trigger,
                (&self.job.work, self.for_cluster()),
                &self.shared.definitions.load(),
            )
    }

    /// Whether an object has to come back though it is not the cluster's turn. Whether only a field was changed cannot be
    /// told without the earlier rendering.
    pub(super) fn has_to_put_back(&self, trigger: &Trigger) -> bool {
        let policy = &trigger.def.policy;
        let is_lost = |sight: &Sight| match sight {
            Sight::Gone { .. } => true,
            Sight::Changed(seen) => *seen.mark != *self.job.work.hash(),
        };
        policy.max_update.is_some()
            && policy.sync == SyncMode::ContinuousWithDriftDetection
            && self.sights.iter().any(|(_, sight)| is_lost(sight))
    }

    /// Leaves what is there as it is.
    pub(super) async fn wait(&self, mut record: Record) -> Result<Verdict, StoreError> {
        // There is a digest, so everything is there as it was applied.
        record.applied.state = AppliedState::Applied;
        record.write(self.shared).await?;
        // Looked at again when it is the cluster's turn.
        Ok(Verdict::Done)
    }
}
