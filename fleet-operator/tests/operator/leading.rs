//! Several operators on one management cluster: by mistake, and by election.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::process::{Home, Operator, PROGRAM, eventually};
use crate::rig::Rig;

const LEASE: Duration = Duration::from_secs(6);

fn shared<'a>(run: &'a mut Command, management: &Path) -> &'a mut Command {
    run.env("KUBECONFIG", management).args(["--store", "kubernetes"])
}

fn elected<'a>(home: &'a Home, management: &Path) -> Operator<'a> {
    home.launch(|run| shared(run, management).args(["--leader-elect", "--lease-duration", "6s"]))
}

fn managed() -> Rig {
    let rig = Rig::new(true, 1);
    rig.prepare();
    rig.define_notes("2s");
    rig
}

fn arrives(rig: &Rig, name: &str) {
    let cluster = &rig.lab.clusters()[0];
    eventually(&format!("{name} arrives\n{}", rig.home.log()), || {
        rig.notes_in(cluster).contains_key(name).then_some(())
    });
}

fn waits(operator: &Operator<'_>) -> String {
    eventually("it waits", || {
        let (status, reason) = operator.get("readyz");
        (status == 503 && reason.contains("does now")).then_some(reason)
    })
}

fn holder(rig: &Rig) -> String {
    let args =
        ["get", "lease", "fleet-operator", "-n", "fleet-events", "-o", "jsonpath={.spec.holderIdentity}"];
    rig.kubectl_ok(&rig.management(), &args, "")
}

#[test]
fn two_by_mistake_come_to_the_right_end() {
    const KEYS: u64 = 40;
    let rig = managed();
    let management = rig.management();
    let other = Home::new();
    let first = rig.home.run(|run| shared(run, &management));
    let second = other.run(|run| shared(run, &management));
    for home in [&rig.home, &other] {
        eventually("the stream is read", || (home.show("sources")[0]["ready"] == true).then_some(()));
    }
    // Login, logout and login again, mixed over all keys, and a last logout for every other one.
    let rounds = (0..5).flat_map(|round| {
        let what = if round % 2 == 0 { "login" } else { "logout" };
        (0..KEYS).map(move |key| (what, format!("user-{key}"), round * KEYS + key))
    });
    let last = (0..KEYS).step_by(2).map(|key| ("logout", format!("user-{key}"), 1000 + key));
    rig.publish_all(rounds.chain(last));
    let expected: Vec<(String, String)> = (0..KEYS)
        .filter(|key| key % 2 == 1)
        .map(|key| (format!("user-{key}"), (4 * KEYS + key).to_string()))
        .collect();
    let mut expected = expected;
    expected.sort();
    let mut held = Instant::now();
    eventually(&format!("the right end\n{}\n{}", rig.home.log(), other.log()), || {
        let found: Vec<_> = rig.notes_in(&rig.lab.clusters()[0]).into_iter().collect();
        if found != expected {
            held = Instant::now();
        }
        // And stays so.
        (held.elapsed() > Duration::from_secs(3)).then_some(())
    });
    let read = |operator: &Operator<'_>| {
        let (_, metrics) = operator.get("metrics");
        let line =
            metrics.lines().find(|line| line.starts_with("fleet_events_received_total")).unwrap().to_owned();
        line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()
    };
    assert!(
        read(&first) > 0 && read(&second) > 0,
        "both were at work: {} and {}",
        read(&first),
        read(&second)
    );
    assert_eq!(first.stop().code(), Some(0));
    assert_eq!(second.stop().code(), Some(0));
    // What they left can be looked at without them.
    let output = Command::new(PROGRAM)
        .args(["show", "addons", "-o", "json", "--store", "kubernetes", "--data"])
        .arg(other.data())
        .env("KUBECONFIG", &management)
        .output()
        .unwrap();
    let rows: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    // What was removed while both were at work is remembered for as long as a call of either may still take effect.
    let there = rows.iter().filter(|row| row["state"] == "Applied").count();
    assert_eq!(there, expected.len(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn one_leads_and_the_others_follow() {
    let rig = managed();
    let management = rig.management();
    rig.kubectl_ok(&management, &["create", "namespace", "fleet-events"], "");
    let (second_home, third_home) = (Home::new(), Home::new());
    let first = elected(&rig.home, &management);
    assert!(
        first.greeting.contains("waits until it holds Lease fleet-events/fleet-operator"),
        "{}",
        first.greeting
    );
    first.becomes_ready();
    eventually("the stream is read", || (rig.home.show("sources")[0]["ready"] == true).then_some(()));
    let second = elected(&second_home, &management);
    let reason = waits(&second);
    assert!(reason.contains(&holder(&rig)), "{reason}");
    assert_eq!(second.get("healthz").0, 200);
    assert_eq!(
        second
            .request(
                "POST",
                "events",
                &[("Content-Type", "application/cloudevents+json")],
                crate::process::event("login", "x").as_bytes()
            )
            .0,
        503
    );
    rig.publish_all([("login", "anna".to_owned(), 1)]);
    arrives(&rig, "anna");

    // Killed: what it held is the next one's within the lease time.
    first.kill();
    let killed = Instant::now();
    rig.publish_all([("login", "berta".to_owned(), 2), ("logout", "anna".to_owned(), 3)]);
    second.becomes_ready();
    let took = killed.elapsed();
    assert!(took > LEASE / 2 && took < LEASE + Duration::from_secs(4), "{took:?}");
    arrives(&rig, "berta");
    eventually("anna goes", || (!rig.notes_in(&rig.lab.clusters()[0]).contains_key("anna")).then_some(()));

    // Stopped in an orderly way: at once.
    let third = elected(&third_home, &management);
    waits(&third);
    let asked = Instant::now();
    assert_eq!(second.stop().code(), Some(0));
    assert!(!second_home.log().contains("was not given up"), "{}", second_home.log());
    third.becomes_ready();
    let took = asked.elapsed();
    assert!(took < LEASE - Duration::from_secs(1), "{took:?}");
    rig.publish_all([("login", "clara".to_owned(), 4)]);
    arrives(&rig, "clara");

    // Frozen for longer than the lease: it notices, and ends for whoever started it to start it again.
    let fourth = elected(&rig.home, &management);
    waits(&fourth);
    third.signal("-STOP");
    fourth.becomes_ready();
    third.signal("-CONT");
    assert_eq!(third.ends().code(), Some(1));
    let log = third_home.log();
    assert!(log.contains("the leadership was lost (Lease fleet-events/fleet-operator)"), "{log}");
    // Who waits stops as well.
    let fifth = elected(&third_home, &management);
    waits(&fifth);
    assert_eq!(fifth.stop().code(), Some(0));
    assert_eq!(fourth.stop().code(), Some(0));
    assert_eq!(holder(&rig), "");
}

#[test]
fn what_cannot_be_led_is_refused_with_the_reason() {
    let home = Home::with("quickstart");
    let kubeconfig = home.folder().join("kubeconfig");
    std::fs::write(
        &kubeconfig,
        "{apiVersion: v1, kind: Config, current-context: a, contexts: [{name: a, context: {cluster: a}}], \
         clusters: [{name: a, cluster: {server: 'http://127.0.0.1:1'}}]}",
    )
    .unwrap();
    let folder = home.folder();
    let folder = folder.to_str().unwrap();
    for (args, code, expected) in [
        (&["--leader-elect"][..], 1, "--leader-elect needs --store kubernetes"),
        (&["--leader-elect", folder], 1, "--leader-elect needs a management cluster"),
        (&["--store", "kubernetes", folder], 1, "--store kubernetes keeps Works in the management cluster"),
        (
            &["--leader-elect", "--store", "kubernetes", "--namespace", "a.b"],
            1,
            "correct --namespace or --lease-name: the Lease's namespace \"a.b\"",
        ),
        (&["--leader-elect", "--lease-duration", "0s"], 2, "at least 1"),
        (&["--lease-name", "x"], 2, "--leader-elect"),
        (&["--drain-timeout", "soon"], 2, "expected whole seconds"),
    ] {
        let output = Command::new(PROGRAM)
            .args(["run", "--listen", "127.0.0.1:0", "--data"])
            .arg(home.data())
            .args(args)
            .env("KUBECONFIG", &kubeconfig)
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {error}");
        assert!(error.contains(expected), "{args:?}: {error}");
    }
}
