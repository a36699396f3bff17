//! What must not go, though it should.

use serde_json::json;

use super::{Fleet, mark, uid};
use crate::process::event;
use crate::stage::cluster;

#[test]
fn a_protected_namespace_is_never_deleted() {
    let fleet = Fleet::new(1);
    fleet.trigger("protecting", json!({}));
    let namespace = |name: &str| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    fleet.template("protecting", &[namespace("protected-vault"), namespace("protected-not")]);
    let operator = fleet.start_with(&["--protect-namespace", "protected-vault"]);
    operator.accepts(&event("login", "alice"));
    let path = "/api/v1/namespaces/protected-vault";
    let made = fleet.has(1, path, |object| mark(object).is_some());
    fleet.is("protecting", "Applied");

    operator.accepts(&event("logout", "alice"));
    cluster(1).loses("protected-not", || fleet.home.log());
    let rows = fleet.shows("protecting", |rows| rows.len() == 1 && rows[0]["state"] == "Stalled");
    assert_eq!(rows[0]["name"], "protected-vault");
    let message = rows[0]["message"].to_string();
    assert!(message.contains("protected") && message.contains("never deleted"), "{message}");
    let there = cluster(1).get(path).unwrap();
    assert_eq!((uid(&there), &there["status"]["phase"]), (uid(&made), &json!("Active")));
}
