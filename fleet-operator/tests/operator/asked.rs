//! What a running operator is asked: what came lately, what DryRun would do, what is used where; of some clusters or all,
//! once or again and again.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::process::{Home, PROGRAM, event, eventually};

const MODE: &str = "syncMode: ContinuousWithDriftDetection";

fn out(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    assert!(!output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// The last event that came, once it has come to this.
fn last(home: &Home, outcome: &str) -> Value {
    eventually(&format!("{outcome}: {:?}\n{}", home.show("events"), home.log()), || {
        home.show("events").pop().filter(|row| row["outcome"] == outcome)
    })
}

#[test]
fn what_came_is_told_with_what_came_of_it() {
    let home = Home::with("quickstart");
    let operator = home.start();
    assert!(home.show("events").is_empty());
    operator.accepts(&event("login", "anna"));
    let login = last(&home, "Applied");
    assert_eq!(login["event"]["type"], "auth.example.com.login", "{login}");
    assert_eq!(
        (&login["event"]["subject"], &login["eventSource"]),
        (&"anna".into(), &"user-operation".into())
    );
    let trigger = &login["triggers"][0];
    assert_eq!((&trigger["name"], &trigger["done"]), (&"manage-namespace".into(), &2.into()), "{login}");
    assert!(login["latencyMillis"].as_f64().unwrap() > 0.0, "{login}");
    let told = login["time"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    assert!(told <= jiff::Timestamp::now(), "{login}");

    operator.accepts(&event("logout", "anna"));
    last(&home, "Removed");
    operator.accepts(&event("logout", "anna"));
    last(&home, "NothingThere");
    // Nobody wants it.
    operator.accepts(&event("login", "bert").replace("auth.example.com\",", "other.example.com\","));
    last(&home, "Unwanted");
    home.edit("event-trigger.yaml", "%}Delete{%", "%}Remove{%");
    let refused = eventually("the edit is known", || {
        operator.send(&event("logout", "cleo"));
        home.show("events").pop().filter(|row| row["outcome"] == "DeadLetter")
    });
    assert_eq!(refused["reason"], "ActionInvalid", "{refused}");
    let table = out(&home.cli(&["show", "events"]));
    for column in ["TIME", "SOURCE", "TYPE", "SUBJECT", "ORIGIN", "TRIGGERS", "OUTCOME", "LATENCY"] {
        assert!(table.lines().nth(1).unwrap().contains(&format!("| {column} ")), "{column}: {table}");
    }
    assert!(table.contains("| DeadLetter: ActionInvalid |") && table.contains(" ms "), "{table}");
    let all = table
        + &out(&home.cli(&["show", "events", "-o", "wide"]))
        + &out(&home.cli(&["show", "events", "-o", "json"]));
    assert!(!all.contains("hunter2"), "what an event holds is not shown: {all}");
    assert!(operator.stop().success());
    let nobody = err(&home.cli(&["show", "events"]));
    assert!(nobody.contains("what came lately is known to one that runs only"), "{nobody}");
}

#[test]
fn a_stalled_event_is_told_until_it_is_mended() {
    let home = Home::with("quickstart");
    home.edit("event-trigger.yaml", "{{ event.subject }}", "{{ event.nothing }}");
    let operator = home.start();
    operator.accepts(&event("login", "anna"));
    let stalled = last(&home, "Stalled");
    assert_eq!((&stalled["triggers"][0]["stalled"], &stalled["latencyMillis"]), (&2.into(), &Value::Null));
    home.edit("event-trigger.yaml", "{{ event.nothing }}", "{{ event.subject }}");
    last(&home, "Applied");
    assert!(operator.stop().success());
}

fn dry_run(home: &Home, action: &str) -> Vec<Value> {
    eventually(&format!("{action}: {:?}\n{}", home.show("dryrun"), home.log()), || {
        let rows = home.show("dryrun");
        (!rows.is_empty() && rows.iter().all(|row| row["action"] == action)).then_some(rows)
    })
}

#[test]
fn what_dry_run_would_do_is_told_with_its_diffs() {
    let home = Home::with("quickstart");
    home.edit("event-trigger.yaml", MODE, "syncMode: DryRun");
    let operator = home.start();
    assert!(home.show("dryrun").is_empty());
    operator.accepts(&event("login", "anna"));
    let rows = dry_run(&home, "Create");
    assert_eq!(rows.len(), 2, "{rows:?}");
    assert_eq!(
        (&rows[0]["cluster"], &rows[0]["resourceType"]),
        (&"civo/cluster1".into(), &":Namespace".into())
    );
    assert_eq!(
        (&rows[0]["name"], &rows[0]["rule"]),
        (&"anna".into(), &"EventTrigger/manage-namespace".into())
    );
    let table = out(&home.cli(&["show", "dryrun", "--cluster", "civo/cluster2"]));
    assert!(table.contains("| Create | ") && !table.contains("cluster1"), "{table}");

    home.edit("event-trigger.yaml", "syncMode: DryRun", MODE);
    eventually("it is applied", || home.namespace_file("cluster2", "anna").exists().then_some(()));
    eventually("nothing is previewed any more", || home.show("dryrun").is_empty().then_some(()));
    home.edit("event-trigger.yaml", MODE, "syncMode: DryRun");
    dry_run(&home, "No Action");
    assert_eq!(out(&home.cli(&["show", "dryrun", "--raw-diff"])).trim(), "");
    home.edit(
        "event-trigger.yaml",
        "name: {{ event.subject }}",
        "name: {{ event.subject }}\n      labels: {team: a}",
    );
    dry_run(&home, "Update");
    let diff = out(&home.cli(&["show", "dryrun", "--raw-diff", "-n", "civo"]));
    assert!(
        diff.contains("+++ civo/cluster1 :Namespace anna (Update, EventTrigger/manage-namespace)"),
        "{diff}"
    );
    assert!(diff.contains("+    team: a") && !diff.contains('\u{1b}'), "{diff}");
    let coloured = out(&home.cli(&["show", "dryrun", "--raw-diff", "--color", "always"]));
    assert!(coloured.contains("\u{1b}[32m+"), "{coloured}");

    let theirs = home.namespace_file("cluster1", "theirs");
    fs::write(theirs, "apiVersion: v1\nkind: Namespace\nmetadata: {name: theirs}\n").unwrap();
    operator.accepts(&event("login", "theirs"));
    eventually("the conflict is told", || {
        let rows = home.show("dryrun");
        rows.iter().any(|row| row["name"] == "theirs" && row["action"] == "Conflict").then_some(())
    });
    assert!(operator.stop().success());
    // What the last operator left is told too.
    assert!(home.show("dryrun").iter().any(|row| row["action"] == "Conflict"));
}

#[test]
fn what_is_used_where_is_told() {
    let home = Home::with("quickstart");
    let operator = home.start();
    let usage = |args: &[&str]| -> Vec<Value> {
        serde_json::from_str(&out(&home.cli(&[&["show", "usage", "-o", "json"], args].concat()))).unwrap()
    };
    let [before] = &usage(&[])[..] else { panic!("{:?}", usage(&[])) };
    assert_eq!((&before["kind"], &before["name"]), (&"ConfigMap".into(), &"namespace".into()), "{before}");
    assert_eq!(before["rules"][0], "EventTrigger/manage-namespace");
    assert_eq!(before["clusters"].as_array().unwrap().len(), 0);
    operator.accepts(&event("login", "anna"));
    eventually("it is used", || (usage(&[])[0]["clusters"].as_array().unwrap().len() == 2).then_some(()));
    let table = out(&home.cli(&["show", "usage"]));
    assert!(table.contains("| RESOURCE KIND | NAMESPACE | NAME      | CLUSTERS |"), "{table}");
    assert!(table.contains("| ConfigMap     | default   | namespace | 2        |"), "{table}");
    assert_eq!(
        (usage(&["--cluster", "civo/cluster1"]).len(), usage(&["--cluster", "civo/staging1"]).len()),
        (1, 0)
    );
    assert!(operator.stop().success());
}

#[test]
fn of_some_clusters_only_and_by_name() {
    let home = Home::with("quickstart");
    let operator = home.start();
    operator.accepts(&event("login", "anna"));
    eventually("both have it", || (home.show("addons").len() == 2).then_some(()));
    let names = |args: &[&str]| {
        let text = out(&home.cli(&[&["show"], args, &["-o", "name"]].concat()));
        text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(names(&["addons"]), ["namespace/anna", "namespace/anna"]);
    assert_eq!(names(&["addons", "-A"]), names(&["addons", "-n", "civo"]));
    assert_eq!(names(&["addons", "--cluster", "civo/cluster1"]), ["namespace/anna"]);
    assert!(names(&["addons", "-n", "elsewhere"]).is_empty());
    let clusters = names(&["clusters"]);
    assert_eq!(clusters, ["civo/cluster1", "civo/cluster2", "civo/staging1"]);
    assert_eq!(names(&["clusters", "--cluster", &clusters[2]]), clusters[2..]);
    assert_eq!(
        (names(&["sources"]), names(&["triggers"])),
        (vec!["user-operation".into()], vec!["manage-namespace".into()])
    );
    assert_eq!(names(&["events"]), ["10001"]);
    assert_eq!(names(&["usage"]), ["configmap/default/namespace"]);
    // A name is what other commands take.
    let name = names(&["addons"]).remove(0);
    assert!(out(&home.cli(&["explain", &name, "--cluster", &clusters[0]])).contains("is in civo/cluster1"));
    for args in
        [&["-A", "-n", "civo"][..], &["-n", "civo", "--cluster", "civo/cluster1"], &["--cluster", "cluster1"]]
    {
        let refused = home.cli(&[&["show", "addons"], args].concat());
        assert_eq!((refused.status.code(), refused.stdout.len()), (Some(2), 0), "{args:?}");
    }
    assert!(operator.stop().success());
}

#[test]
fn what_is_watched_is_printed_again_as_it_changes_until_the_operator_ends() {
    let home = Home::with("quickstart");
    let refused = err(&home.cli(&["show", "addons", "--watch"]));
    assert!(refused.contains("no operator runs on this data folder, so nothing changes"), "{refused}");
    let operator = home.start();
    let mut watching = Command::new(PROGRAM)
        .args(["show", "addons", "-w", "-o", "name", "--cluster", "civo/cluster1", "--data"])
        .arg(home.data())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(watching.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "", "nothing is there");
    operator.accepts(&event("login", "anna"));
    assert_eq!(lines.next().unwrap().unwrap(), "namespace/anna");
    operator.accepts(&event("logout", "anna"));
    assert_eq!(lines.next().unwrap().unwrap(), "");
    assert!(operator.stop().success());
    let ended = eventually("it ends", || watching.try_wait().unwrap());
    let mut notes = String::new();
    watching.stderr.take().unwrap().read_to_string(&mut notes).unwrap();
    assert!(ended.success() && notes.contains("the operator has ended"), "{ended:?} {notes}");
    assert!(lines.next().is_none(), "and nothing that did not change");
}
