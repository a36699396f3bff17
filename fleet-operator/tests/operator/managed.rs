//! What the management cluster is asked: definitions for `render`, Works for `explain`; and a cluster that is let go of
//! while nobody can reach it.

use std::fs;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::process::{PROGRAM, event, eventually, example};
use crate::rig::Rig;

/// A command as somebody gives it who has nothing but the management cluster's kubeconfig.
fn cli(rig: &Rig, args: &[&str]) -> Output {
    Command::new(PROGRAM).args(args).env("KUBECONFIG", rig.management()).output().unwrap()
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn arrives(rig: &Rig, name: &str) {
    eventually(&format!("{name} arrives\n{}", rig.home.log()), || {
        rig.notes_in(&rig.lab.clusters()[0]).contains_key(name).then_some(())
    });
}

/// Waits until the operator has made the stream, and reads it.
fn is_read(rig: &Rig) {
    eventually(&format!("the stream is read\n{}", rig.home.log()), || {
        (rig.home.show("sources").first()?["ready"] == true).then_some(())
    });
}

#[test]
fn definitions_and_works_are_read_from_the_management_cluster() {
    let rig = Rig::new(true, 1);
    rig.prepare();
    rig.define_notes("2s");
    let file = rig.home.folder().join("event.json");
    fs::write(&file, event("login", "anna")).unwrap();
    let render = ["render", "--event", file.to_str().unwrap()];
    let told = text(&cli(&rig, &render));
    assert!(told.contains("# cluster civo/cluster1, trigger notes, Create"), "{told}");
    assert!(told.contains("name: anna") && told.contains("id: \"10001\""), "{told}");
    assert!(rig.notes_in(&rig.lab.clusters()[0]).is_empty(), "nothing is written");

    let management = rig.management();
    let operator = rig.home.run(|run| run.env("KUBECONFIG", &management).args(["--store", "kubernetes"]));
    is_read(&rig);
    rig.publish_all([("login", "anna".to_owned(), 7)]);
    arrives(&rig, "anna");
    let explain =
        ["explain", "configmap/default/anna", "--cluster", "civo/cluster1", "--store", "kubernetes", "-o"];
    let explained = eventually(&format!("it is told\n{}", rig.home.log()), || {
        let told: Value =
            serde_json::from_str(&text(&cli(&rig, &[&explain[..], &["json"]].concat()))).unwrap();
        told["works"][0]["applied"].is_string().then_some(told)
    });
    let work = &explained["works"][0];
    assert_eq!((&work["event"]["id"], &work["trigger"]), (&"7".into(), &"notes".into()), "{work}");
    // The live cluster is compared too: this event would change one field.
    let differs =
        cli(&rig, &[&render[..], &["--diff", "--color", "never", "--store", "kubernetes"]].concat());
    assert_eq!(differs.status.code(), Some(1), "{}", String::from_utf8_lossy(&differs.stderr));
    let diff = String::from_utf8(differs.stdout).unwrap();
    assert!(diff.contains("-  id: \"7\"") || diff.contains("-  id: '7'"), "{diff}");
    assert!(operator.stop().success());
}

#[test]
fn definitions_may_come_by_a_pipe() {
    let manifests = ["clusters.yaml", "event-source.yaml", "event-trigger.yaml"];
    let manifests: Vec<_> =
        manifests.iter().map(|name| fs::read_to_string(example("quickstart").join(name)).unwrap()).collect();
    let file = example("quickstart").join("login.json");
    let mut child = Command::new(PROGRAM)
        .args(["render", "--event", file.to_str().unwrap(), "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), manifests.join("\n---\n").as_bytes())
        .unwrap();
    let told = text(&child.wait_with_output().unwrap());
    for cluster in ["cluster1", "cluster2"] {
        assert!(
            told.contains(&format!("# cluster civo/{cluster}, trigger manage-namespace, Create")),
            "{told}"
        );
    }
}

#[test]
fn a_cluster_nobody_can_reach_is_let_go_of_and_keeps_what_it_has() {
    let rig = Rig::new(true, 1);
    rig.prepare();
    rig.define_notes("2s");
    let operator = rig.home.start_managed(&rig.management());
    is_read(&rig);
    rig.publish_all([("login", "anna".to_owned(), 1)]);
    arrives(&rig, "anna");
    let cluster = &rig.lab.clusters()[0];
    rig.runtime.block_on(cluster.stop()).unwrap();
    text(&cli(&rig, &["deregister", "cluster", cluster.name(), "--namespace", "civo", "--leave"]));
    let gone = ["wait", "--for=delete", "clusters.fleet-events.dev/cluster1", "-n", "civo", "--timeout=30s"];
    rig.kubectl_ok(&rig.management(), &gone, "");
    eventually("nothing is known of it", || rig.home.show("addons").is_empty().then_some(()));
    rig.runtime.block_on(cluster.api_server().start()).unwrap();
    arrives(&rig, "anna");
    rig.publish_all([("logout", "anna".to_owned(), 2)]);
    eventually("the logout is taken", || {
        let (_, metrics) = operator.get("metrics");
        metrics.contains("fleet_events_received_total 2").then_some(())
    });
    assert!(rig.notes_in(cluster).contains_key("anna"), "it is nobody's from now on");
    assert!(operator.stop().success());
}
