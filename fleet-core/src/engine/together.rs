//! Triggers that render all their keys together: what is in a cluster belongs to one derived Work of the trigger, and the
//! keys have nothing there of their own. What is rendered is gathered from the Works of the keys each time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use sha2::{Digest, Sha256};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use crate::cluster::{Cluster, ClusterId};
use crate::engine::Shared;
use crate::engine::clusters::ClusterIndex;
use crate::engine::definitions::{Definitions, Found};
use crate::engine::local::Part;
use crate::engine::references::{Look, Unrendered};
use crate::engine::triggers::{Fault, Rendered, Trigger};
use crate::event::{Data, Event};
use crate::render::Arrival;
use crate::store::{StoreError, Stored};
use crate::work::{AppliedWork, EventKey, Intent, Work, WorkId};

/// How many Works are read at a time.
const PAGE: usize = 256;
/// So many keys are rendered together at most.
const MOST_KEYS: usize = 10_000;
/// Their events hold so much at most, in bytes: far more than any object may.
const MOST_BYTES: usize = 8 << 20;
/// So many sets are in memory at the same time, in all clusters together.
const MOST_SETS: usize = 4;
/// After gathering and rendering, a set rests for this many times what that took: while many events come, each of them
/// is not worth a rendering of all.
const REST: u32 = 4;
/// But no longer than this.
const LONGEST_REST: Duration = Duration::from_millis(250);

/// Bounds how many sets are in memory at the same time.
#[derive(Debug)]
pub(super) struct Together {
    sets: Semaphore,
}

impl Default for Together {
    fn default() -> Self {
        Self { sets: Semaphore::new(MOST_SETS) }
    }
}

impl Trigger {
    /// Whether all keys are rendered together.
    pub(super) fn is_together(&self) -> bool {
        !self.def.one_for_event
    }

    /// The Work that has what the keys have together.
    pub(super) fn aggregate(&self) -> WorkId {
        aggregate(&self.def.name)
    }

    /// Whether a key could be in a cluster if selectors were others: then it is not by an event that it is not there.
    fn might_target(&self, origin: Option<&ClusterId>, cluster: &ClusterId) -> bool {
        self.def.destination_clusters.is_some() || origin.is_none_or(|origin| origin == cluster)
    }
}

/// The id of the derived Work of a trigger that has one.
pub(super) fn aggregate(trigger: &str) -> WorkId {
    WorkId::new(trigger, &EventKey::All)
}

/// What a Work is rendered from.
pub(super) enum Events<'a> {
    /// Its own event.
    Own,
    /// Those of the keys that are rendered together.
    Of(Set<'a>),
    /// None: it is a key that is rendered together with others, or was to have what is rendered on its own now.
    Nothing,
}

/// The keys that a trigger renders together for one cluster, in order.
#[derive(Default)]
pub(super) struct Set<'a> {
    keys: Vec<(Arc<Work>, Option<Arc<Cluster>>)>,
    /// Whether there are more than may be, or they are too large.
    is_too_large: bool,
    /// Whether keys are not in it only because selectors say so.
    misses: bool,
    took: Duration,
    _permit: Option<SemaphorePermit<'a>>,
}

/// What a cluster should have of a Work, as far as events decide.
pub(super) struct Wanted {
    pub(super) intent: Intent,
    pub(super) belongs: bool,
}

impl Events<'_> {
    /// What is to become of a Work in a cluster by its trigger.
    pub(super) fn wanted(
        &self,
        work: &Work,
        trigger: &Trigger,
        cluster: &Cluster,
        clusters: &ClusterIndex,
    ) -> Wanted {
        match self {
            Self::Own => Wanted {
                intent: work.intent,
                belongs: trigger.targets_cluster(work.origin.as_ref(), cluster, clusters),
            },
            Self::Of(set) => {
                let belongs = !set.keys.is_empty();
                // Every key there was has been deleted by an event.
                let intent = if belongs || set.misses { Intent::Create } else { Intent::Delete };
                Wanted { intent, belongs }
            }
            Self::Nothing => Wanted { intent: Intent::Delete, belongs: false },
        }
    }

    /// When the last event came.
    pub(super) fn received(&self, work: &Work) -> Timestamp {
        match self {
            Self::Of(set) => set.keys.iter().map(|(key, _)| key.received).max().unwrap_or(work.received),
            Self::Own | Self::Nothing => work.received,
        }
    }

    /// Tells this set of events from others; `None` where the generation of the Work does.
    pub(super) fn fingerprint(&self) -> Option<String> {
        use std::fmt::Write;
        let Self::Of(set) = self else { return None };
        let mut hasher = Sha256::new();
        for (key, _) in &set.keys {
            hasher.update(key.id.as_str());
            hasher.update(key.generation.to_be_bytes());
        }
        let mut text = String::with_capacity(16);
        for byte in hasher.finalize().iter().take(8) {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
        }
        Some(text)
    }

    /// Renders for a cluster, and lets go of the events. Says how long the Work is to rest.
    pub(super) fn render(
        self,
        shared: &Shared,
        work: &Work,
        (trigger, part): (&Trigger, Part),
        cluster: &Cluster,
        look: Look<'_>,
    ) -> (Result<Rendered, Unrendered>, Duration) {
        let Self::Of(set) = self else {
            let origin = work.origin.as_ref().and_then(|origin| shared.clusters.origin(origin));
            return (trigger.render(part, work, cluster, origin.as_deref(), look), Duration::ZERO);
        };
        let began = Instant::now();
        let rendered = set.render(trigger, part, cluster, look);
        let rest = ((set.took + began.elapsed()) * REST).min(LONGEST_REST);
        (rendered, rest)
    }
}

impl Set<'_> {
    fn render(
        &self,
        trigger: &Trigger,
        part: Part,
        cluster: &Cluster,
        look: Look<'_>,
    ) -> Result<Rendered, Unrendered> {
        if self.is_too_large {
            let message = format!(
                "EventTrigger {} has oneForEvent: false, and more is live in the cluster than is rendered together \
                 ({MOST_KEYS} keys, {} MiB); split the trigger with filters, or set oneForEvent: true on a new one",
                trigger.def.name,
                MOST_BYTES >> 20,
            );
            return Err(Fault { reason: "TooManyEvents", message }.into());
        }
        let events: Vec<_> = self
            .keys
            .iter()
            .map(|(key, origin)| Arrival {
                event: &key.event,
                message: &key.message,
                origin: origin.as_deref(),
            })
            .collect();
        trigger.render_together(part, &events, cluster, look)
    }
}

/// How much an event holds, roughly.
fn size(event: &Event) -> usize {
    let data = match event.data() {
        None => 0,
        Some(Data::Text(text)) => text.len(),
        Some(Data::Binary(bytes)) => bytes.len(),
        Some(Data::Json(value)) => json_size(value),
    };
    data + event.source().len() + event.subject().map_or(0, str::len)
}

fn json_size(value: &serde_json::Value) -> usize {
    use serde_json::Value;
    const NODE: usize = 16;
    NODE + match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(json_size).sum(),
        Value::Object(entries) => entries.iter().map(|(key, value)| key.len() + json_size(value)).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    }
}

impl Shared {
    /// What a Work is rendered from in a cluster. Reads all keys where these are rendered together, a page at a time.
    pub(super) async fn events(&self, work: &Work, cluster: &Cluster) -> Result<Events<'_>, StoreError> {
        let definitions = self.definitions.load();
        let Found::Trigger(trigger) = definitions.find(&work.trigger) else { return Ok(Events::Own) };
        match (trigger.is_together(), &work.key) {
            (true, EventKey::All) => {
                let trigger = Arc::clone(trigger);
                drop(definitions);
                Ok(Events::Of(self.gather(&trigger, cluster).await?))
            }
            (false, EventKey::All) | (true, _) => Ok(Events::Nothing),
            (false, _) => Ok(Events::Own),
        }
    }

    async fn gather(&self, trigger: &Trigger, cluster: &Cluster) -> Result<Set<'_>, StoreError> {
        // Never closed.
        let permit = self.together.sets.acquire().await.ok();
        let began = Instant::now();
        let mut set = Set::default();
        let mut bytes = 0;
        let mut after: Option<WorkId> = None;
        loop {
            let page = self.store.works(Some(&trigger.def.name), after.as_ref(), PAGE).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.value.id.clone());
            for Stored { value: key, .. } in page {
                if key.intent == Intent::Delete || key.key == EventKey::All {
                    continue;
                }
                let origin = key.origin.as_ref();
                if trigger.targets_cluster(origin, cluster, &self.clusters) {
                    bytes += size(&key.event);
                    let origin = origin.and_then(|origin| self.clusters.origin(origin));
                    set.keys.push((key, origin));
                } else {
                    set.misses |= trigger.might_target(origin, &cluster.id);
                }
            }
            if set.keys.len() > MOST_KEYS || bytes > MOST_BYTES {
                set.is_too_large = true;
                // They are there; which of them does not matter any more.
                set.keys.truncate(1);
                break;
            }
        }
        set.keys.sort_by(|(a, _), (b, _)| a.key.cmp(&b.key));
        set.took = began.elapsed();
        // An empty one is not rendered.
        set._permit = permit.filter(|_| !set.keys.is_empty());
        Ok(set)
    }

    /// Has the derived Work of a trigger looked at wherever one of its keys belongs, now or before.
    pub(super) async fn look_at_aggregate(
        self: &Arc<Self>,
        trigger: &Trigger,
        work: &Work,
        old: Option<&Work>,
    ) -> Result<(), StoreError> {
        let id = trigger.aggregate();
        if work.intent == Intent::Create {
            self.set_standing(trigger, EventKey::All).await?;
        }
        let mut origins = BTreeSet::from([work.origin.as_ref()]);
        origins.extend(old.map(|old| old.origin.as_ref()));
        for origin in origins {
            for cluster in trigger.targets(origin, &self.clusters).iter() {
                self.enqueue_parts(trigger, &id, &cluster.id);
            }
        }
        if work.intent == Intent::Delete {
            for applied in self.applied_of(&id).await? {
                self.enqueue(&applied.value.work, &applied.value.cluster);
            }
            self.finish_removal(&work.id).await?;
        }
        // From a time when it was rendered on its own, under a trigger of the same name.
        for applied in self.applied_of(&work.id).await? {
            self.enqueue(&applied.value.work, &applied.value.cluster);
        }
        Ok(())
    }

    /// Whether a key has to wait until what the keys had together is gone: a trigger that is gone may come back before.
    pub(super) async fn waits_for_aggregate(&self, key: &Work) -> Result<bool, StoreError> {
        Ok(key.key != EventKey::All && self.store.work(&aggregate(&key.trigger)).await?.is_some())
    }

    /// Whether a Work is of a time when a trigger of its name rendered all keys together.
    pub(super) fn is_left_over(&self, work: &Work) -> bool {
        work.key == EventKey::All
            && matches!(self.definitions.load().find(&work.trigger), Found::Trigger(trigger) if !trigger.is_together())
    }

    /// The Work that has what a Work is rendered to.
    pub(super) fn rendered_as(&self, work: &Work) -> WorkId {
        match self.definitions.load().find(&work.trigger) {
            Found::Trigger(trigger) if trigger.is_together() => trigger.aggregate(),
            _ => work.id.clone(),
        }
    }

    /// The derived Works among whose keys may have been one of this name, that is not there any more.
    pub(super) fn aggregates_of(&self, id: &WorkId) -> Vec<WorkId> {
        let definitions = self.definitions.load();
        let is_of = |trigger: &&Arc<Trigger>| {
            trigger.is_together() && id.as_str().starts_with(&WorkId::prefix(&trigger.def.name))
        };
        definitions.triggers.values().filter(is_of).map(|trigger| trigger.aggregate()).collect()
    }
}

/// Where the derived Works of triggers belong, as a sweep finds out.
#[derive(Default)]
pub(super) struct Sets(BTreeMap<Arc<str>, OfTrigger>);

#[derive(Default)]
struct OfTrigger {
    targets: BTreeSet<ClusterId>,
    /// The origins of the live keys.
    origins: BTreeSet<Option<ClusterId>>,
    /// Where it has something.
    applied: Vec<Arc<AppliedWork>>,
}

impl Sets {
    /// Takes note of a Work of a trigger that renders its keys together, and of what was applied for it. Whether it is
    /// one.
    pub(super) fn take(
        &mut self,
        work: &Work,
        applied: &[Stored<Arc<AppliedWork>>],
        definitions: &Definitions,
        clusters: &ClusterIndex,
    ) -> bool {
        let Found::Trigger(trigger) = definitions.find(&work.trigger) else { return false };
        if !trigger.is_together() {
            return false;
        }
        let set = self.0.entry(Arc::clone(&work.trigger)).or_default();
        if work.key == EventKey::All {
            set.applied.extend(applied.iter().map(|stored| Arc::clone(&stored.value)));
        } else if work.intent == Intent::Create && set.origins.insert(work.origin.clone()) {
            let targets = trigger.targets(work.origin.as_ref(), clusters);
            set.targets.extend(targets.iter().map(|cluster| cluster.id.clone()));
        }
        true
    }

    /// What is to be done about the derived Works, by their triggers. Makes those that are needed and not there.
    pub(super) async fn places(
        self,
        shared: &Shared,
        definitions: &Definitions,
    ) -> Result<Vec<(Arc<Trigger>, Place)>, StoreError> {
        let mut places = Vec::new();
        for (name, set) in self.0 {
            let Some(trigger) = definitions.triggers.get(&name) else { continue };
            if !set.origins.is_empty() {
                shared.set_standing(trigger, EventKey::All).await?;
            }
            let places_of = set.applied.into_iter().filter_map(|applied| {
                let cluster = applied.for_cluster();
                let might = |origin: &Option<ClusterId>| trigger.might_target(origin.as_ref(), cluster);
                if set.targets.contains(cluster) {
                    (!shared.is_in_place(trigger, &applied)).then_some(Place::Displaced(applied))
                } else if set.origins.iter().any(might) && trigger.has(Part::of(applied.local.as_ref())) {
                    Some(Place::Elsewhere(applied))
                } else {
                    // Events have deleted all keys that were there.
                    Some(Place::Displaced(applied))
                }
            });
            places.extend(places_of.map(|place| (Arc::clone(trigger), place)));
            let belongs = |cluster: ClusterId| (Arc::clone(trigger), Place::Belongs(cluster));
            places.extend(set.targets.into_iter().map(belongs));
        }
        Ok(places)
    }
}

/// A place that has to do with a derived Work.
pub(super) enum Place {
    /// It belongs there.
    Belongs(ClusterId),
    /// It has something that is not to be there: all its keys were deleted by events, or it goes somewhere else.
    Displaced(Arc<AppliedWork>),
    /// It has something there, where it does not belong any more though no event said so.
    Elsewhere(Arc<AppliedWork>),
}
