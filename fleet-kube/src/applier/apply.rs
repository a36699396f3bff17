//! One manifest becomes an object.

use std::sync::Arc;

use fleet_core::apply::{InventoryItem, Outcome};
use fleet_core::manifest::{Manifest, ObjectRef};

use super::object::Object;
use super::refusal;
use super::requests::{Basis, Deleted, Live};
use super::run::{Run, Standing, being_deleted, keeps_changing};
use crate::client::{Failure, Resource};

/// How often an object may change under our hands before it is left for later.
const TURNS: usize = 6;

enum Step {
    /// It is not there, as far as we know.
    Create,
    /// It is ours.
    Update(Box<Basis>),
    /// Something has its name.
    Look,
}

impl Run<'_> {
    pub(super) async fn apply(
        &self,
        manifest: &Manifest,
        inventory: &[InventoryItem],
    ) -> Result<Outcome, Failure> {
        let id = manifest.id();
        let resource = match self.kind(id).await? {
            Ok(resource) => resource,
            Err(outcome) => return Ok(outcome),
        };
        if let Some(fault) = self.scope_fault(id, &resource) {
            return Ok(fault);
        }
        let known = inventory.iter().find(|item| item.object.same_object(id));
        let object = manifest.marked(self.work);
        let mut step = self.first_step(id, known);
        for _ in 0..TURNS {
            step = match step {
                Step::Create => match self.create_where_it_belongs(id, &resource, &object).await {
                    Ok(Ok(created)) => return Ok(self.applied(id, &created)),
                    Ok(Err(outcome)) => return Ok(outcome),
                    Err(Failure::AlreadyExists) => Step::Look,
                    Err(failure) => return Err(refusal::explained(failure, manifest)),
                },
                Step::Update(basis) => match self.update(id, &resource, &object, &basis).await {
                    Ok(updated) if updated.is_going() => return Ok(being_deleted(id)),
                    Ok(updated) => return Ok(self.applied(id, &updated)),
                    Err(Failure::UidMismatch | Failure::Conflict { .. }) => Step::Look,
                    Err(Failure::NotFound { resource, .. }) if resource == "namespaces" => Step::Create,
                    Err(failure) => {
                        let Some(fixed) = refusal::immutable(&failure, manifest) else {
                            return Err(refusal::explained(failure, manifest));
                        };
                        if let Some(refused) = self.recreation_refused(manifest, &basis, fixed) {
                            return Ok(refused);
                        }
                        match self.delete(id, &resource, &basis.uid, &basis.version).await {
                            Ok(Deleted::Going) => return Ok(being_deleted(id)),
                            Ok(Deleted::Accepted)
                            | Err(
                                Failure::UidMismatch | Failure::Conflict { .. } | Failure::NotFound { .. },
                            ) => Step::Look,
                            Err(failure) => return Err(failure),
                        }
                    }
                },
                Step::Look => {
                    let live = if self.has_exclusions(id) {
                        self.look_whole(id, &resource).await?
                    } else {
                        self.look(id, &resource).await?.map(|object| Live { object, whole: None })
                    };
                    match live {
                        None => Step::Create,
                        Some(live) if live.object.is_going() => return Ok(being_deleted(id)),
                        Some(live) => match self.standing(id, &live.object, known) {
                            Standing::Theirs(owner) => return Ok(Outcome::Conflict { owner }),
                            Standing::Ours { adopted } => Step::Update(Box::new(Basis::of(live, adopted))),
                        },
                    }
                }
            };
        }
        Ok(keeps_changing())
    }

    /// As long as nobody else wrote to the object since our last write, which its resourceVersion tells, it carries our mark
    /// and one request is enough.
    fn first_step(&self, id: &ObjectRef, known: Option<&InventoryItem>) -> Step {
        if self.may_claim(id) {
            return Step::Look;
        }
        match known.map(|item| (item, item.uid.clone(), item.version.clone())) {
            // Without a version it was seen to be gone; whatever has its name all the same is looked at then.
            None | Some((_, None, _) | (_, Some(_), None)) => Step::Create,
            Some((item, Some(uid), Some(version))) if !self.has_exclusions(id) => {
                Step::Update(Box::new(Basis { uid, version, adopted: item.adopted, live: None }))
            }
            Some(_) => Step::Look,
        }
    }

    fn applied(&self, id: &ObjectRef, object: &Object) -> Outcome {
        Outcome::Applied(object.placed(self.policy.excluded(id)))
    }

    /// Why an object is not deleted and created anew for a change that is not possible otherwise; `None` if it may be.
    pub(super) fn recreation_refused(
        &self,
        manifest: &Manifest,
        basis: &Basis,
        fixed: String,
    ) -> Option<Outcome> {
        let why_not = if !manifest.may_be_recreated() {
            return Some(Outcome::Rejected { reason: refusal::with_advice(fixed) });
        } else if basis.adopted {
            "it was there before it was adopted, and is not deleted"
        } else if self.is_protected(manifest.id()) {
            "protected namespaces are never deleted"
        } else {
            return None;
        };
        Some(Outcome::Rejected { reason: format!("{fixed}; {why_not}; take the change back") })
    }
}

impl Basis {
    pub(super) fn of(live: Live, adopted: bool) -> Self {
        let object = &live.object;
        Self {
            uid: Arc::clone(object.uid()),
            version: object.version().cloned().unwrap_or_else(|| "".into()),
            adopted,
            live: Some(live),
        }
    }
}

/// What a creation came to: an object, or what is to be waited for before there can be one.
pub(super) type Creation = Result<Result<Object, Outcome>, Failure>;

/// Where a kind is served, or the outcome for an object of a kind that is not.
pub(super) type Kind = Result<Result<Resource, Outcome>, Failure>;
