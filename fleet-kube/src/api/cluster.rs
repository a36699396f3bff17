//! `Cluster`: one managed cluster and how it is reached.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

/// A managed cluster. Its labels are what selectors match; exactly one field of its spec says how it is reached, but for
/// `resolve`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[kube(
    group = "fleet-events.dev",
    version = "v1alpha1",
    kind = "Cluster",
    namespaced,
    shortname = "fcl",
    category = "fleet-events",
    status = "ClusterStatus",
    derive = "PartialEq",
    doc = "A managed cluster. Its labels are what selectors match; exactly one field of its spec says how it is reached. Deleted, it stays until the operator has withdrawn what it put there, or until that has taken too long (finalizer fleet-events.dev/withdraw).",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(name = "By", type_ = "string", json_path = ".status.drivenBy"),
    printcolumn(name = "Version", type_ = "string", json_path = ".status.version"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Reason",
        type_ = "string",
        priority = "1",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason"
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        priority = "1",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message"
    )
)]
#[x_kube(
    validation = Rule::new("!has(self.kubeconfigFile)")
        .message("kubeconfigFile works only in a folder of manifests; put the kubeconfig into a Secret and name it in kubeconfigSecretRef")
        .field_path(".kubeconfigFile")
)]
#[x_kube(
    validation = Rule::new("[has(self.kubeconfigSecretRef), has(self.kubeconfigFile), has(self.directory), has(self.inCluster), has(self.agent)].filter(set, set).size() == 1")
        .message("set exactly one of kubeconfigSecretRef, directory, inCluster and agent")
)]
pub struct ClusterSpec {
    /// A Secret in the Cluster's namespace that holds a kubeconfig.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubeconfig_secret_ref: Option<SecretKeyRef>,
    /// A kubeconfig file on the operator's machine; a relative path begins at the manifest's own folder. Only for
    /// manifests that are read from a folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubeconfig_file: Option<String>,
    /// A folder under the operator's data folder stands in for a cluster: one file per object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<DirectorySpec>,
    /// The cluster that the operator runs in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_cluster: Option<InClusterSpec>,
    /// An agent in the cluster does all there (`fleet-operator register cluster --agent`), and nobody reaches it from here.
    /// Such a Cluster has a namespace of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentSpec>,
    /// Names that only the cluster itself knows, such as those of its Services, and where the operator reaches what they
    /// name: `HOST:PORT=ADDRESS` or `HOST:PORT=ADDRESS:PORT`, as in `nats.nats.svc.cluster.local:4222=10.1.2.3:30422`. For
    /// the NATS in the cluster; certificates are still checked against the name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 64),
        inner(length(min = 1, max = 600), regex(pattern = r"^[^=]+:[0-9]+=[^=]+$"))
    )]
    pub resolve: Vec<String>,
}

/// A key of a Secret in the same namespace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretKeyRef {
    /// The name of the Secret.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The key in its data; by default `kubeconfig`, or the only key that there is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub key: Option<String>,
}

/// Nothing to set: write `directory: {}`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(deny_unknown_fields)]
pub struct DirectorySpec {}

/// Nothing to set: write `inCluster: {}`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(deny_unknown_fields)]
pub struct InClusterSpec {}

/// Nothing to set: write `agent: {}`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(deny_unknown_fields)]
pub struct AgentSpec {}

/// How a managed cluster is doing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterStatus {
    /// The version of Kubernetes that it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Who acts in it: `hub`, the operator of the management cluster, or `agent`, one in the cluster itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driven_by: Option<String>,
    /// The generation of the object that the conditions speak of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready while the cluster answers; Reconciling while it is tried again; Stalled while somebody has to change
    /// something.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".to_owned()]))]
    pub conditions: Vec<Condition>,
}
