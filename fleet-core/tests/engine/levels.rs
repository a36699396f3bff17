//! Selectors, templates and clusters are levels: what exists follows them. And absence is not an order.

use std::sync::Arc;
use std::time::Duration;

use fleet_core::cluster::{Cluster, LEAVE_ANNOTATION};
use fleet_core::engine::HeldWithdrawals;
use fleet_core::work::AppliedState;

use crate::rig::{Setup, cluster, labelled, login, logout, template, trigger, until};

#[tokio::test(start_paused = true)]
async fn clusters_that_join_or_change_get_what_they_should_have() {
    let rig = Setup::default().start();
    rig.source.send(login("a")).await.await;
    rig.until_names("c1", &["a"]).await;
    rig.clusters.put(labelled("c3", "production"));
    rig.until_names("c3", &["a"]).await;
    rig.clusters.put(labelled("c1", "staging"));
    rig.until_names("c1", &[]).await;
    rig.clusters.put(labelled("c1", "production"));
    rig.until_names("c1", &["a"]).await;
    rig.source.send(logout("a")).await.await;
    for name in ["c1", "c2", "c3"] {
        rig.until_names(name, &[]).await;
    }
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_cluster_that_leaves_loses_what_it_had() {
    let rig = Setup::default().start();
    rig.source.send(login("a")).await.await;
    rig.until_names("c1", &["a"]).await;
    rig.clusters.remove(&cluster("c1"));
    rig.until_names("c1", &[]).await;
    assert_eq!(rig.names("c2"), ["a"]);
    rig.clusters.put(labelled("c1", "production"));
    rig.until_names("c1", &["a"]).await;
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_cluster_that_leaves_keeps_what_it_had_if_it_says_so() {
    let rig = Setup::default().start();
    rig.source.send(login("a")).await.await;
    rig.until_names("c1", &["a"]).await;
    let mut leaving = labelled("c1", "production");
    leaving.annotations.insert(LEAVE_ANNOTATION.to_owned(), "true".to_owned());
    rig.clusters.put(leaving);
    rig.clusters.remove(&cluster("c1"));
    until("forgotten", async || rig.applied().await.iter().all(|applied| applied.cluster != cluster("c1")))
        .await;
    rig.source.send(logout("a")).await.await;
    rig.until_names("c2", &[]).await;
    until("no Work is left", async || rig.works().await.is_empty()).await;
    assert_eq!(rig.names("c1"), ["a"], "nobody's now");
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_cluster_that_was_away_when_it_left_is_cleaned_when_it_is_back() {
    let rig = Setup::default().start();
    rig.source.send(login("a")).await.await;
    rig.until_names("c1", &["a"]).await;
    rig.clusters.put(fleet_core::cluster::Cluster { ready: false, ..labelled("c1", "production") });
    rig.clusters.remove(&cluster("c1"));
    rig.source.send(logout("a")).await.await;
    rig.until_names("c2", &[]).await;
    assert_eq!(rig.names("c1"), ["a"], "nobody reaches it now");
    rig.clusters.put(labelled("c1", "production"));
    rig.until_names("c1", &[]).await;
    until("no Work is left", async || rig.works().await.is_empty()).await;
    rig.stop().await;
}

/// What came from a cluster is elsewhere, and follows that cluster's labels all the same.
#[tokio::test(start_paused = true)]
async fn what_went_elsewhere_follows_the_cluster_it_came_from() {
    let setup = Setup::default();
    setup.catalog.edit(|snapshot| {
        let trigger = Arc::make_mut(snapshot.triggers.get_mut("names").unwrap());
        trigger.destination_clusters =
            Some(serde_json::from_str(r#"{"matchLabels":{"env":"staging"}}"#).unwrap());
    });
    let rig = setup.start();
    rig.source.send_from(login("a"), Some(cluster("c1"))).await.await;
    rig.until_names("staging1", &["a"]).await;
    rig.clusters.put(labelled("c1", "retired"));
    rig.until_names("staging1", &[]).await;
    rig.clusters.put(labelled("c1", "production"));
    rig.until_names("staging1", &["a"]).await;
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_destination_selector_replaces_the_targets() {
    let setup = Setup::default();
    setup.catalog.edit(|snapshot| {
        let trigger = Arc::make_mut(snapshot.triggers.get_mut("names").unwrap());
        trigger.destination_clusters =
            Some(serde_json::from_str(r#"{"matchLabels":{"env":"staging"}}"#).unwrap());
        trigger.payload = vec![template("$subject-in-$cluster")];
    });
    let rig = setup.start();
    rig.source.send(login("a")).await.await;
    rig.until_names("staging1", &["a-in-staging1"]).await;
    rig.source.send_from(login("b"), Some(cluster("c1"))).await.await;
    rig.until_names("staging1", &["a-in-staging1", "b-in-staging1"]).await;
    assert!(rig.names("c1").is_empty() && rig.names("c2").is_empty());
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn removing_a_trigger_withdraws_its_works() {
    let rig = Setup::default().start();
    for number in 0..5 {
        rig.source.send(login(&format!("user-{number}"))).await.await;
    }
    until("all there", async || rig.names("c2").len() == 5 && rig.names("c1").len() == 5).await;
    rig.catalog.edit(|snapshot| snapshot.triggers.clear());
    rig.until_names("c1", &[]).await;
    rig.until_names("c2", &[]).await;
    until("no Work is left", async || rig.works().await.is_empty()).await;
    rig.stop().await;
}

/// Invariant 11: what is missing from a partial read is not gone.
#[tokio::test(start_paused = true)]
async fn a_trigger_missing_from_a_partial_read_keeps_working() {
    let rig = Setup::default().start();
    rig.source.send(login("a")).await.await;
    rig.until_names("c1", &["a"]).await;
    rig.catalog.edit(|snapshot| {
        snapshot.triggers.clear();
        snapshot.sources.clear();
        snapshot.complete = false;
    });
    rig.source.send(login("b")).await.await;
    rig.until_names("c1", &["a", "b"]).await;
    rig.stop().await;
}

/// Invariant 11: also over a restart.
#[tokio::test(start_paused = true)]
async fn a_trigger_missing_from_the_first_partial_read_withdraws_nothing() {
    let rig = Setup::default().start();
    rig.source.send(login("a")).await.await;
    rig.until_names("c1", &["a"]).await;
    let (store, objects) = (Arc::clone(&rig.store), Arc::clone(&rig.applier));
    rig.stop().await;
    let setup = Setup { store, objects, ..Setup::default() };
    setup.catalog.edit(|snapshot| {
        snapshot.triggers.clear();
        snapshot.complete = false;
    });
    let rig = setup.start();
    until("swept", async || rig.handle.is_loaded() && rig.handle.backlog() == 0).await;
    rig.source.send(login("ignored")).await.await;
    assert_eq!(rig.names("c1"), ["a"]);
    // Once it is known to be gone, it is withdrawn.
    rig.catalog.edit(|snapshot| snapshot.complete = true);
    rig.until_names("c1", &[]).await;
    rig.stop().await;
}

/// Invariant 11: too many at once have to be confirmed, or taken back.
#[tokio::test(start_paused = true)]
async fn a_mass_withdrawal_waits_for_confirmation() {
    let rig = Setup::default().start();
    for number in 0..30 {
        rig.source.send(login(&format!("user-{number:02}"))).await.await;
    }
    until("all there", async || rig.names("c1").len() == 30 && rig.names("c2").len() == 30).await;
    rig.catalog.edit(|snapshot| snapshot.triggers.clear());
    until("held", async || rig.handle.held_withdrawals() == Some(HeldWithdrawals { works: 30, total: 30 }))
        .await;
    assert_eq!((rig.names("c1").len(), rig.names("c2").len()), (30, 30));

    // Taken back: nothing is held any more, and nothing happened.
    rig.catalog.edit(|snapshot| {
        snapshot.triggers.insert("names".into(), Arc::new(trigger()));
    });
    until("not held", async || rig.handle.held_withdrawals().is_none()).await;
    assert_eq!(rig.names("c1").len(), 30);

    // A single event still removes while withdrawals are held.
    rig.clusters.put(labelled("c1", "staging"));
    until("held", async || rig.handle.held_withdrawals().is_some_and(|held| held.works == 30)).await;
    rig.source.send(logout("user-00")).await.await;
    until("one gone", async || rig.names("c1").len() == 29).await;

    assert_eq!(rig.handle.confirm_withdrawals(), 30);
    rig.until_names("c1", &[]).await;
    assert_eq!(rig.names("c2").len(), 29, "nothing was said of the other cluster");
    rig.stop().await;
}

/// Invariant 11: many small changes in a row are one large one.
#[tokio::test(start_paused = true)]
async fn a_creeping_mass_withdrawal_is_held_too() {
    let setup = Setup::default();
    let names: Vec<_> = (0..12).map(|number| format!("k{number:02}")).collect();
    for name in &names {
        setup.clusters.put(labelled(name, "production"));
    }
    let rig = setup.start();
    for name in &names {
        for number in 0..5 {
            rig.source.send_from(login(&format!("user-{number}")), Some(cluster(name))).await.await;
        }
    }
    until("all there", async || names.iter().all(|name| rig.names(name).len() == 5)).await;
    for name in &names {
        rig.clusters.put(labelled(name, "staging"));
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    until("held", async || rig.handle.held_withdrawals().is_some()).await;
    let left: usize = names.iter().map(|name| rig.names(name).len()).sum();
    assert!(left >= 48, "a fifth of 60 may go, {left} are left");
    rig.handle.confirm_withdrawals();
    until("all gone", async || names.iter().all(|name| rig.names(name).is_empty())).await;
    rig.stop().await;
}

/// What an event was to remove is not left behind because the next event, and the cluster's labels, say other things.
#[tokio::test(start_paused = true)]
async fn what_was_to_be_removed_from_a_cluster_is_removed_though_the_next_event_is_for_others() {
    let rig = Setup::default().start();
    rig.source.send(login("a")).await.await;
    rig.until_names("c1", &["a"]).await;
    rig.until_states("all applied", |state| *state == AppliedState::Applied).await;
    rig.clusters.put(Cluster { ready: false, ..labelled("c1", "production") });
    rig.source.send(logout("a")).await.await;
    rig.until_names("c2", &[]).await;
    rig.clusters.put(Cluster { ready: false, ..labelled("c1", "staging") });
    // Long enough for it to be seen.
    tokio::time::sleep(Duration::from_secs(1)).await;
    rig.source.send(login("a")).await.await;
    rig.until_names("c2", &["a"]).await;
    rig.clusters.put(labelled("c1", "staging"));
    rig.until_names("c1", &[]).await;
    assert_eq!(rig.names("c2"), ["a"]);
    rig.stop().await;
}
