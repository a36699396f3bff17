//! Another rendering is brought to one cluster at a time, and stops where it fails.

use std::thread::sleep;
use std::time::Duration;

use serde_json::json;

use super::{Fleet, config_map, path};
use crate::process::event;
use crate::stage::cluster;
use crate::wait::until;

#[test]
fn a_bad_edit_stops_at_the_first_cluster_and_a_better_one_goes_on() {
    let fleet = Fleet::new(2);
    fleet.trigger("rollout", json!({"maxUpdate": 1}));
    fleet.template("rollout", &[config_map("rollout", &json!({"v": "one"}))]);
    let operator = fleet.start();
    operator.accepts(&event("login", "alice"));
    let first = [1, 2].map(|number| fleet.holds(number, "rollout", &json!({"v": "one"})));
    fleet.is("rollout", "Applied");
    let says = |reason: &str| {
        until(&format!("the trigger says {reason}"), || {
            let rows = fleet.home.show("triggers");
            let row = rows.iter().find(|row| row["reason"] == reason).map(|row| row["message"].to_string());
            row.ok_or_else(|| format!("{rows:#?}\n{}", fleet.home.log()))
        })
    };

    // The API server refuses such a key.
    fleet.template("rollout", &[config_map("rollout", &json!({"v": "two", "no key": "two"}))]);
    let message = says("RolloutStopped");
    assert!(message.contains("at 0/2 clusters because of civo/cluster1: Rejected"), "{message}");
    sleep(Duration::from_secs(1));
    assert_eq!([1, 2].map(|number| cluster(number).get(&path("rollout")).unwrap()), first);
    let rows = fleet.rows("rollout");
    let state = |cluster: &str| {
        let row = rows.iter().find(|row| row["cluster"] == cluster);
        row.and_then(|row| row["state"].as_str()).unwrap_or_default()
    };
    assert_eq!([state("civo/cluster1"), state("civo/cluster2")], ["Stalled", "Applied"], "{rows:#?}");

    fleet.template("rollout", &[config_map("rollout", &json!({"v": "three"}))]);
    for number in [1, 2] {
        fleet.holds(number, "rollout", &json!({"v": "three"}));
    }
    says("Ready");
    fleet.is("rollout", "Applied");
    operator.accepts(&event("logout", "alice"));
    fleet.loses(1, "rollout");
    fleet.loses(2, "rollout");
}
