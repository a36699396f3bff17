//! `EventTrigger`: which events, from which clusters, do what, where, from which templates.

use fleet_core::filter::Filter;
use fleet_core::selector::LabelSelector;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::helm::HelmChart;
use super::policy::PayloadPolicy;
use super::resource::TemplateResourceRef;
use super::status::Status;
use super::{duration, filter};

/// The rule: which events, from which clusters, do what, where, from which templates.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "fleet-events.dev",
    version = "v1alpha1",
    kind = "EventTrigger",
    shortname = "evtrg",
    category = "fleet-events",
    status = "Status",
    derive = "PartialEq",
    doc = "The rule: which events, from which clusters, do what, where, from which templates. Deleted, it stays until the operator has withdrawn what its events made (finalizer fleet-events.dev/withdraw).",
    printcolumn(name = "Source", type_ = "string", json_path = ".spec.eventSourceName"),
    printcolumn(name = "Mode", type_ = "string", json_path = ".spec.syncMode"),
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
    printcolumn(
        name = "Message",
        type_ = "string",
        priority = "1",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message"
    ),
    validation = Rule::new("!has(self.spec.dependsOn) || !(self.metadata.name in self.spec.dependsOn)")
        .message("a trigger cannot wait for itself: remove its own name from dependsOn")
)]
#[x_kube(
    validation = Rule::new("self.eventSourceName == oldSelf.eventSourceName")
        .message("eventSourceName is immutable: delete the trigger and create another")
        .field_path(".eventSourceName")
)]
#[x_kube(
    validation = Rule::new("has(self.oneForEvent)")
        .message("set oneForEvent: true for resources of its own for each key, false for one rendering of all keys together")
)]
#[x_kube(
    validation = Rule::new("has(self.oneForEvent) == has(oldSelf.oneForEvent) && (!has(self.oneForEvent) || self.oneForEvent == oldSelf.oneForEvent)")
        .message("oneForEvent is immutable: delete the trigger and create another")
)]
#[x_kube(
    validation = Rule::new("has(self.key) == has(oldSelf.key) && (!has(self.key) || self.key == oldSelf.key)")
        .message("key is immutable: delete the trigger and create another")
)]
#[x_kube(
    validation = Rule::new("has(self.serviceAccountName) == has(self.serviceAccountNamespace)")
        .message("set serviceAccountName and serviceAccountNamespace together")
)]
#[x_kube(
    validation = Rule::new("!has(self.ttl) || (duration(self.ttl) >= duration('1s') && duration(self.ttl) < duration('8760h'))")
        .message("ttl must be between 1s and a year")
)]
#[x_kube(
    validation = Rule::new("(has(self.policyRefs) && size(self.policyRefs) > 0) || (has(self.helmCharts) && size(self.helmCharts) > 0)")
        .message("say what is to be applied: policyRefs, helmCharts or both")
)]
pub struct EventTriggerSpec {
    /// The EventSource whose events count. Immutable.
    #[schemars(length(min = 1, max = 253))]
    pub event_source_name: String,
    /// From which clusters events count. With events that have no origin: to which clusters resources go.
    #[schemars(with = "k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector")]
    pub source_cluster_selector: LabelSelector,
    /// To which clusters resources go, instead of the one that the event came from. Into a cluster with an agent only events
    /// of that cluster put something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector>")]
    pub destination_cluster_selector: Option<LabelSelector>,
    /// Whether each key has resources of its own. With `false` all keys of a cluster are rendered together: templates
    /// see `events`, sorted by key. It has to be said: Sveltos takes `false` where it is left out. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub one_for_event: Option<bool>,
    /// A template over the event that gives Create or Delete; Create if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16384))]
    pub cloud_event_action: Option<String>,
    /// A template over the event that gives the key: what the event is about. One key has one lifecycle. By default
    /// the key is the event's origin, source and subject. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16384))]
    pub key: Option<String>,
    /// Which of the source's events count: all of these filters must let an event pass. The dialects are those of
    /// CloudEvents Subscriptions (exact, prefix, suffix, all, any, not), `pattern`, regular expressions in RE2's syntax
    /// that are found in attributes, `messageSubject`, one that is found in the subject of the NATS message, and `cel`, an
    /// expression over `event` (attributes, extensions, `data`) and `message` (`subject`, `tokens`): `event.data.seats > 10`.
    /// An event for which it cannot be evaluated is a dead letter; what is not there makes it false.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "filter::filters")]
    pub filters: Vec<Filter>,
    /// ConfigMaps and Secrets whose contents go to the clusters, or for each of them to the management cluster. One
    /// annotated `fleet-events.dev/template: "true"` holds templates; others are applied as they stand.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub policy_refs: Vec<PolicyRef>,
    /// Charts that are installed in the clusters, by the helm program.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub helm_charts: Vec<HelmChart>,
    /// Objects of the management cluster that the templates see as `resources.<identifier>`. When one of them changes, what
    /// shows it is rendered again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub template_resource_refs: Vec<TemplateResourceRef>,
    /// A key that no event renews within this time is deleted, as by a Delete event: `30m`, `24h`. It is counted from
    /// when its last event was published, or else accepted; what is published and not read yet counts. By default keys do
    /// not expire.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = duration::PATTERN))]
    pub ttl: Option<String>,
    /// How what is rendered is kept in the clusters.
    #[serde(flatten)]
    pub policy: PayloadPolicy,
    /// The service account to act as in the clusters, so that the trigger can do only what that account may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub service_account_name: Option<String>,
    /// The namespace of that service account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub service_account_namespace: Option<String>,
}

/// A ConfigMap or Secret whose contents go to the clusters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PolicyRef {
    /// ConfigMap or Secret.
    pub kind: PolicyKind,
    /// Its namespace.
    #[schemars(length(min = 1, max = 63))]
    pub namespace: String,
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Go on without it while it does not exist.
    #[serde(default)]
    pub optional: bool,
    /// Where its contents go.
    #[serde(default)]
    pub deployment_type: DeploymentType,
}

/// Where what is rendered for a cluster goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeploymentType {
    /// Into that cluster.
    #[default]
    Remote,
    /// Into the management cluster: the Cluster with `inCluster`, else the one that the operator has its definitions from.
    /// Rendered for each cluster, with that as `cluster`; so names have to tell them apart.
    Local,
}

/// What a [`PolicyRef`] names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum PolicyKind {
    /// A ConfigMap.
    ConfigMap,
    /// A Secret.
    Secret,
}
