//! Sveltos' `ClusterProfile`.

use fleet_core::selector::LabelSelector;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::super::object::{Fault, Place, Problem, join};
use super::ObjectReference;
use super::payload::{UNSUPPORTED, read};
use crate::api::{ClusterProfileSpec, ClusterRef};

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    cluster_selector: Option<LabelSelector>,
    #[serde(default)]
    cluster_refs: Vec<ObjectReference>,
}

/// The spec of ours.
pub(super) fn profile(
    place: &Place,
    object: &Map<String, Value>,
) -> Result<ClusterProfileSpec, Vec<Problem>> {
    const OWN: [&str; 2] = ["clusterRefs", "clusterSelector"];
    let (own, common) = read::<Spec>(place, object, &OWN, &UNSUPPORTED)?;
    let Spec { cluster_selector, cluster_refs } = own;
    let mut problems = Vec::new();
    for (index, reference) in cluster_refs.iter().enumerate() {
        if !matches!(&*reference.kind, "" | "SveltosCluster") {
            let pointer = join("/spec/clusterRefs", &index.to_string());
            let reason =
                format!("{} is not supported; register the cluster as a SveltosCluster", reference.kind);
            problems.push(place.problem(&join(&pointer, "kind"), Fault::NotSupported, reason));
        }
    }
    let payload = common.payload(place).map_err(|more| problems.extend(more));
    let (policy_refs, helm_charts) = payload.unwrap_or_default();
    if !problems.is_empty() {
        return Err(problems);
    }
    let named = cluster_refs.into_iter().map(|it| ClusterRef { namespace: it.namespace, name: it.name });
    Ok(ClusterProfileSpec {
        // To Sveltos, one that is empty selects nothing.
        cluster_selector: cluster_selector.filter(|selector| !selector.is_everything()),
        cluster_refs: named.collect(),
        policy_refs,
        helm_charts,
        template_resource_refs: common.template_resource_refs(),
        policy: common.policy(),
        service_account_name: None,
        service_account_namespace: None,
    })
}
