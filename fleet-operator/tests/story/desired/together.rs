//! One object for all keys of a cluster.

use serde_json::json;

use super::{Fleet, path, uid};
use crate::process::event;
use crate::stage::cluster;

const TEMPLATE: &str = "\
apiVersion: v1
kind: ConfigMap
metadata:
  namespace: default
  name: together
data:
  users: |
    {% for it in events %}{{ it.event.subject }},{% endfor %}
";

#[test]
fn all_users_are_in_one_object_which_goes_with_the_last() {
    let fleet = Fleet::new(1);
    fleet.trigger("together", json!({"oneForEvent": false}));
    fleet.template_text("together", TEMPLATE);
    let users = |users: &str| fleet.holds(1, "together", &json!({"users": format!("{users}\n")}));
    let operator = fleet.start();
    for user in ["carol", "alice", "bob"] {
        operator.accepts(&event("login", user));
    }
    let first = users("alice,bob,carol,");
    operator.accepts(&event("logout", "bob"));
    users("alice,carol,");
    fleet.is("together", "Applied");

    operator.kill();
    // What is there is what is remembered, not only what nobody touched.
    cluster(1).patch(&path("together"), &json!({"data": {"users": "theirs"}}));
    let operator = fleet.start();
    operator.accepts(&event("login", "dave"));
    let there = users("alice,carol,dave,");
    assert_eq!(uid(&there), uid(&first));
    for (user, rest) in [("alice", "carol,dave,"), ("dave", "carol,")] {
        operator.accepts(&event("logout", user));
        users(rest);
    }
    operator.accepts(&event("logout", "carol"));
    fleet.loses(1, "together");
    fleet.ends("together");
}
