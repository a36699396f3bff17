//! What is local: rendered for each cluster, and put into the management cluster, a real one.

use std::fs;
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::process::{PROGRAM, event, eventually};
use crate::rig::Rig;

/// A note in each cluster, and one for it in the management cluster.
fn define(rig: &Rig) {
    rig.define_notes("2s");
    let note = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  namespace: default\n  \
                name: {{ event.subject }}-{{ cluster.name }}\ndata:\n  id: '{{ event.id }}'\n";
    let template = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": "default",
        "name": "for-the-hub", "annotations": {"fleet-events.dev/template": "true"}}, "data": {"note.yaml": note}});
    rig.kubectl_ok(&rig.management(), &["apply", "-f", "-"], &template.to_string());
    let local = json!([{"op": "add", "path": "/spec/policyRefs/-", "value":
        {"kind": "ConfigMap", "namespace": "default", "name": "for-the-hub", "deploymentType": "Local"}}]);
    let patch = ["patch", "eventtrigger", "notes", "--type=json", "-p", &local.to_string()];
    rig.kubectl_ok(&rig.management(), &patch, "");
}

/// The ids of the notes in the management cluster, by name.
fn notes(rig: &Rig) -> Vec<String> {
    rig.notes_in(rig.lab.management().unwrap()).into_keys().collect()
}

fn until_notes(rig: &Rig, expected: &[&str]) {
    eventually(&format!("there are {expected:?}, not {:?}\n{}", notes(rig), rig.home.log()), || {
        (notes(rig) == expected).then_some(())
    });
}

fn until_read(rig: &Rig) {
    eventually(&format!("the stream is read\n{}", rig.home.log()), || {
        (rig.home.show("sources").first()?["ready"] == true).then_some(())
    });
}

fn cli(rig: &Rig, args: &[&str]) -> Output {
    Command::new(PROGRAM).args(args).env("KUBECONFIG", rig.management()).output().unwrap()
}

fn text(output: Output) -> String {
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn it_is_put_into_the_management_cluster_and_taken_away_with_what_it_is_for() {
    let rig = Rig::new(true, 2);
    rig.prepare();
    define(&rig);
    let management = rig.management();
    let file = rig.home.folder().join("event.json");
    fs::write(&file, event("login", "anna")).unwrap();
    let told = text(cli(&rig, &["render", "--event", file.to_str().unwrap()]));
    assert!(
        told.contains("# cluster fleet-events/management for civo/cluster1, trigger notes, Create"),
        "{told}"
    );
    assert!(told.contains("name: anna-cluster2"), "{told}");

    // Somebody else's, with a name that is wanted.
    rig.kubectl_ok(&management, &["create", "configmap", "bert-cluster1", "--from-literal=id=mine"], "");
    let run = || rig.home.run(|run| run.env("KUBECONFIG", &management).args(["--store", "kubernetes"]));
    let operator = run();
    until_read(&rig);
    rig.publish_all([("login", "anna".to_owned(), 1)]);
    until_notes(&rig, &["anna-cluster1", "anna-cluster2"]);
    for cluster in rig.lab.clusters() {
        eventually("it is in the cluster, too", || rig.notes_in(cluster).contains_key("anna").then_some(()));
    }

    // Nobody else gets the name of the management cluster: what follows goes on into that.
    let name = ["management", "--namespace", "fleet-events"];
    let kubeconfig = rig.kubeconfig(&rig.lab.clusters()[1]).display().to_string();
    let refused = cli(&rig, &[&["register", "cluster"], &name[..], &["--kubeconfig", &kubeconfig]].concat());
    let told = String::from_utf8(refused.stderr).unwrap();
    assert!(
        !refused.status.success() && told.contains("what the operator calls the management cluster"),
        "{told}"
    );
    let taken = json!({"apiVersion": "fleet-events.dev/v1alpha1", "kind": "Cluster",
        "metadata": {"namespace": "fleet-events", "name": "management", "labels": {"env": "production"}},
        "spec": {"kubeconfigSecretRef": {"name": "nowhere"}}});
    rig.kubectl_ok(&management, &["apply", "-f", "-"], &taken.to_string());
    let told = eventually(&format!("it says so\n{}", rig.home.log()), || {
        let args =
            ["get", "fcl", "management", "-n", "fleet-events", "-o", "jsonpath={.status.conditions[0]}"];
        let condition = rig.kubectl_ok(&management, &args, "");
        condition.contains("metadata.name: management in the operator's namespace").then_some(condition)
    });
    assert!(told.contains(r#""reason":"Invalid""#) && told.contains("say spec.inCluster"), "{told}");

    // Where it is, and for which cluster.
    let local = eventually(&format!("it is shown\n{}", rig.home.log()), || {
        let rows = rig.home.show("addons");
        let local: Vec<_> = rows.into_iter().filter(|row| row.get("forCluster").is_some()).collect();
        (local.len() == 2 && local.iter().all(|row| row["health"]["status"] == "Ready")).then_some(local)
    });
    assert_eq!(local[0]["cluster"], "fleet-events/management", "{local:?}");
    assert_eq!(local[0]["forCluster"], "civo/cluster1", "{local:?}");
    let table = text(rig.home.cli(&["show", "addons", "--cluster", "civo/cluster2"]));
    let header: Vec<&str> = table.lines().find(|line| line.contains("CLUSTER")).unwrap().split('|').collect();
    assert!(header.iter().any(|name| name.trim() == "FOR"), "{table}");
    assert!(table.contains("anna-cluster2") && !table.contains("anna-cluster1"), "{table}");
    let explain = ["explain", "configmap/default/anna-cluster1", "--cluster", "fleet-events/management"];
    let explained = text(rig.home.cli(&explain));
    assert!(explained.contains("cluster civo/cluster1 (deploymentType: Local)"), "{explained}");
    let columns = rig.kubectl_ok(&management, &["get", "appliedworks", "-n", "fleet-events"], "");
    assert!(columns.contains("FOR") && columns.contains("civo/cluster2"), "{columns}");
    let works = || -> Value {
        let works = rig.kubectl_ok(&management, &["get", "works", "-A", "-o", "json"], "");
        serde_json::from_str::<Value>(&works).unwrap()["items"].take()
    };
    let message = |work: &Value| work.pointer("/status/conditions/0/message").cloned().unwrap_or_default();
    eventually("the Work says where it is", || {
        (message(&works()[0]) == "applied in 2 clusters").then_some(())
    });

    // What somebody else made is left alone, and told; the rest is done.
    rig.publish_all([("login", "bert".to_owned(), 2)]);
    until_notes(&rig, &["anna-cluster1", "anna-cluster2", "bert-cluster2"]);
    let stalled = eventually("it is told", || rig.home.dead_letters().into_iter().next());
    assert_eq!(
        (&stalled["reason"], &stalled["cluster"]),
        (&"Conflict".into(), &"civo/cluster1".into()),
        "{stalled}"
    );
    let explain = ["explain", "configmap/default/bert-cluster1", "--cluster", "fleet-events/management"];
    let explained = text(rig.home.cli(&explain));
    assert!(
        explained.contains("for civo/cluster1 wants it, and it belongs to kubectl-create"),
        "{explained}"
    );
    let theirs =
        rig.kubectl_ok(&management, &["get", "configmap", "bert-cluster1", "-o", "jsonpath={.data.id}"], "");
    assert_eq!(theirs, "mine");
    rig.publish_all([("logout", "bert".to_owned(), 3)]);
    until_notes(&rig, &["anna-cluster1", "anna-cluster2"]);

    // Deleted, it goes at once: nothing was put there.
    let delete = ["delete", "fcl", "management", "-n", "fleet-events", "--timeout", "20s"];
    rig.kubectl_ok(&management, &delete, "");

    // The cluster goes, and with it what is for it.
    text(cli(&rig, &["deregister", "cluster", "cluster2", "--namespace", "civo"]));
    until_notes(&rig, &["anna-cluster1"]);
    assert!(operator.stop().success());

    // What is asked for while nobody runs.
    rig.publish_all([("login", "carl".to_owned(), 4), ("logout", "anna".to_owned(), 5)]);
    let operator = run();
    until_notes(&rig, &["carl-cluster1"]);
    // Not local any more.
    let edit = json!([{"op": "remove", "path": "/spec/policyRefs/1"}]).to_string();
    rig.kubectl_ok(&management, &["patch", "eventtrigger", "notes", "--type=json", "-p", &edit], "");
    until_notes(&rig, &[]);
    assert!(rig.notes_in(&rig.lab.clusters()[0]).contains_key("carl"));
    assert!(operator.stop().success());
}

/// Definitions in a folder have no management cluster.
#[test]
fn on_a_folder_the_trigger_says_that_there_is_no_management_cluster() {
    let home = crate::process::Home::with("quickstart");
    home.edit(
        "event-trigger.yaml",
        "      name: namespace\n---",
        "      name: namespace\n      deploymentType: Local\n---",
    );
    let operator = home.start();
    let trigger = eventually(&format!("it says so\n{}", home.log()), || {
        let row = home.show("triggers").into_iter().next()?;
        (row["reason"] == "NoManagementCluster").then_some(row)
    });
    assert!(trigger["message"].as_str().unwrap().contains("spec.inCluster"), "{trigger}");
    assert!(operator.stop().success());
}
