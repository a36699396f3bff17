//! Clusters that come and go, and triggers that go.

use serde_json::{Value, json};

use super::{CONFIG_MAPS, Fleet, config_map, path, uid};
use crate::process::event;
use crate::stage::cluster;
use crate::wait::until;

const USERS: [&str; 3] = ["alice", "bob", "carol"];

fn of(trigger: &str, value: &str) -> Value {
    config_map(&format!("{trigger}-{{{{ event.subject }}}}"), &json!({"v": value}))
}

#[test]
fn a_cluster_that_stops_to_match_loses_what_is_not_to_be_left_and_one_that_matches_gets_all() {
    let fleet = Fleet::new(1);
    fleet.trigger("matching", json!({}));
    fleet.trigger("leaving", json!({"stopMatchingBehavior": "LeavePolicies"}));
    let render = |value: &str| {
        for trigger in ["matching", "leaving"] {
            fleet.template(trigger, &[of(trigger, value)]);
        }
    };
    let all_have = |number: usize, trigger: &str, value: &str| -> Vec<Value> {
        let data = json!({"v": value});
        USERS.iter().map(|user| fleet.holds(number, &format!("{trigger}-{user}"), &data)).collect()
    };
    render("one");
    let operator = fleet.start();
    for user in USERS {
        operator.accepts(&event("login", user));
    }
    let withdrawn = all_have(1, "matching", "one");
    let left = all_have(1, "leaving", "one");

    fleet.cluster(1, &json!({"env": "staging"}));
    for user in USERS {
        fleet.loses(1, &format!("matching-{user}"));
    }
    let rows = fleet.is("leaving", "Left");
    assert!(rows.iter().all(|row| row["message"].to_string().contains("LeavePolicies")), "{rows:#?}");
    render("two");
    // Read, when a cluster that joins gets it.
    fleet.cluster(2, &json!({"env": "production"}));
    for trigger in ["matching", "leaving"] {
        all_have(2, trigger, "two");
    }
    assert_eq!(all_have(1, "leaving", "one"), left);

    fleet.cluster(1, &json!({"env": "production"}));
    let again = all_have(1, "matching", "two");
    assert!(again.iter().zip(&withdrawn).all(|(again, before)| uid(again) != uid(before)));
    let kept = all_have(1, "leaving", "two");
    assert!(kept.iter().zip(&left).all(|(kept, before)| uid(kept) == uid(before)));
    // An event is an order, also for what was left.
    fleet.cluster(1, &json!({"env": "staging"}));
    fleet.shows("leaving", |rows| {
        rows.iter().any(|row| row["cluster"] == "civo/cluster1" && row["state"] == "Left")
    });
    for user in USERS {
        operator.accepts(&event("logout", user));
        fleet.loses(1, &format!("leaving-{user}"));
        fleet.loses(2, &format!("leaving-{user}"));
        fleet.loses(2, &format!("matching-{user}"));
    }
}

#[test]
fn without_its_trigger_everything_goes_and_much_at_once_has_to_be_confirmed() {
    const MANY: usize = 12;
    let fleet = Fleet::new(1);
    fleet.trigger("dropped-few", json!({"filters": [{"exact": {"subject": "user0"}}]}));
    fleet.trigger("dropped-many", json!({}));
    for trigger in ["dropped-few", "dropped-many"] {
        fleet.template(trigger, &[of(trigger, "one")]);
    }
    let operator = fleet.start();
    let users: Vec<String> = (0..MANY).map(|number| format!("user{number}")).collect();
    for user in &users {
        operator.accepts(&event("login", user));
    }
    fleet.holds(1, "dropped-few-user0", &json!({"v": "one"}));
    for user in &users {
        fleet.holds(1, &format!("dropped-many-{user}"), &json!({"v": "one"}));
    }

    fleet.remove("dropped-few.yaml");
    fleet.loses(1, "dropped-few-user0");
    fleet.ends("dropped-few");

    fleet.remove("dropped-many.yaml");
    until("it is held", || {
        let notes = fleet.home.cli(&["show", "triggers"]).stderr;
        let notes = String::from_utf8_lossy(&notes).into_owned();
        if notes.contains("12 of 12 Works would be withdrawn") { Ok(()) } else { Err(notes) }
    });
    for user in &users {
        assert!(cluster(1).get(&path(&format!("dropped-many-{user}"))).is_some(), "{user}");
    }
    let confirmed = fleet.home.cli(&["withdrawals", "confirm"]);
    assert!(confirmed.status.success(), "{}", String::from_utf8_lossy(&confirmed.stderr));
    fleet.ends("dropped-many");
    let left = cluster(1).get(CONFIG_MAPS).unwrap();
    assert!(!left.to_string().contains("\"dropped-many-"), "{left:#}");
}
