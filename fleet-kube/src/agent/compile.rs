//! What concerns one cluster, out of all definitions. Pure.

use std::collections::BTreeSet;
use std::sync::Arc;

use fleet_core::catalog::{OriginRule, TriggerDef};
use serde_json::value::RawValue;

use super::bundle::Bundle;
use crate::connection::{ClusterDefinition, Connection};
use crate::definitions::{Definitions, Kind, ObjectId, Transport};

/// What an agent gets.
pub(super) struct Compiled {
    pub(super) bundle: Bundle,
    /// Triggers that would concern the cluster, but ask for what an agent does not do.
    pub(super) left_out: Vec<Arc<str>>,
}

/// Puts together what concerns a cluster: itself, the triggers and profiles that select it, their sources, and what all
/// these refer to.
pub(super) fn compile(definitions: &Definitions, cluster: &ClusterDefinition) -> Compiled {
    let mut wanted = BTreeSet::new();
    let mut left_out = Vec::new();
    wanted.insert(ObjectId::namespaced(Kind::Cluster, cluster.id.namespace(), cluster.id.name()));
    for (name, trigger) in &definitions.catalog.triggers {
        if !concerns(definitions, trigger, cluster) {
            continue;
        }
        if goes_elsewhere(definitions, trigger, cluster) {
            left_out.push(Arc::clone(name));
            continue;
        }
        wanted.insert(ObjectId::of_rule(name));
        if let Some(source) = &trigger.source {
            wanted.insert(ObjectId::cluster_scoped(Kind::EventSource, source));
        }
    }
    let referred: Vec<ObjectId> = wanted.iter().flat_map(|id| definitions.references_of(id)).collect();
    wanted.extend(referred);
    let originals = wanted.iter().filter_map(|id| definitions.original(id));
    let objects = originals.filter_map(|text| RawValue::from_string(text.to_owned()).ok()).collect();
    Compiled { bundle: Bundle::new(cluster.id.clone(), definitions.catalog.complete, objects), left_out }
}

/// Whether events of a trigger may come from a cluster, or a profile is for it.
fn concerns(definitions: &Definitions, trigger: &TriggerDef, cluster: &ClusterDefinition) -> bool {
    let selects =
        trigger.source_clusters.matches(&cluster.labels) || trigger.cluster_refs.contains(&cluster.id);
    let source = trigger.source.as_ref().and_then(|source| definitions.catalog.sources.get(source));
    let from_another = matches!(
        source.and_then(|source| source.origin.as_ref()),
        Some(OriginRule::Fixed(origin)) if *origin != cluster.id
    );
    selects && !from_another
}

/// Whether a trigger puts anything into other clusters.
fn goes_elsewhere(definitions: &Definitions, trigger: &TriggerDef, cluster: &ClusterDefinition) -> bool {
    let Some(destination) = &trigger.destination_clusters else { return false };
    !destination.matches(&cluster.labels)
        || definitions.clusters.iter().any(|it| it.id != cluster.id && destination.matches(&it.labels))
}

/// Whether an EventSource is read by agents and by nobody else: because its events come from a cluster with an agent, or
/// because the triggers of it select such clusters only. The NATS in each cluster is not meant: who reads that follows
/// from the cluster.
pub fn is_read_by_agents_alone(definitions: &Definitions, source: &str) -> bool {
    if matches!(definitions.transports.get(source), Some(Transport::ClusterNats(_))) {
        return false;
    }
    let by_agent = |it: &&ClusterDefinition| matches!(it.connection, Connection::Agent);
    let mut agents = definitions.clusters.iter().filter(by_agent).peekable();
    if agents.peek().is_none() {
        return false;
    }
    let origin = definitions.catalog.sources.get(source).and_then(|source| source.origin.as_ref());
    if let Some(OriginRule::Fixed(origin)) = origin {
        return agents.any(|it| it.id == *origin);
    }
    let triggers = definitions.catalog.triggers.values();
    let triggers: Vec<_> = triggers.filter(|it| it.source.as_deref() == Some(source)).collect();
    let selected = |it: &ClusterDefinition| {
        triggers.iter().any(|trigger| {
            let destination = trigger.destination_clusters.as_ref();
            trigger.source_clusters.matches(&it.labels)
                || destination.is_some_and(|destination| destination.matches(&it.labels))
        })
    };
    let from_here = definitions.clusters.iter().filter(|it| !by_agent(it)).any(selected);
    agents.any(selected) && !from_here
}
