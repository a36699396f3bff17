//! Telling what an event would mean, and what clusters always get, without an engine that does it: no store, no source and
//! no Applier are needed.
//!
//! It is told with the very code that judges deliveries and renders Works.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::catalog::{CatalogSnapshot, Payload, TriggerDef};
use crate::cluster::{Cluster, ClusterId};
use crate::engine::clusters::ClusterIndex;
use crate::engine::definitions::Definitions;
use crate::engine::judge::{Intention, Refusal, Verdict, judge};
use crate::engine::local::{Part, no_management};
use crate::engine::references::Unrendered;
use crate::engine::standing::standing;
use crate::engine::triggers::{Fault, Rendered, Trigger};
use crate::filter::Facts;
use crate::manifest::Manifest;
use crate::policy::JsonPointer;
use crate::position::Positions;
use crate::render::{Arrival, Renderer};
use crate::resource::{ResourceId, Resources};
use crate::source::Delivery;
use crate::work::{EventKey, Intent, Work};

/// The definitions and clusters of one moment, to tell what events mean there.
///
/// ```
/// # #[cfg(feature = "minijinja")] {
/// use std::sync::Arc;
///
/// use fleet_core::catalog::{CatalogSnapshot, Payload, SourceDef, TriggerDef};
/// use fleet_core::cluster::{Cluster, ClusterId, Labels};
/// use fleet_core::engine::{Fate, Foresight};
/// use fleet_core::event::Event;
/// use fleet_core::minijinja::MinijinjaRenderer;
/// use fleet_core::render::TemplateSource;
/// use fleet_core::selector::LabelSelector;
/// use fleet_core::source::{Delivery, Settle};
///
/// let text = "{apiVersion: v1, kind: Namespace, metadata: {name: {{ event.subject }}}}";
/// let template = TemplateSource::manifests("namespace", text);
/// let trigger = TriggerDef {
///     payload: vec![Payload::Template(template)],
///     ..TriggerDef::new("manage-namespace", "users", LabelSelector::everything())
/// };
/// let snapshot = CatalogSnapshot {
///     sources: [("users".into(), Arc::new(SourceDef::new("users")))].into(),
///     triggers: [("manage-namespace".into(), Arc::new(trigger))].into(),
///     ..CatalogSnapshot::default()
/// };
/// let cluster = Cluster::new(ClusterId::new("civo", "cluster1").unwrap(), Labels::new());
/// let foresight = Foresight::new(&snapshot, [Arc::new(cluster)], &MinijinjaRenderer);
///
/// let raw = br#"{"specversion": "1.0", "id": "1", "source": "auth", "type": "login", "subject": "mgianluc"}"#;
/// let delivery = Delivery {
///     event: Event::from_json(raw),
///     origin: None,
///     message: Arc::default(),
///     raw: raw.to_vec().into(),
///     position: None,
///     published: None,
///     settle: Settle::nothing(),
/// };
/// let told = foresight.tell("users", &delivery).unwrap();
/// let Fate::Taken(meaning) = &told[0].fate else { panic!("the trigger wants it") };
/// let pieces = meaning.places[0].pieces.as_ref().unwrap();
/// assert_eq!(pieces[0].manifest.id().to_string(), "Namespace mgianluc");
/// # }
/// ```
pub struct Foresight {
    definitions: Definitions,
    clusters: ClusterIndex,
}

impl std::fmt::Debug for Foresight {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Foresight").field("clusters", &self.clusters.len()).finish_non_exhaustive()
    }
}

/// What an event would mean to one trigger, or what a ClusterProfile means.
#[derive(Clone, Debug)]
pub struct Foretold {
    /// The trigger, or the ClusterProfile.
    pub trigger: Arc<TriggerDef>,
    /// What it would make of the event. A ClusterProfile has taken one that nobody sent.
    pub fate: Fate,
}

/// What a trigger makes of an event.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Fate {
    /// It does not want it.
    Unwanted {
        /// Why not.
        why: String,
    },
    /// It wants it, and it becomes a dead letter.
    Refused {
        /// One CamelCase word.
        reason: &'static str,
        /// What is wrong. No values of the event.
        detail: String,
    },
    /// It becomes Work.
    Taken(Box<Meaning>),
}

/// What a Work means.
#[derive(Clone, Debug)]
pub struct Meaning {
    /// The Work, as if nothing had been stored for its key before.
    pub work: Arc<Work>,
    /// Where it belongs, in the order of clusters, and what is rendered for it there; of a trigger that has one Work for
    /// all its keys, what would be rendered if there were no other key. Empty for a Work that says [`Intent::Delete`]: a
    /// removal goes wherever the key has something, and never renders.
    pub places: Vec<Place>,
    /// Why it belongs nowhere, if so.
    pub nowhere: Option<String>,
}

/// What a Work is to have in one cluster.
#[derive(Clone, Debug)]
pub struct Place {
    /// The cluster that it is rendered for, and put into unless it is local.
    pub cluster: Arc<Cluster>,
    /// The management cluster, if it is local and goes there.
    pub local: Option<Arc<Cluster>>,
    /// What is rendered there, or why nothing can be.
    pub pieces: Result<Vec<Piece>, CannotRender>,
    /// The objects of the management cluster that it is rendered from, known or not.
    pub resources: BTreeSet<ResourceId>,
}

/// One object that is rendered.
#[derive(Clone, Debug, PartialEq)]
pub struct Piece {
    /// The object.
    pub manifest: Manifest,
    /// The name of its template.
    pub template: Arc<str>,
    /// Fields of it that are shown to nobody.
    pub hidden: Vec<JsonPointer>,
}

impl Piece {
    /// Has `***` stand for the values in its hidden fields; in the object as it is, or as it is written.
    pub fn hide(&self, object: &mut Map<String, Value>) {
        for field in &self.hidden {
            if let Some(mut value) = field.find(object).cloned() {
                mask(&mut value);
                field.put(object, value);
            }
        }
    }
}

fn mask(value: &mut Value) {
    match value {
        Value::Object(fields) => fields.values_mut().for_each(mask),
        Value::Array(items) => items.iter_mut().for_each(mask),
        leaf => *leaf = "***".into(),
    }
}

/// Why a Work would be stalled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {message}")]
pub struct CannotRender {
    /// One CamelCase word.
    pub reason: &'static str,
    /// What is wrong, and what to do. No values of the event.
    pub message: String,
}

impl Foresight {
    /// Compiles the definitions.
    pub fn new(
        snapshot: &CatalogSnapshot,
        clusters: impl IntoIterator<Item = Arc<Cluster>>,
        renderer: &dyn Renderer,
    ) -> Self {
        let definitions = Definitions::default().follow(snapshot, renderer).definitions;
        Self { definitions, clusters: ClusterIndex::new(clusters) }
    }

    /// What a delivery of a source would mean to each trigger that there is, in the order of their names. `None` if there
    /// is no such EventSource.
    pub fn tell(&self, source: &str, delivery: &Delivery) -> Option<Vec<Foretold>> {
        let source = self.definitions.sources.get(source)?;
        let triggers = self.definitions.triggers.values().filter(|trigger| trigger.def.source.is_some());
        let told = triggers.map(|trigger| {
            let verdict = judge(source, delivery, Some(&trigger.def.name), &self.definitions, &self.clusters);
            let fate = match verdict {
                Verdict::Unwanted => Fate::Unwanted { why: unwanted(source, trigger, delivery) },
                Verdict::Refused(refusal) => refused(refusal),
                Verdict::Wanted { origin, intentions } => match intentions.into_iter().next() {
                    None => Fate::Unwanted { why: unwanted(source, trigger, delivery) },
                    Some(Err(refusal)) => refused(refusal),
                    Some(Ok(intention)) => self.taken(&source.name, delivery, origin, intention),
                },
            };
            Foretold { trigger: Arc::clone(&trigger.def), fate }
        });
        Some(told.collect())
    }

    /// What each ClusterProfile puts where, in the order of their names.
    pub fn always(&self) -> Vec<Foretold> {
        let profiles = self.definitions.triggers.values().filter(|trigger| trigger.def.source.is_none());
        let told = profiles.map(|profile| {
            let fate = match standing(&profile.def, EventKey::Always, Timestamp::UNIX_EPOCH) {
                Ok(work) => {
                    let places = self.places_of(profile, &work);
                    let nowhere = self.nowhere_of(profile, None);
                    Fate::Taken(Box::new(Meaning { work: Arc::new(work), places, nowhere }))
                }
                Err(error) => Fate::Unwanted { why: error.to_string() },
            };
            Foretold { trigger: Arc::clone(&profile.def), fate }
        });
        told.collect()
    }

    /// What a Work is to have in a cluster, or would have if it belonged there, whatever its last event asks for: of its
    /// own, and in the management cluster what is local for any other. Nothing if the trigger or the cluster is not there,
    /// or if the Work stands for all keys of a trigger: what those are is not known here.
    pub fn places_in(&self, work: &Work, cluster: &ClusterId) -> Vec<Place> {
        let found = self.definitions.triggers.get(&work.trigger).zip(self.clusters.get(cluster));
        let Some((trigger, cluster)) = found.filter(|_| work.key != EventKey::All) else { return Vec::new() };
        let origin = work.origin.as_ref().and_then(|origin| self.clusters.origin(origin));
        let mut places = Vec::new();
        if cluster.is_member() && trigger.has(Part::Remote) {
            places.push(self.place_of(trigger, Part::Remote, work, &cluster, origin.as_deref()));
        }
        let management =
            self.clusters.management().filter(|it| it.id == cluster.id && trigger.has(Part::Local));
        if management.is_some() {
            let targets = trigger.targets(work.origin.as_ref(), &self.clusters);
            let local = |target| self.place_of(trigger, Part::Local, work, target, origin.as_deref());
            places.extend(targets.iter().map(local));
        }
        places
    }

    /// Whether a Work belongs into a cluster now, as far as its trigger says.
    pub fn belongs(&self, work: &Work, cluster: &ClusterId) -> bool {
        let trigger = self.definitions.triggers.get(&work.trigger);
        let found = trigger.zip(self.clusters.get(cluster));
        found.is_some_and(|(trigger, cluster)| {
            trigger.targets_cluster(work.origin.as_ref(), &cluster, &self.clusters)
        })
    }

    fn taken(
        &self,
        source: &Arc<str>,
        delivery: &Delivery,
        origin: Option<ClusterId>,
        intention: Intention,
    ) -> Fate {
        let Intention { trigger, id, key, intent } = intention;
        // Nothing is wanted that is no event.
        let Ok(event) = &delivery.event else {
            return Fate::Unwanted { why: "it is no event".to_owned() };
        };
        let work = Arc::new(Work {
            id,
            trigger: Arc::clone(&trigger.def.name),
            source: Arc::clone(source),
            key,
            origin,
            generation: 1,
            intent,
            event: Arc::new(event.clone()),
            message: Arc::clone(&delivery.message),
            positions: Positions::default(),
            received: delivery.published.unwrap_or(Timestamp::UNIX_EPOCH),
            published: delivery.published,
            recent: Vec::new(),
        });
        let (places, nowhere) = match intent {
            Intent::Delete => (Vec::new(), None),
            Intent::Create => {
                (self.places_of(&trigger, &work), self.nowhere_of(&trigger, work.origin.as_ref()))
            }
        };
        Fate::Taken(Box::new(Meaning { work, places, nowhere }))
    }

    /// What is rendered for a cluster, into it or into the management cluster, if there is one.
    fn place_of(
        &self,
        trigger: &Trigger,
        part: Part,
        work: &Work,
        cluster: &Arc<Cluster>,
        origin: Option<&Cluster>,
    ) -> Place {
        let rendered = place(trigger, part, work, cluster, origin, &self.definitions.resources);
        match (part, self.clusters.management()) {
            (Part::Remote, _) => rendered,
            (Part::Local, Some(management)) => Place { local: Some(management), ..rendered },
            (Part::Local, None) => Place { pieces: Err(no_management().into()), ..rendered },
        }
    }

    fn places_of(&self, trigger: &Trigger, work: &Work) -> Vec<Place> {
        let origin = work.origin.as_ref().and_then(|origin| self.clusters.origin(origin));
        let targets = trigger.targets(work.origin.as_ref(), &self.clusters);
        let mut places = Vec::new();
        for cluster in targets.iter() {
            let parts = [Part::Remote, Part::Local].into_iter().filter(|part| trigger.has(*part));
            places.extend(parts.map(|part| self.place_of(trigger, part, work, cluster, origin.as_deref())));
        }
        places.sort_by(|one, other| one.cluster.id.cmp(&other.cluster.id));
        places
    }

    fn nowhere_of(&self, trigger: &Trigger, origin: Option<&ClusterId>) -> Option<String> {
        if trigger.targets(origin, &self.clusters).iter().next().is_some() {
            return None;
        }
        let TriggerDef { source, source_clusters, cluster_refs, destination_clusters, .. } = &*trigger.def;
        let none_matches = |field: &str, selector: &crate::selector::LabelSelector| {
            let selector = selector.to_string();
            let which = if selector.is_empty() { "there is no cluster".to_owned() } else { selector };
            format!("no cluster matches {field}: {which}")
        };
        let destination = destination_clusters
            .as_ref()
            .map(|selector| none_matches("destinationClusterSelector", selector));
        if source.is_none() {
            return Some(match cluster_refs.is_empty() {
                true => none_matches("clusterSelector", source_clusters),
                false => {
                    "none of the clusters that clusterRefs name is there, and none matches clusterSelector"
                        .to_owned()
                }
            });
        }
        Some(match (origin, destination) {
            (None, destination) => {
                destination.unwrap_or_else(|| none_matches("sourceClusterSelector", source_clusters))
            }
            (Some(origin), destination) => match (self.clusters.origin(origin), destination) {
                (None, _) => format!("the cluster it comes from, {origin}, is not known"),
                (Some(cluster), Some(destination)) if cluster.is_selected_by(source_clusters) => destination,
                _ => format!(
                    "the cluster it comes from, {origin}, does not match sourceClusterSelector: {source_clusters}"
                ),
            },
        })
    }
}

fn place(
    trigger: &Trigger,
    part: Part,
    work: &Work,
    cluster: &Arc<Cluster>,
    origin: Option<&Cluster>,
    known: &Arc<Resources>,
) -> Place {
    let mut resources = BTreeSet::new();
    let mut look = |ids: &BTreeSet<ResourceId>| {
        resources.clone_from(ids);
        Arc::clone(known)
    };
    let rendered = if trigger.is_together() {
        let alone = Arrival { event: &work.event, message: &work.message, origin };
        trigger.render_together(part, &[alone], cluster, &mut look)
    } else {
        trigger.render(part, work, cluster, origin, &mut look)
    };
    let pieces = match rendered {
        Ok(Rendered { manifests, templates }) => {
            let pieces = manifests.iter().cloned().zip(templates);
            let pieces = pieces.map(|(manifest, template)| {
                let hidden = hidden(&trigger.def, &template);
                Piece { manifest, template, hidden }
            });
            Ok(pieces.collect())
        }
        Err(Unrendered::Stalled(fault)) => Err(fault.into()),
        Err(Unrendered::Unread) => {
            let names: Vec<_> = resources.iter().map(ToString::to_string).collect();
            let message = format!("was not looked up in the management cluster: {}", names.join(", "));
            Err(CannotRender { reason: "ReferenceUnread", message })
        }
    };
    Place { cluster: Arc::clone(cluster), local: None, pieces, resources }
}

fn hidden(def: &TriggerDef, piece: &str) -> Vec<JsonPointer> {
    let composed = def.payload.iter().chain(&def.local).find_map(|payload| match payload {
        Payload::Composed(composed) if *composed.name == *piece => Some(composed.hidden.clone()),
        _ => None,
    });
    composed.unwrap_or_default()
}

impl From<Fault> for CannotRender {
    fn from(Fault { reason, message }: Fault) -> Self {
        Self { reason, message }
    }
}

fn unwanted(source: &crate::catalog::SourceDef, trigger: &Trigger, delivery: &Delivery) -> String {
    if let Some(other) = trigger.def.source.as_ref().filter(|other| **other != source.name) {
        return format!("it listens to EventSource {other}");
    }
    match &delivery.event {
        Ok(event) if source.filter.matches(&Facts::new(event, &delivery.message)) == Ok(false) => {
            format!("the filter of EventSource {} keeps the event out", source.name)
        }
        _ => "its filter keeps the event out".to_owned(),
    }
}

fn refused(Refusal { reason, detail, .. }: Refusal) -> Fate {
    Fate::Refused { reason, detail }
}
