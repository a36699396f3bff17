//! Sources that tell how things are: what they tell again changes nothing, and a complete list of what is live ends the rest.

use std::sync::Arc;
use std::time::Duration;

use fleet_core::catalog::{SourceDef, Tells, TriggerDef};
use fleet_core::cluster::ClusterId;
use fleet_core::engine::{Config, HeldWithdrawals};
use fleet_core::event::Event;
use fleet_core::filter::Filter;
use fleet_core::position::Position;
use fleet_core::source::{Live, Snapshot, SourceItem};
use fleet_core::work::{EventKey, WorkId};
use tokio::time::sleep;

use crate::rig::{Feed, Rig, Setup, at, cluster, login, logout, source, template, trigger, until};
use crate::tampered::{Call, Tampered};

/// Of `collection`, in no special version.
fn object(collection: &str, name: &str) -> Event {
    version(collection, name, 1)
}

fn version(collection: &str, name: &str, version: u64) -> Event {
    let data = serde_json::json!({"version": version});
    let event = Event::builder(format!("{name}-{version}"), collection, "object.live");
    event.subject(name).json(data).build().unwrap()
}

fn gone(collection: &str, name: &str) -> Event {
    Event::builder(format!("{name}-gone"), collection, "object.gone").subject(name).build().unwrap()
}

fn list(collection: &str, names: &[&str]) -> SourceItem {
    let subjects = names.iter().map(|name| (*name).to_owned()).collect();
    snapshot(None, Live::Subjects { source: collection.to_owned(), subjects }, None)
}

fn snapshot(origin: Option<ClusterId>, live: Live, position: Option<Position>) -> SourceItem {
    SourceItem::Snapshot(Snapshot { origin, live, position })
}

fn mirror() -> TriggerDef {
    TriggerDef { action: None, ..trigger() }
}

/// What a mirror of a source of states is: nothing else is read.
fn setup(trigger: TriggerDef) -> Setup {
    let setup = Setup::default();
    setup.catalog.edit(|snapshot| {
        let states = SourceDef { tells: Tells::States, ..source() };
        snapshot.sources = [("users".into(), Arc::new(states))].into();
        snapshot.triggers = [(Arc::clone(&trigger.name), Arc::new(trigger))].into();
    });
    setup
}

fn read(setup: Setup) -> (Rig, Arc<Feed>) {
    let rig = setup.start();
    let feed = Feed::new("users");
    rig.handle.attach(Arc::clone(&feed) as _);
    (rig, feed)
}

async fn tell_all(rig: &Rig, feed: &Feed, names: &[&str]) {
    names.iter().for_each(|name| feed.tell_state(object("pods", name)));
    rig.until_names("c1", names).await;
}

async fn generation(rig: &Rig, name: &str) -> Option<u64> {
    let (source, subject) = ("pods".to_owned(), Some(name.to_owned()));
    let key = EventKey::About { origin: None, source, subject };
    rig.store.work(&WorkId::new("names", &key)).await.unwrap().map(|stored| stored.value.generation)
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_deletes_what_it_lacks_and_nothing_beside_its_scope() {
    let (rig, feed) = read(setup(mirror()));
    tell_all(&rig, &feed, &["a", "b", "c"]).await;
    feed.tell_state(object("services", "s"));
    feed.tell(list("pods", &["a", "c"]));
    rig.until_names("c1", &["a", "c", "s"]).await;
    assert_eq!(rig.handle.counters().missing.get(), 1);

    let elsewhere = Live::Subjects { source: "pods".to_owned(), subjects: Default::default() };
    feed.tell(snapshot(Some(cluster("c2")), elsewhere, None));
    feed.tell_state(object("services", "t"));
    rig.until_names("c1", &["a", "c", "s", "t"]).await;

    // Services are not looked at any more.
    feed.tell(snapshot(None, Live::Sources(["pods".to_owned()].into()), None));
    rig.until_names("c1", &["a", "c"]).await;
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_state_that_is_told_again_changes_nothing() {
    let (rig, feed) = read(setup(mirror()));
    tell_all(&rig, &feed, &["a"]).await;
    feed.tell_state(object("pods", "a"));
    feed.tell_state(object("pods", "b"));
    rig.until_names("c1", &["a", "b"]).await;
    assert_eq!(generation(&rig, "a").await, Some(1));
    feed.tell_state(version("pods", "a", 2));
    until("the new version is stored", async || generation(&rig, "a").await == Some(2)).await;
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_gone_is_deleted_whatever_the_action_and_filters_say() {
    let filter = Filter::Exact([("type".to_owned(), "object.live".to_owned())].into());
    let always = TriggerDef { action: Some("Create".to_owned()), filter, ..mirror() };
    let (rig, feed) = read(setup(always));
    tell_all(&rig, &feed, &["a", "b"]).await;
    feed.tell_state(gone("pods", "a"));
    rig.until_names("c1", &["b"]).await;
    feed.tell_state(gone("pods", "never there"));
    feed.tell_state(object("pods", "c"));
    rig.until_names("c1", &["b", "c"]).await;
    assert_eq!(rig.handle.counters().dead_letters.get(), 0);
    rig.stop().await;
}

/// A filter is a level for what tells levels.
#[tokio::test(start_paused = true)]
async fn a_state_that_a_filter_keeps_out_is_gone_for_the_trigger() {
    for of_source in [false, true] {
        let only_first = Filter::Exact([("id".to_owned(), "a-1".to_owned())].into());
        let filter = if of_source { Filter::default() } else { only_first.clone() };
        let setup = setup(TriggerDef { filter, ..mirror() });
        if of_source {
            setup.catalog.edit(|snapshot| {
                let states = SourceDef { tells: Tells::States, filter: only_first, ..source() };
                snapshot.sources.insert("users".into(), Arc::new(states));
            });
        }
        let (rig, feed) = read(setup);
        tell_all(&rig, &feed, &["a"]).await;
        feed.tell_state(version("pods", "a", 2));
        rig.until_names("c1", &[]).await;
        rig.stop().await;
    }
}

/// What no key can be made of was never Work, so there is nothing to complain of.
#[tokio::test(start_paused = true)]
async fn what_is_gone_and_has_no_key_is_no_dead_letter() {
    let keyed = TriggerDef { key: Some("$subject".to_owned()), ..mirror() };
    let (rig, feed) = read(setup(keyed));
    feed.tell_state(Event::builder("1", "pods", "object.gone").build().unwrap());
    feed.tell_state(Event::builder("2", "pods", "object.live").build().unwrap());
    until("one is refused", async || rig.handle.counters().dead_letters.get() == 1).await;
    assert_eq!(rig.store.dead_letters(None, 9).await.unwrap().len(), 1);
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_trigger_that_comes_later_hears_of_all_there_is() {
    let (rig, feed) = read(setup(mirror()));
    tell_all(&rig, &feed, &["a"]).await;
    let before = feed.asked_again();
    // What it renders does not matter to what it hears.
    let rendering = TriggerDef { payload: vec![template("$subject $subject-2")], ..mirror() };
    rig.catalog.edit(|snapshot| drop(snapshot.triggers.insert("names".into(), Arc::new(rendering))));
    rig.until_names("c1", &["a", "a-2"]).await;
    assert_eq!(feed.asked_again(), before);
    for changed in [
        TriggerDef { name: "more".into(), ..mirror() },
        TriggerDef { action: Some("Create".into()), ..mirror() },
    ] {
        let before = feed.asked_again();
        rig.catalog.edit(|snapshot| drop(snapshot.triggers.insert(changed.name.clone(), Arc::new(changed))));
        until("asked again", async || feed.asked_again() == before + 1).await;
    }
    rig.stop().await;
}

/// Invariant 11: a list that lacks too much has to be confirmed; what comes back meanwhile stays.
#[tokio::test(start_paused = true)]
async fn a_snapshot_that_lacks_too_much_waits_for_confirmation() {
    let (rig, feed) = read(setup(mirror()));
    let names: Vec<_> = (0..30).map(|number| format!("n{number:02}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    tell_all(&rig, &feed, &names).await;
    feed.tell(list("pods", &names[..19]));
    let held = |works| Some(HeldWithdrawals { works, total: 30 });
    until("held", async || rig.handle.held_withdrawals() == held(11)).await;
    // Events are orders as ever, and what is live again is not held any more: unchanged, changed, or in the next list.
    feed.tell_state(object("pods", "n29"));
    feed.tell_state(version("pods", "n28", 2));
    until("nine are held", async || rig.handle.held_withdrawals() == held(9)).await;
    let with_27: Vec<_> = names[..19].iter().chain(&names[27..]).copied().collect();
    feed.tell(list("pods", &with_27));
    // Fewer than the bound now.
    until("none is held", async || rig.handle.held_withdrawals().is_none()).await;
    rig.until_names("c1", &with_27).await;

    feed.tell(list("pods", &[]));
    until("held", async || rig.handle.held_withdrawals().is_some_and(|held| held.works == 22)).await;
    feed.tell_state(object("pods", "n00"));
    until("one less", async || rig.handle.held_withdrawals().is_some_and(|held| held.works == 21)).await;
    assert_eq!(rig.handle.confirm_withdrawals(), 21);
    rig.until_names("c1", &["n00"]).await;
    rig.stop().await;
}

/// A trigger of that name read another source before.
#[tokio::test(start_paused = true)]
async fn a_snapshot_says_nothing_of_what_another_source_has_brought() {
    let (rig, feed) = read(setup(mirror()));
    tell_all(&rig, &feed, &["a"]).await;
    rig.catalog.edit(|snapshot| {
        let others = SourceDef { tells: Tells::States, ..SourceDef::new("others") };
        snapshot.sources.insert("others".into(), Arc::new(others));
        let trigger = TriggerDef { source: Some("others".into()), ..mirror() };
        snapshot.triggers.insert("names".into(), Arc::new(trigger));
    });
    let others = Feed::new("others");
    rig.handle.attach(Arc::clone(&others) as _);
    others.tell_state(object("pods", "b"));
    others.tell_state(object("pods", "c"));
    rig.until_names("c1", &["a", "b", "c"]).await;
    others.tell(list("pods", &["c"]));
    rig.until_names("c1", &["a", "c"]).await;
    rig.stop().await;
}

/// The share is one of all that is there, also before the first sweep has counted it.
#[tokio::test(start_paused = true)]
async fn after_a_start_the_share_is_one_of_what_is_stored() {
    let setup_with = |store, objects| Setup { store, objects, ..setup(mirror()) };
    let (store, objects) = (Setup::default().store, Arc::default());
    let (rig, feed) = read(setup_with(Arc::clone(&store), Arc::clone(&objects)));
    let names: Vec<_> = (0..100).map(|number| format!("n{number:02}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    tell_all(&rig, &feed, &names).await;
    rig.stop().await;
    let slow = Config { rerenders_per_second: 1, ..Config::default() };
    let (rig, feed) = read(Setup { config: slow, ..setup_with(store, objects) });
    feed.tell(list("pods", &names[..85]));
    rig.until_names("c1", &names[..85]).await;
    assert_eq!(rig.handle.held_withdrawals(), None);
    rig.stop().await;
}

/// What was read before the list, and is still on its way to the store, is not spared by that.
#[tokio::test(start_paused = true)]
async fn a_snapshot_comes_after_what_was_delivered_before_it_and_before_what_comes_after() {
    for replaced in [false, true] {
        let store = Arc::new(Tampered::default());
        let held = store.hold(Call::PutWork);
        let (rig, feed) = read(Setup { store: Arc::clone(&store) as _, ..setup(mirror()) });
        feed.tell_state(object("pods", "before"));
        held.reached().await;
        let next = if replaced { Feed::new("users") } else { feed };
        if replaced {
            // Another connection to the same cluster, which has a new list.
            rig.handle.attach(Arc::clone(&next) as _);
        }
        next.tell(list("pods", &[]));
        next.tell_state(object("pods", "after"));
        sleep(Duration::from_secs(1)).await;
        drop(held);
        rig.until_names("c1", &["after"]).await;
        assert_eq!(rig.handle.counters().missing.get(), 1);
        rig.stop().await;
    }
}

/// A source that has an order of its own tells a snapshot's place in it.
#[tokio::test(start_paused = true)]
async fn a_snapshot_with_a_place_spares_what_is_newer_and_keeps_out_what_is_older() {
    let (rig, feed) = {
        let rig = Setup::default().start();
        let feed = Feed::new("users");
        rig.handle.attach(Arc::clone(&feed) as _);
        (rig, feed)
    };
    let nobody = || Live::Subjects { source: "auth".to_owned(), subjects: Default::default() };
    feed.deliver(login("old"), at(3));
    feed.deliver(login("new"), at(7));
    rig.until_names("c1", &["new", "old"]).await;
    feed.tell(snapshot(None, nobody(), Some(at(5))));
    rig.until_names("c1", &["new"]).await;
    // Delivered again, it is older than the list that lacks it.
    feed.deliver(login("old"), at(4));
    feed.deliver(logout("new"), at(8));
    rig.until_names("c1", &[]).await;
    feed.deliver(login("old"), at(6));
    rig.until_names("c1", &["old"]).await;
    rig.stop().await;
}

/// Invariants 2 and 11: a store that cannot be listed deletes nothing, and the list is not forgotten.
#[tokio::test(start_paused = true)]
async fn a_snapshot_waits_for_the_store_and_the_feed_for_the_snapshot() {
    let store = Arc::new(Tampered::default());
    let (rig, feed) = read(Setup { store: Arc::clone(&store) as _, ..setup(mirror()) });
    tell_all(&rig, &feed, &["a", "b"]).await;
    until("quiet", async || rig.handle.backlog() == 0).await;
    let held = store.hold(Call::Works);
    feed.tell(list("pods", &["b"]));
    feed.tell(SourceItem::Floor(at(9)));
    held.reached().await;
    sleep(Duration::from_secs(60)).await;
    assert_eq!(rig.names("c1"), ["a", "b"]);
    assert!(rig.store.floors("users").await.unwrap().is_empty(), "the next item is not taken before");
    drop(held);
    store.fail_once(Call::Works);
    rig.until_names("c1", &["b"]).await;
    until("read on", async || rig.store.floors("users").await.unwrap() == [at(9)]).await;
    rig.stop().await;
}

/// A kill while a snapshot is processed: the next start brings another one.
#[tokio::test(start_paused = true)]
async fn a_snapshot_that_was_interrupted_is_done_after_a_restart() {
    let store = Arc::new(Tampered::default());
    let objects = Arc::default();
    let setup_with = || {
        let (store, objects) = (Arc::clone(&store) as _, Arc::clone(&objects));
        Setup { store, objects, ..setup(mirror()) }
    };
    let (rig, feed) = read(setup_with());
    tell_all(&rig, &feed, &["a", "b", "c", "d"]).await;
    let writes = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let written = Arc::clone(&writes);
    // The first write is the last.
    store.hook(move |call| {
        let is_later =
            call == Call::PutWork && written.fetch_add(1, std::sync::atomic::Ordering::Relaxed) > 0;
        is_later.then(|| Box::pin(std::future::pending()) as _)
    });
    feed.tell(list("pods", &["d"]));
    until("half done", async || rig.names("c1").len() == 3).await;
    rig.engine.abort();
    store.hook(|_| None);

    let (rig, feed) = read(setup_with());
    feed.tell(list("pods", &["d"]));
    rig.until_names("c1", &["d"]).await;
    rig.stop().await;
}
