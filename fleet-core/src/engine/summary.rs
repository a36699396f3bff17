//! What an attempt in a cluster came to, over all its objects.

use std::time::Duration;

use jiff::Timestamp;

use crate::apply::{InventoryItem, Outcome, Owner};
use crate::engine::Shared;
use crate::manifest::ObjectRef;
use crate::policy::Policy;

const CONFLICT: &str = "Conflict";

/// The worst of a set of outcomes, by what is to be done about it.
#[derive(Default)]
pub(super) struct Summary {
    pub(super) cluster: Option<(Duration, String)>,
    pub(super) retry: Option<(Duration, String)>,
    /// Somebody undoes it again and again: it is left to them for so long.
    pub(super) contested: Option<(Duration, String)>,
    pub(super) waiting: Option<String>,
    pub(super) stalled: Option<(&'static str, String)>,
    /// All is as it should be, but a call without an answer may still change that for so long.
    pub(super) unsettled: Option<Duration>,
}

impl Summary {
    /// Takes in an outcome; `name` says whose something is.
    pub(super) fn add(&mut self, object: &ObjectRef, outcome: &Outcome, name: impl FnOnce(&Owner) -> String) {
        match outcome {
            Outcome::Applied(_) | Outcome::Would(_) | Outcome::Gone => {}
            Outcome::Retry { after, reason, cluster: true } => {
                self.cluster.get_or_insert_with(|| (*after, reason.clone()));
            }
            Outcome::Retry { after, reason, cluster: false } => {
                self.retry.get_or_insert_with(|| (*after, format!("{object}: {reason}")));
            }
            Outcome::Unknown { reason } => {
                self.retry.get_or_insert_with(|| (Duration::ZERO, format!("{object}: {reason}")));
            }
            Outcome::Waiting { reason } => {
                self.waiting.get_or_insert_with(|| format!("{object}: {reason}"));
            }
            Outcome::Conflict { owner } => {
                self.stalled.get_or_insert_with(|| {
                    let owner = name(owner);
                    (CONFLICT, format!("{object} exists and is not ours; it belongs to {owner} and is left alone; give ours another name"))
                });
            }
            Outcome::Rejected { reason } => {
                self.stalled.get_or_insert_with(|| ("Rejected", format!("{object}: {reason}")));
            }
        }
    }

    /// What is left of an item after an attempt that `began` then to remove it.
    pub(super) fn left(
        &mut self,
        shared: &Shared,
        mut item: InventoryItem,
        outcome: &Outcome,
        began: Timestamp,
        name: impl FnOnce(&Owner) -> String,
    ) -> Option<InventoryItem> {
        match (outcome, item.uncertain_until) {
            (Outcome::Gone, Some(until)) if until > began => {
                self.waiting.get_or_insert_with(|| {
                    format!("{}: a request without an answer may still create it until {until}", item.object)
                });
            }
            (Outcome::Gone, _) => return None,
            (Outcome::Unknown { .. }, _) => item.uncertain_until = shared.uncertain_until(),
            _ => {}
        }
        self.add(&item.object, outcome, name);
        Some(item)
    }

    /// Whether what is not rendered any more may go: all is there that is, as far as it is not in conflict.
    pub(super) fn lets_others_go(&self, policy: &Policy) -> bool {
        let is_conflict = self.stalled.as_ref().is_some_and(|(reason, _)| *reason == CONFLICT);
        let is_there = self.stalled.is_none() || (is_conflict && policy.continue_on_conflict);
        is_there && self.cluster.is_none() && self.retry.is_none() && self.waiting.is_none()
    }

    pub(super) fn is_done(&self) -> bool {
        self.cluster.is_none()
            && self.retry.is_none()
            && self.contested.is_none()
            && self.waiting.is_none()
            && self.stalled.is_none()
    }
}
