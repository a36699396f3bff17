//! Fields that others may change.

use serde_json::json;

use super::{Fleet, config_map, path};
use crate::process::event;
use crate::stage::cluster;

#[test]
fn an_excluded_field_is_left_to_others_and_the_rest_is_won_back() {
    let fleet = Fleet::new(1);
    let exclusion =
        json!({"paths": ["/data/free"], "target": {"kind": "ConfigMap", "name": "excluding-free"}});
    fleet.trigger(
        "excluding",
        json!({"syncMode": "ContinuousWithDriftDetection", "driftExclusions": [exclusion]}),
    );
    let render = |value: &str| {
        let objects = ["excluding-free", "excluding-other"]
            .map(|name| config_map(name, &json!({"free": value, "kept": value})));
        fleet.template("excluding", &objects);
    };
    render("one");
    let operator = fleet.start();
    operator.accepts(&event("login", "alice"));
    for name in ["excluding-free", "excluding-other"] {
        fleet.holds(1, name, &json!({"free": "one", "kept": "one"}));
    }
    fleet.is("excluding", "Applied");

    // Of one that is excluded, one that is not, and the same field where it is not.
    cluster(1).patch(&path("excluding-free"), &json!({"data": {"free": "theirs"}}));
    cluster(1).patch(&path("excluding-free"), &json!({"data": {"kept": "theirs"}}));
    cluster(1).patch(&path("excluding-other"), &json!({"data": {"free": "theirs"}}));
    fleet.holds(1, "excluding-other", &json!({"free": "one", "kept": "one"}));
    fleet.holds(1, "excluding-free", &json!({"free": "theirs", "kept": "one"}));
    // Nor does an edit of the template take it back.
    render("two");
    fleet.holds(1, "excluding-other", &json!({"free": "two", "kept": "two"}));
    fleet.holds(1, "excluding-free", &json!({"free": "theirs", "kept": "two"}));
    operator.accepts(&event("logout", "alice"));
    fleet.loses(1, "excluding-free");
    fleet.loses(1, "excluding-other");
}
