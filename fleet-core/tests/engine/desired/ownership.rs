//! Who has an object that more than one wants.

use std::time::Duration;

use fleet_core::policy::{Policy, SyncMode};
use fleet_core::work::AppliedState;
use serde_json::json;

use super::{kept, mode, setup};
use crate::rig::{cluster, login, logout, object, template, until};

fn tier(tier: u32) -> Policy {
    Policy { tier, ..mode(SyncMode::ContinuousWithDriftDetection) }
}

/// Invariant 5, and that a handover never deletes.
#[tokio::test(start_paused = true)]
async fn the_lower_tier_wins_and_a_handover_deletes_nothing() {
    let first = kept("first", "shared=first", tier(100));
    let rig = setup([first, kept("second", "none", tier(50))]).start();
    rig.source.send(login("a")).await.await;
    until("the first has it", async || rig.value("shared") == Some(json!("first"))).await;
    let uid = rig.applier.object(&cluster("c1"), &object("shared")).unwrap().uid;
    rig.set("second", |trigger| trigger.payload = vec![template("shared=second")]);
    until("the second takes it", async || rig.value("shared") == Some(json!("second"))).await;
    until("the loser says who won", async || {
        rig.applied().await.iter().any(|record| {
            matches!(&record.state, AppliedState::Stalled { reason, message }
                if reason == "Conflict" && message.contains("EventTrigger second (tier 50)"))
        })
    })
    .await;
    // The loser touches it no more.
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(rig.value("shared"), Some(json!("second")));
    // When the winner wants it no more, the other gets it as it is.
    rig.set("second", |trigger| trigger.payload = vec![template("none")]);
    until("the first has it again", async || rig.value("shared") == Some(json!("first"))).await;
    assert_eq!(rig.applier.object(&cluster("c1"), &object("shared")).unwrap().uid, uid);
    rig.until_states("all is well", |state| *state == AppliedState::Applied).await;
    rig.source.send(logout("a")).await.await;
    rig.until_names("c1", &[]).await;
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn of_equals_the_one_keeps_it_that_has_it() {
    let rig = setup([kept("first", "shared=first", tier(100)), kept("second", "none", tier(100))]).start();
    rig.source.send(login("a")).await.await;
    until("the first has it", async || rig.value("shared") == Some(json!("first"))).await;
    rig.set("second", |trigger| trigger.payload = vec![template("shared=second")]);
    until("the second is told", async || {
        rig.applied().await.iter().any(|record| matches!(record.state, AppliedState::Stalled { .. }))
    })
    .await;
    // Also over a restart.
    let (store, objects) = (rig.store.clone(), rig.applier.clone());
    rig.stop().await;
    let again = setup([kept("first", "shared=first", tier(100)), kept("second", "shared=second", tier(100))]);
    let rig = crate::rig::Setup { store, objects, ..again }.start();
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(rig.value("shared"), Some(json!("first")));
    // The first goes, by its trigger: the second gets the very object.
    let uid = rig.applier.object(&cluster("c1"), &object("shared")).unwrap().uid;
    rig.catalog.edit(|snapshot| {
        snapshot.triggers.remove("first");
    });
    until("the second has it", async || rig.value("shared") == Some(json!("second"))).await;
    assert_eq!(rig.applier.object(&cluster("c1"), &object("shared")).unwrap().uid, uid);
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_conflict_holds_up_the_rest_unless_told_otherwise() {
    let rig = setup([kept("names", "theirs z", Policy::default())]).start();
    let theirs = json!({"metadata": {"name": "theirs"}}).as_object().unwrap().clone();
    rig.applier.put_foreign(&cluster("c1"), object("theirs"), theirs.clone());
    rig.source.send(login("a")).await.await;
    rig.until_states("in conflict", |state| matches!(state, AppliedState::Stalled { .. })).await;
    assert_eq!(rig.names("c1"), ["theirs"]);
    rig.set("names", |trigger| {
        trigger.policy = Policy { continue_on_conflict: true, ..Policy::default() }.into();
    });
    rig.until_names("c1", &["theirs", "z"]).await;
    assert_eq!(rig.applier.object(&cluster("c1"), &object("theirs")).unwrap().object, theirs);
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_adopted_is_given_back() {
    let rig = setup([kept("names", "theirs=1", Policy { adopt: true, ..Policy::default() })]).start();
    let theirs = json!({"metadata": {"name": "theirs"}, "data": {"v": "0", "w": "0"}});
    rig.applier.put_foreign(&cluster("c1"), object("theirs"), theirs.as_object().unwrap().clone());
    let uid = rig.applier.object(&cluster("c1"), &object("theirs")).unwrap().uid;
    rig.source.send(login("a")).await.await;
    until("taken over", async || rig.value("theirs") == Some(json!("1"))).await;
    rig.source.send(logout("a")).await.await;
    until("given back", async || rig.mark("theirs").is_none()).await;
    until("forgotten", async || rig.applied().await.is_empty()).await;
    let there = rig.applier.object(&cluster("c1"), &object("theirs")).unwrap();
    assert_eq!((there.uid, &there.object["data"]), (uid, &json!({"v": "1", "w": "0"})));
    rig.stop().await;
}

/// A copy that somebody made of an object, mark and all, is theirs.
#[tokio::test(start_paused = true)]
async fn copies_are_reported_and_left_alone() {
    let rig = setup([kept("names", "$subject=1", tier(100))]).start();
    rig.source.send(login("a")).await.await;
    rig.until_names("c1", &["a"]).await;
    rig.until_states("applied", |state| *state == AppliedState::Applied).await;
    let mut copy = rig.applier.object(&cluster("c1"), &object("a")).unwrap().object;
    copy["metadata"]["name"] = json!("copy");
    rig.applier.put_foreign(&cluster("c1"), object("copy"), copy);
    until("it is reported", async || rig.handle.strays().iter().any(|stray| stray.object == object("copy")))
        .await;
    rig.source.send(logout("a")).await.await;
    rig.until_names("c1", &["copy"]).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(rig.names("c1"), ["copy"]);
    rig.stop().await;
}
