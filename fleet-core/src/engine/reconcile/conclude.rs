//! What came of an attempt: written down, and what is next.

use super::Step;
use crate::engine::recent::Phase;
use crate::engine::record::Record;
use crate::engine::schedule::Verdict;
use crate::engine::summary::Summary;
use crate::store::StoreError;
use crate::work::{AppliedState, AppliedWork};

impl Step<'_> {
    /// Writes down what came of an attempt, and says what is next.
    pub(super) async fn conclude(
        &self,
        record: &mut Record,
        summary: Summary,
    ) -> Result<Verdict, StoreError> {
        match self.try_conclude(record, summary).await {
            Err(error) if error.is_retryable() => self.overtaken(record.applied.clone()).await,
            verdict => verdict,
        }
    }

    async fn try_conclude(&self, record: &mut Record, summary: Summary) -> Result<Verdict, StoreError> {
        let shared = self.shared;
        let before = record.applied.state.clone();
        let verdict = if let Some((least, reason)) = summary.cluster {
            // Every Work there has the same trouble: it is told once, with the cluster, and not written into each.
            tracing::debug!(cluster = %record.applied.cluster, reason, "the cluster failed");
            shared.counters.retried.add();
            record.write(shared).await?;
            self.note(Phase::Waiting);
            return Ok(Verdict::ClusterFailed { backoff: shared.config.cluster_down, least });
        } else if let Some((least, reason)) = summary.retry {
            shared.counters.retried.add();
            record.applied.state = AppliedState::Retrying { reason };
            Verdict::Later { backoff: shared.config.retry, least }
        } else if let Some((least, reason)) = summary.contested {
            record.applied.state = AppliedState::Retrying { reason };
            Verdict::Later { backoff: shared.config.contested, least }
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
        self.note(match record.applied.state {
            AppliedState::Applied => Phase::Done,
            AppliedState::Stalled { .. } => Phase::Stalled,
            _ => Phase::Waiting,
        });
        Ok(verdict)
    }

    /// Another operator wrote the record during a call of ours, or may have while the store failed: what the call made must
    /// not be forgotten, and what they applied may not be there any more.
    pub(super) async fn overtaken(&self, ours: AppliedWork) -> Result<Verdict, StoreError> {
        let shared = self.shared;
        let mut failures = 0;
        loop {
            match self.add_to_record(&ours).await {
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

    async fn add_to_record(&self, ours: &AppliedWork) -> Result<(), StoreError> {
        let shared = self.shared;
        let mut record = match shared.store.applied_in(&ours.work, &ours.cluster).await? {
            Some(stored) => Record::of(stored, None),
            None if ours.inventory.is_empty() => return Ok(()),
            None => Record {
                applied: AppliedWork { inventory: Vec::new(), ..ours.clone() },
                stored: None,
                trigger: None,
                wanted: None,
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
        record.write_again(shared).await
    }
}
