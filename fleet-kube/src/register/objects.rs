//! The objects that a registered cluster consists of.

use std::collections::BTreeMap;

use fleet_core::cluster::{ClusterId, Labels};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use crate::definitions::Family;

/// The key of the kubeconfig in its Secret.
pub const KUBECONFIG_KEY: &str = "kubeconfig";
pub use fleet_core::cluster::LEAVE_ANNOTATION;
/// Tells a Secret that registering made from one that somebody else made under the same name.
pub const REGISTERED_ANNOTATION: &str = "fleet-events.dev/registered-cluster";

/// The name of a cluster's Secret.
pub fn secret_name(id: &ClusterId) -> String {
    format!("{}-kubeconfig", id.name())
}

/// Namespace, Secret (if there is a kubeconfig) and Cluster, in the order in which they are written.
pub(super) fn build(id: &ClusterId, labels: &Labels, kubeconfig: Option<&SecretString>) -> Vec<Value> {
    let mut objects = vec![json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": id.namespace()},
    })];
    let spec = match kubeconfig {
        None => json!({"inCluster": {}}),
        Some(kubeconfig) => {
            objects.push(json!({
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {
                    "name": secret_name(id),
                    "namespace": id.namespace(),
                    "annotations": BTreeMap::from([(REGISTERED_ANNOTATION, id.name())]),
                },
                "type": "Opaque",
                "stringData": {(KUBECONFIG_KEY): kubeconfig.expose_secret()},
            }));
            json!({"kubeconfigSecretRef": {"name": secret_name(id)}})
        }
    };
    objects.push(json!({
        "apiVersion": "fleet-events.dev/v1alpha1",
        "kind": "Cluster",
        "metadata": {"name": id.name(), "namespace": id.namespace(), "labels": labels},
        "spec": spec,
    }));
    objects
}

/// Namespace and Cluster of one that an agent drives; in place of the Cluster a SveltosCluster, if definitions are Sveltos'.
pub(super) fn build_agent(id: &ClusterId, labels: &Labels, family: Family) -> [Value; 2] {
    let (api_version, kind, spec) = match family {
        Family::Fleet => ("fleet-events.dev/v1alpha1", "Cluster", json!({"agent": {}})),
        Family::Sveltos => ("lib.projectsveltos.io/v1beta1", "SveltosCluster", json!({"pullMode": true})),
    };
    [
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": id.namespace()}}),
        json!({
            "apiVersion": api_version,
            "kind": kind,
            "metadata": {"name": id.name(), "namespace": id.namespace(), "labels": labels},
            "spec": spec,
        }),
    ]
}

pub(super) fn cluster_path(id: &ClusterId) -> String {
    format!("/apis/fleet-events.dev/v1alpha1/namespaces/{}/clusters/{}", id.namespace(), id.name())
}

pub(super) fn secret_path(id: &ClusterId) -> String {
    format!("/api/v1/namespaces/{}/secrets/{}", id.namespace(), secret_name(id))
}

/// What errors call a cluster's Secret.
pub(super) fn secret_title(id: &ClusterId) -> String {
    format!("Secret {}/{}", id.namespace(), secret_name(id))
}

/// Where an object that [`build`] or [`super::service_account`] made is served.
pub(super) fn path(object: &Value) -> String {
    let text = |pointer| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let (api_version, name, namespace) =
        (text("/apiVersion"), text("/metadata/name"), text("/metadata/namespace"));
    let base = if api_version == "v1" { "/api/v1".to_owned() } else { format!("/apis/{api_version}") };
    let plural = format!("{}s", text("/kind").to_lowercase());
    if namespace.is_empty() {
        format!("{base}/{plural}/{name}")
    } else {
        format!("{base}/namespaces/{namespace}/{plural}/{name}")
    }
}

/// What errors call an object.
pub(super) fn title(object: &Value) -> String {
    let text = |pointer| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    match text("/metadata/namespace") {
        "" => format!("{} {}", text("/kind"), text("/metadata/name")),
        namespace => format!("{} {namespace}/{}", text("/kind"), text("/metadata/name")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_is_a_namespace_a_secret_and_a_cluster() {
        let id = ClusterId::new("civo", "cluster1").unwrap();
        let labels = Labels::from([("env".to_owned(), "production".to_owned())]);
        let objects = build(&id, &labels, Some(&SecretString::from("text".to_owned())));
        let paths: Vec<String> = objects.iter().map(path).collect();
        assert_eq!(paths, ["/api/v1/namespaces/civo", &secret_path(&id), &cluster_path(&id)]);
        assert_eq!(objects[1]["stringData"], json!({"kubeconfig": "text"}));
        assert_eq!(objects[2]["spec"], json!({"kubeconfigSecretRef": {"name": "cluster1-kubeconfig"}}));
        assert_eq!(objects[2]["metadata"]["labels"], json!({"env": "production"}));

        let objects = build(&id, &labels, None);
        assert_eq!(objects.len(), 2);
        assert_eq!(objects[1]["spec"], json!({"inCluster": {}}));
    }
}
