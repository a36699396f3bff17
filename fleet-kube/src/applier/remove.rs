//! One object of the inventory is taken away, or given back.

use std::sync::Arc;

use fleet_core::apply::{Change, InventoryItem, Mode, Outcome};
use jiff::Timestamp;

use super::object::{METADATA, Object};
use super::requests::Deleted;
use super::run::{Run, Standing, being_deleted, keeps_changing, of_reading, protected};
use crate::client::{Failure, Resource};

const TURNS: usize = 4;

impl Run<'_> {
    pub(super) async fn remove(
        &self,
        item: &InventoryItem,
        now: &(dyn Fn() -> Timestamp + Send + Sync),
    ) -> Result<Outcome, Failure> {
        let id = &item.object;
        let begun = now();
        let found = self.link.kinds.find_in_any_version(&self.link.client, &id.gvk, self.deadline).await;
        let Some(resource) = found.map_err(of_reading)? else {
            // The kind is gone, and its objects with it.
            return Ok(self.absent(item, begun));
        };
        if self.scope_fault(id, &resource).is_some() {
            // Refused when it was to be applied: there was never such an object.
            return Ok(self.gone());
        }
        // As long as nobody else wrote to it since we did, it is ours; else it has to be seen first.
        let mut known = item
            .uid
            .clone()
            .zip(item.version.clone())
            .filter(|_| !item.adopted && !self.is_protected(id) && self.mode == Mode::Write);
        for _ in 0..TURNS {
            if let Some((uid, version)) = known.take() {
                match self.delete(id, &resource, &uid, &version).await {
                    Ok(Deleted::Going) => return Ok(being_deleted(id)),
                    // Accepted; now see what became of it.
                    Ok(Deleted::Accepted) => {}
                    Err(Failure::NotFound { .. } | Failure::UidMismatch | Failure::Conflict { .. }) => {}
                    Err(failure) => return Err(failure),
                }
            }
            let begun = now();
            let Some(object) = self.look(id, &resource).await? else {
                return Ok(self.absent(item, begun));
            };
            let adopted = match self.standing(id, &object, Some(item)) {
                // Whatever we made is not there any more. This is somebody else's, and stays.
                Standing::Theirs(_) => return Ok(self.absent(item, begun)),
                Standing::Ours { .. } if object.is_going() => return Ok(being_deleted(id)),
                Standing::Ours { adopted } => adopted,
            };
            if adopted {
                if let Some(outcome) = self.give_back(item, &resource, &object, begun).await? {
                    return Ok(outcome);
                }
                continue;
            }
            if self.is_protected(id) {
                return Ok(protected(id));
            }
            if self.mode == Mode::Preview {
                return Ok(Outcome::Would(Change::Delete));
            }
            known = object.version().map(|version| (Arc::clone(object.uid()), Arc::clone(version)));
        }
        Ok(keeps_changing())
    }

    /// Takes off what is ours; all values stay. `None` if somebody wrote to the object meanwhile.
    async fn give_back(
        &self,
        item: &InventoryItem,
        resource: &Resource,
        object: &Object,
        begun: Timestamp,
    ) -> Result<Option<Outcome>, Failure> {
        let Some(patch) = object.giving_back() else { return Ok(Some(self.absent(item, begun))) };
        if self.mode == Mode::Preview {
            return Ok(Some(Outcome::Would(Change::GiveBack)));
        }
        match self.patch(&item.object, resource, &patch, METADATA).await {
            Ok(_) => Ok(Some(self.absent(item, begun))),
            Err(Failure::UidMismatch | Failure::Conflict { .. }) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    fn gone(&self) -> Outcome {
        match self.mode {
            Mode::Write => Outcome::Gone,
            Mode::Preview => Outcome::Would(Change::Nothing),
        }
    }

    /// Nothing of ours was there in a read that began at `begun`. That is proof only if no request without an answer can
    /// still take effect.
    fn absent(&self, item: &InventoryItem, begun: Timestamp) -> Outcome {
        match item.uncertain_until {
            Some(until) if begun < until => Outcome::Waiting {
                reason: format!("a request without an answer may still create {} until {until}", item.object),
            },
            _ => self.gone(),
        }
    }
}
