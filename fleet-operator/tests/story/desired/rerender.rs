//! What a rendering reads is followed without an event, and nothing else is written.

use std::thread::sleep;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Fleet, config_map, documents, path, version};
use crate::process::event;
use crate::stage::cluster;

/// A ConfigMap or Secret whose contents are applied as they stand.
fn plain(kind: &str, value: &str) -> Value {
    let name = format!("plain-{}", kind.to_lowercase());
    let text = documents(&[config_map(&name, &json!({"v": value}))]);
    let data = if kind == "Secret" { "stringData" } else { "data" };
    json!({"apiVersion": "v1", "kind": kind, "metadata": {"namespace": "default", "name": "plain"},
        data: {"objects.yaml": text}})
}

#[test]
fn what_is_read_is_followed_without_an_event() {
    let fleet = Fleet::new(1);
    let label = |tier: &str| fleet.cluster(1, &json!({"env": "production", "tier": tier}));
    let render = |value: &str| {
        let tier = "{% if event.subject == 'alice' %}{{ cluster.labels.tier }}{% endif %}";
        let data = json!({"v": value, "tier": tier});
        fleet.template("read", &[config_map("read-{{ event.subject }}", &data)]);
    };
    label("gold");
    render("one");
    fleet.trigger("read", json!({}));
    let by_name = |kind: &str| json!({"kind": kind, "namespace": "default", "name": "plain"});
    fleet.trigger(
        "plain",
        json!({"filters": [{"exact": {"subject": "alice"}}],
            "policyRefs": [by_name("ConfigMap"), by_name("Secret")]}),
    );
    for kind in ["ConfigMap", "Secret"] {
        fleet.write(&format!("plain-{kind}.yaml"), &[plain(kind, "one")]);
    }
    let operator = fleet.start();
    for user in ["alice", "bob"] {
        operator.accepts(&event("login", user));
    }
    fleet.holds(1, "read-alice", &json!({"v": "one", "tier": "gold"}));
    fleet.holds(1, "read-bob", &json!({"v": "one", "tier": ""}));
    for name in ["plain-configmap", "plain-secret"] {
        fleet.holds(1, name, &json!({"v": "one"}));
    }

    render("two");
    fleet.holds(1, "read-alice", &json!({"v": "two", "tier": "gold"}));
    fleet.holds(1, "read-bob", &json!({"v": "two", "tier": ""}));
    for kind in ["ConfigMap", "Secret"] {
        fleet.write(&format!("plain-{kind}.yaml"), &[plain(kind, "two")]);
        fleet.holds(1, &format!("plain-{}", kind.to_lowercase()), &json!({"v": "two"}));
    }

    // Of a label only that is written which shows it.
    fleet.is("read", "Applied");
    fleet.is("plain", "Applied");
    let others = ["read-bob", "plain-configmap", "plain-secret"];
    let versions = || others.map(|name| version(&cluster(1).get(&path(name)).unwrap()).clone());
    let before = versions();
    label("silver");
    fleet.holds(1, "read-alice", &json!({"v": "two", "tier": "silver"}));
    sleep(Duration::from_secs(1));
    assert_eq!(versions(), before);
    drop(operator);
}
