//! The story of logins and logouts on real NATS and real Kubernetes API servers, with the commands that users type.

use std::fs;
use std::process::Command;

use serde_json::json;

use crate::process::{PROGRAM, event, eventually, example};
use crate::rig::Rig;

#[test]
fn logins_over_nats_reach_registered_clusters() {
    let rig = Rig::new(true, 2);
    rig.prepare();
    for file in ["event-source.yaml", "event-trigger.yaml"] {
        rig.apply_example(file);
    }
    let management = rig.management();
    let operator = rig.home.start_managed(&management);
    let wait = ["wait", "--for=condition=Ready", "--timeout=30s"];
    for what in ["clusters.fleet-events.dev", "eventsources", "eventtriggers"] {
        let all: &[&str] =
            if what.starts_with("clusters") { &[what, "--all", "-n", "civo"] } else { &[what, "--all"] };
        eventually(&format!("{what} become ready\n{}", rig.home.log()), || {
            rig.kubectl(&management, &[&wait[..], all].concat(), "").status.success().then_some(())
        });
    }
    let shown = rig.kubectl_ok(&management, &["get", "clusters.fleet-events.dev", "-A", "--show-labels"], "");
    assert!(shown.contains("fleet-events.dev/kubernetes-version=v1."), "{shown}");

    rig.publish("user-operation", &event("login", "mgianluc"));
    rig.arrives("mgianluc");
    let table = String::from_utf8(rig.home.cli(&["show", "addons"]).stdout).unwrap();
    assert!(table.contains("| civo/cluster1 | :Namespace    |           | mgianluc |"), "{table}");
    let before: Vec<_> =
        rig.lab.clusters().iter().map(|cluster| rig.namespace(cluster, "mgianluc").unwrap()).collect();
    rig.publish("user-operation", &event("logout", "mgianluc"));
    rig.publish("user-operation", &event("login", "mgianluc"));
    for (cluster, before) in rig.lab.clusters().iter().zip(before) {
        eventually("a namespace of a new life", || {
            rig.namespace(cluster, "mgianluc").filter(|uid| *uid != before)
        });
    }
    rig.publish("user-operation", &event("logout", "mgianluc"));
    rig.goes("mgianluc");

    rig.publish("user-operation", &event("login", "kube-system"));
    eventually("the conflict is shown", || {
        rig.home
            .show("addons")
            .iter()
            .any(|row| row["state"] == "Stalled" && row["name"] == "kube-system")
            .then_some(())
    });
    rig.publish("user-operation", &event("logout", "kube-system"));
    eventually("nothing is left of it", || rig.home.show("addons").is_empty().then_some(()));
    for cluster in rig.lab.clusters() {
        assert!(rig.namespace(cluster, "kube-system").is_some(), "a logout for kube-system deletes nothing");
    }

    // The same over a stream: what is published while no operator runs is not lost.
    let stream = json!({"spec": {"nats": {"jetStream": {"stream": "users", "create": true}}}}).to_string();
    rig.kubectl_ok(
        &management,
        &["patch", "eventsource", "user-operation", "--type=merge", "-p", &stream],
        "",
    );
    eventually(&format!("the stream is read\n{}", rig.home.log()), || {
        let row = rig.home.show("sources").remove(0);
        (row["transport"] == "jetStream" && row["ready"] == true).then_some(())
    });
    rig.publish("user-operation", &event("login", "anna"));
    rig.arrives("anna");
    operator.kill();
    rig.publish("user-operation", &event("login", "berta"));
    rig.publish("user-operation", &event("logout", "anna"));
    let operator = rig.home.start_managed(&management);
    rig.arrives("berta");
    rig.goes("anna");

    // One cluster is taken out, and then the trigger: each takes along what is there because of it, also when it was
    // deleted while no operator ran.
    let [first, second] = rig.lab.clusters() else { panic!("two clusters were asked for") };
    let done = Command::new(PROGRAM)
        .args(["deregister", "cluster", first.name(), "--namespace", "civo"])
        .env("KUBECONFIG", &management)
        .output()
        .unwrap();
    assert!(done.status.success(), "{done:?}\n{}", rig.home.log());
    assert!(rig.namespace(first, "berta").is_none(), "it waited until that was done");
    assert!(rig.namespace(second, "berta").is_some());
    assert!(operator.stop().success());
    rig.kubectl_ok(&management, &["delete", "eventtrigger", "manage-namespace", "--wait=false"], "");
    let operator = rig.home.start_managed(&management);
    rig.goes("berta");
    let gone = ["wait", "--for=delete", "eventtrigger/manage-namespace", "--timeout=60s"];
    rig.kubectl_ok(&management, &gone, "");
    assert!(operator.stop().success());
}

#[test]
fn a_folder_needs_no_management_cluster() {
    let rig = Rig::new(false, 2);
    for cluster in rig.lab.clusters() {
        let name = cluster.name();
        let object = json!({"apiVersion": "fleet-events.dev/v1alpha1", "kind": "Cluster",
            "metadata": {"namespace": "civo", "name": name, "labels": {"env": "production"}},
            "spec": {"kubeconfigFile": format!("{name}.kubeconfig")}});
        rig.home.write(&format!("{name}.yaml"), &object.to_string());
    }
    for file in ["event-source.yaml", "event-trigger.yaml"] {
        fs::copy(example("user-namespaces").join(file), rig.home.folder().join(file)).unwrap();
    }
    // NATS is down at first, and the password wrong.
    rig.runtime.block_on(rig.nats().server().stop()).unwrap();
    rig.home.write("secret.yaml", &rig.secret("wrong").to_string());
    let operator = rig.home.start();
    let source = |ready: bool| {
        eventually(&format!("the source's readiness is {ready}\n{}", rig.home.log()), || {
            Some(rig.home.show("sources").remove(0)).filter(|row| row["ready"] == ready)
        })
    };
    let down = source(false);
    rig.runtime.block_on(rig.nats().server().start()).unwrap();
    eventually("a wrong password is told", || {
        let row = rig.home.show("sources").remove(0);
        (row["ready"] == false && row["reason"] != down["reason"]).then_some(())
    });
    rig.home.write("secret.yaml", &rig.secret(&rig.login().1).to_string());
    source(true);
    eventually("the clusters are ready", || {
        rig.home.show("clusters").iter().all(|cluster| cluster["ready"] == true).then_some(())
    });
    rig.publish("user-operation", &event("login", "mgianluc"));
    rig.arrives("mgianluc");
    rig.publish("user-operation", &event("logout", "mgianluc"));
    rig.goes("mgianluc");
    let log = rig.home.log();
    assert!(!log.contains(&rig.login().1) && !log.contains("hunter2"), "{log}");
    assert!(operator.stop().success());
}
