//! What has to be there first, and what has to be gone first.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Step;
use crate::cluster::ClusterId;
use crate::engine::Shared;
use crate::engine::definitions::Definitions;
use crate::engine::triggers::Trigger;
use crate::policy::{Policy, StopMatching, SyncMode};

/// Triggers and ClusterProfiles that are gone while something of theirs may still be somewhere, and what they waited for:
/// that stays until they have left. Not known after a restart.
pub(in crate::engine) type Departed = BTreeMap<Arc<str>, Vec<Arc<str>>>;

impl Step<'_> {
    /// What has to be healthy in the cluster before this is applied there, and is not.
    pub(super) fn unmet(&self, trigger: &Trigger) -> Option<String> {
        let cluster = self.for_cluster();
        let is_unmet = |name: &&Arc<str>| !self.shared.holdings.is_ready(name, cluster);
        let unmet: Vec<&str> =
            trigger.def.policy.depends_on.iter().filter(is_unmet).map(|name| &**name).collect();
        (!unmet.is_empty()).then(|| format!("waits until {} is ready in {cluster}", unmet.join(", ")))
    }

    /// What is on its way out of the cluster, and has to be gone before what it depends on goes.
    pub(super) fn leaving_first(&self, trigger: &str) -> Option<String> {
        let (shared, cluster) = (self.shared, self.for_cluster());
        let definitions = shared.definitions.load();
        let there = shared.clusters.get(cluster);
        let leaves = |(name, it): &(&Arc<str>, &Arc<Trigger>)| {
            let policy = &it.def.policy;
            needs(policy, trigger)
                && is_taken_away(policy)
                && there.as_ref().is_none_or(|cluster| !it.concerns(cluster))
                && shared.holdings.has_in(name, cluster)
        };
        let mut first: Vec<Arc<str>> =
            definitions.triggers.iter().filter(leaves).map(|(name, _)| Arc::clone(name)).collect();
        for (name, needed) in &*shared.departed.lock() {
            if needed.iter().any(|it| **it == *trigger) && shared.holdings.has_in(name, cluster) {
                first.push(Arc::clone(name));
            }
        }
        (!first.is_empty()).then(|| format!("waits until {} is gone from {cluster}", first.join(", ")))
    }
}

impl Shared {
    /// Takes note of what is gone between two versions of the definitions.
    pub(in crate::engine) fn note_departed(&self, before: &Definitions, now: &Definitions) {
        let mut departed = self.departed.lock();
        departed.retain(|name, _| !now.triggers.contains_key(name) && self.holdings.has_trigger(name));
        for (name, trigger) in &before.triggers {
            let policy = &trigger.def.policy;
            if !policy.depends_on.is_empty() && is_taken_away(policy) && !now.triggers.contains_key(name) {
                departed.insert(Arc::clone(name), policy.depends_on.clone());
            }
        }
    }

    /// Something of a trigger has left a cluster: what it depended on may go now.
    pub(in crate::engine) fn let_needed_go(&self, trigger: &str, cluster: &ClusterId) {
        let mut needed = self.departed.lock().get(trigger).cloned().unwrap_or_default();
        if let Some(trigger) = self.definitions.load().triggers.get(trigger) {
            needed.extend(trigger.def.policy.depends_on.iter().cloned());
        }
        if !needed.is_empty() {
            self.sweeps.in_cluster(cluster, needed);
        }
    }
}

fn needs(policy: &Policy, trigger: &str) -> bool {
    policy.depends_on.iter().any(|name| **name == *trigger)
}

fn is_taken_away(policy: &Policy) -> bool {
    policy.stop_matching == StopMatching::WithdrawPolicies && policy.sync != SyncMode::DryRun
}
