//! When what was rendered is applied again, and what a dry run tells.

use std::thread::sleep;
use std::time::Duration;

use serde_json::{Value, json};

use super::{CONFIG_MAPS, Fleet, config_map, path, version};
use crate::process::event;
use crate::stage::cluster;

#[test]
fn one_time_is_once_for_each_event() {
    let fleet = Fleet::new(1);
    fleet.trigger("once", json!({"syncMode": "OneTime"}));
    // What follows the same edits shows that they were read.
    fleet.trigger("beside-once", json!({"syncMode": "Continuous"}));
    let render = |value: &str| {
        for name in ["once", "beside-once"] {
            let object = format!("{name}-{{{{ event.subject }}}}");
            fleet.template(name, &[config_map(&object, &json!({"v": value}))]);
        }
    };
    render("one");
    let operator = fleet.start();
    operator.accepts(&event("login", "alice"));
    let first = fleet.holds(1, "once-alice", &json!({"v": "one"}));
    fleet.is("once", "Applied");
    render("two");
    fleet.holds(1, "beside-once-alice", &json!({"v": "two"}));
    sleep(Duration::from_secs(1));
    assert_eq!(cluster(1).get(&path("once-alice")), Some(first), "an edit changes nothing");

    let theirs = json!({"v": "theirs", "w": "theirs"});
    let edited = cluster(1).patch(&path("once-alice"), &json!({"data": theirs}));
    // Nor does a start.
    operator.kill();
    let operator = fleet.start();
    operator.accepts(&event("login", "bob"));
    fleet.holds(1, "once-bob", &json!({"v": "two"}));
    sleep(Duration::from_secs(1));
    assert_eq!(cluster(1).get(&path("once-alice")), Some(edited), "what somebody did stays");

    operator.accepts(&event("login", "alice"));
    fleet.holds(1, "once-alice", &json!({"v": "two", "w": "theirs"}));
    operator.accepts(&event("logout", "alice"));
    fleet.loses(1, "once-alice");
    assert!(cluster(1).get(&path("once-bob")).is_some());
}

/// What would become of an object by what is shown.
fn would<'a>(rows: &'a [Value], name: &str) -> &'a Value {
    rows.iter().find(|row| row["name"] == name).map_or(&Value::Null, |row| &row["would"])
}

#[test]
fn a_dry_run_tells_what_would_happen_and_writes_nothing() {
    let fleet = Fleet::new(1);
    fleet.trigger("dry", json!({}));
    fleet.template("dry", &[config_map("dry-kept", &json!({"v": "one"})), config_map("dry-old", &json!({}))]);
    let operator = fleet.start();
    operator.accepts(&event("login", "alice"));
    let kept = fleet.holds(1, "dry-kept", &json!({"v": "one"}));
    fleet.is("dry", "Applied");
    let old = cluster(1).get(&path("dry-old")).unwrap();

    fleet.trigger("dry", json!({"syncMode": "DryRun"}));
    fleet.is("dry", "Previewed");
    fleet.template("dry", &[config_map("dry-kept", &json!({"v": "two"})), config_map("dry-new", &json!({}))]);
    let rows = fleet.shows("dry", |rows| would(rows, "dry-kept")["change"] == "Update");
    let diff = would(&rows, "dry-kept")["diff"].as_str().unwrap();
    assert!(diff.contains("-  v: one\n") && diff.contains("+  v: two\n"), "{diff}");
    assert_eq!(would(&rows, "dry-new"), &json!({"change": "Create"}));
    assert_eq!(would(&rows, "dry-old"), &json!({"change": "Delete"}));
    let there = |name: &str| cluster(1).get(&path(name));
    assert_eq!(
        [there("dry-kept"), there("dry-old"), there("dry-new")],
        [Some(kept), Some(old.clone()), None]
    );

    // It is told anew after somebody did something there.
    let edited = cluster(1).patch(&path("dry-kept"), &json!({"data": {"v": "theirs"}}));
    cluster(1)
        .post(&format!("{CONFIG_MAPS}?fieldManager=helm"), &config_map("dry-new", &json!({"v": "theirs"})));
    let theirs = there("dry-new");
    let is_told = |rows: &[Value]| {
        let diff = would(rows, "dry-kept")["diff"].as_str().unwrap_or_default();
        let new = rows.iter().find(|row| row["name"] == "dry-new");
        let says = new.is_some_and(|row| row["message"].to_string().contains("helm"));
        diff.contains("-  v: theirs\n") && says && would(rows, "dry-new").is_null()
    };
    fleet.shows("dry", is_told);

    fleet.remove("dry.yaml");
    let left = fleet.is("dry", "Left");
    let mut names: Vec<_> = left.iter().map(|row| row["name"].as_str().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, ["dry-kept", "dry-old"]);
    assert!(left.iter().all(|row| row["message"].to_string().contains("DryRun")), "{left:#?}");
    let kept = there("dry-kept").unwrap();
    assert_eq!(version(&kept), version(&edited));
    assert_eq!([there("dry-old"), there("dry-new")], [Some(old), theirs]);
}
