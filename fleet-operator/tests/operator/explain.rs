//! `explain`: why an object is in a cluster, or is not.

use std::fs;

use serde_json::Value;

use crate::process::{Home, event, eventually};

fn explain(home: &Home, object: &str, cluster: &str) -> Value {
    let output = home.cli(&["explain", object, "--cluster", cluster, "-o", "json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn text(home: &Home, object: &str, cluster: &str) -> String {
    let output = home.cli(&["explain", object, "--cluster", cluster]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn an_object_is_traced_back_to_its_event_and_forward_to_its_removal() {
    let home = Home::with("quickstart");
    let operator = home.start();
    operator.accepts(&event("login", "mgianluc"));
    let there = eventually("it is there", || {
        let told = explain(&home, "NAMESPACE/mgianluc", "civo/cluster1");
        (told["works"][0]["health"]["status"] == "Ready").then_some(told)
    });
    let work = &there["works"][0];
    assert_eq!(there["there"], true);
    assert_eq!(work["event"]["id"], "10001");
    assert_eq!(work["event"]["type"], "auth.example.com.login");
    assert_eq!(work["event"]["subject"], "mgianluc");
    assert_eq!((&work["source"], &work["trigger"]), (&"user-operation".into(), &"manage-namespace".into()));
    assert!(work["template"].as_str().unwrap().contains("ConfigMap default/namespace"), "{work}");
    assert!(work["applied"].is_string() && work["received"].is_string() && work["repaired"].is_null());
    assert!(work["positions"][0].as_str().unwrap().starts_with("operator@"), "{work}");

    // A repair is told; the object's own annotations are not believed.
    let file = home.namespace_file("cluster1", "mgianluc");
    fs::remove_file(&file).unwrap();
    eventually("the repair is told", || {
        let told = explain(&home, "namespace/mgianluc", "civo/cluster1");
        let work = &told["works"][0];
        (work["repaired"].is_string() && work["health"]["status"] == "Ready").then_some(())
    });
    let told = text(&home, "namespace/mgianluc", "civo/cluster1");
    for expected in [
        "namespace/mgianluc is in civo/cluster1.",
        "Event:     10001, type auth.example.com.login, source auth.example.com, subject mgianluc",
        "From:      EventSource user-operation, position operator@",
        "Health:    Ready",
    ] {
        assert!(told.contains(expected), "{expected} in {told}");
    }
    assert!(!told.contains("hunter2"), "{told}");

    let not_there = |cluster: &str, expected: &str| {
        let told = text(&home, "namespace/mgianluc", cluster);
        assert!(told.contains(&format!("is not in {cluster}")) && told.contains(expected), "{told}");
    };
    not_there("civo/staging1", "does not belong here: the trigger's selectors do not match");
    not_there("civo/nowhere", "there is no cluster civo/nowhere");
    assert!(
        text(&home, "namespace/kube-system", "civo/cluster1").contains("no Work of any trigger names it")
    );

    operator.accepts(&event("logout", "mgianluc"));
    eventually("it is gone", || (!file.exists()).then_some(()));
    let removed = || {
        let told = text(&home, "namespace/mgianluc", "civo/cluster1");
        // An HTTP source brings nothing older, so the key is forgotten at once.
        told.contains("no Work of any trigger names it").then_some(())
    };
    eventually("the removal is told", removed);
    assert!(operator.stop().success());
    assert!(removed().is_some(), "also while none runs");
}

#[test]
fn what_keeps_an_object_away_is_told() {
    let home = Home::with("quickstart");
    let theirs = home.namespace_file("cluster1", "mgianluc");
    fs::create_dir_all(theirs.parent().unwrap()).unwrap();
    fs::write(&theirs, "apiVersion: v1\nkind: Namespace\nmetadata: {name: mgianluc}\n").unwrap();
    let operator = home.start();
    operator.accepts(&event("login", "mgianluc"));
    eventually("the conflict is told", || {
        text(&home, "namespace/mgianluc", "civo/cluster1")
            .contains("wants it, and it belongs to")
            .then_some(())
    });
    assert_eq!(explain(&home, "namespace/mgianluc", "civo/cluster1")["there"], false);

    home.edit("event-trigger.yaml", "{{ event.subject }}", "{{ event.nothing }}");
    eventually("the edit is seen", || {
        text(&home, "namespace/mgianluc", "civo/cluster2").contains("is not done here: Stalled").then_some(())
    });
    operator.accepts(&event("login", "bob"));
    eventually("a broken template is told", || {
        let told = text(&home, "namespace/bob", "civo/cluster1");
        (told.contains("is stalled here, and might make it: TemplateError") && told.contains("subject bob"))
            .then_some(())
    });
    for wrong in ["mgianluc", "namespace/"] {
        let output = home.cli(&["explain", wrong, "--cluster", "civo/cluster1"]);
        assert_eq!(output.status.code(), Some(2), "{wrong}");
    }
}
