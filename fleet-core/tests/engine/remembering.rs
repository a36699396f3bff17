//! What is remembered of keys that are gone, for how long, and how much of it.

use std::sync::Arc;
use std::time::Duration;

use fleet_core::cluster::Cluster;
use fleet_core::engine::Config;
use fleet_core::memory::MemoryStore;
use fleet_core::position::Position;
use fleet_core::source::Settled;
use fleet_core::source::SourceItem;
use fleet_core::store::WorkStore;
use fleet_core::work::{AppliedState, Intent};

use crate::rig::{Feed, Setup, at, cluster, labelled, login, logout, until};
use crate::tampered::{Call, Tampered};

fn deduping() -> Setup {
    let setup = Setup::default();
    setup.catalog.edit(|snapshot| {
        Arc::make_mut(snapshot.sources.get_mut("users").unwrap()).dedupe = Some(Duration::from_secs(60));
    });
    setup
}

/// In the article, login and logout share an id: an equal one says nothing, unless the EventSource says that it does.
#[tokio::test(start_paused = true)]
async fn an_equal_id_is_a_duplicate_only_where_the_source_says_so() {
    let rig = Setup::default().start();
    rig.source.send(login("a")).await.await;
    rig.until_names("c1", &["a"]).await;
    rig.source.send(logout("a")).await.await;
    rig.until_names("c1", &[]).await;
    rig.stop().await;

    let rig = deduping().start();
    rig.source.send(login("a")).await.await;
    rig.until_names("c1", &["a"]).await;
    assert_eq!(rig.source.send(logout("a")).await.await, Settled::Acked);
    assert_eq!(rig.handle.counters().duplicates.get(), 1);
    tokio::time::sleep(Duration::from_secs(61)).await;
    assert_eq!(rig.names("c1"), ["a"]);
    rig.source.send(logout("a")).await.await;
    rig.until_names("c1", &[]).await;
    rig.stop().await;
}

/// What is gone is remembered for as long as an equal event would be a duplicate, over a restart too, and not longer.
#[tokio::test(start_paused = true)]
async fn a_duplicate_is_told_from_a_new_event_after_its_key_is_gone_and_after_a_restart() {
    let setup = deduping();
    setup.catalog.edit(|snapshot| {
        Arc::make_mut(snapshot.triggers.get_mut("names").unwrap()).action = Some("Delete".to_owned());
    });
    let (store, objects) = (Arc::clone(&setup.store), Arc::clone(&setup.objects));
    let rig = setup.start();
    rig.source.send(login("a")).await.await;
    assert_eq!(rig.works().await.len(), 1, "the Delete is remembered, though there is nothing to remove");
    rig.stop().await;
    let rig = Setup { store, objects, ..deduping() }.start();
    rig.source.send(login("a")).await.await;
    assert_eq!(rig.handle.counters().duplicates.get(), 1);
    assert!(rig.names("c1").is_empty());
    tokio::time::sleep(Duration::from_secs(70)).await;
    until("it is forgotten", async || rig.works().await.is_empty()).await;
    rig.source.send(login("a")).await.await;
    rig.until_names("c1", &["a"]).await;
    rig.stop().await;
}

/// Invariant 7: at the bound deliveries wait; those that the floor waits for are taken; floors make room.
#[tokio::test(start_paused = true)]
async fn at_the_bound_of_tombstones_reading_pauses_until_floors_make_room() {
    let config = Config { max_tombstones: 3, ..Config::default() };
    let rig = Setup { config, ..Setup::default() }.start();
    let feed = Feed::new("users");
    rig.handle.attach(Arc::clone(&feed) as _);
    for sequence in 11..=13 {
        feed.deliver(logout(&format!("u{sequence}")), at(sequence));
    }
    until("three tombstones", async || rig.handle.tombstones() == 3).await;
    let (settler, settled) = watched();
    feed.deliver_with(login("late"), at(14), settler);
    assert!(matches!(settled.await.unwrap(), Settled::GivenBack(_)));
    assert!(rig.names("c1").is_empty());
    let (settler, settled) = watched();
    feed.deliver_with(login("below"), at(5), settler);
    assert_eq!(settled.await.unwrap(), Settled::Acked, "the floor cannot rise before it is settled");
    feed.tell(SourceItem::Floor(at(12)));
    until("one tombstone", async || rig.handle.tombstones() == 1).await;
    feed.deliver(login("late"), at(14));
    rig.until_names("c1", &["below", "late"]).await;
    rig.stop().await;
}

/// A stream that is made anew begins below its last life's tombstones in number only: no floor rises unless it is read.
#[tokio::test(start_paused = true)]
async fn tombstones_of_an_earlier_epoch_do_not_keep_a_new_one_from_being_read() {
    let config = Config { max_tombstones: 1, ..Config::default() };
    let rig = Setup { config, ..Setup::default() }.start();
    let feed = Feed::new("users");
    rig.handle.attach(Arc::clone(&feed) as _);
    feed.deliver(logout("a"), at(7));
    until("a tombstone", async || rig.handle.tombstones() == 1).await;
    let (settler, settled) = watched();
    feed.deliver_with(login("a"), Position { epoch: 2, ..at(1) }, settler);
    assert_eq!(settled.await.unwrap(), Settled::Acked);
    rig.until_names("c1", &["a"]).await;
    rig.stop().await;
}

/// A floor that came while something was still there is not waited for again.
#[tokio::test(start_paused = true)]
async fn what_is_gone_after_its_floor_came_is_forgotten_at_once() {
    let rig = Setup::default().start();
    let feed = Feed::new("users");
    rig.handle.attach(Arc::clone(&feed) as _);
    feed.deliver(login("a"), at(1));
    rig.until_states("all applied", |state| *state == AppliedState::Applied).await;
    rig.clusters.put(Cluster { ready: false, ..labelled("c1", "production") });
    feed.deliver(logout("a"), at(2));
    rig.until_names("c2", &[]).await;
    feed.tell(SourceItem::Floor(at(2)));
    until("the floor is stored", async || rig.store.floors("users").await.unwrap() == [at(2)]).await;
    assert_eq!(rig.names("c1"), ["a"]);
    rig.clusters.put(labelled("c1", "production"));
    rig.until_names("c1", &[]).await;
    until("no Work is left", async || rig.works().await.is_empty()).await;
    rig.stop().await;
}

/// A source tells a floor once.
#[tokio::test(start_paused = true)]
async fn a_floor_is_stored_though_the_store_fails_at_first() {
    let store = Arc::new(Tampered::default());
    let rig = Setup { store: Arc::clone(&store) as _, ..Setup::default() }.start();
    let feed = Feed::new("users");
    rig.handle.attach(Arc::clone(&feed) as _);
    store.fail_once(Call::RaiseFloor);
    feed.tell(SourceItem::Floor(at(2)));
    until("the floor is stored", async || store.inner.floors("users").await.unwrap() == [at(2)]).await;
    rig.stop().await;
}

/// What settles a delivery, and how it was settled.
fn watched() -> (fleet_core::source::Settle, tokio::sync::oneshot::Receiver<Settled>) {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    (fleet_core::source::Settle::tell(move |settled| drop(sender.send(settled))), receiver)
}

/// A crash between a floor and the tombstones below it leaves none behind.
#[tokio::test(start_paused = true)]
async fn tombstones_below_a_floor_go_at_the_next_start() {
    let setup = Setup::default();
    let store = Arc::clone(&setup.store);
    let rig = setup.start();
    let feed = Feed::new("users");
    rig.handle.attach(Arc::clone(&feed) as _);
    feed.deliver(logout("a"), at(7));
    until("a tombstone", async || rig.handle.tombstones() == 1).await;
    rig.stop().await;
    store.raise_floor("users", &at(7)).await.unwrap();
    let rig = Setup { store, ..Setup::default() }.start();
    until("it is gone", async || rig.works().await.is_empty()).await;
    rig.stop().await;
}

/// What was applied for a Work that is not there any more is taken away, also if nobody remembers that Work.
#[tokio::test(start_paused = true)]
async fn what_was_applied_without_a_work_is_taken_away() {
    let (store, objects) = deserted().await;
    let rig = Setup { store, objects, ..Setup::default() }.start();
    rig.until_names("c1", &[]).await;
    rig.until_names("c2", &[]).await;
    until("no record is left", async || rig.store.all_applied(None, 9).await.unwrap().is_empty()).await;
    rig.stop().await;
}

/// A store in which only records of what was applied are left, and the objects.
async fn deserted() -> (Arc<dyn WorkStore>, Arc<fleet_core::memory::MemoryApplier>) {
    let setup = Setup::default();
    let (store, objects) = (Arc::clone(&setup.store), Arc::clone(&setup.objects));
    let rig = setup.start();
    rig.source.send(login("a")).await.await;
    rig.until_states("all applied", |state| *state == AppliedState::Applied).await;
    let work = rig.works().await.remove(0);
    rig.stop().await;
    let stored = store.work(&work).await.unwrap().unwrap();
    store.delete_work(&work, stored.revision).await.unwrap();
    (store, objects)
}

/// Two operators by mistake: what the other one does is followed.
#[tokio::test(start_paused = true)]
async fn a_work_that_another_operator_changed_is_looked_at() {
    let records = MemoryStore::default();
    let setup = Setup { store: Arc::new(records.another_handle()), ..Setup::default() };
    let rig = setup.start();
    rig.source.send(login("a")).await.await;
    rig.until_names("c1", &["a"]).await;
    rig.until_states("all applied", |state| *state == AppliedState::Applied).await;
    let other = records.another_handle();
    let work = rig.works().await.remove(0);
    let stored = other.work(&work).await.unwrap().unwrap();
    let gone = fleet_core::work::Work { intent: Intent::Delete, generation: 2, ..(*stored.value).clone() };
    other.put_work(Arc::new(gone), Some(stored.revision), vec![]).await.unwrap();
    rig.until_names("c1", &[]).await;
    rig.stop().await;
}

/// Two operators by mistake: a delivery that the other one settled, ended and forgot must not begin anew here.
#[tokio::test(start_paused = true)]
async fn what_another_operator_has_settled_and_forgotten_is_taken_back() {
    let rig = Setup::default().start();
    let feed = Feed::new("users");
    rig.handle.attach(Arc::clone(&feed) as _);
    feed.deliver(login("mine"), at(1));
    rig.until_names("c1", &["mine"]).await;
    // The other one has raised the floor; this one has not heard of it.
    rig.store.raise_floor("users", &at(9)).await.unwrap();
    feed.deliver(login("late"), at(5));
    until("it was stored", async || rig.handle.counters().stored.get() == 2).await;
    until("it is taken back", async || {
        rig.names("c1") == ["mine"] && rig.applied().await.iter().all(|it| it.state == AppliedState::Applied)
    })
    .await;
    rig.stop().await;
}

/// A call without an answer is not forgotten when its record could not be written either.
#[tokio::test(start_paused = true)]
async fn a_lost_answer_whose_record_cannot_be_written_is_not_forgotten() {
    let store = Arc::new(Tampered::default());
    let setup = Setup { store: Arc::clone(&store) as _, ..Setup::default() };
    let late = crate::late::Late::new(&setup.objects);
    let rig = Setup { applier: Some(Arc::clone(&late) as _), ..setup }.start();
    late.lose(true);
    store.fail_writing_while(cluster("c1"), {
        let late = Arc::clone(&late);
        move || late.has_lost()
    });
    rig.source.send(login("a")).await.await;
    late.one_is_lost().await;
    late.lose(false);
    rig.source.send(logout("a")).await.await;
    rig.until_names("c2", &[]).await;
    store.hook(|_| None);
    tokio::time::sleep(Duration::from_secs(10)).await;
    late.land().await;
    rig.until_names("c1", &[]).await;
    until("no Work is left", async || rig.works().await.is_empty()).await;
    rig.stop().await;
}
