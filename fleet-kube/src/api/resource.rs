//! Objects of the management cluster that templates see.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// An object of the management cluster that templates see as `resources.<identifier>`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TemplateResourceRef {
    /// What templates call it.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[A-Za-z_][A-Za-z0-9_-]*$"))]
    pub identifier: String,
    /// Which object it is.
    pub resource: ReferredResource,
    /// Go on without it while it does not exist: templates find it undefined.
    #[serde(default)]
    pub optional: bool,
}

/// Names an object of the management cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReferredResource {
    /// Group and version: `v1`, `apps/v1`.
    #[schemars(length(min = 1, max = 317))]
    pub api_version: String,
    /// The kind. The operator needs list and watch of it; in a folder there are ConfigMaps and Secrets only.
    #[schemars(length(min = 1, max = 63))]
    pub kind: String,
    /// Its namespace; a template over what the templates themselves see. By default that of the Cluster. Means nothing for
    /// kinds without namespaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub namespace: Option<String>,
    /// Its name; a template over what the templates themselves see.
    #[schemars(length(min = 1, max = 1024))]
    pub name: String,
}
