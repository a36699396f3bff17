//! Invariant 9: stopping is safe, however it comes about.

use std::time::{Duration, Instant};

use crate::process::eventually;
use crate::rig::Rig;

const USERS: u64 = 300;

fn logins() -> impl Iterator<Item = (&'static str, String, u64)> {
    (0..USERS).map(|number| ("login", format!("user-{number}"), number))
}

/// Everybody has logged in, everywhere.
fn all_arrive(rig: &Rig) {
    for cluster in rig.lab.clusters() {
        eventually(&format!("all arrive in {}\n{}", cluster.name(), rig.home.log()), || {
            (rig.notes_in(cluster).len() as u64 == USERS).then_some(())
        });
    }
}

fn some_arrive(rig: &Rig) {
    eventually(&format!("some arrive\n{}", rig.home.log()), || {
        (!rig.notes_in(&rig.lab.clusters()[0]).is_empty()).then_some(())
    });
}

/// Two clusters, of which the second does not answer. What was fetched and is not acknowledged would wait for a minute.
fn half_hanging() -> Rig {
    let rig = Rig::new(false, 2);
    rig.define_notes("60s");
    rig.runtime.block_on(rig.lab.clusters()[1].api_server().pause()).unwrap();
    rig
}

#[test]
fn a_burst_is_drained_within_the_deadline_though_a_cluster_hangs() {
    let rig = half_hanging();
    let folder = rig.home.folder();
    let operator = rig.home.run(|run| run.arg(&folder).args(["--drain-timeout", "4s"]));
    eventually("the stream is there", || (rig.home.show("sources")[0]["ready"] == true).then_some(()));
    rig.publish_all(logins());
    some_arrive(&rig);
    let asked = Instant::now();
    let ended = operator.stop();
    let took = asked.elapsed();
    assert_eq!(ended.code(), Some(0), "{}", rig.home.log());
    assert!(took < Duration::from_secs(4 + 5), "{took:?}");

    // Nothing was lost, and nothing has to wait for its acknowledgement to be overdue.
    rig.runtime.block_on(rig.lab.clusters()[1].api_server().resume()).unwrap();
    let operator = rig.home.start();
    all_arrive(&rig);
    assert!(asked.elapsed() < Duration::from_secs(50), "{:?}", asked.elapsed());
    assert_eq!(operator.stop().code(), Some(0));
}

#[test]
fn a_second_signal_stops_at_once() {
    let rig = half_hanging();
    let folder = rig.home.folder();
    for (signal, code) in [("-TERM", 143), ("-INT", 130)] {
        let mut operator = rig.home.run(|run| run.arg(&folder).args(["--drain-timeout", "60s"]));
        eventually("the stream is there", || (rig.home.show("sources")[0]["ready"] == true).then_some(()));
        rig.publish_all(logins());
        some_arrive(&rig);
        eventually("the hanging cluster is at work", || {
            rig.home.show("addons").iter().any(|row| row["cluster"] == "civo/cluster2").then_some(())
        });
        let before = rig.home.log().matches("a second signal stops at once").count();
        operator.signal("-TERM");
        eventually("the first signal is heard", || {
            (rig.home.log().matches("a second signal stops at once").count() > before).then_some(())
        });
        assert!(!operator.has_ended());
        let asked = Instant::now();
        operator.signal(signal);
        assert_eq!(operator.ends().code(), Some(code));
        assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
    }
}

#[test]
fn a_kill_in_a_burst_loses_nothing() {
    let rig = Rig::new(false, 2);
    rig.define_notes("2s");
    let operator = rig.home.start();
    eventually("the stream is there", || (rig.home.show("sources")[0]["ready"] == true).then_some(()));
    rig.publish_all(logins());
    some_arrive(&rig);
    operator.kill();
    let operator = rig.home.start();
    all_arrive(&rig);
    assert_eq!(operator.stop().code(), Some(0));
}
