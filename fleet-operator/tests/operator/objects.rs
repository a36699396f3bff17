//! Objects of real clusters as events, with the program and the commands that users type.

use local_fleet::Cluster;
use serde_json::{Value, json};

use crate::process::eventually;
use crate::rig::Rig;

/// One production cluster, and a trigger that notes each ConfigMap there with the label `noted`, in the namespace `default`.
fn start() -> Rig {
    let rig = Rig::new(false, 1);
    rig.home.write("cluster.yaml", &cluster(&rig, "production").to_string());
    rig
}

fn cluster(rig: &Rig, env: &str) -> Value {
    let name = rig.lab.clusters()[0].name();
    json!({"apiVersion": "fleet-events.dev/v1alpha1", "kind": "Cluster",
        "metadata": {"namespace": "civo", "name": name, "labels": {"env": env}},
        "spec": {"kubeconfigFile": format!("{name}.kubeconfig")}})
}

fn define_ours(rig: &Rig) {
    let source = json!({"apiVersion": "fleet-events.dev/v1alpha1", "kind": "EventSource",
        "metadata": {"name": "maps"},
        "spec": {"kubernetes": {"resourceSelectors": [{"version": "v1", "kind": "ConfigMap",
            "selector": {"matchExpressions": [{"key": "noted", "operator": "Exists"}]},
            "evaluateCEL": [{"name": "large", "rule": "resource.data.size != 'small'"}]}]}}});
    rig.home.write("source.yaml", &source.to_string());
    define_trigger(
        rig,
        "fleet-events.dev/v1alpha1",
        "fleet-events.dev/template",
        "note-{{ resource.metadata.name }}",
    );
}

fn define_trigger(rig: &Rig, version: &str, annotation: &str, name: &str) {
    let trigger = json!({"apiVersion": version, "kind": "EventTrigger", "metadata": {"name": "notes"},
        "spec": {"eventSourceName": "maps", "oneForEvent": true,
            "sourceClusterSelector": {"matchLabels": {"env": "production"}},
            "policyRefs": [{"kind": "ConfigMap", "namespace": "default", "name": "note"}]}});
    let note = format!("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  namespace: default\n  name: {name}\n");
    let template = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": "default",
        "name": "note", "annotations": {(annotation): "true"}}, "data": {"note.yaml": note}});
    rig.home.write("trigger.yaml", &trigger.to_string());
    rig.home.write("template.yaml", &template.to_string());
}

fn put(rig: &Rig, cluster: &Cluster, name: &str, labels: Value, size: &str) {
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": "default", "name": name,
        "labels": labels}, "data": {"size": size}});
    rig.kubectl_ok(&rig.kubeconfig(cluster), &["apply", "-f", "-"], &object.to_string());
}

fn notes(rig: &Rig) -> Vec<String> {
    rig.notes_in(&rig.lab.clusters()[0]).into_keys().collect()
}

fn until_notes(rig: &Rig, expected: &[&str]) {
    eventually(&format!("{expected:?} are there\n{}", rig.home.log()), || {
        (notes(rig) == expected).then_some(())
    });
}

#[test]
fn objects_of_a_cluster_come_and_go_as_events_also_while_nobody_looks() {
    let rig = start();
    let managed = &rig.lab.clusters()[0];
    let noted = || json!({"noted": "yes"});
    define_ours(&rig);
    put(&rig, managed, "one", noted(), "large");
    put(&rig, managed, "small", noted(), "small");
    put(&rig, managed, "other", json!({}), "large");
    let operator = rig.home.start();
    until_notes(&rig, &["note-one"]);
    put(&rig, managed, "small", noted(), "large");
    until_notes(&rig, &["note-one", "note-small"]);
    let told = rig.home.show("sources");
    assert_eq!(told[0]["transport"], "kubernetes", "{told:?}");
    let said = told[0]["message"].as_str().unwrap();
    assert!(said.contains("watching ConfigMap (v1)"), "{said}");
    operator.kill();

    rig.kubectl_ok(&rig.kubeconfig(managed), &["delete", "configmap", "one", "-n", "default"], "");
    put(&rig, managed, "small", noted(), "small");
    put(&rig, managed, "two", noted(), "large");
    let _operator = rig.home.start();
    until_notes(&rig, &["note-two"]);

    // Where no trigger looks any more, nothing is left.
    rig.home.write("cluster.yaml", &cluster(&rig, "staging").to_string());
    until_notes(&rig, &[]);
}

/// Sveltos' manifests, as they are.
#[test]
fn resource_selectors_of_sveltos_work_as_they_are() {
    let rig = start();
    let managed = &rig.lab.clusters()[0];
    let source = json!({"apiVersion": "lib.projectsveltos.io/v1beta1", "kind": "EventSource", "metadata": {"name": "maps"},
        "spec": {"collectResources": true, "resourceSelectors": [{"group": "", "version": "v1", "kind": "ConfigMap",
            "labelFilters": [{"key": "noted", "operation": "Has"}]}]}});
    rig.home.write("source.yaml", &source.to_string());
    define_trigger(
        &rig,
        "lib.projectsveltos.io/v1beta1",
        "projectsveltos.io/instantiate",
        "{{ .MatchingResource.name }}-{{ .Resource.data.size }}",
    );
    put(&rig, managed, "one", json!({"noted": ""}), "large");
    let _operator = rig.home.start();
    until_notes(&rig, &["one-large"]);
    put(&rig, managed, "one", json!({"noted": ""}), "small");
    until_notes(&rig, &["one-small"]);
    put(&rig, managed, "one", json!({}), "small");
    until_notes(&rig, &[]);
}
