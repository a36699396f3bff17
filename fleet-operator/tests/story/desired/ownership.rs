//! Who has an object that more than one wants.

use serde_json::{Value, json};

use super::{CONFIG_MAPS, Fleet, MARK, config_map, mark, path, uid};
use crate::process::event;
use crate::stage::cluster;

const ACCOUNTS: &str = "/api/v1/namespaces/default/serviceaccounts";

fn managers(object: &Value) -> Vec<&str> {
    let entries = object["metadata"]["managedFields"].as_array().unwrap();
    entries.iter().map(|entry| entry["manager"].as_str().unwrap()).collect()
}

#[test]
fn a_conflict_is_told_and_holds_up_the_rest_unless_told_otherwise() {
    let fleet = Fleet::new(1);
    // Service accounts go before ConfigMaps.
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": {"namespace": "default", "name": "conflict", "labels": {"team": "a"}}});
    let theirs = cluster(1).post(&format!("{ACCOUNTS}?fieldManager=helm"), &account);
    fleet.trigger("conflict", json!({}));
    fleet.template("conflict", &[config_map("conflict-rest", &json!({"v": "ours"})), account]);
    let operator = fleet.start();
    operator.accepts(&event("login", "alice"));
    let rows = fleet.is("conflict", "Stalled");
    let blocked = rows.iter().find(|row| row["name"] == "conflict").unwrap();
    assert_eq!(blocked["blockedBy"], "helm");
    let message = blocked["message"].to_string();
    assert!(message.contains("Conflict") && message.contains("helm"), "{message}");
    assert_eq!(cluster(1).get(&path("conflict-rest")), None);

    fleet.trigger("conflict", json!({"continueOnConflict": true}));
    fleet.holds(1, "conflict-rest", &json!({"v": "ours"}));
    fleet.is("conflict", "Stalled");
    operator.accepts(&event("logout", "alice"));
    fleet.loses(1, "conflict-rest");
    fleet.ends("conflict");
    assert_eq!(cluster(1).get(&format!("{ACCOUNTS}/conflict")), Some(theirs));
}

#[test]
fn what_is_adopted_is_given_back() {
    let fleet = Fleet::new(1);
    let mut theirs = config_map("adopted", &json!({"shared": "theirs", "theirs": "1"}));
    theirs["metadata"]["labels"] = json!({"app": "theirs"});
    let theirs = cluster(1).post(&format!("{CONFIG_MAPS}?fieldManager=helm"), &theirs);
    fleet.trigger("adopting", json!({"adopt": true}));
    fleet.template("adopting", &[config_map("adopted", &json!({"shared": "ours", "ours": "1"}))]);
    let operator = fleet.start();
    operator.accepts(&event("login", "alice"));
    let values = json!({"shared": "ours", "theirs": "1", "ours": "1"});
    let taken = fleet.holds(1, "adopted", &values);
    assert_eq!(uid(&taken), uid(&theirs));
    assert!(mark(&taken).is_some() && managers(&taken).contains(&"fleet"), "{taken:#}");
    let rows = fleet.is("adopting", "Applied");
    assert_eq!(rows[0]["adopted"], true, "{rows:#?}");

    operator.accepts(&event("logout", "alice"));
    let back = fleet.has(1, &path("adopted"), |object| mark(object).is_none());
    fleet.ends("adopting");
    assert_eq!((uid(&back), &back["data"]), (uid(&theirs), &values));
    assert_eq!(back["metadata"]["labels"], json!({"app": "theirs"}));
    assert!(!managers(&back).contains(&"fleet"), "{back:#}");
    assert_eq!(cluster(1).get(&path("adopted")), Some(back));
}

#[test]
fn the_lower_tier_wins_and_a_handover_deletes_nothing() {
    let fleet = Fleet::new(1);
    for (trigger, tier) in [("tier-first", 100), ("tier-second", 50)] {
        fleet.trigger(trigger, json!({"tier": tier, "filters": [{"exact": {"subject": trigger}}]}));
        fleet.template(trigger, &[config_map("tier-shared", &json!({"by": "{{ event.subject }}"}))]);
    }
    let operator = fleet.start();
    operator.accepts(&event("login", "tier-first"));
    let first = fleet.holds(1, "tier-shared", &json!({"by": "tier-first"}));
    fleet.is("tier-first", "Applied");

    operator.accepts(&event("login", "tier-second"));
    let second = fleet.holds(1, "tier-shared", &json!({"by": "tier-second"}));
    assert_eq!(uid(&second), uid(&first));
    assert!(mark(&second).is_some() && mark(&second) != mark(&first), "{second:#}");
    let rows = fleet.is("tier-first", "Stalled");
    let message = rows[0]["message"].to_string();
    assert!(message.contains("EventTrigger tier-second (tier 50)"), "{message}");
    assert!(rows[0]["blockedBy"].to_string().contains("EventTrigger tier-second"), "{rows:#?}");
    fleet.is("tier-second", "Applied");

    operator.accepts(&event("logout", "tier-second"));
    let again = fleet.holds(1, "tier-shared", &json!({"by": "tier-first"}));
    assert_eq!((uid(&again), &again["metadata"]["labels"][MARK]), (uid(&first), &json!(mark(&first))));
    fleet.is("tier-first", "Applied");
    fleet.ends("tier-second");
    operator.accepts(&event("logout", "tier-first"));
    fleet.loses(1, "tier-shared");
}
