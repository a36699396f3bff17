//! What is not rendered any more goes, and what is not ours stays.

use serde_json::{Value, json};

use super::{Fleet, config_map, mark, path, uid};
use crate::process::event;
use crate::stage::cluster;
use crate::wait::until;

fn namespace(name: &str) -> String {
    format!("/api/v1/namespaces/{name}")
}

/// A ConfigMap in a namespace that the set does not hold.
fn inside(namespace: &str) -> Value {
    let mut object = config_map("pruning", &json!({}));
    object["metadata"]["namespace"] = json!(namespace);
    object
}

#[test]
fn what_leaves_a_template_leaves_the_cluster() {
    let fleet = Fleet::new(1);
    fleet.trigger("pruned", json!({}));
    let (kept, old) = (json!({"a": "1", "b": "2"}), json!({"c": "3"}));
    fleet.template(
        "pruned",
        &[
            config_map("pruned-kept", &kept),
            config_map("pruned-dropped", &json!({})),
            config_map("pruned-old-name", &old),
        ],
    );
    let operator = fleet.start();
    operator.accepts(&event("login", "alice"));
    let first = fleet.holds(1, "pruned-kept", &kept);
    fleet.holds(1, "pruned-old-name", &old);
    fleet.is("pruned", "Applied");
    cluster(1).patch(&path("pruned-kept"), &json!({"metadata": {"labels": {"team": "theirs"}}}));

    fleet.template(
        "pruned",
        &[config_map("pruned-kept", &json!({"a": "1"})), config_map("pruned-new-name", &old)],
    );
    fleet.loses(1, "pruned-dropped");
    fleet.loses(1, "pruned-old-name");
    fleet.holds(1, "pruned-new-name", &old);
    let there = fleet.holds(1, "pruned-kept", &json!({"a": "1"}));
    assert_eq!(uid(&there), uid(&first));
    assert_eq!(there["metadata"]["labels"]["team"], "theirs");
    operator.accepts(&event("logout", "alice"));
    fleet.loses(1, "pruned-kept");
    fleet.loses(1, "pruned-new-name");
}

#[test]
fn a_missing_namespace_is_made_and_stays_unless_told_to_wait_for_it() {
    let fleet = Fleet::new(1);
    fleet.trigger("makes-namespace", json!({}));
    fleet.template("makes-namespace", &[inside("pruning-made")]);
    fleet.trigger("awaits-namespace", json!({"skipNamespaceCreation": true}));
    fleet.template("awaits-namespace", &[inside("pruning-awaited")]);
    let operator = fleet.start();
    operator.accepts(&event("login", "alice"));
    let object = |name: &str| format!("{}/configmaps/pruning", namespace(name));
    fleet.has(1, &object("pruning-made"), |object| mark(object).is_some());
    let made = cluster(1).get(&namespace("pruning-made")).unwrap();
    assert_eq!(mark(&made), None);

    let waiting = fleet.is("awaits-namespace", "Waiting");
    let message = waiting[0]["message"].to_string();
    assert!(message.contains("pruning-awaited") && message.contains("does not exist"), "{message}");
    assert_eq!(cluster(1).get(&namespace("pruning-awaited")), None);
    let by_hand = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "pruning-awaited"}});
    cluster(1).post("/api/v1/namespaces", &by_hand);
    fleet.has(1, &object("pruning-awaited"), |object| mark(object).is_some());
    fleet.is("awaits-namespace", "Applied");

    operator.accepts(&event("logout", "alice"));
    for (trigger, name) in [("makes-namespace", "pruning-made"), ("awaits-namespace", "pruning-awaited")] {
        until(&format!("{name} is empty"), || match cluster(1).get(&object(name)) {
            None => Ok(()),
            Some(object) => Err(format!("{object:#}\n{}", fleet.home.log())),
        });
        fleet.ends(trigger);
        let there = cluster(1).get(&namespace(name)).unwrap();
        assert_eq!(there["status"]["phase"], "Active");
    }
    assert_eq!(uid(&cluster(1).get(&namespace("pruning-made")).unwrap()), uid(&made));
}
