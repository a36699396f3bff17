//! The clusters as the engine sees them, and which of them a selector selects: indexed, and kept up to date by change.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use parking_lot::RwLock;

use crate::cluster::{Cluster, ClusterChange, ClusterId, Labels, Role};
use crate::selector::{LabelSelector, Operator};

/// All clusters of the fleet.
#[derive(Debug, Default)]
pub struct ClusterIndex {
    state: RwLock<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Each cluster keeps its place while it is there; a place that became free is used again.
    places: Vec<Option<Arc<Cluster>>>,
    free: Vec<u32>,
    by_id: HashMap<ClusterId, u32>,
    /// Label, value, places of the clusters that have it.
    by_label: HashMap<String, HashMap<String, Vec<u32>>>,
    /// Those that the fleet may be managed from.
    managing: BTreeSet<ClusterId>,
    /// What the selectors in use select; changed only where a cluster that changed is concerned.
    selected: HashMap<LabelSelector, Arc<[Arc<Cluster>]>>,
    /// Those that other operators drive: where events come from, and never a target.
    elsewhere: HashMap<ClusterId, Arc<Cluster>>,
}

impl ClusterIndex {
    /// An index of these clusters.
    pub fn new(clusters: impl IntoIterator<Item = Arc<Cluster>>) -> Self {
        let index = Self::default();
        for cluster in clusters {
            index.state.write().insert(cluster);
        }
        index
    }

    /// One cluster.
    pub fn get(&self, id: &ClusterId) -> Option<Arc<Cluster>> {
        self.state.read().get(id).cloned()
    }

    /// The cluster that the fleet is managed from: where there goes what is local.
    pub fn management(&self) -> Option<Arc<Cluster>> {
        let state = self.state.read();
        let managing = state.managing.iter().filter_map(|id| state.get(id));
        managing.min_by_key(|cluster| !cluster.is_member()).cloned()
    }

    /// The cluster that an event came from, whoever drives it.
    pub fn origin(&self, id: &ClusterId) -> Option<Arc<Cluster>> {
        let state = self.state.read();
        state.get(id).or_else(|| state.elsewhere.get(id)).cloned()
    }

    /// Whether another operator drives a cluster.
    pub fn is_elsewhere(&self, id: &ClusterId) -> bool {
        let state = self.state.read();
        state.elsewhere.contains_key(id) && !state.by_id.contains_key(id)
    }

    /// How many are managed.
    pub fn len(&self) -> usize {
        let state = self.state.read();
        let apart = state.managing.iter().filter_map(|id| state.get(id)).filter(|it| !it.is_member());
        state.by_id.len().saturating_sub(apart.count())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The clusters that a selector selects, in no particular order. Computed once a selector, then kept up to date.
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
            ClusterChange::Elsewhere(_) | ClusterChange::NotElsewhere(_) => (None, None),
        }
    }

    /// Takes in what another operator drives; returns it as it was.
    pub(super) fn put_elsewhere(&self, cluster: &Arc<Cluster>) -> Option<Arc<Cluster>> {
        self.state.write().elsewhere.insert(cluster.id.clone(), Arc::clone(cluster))
    }

    /// Forgets what another operator drove; returns it as it was.
    pub(super) fn remove_elsewhere(&self, id: &ClusterId) -> Option<Arc<Cluster>> {
        self.state.write().elsewhere.remove(id)
    }

    /// All that other operators drive.
    pub(super) fn all_elsewhere(&self) -> Vec<Arc<Cluster>> {
        self.state.read().elsewhere.values().cloned().collect()
    }

    /// All that are known.
    pub(super) fn all(&self) -> Vec<Arc<Cluster>> {
        self.state.read().places.iter().flatten().cloned().collect()
    }
}

impl State {
    fn get(&self, id: &ClusterId) -> Option<&Arc<Cluster>> {
        let place = *self.by_id.get(id)?;
        self.places.get(place as usize)?.as_ref()
    }

    fn insert(&mut self, cluster: Arc<Cluster>) -> Option<Arc<Cluster>> {
        let place = match self.by_id.get(&cluster.id) {
            Some(place) => *place,
            None => {
                let place = self.free.pop().unwrap_or_else(|| {
                    self.places.push(None);
                    // More clusters than that do not fit into memory.
                    u32::try_from(self.places.len() - 1).unwrap_or(u32::MAX)
                });
                self.by_id.insert(cluster.id.clone(), place);
                place
            }
        };
        let old = self.places.get_mut(place as usize)?.replace(Arc::clone(&cluster));
        match cluster.role {
            Role::Member => self.managing.remove(&cluster.id),
            Role::Management | Role::ManagementOnly => self.managing.insert(cluster.id.clone()),
        };
        let same_labels = old.as_ref().is_some_and(|old| old.labels == cluster.labels);
        if !same_labels {
            if let Some(old) = &old {
                self.unlist(place, &old.labels);
            }
            for (label, value) in &cluster.labels {
                let values = self.by_label.entry(label.clone()).or_default();
                values.entry(value.clone()).or_default().push(place);
            }
        }
        self.update_selected(old.as_deref(), Some(&cluster));
        old
    }

    fn remove(&mut self, id: &ClusterId) -> Option<Arc<Cluster>> {
        let place = self.by_id.remove(id)?;
        self.managing.remove(id);
        let old = self.places.get_mut(place as usize)?.take()?;
        self.free.push(place);
        self.unlist(place, &old.labels);
        self.update_selected(Some(&old), None);
        Some(old)
    }

    fn set_ready(&mut self, id: &ClusterId, ready: bool) -> (Option<Arc<Cluster>>, Option<Arc<Cluster>>) {
        let Some(old) = self.get(id).cloned() else { return (None, None) };
        let new = Arc::new(Cluster { ready, ..(*old).clone() });
        self.insert(Arc::clone(&new));
        (Some(old), Some(new))
    }

    fn unlist(&mut self, place: u32, labels: &Labels) {
        for (label, value) in labels {
            let Some(values) = self.by_label.get_mut(label) else { continue };
            if let Some(places) = values.get_mut(value) {
                places.retain(|it| *it != place);
                if places.is_empty() {
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
            let was = old.filter(|old| old.is_selected_by(selector));
            let is = new.filter(|new| new.is_selected_by(selector));
            if was.is_some() || is.is_some() {
                let others = selected.iter().filter(|cluster| was.is_none_or(|was| cluster.id != was.id));
                *selected = others.chain(is).cloned().collect();
            }
        }
    }

    /// Each condition is a set of places, and all of them are intersected, a machine word of places at a time.
    fn compute(&self, selector: &LabelSelector) -> Arc<[Arc<Cluster>]> {
        let mut found: Option<Places> = None;
        for (label, operator, values) in selector.requirements() {
            let by_value = self.by_label.get(label);
            let mut places = Places::none(self.places.len());
            match operator {
                Operator::In | Operator::NotIn => {
                    values.iter().filter_map(|value| by_value?.get(value)).for_each(|it| places.add(it));
                }
                Operator::Exists | Operator::DoesNotExist => {
                    by_value.into_iter().flat_map(HashMap::values).for_each(|it| places.add(it));
                }
            }
            if matches!(operator, Operator::NotIn | Operator::DoesNotExist) {
                places.invert();
            }
            match &mut found {
                None => found = Some(places),
                Some(found) => found.keep(&places),
            }
        }
        let is_member = |cluster: &Arc<Cluster>| cluster.is_member();
        match found {
            None => self.places.iter().flatten().filter(|it| is_member(it)).cloned().collect(),
            Some(found) => {
                let found = found.iter().filter_map(|place| self.places.get(place)?.clone());
                found.filter(is_member).collect()
            }
        }
    }
}

/// A set of places, one bit each.
struct Places(Vec<u64>);

impl Places {
    fn none(places: usize) -> Self {
        Self(vec![0; places.div_ceil(64)])
    }

    fn add(&mut self, places: &Vec<u32>) {
        for place in places {
            if let Some(word) = self.0.get_mut(*place as usize / 64) {
                *word |= 1 << (place % 64);
            }
        }
    }

    /// Free places, and places past the end, are in it afterwards; nothing is found there.
    fn invert(&mut self) {
        self.0.iter_mut().for_each(|word| *word = !*word);
    }

    fn keep(&mut self, others: &Self) {
        self.0.iter_mut().zip(&others.0).for_each(|(word, other)| *word &= other);
    }

    fn iter(&self) -> impl Iterator<Item = usize> {
        self.0.iter().enumerate().flat_map(|(index, word)| {
            let mut rest = *word;
            std::iter::from_fn(move || {
                (rest != 0).then(|| {
                    let bit = rest.trailing_zeros() as usize;
                    rest &= rest - 1;
                    index * 64 + bit
                })
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::selector::Requirement;
    use proptest::prelude::*;

    fn id(number: u8) -> ClusterId {
        ClusterId::new("fleet", &format!("c{number}")).unwrap()
    }

    fn cluster() -> impl Strategy<Value = Arc<Cluster>> {
        (0_u8..6, prop::collection::btree_map("[ab]", "[xy]", 0..3))
            .prop_map(|(number, labels)| Arc::new(Cluster::new(id(number), labels)))
            .prop_flat_map(|cluster| {
                let roles = [Role::Member, Role::Member, Role::Management, Role::ManagementOnly];
                prop::sample::select(Vec::from(roles))
                    .prop_map(move |role| Arc::new(Cluster { role, ..(*cluster).clone() }))
            })
    }

    fn change() -> impl Strategy<Value = ClusterChange> {
        prop_oneof![
            cluster().prop_map(ClusterChange::Joined),
            cluster().prop_map(ClusterChange::Relabelled),
            (0_u8..6).prop_map(|number| ClusterChange::Left(id(number))),
            (0_u8..6).prop_map(|number| ClusterChange::Unready(id(number))),
        ]
    }

    /// Any selector over these labels, and over one that no cluster has.
    fn selector() -> impl Strategy<Value = LabelSelector> {
        let operator = prop::sample::select(vec![
            Operator::In,
            Operator::NotIn,
            Operator::Exists,
            Operator::DoesNotExist,
        ]);
        let requirement =
            ("[abc]", operator, prop::collection::vec("[xyz]", 1..3)).prop_map(|(key, operator, values)| {
                let values = match operator {
                    Operator::In | Operator::NotIn => values,
                    Operator::Exists | Operator::DoesNotExist => Vec::new(),
                };
                Requirement { key, operator, values }
            });
        let labels = prop::collection::btree_map("[abc]", "[xyz]", 0..3);
        (labels, prop::collection::vec(requirement, 0..3))
            .prop_map(|(labels, requirements)| LabelSelector::new(labels, requirements).unwrap())
    }

    proptest! {
        /// Whatever happened, index and kept selections say what looking at every cluster says.
        #[test]
        fn the_index_agrees_with_looking_at_every_cluster(
            changes in prop::collection::vec(change(), 0..40),
            selectors in prop::collection::vec(selector(), 1..8),
        ) {
            let index = ClusterIndex::default();
            for selector in &selectors {
                index.select(selector);
            }
            for change in &changes {
                index.change(change);
                for selector in &selectors {
                    let sorted = |clusters: &[Arc<Cluster>]| {
                        let mut clusters = clusters.to_vec();
                        clusters.sort_by(|a, b| a.id.cmp(&b.id));
                        clusters
                    };
                    let expected: Vec<_> =
                        index.all().into_iter().filter(|cluster| cluster.is_selected_by(selector)).collect();
                    let expected = sorted(&expected);
                    prop_assert_eq!(&sorted(&index.select(selector)), &expected);
                    prop_assert_eq!(&sorted(&index.compute(selector)), &expected);
                }
            }
        }
    }
}
