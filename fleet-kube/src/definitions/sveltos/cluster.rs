//! Sveltos' `SveltosCluster`.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::super::cluster::{ClusterDraft, Kubeconfig};
use super::super::object::{Fault, Place, Problem};
use super::super::parse::Metadata;
use super::{Unsupported, fields};

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

/// Reads a cluster of theirs.
pub(in super::super) fn cluster(
    place: &Place,
    metadata: &Metadata,
    object: &Map<String, Value>,
) -> Result<ClusterDraft, Vec<Problem>> {
    let spec: Spec = fields(place, "/spec", object.get("spec"), &UNSUPPORTED)?;
    if spec.pull_mode {
        return ClusterDraft::of_agent(place, metadata);
    }
    let name = match (spec.kubeconfig_name, &place.id) {
        (Some(name), _) if !name.is_empty() => name,
        (_, Some(id)) => format!("{}-sveltos-kubeconfig", id.name),
        (_, None) => return Err(vec![place.problem("", Fault::Invalid, "has no name")]),
    };
    let kubeconfig = Kubeconfig {
        pointer: "/spec/kubeconfigName",
        name,
        key: spec.kubeconfig_key_name.filter(|key| !key.is_empty()),
    };
    ClusterDraft::of_kubeconfig(place, metadata, kubeconfig)
}
