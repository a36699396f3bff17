//! The quickstart, as its reader tries it: login, logout, and what may happen in between.

use std::fs;
use std::process::Command;

use crate::process::{Home, PROGRAM, event, eventually, example};

fn there(home: &Home, cluster: &str, name: &str) -> Option<()> {
    home.namespace_file(cluster, name).exists().then_some(())
}

fn gone(home: &Home, cluster: &str, name: &str) -> Option<()> {
    (!home.namespace_file(cluster, name).exists()).then_some(())
}

fn addons(home: &Home) -> Vec<String> {
    let rows = home.show("addons");
    let row = |row: &serde_json::Value| {
        format!("{} {} {}", row["cluster"], row["resourceType"], row["name"]).replace('"', "")
    };
    rows.iter().filter(|row| row["time"].is_string()).map(row).collect()
}

#[test]
fn a_login_makes_the_namespace_and_the_logout_takes_it_away() {
    let home = Home::new();
    let operator = home.start_on(&example("quickstart"));
    assert!(
        operator.greeting.contains("send ") && operator.greeting.contains("login.json"),
        "{}",
        operator.greeting
    );
    operator.send_example("login.json");
    for cluster in ["cluster1", "cluster2"] {
        eventually("the namespace is made", || there(&home, cluster, "mgianluc"));
        let text = fs::read_to_string(home.namespace_file(cluster, "mgianluc")).unwrap();
        assert!(text.contains("kind: Namespace") && text.contains("name: mgianluc"), "{text}");
    }
    let expected = ["civo/cluster1 :Namespace mgianluc", "civo/cluster2 :Namespace mgianluc"];
    eventually("both are shown", || (addons(&home) == expected).then_some(()));
    assert!(!home.data().join("clusters/civo/staging1").exists(), "staging1 is not meant");

    let output = home.cli(&["show", "addons"]);
    let table = String::from_utf8(output.stdout).unwrap();
    let header = "| CLUSTER       | RESOURCE TYPE | NAMESPACE | NAME     | VERSION | TIME ";
    assert!(table.lines().nth(1).unwrap().starts_with(header), "{table}");
    let row = "| civo/cluster1 | :Namespace    |           | mgianluc | N/A     | 20";
    assert!(table.contains(row) && table.contains("| EventTrigger/manage-namespace |"), "{table}");

    operator.send_example("logout.json");
    for cluster in ["cluster1", "cluster2"] {
        eventually("the namespace is taken away", || gone(&home, cluster, "mgianluc"));
    }
    eventually("nothing is shown", || addons(&home).is_empty().then_some(()));
    let clusters = home.show("clusters");
    assert_eq!(clusters.len(), 3);
    assert!(clusters.iter().all(|cluster| cluster["ready"] == true));
    assert!(operator.get("metrics").1.contains("fleet_events_stored_total 2"));
    assert!(!home.log().contains("hunter2"));
    assert!(operator.stop().success());
    assert_eq!(home.show("triggers")[0]["name"], "manage-namespace", "also while none runs");
}

#[test]
fn a_restart_forgets_nothing() {
    let home = Home::new();
    let operator = home.start_on(&example("quickstart"));
    operator.send_example("login.json");
    eventually("the namespace is made", || there(&home, "cluster1", "mgianluc"));
    eventually("both are shown", || (addons(&home).len() == 2).then_some(()));
    assert!(operator.stop().success());
    assert_eq!(addons(&home).len(), 2, "shown without an operator");
    let operator = home.start_on(&example("quickstart"));
    assert!(there(&home, "cluster1", "mgianluc").is_some());
    operator.send_example("logout.json");
    eventually("the namespace is taken away", || gone(&home, "cluster1", "mgianluc"));
    eventually("the namespace is taken away", || gone(&home, "cluster2", "mgianluc"));
}

#[test]
fn a_kill_at_any_instant_costs_nothing_but_time() {
    let home = Home::new();
    for round in 0..5 {
        let user = format!("user{round}");
        let operator = home.start_on(&example("quickstart"));
        operator.accepts(&event("login", &user));
        operator.kill();
        assert!(!home.show("addons").is_empty(), "a database that was not closed can be looked at");
        let operator = home.start_on(&example("quickstart"));
        for cluster in ["cluster1", "cluster2"] {
            eventually("what was accepted is applied", || there(&home, cluster, &user));
        }
        operator.accepts(&event("logout", &user));
        operator.kill();
        let operator = home.start_on(&example("quickstart"));
        for cluster in ["cluster1", "cluster2"] {
            eventually("what was accepted is removed", || gone(&home, cluster, &user));
        }
        eventually("nothing is left", || addons(&home).is_empty().then_some(()));
        assert!(operator.stop().success());
    }
}

#[test]
fn somebody_elses_file_is_a_conflict_and_stays_untouched() {
    const THEIRS: &str = "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: mgianluc\n";
    let home = Home::new();
    let file = home.namespace_file("cluster1", "mgianluc");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, THEIRS).unwrap();
    let operator = home.start_on(&example("quickstart"));
    operator.send_example("login.json");
    eventually("the other cluster has it", || there(&home, "cluster2", "mgianluc"));
    let row = eventually("the conflict is shown", || {
        home.show("addons")
            .into_iter()
            .find(|row| row["cluster"] == "civo/cluster1" && row["state"] == "Stalled")
    });
    let message = row["message"].as_str().unwrap();
    assert!(message.starts_with("Conflict: ") && message.contains("mgianluc"), "{message}");
    assert_eq!(fs::read_to_string(&file).unwrap(), THEIRS);

    fs::remove_file(&file).unwrap();
    eventually("it heals by itself", || there(&home, "cluster1", "mgianluc"));
    fs::write(&file, THEIRS).unwrap();
    operator.send_example("logout.json");
    eventually("ours is gone", || gone(&home, "cluster2", "mgianluc"));
    eventually("nothing is shown", || home.show("addons").is_empty().then_some(()));
    assert_eq!(fs::read_to_string(&file).unwrap(), THEIRS, "a logout takes away only what we made");
}

#[test]
fn what_is_desired_outlives_the_event() {
    let home = Home::with("quickstart");
    let operator = home.start();
    operator.accepts(&event("login", "mgianluc"));
    eventually("the namespace is made", || there(&home, "cluster1", "mgianluc"));
    home.edit("clusters.yaml", "env: staging", "env: production");
    eventually("a cluster that is relabelled gets it", || there(&home, "staging1", "mgianluc"));
    home.edit(
        "event-trigger.yaml",
        "name: {{ event.subject }}",
        "name: {{ event.subject }}\n      labels: {team: a}",
    );
    eventually("an edited template is applied", || {
        fs::read_to_string(home.namespace_file("cluster1", "mgianluc"))
            .unwrap()
            .contains("team: a")
            .then_some(())
    });
    home.edit(
        "clusters.yaml",
        "name: staging1\n  labels:\n    env: production",
        "name: staging1\n  labels: {}",
    );
    eventually("a cluster that is not meant any more loses it", || gone(&home, "staging1", "mgianluc"));
    assert!(there(&home, "cluster1", "mgianluc").is_some());
    fs::remove_file(home.folder().join("clusters.yaml")).unwrap();
    for cluster in ["cluster1", "cluster2"] {
        eventually("a cluster that leaves loses it", || gone(&home, cluster, "mgianluc"));
    }
}

#[test]
fn only_one_operator_runs_on_a_data_folder() {
    let home = Home::new();
    let operator = home.start_on(&example("quickstart"));
    let second = Command::new(PROGRAM)
        .args(["run", "--listen", "127.0.0.1:0", "--data"])
        .args([home.data(), example("quickstart")])
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(1));
    let error = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(error.contains("in use by another operator"), "{error}");
    operator.send_example("login.json");
    let taken = Command::new(PROGRAM)
        .args([
            "run",
            "--listen",
            operator.url.trim_start_matches("http://").trim_end_matches("/events"),
            "--data",
        ])
        .args([home.folder(), example("quickstart")])
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&taken.stderr).into_owned();
    assert!(taken.status.code() == Some(1) && error.contains("cannot listen on 127.0.0.1:"), "{error}");
}

#[test]
fn the_command_line_says_what_is_wrong() {
    let run = |args: &[&str]| {
        let output = Command::new(PROGRAM).args(args).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    for (args, code, expected) in [
        (&["send", "no-such-file.json"][..], 1, "no-such-file.json cannot be read"),
        (&["send", "-", "--to", "http://127.0.0.1:1/events"], 1, "is the operator running there?"),
        (&["send", "-", "--to", "nats://127.0.0.1:1"], 1, "--subject is missing"),
        (&["send", "-", "--to", "ftp://x"], 1, "--to must begin with"),
        (&["show", "addons", "--data", "/nonexistent"], 1, "no operator has run with this --data folder"),
        (&["show", "everything"], 2, "Usage: fleet-operator show <addons|clusters|"),
        (&["run", "--max-withdraw", "101%", "x"], 2, "from 0% to 100%"),
        (&["register", "cluster", "x"], 2, "--kubeconfig"),
    ] {
        let (found, error) = run(args);
        assert_eq!(found, code, "{args:?}: {error}");
        assert!(error.contains(expected), "{args:?}: {error}");
    }
    let crds = Command::new(PROGRAM).arg("crds").output().unwrap();
    assert!(String::from_utf8(crds.stdout).unwrap().matches("kind: CustomResourceDefinition").count() >= 3);
}
