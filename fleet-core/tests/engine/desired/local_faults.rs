//! What is local, while the management cluster is away, or several are at work, or records are lost.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use fleet_core::catalog::TriggerDef;
use fleet_core::cluster::Cluster;
use fleet_core::engine::Config;
use fleet_core::policy::Policy;
use fleet_core::work::AppliedState;

use super::local::{hub, local_records, only_local, send, setup, until_nothing_is_left, until_settled};
use crate::late::Late;
use crate::races::Gated;
use crate::rig::{Feed, Rig, Setup, at, cluster, login, logout, template, until};
use crate::tampered::{Call, Tampered};

fn away() -> Cluster {
    Cluster { ready: false, ..hub() }
}

/// Both operators say by now that something else is local.
fn edit(rig: &Rig, words: &str) {
    rig.catalog.edit(|snapshot| {
        Arc::make_mut(snapshot.triggers.get_mut("names").unwrap()).local = vec![template(words)];
    });
}

/// Invariant 7, in the one lane in which everything is that is local.
#[tokio::test(start_paused = true)]
async fn what_finds_no_room_while_the_management_cluster_is_away_follows_from_the_store() {
    let config = Config { max_queued: 8, ..Config::default() };
    let rig = Setup { config, ..setup(only_local(Policy::default())) }.start();
    let names = |what: &str| (0..20).map(|number| format!("{what}{number:02}")).collect::<Vec<_>>();
    let there = |names: Vec<String>| -> Vec<String> {
        names.iter().flat_map(|name| [format!("{name}-c1"), format!("{name}-c2")]).collect()
    };
    for name in names("old") {
        send(&rig, login(&name)).await;
    }
    until("all are there", async || rig.names("hub") == there(names("old"))).await;
    until_settled(&rig).await;
    rig.clusters.put(away());
    for (old, new) in names("old").iter().zip(names("new")) {
        send(&rig, logout(old)).await;
        send(&rig, login(&new)).await;
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(rig.handle.backlog() <= 8, "{} wait in memory", rig.handle.backlog());
    assert_eq!(rig.works().await.len(), 40, "what is not taken away yet is not forgotten");
    rig.clusters.put(hub());
    until("all is as it should be", async || rig.names("hub") == there(names("new"))).await;
    until("nothing waits", async || rig.works().await.len() == 20).await;
    rig.stop().await;
}

/// Also if that is asked for in the first instant, before anybody has read what is where.
#[tokio::test(start_paused = true)]
async fn a_work_is_not_forgotten_before_what_is_local_is_gone() {
    let both = TriggerDef { payload: vec![template("$subject")], ..only_local(Policy::default()) };
    let store = Arc::new(Tampered::default());
    let started = Setup { store: Arc::clone(&store) as _, ..setup(both.clone()) };
    let objects = Arc::clone(&started.objects);
    let rig = started.start();
    for subject in ["a", "b"] {
        send(&rig, login(subject)).await;
    }
    let all = ["a-c1", "a-c2", "b-c1", "b-c2"];
    rig.until_names("hub", &all).await;
    until_settled(&rig).await;
    rig.clusters.put(away());
    send(&rig, logout("a")).await;
    for name in ["c1", "c2"] {
        rig.until_names(name, &["b"]).await;
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(rig.works().await.len(), 2);
    rig.stop().await;

    let held = store.hold(Call::AllApplied);
    let again = Setup { store, objects, ..setup(both) };
    again.clusters.put(away());
    let rig = again.start();
    held.reached().await;
    send(&rig, logout("b")).await;
    for name in ["c1", "c2"] {
        rig.until_names(name, &[]).await;
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!((rig.works().await.len(), rig.names("hub").len()), (2, all.len()));
    drop(held);
    rig.clusters.put(hub());
    rig.until_names("hub", &[]).await;
    until("no Work is left", async || rig.works().await.is_empty()).await;
    rig.stop().await;
}

/// A create without an answer that lands when nobody reckons with it any more: its mark says whose it is.
#[tokio::test(start_paused = true)]
async fn an_object_that_lands_late_is_known_by_its_mark() {
    let started = setup(only_local(Policy::default()));
    let late = Late::in_cluster("hub", &started.objects);
    let rig = Setup { applier: Some(Arc::clone(&late) as _), ..started }.start();
    // One that remembers what is gone.
    let feed = Feed::new("users");
    rig.handle.attach(Arc::clone(&feed) as _);
    feed.deliver(login("b"), at(1));
    rig.until_names("hub", &["b-c1", "b-c2"]).await;
    until_settled(&rig).await;
    late.lose(true);
    feed.deliver(login("a"), at(2));
    late.one_is_lost().await;
    feed.deliver(logout("a"), at(3));
    late.lose(false);
    until("nothing is known of it", async || local_records(&rig).await.len() == 2).await;
    late.land().await;
    assert!(rig.names("hub").len() > 2);
    rig.until_names("hub", &["b-c1", "b-c2"]).await;
    rig.stop().await;
}

/// Two operators by mistake: what one applies late does not stay over what the other applied since.
#[tokio::test(start_paused = true)]
async fn what_an_operator_applies_late_does_not_stay() {
    let started = setup(only_local(Policy::default()));
    let (store, objects) = (Arc::clone(&started.store), Arc::clone(&started.objects));
    started.clusters.remove(&cluster("c2"));
    let gated = Gated::in_cluster("hub", &objects);
    let one = Setup { applier: Some(Arc::clone(&gated) as _), ..started }.start();
    let second = Setup { store, objects, ..setup(only_local(Policy::default())) };
    second.clusters.remove(&cluster("c2"));
    send(&one, login("a")).await;
    until("one is about to apply", async || gated.reached.load(Ordering::Relaxed)).await;
    let two = second.start();
    edit(&two, "$subject-new");
    two.until_names("hub", &["a-new"]).await;
    until("two is done", async || {
        local_records(&two).await.iter().all(|record| record.state == AppliedState::Applied)
    })
    .await;
    edit(&one, "$subject-new");
    // Long enough for its definitions to be the new ones, short enough for the call to be waited for.
    tokio::time::sleep(Duration::from_secs(1)).await;
    gated.open.store(true, Ordering::Relaxed);
    until("it was applied too late", async || gated.passed.load(Ordering::Relaxed)).await;
    one.until_names("hub", &["a-new"]).await;
    // And what is deleted by one is not brought back by the other.
    gated.open.store(false, Ordering::Relaxed);
    gated.reached.store(false, Ordering::Relaxed);
    send(&one, login("b")).await;
    until("one is about to apply", async || gated.reached.load(Ordering::Relaxed)).await;
    for subject in ["a", "b"] {
        send(&two, logout(subject)).await;
    }
    gated.open.store(true, Ordering::Relaxed);
    one.until_names("hub", &[]).await;
    until_nothing_is_left(&one).await;
    one.stop().await;
    two.stop().await;
}

/// It is what the definition says, and no absence: of however many Works.
#[tokio::test(start_paused = true)]
async fn what_is_local_no_more_goes_without_being_confirmed() {
    for one_for_event in [true, false] {
        let words = if one_for_event { "$subject-$cluster" } else { "all" };
        let trigger = TriggerDef {
            one_for_event,
            payload: vec![template("stays")],
            local: vec![template(words)],
            ..only_local(Policy::default())
        };
        let config = Config { max_withdraw_percent: 10, max_withdraw_floor: 1, ..Config::default() };
        let setup = Setup { config, ..setup(trigger) };
        setup.clusters.remove(&cluster("c2"));
        let rig = setup.start();
        for subject in ["a", "b", "c"] {
            send(&rig, login(subject)).await;
        }
        let all: &[&str] = if one_for_event { &["a-c1", "b-c1", "c-c1"] } else { &["all"] };
        rig.until_names("hub", all).await;
        rig.until_names("c1", &["stays"]).await;
        rig.catalog.edit(|snapshot| {
            Arc::make_mut(snapshot.triggers.get_mut("names").unwrap()).local.clear();
        });
        rig.until_names("hub", &[]).await;
        assert_eq!((rig.handle.held_withdrawals(), rig.names("c1")), (None, vec!["stays".to_owned()]));
        rig.stop().await;
    }
}

/// A Cluster goes once nothing is left of what was put anywhere for it.
#[tokio::test(start_paused = true)]
async fn a_cluster_is_let_go_once_what_is_local_for_it_is_gone() {
    let rig = setup(only_local(Policy::default())).start();
    send(&rig, login("a")).await;
    rig.until_names("hub", &["a-c1", "a-c2"]).await;
    until_settled(&rig).await;
    rig.clusters.put(away());
    rig.clusters.remove(&cluster("c2"));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(!rig.withdrawn.lock().contains(&cluster("c2")), "something is left");
    rig.clusters.put(hub());
    rig.until_names("hub", &["a-c1"]).await;
    until("it may go", async || rig.withdrawn.lock().contains(&cluster("c2"))).await;
    rig.stop().await;
}
