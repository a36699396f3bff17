//! What is said of triggers, as their conditions: whether they can be used, and which of their Works are stalled.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use crate::catalog::{Catalog, Condition, Subject};
use crate::cluster::ClusterId;
use crate::work::WorkId;

/// So many stalled Works of a trigger are known one by one; of more, only that there are more.
const KEPT: usize = 1000;
/// So many of them are logged one by one, until none is stalled any more.
const LOGGED: usize = 10;

/// What is known of each trigger, and what was said.
#[derive(Debug, Default)]
pub(super) struct Conditions {
    triggers: Mutex<BTreeMap<Arc<str>, State>>,
    /// Whether anything was ever stalled; as a rule nothing is, and nobody has to wait for the lock.
    any: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    /// Whether the trigger itself can be used; none while it is not defined.
    itself: Option<Condition>,
    stalled: BTreeMap<(WorkId, ClusterId), String>,
    rolling_out: Option<RollingOut>,
    said: Option<Condition>,
}

/// How far a rollout is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RollingOut {
    /// So many clusters have the new rendering, and are well.
    pub(super) done: usize,
    /// Of so many.
    pub(super) total: usize,
    /// Where it failed first, and why: no further cluster is begun.
    pub(super) failure: Option<(ClusterId, String)>,
}

impl Conditions {
    /// Takes the triggers that there are now, and whether each can be used.
    pub(super) fn define(&self, defined: BTreeMap<Arc<str>, Condition>, catalog: &dyn Catalog) {
        let mut triggers = self.triggers.lock();
        triggers.retain(|name, state| {
            if !defined.contains_key(name) {
                state.itself = None;
                state.rolling_out = None;
                state.said = None;
            }
            !state.stalled.is_empty() || defined.contains_key(name)
        });
        for (name, condition) in defined {
            let state = triggers.entry(Arc::clone(&name)).or_default();
            state.itself = Some(condition);
            state.say(&name, catalog);
        }
    }

    /// How far a trigger's rollout is; `None` if there is none.
    pub(super) fn rolling_out(&self, trigger: &Arc<str>, how: Option<RollingOut>, catalog: &dyn Catalog) {
        let mut triggers = self.triggers.lock();
        let Some(state) = triggers.get_mut(trigger).filter(|state| state.rolling_out != how) else { return };
        if let Some(RollingOut { failure: Some((cluster, why)), .. }) = &how {
            tracing::warn!(%trigger, %cluster, "the rollout has stopped: {why}");
        }
        state.rolling_out = how;
        state.say(trigger, catalog);
    }

    /// A Work is stalled in a cluster, until [`moved_on`](Self::moved_on).
    pub(super) fn stalled(
        &self,
        trigger: &Arc<str>,
        (work, cluster): (&WorkId, &ClusterId),
        why: String,
        catalog: &dyn Catalog,
    ) {
        let mut triggers = self.triggers.lock();
        let state = triggers.entry(Arc::clone(trigger)).or_default();
        let place = (work.clone(), cluster.clone());
        let known = state.stalled.get(&place);
        if known == Some(&why) || (known.is_none() && state.stalled.len() >= KEPT) {
            return;
        }
        if state.stalled.len() < LOGGED {
            tracing::warn!(%trigger, %work, %cluster, "stalled: {why}");
        }
        state.stalled.insert(place, why);
        self.any.store(true, Ordering::Release);
        state.say(trigger, catalog);
    }

    /// A Work is not stalled in a cluster, or not any more. Its trigger need not be known.
    pub(super) fn moved_on(
        &self,
        trigger: Option<&Arc<str>>,
        (work, cluster): (&WorkId, &ClusterId),
        catalog: &dyn Catalog,
    ) {
        if !self.any.load(Ordering::Acquire) {
            return;
        }
        let place = (work.clone(), cluster.clone());
        let mut triggers = self.triggers.lock();
        for (trigger, state) in triggers.iter_mut().filter(|(name, _)| trigger.is_none_or(|it| it == *name)) {
            if state.stalled.remove(&place).is_some() {
                if state.stalled.is_empty() {
                    tracing::info!(%trigger, "nothing is stalled any more");
                }
                state.say(trigger, catalog);
            }
        }
        triggers.retain(|_, state| state.itself.is_some() || !state.stalled.is_empty());
        self.any.store(triggers.values().any(|state| !state.stalled.is_empty()), Ordering::Release);
    }
}

impl State {
    /// Tells the catalog, unless it was told the same last.
    fn say(&mut self, trigger: &Arc<str>, catalog: &dyn Catalog) {
        let Some(mut condition) = self.itself.clone() else { return };
        if let (true, Some(((_, cluster), why))) = (condition.ready, self.stalled.first_key_value()) {
            let more = match self.stalled.len() - 1 {
                0 => String::new(),
                more if more + 1 < KEPT => format!(", and {more} more times"),
                more => format!(", and {more} more times at least"),
            };
            condition.reason = "WorksStalled".to_owned();
            condition.message = format!("{}; a Work is stalled in {cluster}{more}: {why}", condition.message);
        }
        if let (true, Some(RollingOut { done, total, failure })) = (condition.ready, &self.rolling_out) {
            let message = &condition.message;
            if let Some((cluster, why)) = failure {
                condition.message = format!(
                    "{message}; the rollout has stopped at {done}/{total} clusters because of {cluster}: {why}; mend that, \
                     or change the definition again"
                );
                condition.reason = "RolloutStopped".to_owned();
            } else {
                condition.message = format!("{message}; rolling out: {done}/{total} clusters are done");
                if self.stalled.is_empty() {
                    condition.reason = "RollingOut".to_owned();
                }
            }
        }
        if self.said.as_ref() != Some(&condition) {
            catalog.report(&Subject::of_trigger(trigger), condition.clone());
            self.said = Some(condition);
        }
    }
}
