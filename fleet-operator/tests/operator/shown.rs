//! What the operator tells of what it keeps: previews, what is left, what is in the way, copies.

use std::fs;

use serde_json::Value;

use crate::process::{Home, event, eventually};

const MODE: &str = "syncMode: ContinuousWithDriftDetection";

fn rows(home: &Home, cluster: &str) -> Vec<Value> {
    let mut rows = home.show("addons");
    rows.retain(|row| row["cluster"] == format!("civo/{cluster}"));
    rows
}

/// The row of the one object in a cluster, once it is in a state.
fn row(home: &Home, cluster: &str, state: &str) -> Value {
    eventually(&format!("{state} in {cluster}: {:?}\n{}", rows(home, cluster), home.log()), || {
        let mut rows = rows(home, cluster);
        (rows.len() == 1 && rows[0]["state"] == state).then(|| rows.remove(0))
    })
}

fn table(home: &Home, what: &str) -> String {
    String::from_utf8(home.cli(&["show", what]).stdout).unwrap()
}

#[test]
fn a_dry_run_says_what_it_would_do_and_does_it_when_it_may() {
    let home = Home::with("quickstart");
    home.edit("event-trigger.yaml", MODE, "syncMode: DryRun");
    let operator = home.start();
    operator.send_example("login.json");
    let file = home.namespace_file("cluster1", "mgianluc");
    let previewed = row(&home, "cluster1", "Previewed");
    assert_eq!(previewed["would"]["change"], "Create", "{previewed}");
    assert!(table(&home, "addons").contains("would create"), "{}", table(&home, "addons"));
    assert!(!file.exists());
    let work = &home.show("triggers")[0];
    assert_eq!((&work["previewed"], &work["applied"]), (&2.into(), &0.into()), "{work}");

    home.edit("event-trigger.yaml", "syncMode: DryRun", MODE);
    row(&home, "cluster1", "Applied");
    let made = fs::read_to_string(&file).unwrap();
    // What is there stays, also after a logout, and is told.
    home.edit("event-trigger.yaml", MODE, "syncMode: DryRun");
    row(&home, "cluster1", "Previewed");
    operator.send_example("logout.json");
    eventually(&format!("it would be deleted: {:?}", rows(&home, "cluster1")), || {
        (rows(&home, "cluster1")[0]["would"]["change"] == "Delete").then_some(())
    });
    assert_eq!(fs::read_to_string(&file).unwrap(), made);
    home.edit("event-trigger.yaml", "syncMode: DryRun", MODE);
    eventually("now it is", || (!file.exists()).then_some(()));
    assert!(operator.stop().success());
}

#[test]
fn what_is_left_behind_is_listed_and_an_event_takes_it_away() {
    let home = Home::with("quickstart");
    home.edit("event-trigger.yaml", MODE, &format!("{MODE}\n  stopMatchingBehavior: LeavePolicies"));
    let operator = home.start();
    operator.send_example("login.json");
    for cluster in ["cluster1", "cluster2"] {
        row(&home, cluster, "Applied");
    }
    let clusters = fs::read_to_string(home.folder().join("clusters.yaml")).unwrap();
    home.write("clusters.yaml", &clusters.replacen("env: production", "env: staging", 1));
    let left = row(&home, "cluster1", "Left");
    assert!(left["message"].as_str().unwrap().contains("LeavePolicies"), "{left}");
    let file = home.namespace_file("cluster1", "mgianluc");
    assert!(file.exists() && table(&home, "addons").contains("Left"));
    operator.send_example("logout.json");
    eventually("an event says that it goes", || (!file.exists()).then_some(()));
    assert!(operator.stop().success());
}

#[test]
fn what_is_in_the_way_is_told_with_its_owner() {
    let home = Home::with("quickstart");
    let file = home.namespace_file("cluster1", "mgianluc");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: mgianluc\n").unwrap();
    // Another trigger wants the same namespace.
    let trigger = fs::read_to_string(home.folder().join("event-trigger.yaml")).unwrap();
    let (trigger, _) = trigger.split_once("---").unwrap();
    home.write("second.yaml", &trigger.replace("name: manage-namespace", "name: second"));
    let operator = home.start();
    operator.send_example("login.json");
    let owners = || {
        let rows = rows(&home, "cluster2");
        let blocked: Vec<_> = rows.iter().filter_map(|row| row["blockedBy"].as_str()).collect();
        (rows.len() == 2 && blocked.len() == 1).then(|| blocked[0].to_owned())
    };
    let owner = eventually(&format!("one has it: {:?}\n{}", rows(&home, "cluster2"), home.log()), owners);
    assert!(owner.starts_with("Work ") && owner.contains(" of EventTrigger "), "{owner}");
    for row in rows(&home, "cluster1") {
        assert_eq!(row["state"], "Stalled", "{row}");
        assert!(row["blockedBy"].is_string(), "{row}");
    }
    assert!(operator.stop().success());
}

#[test]
fn a_copy_is_told_counted_and_left_alone() {
    let home = Home::with("quickstart");
    let operator = home.start();
    operator.accepts(&event("login", "anna"));
    row(&home, "cluster1", "Applied");
    let made = fs::read_to_string(home.namespace_file("cluster1", "anna")).unwrap();
    let copy = home.namespace_file("cluster1", "copy");
    fs::write(&copy, made.replace("name: anna", "name: copy")).unwrap();
    let stray = eventually(&format!("it is seen\n{}", home.log()), || home.show("strays").pop());
    assert_eq!((&stray["cluster"], &stray["name"]), (&"civo/cluster1".into(), &"copy".into()), "{stray}");
    assert!(stray["message"].as_str().unwrap().contains("a copy"), "{stray}");
    assert!(table(&home, "strays").contains("copy"), "{}", table(&home, "strays"));
    assert!(operator.get("metrics").1.contains("fleet_strays 1"));
    operator.accepts(&event("logout", "anna"));
    eventually("the original goes", || (!home.namespace_file("cluster1", "anna").exists()).then_some(()));
    assert!(copy.exists());
    fs::remove_file(copy).unwrap();
    eventually("it is told no more", || home.show("strays").is_empty().then_some(()));
    assert!(operator.stop().success());
}
