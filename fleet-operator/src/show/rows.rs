//! The rows of each table. Their fields are what `-o json` and `-o yaml` print.

use std::collections::BTreeMap;

use fleet_core::apply::Change;
use fleet_core::health::Health;
use fleet_core::work::Intent;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// One object in one cluster, or one that is on its way there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AddonRow {
    /// `namespace/name` of the cluster.
    pub cluster: String,
    /// The cluster that it is for, where it is in the management cluster for another one (`deploymentType: Local`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub for_cluster: Option<String>,
    /// `group:Kind`; nothing before the colon for the core group. Of a release of a chart: `helm chart`.
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
    /// How far the Work is in the cluster: `Applied`, `Pending`, `Waiting`, `Stalled`, `Retrying`, `Previewed`, `Left`;
    /// `Unknown` if the agent that did it is silent.
    pub state: String,
    /// Why it is not further, or why it is as it is.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// How what the Work has in the cluster is doing, as far as that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
    /// When it was last put right, after somebody else had changed or deleted it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repaired: Option<Timestamp>,
    /// Whether it was there before, and is given back rather than deleted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub adopted: bool,
    /// Who has the object, so that this Work has not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocked_by: Option<String>,
    /// What a write would do, where nothing is written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub would: Option<Change>,
}

/// One delivery that came lately, and what came of it. Nothing of what its event holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EventRow {
    /// When it was received.
    pub time: Timestamp,
    /// When it was published, if its transport tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published: Option<Timestamp>,
    /// The EventSource.
    pub event_source: String,
    /// Which event it was; `None` if it is no event. Long names are cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<ExplainedEvent>,
    /// The cluster that it came from, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// What each trigger that wanted it made of it.
    pub triggers: Vec<EventTriggerRow>,
    /// What came of it, in one word: the least that any trigger made of it.
    pub outcome: String,
    /// Why it came to no more, in one word.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// From being received to being done in the last cluster, as far as it is done, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_millis: Option<f64>,
}

/// What a trigger made of a delivery.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EventTriggerRow {
    /// The trigger.
    pub name: String,
    /// What the event asks for; `None` if it was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intent: Option<Intent>,
    /// How far it is, in one word.
    pub outcome: String,
    /// Why it is not further, in one word.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// In how many clusters it is done.
    pub done: usize,
    /// In how many it is only told what would be done.
    pub previewed: usize,
    /// In how many it cannot be done until something changes.
    pub stalled: usize,
    /// In how many it waits, or is tried again.
    pub waiting: usize,
}

/// What a Work would do to one object, where its trigger says DryRun.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DryRunRow {
    /// `namespace/name` of the cluster.
    pub cluster: String,
    /// The cluster that it is for, where it would be in the management cluster for another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub for_cluster: Option<String>,
    /// `group:Kind`; nothing before the colon for the core group.
    pub resource_type: String,
    /// The object's namespace; empty if it has none.
    pub namespace: String,
    /// The object's name; empty if nothing could be rendered.
    pub name: String,
    /// `No Action`, `Create`, `Update`, `Recreate`, `Delete`, `Give Back`, `Conflict` or `Error`.
    pub action: String,
    /// Why it is that, where there is something to say.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// What asks for it, as `kind/name`.
    pub rule: String,
    /// What an update would change, as a unified diff without its head. Values of Secrets are masked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diff: Option<String>,
}

/// A ConfigMap or Secret that triggers render from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UsageRow {
    /// `ConfigMap` or `Secret`.
    pub kind: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// What renders from it, as `kind/name`.
    pub rules: Vec<String>,
    /// The clusters where these have something.
    pub clusters: Vec<String>,
}

/// One object that carries a mark without being any Work's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StrayRow {
    /// `namespace/name` of the cluster.
    pub cluster: String,
    /// `group:Kind`; nothing before the colon for the core group.
    pub resource_type: String,
    /// The object's namespace; empty if it has none.
    pub namespace: String,
    /// The object's name.
    pub name: String,
    /// The mark: the value of its label `fleet-events.dev/work`.
    pub mark: String,
    /// The Work with that mark, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub work: Option<String>,
    /// What it probably is, and what to do.
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
    /// How it is reached: `directory`, `kubeconfig`, `inCluster`; `agent`: not from here.
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
    /// Those of them that are healthy.
    pub healthy: usize,
    /// Cannot be applied until something changes.
    pub stalled: usize,
    /// On their way.
    pub under_way: usize,
    /// Only told what would happen.
    pub previewed: usize,
    /// Left as they are where the Work does not belong any more.
    pub left: usize,
}

/// What a [`DeadLetterRow`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeadLetterKind {
    /// A delivery that never became Work.
    Event,
    /// A Work that is stalled in a cluster.
    Work,
}

/// One delivery that never became Work, or one Work that is stalled in a cluster. Leaves out headers and bytes, which
/// may be secret.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeadLetterRow {
    /// Its id: the letter's, or the Work's.
    pub id: String,
    /// Which of the two it is.
    pub kind: DeadLetterKind,
    /// Since when.
    pub time: Timestamp,
    /// The EventSource it came from.
    pub source: String,
    /// The trigger that refused it, if one did.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub trigger: String,
    /// Where the Work is stalled, or for which cluster, if it is so in the management cluster.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cluster: String,
    /// The reason in one word.
    pub reason: String,
    /// What is wrong, and what to do.
    pub detail: String,
    /// The size of the original, in bytes.
    pub bytes: usize,
}

/// All of a dead letter or stalled Work. Holds what the event holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeadLetterDetail {
    /// What a list says of it.
    #[serde(flatten)]
    pub row: DeadLetterRow,
    /// Its place in its feed: domain, epoch and sequence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<String>,
    /// The subject or path that it was sent to.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub subject: String,
    /// Its headers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, String)>,
    /// Where the Work is stalled, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stalled: Vec<StalledIn>,
    /// The message as it was received, or the Work's event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub original: Option<Original>,
}

/// The bytes of a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Original {
    /// They are text.
    Text(String),
    /// They are not.
    Base64(String),
}

/// A Work that is stalled in a cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StalledIn {
    /// The cluster.
    pub cluster: String,
    /// Since when.
    pub since: Timestamp,
    /// The reason in one word.
    pub reason: String,
    /// What is wrong, and what to do.
    pub detail: String,
}

/// What became of a dead letter or stalled Work that a person did something with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HandledRow {
    /// Its id.
    pub id: String,
    /// In one word.
    pub result: String,
    /// What that means.
    pub detail: String,
}

/// Why an object is in a cluster, or is not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// The object, as it was asked for.
    pub object: String,
    /// `namespace/name` of the cluster.
    pub cluster: String,
    /// Whether a Work has put it there.
    pub there: bool,
    /// The Works that have it, had it, or would have it.
    pub works: Vec<ExplainedWork>,
    /// Why it is not there, or not as it should be.
    pub reasons: Vec<String>,
}

/// What a Work has to do with an object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExplainedWork {
    /// The object.
    pub object: String,
    /// The Work.
    pub work: String,
    /// Its mark: the value of the label `fleet-events.dev/work`.
    pub mark: String,
    /// The cluster that the object is for, where it is in the management cluster for another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub for_cluster: Option<String>,
    /// Its trigger.
    pub trigger: String,
    /// The template that the object is rendered from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// The EventSource that its last event came from.
    pub source: String,
    /// Its last event.
    pub event: ExplainedEvent,
    /// What that asks for.
    pub intent: Intent,
    /// The cluster that it came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// The highest position seen in each domain.
    pub positions: Vec<String>,
    /// When the event was accepted.
    pub received: Timestamp,
    /// When it was published, if its transport tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published: Option<Timestamp>,
    /// The object's UID, if it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// When it was last written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied: Option<Timestamp>,
    /// When it was last put right, after somebody else had changed or deleted it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repaired: Option<Timestamp>,
    /// Whether it was there before.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub adopted: bool,
    /// How far the Work is in the cluster; empty if it has nothing to do there.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub state: String,
    /// Why it is so.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// How what it has there is doing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
}

/// Which event it was; nothing of its data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExplainedEvent {
    /// Its id.
    pub id: String,
    /// Its type.
    #[serde(rename = "type")]
    pub ty: String,
    /// Its source.
    pub source: String,
    /// Its subject.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
}
