//! Definitions: what the engine needs, made out of objects from a folder or from the Kubernetes API.
//!
//! All functions here are pure. Objects are first read one by one, then put together: references are looked up,
//! duplicates found. One bad object never hides the others: it becomes a [`Problem`], and the last good version of it
//! stays in force.

mod cluster;
mod contents;
mod dead_letter;
mod filter;
mod helm;
mod identified;
mod kubernetes;
mod nats;
mod object;
mod order;
mod parse;
mod payload;
mod policy;
mod profile;
mod references;
mod resources;
mod source;
mod strict;
pub mod sveltos;
mod transport;
mod trigger;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fleet_core::catalog::{CatalogSnapshot, Payload, TriggerDef};
use fleet_core::cluster::ClusterId;

pub use contents::text_of_secret;
pub(crate) use nats::{is_jetstream_name, server, subject};
pub use object::{Family, Fault, Kind, LineOf, Location, ObjectId, Problem, RawObject};
pub(crate) use parse::Parsed;
pub use transport::{
    ClientCertificate, ClusterNats, ClusterSecret, DeadLetterStream, JetStream, NatsAuth, NatsTransport,
    Transport,
};

use crate::connection::{ClusterDefinition, Connection};
use identified::{Identified, identify, open_circles};
use object::Place;
use parse::{Body, Unusable};
use references::References;

/// How many triggers of a circle are named at most.
const MOST_SHOWN: usize = 20;

/// Everything that was defined at one instant.
#[derive(Clone, Debug, Default)]
pub struct Definitions {
    /// EventSources, triggers and profiles, as the engine wants them. While it is not `complete`, nothing that is missing in
    /// here, clusters included, is gone for good.
    pub catalog: CatalogSnapshot,
    /// How the events of each EventSource arrive. An EventSource without a transport has a problem.
    pub transports: BTreeMap<Arc<str>, Transport>,
    /// The clusters, in the order of their names.
    pub clusters: Vec<ClusterDefinition>,
    /// Clusters that are being taken out: not among the others any more, but still to be reached, so that what is there
    /// can be withdrawn. In the order of their names.
    pub leaving: Vec<ClusterDefinition>,
    /// What somebody has to change, in the order of files and lines.
    pub problems: Vec<Problem>,
    /// Which ConfigMaps and Secrets are referred to, there or not.
    pub references: BTreeSet<ObjectId>,
    /// The objects that all this was made of.
    objects: BTreeMap<ObjectId, Arc<Parsed>>,
    /// Those of clusters that are being taken out.
    leaving_objects: BTreeMap<ObjectId, Arc<Parsed>>,
    /// What the management cluster is called where no Cluster stands for it.
    management: Option<ClusterId>,
    /// Clusters that are being taken out and never were one: nothing of ours is there.
    pub(crate) refused: Vec<ClusterId>,
}

impl Definitions {
    /// Makes definitions out of objects.
    ///
    /// `unread` tells of files and folders that could not be read at all ([`Problem::unreadable`]): they are passed on
    /// among the problems, and as long as there is any, nothing counts as gone.
    ///
    /// What is wrong now but was right in `previous` stays as it was there: an object that cannot be used, all objects
    /// of a file or folder that cannot be read, and a trigger in which something immutable was edited. (The Kubernetes API
    /// refuses such an edit by itself; what looks like one there is another trigger of the same name.)
    pub fn read(
        objects: impl IntoIterator<Item = RawObject>,
        unread: Vec<Problem>,
        previous: Option<&Self>,
    ) -> Self {
        let parsed = objects.into_iter().map(|raw| Arc::new(Parsed::new(raw)));
        Self::assemble(parsed, unread, &BTreeMap::new(), previous, None)
    }

    /// Puts together what was read. `closed` names kinds and namespaces in which nothing could be looked up, and why;
    /// `management` is what the management cluster is called where no Cluster stands for it.
    pub(crate) fn assemble(
        parsed: impl Iterator<Item = Arc<Parsed>>,
        unread: Vec<Problem>,
        closed: &BTreeMap<(Kind, Arc<str>), String>,
        previous: Option<&Self>,
        management: Option<&ClusterId>,
    ) -> Self {
        let mut found = identify(parsed, unread, previous);
        let circles = open_circles(&mut found, previous);
        let Identified { objects, unusable, stand_ins, leaving, unread, problems } = found;
        let mut built = Self { problems, ..Self::default() };
        built.catalog.resources = Arc::new(resources::known(&objects, &unusable, unread));
        let references =
            References { objects: &objects, unusable: &unusable, closed, unread, circles: &circles };
        for (id, object) in &objects {
            if let Ok(body) = &object.body {
                built.add(id, &object.place, body, &references, previous);
            }
        }
        for object in leaving {
            built.let_go(&object, &references);
            if let Some(id @ ObjectId { kind: Kind::Cluster, .. }) = &object.place.id {
                built.leaving_objects.insert(id.clone(), Arc::clone(&object));
            }
        }
        built.leaving.sort_by(|one, other| one.id.cmp(&other.id));
        built.clusters.extend(stand_ins.values().cloned());
        built.clusters.sort_by(|one, other| one.id.cmp(&other.id));
        if let Some(management) = management {
            built.keep_name_of_management(management, &objects);
        }
        built.tell_of_shared_namespaces(&objects);
        built.tell_of_unreached_destinations(&objects);
        built.problems.sort_by(|one, other| (&one.location, one.line).cmp(&(&other.location, other.line)));
        // A ConfigMap or Secret that cannot be used is told, and reckoned with, where it is referred to.
        let told =
            |id: &ObjectId| matches!(id.kind, Kind::ConfigMap | Kind::Secret) || stand_ins.contains_key(id);
        let withheld = !unusable.keys().all(told);
        built.catalog.complete = !unread && !withheld;
        built.objects = objects;
        built
    }

    fn add(
        &mut self,
        id: &ObjectId,
        place: &Place,
        body: &Body,
        references: &References<'_>,
        previous: Option<&Self>,
    ) {
        let problems = &mut self.problems;
        match body {
            Body::Source(draft) => {
                self.references.extend(draft.references());
                self.catalog.sources.insert(id.name.clone(), Arc::new(draft.definition(&id.name)));
                // A Secret that went away, or went bad, does not cut a connection that works.
                let before = || previous.and_then(|previous| previous.transports.get(&id.name).cloned());
                if let Some(transport) = draft.transport(place, references, problems).or_else(before) {
                    self.transports.insert(id.name.clone(), transport);
                }
            }
            Body::Trigger(draft) => {
                self.references.extend(draft.references());
                if let Err(reason) = references.source(draft.source()) {
                    problems.push(place.problem("/spec/eventSourceName", Fault::MissingReference, reason));
                }
                let trigger = draft.resolve(&id.name, place, references, problems);
                self.add_rule(id, place, trigger, references);
            }
            Body::Profile(draft) => {
                self.references.extend(draft.references());
                let profile = draft.resolve(&id.name, place, references, problems);
                self.add_rule(id, place, profile, references);
            }
            Body::Cluster(draft) => {
                self.references.extend(draft.references());
                self.clusters.push(draft.resolve(place, references, problems));
            }
            Body::Contents(_) => {}
        }
    }

    fn add_rule(&mut self, id: &ObjectId, place: &Place, mut rule: TriggerDef, references: &References<'_>) {
        resources::tell(place, &rule.resources, &self.catalog.resources, &mut self.problems);
        for (index, name) in rule.policy.depends_on.iter().enumerate() {
            if let Err(reason) = references.dependency(name) {
                let pointer = format!("/spec/dependsOn/{index}");
                self.problems.push(place.problem(&pointer, Fault::MissingReference, reason));
            }
        }
        if let Some(reason) = references.circles.get(&id.rule()) {
            // There still is Work, which stalls and says why.
            rule.payload = vec![Payload::Missing { reason: reason.clone() }];
        }
        self.catalog.triggers.insert(id.rule(), Arc::new(rule));
    }

    /// Takes in what is being deleted. What is wrong with it is nobody's problem any more.
    fn let_go(&mut self, object: &Parsed, references: &References<'_>) {
        match (&object.place.id, &object.body) {
            (_, Ok(Body::Cluster(draft))) => {
                self.references.extend(draft.references());
                self.leaving.push(draft.resolve(&object.place, references, &mut Vec::new()));
            }
            (_, Err(Unusable { stand_in: Some(cluster), .. })) => self.leaving.push((**cluster).clone()),
            (Some(id @ ObjectId { kind: Kind::EventTrigger | Kind::ClusterProfile, .. }), _) => {
                self.catalog.leaving.insert(id.rule());
            }
            _ => {}
        }
    }

    /// Which ConfigMaps and Secrets triggers and profiles render from, there or not: each with the name of one of them among
    /// the catalog's triggers, and as often as they name it.
    pub fn rendered_from(&self) -> Vec<(ObjectId, Arc<str>)> {
        let mut all = Vec::new();
        for (id, object) in &self.objects {
            let by = |reference| (reference, id.rule());
            match &object.body {
                Ok(Body::Trigger(draft)) => all.extend(draft.references().map(by)),
                Ok(Body::Profile(draft)) => all.extend(draft.references().map(by)),
                _ => {}
            }
        }
        all
    }

    /// Takes no Cluster for one that has the management cluster's name, unless it is that.
    fn keep_name_of_management(&mut self, management: &ClusterId, objects: &BTreeMap<ObjectId, Arc<Parsed>>) {
        let takes_it =
            |it: &ClusterDefinition| it.id == *management && !matches!(it.connection, Connection::InCluster);
        if self.clusters.iter().any(takes_it) {
            let id = ObjectId::namespaced(Kind::Cluster, management.namespace(), management.name());
            let reason = format!(
                "{} in the operator's namespace is what the management cluster is called, into which what is local \
                 (deploymentType: Local) is put, so this Cluster counts as none; give it another name or namespace, or, if \
                 it is the cluster that the operator runs in, say spec.inCluster",
                management.name()
            );
            let place = objects.get(&id).map(|object| &object.place);
            self.problems.extend(place.map(|it| it.problem("/metadata/name", Fault::Invalid, reason)));
        }
        self.clusters.retain(|it| !takes_it(it));
        self.refused = self.leaving.iter().filter(|it| takes_it(it)).map(|it| it.id.clone()).collect();
        self.leaving.retain(|it| !takes_it(it));
        self.management = Some(management.clone());
    }

    /// An agent may write what is known of its cluster in its namespace, so nobody else's may be there.
    fn tell_of_shared_namespaces(&mut self, objects: &BTreeMap<ObjectId, Arc<Parsed>>) {
        for cluster in self.clusters.iter().filter(|it| matches!(it.connection, Connection::Agent)) {
            let Some(other) = self.shares_namespace(&cluster.id) else { continue };
            let id = ObjectId::namespaced(Kind::Cluster, cluster.id.namespace(), cluster.id.name());
            let Some(object) = objects.get(&id) else { continue };
            let whose = match self.management.as_ref() == Some(other) {
                true => "this one is the operator's, which keeps there what no agent may write".to_owned(),
                false => format!("Cluster {other} is in this one too"),
            };
            let reason = format!(
                "a Cluster with an agent needs a namespace of its own, and {whose}; until one of them is elsewhere, its \
                 agent goes on with the definitions that it has"
            );
            self.problems.push(object.place.problem("/spec/agent", Fault::Invalid, reason));
        }
    }

    /// Into a cluster with an agent only its agent puts anything: what events of its own cluster ask for.
    fn tell_of_unreached_destinations(&mut self, objects: &BTreeMap<ObjectId, Arc<Parsed>>) {
        let by_agent = |it: &&ClusterDefinition| matches!(it.connection, Connection::Agent);
        let mut problems = Vec::new();
        for (name, trigger) in &self.catalog.triggers {
            let (Some(destination), Some(source)) = (&trigger.destination_clusters, &trigger.source) else {
                continue;
            };
            let is_source = |it: &ClusterDefinition| trigger.source_clusters.matches(&it.labels);
            // Who reads what no cluster is the origin of takes it for its own.
            let has_origin = self.catalog.sources.get(source).is_some_and(|it| it.origin.is_some())
                || matches!(self.transports.get(source), Some(Transport::ClusterNats(_)));
            let is_unreached = |it: &&ClusterDefinition| {
                destination.matches(&it.labels)
                    && (self.clusters.iter().any(|other| other.id != it.id && is_source(other))
                        || (!has_origin && !is_source(it)))
            };
            let unreached = self.clusters.iter().filter(by_agent).filter(is_unreached);
            let mut unreached: Vec<String> = unreached.map(|it| it.id.to_string()).collect();
            let Some(object) = objects.get(&ObjectId::of_rule(name)).filter(|_| !unreached.is_empty()) else {
                continue;
            };
            if unreached.len() > MOST_SHOWN {
                unreached.truncate(MOST_SHOWN);
                unreached.push("…".to_owned());
            }
            let reason = format!(
                "selects clusters that agents drive: {}; there only events of that very cluster put something, those of other \
                 clusters and of the hub put nothing there; have the selector leave them out (matchExpressions), or register them \
                 without an agent. In all other clusters the trigger does its work",
                unreached.join(", ")
            );
            problems.push(object.place.problem(
                "/spec/destinationClusterSelector",
                Fault::NotSupported,
                reason,
            ));
        }
        self.problems.extend(problems);
    }

    /// Another cluster in the same namespace; the management cluster is in the operator's.
    pub(crate) fn shares_namespace(&self, id: &ClusterId) -> Option<&ClusterId> {
        let mut ids = self.management.iter().chain(self.clusters.iter().map(|it| &it.id));
        ids.find(|other| *other != id && other.namespace() == id.namespace())
    }

    /// An object as the Kubernetes API had it, in its last good version. It may be a Secret.
    pub(crate) fn original(&self, id: &ObjectId) -> Option<&str> {
        let object = self.objects.get(id).or_else(|| self.leaving_objects.get(id))?;
        object.original.as_ref().map(|original| &*original.0)
    }

    /// What an object refers to: ConfigMaps and Secrets, there or not.
    pub(crate) fn references_of(&self, id: &ObjectId) -> Vec<ObjectId> {
        let Some(Ok(body)) = self.objects.get(id).map(|object| object.body.as_ref()) else {
            return Vec::new();
        };
        match body {
            Body::Source(draft) => draft.references().into_iter().collect(),
            Body::Trigger(draft) => draft.references().collect(),
            Body::Profile(draft) => draft.references().collect(),
            Body::Cluster(_) | Body::Contents(_) => Vec::new(),
        }
    }

    /// Whether agents need nothing new. What they are given are the objects themselves.
    fn same_for_agents(&self, other: &Self) -> bool {
        let agents = |it: &ClusterDefinition| matches!(it.connection, Connection::Agent);
        if !self.clusters.iter().chain(&self.leaving).any(agents) {
            return true;
        }
        let originals = |it: &Self| {
            let is_used = |id: &ObjectId| {
                !matches!(id.kind, Kind::ConfigMap | Kind::Secret) || it.references.contains(id)
            };
            let used = it.objects.iter().chain(&it.leaving_objects).filter(|(id, _)| is_used(id));
            used.map(|(_, object)| Arc::as_ptr(object)).collect::<Vec<_>>()
        };
        originals(self) == originals(other)
    }

    /// Whether both say the same, problems included.
    pub fn same(&self, other: &Self) -> bool {
        let same_clusters = |one: &[ClusterDefinition], other: &[ClusterDefinition]| {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| cluster::same(one, other))
        };
        self.catalog.sources == other.catalog.sources
            && self.catalog.triggers == other.catalog.triggers
            && self.catalog.complete == other.catalog.complete
            && self.transports == other.transports
            && self.problems == other.problems
            && self.catalog.leaving == other.catalog.leaving
            && self.catalog.withheld == other.catalog.withheld
            && self.catalog.resources == other.catalog.resources
            && same_clusters(&self.clusters, &other.clusters)
            && same_clusters(&self.leaving, &other.leaving)
            && self.same_for_agents(other)
    }
}
