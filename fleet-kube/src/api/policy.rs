//! How what a trigger or profile renders is kept in clusters: the fields that both have.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// How what is rendered is kept in clusters. Its fields stand among the others of a spec, which flattens it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PayloadPolicy {
    /// When resources are applied again after they were applied.
    #[serde(default)]
    pub sync_mode: SyncMode,
    /// Fields that others may change in the clusters without its being drift.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub drift_exclusions: Vec<DriftExclusion>,
    /// Go ahead with the rest of the resources where one is in conflict: where it exists and belongs to somebody else.
    #[serde(default)]
    pub continue_on_conflict: bool,
    /// Take over a resource that exists already, instead of reporting a conflict. When resources are removed it is given
    /// back as it is, not deleted. What another trigger made is not taken over; see tier.
    #[serde(default)]
    pub adopt: bool,
    /// Which of two that want the same resource gets it: the one with the lower tier; with equal tiers, the one that has
    /// it.
    #[serde(default = "default_tier")]
    #[schemars(range(min = 1, max = 2_147_483_647_u32))]
    pub tier: u32,
    /// Wait until somebody creates the namespace of a resource that needs one, instead of creating it.
    #[serde(default)]
    pub skip_namespace_creation: bool,
    /// In how many clusters at a time a change is brought: a number, or a share such as `30%`. The next follow once those
    /// are healthy. By default in all at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "number_or_share")]
    pub max_update: Option<IntOrString>,
    /// What becomes of resources in a cluster that does not match any more.
    #[serde(default)]
    pub stop_matching_behavior: StopMatchingBehavior,
    /// What else has to hold for resources to count as healthy, beside the usual rules for their kinds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub validate_healths: Vec<ValidateHealth>,
    /// What has to be healthy in a cluster before anything is applied there: the names of others of the same kind, or
    /// `ClusterProfile/NAME` or `EventTrigger/NAME`. What is taken away is taken away in reverse. They must not wait for
    /// each other in a circle.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 268)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub depends_on: Vec<String>,
}

fn default_tier() -> u32 {
    fleet_core::policy::DEFAULT_TIER
}

impl Default for PayloadPolicy {
    fn default() -> Self {
        Self {
            sync_mode: SyncMode::default(),
            drift_exclusions: Vec::new(),
            continue_on_conflict: false,
            adopt: false,
            tier: default_tier(),
            skip_namespace_creation: false,
            max_update: None,
            stop_matching_behavior: StopMatchingBehavior::default(),
            validate_healths: Vec::new(),
            depends_on: Vec::new(),
        }
    }
}

/// When resources are applied again after they were applied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SyncMode {
    /// Whenever what should be there changes: a template, the trigger, labels of the cluster.
    #[default]
    Continuous,
    /// Never: once for each event and cluster.
    OneTime,
    /// Also when somebody changes or deletes them in the cluster.
    ContinuousWithDriftDetection,
    /// They are not applied at all, nor removed: the Work's status says what would happen.
    DryRun,
}

/// Fields that others may change without its being drift.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DriftExclusion {
    /// The fields, as JSON pointers: `/spec/replicas`, `/metadata/annotations/example.com~1owner`.
    #[schemars(
        length(min = 1, max = 64),
        inner(length(min = 1, max = 1024), regex(pattern = r"^(/([^/~]|~[01])*)+$"))
    )]
    pub paths: Vec<String>,
    /// Of which resources; of all if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<ResourceTarget>,
}

/// Which resources: those that have everything that is given.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ResourceTarget {
    /// The API group; `""` is the core group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub group: Option<String>,
    /// The version in the group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub version: Option<String>,
    /// The kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub kind: Option<String>,
    /// The namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub namespace: Option<String>,
    /// The name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub name: Option<String>,
}

/// What becomes of resources in a cluster that does not match any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum StopMatchingBehavior {
    /// They are removed.
    #[default]
    WithdrawPolicies,
    /// They stay as they are. A Delete event removes them all the same.
    LeavePolicies,
}

/// What has to hold for resources of one kind to count as healthy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ValidateHealth {
    /// What this is called in messages.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The API group of the resources; absent or `""` is the core group.
    #[serde(default)]
    #[schemars(length(max = 253))]
    pub group: String,
    /// The version in the group.
    #[schemars(length(min = 1, max = 63))]
    pub version: String,
    /// The kind of the resources.
    #[schemars(length(min = 1, max = 63))]
    pub kind: String,
    /// Only resources in this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub namespace: Option<String>,
    /// CEL expressions that all have to give true.
    #[serde(rename = "evaluateCEL")]
    #[schemars(length(min = 1, max = 16))]
    pub evaluate_cel: Vec<CelRule>,
}

/// A CEL expression.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CelRule {
    /// What this is called in messages.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The expression, over the resource as `object`: `object.status.phase == "Bound"`.
    #[schemars(length(min = 1, max = 2048))]
    pub rule: String,
}

/// A number from 1, or a share from 1% to 100%.
fn number_or_share(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "x-kubernetes-int-or-string": true,
        "anyOf": [{"type": "integer"}, {"type": "string"}],
        "minimum": 1,
        "pattern": "^([1-9][0-9]?|100)%$",
    })
}
