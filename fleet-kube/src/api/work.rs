//! `Work`: the intent of one trigger and key.

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::applied::{AppliedBlocked, AppliedHealth, AppliedObject, AppliedWorkState};

/// The intent of one trigger and key: the record that is durable before an event is acknowledged. Written by the
/// operator alone, in its own namespace.
///
/// It holds an event's data, so whoever may read Works may read that.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "fleet-events.dev",
    version = "v1alpha1",
    kind = "Work",
    namespaced,
    shortname = "wk",
    category = "fleet-events",
    status = "WorkStatus",
    derive = "PartialEq",
    doc = "The intent of one trigger and key: the record that is durable before an event is acknowledged. Written by the operator alone. It holds an event's data, so whoever may read Works may read that.",
    selectable = ".spec.trigger",
    printcolumn(name = "Trigger", type_ = "string", json_path = ".spec.trigger"),
    printcolumn(name = "Subject", type_ = "string", json_path = ".spec.key.about.subject"),
    printcolumn(name = "Intent", type_ = "string", json_path = ".spec.intent"),
    printcolumn(name = "Clusters", type_ = "integer", json_path = ".status.clusters"),
    printcolumn(name = "Applied", type_ = "integer", json_path = ".status.applied"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Source", type_ = "string", priority = "1", json_path = ".spec.source"),
    printcolumn(name = "Origin", type_ = "string", priority = "1", json_path = ".spec.origin"),
    printcolumn(name = "Key", type_ = "string", priority = "1", json_path = ".spec.key.text"),
    printcolumn(
        name = "Message",
        type_ = "string",
        priority = "1",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message"
    )
)]
pub struct WorkSpec {
    /// The EventTrigger that the event matched; for a ClusterProfile, `ClusterProfile/` and its name.
    pub trigger: String,
    /// The EventSource that the event came from; empty for a ClusterProfile.
    pub source: String,
    /// What the event is about.
    pub key: WorkKey,
    /// The Cluster that the event came from, as namespace/name, if its EventSource has origins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// Counts the events that made a difference, from 1.
    pub generation: i64,
    /// What the last event asks for.
    pub intent: WorkIntent,
    /// The last event in the JSON format of CloudEvents. As a text, so that every number in it stays as it came.
    #[schemars(with = "String")]
    pub event: EventText,
    /// How the last event arrived.
    #[serde(default)]
    pub message: WorkMessage,
    /// The highest position seen in each domain, as domain@epoch.sequence: older events come too late.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub positions: Vec<String>,
    /// When the last event was accepted.
    pub received: String,
    /// When the last event was published, if its transport tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published: Option<String>,
    /// What is to be applied in clusters that have no AppliedWork yet: durable in the same step as the event. Taken out
    /// by the next write after the AppliedWork is there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub plans: Vec<WorkPlan>,
    /// The last events, where an equal one is a duplicate; oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recent: Vec<WorkRecentEvent>,
    /// Changes with every write.
    pub write: i64,
}

/// What an event is about: one key has one lifecycle. Exactly one of the four.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkKey {
    /// The default: where the event came from, its source and its subject.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<WorkKeyAbout>,
    /// The text that the trigger's key template gave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// True for the Work that stands for all keys of a trigger together.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub all: bool,
    /// True for the one Work of a ClusterProfile, which no event changes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub always: bool,
}

/// Where an event came from, its source and its subject.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkKeyAbout {
    /// The Cluster it came from, as namespace/name, if its EventSource has origins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// The CloudEvents source.
    pub source: String,
    /// The CloudEvents subject.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
}

/// What an event asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum WorkIntent {
    /// The resources are to be there.
    Create,
    /// The resources are to be gone.
    Delete,
}

/// An event in the JSON format of CloudEvents. Its `Debug` output shows nothing of it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EventText(pub String);

impl fmt::Debug for EventText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EventText(…)")
    }
}

/// How an event arrived.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkMessage {
    /// The subject or path it was sent to.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub subject: String,
    /// Its headers in their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<WorkHeader>,
}

/// A header of a message. Its `Debug` output leaves out the value.
#[derive(Clone, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkHeader {
    /// Its name as it was sent.
    pub name: String,
    /// Its value.
    pub value: String,
}

impl fmt::Debug for WorkHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkHeader").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What an AppliedWork begins with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkPlan {
    /// The Cluster, as namespace/name.
    pub cluster: String,
    /// The generation of the Work that this speaks of.
    pub generation: i64,
    /// A digest of what was last applied in full.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// What the Work may come to have in the cluster.
    #[serde(default)]
    pub inventory: Vec<AppliedObject>,
    /// How far it is.
    pub state: AppliedWorkState,
    /// How what was applied is doing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<AppliedHealth>,
    /// Objects that it wants and somebody else has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub blocked: Vec<AppliedBlocked>,
    /// When it was planned.
    pub updated: String,
    /// With which write of the Work it came.
    pub write: i64,
}

/// An event that a key saw lately.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkRecentEvent {
    /// A hash over the CloudEvents source and id.
    pub hash: String,
    /// When it was published or accepted.
    pub at: String,
}

/// How a Work is doing in the clusters where something was planned or done for it. Follows what happens within about a
/// second.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkStatus {
    /// The metadata.generation that this speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// In how many clusters it has, or may have, something; those where it is left aside.
    #[serde(default)]
    pub clusters: i32,
    /// In how many of them everything is as rendered, healthy or not.
    #[serde(default)]
    pub applied: i32,
    /// In how many of them it failed, is stalled, or is applied and will not become healthy.
    #[serde(default)]
    pub failed: i32,
    /// In how many clusters what is there is left as it is, though the Work does not belong there any more.
    #[serde(default)]
    pub left: i32,
    /// Those clusters, at most 20: the stalled ones first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub failing: Vec<FailingCluster>,
    /// Ready when everything is as it should be, and healthy; Reconciling while it may become so by itself; Stalled while
    /// somebody has to change something. Of a trigger in mode DryRun, Ready is False, and neither of the others is there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".to_owned()]))]
    pub conditions: Vec<Condition>,
}

/// A cluster in which a Work failed or is stalled.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct FailingCluster {
    /// The Cluster, as namespace/name.
    pub cluster: String,
    /// One CamelCase word.
    pub reason: String,
    /// What is wrong and what to do.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}
