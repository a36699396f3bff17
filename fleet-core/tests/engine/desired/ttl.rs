//! Keys that have to be renewed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use fleet_core::catalog::TriggerDef;
use fleet_core::engine::Config;
use fleet_core::environment::{Clock, Environment};
use fleet_core::memory::MemoryStore;
use fleet_core::source::{Settle, SourceItem};
use fleet_core::store::StoreError;
use fleet_core::work::{AppliedState, Intent, Work};
use jiff::{SignedDuration, Timestamp};
use tokio::time::{Instant, sleep};

use crate::rig::{Feed, Rig, Setup, at, cluster, login, logout, object, template, trigger, until};
use crate::tampered::{Call, Tampered};

/// A minute in which a user has to come again.
const TTL: Duration = Duration::from_secs(60);

fn expiring() -> TriggerDef {
    TriggerDef { ttl: Some(TTL), ..trigger() }
}

fn setup(trigger: TriggerDef) -> Setup {
    let setup = Setup::default();
    setup.catalog.edit(|snapshot| {
        snapshot.triggers = [(Arc::clone(&trigger.name), Arc::new(trigger))].into();
    });
    setup
}

/// Another process on what the first one left; the clock goes on.
fn next(first: &Setup) -> impl Fn(TriggerDef) -> Setup + use<> {
    let (store, objects) = (Arc::clone(&first.store), Arc::clone(&first.objects));
    let environment = first.environment.clone();
    move |trigger| Setup {
        store: Arc::clone(&store),
        objects: Arc::clone(&objects),
        environment: environment.clone(),
        ..setup(trigger)
    }
}

async fn send(rig: &Rig, subject: &str) {
    rig.source.send(login(subject)).await.await;
}

fn expired(rig: &Rig) -> u64 {
    rig.handle.counters().expired.get()
}

fn uid(rig: &Rig, name: &str) -> Option<Arc<str>> {
    rig.applier.object(&cluster("c1"), &object(name)).map(|object| object.uid)
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_not_renewed_is_deleted_when_its_time_has_come() {
    let config = Config { max_withdraw_percent: 0, max_withdraw_floor: 0, ..Config::default() };
    let rig = Setup { config, ..setup(expiring()) }.start();
    let began = Instant::now();
    send(&rig, "a").await;
    send(&rig, "b").await;
    sleep(Duration::from_secs(50)).await;
    send(&rig, "a").await;
    rig.until_names("c1", &["a", "b"]).await;
    rig.until_names("c1", &["a"]).await;
    let took = began.elapsed().as_secs_f64();
    assert!((60.0..60.2).contains(&took), "{took}");
    rig.until_names("c1", &[]).await;
    let took = began.elapsed().as_secs_f64();
    assert!((110.0..110.3).contains(&took), "{took}");
    rig.until_names("c2", &[]).await;
    until("nothing is remembered", async || rig.works().await.is_empty()).await;
    assert_eq!(expired(&rig), 2);
    assert_eq!(rig.handle.held_withdrawals(), None, "it is an order");
    // It may come again, and go by itself.
    send(&rig, "a").await;
    rig.until_names("c1", &["a"]).await;
    rig.source.send(logout("a")).await.await;
    rig.until_names("c1", &[]).await;
    sleep(TTL * 2).await;
    assert_eq!(expired(&rig), 2);
    rig.stop().await;
}

/// What expires while nobody runs is deleted at the next start; the rest at its time.
#[tokio::test(start_paused = true)]
async fn a_restart_changes_nothing_about_it() {
    let first = setup(expiring());
    let again = next(&first);
    let rig = first.start();
    send(&rig, "a").await;
    sleep(Duration::from_secs(50)).await;
    let began = Instant::now();
    send(&rig, "b").await;
    rig.until_states("all applied", |state| *state == AppliedState::Applied).await;
    rig.stop().await;
    sleep(Duration::from_secs(30)).await;
    let rig = again(expiring()).start();
    rig.until_names("c1", &["b"]).await;
    rig.until_names("c2", &["b"]).await;
    assert!(began.elapsed() < Duration::from_secs(31), "at once");
    rig.until_names("c1", &[]).await;
    let took = began.elapsed().as_secs_f64();
    assert!((60.0..60.3).contains(&took), "{took}");
    rig.stop().await;
}

/// A crash between the expiry and what follows from it.
#[tokio::test(start_paused = true)]
async fn a_crash_after_it_was_stored_only_delays_the_removal() {
    let store = Arc::new(Tampered::default());
    let first = Setup { store: Arc::clone(&store) as _, ..setup(expiring()) };
    let again = next(&first);
    let rig = first.start();
    send(&rig, "a").await;
    rig.until_states("all applied", |state| *state == AppliedState::Applied).await;
    let held = store.hold(Call::WorkPut);
    held.reached().await;
    assert_eq!(rig.names("c1"), ["a"]);
    rig.stop().await;
    store.hook(|_| None);
    drop(held);
    let rig = again(expiring()).start();
    rig.until_names("c1", &[]).await;
    until("nothing is remembered", async || rig.works().await.is_empty()).await;
    rig.stop().await;
}

/// The ttl is a level: what counts is what it is now.
#[tokio::test(start_paused = true)]
async fn an_edited_ttl_counts_for_every_key() {
    let rig = setup(trigger()).start();
    send(&rig, "a").await;
    send(&rig, "b").await;
    rig.until_names("c1", &["a", "b"]).await;
    sleep(Duration::from_secs(100)).await;
    send(&rig, "b").await;
    // Added: what is over is over at once.
    rig.set("names", |trigger| trigger.ttl = Some(TTL));
    rig.until_names("c1", &["b"]).await;
    sleep(Duration::from_secs(30)).await;
    // Longer.
    rig.set("names", |trigger| trigger.ttl = Some(TTL * 10));
    sleep(Duration::from_secs(300)).await;
    assert_eq!(rig.names("c1"), ["b"]);
    // None any more.
    rig.set("names", |trigger| trigger.ttl = None);
    sleep(Duration::from_secs(1000)).await;
    assert_eq!(rig.names("c1"), ["b"]);
    // Shorter than what was.
    let began = Instant::now();
    send(&rig, "c").await;
    send(&rig, "b").await;
    rig.set("names", |trigger| trigger.ttl = Some(TTL * 10));
    sleep(Duration::from_secs(10)).await;
    rig.set("names", |trigger| trigger.ttl = Some(TTL));
    rig.until_names("c1", &[]).await;
    let took = began.elapsed().as_secs_f64();
    assert!((60.0..60.3).contains(&took), "{took}");
    rig.stop().await;
}

/// It counts from when the transport took the message. What comes too late is remembered, and nothing else.
#[tokio::test(start_paused = true)]
async fn an_event_that_comes_too_late_leaves_a_tombstone_only() {
    let setup = setup(expiring());
    let clock = Arc::clone(&setup.environment.clock);
    let rig = setup.start();
    let feed = Feed::new("users");
    rig.handle.attach(Arc::clone(&feed) as _);
    let ago = |seconds| clock.now().checked_sub(SignedDuration::from_secs(seconds)).unwrap();
    let deliver = |subject: &str, sequence, published: Timestamp| {
        feed.deliver_published(login(subject), at(sequence), Some(published), Settle::nothing());
    };
    deliver("late", 2, ago(61));
    until("it is stored", async || rig.handle.counters().stored.get() == 1).await;
    let works = rig.store.works(None, None, 9).await.unwrap();
    assert_eq!((works[0].value.intent, rig.handle.tombstones()), (Intent::Delete, 1));
    assert!(rig.applied().await.is_empty());
    // Reordered: an older one, whenever it was published, is superseded.
    deliver("late", 1, ago(0));
    until("superseded", async || rig.handle.counters().superseded.get() == 1).await;
    // Half of its time was over when it came.
    let began = Instant::now();
    deliver("half", 3, ago(30));
    rig.until_names("c1", &["half"]).await;
    rig.until_names("c1", &[]).await;
    let took = began.elapsed().as_secs_f64();
    assert!((30.0..30.2).contains(&took), "{took}");
    assert_eq!(expired(&rig), 2);
    // Delivered again after it has expired, it stays so; what is newer begins anew.
    deliver("half", 3, ago(60));
    until("superseded", async || rig.handle.counters().superseded.get() == 2).await;
    deliver("half", 4, ago(0));
    rig.until_names("c1", &["half"]).await;
    // Its last event is one that has expired.
    deliver("half", 5, ago(100));
    rig.until_names("c1", &[]).await;
    feed.tell(SourceItem::Floor(at(5)));
    until("nothing is remembered", async || rig.works().await.is_empty()).await;
    rig.stop().await;
}

/// Makes the first write of a Work from now on wait; returns what lets it go on, and whether it waits.
fn hold_one(store: &Tampered) -> (tokio::sync::oneshot::Sender<()>, Arc<AtomicBool>) {
    let (go_on, wait) = tokio::sync::oneshot::channel::<()>();
    let wait = parking_lot::Mutex::new(Some(wait));
    let waits = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&waits);
    store.hook(move |call| {
        let wait = (call == Call::PutWork).then(|| wait.lock().take()).flatten()?;
        flag.store(true, Ordering::Relaxed);
        Some(Box::pin(async move {
            let _ = wait.await;
            Ok::<_, StoreError>(())
        }))
    });
    (go_on, waits)
}

#[tokio::test(start_paused = true)]
async fn a_renewal_at_the_same_moment_wins() {
    let store = Arc::new(Tampered::default());
    let rig = Setup { store: Arc::clone(&store) as _, ..setup(expiring()) }.start();
    send(&rig, "a").await;
    rig.until_states("all applied", |state| *state == AppliedState::Applied).await;
    let first = uid(&rig, "a");
    let (go_on, waits) = hold_one(&store);
    until("it is about to expire", async || waits.load(Ordering::Relaxed)).await;
    send(&rig, "a").await;
    go_on.send(()).unwrap();
    sleep(Duration::from_secs(50)).await;
    assert_eq!((uid(&rig, "a"), expired(&rig)), (first, 0), "it was never gone");
    rig.until_names("c1", &[]).await;
    assert_eq!(expired(&rig), 1);
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_is_written_just_after_the_expiry_is_not_lost() {
    let store = Arc::new(Tampered::default());
    let rig = Setup { store: Arc::clone(&store) as _, ..setup(expiring()) }.start();
    send(&rig, "a").await;
    rig.until_names("c1", &["a"]).await;
    sleep(TTL - Duration::from_secs(1)).await;
    let (go_on, waits) = hold_one(&store);
    let sent = rig.source.send(login("a")).await;
    until("it is about to be renewed", async || waits.load(Ordering::Relaxed)).await;
    until("it expires", async || expired(&rig) == 1).await;
    go_on.send(()).unwrap();
    sent.await;
    rig.until_names("c1", &["a"]).await;
    sleep(Duration::from_secs(30)).await;
    assert_eq!(rig.names("c1"), ["a"]);
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_only_delays_it() {
    // Before it is written, and after.
    for call in [Call::PutWork, Call::WorkPut] {
        let store = Arc::new(Tampered::default());
        let rig = Setup { store: Arc::clone(&store) as _, ..setup(expiring()) }.start();
        send(&rig, "a").await;
        send(&rig, "b").await;
        rig.until_names("c1", &["a", "b"]).await;
        store.fail_once(call);
        rig.until_names("c1", &[]).await;
        until("nothing is remembered", async || rig.works().await.is_empty()).await;
        rig.stop().await;
    }
}

/// A clock that somebody sets.
struct Jumping(Arc<dyn Clock>, Arc<AtomicI64>);

impl Clock for Jumping {
    fn now(&self) -> Timestamp {
        self.0.now().checked_add(SignedDuration::from_secs(self.1.load(Ordering::Relaxed))).unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_is_followed() {
    let offset = Arc::new(AtomicI64::new(0));
    let setup = setup(expiring());
    let clock = Arc::new(Jumping(Arc::clone(&setup.environment.clock), Arc::clone(&offset)));
    let environment = Environment { clock, ..setup.environment.clone() };
    let rig = Setup { environment, ..setup }.start();
    send(&rig, "a").await;
    rig.until_names("c1", &["a"]).await;
    offset.store(-3600, Ordering::Relaxed);
    sleep(Duration::from_secs(600)).await;
    assert_eq!(rig.names("c1"), ["a"], "its time has not come by the clock that there is");
    let began = Instant::now();
    offset.store(3600, Ordering::Relaxed);
    rig.until_names("c1", &[]).await;
    assert!(began.elapsed() < Duration::from_secs(3));
    rig.stop().await;
}

/// Two operators by mistake: it expires once.
#[tokio::test(start_paused = true)]
async fn of_two_operators_one_deletes_it() {
    let records = MemoryStore::default();
    let first = Setup { store: Arc::new(records.another_handle()), ..setup(expiring()) };
    let second = Setup {
        store: Arc::new(records.another_handle()),
        objects: Arc::clone(&first.objects),
        environment: first.environment.clone(),
        ..setup(expiring())
    };
    let (first, second) = (first.start(), second.start());
    send(&first, "a").await;
    send(&second, "b").await;
    first.until_names("c1", &["a", "b"]).await;
    sleep(Duration::from_secs(30)).await;
    send(&second, "a").await;
    first.until_names("c1", &["a"]).await;
    sleep(Duration::from_secs(20)).await;
    assert_eq!(first.names("c1"), ["a"], "renewed by the other");
    first.until_names("c1", &[]).await;
    sleep(Duration::from_secs(5)).await;
    assert_eq!(expired(&first) + expired(&second), 2);
    first.stop().await;
    second.stop().await;
}

/// A key that expires leaves what keys have together.
#[tokio::test(start_paused = true)]
async fn keys_that_are_rendered_together_expire_one_by_one() {
    let together =
        TriggerDef { one_for_event: false, payload: vec![template("all=$subjects")], ..expiring() };
    let rig = setup(together).start();
    send(&rig, "a").await;
    sleep(Duration::from_secs(30)).await;
    send(&rig, "b").await;
    until("both", async || rig.value("all") == Some("a,b".into())).await;
    until("one", async || rig.value("all") == Some("b".into())).await;
    rig.until_names("c1", &[]).await;
    sleep(TTL * 2).await;
    assert_eq!(expired(&rig), 2, "what they have together does not expire");
    rig.stop().await;
}

/// A Work that was stored before transports told their time counts from its acceptance.
#[tokio::test(start_paused = true)]
async fn without_a_time_of_its_transport_a_key_counts_from_its_acceptance() {
    let first = setup(trigger());
    let again = next(&first);
    let store = Arc::clone(&first.store);
    let rig = first.start();
    let began = Instant::now();
    send(&rig, "a").await;
    rig.until_states("all applied", |state| *state == AppliedState::Applied).await;
    rig.stop().await;
    let stored = store.works(None, None, 9).await.unwrap().remove(0);
    let work = Work { published: None, ..(*stored.value).clone() };
    store.put_work(Arc::new(work), Some(stored.revision), vec![]).await.unwrap();
    let rig = again(expiring()).start();
    rig.until_names("c1", &[]).await;
    let took = began.elapsed().as_secs_f64();
    assert!((60.0..60.3).contains(&took), "{took}");
    rig.stop().await;
}

/// What renews a key may wait to be read: for as long as that is so, it does not expire.
#[tokio::test(start_paused = true)]
async fn no_key_expires_while_what_renews_it_may_be_unread() {
    let first = setup(expiring());
    let again = next(&first);
    let clock = Arc::clone(&first.environment.clock);
    let begun = clock.now();
    let after = |seconds| begun.checked_add(SignedDuration::from_secs(seconds)).unwrap();
    let deliver = |feed: &Feed, subject: &str, sequence, published| {
        feed.deliver_published(login(subject), at(sequence), Some(after(published)), Settle::nothing());
    };
    let rig = first.start();
    let feed = Feed::with_backlog("users");
    rig.handle.attach(Arc::clone(&feed) as _);
    deliver(&feed, "a", 1, 0);
    deliver(&feed, "b", 2, 0);
    rig.until_states("all applied", |state| *state == AppliedState::Applied).await;
    let made = uid(&rig, "a");
    rig.stop().await;

    // Renewed at 50 and 100 s; not read before 200 s.
    sleep(Duration::from_secs(200)).await;
    let rig = again(expiring()).start();
    let feed = Feed::with_backlog("users");
    rig.handle.attach(Arc::clone(&feed) as _);
    until("it is asked", async || feed.asked() > 0).await;
    sleep(Duration::from_secs(10)).await;
    assert_eq!(rig.names("c1"), ["a", "b"], "it has not answered");
    deliver(&feed, "a", 3, 50);
    deliver(&feed, "a", 4, 100);
    deliver(&feed, "c", 5, 110);
    feed.tell(SourceItem::Settled(after(59)));
    sleep(Duration::from_secs(10)).await;
    assert_eq!(rig.names("c1"), ["a", "b"], "what was published at 59.5 s may still come");
    feed.tell(SourceItem::Settled(after(60)));
    rig.until_names("c1", &["a"]).await;
    deliver(&feed, "a", 6, 159);
    feed.tell(SourceItem::Settled(after(160)));
    sleep(Duration::from_secs(5)).await;
    assert_eq!(uid(&rig, "a"), made, "it was never gone");
    let asked = feed.asked();
    feed.tell(SourceItem::Settled(after(219)));
    rig.until_names("c1", &[]).await;
    assert!(asked > 10, "it is asked again and again: {asked}");
    sleep(Duration::from_secs(30)).await;
    assert!(feed.asked() < asked + 5, "nothing waits any more");
    assert_eq!(expired(&rig), 3);
    rig.stop().await;
}
