//! When what was rendered is applied again, and what a dry run tells.

use std::sync::Arc;
use std::time::Duration;

use fleet_core::apply::Change;
use fleet_core::catalog::Withheld;
use fleet_core::policy::{Policy, StopMatching, SyncMode};
use fleet_core::work::{AppliedState, Foreseen};
use serde_json::json;

use super::{kept, mode, setup};
use crate::rig::{Rig, Setup, cluster, labelled, login, logout, object, template, until};

#[tokio::test(start_paused = true)]
async fn one_time_is_once_for_each_event() {
    let rig = setup([kept("names", "$subject=1", mode(SyncMode::OneTime))]).start();
    rig.source.send(login("a")).await.await;
    until("applied", async || rig.value("a") == Some(json!("1"))).await;
    rig.until_states("applied", |state| *state == AppliedState::Applied).await;
    rig.set("names", |trigger| trigger.payload = vec![template("$subject=2")]);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(rig.value("a"), Some(json!("1")), "an edit changes nothing");
    rig.source.send(login("a")).await.await;
    until("a newer event does", async || rig.value("a") == Some(json!("2"))).await;
    rig.source.send(logout("a")).await.await;
    rig.until_names("c1", &[]).await;
    rig.stop().await;
}

fn foreseen(record: &fleet_core::work::AppliedWork) -> Vec<(String, Option<Change>)> {
    let AppliedState::Previewed { changes } = &record.state else { panic!("{:?}", record.state) };
    changes.iter().map(|Foreseen { object, change, .. }| (object.to_string(), change.clone())).collect()
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_tells_and_writes_nothing() {
    let rig = setup([kept("names", "$subject=1", mode(SyncMode::DryRun))]).start();
    rig.source.send(login("a")).await.await;
    let is_foreseen = async |expected: &[(&str, Option<Change>)]| {
        let expected: Vec<_> =
            expected.iter().map(|(object, change)| ((*object).to_owned(), change.clone())).collect();
        let records = rig.applied().await;
        records.len() == 1
            && matches!(records[0].state, AppliedState::Previewed { .. })
            && foreseen(&records[0]) == expected
    };
    until("it would be created", async || is_foreseen(&[("ConfigMap a", Some(Change::Create))]).await).await;
    assert!(rig.names("c1").is_empty());
    // It keeps saying so as things change.
    let theirs = json!({"metadata": {"name": "a"}, "data": {}}).as_object().unwrap().clone();
    rig.applier.put_foreign(&cluster("c1"), object("a"), theirs.clone());
    until("it is in conflict", async || is_foreseen(&[("ConfigMap a", None)]).await).await;
    rig.source.send(logout("a")).await.await;
    until("nothing would be left", async || rig.applied().await.is_empty()).await;
    assert_eq!(rig.applier.object(&cluster("c1"), &object("a")).unwrap().object, theirs);
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_leaves_what_was_there_also_when_its_trigger_goes() {
    let rig = setup([kept("names", "$subject=1 old", mode(SyncMode::Continuous))]).start();
    rig.source.send(login("a")).await.await;
    rig.until_names("c1", &["a", "old"]).await;
    rig.set("names", |trigger| {
        trigger.policy = mode(SyncMode::DryRun).into();
        trigger.payload = vec![template("$subject=2 new")];
    });
    let diff = Change::Update { diff: "(in memory)".to_owned() };
    let wanted = [
        ("ConfigMap a".to_owned(), Some(diff)),
        ("ConfigMap new".to_owned(), Some(Change::Create)),
        ("ConfigMap old".to_owned(), Some(Change::Delete)),
    ];
    until("it tells the difference", async || {
        let records = rig.applied().await;
        matches!(records[0].state, AppliedState::Previewed { .. }) && foreseen(&records[0]) == wanted
    })
    .await;
    rig.source.send(logout("a")).await.await;
    until("it tells what a Delete would do", async || {
        let records = rig.applied().await;
        let deletes = |(_, change): &(String, Option<Change>)| *change == Some(Change::Delete);
        foreseen(&records[0]).iter().all(deletes) && foreseen(&records[0]).len() == 2
    })
    .await;
    rig.catalog.edit(|snapshot| snapshot.triggers.clear());
    until("what stays is listed", async || {
        let records = rig.applied().await;
        matches!(&records[0].state, AppliedState::Left { reason } if reason.contains("DryRun"))
            && records[0].inventory.len() == 2
    })
    .await;
    assert_eq!(rig.names("c1"), ["a", "old"]);
    assert_eq!(rig.value("a"), Some(json!("1")));
    assert_eq!(rig.handle.held_withdrawals(), None);
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_stops_to_match_may_be_left() {
    let policy = Policy { stop_matching: StopMatching::LeavePolicies, ..Policy::default() };
    let rig = setup([kept("names", "$subject=1", policy)]).start();
    rig.source.send(login("a")).await.await;
    rig.until_names("c1", &["a"]).await;
    rig.clusters.put(labelled("c1", "staging"));
    rig.until_states("it is left", |state| matches!(state, AppliedState::Left { .. })).await;
    rig.set("names", |trigger| trigger.payload = vec![template("$subject=2")]);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(rig.value("a"), Some(json!("1")));
    // It matches again: then it is kept again.
    rig.clusters.put(labelled("c1", "production"));
    until("it is kept again", async || rig.value("a") == Some(json!("2"))).await;
    rig.clusters.put(labelled("c1", "staging"));
    rig.until_states("it is left", |state| matches!(state, AppliedState::Left { .. })).await;
    // An event is an order, though.
    rig.source.send(logout("a")).await.await;
    rig.until_names("c1", &[]).await;
    rig.stop().await;
}

/// Says how a trigger stands to an operator that is not told of it: an agent, say, that knows its own cluster only.
fn withhold(rig: &Rig, how: Option<Withheld>) {
    rig.catalog.edit(|snapshot| {
        snapshot.triggers.clear();
        snapshot.withheld = how.map(|how| ("names".into(), how)).into_iter().collect();
    });
}

#[tokio::test(start_paused = true)]
async fn what_is_withheld_and_leaves_what_it_made_leaves_it() {
    let policy = Policy { stop_matching: StopMatching::LeavePolicies, ..Policy::default() };
    let started = || setup([kept("names", "$subject=1", policy.clone())]);
    let first = started();
    let (store, objects) = (Arc::clone(&first.store), Arc::clone(&first.objects));
    let rig = first.start();
    rig.source.send(login("a")).await.await;
    rig.until_states("applied", |state| *state == AppliedState::Applied).await;
    withhold(&rig, Some(Withheld::Leaves));
    rig.until_states("it is left", |state| matches!(state, AppliedState::Left { .. })).await;
    rig.stop().await;

    let again = Setup { store, objects, ..started() };
    let trigger = kept("names", "$subject=2", policy.clone());
    again.catalog.edit(|snapshot| {
        snapshot.triggers.clear();
        snapshot.withheld.insert("names".into(), Withheld::Leaves);
    });
    let rig = again.start();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(rig.names("c1"), ["a"]);
    // It is for this cluster again.
    rig.catalog.edit(|snapshot| {
        snapshot.triggers.insert("names".into(), Arc::new(trigger));
        snapshot.withheld.clear();
    });
    until("it is kept again", async || rig.value("a") == Some(json!("2"))).await;
    withhold(&rig, Some(Withheld::Leaves));
    rig.until_states("it is left", |state| matches!(state, AppliedState::Left { .. })).await;
    // Deleted, it leaves what it has left.
    withhold(&rig, None);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(rig.names("c1"), ["a"]);
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_withheld_because_it_cannot_be_done_stays_as_it_was() {
    let started = || setup([kept("names", "$subject=1", Policy::default())]);
    let first = started();
    let (store, objects) = (Arc::clone(&first.store), Arc::clone(&first.objects));
    let rig = first.start();
    rig.source.send(login("a")).await.await;
    rig.until_states("applied", |state| *state == AppliedState::Applied).await;
    withhold(&rig, Some(Withheld::Unread));
    tokio::time::sleep(Duration::from_secs(60)).await;
    // By the last that was known of it.
    rig.source.send(login("b")).await.await;
    rig.until_names("c1", &["a", "b"]).await;
    rig.until_states("applied", |state| *state == AppliedState::Applied).await;
    rig.stop().await;

    let again = Setup { store, objects, ..started() };
    again.catalog.edit(|snapshot| {
        snapshot.triggers.clear();
        snapshot.withheld.insert("names".into(), Withheld::Unread);
    });
    let rig = again.start();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(rig.names("c1"), ["a", "b"]);
    withhold(&rig, None);
    rig.until_names("c1", &[]).await;
    rig.stop().await;
}
