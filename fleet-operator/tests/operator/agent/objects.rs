//! Objects of an agent's cluster as events of it.

use serde_json::{Value, json};

use super::{Fleet, set};
use crate::process::eventually;

/// A note for each ConfigMap of the first cluster that has the label `noted`.
fn define(fleet: &Fleet) {
    let note = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  namespace: default\n  \
                name: note-{{ resource.metadata.name }}\ndata:\n  id: '{{ resource.data.size }}'\n  \
                of: '{{ origin.name }}'\n";
    fleet.at_hub(&json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"namespace": "default", "name": "note",
            "annotations": {"fleet-events.dev/template": "true"}},
        "data": {"note.yaml": note}}));
    fleet.at_hub(&json!({"apiVersion": "fleet-events.dev/v1alpha1", "kind": "EventSource",
        "metadata": {"name": "maps"},
        "spec": {"kubernetes": {"collectResources": true, "resourceSelectors": [{"version": "v1", "kind": "ConfigMap",
            "selector": {"matchExpressions": [{"key": "noted", "operator": "Exists"}]},
            "evaluateCEL": [{"name": "large", "rule": "resource.data.size != 'small'"}]}]}}}));
    fleet.at_hub(&json!({"apiVersion": "fleet-events.dev/v1alpha1", "kind": "EventTrigger",
        "metadata": {"name": "notes"},
        "spec": {"eventSourceName": "maps", "oneForEvent": true,
            "sourceClusterSelector": {"matchLabels": {"name": "cluster1"}},
            "policyRefs": [{"kind": "ConfigMap", "namespace": "default", "name": "note"}]}}));
}

fn put(fleet: &Fleet, index: usize, name: &str, labels: Value, size: &str) {
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"namespace": "default", "name": name, "labels": labels}, "data": {"size": size}});
    fleet.kubectl(index, &["apply", "-f", "-"], &object.to_string());
}

/// What the agent may do with ConfigMaps in its cluster.
fn may(fleet: &Fleet, verbs: &[&str]) {
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": {"name": "payload"},
        "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": verbs}]});
    fleet.kubectl(0, &["apply", "-f", "-"], &role.to_string());
}

/// What an agent says of how its objects are read.
fn said(fleet: &Fleet) -> Option<Value> {
    fleet.homes[0].show("sources").into_iter().find(|row| row["name"] == "maps")
}

#[test]
fn objects_of_an_agents_cluster_are_events_there_also_while_it_was_down() {
    let fleet = Fleet::start();
    let noted = || json!({"noted": "yes"});
    define(&fleet);
    fleet.register(0, &[]);
    put(&fleet, 0, "one", noted(), "large");
    put(&fleet, 0, "small", noted(), "small");
    put(&fleet, 0, "other", json!({}), "large");
    put(&fleet, 1, "elsewhere", noted(), "large");
    let hub = fleet.hub("file");
    let agent = fleet.agent(0, &[]);
    fleet.until_names(0, &["note-one"]);
    let of = ["get", "configmap", "note-one", "-o", "jsonpath={.data}"];
    let data: Value = serde_json::from_str(&fleet.kubectl(0, &of, "")).unwrap();
    assert_eq!(data, json!({"id": "large", "of": "cluster1"}));
    // It starts to match by its content, another one stops to, by its labels, and a third one goes.
    put(&fleet, 0, "small", noted(), "large");
    fleet.until_names(0, &["note-one", "note-small"]);
    put(&fleet, 0, "small", json!({}), "large");
    fleet.until_names(0, &["note-one"]);
    put(&fleet, 0, "two", noted(), "large");
    fleet.until_names(0, &["note-one", "note-two"]);
    fleet.kubectl(0, &["delete", "configmap", "two", "-n", "default"], "");
    fleet.until_names(0, &["note-one"]);
    assert!(fleet.names(1).is_empty());
    // The hub reads no such object, and shows what came of them.
    fleet.until_mirrored(0, &set(&["note-one"]));
    let at_hub = fleet.rig.home.show("sources").into_iter().find(|row| row["name"] == "maps");
    assert_eq!(at_hub.unwrap()["reason"], "ReadByAgents");

    // While it is down one goes, one stops to match and one starts to.
    put(&fleet, 0, "small", noted(), "large");
    put(&fleet, 0, "stays", noted(), "large");
    fleet.until_names(0, &["note-one", "note-small", "note-stays"]);
    agent.kill();
    fleet.kubectl(0, &["delete", "configmap", "one", "-n", "default"], "");
    put(&fleet, 0, "small", noted(), "small");
    put(&fleet, 0, "two", noted(), "large");
    let agent = fleet.agent(0, &[]);
    fleet.until_names(0, &["note-stays", "note-two"]);

    // What it may not list is not gone; once it may, it sees what is.
    agent.kill();
    may(&fleet, &["get", "create", "patch", "delete"]);
    fleet.kubectl(0, &["delete", "configmap", "two", "-n", "default"], "");
    let agent = fleet.agent(0, &[]);
    eventually(&format!("it says what is missing\n{}", fleet.logs()), || {
        said(&fleet).filter(|row| row["reason"] == "Forbidden")
    });
    eventually(&format!("the hub is told\n{}", fleet.logs()), || {
        let told = fleet.seen(0)["status"]["conditions"][0]["message"].to_string();
        told.contains("EventSource maps: Forbidden").then_some(())
    });
    assert_eq!(fleet.names(0), set(&["note-stays", "note-two"]));
    may(&fleet, &["get", "list", "watch", "create", "patch", "delete"]);
    fleet.until_names(0, &["note-stays"]);

    // Where no trigger looks any more, nothing is left, unless it says so.
    let edit = |cluster: &str, behavior: &str| {
        let spec = json!({"sourceClusterSelector": {"matchLabels": {"name": cluster}},
            "stopMatchingBehavior": behavior});
        let patch = json!({"spec": spec}).to_string();
        let patch = ["patch", "eventtrigger", "notes", "--type=merge", "-p", &patch];
        fleet.rig.kubectl_ok(&fleet.rig.management(), &patch, "");
    };
    let is = |state: &str| {
        eventually(&format!("it is {state}\n{}", fleet.logs()), || {
            let addon = fleet.rig.home.show("addons").into_iter().find(|row| row["name"] == "note-stays")?;
            (addon["state"] == state).then_some(())
        });
    };
    edit("cluster2", "LeavePolicies");
    is("Left");
    assert_eq!(fleet.names(0), set(&["note-stays"]));
    edit("cluster1", "LeavePolicies");
    is("Applied");
    edit("cluster2", "WithdrawPolicies");
    fleet.until_names(0, &[]);
    assert!(agent.stop().success() && hub.stop().success());
}
