//! The clusters as the engine sees them, and which of them a selector selects: indexed, and kept up to date by change.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parking_lot::RwLock;

use crate::cluster::{Cluster, ClusterChange, ClusterId, Labels};
use crate::selector::LabelSelector;

/// All clusters of the fleet.
#[derive(Debug, Default)]
pub struct ClusterIndex {
    state: RwLock<State>,
}

#[derive(Debug, Default)]
struct State {
    clusters: BTreeMap<ClusterId, Arc<Cluster>>,
    /// Label, value, clusters that have it.
    by_label: HashMap<String, HashMap<String, BTreeMap<ClusterId, Arc<Cluster>>>>,
    /// What the selectors in use select; changed only where a cluster that changed is concerned.
    selected: HashMap<LabelSelector, Arc<[Arc<Cluster>]>>,
}

impl ClusterIndex {
    /// An index of these clusters.
    pub fn new(clusters: impl IntoIterator<Item = Arc<Cluster>>) -> Self {
        let index = Self::default();
        {
            let mut state = index.state.write();
            for cluster in clusters {
                state.insert(cluster);
            }
        }
        index
    }

    /// One cluster.
    pub fn get(&self, id: &ClusterId) -> Option<Arc<Cluster>> {
        self.state.read().clusters.get(id).cloned()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.state.read().clusters.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The clusters that a selector selects, by name. Computed once a selector, then kept up to date.
    pub fn select(&self, selector: &LabelSelector) -> Arc<[Arc<Cluster>]> {
        if let Some(selected) = self.state.read().selected.get(selector) {
            return Arc::clone(selected);
        }
        let mut state = self.state.write();
        let selected = state.compute(selector);
        state.selected.insert(selector.clone(), Arc::clone(&selected));
        selected
    }

    /// Computes what a selector selects without keeping it.
    pub fn compute(&self, selector: &LabelSelector) -> Arc<[Arc<Cluster>]> {
        self.state.read().compute(selector)
    }

    /// Forgets what selectors other than these select.
    pub(super) fn keep_selectors(&self, in_use: impl Fn(&LabelSelector) -> bool) {
        self.state.write().selected.retain(|selector, _| in_use(selector));
    }

    /// Takes in a change; returns the cluster as it was and as it is.
    pub(super) fn change(&self, change: &ClusterChange) -> (Option<Arc<Cluster>>, Option<Arc<Cluster>>) {
        let mut state = self.state.write();
        match change {
            ClusterChange::Joined(cluster) | ClusterChange::Relabelled(cluster) => {
                let old = state.insert(Arc::clone(cluster));
                (old, Some(Arc::clone(cluster)))
            }
            ClusterChange::Ready(id) => state.set_ready(id, true),
            ClusterChange::Unready(id) => state.set_ready(id, false),
            ClusterChange::Left(id) => (state.remove(id), None),
        }
    }

    /// All of them.
    pub(super) fn all(&self) -> Vec<Arc<Cluster>> {
        self.state.read().clusters.values().cloned().collect()
    }
}

impl State {
    fn insert(&mut self, cluster: Arc<Cluster>) -> Option<Arc<Cluster>> {
        let old = self.clusters.insert(cluster.id.clone(), Arc::clone(&cluster));
        if let Some(old) = &old {
            self.unlist(&old.id, &old.labels);
        }
        for (label, value) in &cluster.labels {
            let with_value =
                self.by_label.entry(label.clone()).or_default().entry(value.clone()).or_default();
            with_value.insert(cluster.id.clone(), Arc::clone(&cluster));
        }
        self.update_selected(old.as_deref(), Some(&cluster));
        old
    }

    fn remove(&mut self, id: &ClusterId) -> Option<Arc<Cluster>> {
        let old = self.clusters.remove(id)?;
        self.unlist(id, &old.labels);
        self.update_selected(Some(&old), None);
        Some(old)
    }

    fn set_ready(&mut self, id: &ClusterId, ready: bool) -> (Option<Arc<Cluster>>, Option<Arc<Cluster>>) {
        let Some(old) = self.clusters.get(id).cloned() else {
            return (None, None);
        };
        let new = Arc::new(Cluster { ready, ..(*old).clone() });
        self.insert(Arc::clone(&new));
        (Some(old), Some(new))
    }

    fn unlist(&mut self, id: &ClusterId, labels: &Labels) {
        for (label, value) in labels {
            let Some(values) = self.by_label.get_mut(label) else {
                continue;
            };
            if let Some(clusters) = values.get_mut(value) {
                clusters.remove(id);
                if clusters.is_empty() {
                    values.remove(value);
                }
            }
            if values.is_empty() {
                self.by_label.remove(label);
            }
        }
    }

    fn update_selected(&mut self, old: Option<&Cluster>, new: Option<&Arc<Cluster>>) {
        for (selector, selected) in &mut self.selected {
            let was = old.is_some_and(|old| selector.matches(&old.labels));
            let is = new.filter(|new| selector.matches(&new.labels));
            let Some(id) = old.map(|old| &old.id).or(new.map(|new| &new.id)) else {
                continue;
            };
            if was || is.is_some() {
                let place = selected.partition_point(|cluster| cluster.id < *id);
                let rest = if was { place + 1 } else { place };
                let before = selected.iter().take(place);
                *selected = before.chain(is).chain(selected.iter().skip(rest)).cloned().collect();
            }
        }
    }

    fn compute(&self, selector: &LabelSelector) -> Arc<[Arc<Cluster>]> {
        let pick = |cluster: &&Arc<Cluster>| selector.matches(&cluster.labels);
        match selector.narrowest() {
            // The index already answers a single condition; more than one is checked on the fewer.
            Some((label, values)) => {
                let found = self.by_label.get(label);
                let mut lists = values.iter().filter_map(|value| found?.get(*value));
                match (lists.next(), lists.next()) {
                    (None, _) => Arc::default(),
                    (Some(only), None) if selector.is_single() => only.values().cloned().collect(),
                    (Some(only), None) => only.values().filter(pick).cloned().collect(),
                    (Some(first), Some(second)) => {
                        let all =
                            first.values().chain(second.values()).chain(lists.flat_map(BTreeMap::values));
                        let mut all: Vec<_> = all.filter(pick).cloned().collect();
                        all.sort_by(|a, b| a.id.cmp(&b.id));
                        all.into()
                    }
                }
            }
            None if selector.is_everything() => self.clusters.values().cloned().collect(),
            None => self.clusters.values().filter(pick).cloned().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id(number: u8) -> ClusterId {
        ClusterId::new("fleet", &format!("c{number}")).unwrap()
    }

    fn cluster() -> impl Strategy<Value = Arc<Cluster>> {
        (0_u8..6, prop::collection::btree_map("[ab]", "[xy]", 0..3))
            .prop_map(|(number, labels)| Arc::new(Cluster::new(id(number), labels)))
    }

    fn change() -> impl Strategy<Value = ClusterChange> {
        prop_oneof![
            cluster().prop_map(ClusterChange::Joined),
            cluster().prop_map(ClusterChange::Relabelled),
            (0_u8..6).prop_map(|number| ClusterChange::Left(id(number))),
            (0_u8..6).prop_map(|number| ClusterChange::Unready(id(number))),
        ]
    }

    fn selectors() -> Vec<LabelSelector> {
        [
            "{}",
            r#"{"matchLabels":{"a":"x"}}"#,
            r#"{"matchLabels":{"a":"x","b":"y"}}"#,
            r#"{"matchExpressions":[{"key":"a","operator":"In","values":["x","y"]}]}"#,
            r#"{"matchExpressions":[{"key":"a","operator":"In","values":["x","x"]}]}"#,
            r#"{"matchExpressions":[{"key":"a","operator":"NotIn","values":["x"]}]}"#,
            r#"{"matchExpressions":[{"key":"b","operator":"DoesNotExist"}]}"#,
        ]
        .map(|json| serde_json::from_str(json).unwrap())
        .into()
    }

    proptest! {
        /// Whatever happened, index and kept selections say what looking at every cluster says.
        #[test]
        fn the_index_agrees_with_looking_at_every_cluster(changes in prop::collection::vec(change(), 0..40)) {
            let index = ClusterIndex::default();
            for selector in selectors() {
                index.select(&selector);
            }
            for change in &changes {
                index.change(change);
                for selector in selectors() {
                    let expected: Vec<_> =
                        index.all().into_iter().filter(|cluster| selector.matches(&cluster.labels)).collect();
                    prop_assert_eq!(&*index.select(&selector), &*expected);
                    prop_assert_eq!(&*index.compute(&selector), &*expected);
                }
            }
        }
    }
}
