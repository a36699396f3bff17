//! One EventSource that is read in several places, each a feed of its own.

use std::sync::Arc;
use std::time::Duration;

use fleet_core::catalog::{Condition, Subject, TriggerDef};
use fleet_core::source::{Settle, SourceItem, SourceStatus};
use fleet_core::work::AppliedState;
use jiff::{SignedDuration, Timestamp};
use tokio::time::sleep;

use crate::rig::{Feed, Rig, Setup, at_in, cluster, login, logout, trigger, until};

/// A rig that reads the two production clusters, and nothing else.
fn start(trigger: TriggerDef) -> (Rig, [Arc<Feed>; 2]) {
    let setup = Setup::default();
    setup.catalog.edit(|snapshot| {
        snapshot.triggers = [(Arc::clone(&trigger.name), Arc::new(trigger))].into();
    });
    let rig = setup.start();
    rig.handle.detach("users");
    let feeds = ["c1", "c2"].map(|name| Feed::in_cluster("users", name));
    for feed in &feeds {
        rig.handle.attach(Arc::clone(feed) as _);
    }
    (rig, feeds)
}

fn status(ready: bool, reason: &str, message: &str) -> SourceItem {
    let (reason, message) = (reason.to_owned(), message.to_owned());
    SourceItem::Status(SourceStatus { ready, reason, message, lost: 1 })
}

async fn until_said(rig: &Rig, expected: (bool, &str, &str)) {
    let said = || rig.catalog.condition(&Subject::Source("users".into()));
    until(&format!("{expected:?} is said"), async || {
        said().is_some_and(|Condition { ready, reason, message }| (ready, &*reason, &*message) == expected)
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_same_subject_in_two_feeds_has_two_lives() {
    let (rig, [one, two]) = start(trigger());
    one.deliver(login("a"), at_in("one", 7));
    two.deliver(login("a"), at_in("two", 3));
    rig.until_names("c1", &["a"]).await;
    rig.until_names("c2", &["a"]).await;
    two.deliver(logout("a"), at_in("two", 4));
    rig.until_names("c2", &[]).await;
    assert_eq!(rig.names("c1"), ["a"]);
    rig.stop().await;
}

/// Floors are kept for each feed, and each lets go what its own keys were remembered for.
#[tokio::test(start_paused = true)]
async fn each_feed_has_its_floors() {
    let (rig, [one, two]) = start(trigger());
    for (feed, domain) in [(&one, "one"), (&two, "two")] {
        feed.deliver(login("a"), at_in(domain, 1));
        feed.deliver(logout("a"), at_in(domain, 2));
    }
    until("two tombstones", async || rig.handle.tombstones() == 2).await;
    one.tell(SourceItem::Floor(at_in("one", 9)));
    until("one is forgotten", async || rig.handle.tombstones() == 1).await;
    assert_eq!(rig.store.floors("users/civo/c1").await.unwrap(), [at_in("one", 9)]);
    assert!(rig.store.floors("users/civo/c2").await.unwrap().is_empty());
    assert!(rig.store.floors("users").await.unwrap().is_empty());
    rig.handle.detach("users/civo/c2");
    sleep(Duration::from_secs(60)).await;
    assert_eq!(rig.works().await.len(), 1, "what a feed may still deliver is remembered while it is away");

    // Its successor is told of a floor that was stored just before the end, and the tombstone goes.
    rig.store.raise_floor("users/civo/c2", &at_in("two", 2)).await.unwrap();
    rig.handle.attach(Feed::in_cluster("users", "c2"));
    until("both are forgotten", async || rig.works().await.is_empty()).await;
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_condition_sums_up_the_feeds() {
    let (rig, [one, two]) = start(trigger());
    one.tell(status(true, "Connected", "reading users"));
    until_said(&rig, (false, "Connecting", "1 of 2 feeds are not ready: civo/c2: being connected")).await;
    two.tell(status(false, "ConnectionFailed", "nobody there"));
    let message = "1 of 2 feeds are not ready: civo/c2: nobody there";
    until_said(&rig, (false, "ConnectionFailed", message)).await;
    one.tell(status(false, "SecretMissing", &"x".repeat(999)));
    let message = format!("2 of 2 feeds are not ready: civo/c1: {}…; civo/c2: nobody there", "x".repeat(400));
    until_said(&rig, (false, "FeedsNotReady", &message)).await;
    one.tell(status(true, "Connected", "reading users"));
    two.tell(status(true, "Connected", "reading users"));
    until_said(&rig, (true, "Connected", "all 2 feeds are read; civo/c1: reading users")).await;
    assert_eq!(rig.handle.lost().get("users"), Some(&2));
    two.tell(status(false, "ConnectionFailed", "nobody there"));
    let message = "1 of 2 feeds are not ready: civo/c2: nobody there";
    until_said(&rig, (false, "ConnectionFailed", message)).await;
    rig.handle.detach("users/civo/c2");
    until_said(&rig, (true, "Connected", "civo/c1: reading users")).await;
    rig.stop().await;
}

fn long_ago() -> Option<Timestamp> {
    Timestamp::now().checked_sub(SignedDuration::from_secs(30)).ok()
}

/// A key waits for the feed of its own cluster; a key that clusters may share waits for all.
#[tokio::test(start_paused = true)]
async fn a_key_expires_when_those_have_settled_that_may_renew_it() {
    let expiring = TriggerDef { ttl: Some(Duration::from_secs(60)), ..trigger() };
    let shared = TriggerDef { key: Some("$subject".to_owned()), ..expiring.clone() };
    for (trigger, is_shared) in [(expiring, false), (shared, true)] {
        let (rig, [one, two]) = start(trigger);
        one.deliver_published(login("a"), at_in("one", 1), long_ago(), Settle::nothing());
        two.deliver_published(login("b"), at_in("two", 1), long_ago(), Settle::nothing());
        rig.until_states("all applied", |state| *state == AppliedState::Applied).await;
        rig.until_names("c2", &["b"]).await;
        sleep(Duration::from_secs(100)).await;
        assert_eq!((rig.names("c1"), rig.names("c2")), (vec!["a".to_owned()], vec!["b".to_owned()]));
        one.tell(SourceItem::Settled(Timestamp::MAX));
        if is_shared {
            sleep(Duration::from_secs(100)).await;
            assert_eq!(rig.names("c1"), ["a"], "c2 may renew it");
            two.tell(SourceItem::Settled(Timestamp::MAX));
            rig.until_names("c1", &[]).await;
            rig.until_names("c2", &[]).await;
        } else {
            rig.until_names("c1", &[]).await;
            sleep(Duration::from_secs(100)).await;
            assert_eq!(rig.names("c2"), ["b"], "its own feed has not settled");
            // Taken out, nothing is known of it; the next one says that nothing waits.
            rig.handle.detach("users/civo/c2");
            sleep(Duration::from_secs(100)).await;
            assert_eq!(rig.names("c2"), ["b"], "nobody knows what waits there");
            let next = Feed::in_cluster("users", "c2");
            rig.handle.attach(Arc::clone(&next) as _);
            next.tell(SourceItem::Settled(Timestamp::MAX));
            rig.until_names("c2", &[]).await;
        }
        assert!(rig.applier.objects(&cluster("c1")).is_empty());
        rig.stop().await;
    }
}
