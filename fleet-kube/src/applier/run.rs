//! One request on its way: whom it acts for, what it may touch, and when it stops.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use fleet_core::apply::{Claim, Identity, InventoryItem, Mode, Outcome, Owner};
use fleet_core::manifest::{Manifest, ObjectRef};
use fleet_core::policy::Policy;
use fleet_core::work::WorkId;
use tokio::time::Instant;

use super::object::Object;
use super::outcome;
use crate::client::{Failure, Resource};
use crate::clusters::Link;

/// One request, on its way.
pub(super) struct Run<'a> {
    pub(super) link: Arc<Link>,
    pub(super) work: &'a WorkId,
    pub(super) policy: &'a Policy,
    pub(super) claims: &'a [Claim],
    /// All that is to be applied.
    pub(super) manifests: &'a [Manifest],
    pub(super) protected: &'a BTreeSet<String>,
    pub(super) identity: Option<&'a Identity>,
    pub(super) mode: Mode,
    pub(super) deadline: Instant,
    /// One waits for a kind, the others for that one.
    pub(super) establishing: tokio::sync::Mutex<()>,
    /// Set once the cluster turned out to be out of reach: the rest is not tried.
    out_of_reach: OnceLock<Outcome>,
    /// Set once there was a conflict after which nothing more is to be begun.
    stopped: OnceLock<Outcome>,
}

/// What an object that is there is to a Work.
pub(super) enum Standing {
    /// Ours to change; or to be given back one day, if it was there before.
    Ours { adopted: bool },
    /// Somebody else's.
    Theirs(Owner),
}

impl<'a> Run<'a> {
    pub(super) fn new(
        link: Arc<Link>,
        work: &'a WorkId,
        policy: &'a Policy,
        protected: &'a BTreeSet<String>,
        identity: Option<&'a Identity>,
        mode: Mode,
        deadline: Duration,
    ) -> Result<Self, Outcome> {
        if identity.is_some() && link.client.impersonates() {
            let reason = "the cluster's kubeconfig acts as another user already, so it cannot act as a service \
                          account; remove `as` from it";
            return Err(Outcome::Rejected { reason: reason.to_owned() });
        }
        Ok(Self {
            link,
            work,
            policy,
            claims: &[],
            manifests: &[],
            protected,
            identity,
            mode,
            deadline: Instant::now() + deadline,
            establishing: tokio::sync::Mutex::new(()),
            out_of_reach: OnceLock::new(),
            stopped: OnceLock::new(),
        })
    }

    /// The same, that brings these into the cluster, and may take these from other Works.
    pub(super) fn applying(self, manifests: &'a [Manifest], claims: &'a [Claim]) -> Self {
        Self { manifests, claims, ..self }
    }

    /// One object's outcome, unless the cluster is out of reach already, or there was a conflict.
    pub(super) async fn guarded(
        &self,
        id: &ObjectRef,
        work: impl Future<Output = Result<Outcome, Failure>>,
    ) -> Outcome {
        if let Some(outcome) = self.out_of_reach.get().or_else(|| self.stopped.get()) {
            return outcome.clone();
        }
        let outcome = match work.await {
            Ok(outcome) => outcome,
            Err(failure) => {
                if matches!(failure, Failure::NoSuchPath) {
                    self.link.kinds.forget(&id.gvk);
                }
                outcome::of_failure(failure, id)
            }
        };
        match &outcome {
            Outcome::Retry { cluster: true, .. } => {
                self.link.doubt();
                let _ = self.out_of_reach.set(outcome.clone());
            }
            Outcome::Unknown { .. } => self.link.doubt(),
            // What a preview tells of the others does not depend on which one was looked at first.
            Outcome::Conflict { owner } if !self.policy.continue_on_conflict && self.mode == Mode::Write => {
                let _ = self.stopped.set(Outcome::held_up(id, owner));
            }
            _ => {}
        }
        outcome
    }

    /// Whether a manifest or an inventory item names its object as the kind wants it.
    pub(super) fn scope_fault(&self, id: &ObjectRef, resource: &Resource) -> Option<Outcome> {
        let reason = match (resource.namespaced, &id.namespace) {
            (true, None) => "metadata.namespace is missing".to_owned(),
            (false, Some(_)) => format!("{} is not namespaced; remove metadata.namespace", id.gvk.kind),
            _ => return None,
        };
        Some(Outcome::Rejected { reason })
    }

    /// What an object is to this Work. Its mark decides, and without any, its UID in the inventory: then somebody took the
    /// mark away.
    pub(super) fn standing(
        &self,
        id: &ObjectRef,
        object: &Object,
        known: Option<&InventoryItem>,
    ) -> Standing {
        let known = known.filter(|item| item.uid.as_ref() == Some(object.uid()));
        let adopted = object.is_adopted() || known.is_some_and(|item| item.adopted);
        match object.mark() {
            Some(mark) if mark == self.work.hash() || self.claims(id, mark) => Standing::Ours { adopted },
            None if known.is_some() => Standing::Ours { adopted },
            None if self.policy.adopt => Standing::Ours { adopted: true },
            _ => Standing::Theirs(object.owner()),
        }
    }

    fn claims(&self, id: &ObjectRef, mark: &str) -> bool {
        self.claims.iter().any(|claim| claim.object.same_object(id) && &*claim.from == mark)
    }

    /// Whether an object may be taken from another Work.
    pub(super) fn may_claim(&self, id: &ObjectRef) -> bool {
        self.claims.iter().any(|claim| claim.object.same_object(id))
    }

    /// Whether an object must never be deleted: others live in it, and would die with it.
    pub(super) fn is_protected(&self, id: &ObjectRef) -> bool {
        &*id.gvk.kind == "Namespace" && id.gvk.group.is_empty() && self.protected.contains(&*id.name)
    }

    pub(super) fn has_exclusions(&self, id: &ObjectRef) -> bool {
        self.policy.excluded(id).next().is_some()
    }
}

pub(super) fn being_deleted(id: &ObjectRef) -> Outcome {
    Outcome::Waiting { reason: format!("{id} is being deleted") }
}

pub(super) fn keeps_changing() -> Outcome {
    Outcome::Retry {
        after: Duration::from_secs(1),
        reason: "somebody else replaces or changes the object all the time".to_owned(),
        cluster: false,
    }
}

pub(super) fn protected(id: &ObjectRef) -> Outcome {
    Outcome::Rejected {
        reason: format!(
            "namespace {} is protected, and is never deleted; remove the label and what else is not wanted by hand",
            id.name
        ),
    }
}

/// A failure to read had no effect, whatever it was.
pub(super) fn of_reading(failure: Failure) -> Failure {
    match failure {
        Failure::NoAnswer { reason } => Failure::Unreachable { reason },
        other => other,
    }
}
