//! Sveltos' `EventTrigger`.

use fleet_core::selector::LabelSelector;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::super::object::{Fault, Place, Problem};
use super::Unsupported;
use super::payload::{UNSUPPORTED, read};
use crate::api::EventTriggerSpec;

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    source_cluster_selector: LabelSelector,
    event_source_name: String,
    #[serde(default)]
    one_for_event: bool,
    cloud_event_action: Option<String>,
    destination_cluster_selector: Option<LabelSelector>,
}

/// The spec of ours.
pub(super) fn trigger(place: &Place, object: &Map<String, Value>) -> Result<EventTriggerSpec, Vec<Problem>> {
    const OF_TRIGGERS: [Unsupported; 2] = [
        ("destinationCluster", "name it by a label, in destinationClusterSelector"),
        ("profileNameFormat", "no profile is generated: what a key has is its Work"),
    ];
    let unsupported: Vec<_> = UNSUPPORTED.into_iter().chain(OF_TRIGGERS).collect();
    const OWN: [&str; 5] = [
        "cloudEventAction",
        "destinationClusterSelector",
        "eventSourceName",
        "oneForEvent",
        "sourceClusterSelector",
    ];
    let (own, common) = read::<Spec>(place, object, &OWN, &unsupported)?;
    let Spec {
        source_cluster_selector,
        event_source_name,
        one_for_event,
        cloud_event_action,
        destination_cluster_selector,
    } = own;
    if event_source_name.contains("{{") {
        let reason = "is a template, which is not supported; write a trigger for each EventSource";
        return Err(vec![place.problem("/spec/eventSourceName", Fault::NotSupported, reason)]);
    }
    let (policy_refs, helm_charts) = common.payload(place)?;
    Ok(EventTriggerSpec {
        event_source_name,
        source_cluster_selector,
        destination_cluster_selector,
        one_for_event: Some(one_for_event),
        // Where all keys are rendered together, they have it not.
        cloud_event_action: cloud_event_action.filter(|action| one_for_event && !action.is_empty()),
        key: None,
        filters: Vec::new(),
        policy_refs,
        helm_charts,
        template_resource_refs: common.template_resource_refs(),
        ttl: None,
        policy: common.policy(),
        service_account_name: None,
        service_account_namespace: None,
    })
}
