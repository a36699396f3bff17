//! What a person does by hand with what was refused or is stalled.

use std::sync::Arc;

use fleet_core::dead_letter::{DeadLetterBox, InStore};
use fleet_core::engine::{ResendError, Resent};
use fleet_core::memory::MemoryStore;
use fleet_core::source::Settled;
use fleet_core::source::SourceItem;
use fleet_core::work::{AppliedState, Intent};

use crate::rig::{Feed, Rig, Setup, at, event, login, logout, template, until};

/// A rig whose trigger refuses everything until it is mended.
fn refusing() -> Rig {
    let setup = Setup::default();
    set_action(&setup.catalog, "$fail");
    setup.start()
}

fn set_action(catalog: &fleet_core::memory::MemoryCatalog, action: &str) {
    catalog.edit(|snapshot| {
        Arc::make_mut(snapshot.triggers.get_mut("names").unwrap()).action = Some(action.to_owned());
    });
}

async fn mend(rig: &Rig) {
    set_action(&rig.catalog, "$type");
    // Taken in once an event is judged by it.
    until("the trigger is mended", async || rig.source.send(login("probe")).await.await == Settled::Acked)
        .await;
    let probes = letters(rig).await.into_iter().filter(|id| id.1 == "probe");
    for (id, _) in probes {
        rig.handle.drop_dead_letter(&id).await.unwrap();
    }
}

/// Ids and subjects of the dead letters.
async fn letters(rig: &Rig) -> Vec<(String, String)> {
    let letters = rig.store.dead_letters(None, 100).await.unwrap();
    let subject =
        |raw: &[u8]| fleet_core::event::Event::from_json(raw).unwrap().subject().unwrap().to_owned();
    letters.iter().map(|letter| (letter.id.clone(), subject(&letter.raw))).collect()
}

async fn letter_of(rig: &Rig, subject: &str) -> String {
    until("a dead letter", async || letters(rig).await.iter().any(|it| it.1 == subject)).await;
    letters(rig).await.into_iter().find(|it| it.1 == subject).unwrap().0
}

#[tokio::test(start_paused = true)]
async fn a_letter_becomes_work_once_its_trigger_is_mended() {
    let rig = refusing();
    rig.source.send(login("a")).await.await;
    let id = letter_of(&rig, "a").await;
    let again = rig.handle.resend(&id, false).await.unwrap();
    assert!(matches!(&again, Resent::RefusedAgain { reason, .. } if reason == "ActionInvalid"), "{again:?}");
    assert_eq!(letters(&rig).await.len(), 1, "it is kept, and once");
    mend(&rig).await;
    assert_eq!(rig.handle.resend(&id, false).await.unwrap(), Resent::Stored(1));
    rig.until_names("c1", &["a", "probe"]).await;
    assert!(letters(&rig).await.is_empty(), "what is Work is no dead letter any more");
    let gone = rig.handle.resend(&id, false).await.unwrap_err();
    assert!(matches!(gone, ResendError::NoSuchLetter(_)), "{gone}");
    rig.stop().await;
}

/// Invariant 1: a letter takes the place that it had, so what came since stays.
#[tokio::test(start_paused = true)]
async fn a_letter_does_not_overtake_what_is_newer_unless_it_is_sent_as_new() {
    for with_positions in [false, true] {
        let rig = refusing();
        let feed = Feed::new("users");
        if with_positions {
            rig.handle.attach(Arc::clone(&feed) as _);
            feed.deliver(logout("a"), at(1));
        } else {
            rig.source.send(logout("a")).await.await;
        }
        let id = letter_of(&rig, "a").await;
        if with_positions {
            set_action(&rig.catalog, "$type");
            until("the trigger is mended", async || {
                feed.deliver(login("a"), at(2));
                rig.works().await.len() == 1
            })
            .await;
        } else {
            mend(&rig).await;
            rig.source.send(login("a")).await.await;
        }
        until("a is there", async || rig.names("c1").contains(&"a".to_owned())).await;
        // The letters that the wait made, if any, are of the same key.
        let first = rig.handle.resend(&id, false).await.unwrap();
        assert_eq!(first, Resent::Superseded);
        assert!(rig.names("c1").contains(&"a".to_owned()));
        rig.stop().await;
    }
}

/// The same for what has no order of its own, over a restart: what this process accepted is newer than what the last did.
#[tokio::test(start_paused = true)]
async fn a_letter_of_an_earlier_process_is_older_than_what_this_one_accepted() {
    let rig = refusing();
    rig.source.send(logout("a")).await.await;
    let id = letter_of(&rig, "a").await;
    let (store, objects) = (Arc::clone(&rig.store), Arc::clone(&rig.applier));
    rig.stop().await;
    let rig = Setup { store, objects, ..Setup::default() }.start();
    rig.source.send(login("a")).await.await;
    rig.until_names("c1", &["a"]).await;
    assert_eq!(rig.handle.resend(&id, false).await.unwrap(), Resent::Superseded);
    assert_eq!(rig.names("c1"), ["a"]);
    rig.stop().await;
}

/// Between feeds acceptance decides, so that a letter from before a replay does not undo what the replay brought.
#[tokio::test(start_paused = true)]
async fn a_letter_is_older_than_what_came_from_another_feed_since() {
    let rig = refusing();
    let feed = Feed::new("users");
    rig.handle.attach(Arc::clone(&feed) as _);
    feed.deliver(logout("a"), at(7));
    let id = letter_of(&rig, "a").await;
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    set_action(&rig.catalog, "$type");
    until("the trigger is mended", async || {
        feed.deliver(login("a"), crate::rig::at_in("replayed", 3));
        rig.works().await.len() == 1
    })
    .await;
    rig.until_names("c1", &["a"]).await;
    assert_eq!(rig.handle.resend(&id, false).await.unwrap(), Resent::Superseded);
    assert_eq!(rig.names("c1"), ["a"]);
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_letter_sent_as_new_is_the_newest() {
    let rig = refusing();
    rig.source.send(logout("a")).await.await;
    let id = letter_of(&rig, "a").await;
    mend(&rig).await;
    rig.source.send(login("a")).await.await;
    rig.until_names("c1", &["a", "probe"]).await;
    assert_eq!(rig.handle.resend(&id, true).await.unwrap(), Resent::Stored(1));
    rig.until_names("c1", &["probe"]).await;
    rig.stop().await;
}

/// A login that was refused, then a login and a logout that were processed and forgotten: sent again, the first must not
/// bring back who has left.
#[tokio::test(start_paused = true)]
async fn a_letter_of_a_key_that_is_forgotten_is_only_sent_as_new() {
    for with_positions in [false, true] {
        let rig = refusing();
        let feed = Feed::new("users");
        if with_positions {
            rig.handle.attach(Arc::clone(&feed) as _);
            feed.deliver(login("a"), at(1));
            let id = letter_of(&rig, "a").await;
            set_action(&rig.catalog, "$type");
            until("the trigger is mended", async || {
                feed.deliver(login("a"), at(2));
                rig.works().await.len() == 1
            })
            .await;
            feed.deliver(logout("a"), at(3));
            rig.until_names("c1", &[]).await;
            feed.tell(SourceItem::Floor(at(3)));
            until("it is forgotten", async || rig.works().await.is_empty()).await;
            forgotten(&rig, &id).await;
        } else {
            rig.source.send(login("a")).await.await;
            let id = letter_of(&rig, "a").await;
            mend(&rig).await;
            rig.source.send(logout("a")).await.await;
            forgotten(&rig, &id).await;
        }
        rig.stop().await;
    }
}

async fn forgotten(rig: &Rig, id: &str) {
    let error = rig.handle.resend(id, false).await.unwrap_err();
    assert!(matches!(error, ResendError::Forgotten), "{error}");
    assert!(letters(rig).await.iter().any(|it| it.0 == id), "it is kept");
    assert_eq!(rig.handle.resend(id, true).await.unwrap(), Resent::Stored(1));
    until("a is there", async || rig.names("c1").contains(&"a".to_owned())).await;
}

#[tokio::test(start_paused = true)]
async fn a_letter_goes_only_to_the_trigger_that_refused_it() {
    let setup = Setup::default();
    setup.catalog.edit(|snapshot| {
        let mut other = (**snapshot.triggers.get("names").unwrap()).clone();
        other.name = "other".into();
        other.payload = vec![template("$subject-other")];
        snapshot.triggers.insert("other".into(), Arc::new(other));
    });
    set_action(&setup.catalog, "$fail");
    let rig = setup.start();
    rig.source.send(login("a")).await.await;
    rig.until_names("c1", &["a-other"]).await;
    let other = rig.works().await;
    let id = letter_of(&rig, "a").await;
    set_action(&rig.catalog, "$type");
    until("the trigger is mended", async || {
        matches!(rig.handle.resend(&id, false).await, Ok(Resent::Stored(1)))
    })
    .await;
    rig.until_names("c1", &["a", "a-other"]).await;
    let stored = rig.store.work(&other[0]).await.unwrap().unwrap();
    assert_eq!(stored.value.generation, 1, "the other trigger saw the event once");
    rig.stop().await;
}

/// Dead letters go where the source says, and are found there.
#[tokio::test(start_paused = true)]
async fn a_source_may_have_dead_letters_of_its_own() {
    let rig = refusing();
    let elsewhere = InStore::of(Arc::new(MemoryStore::default()));
    let feed = Feed::new("users");
    rig.handle.attach_with_dead_letters(Arc::clone(&feed) as _, Arc::new(elsewhere.clone()));
    feed.deliver(login("a"), at(1));
    until("a dead letter elsewhere", async || elsewhere.list(None, 9).await.unwrap().len() == 1).await;
    assert!(letters(&rig).await.is_empty());
    let id = elsewhere.list(None, 9).await.unwrap()[0].id.clone();
    set_action(&rig.catalog, "$type");
    until("the trigger is mended", async || {
        matches!(rig.handle.resend(&id, false).await, Ok(Resent::Stored(1)))
    })
    .await;
    rig.until_names("c1", &["a"]).await;
    assert!(elsewhere.list(None, 9).await.unwrap().is_empty());
    rig.stop().await;
}

/// Invariant 4: what cannot be kept is not acknowledged.
#[tokio::test(start_paused = true)]
async fn a_letter_that_cannot_be_kept_is_no_reason_to_acknowledge() {
    let rig = refusing();
    let mut broken = fleet_core::dead_letter::MockDeadLetterBox::new();
    broken
        .expect_add()
        .returning(|_| Err(fleet_core::store::StoreError::Unavailable("the stream is full".to_owned())));
    let source = Arc::new(fleet_core::memory::MemorySource::new("users"));
    rig.handle.attach_with_dead_letters(Arc::clone(&source) as _, Arc::new(broken));
    assert!(matches!(source.send(login("a")).await.await, Settled::GivenBack(_)));
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_stalled_work_is_tried_again_now_or_given_up() {
    let setup = Setup::default();
    let foreign = fleet_core::manifest::Manifest::new(
        serde_json::json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}),
    )
    .unwrap();
    for name in ["c1", "c2"] {
        let object = foreign.object().clone();
        setup.objects.put_foreign(&crate::rig::cluster(name), foreign.id().clone(), object);
    }
    let rig = setup.start();
    rig.source.send(login("a")).await.await;
    rig.until_states("stalled", |state| matches!(state, AppliedState::Stalled { .. })).await;
    let work = rig.works().await.remove(0);
    rig.applier.take_away(&crate::rig::cluster("c1"), foreign.id());
    assert_eq!(rig.handle.retry(&work).await.unwrap(), 2);
    until("applied in c1", async || {
        rig.applied().await.iter().any(|applied| applied.state == AppliedState::Applied)
    })
    .await;
    assert!(rig.handle.give_up(&work).await.unwrap());
    rig.until_names("c1", &[]).await;
    rig.until_names("c2", &["a"]).await;
    until("no Work is left", async || rig.works().await.is_empty()).await;
    assert!(!rig.handle.give_up(&work).await.unwrap());
    rig.source.send(event("auth.login", "b")).await.await;
    rig.until_names("c1", &["b"]).await;
    assert_eq!(rig.store.work(&rig.works().await[0]).await.unwrap().unwrap().value.intent, Intent::Create);
    rig.stop().await;
}
