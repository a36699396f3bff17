//! Triggers that render all their keys together.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use fleet_core::catalog::{OriginRule, TriggerDef};
use fleet_core::engine::{Config, HeldWithdrawals};
use fleet_core::event::Event;
use fleet_core::manifest::Manifest;
use fleet_core::memory::MemoryStore;
use fleet_core::policy::{Policy, StopMatching, SyncMode};
use fleet_core::render::{Context, Renderer, Template, TemplateError, TemplateSource};
use fleet_core::store::WorkStore;
use fleet_core::work::{AppliedState, EventKey, Intent, Work, WorkId};
use serde_json::json;

use super::mode;
use super::slow::Slow;
use crate::rig::{
    Feed, Rig, Setup, Words, at, cluster, event, labelled, login, logout, object, template, trigger, until,
};
use crate::tampered::{Call, Tampered};

/// All users of a cluster in one object.
fn users(policy: Policy) -> TriggerDef {
    TriggerDef {
        one_for_event: false,
        payload: vec![template("all=$subjects")],
        policy: Arc::new(policy),
        ..trigger()
    }
}

fn setup(trigger: TriggerDef) -> Setup {
    let setup = Setup::default();
    setup.catalog.edit(|snapshot| {
        snapshot.triggers = [(Arc::clone(&trigger.name), Arc::new(trigger))].into();
    });
    setup
}

fn aggregate() -> WorkId {
    WorkId::new("names", &EventKey::All)
}

fn value_in(rig: &Rig, name: &str) -> Option<String> {
    let object = rig.applier.object(&cluster(name), &object("all"))?.object;
    Some(object.get("data")?.get("v")?.as_str()?.to_owned())
}

async fn until_in(rig: &Rig, name: &str, expected: &str) {
    let wanted = || value_in(rig, name).as_deref() == Some(expected);
    until(&format!("{expected} in {name}"), async || wanted()).await;
}

async fn send(rig: &Rig, event: Event) {
    rig.source.send(event).await.await;
}

/// The records of keys: those of Works beside the derived one.
async fn keys(store: &dyn WorkStore) -> Vec<Arc<Work>> {
    let works = store.works(None, None, 10_000).await.unwrap();
    works.into_iter().map(|stored| stored.value).filter(|work| work.key != EventKey::All).collect()
}

#[tokio::test(start_paused = true)]
async fn the_keys_of_a_cluster_are_rendered_together_and_in_order() {
    let rig = setup(users(Policy::default())).start();
    for subject in ["c", "a", "b"] {
        send(&rig, login(subject)).await;
    }
    until_in(&rig, "c1", "a,b,c").await;
    until_in(&rig, "c2", "a,b,c").await;
    rig.until_states("all applied", |state| *state == AppliedState::Applied).await;
    let owners: BTreeSet<_> = rig.applied().await.into_iter().map(|applied| applied.work).collect();
    assert_eq!(owners, BTreeSet::from([aggregate()]), "keys have nothing of their own");
    let stored = rig.store.work(&aggregate()).await.unwrap().unwrap();
    assert_eq!((stored.value.generation, stored.value.event.ty()), (1, "dev.fleet-events.aggregate"));
    send(&rig, logout("b")).await;
    until_in(&rig, "c1", "a,c").await;
    assert_eq!(rig.store.work(&aggregate()).await.unwrap().unwrap(), stored, "no event writes it");
    // An empty set is withdrawn, by order: no limit holds it.
    send(&rig, logout("a")).await;
    send(&rig, logout("c")).await;
    rig.until_names("c1", &[]).await;
    rig.until_names("c2", &[]).await;
    until("no key is left", async || keys(&*rig.store).await.is_empty()).await;
    until("no record is left", async || rig.applied().await.is_empty()).await;
    send(&rig, login("d")).await;
    until_in(&rig, "c2", "d").await;
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn events_count_by_their_position_as_ever() {
    let rig = setup(users(Policy::default())).start();
    let feed = Feed::new("users");
    rig.handle.attach(Arc::clone(&feed) as _);
    feed.deliver(login("a"), at(1));
    feed.deliver(login("b"), at(2));
    until_in(&rig, "c1", "a,b").await;
    feed.deliver(logout("a"), at(4));
    until_in(&rig, "c1", "b").await;
    feed.deliver(login("a"), at(3));
    feed.deliver(login("b"), at(2));
    until("both superseded", async || rig.handle.counters().superseded.get() == 2).await;
    assert_eq!(rig.handle.tombstones(), 1);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(value_in(&rig, "c1").as_deref(), Some("b"));
    rig.stop().await;
}

/// Restarted, nothing is written while the set is as it was.
#[tokio::test(start_paused = true)]
async fn an_unchanged_set_is_not_applied_again() {
    let started = setup(users(mode(SyncMode::ContinuousWithDriftDetection)));
    let (store, objects) = (Arc::clone(&started.store), Arc::clone(&started.objects));
    let rig = started.start();
    send(&rig, login("a")).await;
    until_in(&rig, "c1", "a").await;
    until_in(&rig, "c2", "a").await;
    rig.until_states("all applied", |state| *state == AppliedState::Applied).await;
    let applied = rig.handle.counters().applied.get();
    send(&rig, login("a")).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(rig.handle.counters().applied.get(), applied);
    rig.stop().await;

    let rig = Setup { store, objects, ..setup(users(mode(SyncMode::ContinuousWithDriftDetection))) }.start();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(rig.handle.counters().applied.get(), 0);
    // Drift is the derived Work's.
    rig.applier.take_away(&cluster("c1"), &object("all"));
    until_in(&rig, "c1", "a").await;
    // And what comes after the restart is taken in.
    send(&rig, login("b")).await;
    until_in(&rig, "c1", "a,b").await;
    rig.stop().await;
}

/// A crash after a key was stored, and before anything else: with and without a derived Work.
#[tokio::test(start_paused = true)]
async fn what_a_crash_cut_off_is_made_up_for_at_the_next_start() {
    let started = setup(users(Policy::default()));
    let (store, objects) = (Arc::clone(&started.store), Arc::clone(&started.objects));
    let rig = started.start();
    send(&rig, login("a")).await;
    send(&rig, login("b")).await;
    until_in(&rig, "c1", "a,b").await;
    rig.until_states("all applied", |state| *state == AppliedState::Applied).await;
    rig.stop().await;
    let of = |subject: &'static str, intent| {
        let store = Arc::clone(&store);
        async move {
            let stored = store.works(None, None, 9).await.unwrap();
            let stored = stored.into_iter().find(|it| it.value.event.subject() == Some(subject)).unwrap();
            let work = Work { intent, generation: 2, ..(*stored.value).clone() };
            store.put_work(Arc::new(work), Some(stored.revision), vec![]).await.unwrap();
        }
    };
    of("a", Intent::Delete).await;
    let rig =
        Setup { store: Arc::clone(&store), objects: Arc::clone(&objects), ..setup(users(Policy::default())) }
            .start();
    until_in(&rig, "c1", "b").await;
    until_in(&rig, "c2", "b").await;
    rig.stop().await;
    of("b", Intent::Delete).await;
    let rig = Setup { store, objects, ..setup(users(Policy::default())) }.start();
    rig.until_names("c1", &[]).await;
    rig.until_names("c2", &[]).await;
    until("no key is left", async || keys(&*rig.store).await.is_empty()).await;
    rig.stop().await;

    // The first key of all, and nothing else.
    let alone = MemoryStore::default();
    let other = setup(TriggerDef { action: None, ..trigger() });
    other.clusters.remove(&cluster("c1"));
    other.clusters.remove(&cluster("c2"));
    let other = Setup { store: Arc::new(alone.another_handle()), ..other }.start();
    send(&other, login("a")).await;
    other.stop().await;
    assert_eq!(keys(&alone).await.len(), 1);
    let rig = Setup { store: Arc::new(alone), ..setup(users(Policy::default())) }.start();
    until_in(&rig, "c1", "a").await;
    rig.stop().await;
}

/// The store fails between a key and what follows from it.
#[tokio::test(start_paused = true)]
async fn a_store_that_fails_after_a_key_was_stored_loses_nothing() {
    let store = Arc::new(Tampered::default());
    let rig = Setup { store: Arc::clone(&store) as _, ..setup(users(Policy::default())) }.start();
    rig.handle.wait_until_loaded().await;
    // The key's answer is lost; then what comes next fails.
    for call in [Call::WorkPut, Call::Applied, Call::PutApplied(cluster("c1")), Call::Works] {
        store.fail_once(call.clone());
        let subject = format!("{call:?}").chars().filter(char::is_ascii_alphanumeric).collect::<String>();
        send(&rig, login(&subject)).await;
        let is_in = |name| value_in(&rig, name).is_some_and(|value| value.contains(&subject));
        until(&format!("{subject} is there"), async || is_in("c1") && is_in("c2")).await;
        send(&rig, logout(&subject)).await;
        rig.until_names("c1", &[]).await;
        rig.until_names("c2", &[]).await;
    }
    rig.stop().await;
}

/// A key belongs where its event came from.
#[tokio::test(start_paused = true)]
async fn each_cluster_has_its_own_keys() {
    let setup = setup(users(Policy::default()));
    setup.catalog.edit(|snapshot| {
        Arc::make_mut(snapshot.sources.get_mut("users").unwrap()).origin =
            Some(OriginRule::Extension("origin".to_owned()));
    });
    let config = Config { max_withdraw_percent: 0, max_withdraw_floor: 0, ..Config::default() };
    let rig = Setup { config, ..setup }.start();
    let from = |ty: &str, subject: &str, origin: &str| {
        let json = json!({"specversion": "1.0", "id": "1", "source": "auth", "type": ty, "subject": subject, "origin": format!("civo/{origin}")});
        Event::from_json(json.to_string().as_bytes()).unwrap()
    };
    for (subject, origin) in [("a", "c1"), ("b", "c2"), ("c", "c1"), ("d", "staging1")] {
        send(&rig, from("auth.login", subject, origin)).await;
    }
    until_in(&rig, "c1", "a,c").await;
    until_in(&rig, "c2", "b").await;
    assert!(rig.names("staging1").is_empty());
    rig.clusters.put(labelled("staging1", "production"));
    until_in(&rig, "staging1", "d").await;
    // By order: no limit holds that.
    send(&rig, from("auth.logout", "b", "c2")).await;
    rig.until_names("c2", &[]).await;
    assert_eq!(rig.handle.held_withdrawals(), None);
    // No event says this, so it is held.
    rig.clusters.put(labelled("c1", "staging"));
    until("it is held", async || rig.handle.held_withdrawals().is_some_and(|held| held.works == 1)).await;
    assert_eq!(value_in(&rig, "c1").as_deref(), Some("a,c"));
    assert_eq!(rig.handle.confirm_withdrawals(), 1);
    rig.until_names("c1", &[]).await;
    rig.clusters.put(labelled("c1", "production"));
    until_in(&rig, "c1", "a,c").await;
    rig.stop().await;
}

/// Absence is not an order: while what the keys have is not let go, they are kept too.
#[tokio::test(start_paused = true)]
async fn a_trigger_that_goes_takes_everything_along_once_that_is_allowed() {
    let config = Config { max_withdraw_percent: 0, max_withdraw_floor: 0, ..Config::default() };
    let rig = Setup { config, ..setup(users(Policy::default())) }.start();
    for subject in ["a", "b"] {
        send(&rig, login(subject)).await;
    }
    until_in(&rig, "c1", "a,b").await;
    until_in(&rig, "c2", "a,b").await;
    rig.until_states("all applied", |state| *state == AppliedState::Applied).await;
    rig.catalog.edit(|snapshot| snapshot.triggers.clear());
    let is_held = |held: HeldWithdrawals| held == HeldWithdrawals { works: 1, total: 3 };
    until("it is held", async || rig.handle.held_withdrawals().is_some_and(is_held)).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let users = Arc::new(users(Policy::default()));
    rig.catalog.edit(|snapshot| {
        snapshot.triggers.insert("names".into(), users);
    });
    until("nothing is held", async || rig.handle.held_withdrawals().is_none()).await;
    send(&rig, login("c")).await;
    until_in(&rig, "c1", "a,b,c").await;
    rig.until_states("all applied", |state| *state == AppliedState::Applied).await;
    rig.catalog.edit(|snapshot| snapshot.triggers.clear());
    until("it is held", async || rig.handle.held_withdrawals().is_some()).await;
    rig.handle.confirm_withdrawals();
    rig.until_names("c1", &[]).await;
    rig.until_names("c2", &[]).await;
    until("no Work is left", async || rig.works().await.is_empty()).await;
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_does_not_match_any_more_may_be_left() {
    let rig =
        setup(users(Policy { stop_matching: StopMatching::LeavePolicies, ..Policy::default() })).start();
    send(&rig, login("a")).await;
    until_in(&rig, "c1", "a").await;
    rig.until_states("all applied", |state| *state == AppliedState::Applied).await;
    rig.clusters.put(labelled("c1", "staging"));
    until("it is left", async || {
        let applied = rig.store.applied_in(&aggregate(), &cluster("c1")).await.unwrap().unwrap();
        matches!(applied.value.state, AppliedState::Left { .. })
    })
    .await;
    send(&rig, login("b")).await;
    until_in(&rig, "c2", "a,b").await;
    assert_eq!(value_in(&rig, "c1").as_deref(), Some("a"));
    // The last Delete finds it, though.
    send(&rig, logout("a")).await;
    send(&rig, logout("b")).await;
    rig.until_names("c1", &[]).await;
    rig.until_names("c2", &[]).await;
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn one_time_is_once_for_each_set() {
    let rig = setup(users(mode(SyncMode::OneTime))).start();
    send(&rig, login("a")).await;
    until_in(&rig, "c1", "a").await;
    rig.until_states("all applied", |state| *state == AppliedState::Applied).await;
    rig.set("names", |trigger| trigger.payload = vec![template("all=new:$subjects")]);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(value_in(&rig, "c1").as_deref(), Some("a"), "an edit changes nothing");
    send(&rig, login("b")).await;
    until_in(&rig, "c1", "new:a,b").await;
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_tells_what_the_set_would_change() {
    let rig = setup(users(mode(SyncMode::DryRun))).start();
    send(&rig, login("a")).await;
    rig.until_states(
        "previewed",
        |state| matches!(state, AppliedState::Previewed { changes } if changes.len() == 1),
    )
    .await;
    assert!(rig.names("c1").is_empty());
    send(&rig, logout("a")).await;
    until("nothing would be there", async || rig.applied().await.is_empty()).await;
    rig.stop().await;
}

/// What is too large is stalled, and what was there stays.
#[tokio::test(start_paused = true)]
async fn a_set_that_is_too_large_is_stalled() {
    let setup = setup(users(Policy::default()));
    setup.catalog.edit(|snapshot| {
        Arc::make_mut(snapshot.sources.get_mut("users").unwrap()).max_event_bytes = 1 << 20;
    });
    let rig = setup.start();
    send(&rig, login("a")).await;
    until_in(&rig, "c1", "a").await;
    until_in(&rig, "c2", "a").await;
    for number in 0..9 {
        let mut large = login(&format!("large{number}")).to_json();
        large["data"] = "x".repeat(1 << 19 | 1 << 18 | 1 << 17).into();
        send(&rig, Event::from_json(large.to_string().as_bytes()).unwrap()).await;
    }
    for number in 9..20 {
        let mut large = login(&format!("large{number}")).to_json();
        large["data"] = "x".repeat(1 << 19).into();
        send(&rig, Event::from_json(large.to_string().as_bytes()).unwrap()).await;
    }
    rig.until_states("stalled", |state| {
        matches!(state, AppliedState::Stalled { reason, message } if reason == "TooManyEvents" && message.contains("8 MiB"))
    })
    .await;
    assert!(value_in(&rig, "c1").unwrap().starts_with("a,"));
    for number in 0..20 {
        send(&rig, logout(&format!("large{number}"))).await;
    }
    until_in(&rig, "c1", "a").await;
    rig.stop().await;
}

/// What a person asks for a key concerns what the keys have together.
#[tokio::test(start_paused = true)]
async fn what_is_asked_for_by_hand_reaches_the_keys() {
    let rig = setup(users(Policy::default())).start();
    for subject in ["a", "b", "c"] {
        send(&rig, login(subject)).await;
    }
    until_in(&rig, "c1", "a,b,c").await;
    until_in(&rig, "c2", "a,b,c").await;
    let key = keys(&*rig.store).await.into_iter().find(|it| it.event.subject() == Some("b")).unwrap();
    assert!(rig.handle.give_up(&key.id).await.unwrap());
    until_in(&rig, "c1", "a,c").await;
    // It stalls: tried again by its name, or by that of a key.
    rig.applier.take_away(&cluster("c1"), &object("all"));
    let theirs = json!({"metadata": {"name": "all"}, "data": {}}).as_object().unwrap().clone();
    rig.applier.put_foreign(&cluster("c1"), object("all"), theirs);
    send(&rig, login("d")).await;
    until_in(&rig, "c2", "a,c,d").await;
    let key = keys(&*rig.store).await.remove(0);
    until("a retry by a key finds it", async || rig.handle.retry(&key.id).await.unwrap() == 1).await;
    assert!(rig.handle.give_up(&aggregate()).await.unwrap());
    rig.until_names("c2", &[]).await;
    until("no key is left", async || keys(&*rig.store).await.is_empty()).await;
    send(&rig, login("e")).await;
    until_in(&rig, "c2", "e").await;
    rig.stop().await;
}

/// Two operators by mistake: what the other one does to a key is followed.
#[tokio::test(start_paused = true)]
async fn a_key_that_another_operator_changed_is_taken_in() {
    let records = MemoryStore::default();
    let rig = Setup { store: Arc::new(records.another_handle()), ..setup(users(Policy::default())) }.start();
    send(&rig, login("a")).await;
    send(&rig, login("b")).await;
    until_in(&rig, "c1", "a,b").await;
    rig.until_states("all applied", |state| *state == AppliedState::Applied).await;
    let other = records.another_handle();
    for (subject, left) in [("a", "b"), ("b", "")] {
        let key = keys(&other).await.into_iter().find(|it| it.event.subject() == Some(subject)).unwrap();
        let stored = other.work(&key.id).await.unwrap().unwrap();
        // Told only that it is gone.
        other.delete_work(&key.id, stored.revision).await.unwrap();
        match left {
            "" => rig.until_names("c1", &[]).await,
            left => until_in(&rig, "c1", left).await,
        }
    }
    rig.stop().await;
}

/// A trigger of the same name that renders each key on its own takes over, and the other way round.
#[tokio::test(start_paused = true)]
async fn a_trigger_that_was_made_anew_the_other_way_leaves_nothing_behind() {
    let each = TriggerDef { payload: vec![template("$subject=1")], ..trigger() };
    let rig = setup(users(Policy::default())).start();
    send(&rig, login("a")).await;
    send(&rig, login("b")).await;
    until_in(&rig, "c1", "a,b").await;
    until_in(&rig, "c2", "a,b").await;
    rig.catalog.edit(|snapshot| {
        snapshot.triggers.insert("names".into(), Arc::new(each.clone()));
    });
    rig.until_names("c1", &["a", "b"]).await;
    rig.until_names("c2", &["a", "b"]).await;
    until("the derived Work is gone", async || rig.works().await.len() == 2).await;
    rig.catalog.edit(|snapshot| {
        snapshot.triggers.insert("names".into(), Arc::new(users(Policy::default())));
    });
    rig.until_names("c1", &["all"]).await;
    rig.until_names("c2", &["all"]).await;
    assert_eq!(value_in(&rig, "c1").as_deref(), Some("a,b"));
    rig.stop().await;
}

/// Counts how often anything is rendered.
#[derive(Clone, Default)]
struct Counting(Arc<AtomicUsize>);

struct Counted(Arc<dyn Template>, Counting);

impl Renderer for Counting {
    fn compile(&self, source: &TemplateSource) -> Result<Arc<dyn Template>, TemplateError> {
        Ok(Arc::new(Counted(Words::default().compile(source)?, self.clone())))
    }
}

impl Template for Counted {
    fn reads(&self) -> &BTreeSet<String> {
        self.0.reads()
    }

    fn text<'a>(&self, context: &Context<'a>) -> Result<String, TemplateError> {
        self.0.text(context)
    }

    fn manifests<'a>(&self, context: &Context<'a>) -> Result<Vec<Manifest>, TemplateError> {
        self.1.0.fetch_add(1, Ordering::Relaxed);
        self.0.manifests(context)
    }
}

/// A burst of events makes far fewer renderings: a Work waits in a lane at most once.
#[tokio::test(start_paused = true)]
async fn a_burst_is_rendered_a_few_times() {
    const BURST: u32 = 1000;
    let setup = setup(users(Policy::default()));
    let counting = Counting::default();
    let slow = Arc::new(Slow::new(&setup.objects, Duration::from_millis(2)));
    let rig = Setup { renderer: Some(Arc::new(counting.clone())), applier: Some(slow), ..setup }.start();
    rig.handle.wait_until_loaded().await;
    let feed = Feed::new("users");
    rig.handle.attach(Arc::clone(&feed) as _);
    for number in 0..BURST {
        feed.deliver(event("auth.login", &format!("u{number:04}")), at(u64::from(number) + 1));
    }
    let all: Vec<_> = (0..BURST).map(|number| format!("u{number:04}")).collect();
    until_in(&rig, "c1", &all.join(",")).await;
    until_in(&rig, "c2", &all.join(",")).await;
    let renderings = counting.0.load(Ordering::Relaxed);
    assert!(renderings <= 100, "{renderings} renderings of {BURST} events in two clusters");
    rig.stop().await;
}
