//! The rows of each table. Their fields are what `-o json` and `-o yaml` print.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// One object in one cluster, or one that is on its way there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AddonRow {
    /// `namespace/name` of the cluster.
    pub cluster: String,
    /// `group:Kind`; nothing before the colon for the core group.
    pub resource_type: String,
    /// The object's namespace; empty if it has none.
    pub namespace: String,
    /// The object's name; empty if nothing was rendered yet.
    pub name: String,
    /// The version of what was installed, where there is such a thing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// When it was last written; `None`: it is not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<Timestamp>,
    /// What wants it there, as `kind/name`.
    pub profiles: Vec<String>,
    /// The Work that it belongs to.
    pub work: String,
    /// How far the Work is in the cluster: `Applied`, `Pending`, `Waiting`, `Stalled`, `Retrying`.
    pub state: String,
    /// Why it is not further.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// One cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterRow {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Whether it can be reached; `None` when no operator runs that could tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready: Option<bool>,
    /// The version of Kubernetes that it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// How it is reached: `directory`, `kubeconfig`, `inCluster`.
    pub connection: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Why it is not ready.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// One EventSource.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceRow {
    /// Its name.
    pub name: String,
    /// `http`, `nats` or `jetStream`.
    pub transport: String,
    /// Whether events can arrive; `None` when nobody said yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready: Option<bool>,
    /// The reason in one word.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// What is the matter, and what to do.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// One EventTrigger.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TriggerRow {
    /// Its name.
    pub name: String,
    /// The EventSource it listens to.
    pub source: String,
    /// Whether it works; `None` when nobody said yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready: Option<bool>,
    /// The reason in one word.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// What is the matter, and what to do.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// What it has brought about.
    #[serde(flatten)]
    pub tally: Tally,
}

/// How the Works of a trigger are doing. All but `works` count a Work once for each cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tally {
    /// How many there are.
    pub works: usize,
    /// Applied as they should be.
    pub applied: usize,
    /// Cannot be applied until something changes.
    pub stalled: usize,
    /// On their way.
    pub under_way: usize,
}

/// One delivery that never became Work. Leaves out headers and bytes, which may be secret.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeadLetterRow {
    /// Its id.
    pub id: String,
    /// When it was refused.
    pub time: Timestamp,
    /// The EventSource it came from.
    pub source: String,
    /// The trigger that refused it, if one did.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub trigger: String,
    /// The reason in one word.
    pub reason: String,
    /// What was wrong, and what to do.
    pub detail: String,
    /// The size of the original, in bytes.
    pub bytes: usize,
}
