//! `ClusterProfile`: what every matching cluster always gets.

use fleet_core::selector::LabelSelector;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::helm::HelmChart;
use super::policy::PayloadPolicy;
use super::resource::TemplateResourceRef;
use super::source::ClusterRef;
use super::status::Status;
use super::trigger::PolicyRef;

/// What every matching cluster always gets, no event needed: a trigger that is always on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "fleet-events.dev",
    version = "v1alpha1",
    kind = "ClusterProfile",
    shortname = "fcp",
    category = "fleet-events",
    status = "Status",
    derive = "PartialEq",
    doc = "What every matching cluster always gets, no event needed: a trigger that is always on. Deleted, it stays until the operator has withdrawn what clusters got (finalizer fleet-events.dev/withdraw).",
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
        .message("a profile cannot wait for itself: remove its own name from dependsOn")
)]
#[x_kube(
    validation = Rule::new("has(self.clusterSelector) || has(self.clusterRefs)")
        .message("say which clusters: set clusterSelector, clusterRefs or both")
)]
#[x_kube(
    validation = Rule::new("has(self.serviceAccountName) == has(self.serviceAccountNamespace)")
        .message("set serviceAccountName and serviceAccountNamespace together")
)]
#[x_kube(
    validation = Rule::new("(has(self.policyRefs) && size(self.policyRefs) > 0) || (has(self.helmCharts) && size(self.helmCharts) > 0)")
        .message("say what is to be applied: policyRefs, helmCharts or both")
)]
pub struct ClusterProfileSpec {
    /// Clusters with such labels; an empty selector selects all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector>")]
    pub cluster_selector: Option<LabelSelector>,
    /// Clusters by name, beside those that are selected.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024))]
    pub cluster_refs: Vec<ClusterRef>,
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
    /// How what is rendered is kept in the clusters.
    #[serde(flatten)]
    pub policy: PayloadPolicy,
    /// The service account to act as in the clusters, so that the profile can do only what that account may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub service_account_name: Option<String>,
    /// The namespace of that service account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub service_account_namespace: Option<String>,
}
