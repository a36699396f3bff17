//! Charts, as triggers and profiles name them: Sveltos' `helmCharts`, as far as it is meant the same.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::duration;
use super::trigger::PolicyKind;

/// A chart to be installed in the clusters, by the helm program. Texts with `{{` in them are templates.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HelmChart {
    /// The chart repository: `https://…`, `http://…`, or `oci://…`, to which the chart's name is added.
    #[serde(rename = "repositoryURL")]
    #[schemars(length(min = 1, max = 2048))]
    pub repository_url: String,
    /// What the repository is called in chartName.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub repository_name: Option<String>,
    /// The chart's name: `nats`, or with the repository's name before it `nats/nats`.
    #[schemars(length(min = 1, max = 1024))]
    pub chart_name: String,
    /// The version, or a range of versions. A range, or the latest version where there is none, is looked up when the
    /// release is installed and when something else of it changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub chart_version: Option<String>,
    /// The release's name.
    #[schemars(length(min = 1, max = 1024))]
    pub release_name: String,
    /// The release's namespace; it is created if it is missing.
    #[schemars(length(min = 1, max = 1024))]
    pub release_namespace: String,
    /// The chart's values: a template of one YAML mapping. They win over those of valuesFrom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 262_144))]
    pub values: Option<String>,
    /// ConfigMaps and Secrets that hold values, a YAML mapping under each key. Where two set the same the later one wins.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub values_from: Vec<ValuesFrom>,
    /// Whether the release is to be there.
    #[serde(default)]
    pub helm_chart_action: HelmAction,
    /// How the repository is reached, where that needs more than its URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry_credentials_config: Option<RegistryCredentialsConfig>,
    /// How helm goes about it.
    #[serde(default, skip_serializing_if = "HelmOptions::is_default")]
    pub options: HelmOptions,
}

/// Whether a release is to be there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum HelmAction {
    /// It is installed, and upgraded when it changes.
    #[default]
    Install,
    /// It is uninstalled, if it is ours.
    Uninstall,
}

/// A ConfigMap or Secret that holds values of a chart.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ValuesFrom {
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
}

/// How a chart repository is reached.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RegistryCredentialsConfig {
    /// A Secret with the keys `username` and `password`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<SecretName>,
    /// A Secret with the certificates, in PEM, that the repository's is checked with: under `ca.crt`, or under its only
    /// key.
    #[serde(default, rename = "ca", skip_serializing_if = "Option::is_none")]
    pub ca: Option<SecretName>,
    /// Do not check the repository's certificate.
    #[serde(default, rename = "insecureSkipTLSVerify", skip_serializing_if = "std::ops::Not::not")]
    pub insecure_skip_tls_verify: bool,
    /// Reach a registry (oci) over plain HTTP.
    #[serde(default, rename = "plainHTTP", skip_serializing_if = "std::ops::Not::not")]
    pub plain_http: bool,
}

/// Names a Secret.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretName {
    /// Its namespace.
    #[schemars(length(min = 1, max = 63))]
    pub namespace: String,
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// How helm goes about it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HelmOptions {
    /// How long one run of helm may take, its waiting included: 5m by default, 1h at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = duration::PATTERN))]
    pub timeout: Option<String>,
    /// Wait until what was installed is ready, and fail if it does not become so.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub wait: bool,
    /// With wait: also until Jobs have completed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub wait_for_jobs: bool,
    /// Roll back what failed. Waits, too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub atomic: bool,
    /// Do not install the CustomResourceDefinitions in the chart's folder `crds`.
    #[serde(default, rename = "skipCRDs", skip_serializing_if = "std::ops::Not::not")]
    pub skip_crds: bool,
    /// Run no hooks.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub disable_hooks: bool,
    /// Do not check what was rendered against the API server's schema.
    #[serde(default, rename = "disableOpenAPIValidation", skip_serializing_if = "std::ops::Not::not")]
    pub disable_openapi_validation: bool,
    /// Do not check values against the chart's schema.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub skip_schema_validation: bool,
    /// Where a release is installed.
    #[serde(default, skip_serializing_if = "HelmInstallOptions::is_default")]
    pub install_options: HelmInstallOptions,
    /// Where a release is upgraded.
    #[serde(default, skip_serializing_if = "HelmUpgradeOptions::is_default")]
    pub upgrade_options: HelmUpgradeOptions,
}

impl HelmOptions {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Where a release is installed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HelmInstallOptions {
    /// Create the release's namespace if it is missing.
    #[serde(default = "yes")]
    pub create_namespace: bool,
}

fn yes() -> bool {
    true
}

impl HelmInstallOptions {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Default for HelmInstallOptions {
    fn default() -> Self {
        Self { create_namespace: true }
    }
}

/// Where a release is upgraded.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HelmUpgradeOptions {
    /// How many revisions are kept in the cluster; 10 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 2, max = 100))]
    pub max_history: Option<u32>,
}

impl HelmUpgradeOptions {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}
