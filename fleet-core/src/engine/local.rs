//! What is local: of what a trigger renders for a cluster, the part that goes into the management cluster instead.
//!
//! For each Work and each cluster where the Work belongs, that part is looked at in the lane of the management cluster,
//! under a [name](Local::id) of its own, so that it has a record, a mark and an inventory of its own. What should be there
//! is told by the Work itself and by the cluster that it is for; no Work is stored for it.

use std::sync::Arc;

use jiff::Timestamp;

use crate::cluster::ClusterId;
use crate::engine::Shared;
use crate::engine::definitions::Definitions;
use crate::engine::queue::Cause;
use crate::engine::triggers::{Fault, Trigger};
use crate::store::{StoreError, Stored};
use crate::work::{AppliedWork, Local, WorkId};

/// A part of what a trigger renders for a cluster, by where it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Into the cluster.
    Remote,
    /// Into the management cluster.
    Local,
}

impl Part {
    /// The part that something is of.
    pub(super) fn of(local: Option<&Local>) -> Self {
        if local.is_some() { Self::Local } else { Self::Remote }
    }
}

/// What a trigger that has something local is told where there is no management cluster.
pub(super) fn no_management() -> Fault {
    Fault {
        reason: "NoManagementCluster",
        message: "something of it is local (deploymentType: Local), and there is no management cluster to put that into; \
                  register the cluster that the operator runs in as a Cluster with spec.inCluster, or run the operator on \
                  a management cluster"
            .to_owned(),
    }
}

impl Definitions {
    /// Whether anything of any trigger is local.
    pub(super) fn have_local(&self) -> bool {
        self.triggers.values().any(|trigger| trigger.has(Part::Local))
    }
}

impl Shared {
    /// Has a Work looked at that belongs into a cluster: there, and what is local in the management cluster.
    pub(super) fn enqueue_parts(self: &Arc<Self>, trigger: &Trigger, work: &WorkId, cluster: &ClusterId) {
        if trigger.has(Part::Remote) {
            self.enqueue(work, cluster);
        }
        if let Some((local, management)) = self.local_part(trigger, work, cluster) {
            self.start(self.schedule.enqueue(local, &management, Cause::Event));
        }
    }

    /// The same as one of many, once it is its turn.
    pub(super) async fn look_again_at_parts(
        self: &Arc<Self>,
        trigger: &Trigger,
        work: &WorkId,
        cluster: &ClusterId,
    ) {
        if trigger.has(Part::Remote) {
            self.look_again_at(work, cluster).await;
        }
        if let Some((local, management)) = self.local_part(trigger, work, cluster) {
            self.look_again_at(local, &management).await;
        }
    }

    /// The same after somebody else has worked on it too, see [`doubt`](super::schedule::Schedule::doubt).
    pub(super) fn doubt_parts(
        self: &Arc<Self>,
        trigger: &Trigger,
        work: &WorkId,
        cluster: &ClusterId,
        until: Option<Timestamp>,
    ) {
        if trigger.has(Part::Remote) {
            self.start(self.schedule.doubt(work, cluster, until));
        }
        if let Some((local, management)) = self.local_part(trigger, work, cluster) {
            self.start(self.schedule.doubt(local, &management, until));
        }
    }

    /// What a Work should have for a cluster in the management cluster, if anything, and which that is.
    fn local_part(
        &self,
        trigger: &Trigger,
        work: &WorkId,
        cluster: &ClusterId,
    ) -> Option<(Local, ClusterId)> {
        if !trigger.has(Part::Local) {
            return None;
        }
        let management = self.clusters.management()?;
        Some((Local { work: work.clone(), cluster: cluster.clone() }, management.id.clone()))
    }

    /// Whether something has its place where it was applied, if the Work has one for the cluster that it is for.
    pub(super) fn is_in_place(&self, trigger: &Trigger, applied: &AppliedWork) -> bool {
        match &applied.local {
            None => trigger.has(Part::Remote),
            Some(_) => {
                trigger.has(Part::Local)
                    && self.clusters.management().is_some_and(|management| management.id == applied.cluster)
            }
        }
    }

    /// What was done for a Work anywhere, also what is local. Before all records were read at the start, that is not known
    /// of what is local.
    pub(super) async fn applied_of(
        &self,
        work: &WorkId,
    ) -> Result<Vec<Stored<Arc<AppliedWork>>>, StoreError> {
        let mut applied = self.store.applied(work).await?;
        for (id, cluster) in self.holdings.local_of(work) {
            applied.extend(self.store.applied_in(&id, &cluster).await?);
        }
        Ok(applied)
    }

    /// Whether anything was done for a Work, or may have been.
    pub(super) async fn is_anywhere(&self, work: &WorkId) -> Result<bool, StoreError> {
        Ok(!self.holdings.is_loaded()
            || self.holdings.has_local(work)
            || !self.store.applied(work).await?.is_empty())
    }
}
