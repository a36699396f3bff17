//! `RelayedEvent`: an event that an agent hands on to the hub.

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::WorkMessage;

/// An event on its way from an agent to the hub: of a trigger that puts something into other clusters. Written by the agent, in
/// the namespace of its Cluster, before it acknowledges the event; deleted by the operator at the hub once that has stored it
/// as Work. One more for each EventSource says how far its events are handed on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "fleet-events.dev",
    version = "v1alpha1",
    kind = "RelayedEvent",
    namespaced,
    shortname = "rev",
    category = "fleet-events",
    derive = "PartialEq",
    doc = "An event on its way from an agent to the hub, of a trigger that puts something into other clusters: written by the agent before it acknowledges the event, deleted by the operator at the hub once it is stored there as Work. It comes from the Cluster of its namespace, whatever it says. It holds an event's data, so whoever may read RelayedEvents may read that.",
    selectable = ".spec.source",
    printcolumn(name = "Source", type_ = "string", json_path = ".spec.source"),
    printcolumn(name = "Position", type_ = "string", json_path = ".spec.event.position"),
    printcolumn(name = "Published", type_ = "date", json_path = ".spec.event.published"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
pub struct RelayedEventSpec {
    /// The EventSource.
    pub source: String,
    /// The event. Either this or `progress`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<RelayedDelivery>,
    /// How far the EventSource's events are handed on: in one object for each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<RelayProgress>,
}

/// An event as it arrived.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RelayedDelivery {
    /// Its place in the order of its feed, as domain@epoch.sequence.
    pub position: String,
    /// When it was published.
    pub published: String,
    /// How it arrived.
    #[serde(default)]
    pub message: WorkMessage,
    /// The message's body in base64.
    #[schemars(with = "String")]
    pub body: RelayedBody,
}

/// A message's body in base64. Its `Debug` output shows nothing of it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RelayedBody(pub String);

impl std::fmt::Debug for RelayedBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RelayedBody(…)")
    }
}

/// How far the events of an EventSource are handed on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RelayProgress {
    /// Nothing at or below these places will be handed on (again); one for each domain, as domain@epoch.sequence.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub floors: Vec<String>,
    /// Everything that was published before then is handed on. Only where a trigger has a `ttl`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settled: Option<String>,
}
