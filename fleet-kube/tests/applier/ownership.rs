//! Of two Works that want one object, the mark on it says whose it is.

use std::sync::Arc;

use fleet_core::apply::{ApplyRequest, Claim, InventoryItem, Outcome, Owner};
use fleet_core::manifest::{MARK, Manifest};
use fleet_core::work::WorkId;
use local_fleet::{Route, User};
use serde_json::{Value, json};

use super::at;
use super::lab::*;

fn claim(object: &Value, from: &WorkId) -> Claim {
    Claim { object: Manifest::new(object.clone()).unwrap().id().clone(), from: from.hash().into() }
}

async fn take(ours: &Ours, work: &WorkId, object: &Value, from: &WorkId) -> Outcome {
    let request = ours.request(work, std::slice::from_ref(object));
    ours.send(ApplyRequest { claims: vec![claim(object, from)], ..request }).await.remove(0)
}

#[tokio::test]
async fn a_handover_replaces_mark_and_fields_and_the_loser_lets_go() {
    let lab = Lab::shared().await;
    let (ours, admin) = (Ours::new(&lab, User::Admin, Route::Direct).await, lab.admin().await);
    let (loser, winner, third) = (work("loser"), work("winner"), work("third"));
    let old = config_map("handover", &[("both", "1"), ("old", "1")]);
    let new = config_map("handover", &[("both", "2"), ("new", "2")]);
    let made = ours.apply(&loser, &old, &[]).await;
    // Applied once more, so that the loser's fields are no POST's any more; as after any update.
    let made = ours.apply(&loser, &old, &[placed(&old, &made)]).await;
    let kept = placed(&old, &made);

    // Not without a claim, nor with one from somebody else.
    let refused = ours.apply(&winner, &new, &[]).await;
    assert_eq!(refused, Outcome::Conflict { owner: Owner::Work(loser.hash().into()) });
    let refused = take(&ours, &winner, &new, &third).await;
    assert_eq!(refused, Outcome::Conflict { owner: Owner::Work(loser.hash().into()) });

    let taken = take(&ours, &winner, &new, &loser).await;
    assert_eq!(uid(&taken), uid(&made), "it is the same object all the time");
    let object = admin.get(&at("handover")).await.unwrap();
    assert_eq!(object["metadata"]["labels"][MARK], winner.hash());
    assert_eq!(object["data"], json!({"both": "2", "new": "2"}));

    // The loser's update and removal find the object in the inventory by UID, and yet leave it alone.
    let without_version = InventoryItem { version: None, ..kept.clone() };
    for kept in [kept, without_version] {
        let lost = ours.apply(&loser, &old, std::slice::from_ref(&kept)).await;
        assert_eq!(lost, Outcome::Conflict { owner: Owner::Work(winner.hash().into()) });
        assert_eq!(ours.remove(&loser, &[kept]).await, [Outcome::Gone]);
    }
    assert_eq!(admin.get(&at("handover")).await.unwrap(), object);

    // And the winner goes on as if it had made it.
    let inventory = [placed(&new, &taken)];
    let last = config_map("handover", &[("last", "3")]);
    let updated = ours.apply(&winner, &last, &inventory).await;
    assert_eq!(admin.get(&at("handover")).await.unwrap()["data"], json!({"last": "3"}));
    assert_eq!(ours.remove(&winner, &[placed(&last, &updated)]).await, [Outcome::Gone]);
    assert!(admin.get(&at("handover")).await.is_none());
}

#[tokio::test]
async fn what_was_only_posted_is_handed_over_whole() {
    let lab = Lab::shared().await;
    let (ours, admin) = (Ours::new(&lab, User::Admin, Route::Direct).await, lab.admin().await);
    let (loser, winner) = (work("posted loser"), work("posted winner"));
    let old = config_map("posted", &[("old", "1")]);
    ours.apply(&loser, &old, &[]).await;
    let new = config_map("posted", &[("new", "1")]);
    let taken = take(&ours, &winner, &new, &loser).await;
    assert!(matches!(taken, Outcome::Applied(_)), "{taken:?}");
    assert_eq!(admin.get(&at("posted")).await.unwrap()["data"], json!({"new": "1"}));
}

#[tokio::test]
async fn a_claim_on_what_is_not_there_creates_it() {
    let lab = Lab::shared().await;
    let ours = Ours::new(&lab, User::Admin, Route::Direct).await;
    let object = config_map("claimed", &[]);
    let taken = take(&ours, &work("claims"), &object, &work("gone")).await;
    assert!(matches!(taken, Outcome::Applied(_)), "{taken:?}");
}

#[tokio::test]
async fn a_race_for_a_handover_leaves_no_mixture() {
    let lab = Lab::shared().await;
    let (a, b, admin) = tokio::join!(
        Ours::new(&lab, User::Admin, Route::Direct),
        Ours::new(&lab, User::Admin, Route::Direct),
        lab.admin()
    );
    for round in 0..10 {
        let name = format!("mixture-{round}");
        let (loser, winner) = (work("mixture loser"), work("mixture winner"));
        let (old, new) = (config_map(&name, &[("old", "1")]), config_map(&name, &[("new", "1")]));
        let made = a.apply(&loser, &old, &[]).await;
        let inventory = [placed(&old, &made)];
        let changed = config_map(&name, &[("old", "2")]);
        // An update of the loser's takes three requests here, so that the handover comes in between.
        let (_, taken) = tokio::join!(a.apply(&loser, &changed, &inventory), take(&b, &winner, &new, &loser));
        if !matches!(taken, Outcome::Applied(_)) {
            assert!(matches!(take(&b, &winner, &new, &loser).await, Outcome::Applied(_)), "{taken:?}");
        }
        let object = admin.get(&at(&name)).await.unwrap();
        assert_eq!(object["metadata"]["labels"][MARK], winner.hash());
        assert_eq!(object["data"], json!({"new": "1"}));
        assert_eq!(a.remove(&loser, &inventory).await, [Outcome::Gone]);
        assert_eq!(admin.get(&at(&name)).await.unwrap(), object);
    }
}

#[tokio::test]
async fn what_lost_its_mark_is_still_ours() {
    let lab = Lab::shared().await;
    let (ours, admin) = (Ours::new(&lab, User::Admin, Route::Direct).await, lab.admin().await);
    let work = work("unmarked");
    let object = config_map("unmarked", &[("a", "1")]);
    let made = ours.apply(&work, &object, &[]).await;
    let unmark = json!({"metadata": {"labels": {MARK: null}}});
    admin.send("PATCH", &at("unmarked"), Some(&unmark)).await.unwrap();
    let again = ours.apply(&work, &object, &[placed(&object, &made)]).await;
    assert_eq!(uid(&again), uid(&made));
    assert_eq!(admin.get(&at("unmarked")).await.unwrap()["metadata"]["labels"][MARK], work.hash());
    admin.send("PATCH", &at("unmarked"), Some(&unmark)).await.unwrap();
    assert_eq!(ours.remove(&work, &[placed(&object, &again)]).await, [Outcome::Gone]);
    assert!(admin.get(&at("unmarked")).await.is_none());
}

#[tokio::test]
async fn an_object_that_others_keep_writing_to_is_still_updated_and_deleted() {
    let lab = Lab::shared().await;
    let (ours, admin) = (Ours::new(&lab, User::Admin, Route::Direct).await, lab.admin().await);
    let work = work("busy");
    let object = config_map("busy", &[("a", "1")]);
    let made = ours.apply(&work, &object, &[]).await;
    let mut kept = placed(&object, &made);
    for round in 0..5 {
        let theirs = json!({"metadata": {"annotations": {"seen": round.to_string()}}});
        admin.send("PATCH", &at("busy"), Some(&theirs)).await.unwrap();
        let changed = config_map("busy", &[("a", &round.to_string())]);
        let outcome = ours.apply(&work, &changed, &[kept]).await;
        kept = placed(&changed, &outcome);
    }
    let there = admin.get(&at("busy")).await.unwrap();
    assert_eq!((&there["data"]["a"], &there["metadata"]["annotations"]["seen"]), (&json!("4"), &json!("4")));
    let theirs = json!({"metadata": {"annotations": {"seen": "once more"}}});
    admin.send("PATCH", &at("busy"), Some(&theirs)).await.unwrap();
    assert_eq!(ours.remove(&work, &[kept]).await, [Outcome::Gone]);
    assert!(admin.get(&at("busy")).await.is_none());
}

#[tokio::test]
async fn what_is_renamed_is_pruned() {
    let lab = Lab::shared().await;
    let (ours, admin) = (Ours::new(&lab, User::Admin, Route::Direct).await, lab.admin().await);
    let work = work("renamed");
    let (old, new) = (config_map("old-name", &[]), config_map("new-name", &[]));
    let made = ours.apply(&work, &old, &[]).await;
    let inventory = [placed(&old, &made)];
    assert!(matches!(ours.apply(&work, &new, &inventory).await, Outcome::Applied(_)));
    assert_eq!(ours.remove(&work, &inventory).await, [Outcome::Gone]);
    assert!(admin.get(&at("old-name")).await.is_none());
    assert!(admin.get(&at("new-name")).await.is_some());
}

#[tokio::test]
async fn protected_namespaces_stay_whoever_made_them() {
    let lab = Lab::shared().await;
    let admin = lab.admin().await;
    let mut ours = Ours::new(&lab, User::Admin, Route::Direct).await;
    ours.applier =
        fleet_kube::applier::KubeApplier::new(Arc::clone(&ours.clusters)).protecting(["precious".to_owned()]);
    let work = work("precious");
    let (precious, plain) = (namespace("precious"), namespace("plain"));
    let outcomes = ours.apply_all(&work, &[precious.clone(), plain.clone()], &[], None, SOON).await;
    let items = [placed(&precious, &outcomes[0]), placed(&plain, &outcomes[1])];
    let removed = ours.remove(&work, &items).await;
    assert!(
        matches!(&removed[0], Outcome::Rejected { reason } if reason.contains("protected")),
        "{removed:?}"
    );
    assert!(matches!(&removed[1], Outcome::Waiting { .. } | Outcome::Gone), "{removed:?}");
    let there = admin.get("/api/v1/namespaces/precious").await.unwrap();
    assert_eq!(there["status"]["phase"], "Active");
}
