//! What a person does with what needs one: deliveries that never became Work, and Works that are stalled.

use serde_json::Value;

use crate::process::{Home, Operator, event, eventually};

const ACTION: &str = r#"'{% if event.type == "auth.example.com.logout" %}Delete{% else %}Create{% endif %}'"#;

/// The command's rows.
fn did(home: &Home, args: &[&str]) -> Vec<Value> {
    let output = home.cli(&[args, &["-o", "json"]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn text(home: &Home, args: &[&str]) -> String {
    let output = home.cli(args);
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Sends a login that the trigger refuses, because its action is neither word.
fn refused(operator: &Operator<'_>, subject: &str) {
    let (status, answer) = operator.request(
        "POST",
        "events",
        &[("Content-Type", "application/cloudevents+json")],
        event("login", subject).as_bytes(),
    );
    assert_eq!(status, 422, "{answer}");
}

#[test]
fn what_was_refused_is_shown_in_full_and_sent_again_once_the_trigger_is_mended() {
    let home = Home::with("quickstart");
    home.edit("event-trigger.yaml", ACTION, "'{{ event.type }}'");
    let operator = home.start();
    refused(&operator, "alice");
    refused(&operator, "bob");
    let letters = home.dead_letters();
    assert_eq!(letters.len(), 2);
    let id = letters[0]["id"].as_str().unwrap().to_owned();
    assert!(!text(&home, &["dead-letters", "list"]).contains("hunter2"), "a list shows nothing of the event");
    let shown = text(&home, &["dead-letters", "show", &id]);
    for expected in ["ActionInvalid", "manage-namespace", "alice", "hunter2", "operator@"] {
        assert!(shown.contains(expected), "{expected} in {shown}");
    }

    let again = did(&home, &["dead-letters", "resend", &id]);
    assert_eq!(again[0]["result"], "Refused", "{again:?}");
    assert_eq!(home.dead_letters().len(), 2, "it is kept");

    home.edit("event-trigger.yaml", "'{{ event.type }}'", ACTION);
    eventually("the trigger is mended", || {
        let again = did(&home, &["dead-letters", "resend", &id]);
        (again[0]["result"] == "Stored").then_some(())
    });
    eventually("alice is there", || home.namespace_file("cluster1", "alice").exists().then_some(()));
    operator.accepts(&event("logout", "bob"));
    let rest = did(&home, &["dead-letters", "resend", "--reason", "ActionInvalid"]);
    assert_eq!(rest.len(), 1);
    assert_eq!(rest[0]["result"], "Kept", "a logout came since, and is forgotten: {rest:?}");
    assert!(rest[0]["detail"].as_str().unwrap().contains("--as-new"), "{rest:?}");
    let rest = did(&home, &["dead-letters", "resend", "--all", "--as-new"]);
    assert_eq!(rest[0]["result"], "Stored", "{rest:?}");
    eventually("bob is there", || home.namespace_file("cluster1", "bob").exists().then_some(()));
    assert!(home.dead_letters().is_empty());

    let missing = text(&home, &["dead-letters", "resend", &id]);
    assert!(missing.contains(&format!("there is no dead letter {id}")), "{missing}");
    let nothing = text(&home, &["dead-letters", "resend"]);
    assert!(nothing.contains("--all") && nothing.contains("Usage"), "{nothing}");
}

#[test]
fn what_was_refused_is_dropped_for_good() {
    let home = Home::with("quickstart");
    home.edit("event-trigger.yaml", ACTION, "'{{ event.type }}'");
    let operator = home.start();
    refused(&operator, "alice");
    let id = home.dead_letters()[0]["id"].as_str().unwrap().to_owned();
    assert_eq!(did(&home, &["dead-letters", "drop", &id])[0]["result"], "Dropped");
    assert!(home.dead_letters().is_empty());
    assert!(text(&home, &["dead-letters", "drop", &id]).contains("there is no dead letter"));
    assert!(operator.stop().success());
    let offline = text(&home, &["dead-letters", "resend", "--all"]);
    assert!(offline.contains("no operator runs on this data folder"), "{offline}");
}

#[test]
fn a_stalled_work_is_among_them_is_tried_again_now_and_can_be_given_up() {
    let home = Home::with("quickstart");
    let operator = home.start();
    let foreign = home.namespace_file("cluster1", "alice");
    std::fs::create_dir_all(foreign.parent().unwrap()).unwrap();
    std::fs::write(&foreign, "apiVersion: v1\nkind: Namespace\nmetadata: {name: alice}\n").unwrap();
    operator.accepts(&event("login", "alice"));
    let stalled = eventually("it is listed", || home.dead_letters().pop());
    assert_eq!(
        (&stalled["kind"], &stalled["cluster"]),
        (&"Work".into(), &"civo/cluster1".into()),
        "{stalled}"
    );
    assert_eq!(stalled["reason"], "Conflict");
    let id = stalled["id"].as_str().unwrap();
    let shown = text(&home, &["dead-letters", "show", id]);
    assert!(
        shown.contains("Conflict") && shown.contains("civo/cluster1") && shown.contains("alice"),
        "{shown}"
    );

    std::fs::remove_file(&foreign).unwrap();
    assert_eq!(did(&home, &["dead-letters", "resend", id])[0]["result"], "Retried");
    eventually("it is applied", || home.dead_letters().is_empty().then_some(()));
    assert!(std::fs::read_to_string(&foreign).unwrap().contains("fleet-events.dev/work"));

    let refused = text(&home, &["dead-letters", "drop", id]);
    assert!(refused.contains("a Work that is not stalled ends by an event"), "{refused}");
    assert!(foreign.exists(), "what is not stalled stays");

    let foreign = home.namespace_file("cluster1", "bob");
    std::fs::create_dir_all(foreign.parent().unwrap()).unwrap();
    std::fs::write(&foreign, "apiVersion: v1\nkind: Namespace\nmetadata: {name: bob}\n").unwrap();
    operator.accepts(&event("login", "bob"));
    let stalled = eventually("it is listed", || home.dead_letters().pop());
    let ours = home.namespace_file("cluster2", "bob");
    eventually("the other cluster has it", || ours.exists().then_some(()));
    assert_eq!(
        did(&home, &["dead-letters", "drop", stalled["id"].as_str().unwrap()])[0]["result"],
        "Dropped"
    );
    eventually("ours is gone, and somebody else's stays", || {
        (!ours.exists() && foreign.exists()).then_some(())
    });
}
