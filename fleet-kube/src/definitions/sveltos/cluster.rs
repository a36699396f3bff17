//! Sveltos' `SveltosCluster`.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::super::object::{Fault, Place, Problem, join};
use super::{Unsupported, fields};
use crate::api::{AgentSpec, ClusterSpec, RESOLVE_ANNOTATION, SecretKeyRef};

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Spec {
    kubeconfig_name: Option<String>,
    kubeconfig_key_name: Option<String>,
    #[serde(default)]
    pull_mode: bool,
    // How often it is looked at, and what it is for besides, is not ours to know.
    #[serde(default)]
    consecutive_failure_threshold: Option<Value>,
    #[serde(default)]
    data: Option<Value>,
}

const UNSUPPORTED: [Unsupported; 6] = [
    ("paused", "take the cluster out of what selects it, by its labels"),
    (
        "tokenRequestRenewalOption",
        "register the cluster with `fleet-operator register cluster`, whose token is renewed",
    ),
    ("activeWindow", "clusters are always active"),
    ("readinessChecks", "a cluster is ready when its API server answers"),
    ("livenessChecks", "a cluster is ready when its API server answers"),
    ("workloadIdentity", "put a kubeconfig into a Secret"),
];

/// The spec of ours. What a SveltosCluster has no field for stands in an annotation, which ours does not need any more.
pub(super) fn cluster(
    place: &Place,
    object: &Map<String, Value>,
    metadata: &mut Map<String, Value>,
) -> Result<ClusterSpec, Vec<Problem>> {
    let spec: Spec = fields(place, "/spec", object.get("spec"), &UNSUPPORTED)?;
    let resolve = resolve(metadata);
    if spec.pull_mode {
        return Ok(ClusterSpec { agent: Some(AgentSpec {}), resolve, ..ClusterSpec::default() });
    }
    let given = |text: Option<String>| text.filter(|text| !text.is_empty());
    let name = match (given(spec.kubeconfig_name), &place.id) {
        (Some(name), _) => name,
        (None, Some(id)) => format!("{}-sveltos-kubeconfig", id.name),
        (None, None) => return Err(vec![place.problem("", Fault::Invalid, "has no name")]),
    };
    let kubeconfig = SecretKeyRef { name, key: given(spec.kubeconfig_key_name) };
    Ok(ClusterSpec { kubeconfig_secret_ref: Some(kubeconfig), resolve, ..ClusterSpec::default() })
}

/// Takes the mappings out of the annotation.
fn resolve(metadata: &mut Map<String, Value>) -> Vec<String> {
    let Some(Value::Object(annotations)) = metadata.get_mut("annotations") else { return Vec::new() };
    let mapped = annotations.remove(RESOLVE_ANNOTATION);
    if annotations.is_empty() {
        metadata.remove("annotations");
    }
    let mapped = mapped.as_ref().and_then(Value::as_str).unwrap_or_default();
    mapped.split([',', ' ', '\n']).filter(|text| !text.is_empty()).map(str::to_owned).collect()
}

/// How a field of ours is called in it.
pub(super) fn called_there(ours: &str) -> Cow<'_, str> {
    let stands_for =
        |field: &str| ours == field || ours.strip_prefix(field).is_some_and(|rest| rest.starts_with('/'));
    if stands_for("/spec/resolve") {
        join("/metadata/annotations", RESOLVE_ANNOTATION).into()
    } else if stands_for("/spec/agent") {
        "/spec/pullMode".into()
    } else if stands_for("/spec/kubeconfigSecretRef/key") {
        "/spec/kubeconfigKeyName".into()
    } else if stands_for("/spec/kubeconfigSecretRef") {
        "/spec/kubeconfigName".into()
    } else {
        ours.into()
    }
}
