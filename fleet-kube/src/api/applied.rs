//! `AppliedWork`: what was done for one Work in one cluster.

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

/// What was done for one Work in one cluster. Written by the operator alone, in the Cluster's namespace.
///
/// It has no status: all of it is what the operator observed, and one write is what it costs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "fleet-events.dev",
    version = "v1alpha1",
    kind = "AppliedWork",
    namespaced,
    shortname = "awk",
    category = "fleet-events",
    derive = "PartialEq",
    doc = "What was done for one Work in one cluster: the objects there with their UIDs, and how far it is. Written by the operator alone, in the Cluster's namespace.",
    selectable = ".spec.work",
    selectable = ".spec.cluster",
    printcolumn(name = "Work", type_ = "string", json_path = ".spec.work"),
    printcolumn(name = "Cluster", type_ = "string", json_path = ".spec.cluster"),
    printcolumn(name = "For", type_ = "string", json_path = ".spec.local.cluster"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".spec.state.phase"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".spec.state.reason"),
    printcolumn(name = "Health", type_ = "string", json_path = ".spec.health.status"),
    printcolumn(name = "Updated", type_ = "date", json_path = ".spec.updated"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Generation", type_ = "integer", priority = "1", json_path = ".spec.generation"),
    printcolumn(
        name = "Objects",
        type_ = "string",
        priority = "1",
        json_path = ".spec.inventory[*].object.name"
    ),
    printcolumn(name = "Message", type_ = "string", priority = "1", json_path = ".spec.state.message")
)]
pub struct AppliedWorkSpec {
    /// The Work; of what is local, the name that it has in its place.
    pub work: String,
    /// The Cluster, as namespace/name.
    pub cluster: String,
    /// What it was done for, if it is local: it was done in the management cluster for another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local: Option<AppliedLocal>,
    /// The generation of the Work that this speaks of.
    pub generation: i64,
    /// A digest of what was last applied in full.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// What the Work has, or may have, in the cluster.
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
    /// When the state was last written.
    pub updated: String,
    /// Changes with every write.
    pub write: i64,
}

/// What something was done for in the management cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct AppliedLocal {
    /// The Work.
    pub work: String,
    /// The Cluster that it is for, as namespace/name.
    pub cluster: String,
}

/// One object that a Work has, or may have, in a cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct AppliedObject {
    /// Which object.
    pub object: AppliedObjectRef,
    /// Its UID, once the cluster told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// Until when a request without an answer may still take effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uncertain_until: Option<String>,
    /// When it was last written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied_at: Option<String>,
    /// When it was last written because somebody else had changed or deleted it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repaired_at: Option<String>,
    /// A hash over those of its fields that are ours, as they were after the last write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub print: Option<String>,
    /// Its resourceVersion after the last write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Whether it was there before, and is to be given back rather than deleted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub adopted: bool,
    /// The name of the template that it was rendered from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// Which chart it was installed from, if it is a release of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chart: Option<AppliedChart>,
}

/// Which chart a release was installed from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct AppliedChart {
    /// The version that the chart says of itself.
    pub version: String,
    /// A hash over the chart as it was packaged.
    pub digest: String,
}

/// Which object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct AppliedObjectRef {
    /// The API group; empty for the core group.
    pub group: String,
    /// The version in the group.
    pub version: String,
    /// The kind.
    pub kind: String,
    /// The namespace, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The name.
    pub name: String,
}

/// How far a Work is in a cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct AppliedWorkState {
    /// Pending, Applied, Waiting, Stalled, Retrying, Previewed or Left.
    pub phase: String,
    /// Why: one word if stalled, else what is waited for or what failed last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What is wrong and what to do, if stalled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// What a write would do, if it is only previewed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changes: Option<Vec<AppliedForeseen>>,
}

/// What a write would do to one object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct AppliedForeseen {
    /// Which object.
    pub object: AppliedObjectRef,
    /// What would happen; absent if it would fail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<AppliedChange>,
    /// Why it would fail, or what it would wait for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What would happen to an object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct AppliedChange {
    /// Nothing, Create, Update, Recreate, Delete or GiveBack.
    pub change: String,
    /// What an update would change, line by line. Values of Secrets are masked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diff: Option<String>,
    /// Why an update is not possible, where it would be made anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// How an object, or all that a Work has in a cluster, is doing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct AppliedHealth {
    /// Ready, Progressing or Failed.
    pub status: String,
    /// What is waited for, or what is wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// An object that a Work wants and somebody else has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct AppliedBlocked {
    /// Which object.
    pub object: AppliedObjectRef,
    /// Whose it is.
    pub owner: AppliedOwner,
}

/// Whose an object is. One of the two.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct AppliedOwner {
    /// Another Work's, with this hash in its mark.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub work: Option<String>,
    /// Somebody's, as far as the cluster tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other: Option<String>,
}
