//! The CustomResourceDefinitions of our kinds.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::CustomResourceExt;

use super::{AppliedWork, Cluster, ClusterProfile, EventSource, EventTrigger, RelayedEvent, Work};

/// The definitions of all our kinds, in a stable order.
pub fn crds() -> Vec<CustomResourceDefinition> {
    let written_by_users = [Cluster::crd(), ClusterProfile::crd(), EventSource::crd(), EventTrigger::crd()];
    let written_by_us = [AppliedWork::crd(), RelayedEvent::crd(), Work::crd()].map(atomic);
    written_by_us.into_iter().chain(written_by_users).map(structural).collect()
}

/// The definitions as YAML documents, ready for `kubectl apply --server-side -f -`.
///
/// # Errors
/// None in practice: the definitions are constant.
pub fn crds_yaml() -> Result<String, serde_saphyr::ser::Error> {
    let mut yaml = String::new();
    for crd in crds() {
        yaml.push_str("---\n");
        yaml.push_str(&serde_saphyr::to_string(&crd)?);
    }
    Ok(yaml)
}

/// Has the spec count as one field. It is always written as a whole, and else `managedFields` would name each field of
/// each entry, at every write.
fn atomic(mut crd: CustomResourceDefinition) -> CustomResourceDefinition {
    for version in &mut crd.spec.versions {
        let schema = version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut());
        let properties = schema.and_then(|schema| schema.properties.as_mut());
        if let Some(spec) = properties.and_then(|properties| properties.get_mut("spec")) {
            spec.x_kubernetes_map_type = Some("atomic".to_owned());
        }
    }
    crd
}

/// Makes the schemas what an API server takes without a warning. Without `nullable` a null means "not set", as with
/// Kubernetes' own kinds, and rules need not tell the two apart.
fn structural(mut crd: CustomResourceDefinition) -> CustomResourceDefinition {
    for version in &mut crd.spec.versions {
        if let Some(schema) = version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut()) {
            visit(schema);
        }
    }
    crd
}

fn visit(schema: &mut JSONSchemaProps) {
    schema.nullable = None;
    if schema.format.as_deref().is_some_and(|format| format.starts_with("uint")) {
        schema.format = None;
    }
    if matches!(schema.additional_properties, Some(JSONSchemaPropsOrBool::Bool(_))) {
        schema.additional_properties = None;
    }
    schema.properties.iter_mut().flat_map(|properties| properties.values_mut()).for_each(visit);
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut schema.items {
        visit(items);
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &mut schema.additional_properties {
        visit(values);
    }
}
