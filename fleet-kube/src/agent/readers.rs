//! Who reads an EventSource where agents drive some of the clusters: they, the hub, or both. Pure.

use std::collections::BTreeSet;
use std::sync::Arc;

use fleet_core::catalog::OriginRule;
use fleet_core::cluster::ClusterId;

use super::compile::concerns;
use crate::connection::{ClusterDefinition, Connection};
use crate::definitions::{Definitions, Transport};

/// The EventSources that the agent of a cluster hands on to the hub: where triggers put something into other clusters, and
/// the hub does not read it itself.
pub(super) fn relayed_sources(definitions: &Definitions, cluster: &ClusterDefinition) -> BTreeSet<Arc<str>> {
    let triggers = definitions.catalog.triggers.values();
    let leaving = triggers
        .filter(|it| it.destination_clusters.is_some() && concerns(definitions, it, cluster))
        .filter_map(|it| it.source.as_ref());
    let only_there = |source: &Arc<str>| match definitions.transports.get(source) {
        Some(Transport::ClusterNats(_) | Transport::Http) => true,
        Some(Transport::Nats(_)) => {
            let origin = definitions.catalog.sources.get(source).and_then(|source| source.origin.as_ref());
            origin == Some(&OriginRule::Fixed(cluster.id.clone()))
        }
        Some(Transport::Objects(_)) | None => false,
    };
    leaving.filter(|source| only_there(source)).cloned().collect()
}

/// The agents of a fleet, and what each hands on.
pub fn relayed_feeds(definitions: &Definitions) -> (Vec<ClusterId>, Vec<(ClusterId, Arc<str>)>) {
    let agents = definitions.clusters.iter().filter(|it| {
        // In a namespace of several nobody knows whose an event is.
        matches!(it.connection, Connection::Agent) && definitions.shares_namespace(&it.id).is_none()
    });
    let mut feeds = Vec::new();
    let mut ids = Vec::new();
    for agent in agents {
        ids.push(agent.id.clone());
        feeds
            .extend(relayed_sources(definitions, agent).into_iter().map(|source| (agent.id.clone(), source)));
    }
    (ids, feeds)
}

/// Whether events that are sent to the hub over HTTP, and say no origin, would concern a cluster, which does not hear them.
pub(super) fn hears_no_http_of_the_hub(definitions: &Definitions, cluster: &ClusterDefinition) -> bool {
    let over_http = |source: &Arc<str>| {
        matches!(definitions.transports.get(source), Some(Transport::Http))
            && definitions.catalog.sources.get(source).is_some_and(|source| source.origin.is_none())
    };
    let mut triggers = definitions.catalog.triggers.values();
    triggers.any(|it| it.source.as_ref().is_some_and(over_http) && concerns(definitions, it, cluster))
}

/// Whether an EventSource is read by agents and by nobody else: because its events come from a cluster with an agent, or
/// because the triggers of it select such clusters only. The NATS in each cluster is not meant: who reads that follows
/// from the cluster.
pub fn is_read_by_agents_alone(definitions: &Definitions, source: &str) -> bool {
    if matches!(definitions.transports.get(source), Some(Transport::ClusterNats(_) | Transport::Objects(_))) {
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
