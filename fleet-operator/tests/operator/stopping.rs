//! Invariant 9: stopping is safe, however it comes about.

use std::time::{Duration, Instant};

use crate::process::{Operator, eventually};
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

/// Two clusters, both ready. What is fetched and not acknowledged would wait for a minute.
fn two_clusters() -> Rig {
    let rig = Rig::new(false, 2);
    rig.define_notes("60s");
    rig
}

/// An operator in the middle of a burst, with calls under way to a cluster that does not answer any more.
fn half_hanging<'a>(rig: &'a Rig, drain_timeout: &str) -> Operator<'a> {
    let folder = rig.home.folder();
    let operator = rig.home.run(|run| run.arg(&folder).args(["--drain-timeout", drain_timeout]));
    eventually("the stream is read", || (rig.home.show("sources")[0]["ready"] == true).then_some(()));
    eventually("the clusters are ready", || {
        rig.home.show("clusters").iter().all(|cluster| cluster["ready"] == true).then_some(())
    });
    rig.runtime.block_on(rig.lab.clusters()[1].api_server().pause()).unwrap();
    rig.publish_all(logins());
    some_arrive(rig);
    operator
}

#[test]
fn a_burst_is_drained_though_a_cluster_hangs() {
    let rig = two_clusters();
    // Enough for what is under way, of which each call ends by its deadline of 10 s.
    let operator = half_hanging(&rig, "40s");
    let asked = Instant::now();
    assert_eq!(operator.stop().code(), Some(0), "{}", rig.home.log());
    let took = asked.elapsed();
    assert!(took > Duration::from_secs(2) && took < Duration::from_secs(30), "{took:?}");
    assert!(!rig.home.log().contains("the drain deadline passed"), "{}", rig.home.log());

    // Nothing was lost, and nothing has to wait for its acknowledgement to be overdue.
    rig.runtime.block_on(rig.lab.clusters()[1].api_server().resume()).unwrap();
    let again = Instant::now();
    let operator = rig.home.start();
    all_arrive(&rig);
    assert!(again.elapsed() < Duration::from_secs(30), "{:?}", again.elapsed());
    assert_eq!(operator.stop().code(), Some(0));
}

#[test]
fn the_drain_deadline_ends_it_in_an_orderly_way_too() {
    let rig = two_clusters();
    let operator = half_hanging(&rig, "2s");
    let asked = Instant::now();
    assert_eq!(operator.stop().code(), Some(0), "{}", rig.home.log());
    let took = asked.elapsed();
    assert!(took < Duration::from_secs(2 + 5), "{took:?}");
    assert!(rig.home.log().contains("the drain deadline passed"), "{}", rig.home.log());
    rig.runtime.block_on(rig.lab.clusters()[1].api_server().resume()).unwrap();
    let operator = rig.home.start();
    all_arrive(&rig);
    assert_eq!(operator.stop().code(), Some(0));
}

#[test]
fn a_second_signal_stops_at_once() {
    let rig = two_clusters();
    for (signal, code) in [("-TERM", 143), ("-INT", 130)] {
        let mut operator = half_hanging(&rig, "60s");
        let before = rig.home.log().matches("a second signal stops at once").count();
        operator.signal("-TERM");
        eventually("the first signal is heard", || {
            (rig.home.log().matches("a second signal stops at once").count() > before).then_some(())
        });
        std::thread::sleep(Duration::from_secs(1));
        assert!(!operator.has_ended(), "calls are under way\n{}", rig.home.log());
        let asked = Instant::now();
        operator.signal(signal);
        assert_eq!(operator.ends().code(), Some(code));
        assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
        rig.runtime.block_on(rig.lab.clusters()[1].api_server().resume()).unwrap();
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
