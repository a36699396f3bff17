//! Works on their way into lanes and out of them: what is to be looked at, and the tasks that look.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;

use crate::cluster::ClusterId;
use crate::engine::lane::Lane;
use crate::engine::queue::Cause;
use crate::engine::schedule::{Item, Start};
use crate::engine::{Shared, reconcile, refill};
use crate::store::StoreError;
use crate::work::{AppliedWork, EventKey, Intent, Work, WorkId};

impl Shared {
    /// Has a Work looked at wherever it belongs, now or before. The Work is stored: if reading fails now, a sweep finds it.
    pub(super) async fn look_at(self: &Arc<Self>, work: &Work, old: Option<&Work>) {
        self.note_expiry(work);
        if let Err(error) = self.try_look_at(work, old).await {
            tracing::warn!(work = %work.id, %error, "what was applied cannot be read; trying again");
            self.sweeps.triggers([Arc::clone(&work.trigger)]);
        }
    }

    async fn try_look_at(self: &Arc<Self>, work: &Work, old: Option<&Work>) -> Result<(), StoreError> {
        let definitions = self.definitions.load();
        let trigger = definitions.triggers.get(&work.trigger);
        if let Some(trigger) = trigger.filter(|it| it.is_together() && work.key != EventKey::All) {
            return self.look_at_aggregate(trigger, work, old).await;
        }
        if work.intent == Intent::Create
            && let Some(trigger) = trigger
        {
            for cluster in trigger.targets(work.origin.as_ref(), &self.clusters).iter() {
                self.enqueue_parts(trigger, &work.id, &cluster.id);
            }
        }
        if old.is_some() || work.intent == Intent::Delete {
            let applied = self.applied_of(&work.id).await?;
            let moved = old.is_some_and(|old| old.origin != work.origin);
            for applied in &applied {
                let AppliedWork { work, cluster, .. } = &*applied.value;
                if moved {
                    // The event itself says that it is about another place now.
                    self.withdraw(work, cluster, Cause::Event);
                } else {
                    self.enqueue(work, cluster);
                }
            }
            if applied.is_empty() && work.intent == Intent::Delete {
                self.recent.note_nothing(&work.id, work.received);
                self.finish_removal(&work.id).await?;
            }
        }
        Ok(())
    }

    /// Has a Work looked at in a cluster, before what sweeps look at.
    pub(super) fn enqueue(self: &Arc<Self>, work: &WorkId, cluster: &ClusterId) {
        self.start(self.schedule.enqueue(work, cluster, Cause::Event));
    }

    /// The same as one of many, once it is its turn.
    pub(super) async fn look_again_at<'a>(self: &Arc<Self>, what: impl Into<Item<'a>>, cluster: &ClusterId) {
        self.pace.turn().await;
        self.start(self.schedule.enqueue(what, cluster, Cause::Sweep));
    }

    pub(super) fn withdraw(self: &Arc<Self>, work: &WorkId, cluster: &ClusterId, cause: Cause) {
        self.start(self.schedule.withdraw(work, cluster, cause));
    }

    pub(super) fn start(self: &Arc<Self>, start: Start) {
        if let Some(lane) = start.worker {
            self.start_worker(lane);
        }
        if let Some(lane) = start.refill {
            let shared = Arc::clone(self);
            self.spawn(async move {
                // What is left out then is in the store.
                let _ = shared.stop.run_until_cancelled(refill::run(&shared, &lane)).await;
            });
        }
    }

    /// Works off a lane until it is empty, paused, or the engine stops.
    pub(super) fn start_worker(self: &Arc<Self>, lane: Arc<Lane>) {
        let shared = Arc::clone(self);
        self.spawn(async move {
            while let Some(mut job) = lane.next() {
                // Kept in a variable, it would take its room twice.
                let step = AssertUnwindSafe(reconcile::step(&shared, &mut job, &lane)).catch_unwind().await;
                let verdict = step.unwrap_or_else(|_| {
                    tracing::error!(work = %job.work, cluster = %lane.cluster, "this is a bug, please report it");
                    shared.later(shared.config.stalled)
                });
                lane.has_looked(&job.work, shared.holdings.has_sights(&job.work, &lane.cluster));
                shared.schedule.finish(&lane, &job, verdict, shared.entropy());
                if shared.stop.is_cancelled() {
                    return;
                }
                if shared.schedule.wants_more(&lane) {
                    shared.start_worker(Arc::clone(&lane));
                }
            }
        });
    }
}
