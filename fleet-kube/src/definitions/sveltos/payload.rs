//! What Sveltos' triggers and profiles have in common.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::super::object::{Fault, Place, Problem, join};
use super::super::strict::strict;
use super::{ObjectReference, Unsupported, fields, supported};
use crate::api::{
    DeploymentType, DriftExclusion, HelmChart, PayloadPolicy, PolicyKind, PolicyRef, ReferredResource,
    StopMatchingBehavior, SyncMode, TemplateResourceRef,
};

/// Fields of both that have no meaning here.
pub(super) const UNSUPPORTED: [Unsupported; 16] = [
    ("clusterSetRefs", "there are no ClusterSets; select clusters by labels"),
    ("setRefs", "there are no Sets; select clusters by labels"),
    ("kustomizationRefs", "there is no Kustomize here; render the manifests before, into a ConfigMap"),
    (
        "configMapGenerator",
        "templates see the event whenever they are rendered; name the template in policyRefs",
    ),
    (
        "secretGenerator",
        "templates see the event whenever they are rendered; name the template in policyRefs",
    ),
    ("patches", "change the template, or the chart's values"),
    ("patchesFrom", "change the template, or the chart's values"),
    ("preDeployChecks", "use dependsOn and validateHealths of what has to be there first"),
    ("preDeleteChecks", "what depends on others is taken away before them"),
    ("postDeleteChecks", "what is taken away is waited for"),
    ("reloader", "put a checksum of the ConfigMap into an annotation of the pod template"),
    ("extraLabels", "write them into the template"),
    ("extraAnnotations", "write them into the template"),
    ("continueOnError", "everything that can be applied is applied, whatever fails beside it"),
    ("maxConsecutiveFailures", "what fails is tried again, with growing pauses"),
    ("validateHealths", "what Kubernetes' own rules (kstatus) say counts; a kind of ours has checks in CEL"),
];

/// The common fields, as Sveltos has them.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Common {
    #[serde(default)]
    policy_refs: Vec<Value>,
    /// Theirs, as far as ours have the same fields.
    #[serde(default)]
    helm_charts: Vec<HelmChart>,
    #[serde(default)]
    sync_mode: SyncMode,
    tier: Option<u32>,
    #[serde(default)]
    continue_on_conflict: bool,
    max_update: Option<k8s_openapi::apimachinery::pkg::util::intstr::IntOrString>,
    #[serde(default)]
    stop_matching_behavior: StopMatchingBehavior,
    #[serde(default)]
    drift_exclusions: Vec<DriftExclusion>,
    #[serde(default)]
    depends_on: Vec<String>,
    #[serde(default)]
    template_resource_refs: Vec<ResourceRef>,
}

/// An object of the management cluster that templates see.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ResourceRef {
    resource: ObjectReference,
    identifier: String,
    #[serde(default)]
    optional: bool,
    /// Nothing is done anew unless what is rendered is another.
    #[serde(default)]
    ignore_status_changes: bool,
    #[serde(default)]
    watch_fields: Vec<String>,
}

/// The names of the common fields.
const COMMON: [&str; 10] = [
    "continueOnConflict",
    "dependsOn",
    "driftExclusions",
    "helmCharts",
    "maxUpdate",
    "policyRefs",
    "stopMatchingBehavior",
    "syncMode",
    "templateResourceRefs",
    "tier",
];

/// Reads a spec: the fields that only this kind has, and the common ones.
pub(super) fn read<T: DeserializeOwned + Serialize>(
    place: &Place,
    object: &Map<String, Value>,
    own: &[&str],
    unsupported: &[Unsupported],
) -> Result<(T, Common), Vec<Problem>> {
    let Some(Value::Object(spec)) = supported(place, "/spec", object.get("spec"), unsupported)? else {
        return Err(vec![place.problem("", Fault::Invalid, "spec is missing")]);
    };
    let known = |field: &&String| own.contains(&&***field) || COMMON.contains(&&***field);
    if let Some(unknown) = spec.keys().find(|field| !known(field)) {
        let all: Vec<String> = own.iter().chain(&COMMON).map(|field| format!("`{field}`")).collect();
        let reason = format!("unknown field `{unknown}`, expected one of {}", all.join(", "));
        return Err(vec![place.problem(&join("/spec", unknown), Fault::Invalid, reason)]);
    }
    let (common, own) = spec.into_iter().partition(|(field, _)| COMMON.contains(&&**field));
    let one = |problem| vec![problem];
    let own = strict(place, "/spec", &Value::Object(own)).map_err(one)?;
    Ok((own, strict(place, "/spec", &Value::Object(common)).map_err(one)?))
}

impl Common {
    /// The policy, as ours.
    pub(super) fn policy(&self) -> PayloadPolicy {
        let default = PayloadPolicy::default();
        PayloadPolicy {
            sync_mode: self.sync_mode,
            drift_exclusions: self.drift_exclusions.clone(),
            continue_on_conflict: self.continue_on_conflict,
            tier: self.tier.unwrap_or(default.tier),
            max_update: self.max_update.clone(),
            stop_matching_behavior: self.stop_matching_behavior,
            // There, a trigger is a maker of profiles, and what it waits for are profiles.
            depends_on: self.depends_on.iter().map(|name| format!("ClusterProfile/{name}")).collect(),
            ..default
        }
    }

    /// What its templates see of the management cluster, as ours.
    pub(super) fn template_resource_refs(&self) -> Vec<TemplateResourceRef> {
        let ours = |theirs: &ResourceRef| {
            let ObjectReference { api_version, kind, namespace, name } = &theirs.resource;
            // Theirs may leave out what is of the core group.
            let api_version = if api_version.is_empty() { "v1" } else { api_version };
            let resource = ReferredResource {
                api_version: api_version.to_owned(),
                kind: kind.clone(),
                namespace: Some(namespace.clone()).filter(|it| !it.is_empty()),
                name: name.clone(),
            };
            TemplateResourceRef { identifier: theirs.identifier.clone(), resource, optional: theirs.optional }
        };
        self.template_resource_refs.iter().map(ours).collect()
    }

    /// What goes into clusters, as ours: the ConfigMaps and Secrets, and the charts.
    pub(super) fn payload(&self, place: &Place) -> Result<(Vec<PolicyRef>, Vec<HelmChart>), Vec<Problem>> {
        let (mut refs, mut problems) = (Vec::new(), Vec::new());
        for (index, value) in self.policy_refs.iter().enumerate() {
            match policy_ref(place, &format!("/spec/policyRefs/{index}"), value) {
                Ok(policy) => refs.push(policy),
                Err(more) => problems.extend(more),
            }
        }
        for (index, chart) in self.helm_charts.iter().enumerate() {
            let at = format!("/spec/helmCharts/{index}");
            for (index, from) in chart.values_from.iter().enumerate() {
                named(place, &format!("{at}/valuesFrom/{index}"), &from.namespace, &from.name, &mut problems);
            }
            let config = chart.registry_credentials_config.as_ref();
            let secrets = config.map(|config| [("credentials", &config.credentials), ("ca", &config.ca)]);
            for (field, secret) in secrets.into_iter().flatten() {
                let Some(secret) = secret else { continue };
                let pointer = format!("{at}/registryCredentialsConfig/{field}");
                named(place, &pointer, &secret.namespace, &secret.name, &mut problems);
            }
        }
        if problems.is_empty() { Ok((refs, self.helm_charts.clone())) } else { Err(problems) }
    }
}

fn policy_ref(place: &Place, pointer: &str, value: &Value) -> Result<PolicyRef, Vec<Problem>> {
    #[derive(Deserialize, Serialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    struct Reference {
        kind: String,
        #[serde(default)]
        namespace: String,
        name: String,
        #[serde(default)]
        deployment_type: DeploymentType,
        #[serde(default)]
        optional: bool,
    }
    const UNSUPPORTED: [Unsupported; 5] = [
        (
            "path",
            "it belongs to a GitRepository, OCIRepository or Bucket; put the manifests into a ConfigMap",
        ),
        ("remoteURL", "put the manifests into a ConfigMap"),
        ("tier", "set the tier of the whole"),
        ("force", "what exists and is somebody else's is left alone, unless adopt is set on a kind of ours"),
        ("skipNamespaceCreation", "a kind of ours has it for the whole"),
    ];
    let read: Reference = fields(place, pointer, Some(value), &UNSUPPORTED)?;
    let mut problems = Vec::new();
    named(place, pointer, &read.namespace, &read.name, &mut problems);
    let kind = match &*read.kind {
        "ConfigMap" => PolicyKind::ConfigMap,
        "Secret" => PolicyKind::Secret,
        other => {
            let reason = format!("{other} is not supported; put the manifests into a ConfigMap or Secret");
            problems.push(place.problem(&join(pointer, "kind"), Fault::NotSupported, reason));
            return Err(problems);
        }
    };
    let Reference { namespace, name, deployment_type, optional, .. } = read;
    match problems.is_empty() {
        true => Ok(PolicyRef { kind, namespace, name, optional, deployment_type }),
        false => Err(problems),
    }
}

/// Whether a reference names one object.
fn named(place: &Place, pointer: &str, namespace: &str, name: &str, problems: &mut Vec<Problem>) {
    let mut unsupported = |field: &str, reason: &str| {
        problems.push(place.problem(&join(pointer, field), Fault::NotSupported, reason));
    };
    if namespace.is_empty() {
        unsupported("namespace", "is empty, which to Sveltos means each cluster's own; name one namespace");
    }
    for (field, text) in [("namespace", namespace), ("name", name)] {
        if text.contains("{{") {
            unsupported(
                field,
                "is a template; name one object, and choose in its own template with {{ if }}",
            );
        }
    }
}
