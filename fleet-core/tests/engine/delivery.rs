//! From event to object, and what is acknowledged when.

use std::sync::Arc;
use std::time::Duration;

use fleet_core::memory::MemoryStore;
use fleet_core::source::Settled;
use fleet_core::source::SourceItem;
use fleet_core::store::{MockWorkStore, StoreError};
use fleet_core::work::AppliedState;
use futures::StreamExt;

use crate::rig::{Feed, Setup, at, event, login, logout, object, until};

#[tokio::test(start_paused = true)]
async fn a_login_creates_in_the_selected_clusters_and_a_logout_removes() {
    let rig = Setup::default().start();
    assert_eq!(rig.source.send(login("mgianluc")).await.await, Settled::Acked);
    rig.until_names("c1", &["mgianluc"]).await;
    rig.until_names("c2", &["mgianluc"]).await;
    assert!(rig.names("staging1").is_empty());
    rig.until_states("all applied", |state| *state == AppliedState::Applied).await;

    assert_eq!(rig.source.send(logout("mgianluc")).await.await, Settled::Acked);
    rig.until_names("c1", &[]).await;
    rig.until_names("c2", &[]).await;
    until("no Work is left", async || rig.works().await.is_empty()).await;
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn keys_have_lifecycles_of_their_own() {
    let rig = Setup::default().start();
    for name in ["a", "b", "c"] {
        rig.source.send(login(name)).await.await;
    }
    rig.source.send(logout("b")).await.await;
    rig.until_names("c1", &["a", "c"]).await;
    rig.until_names("c2", &["a", "c"]).await;
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_last_of_many_events_of_a_key_wins() {
    let rig = Setup::default().start();
    for round in 0..50 {
        drop(rig.source.send(login("a")).await);
        drop(rig.source.send(if round % 3 == 0 { login("a") } else { logout("a") }).await);
    }
    rig.source.send(login("a")).await.await;
    rig.until_states("all applied", |state| *state == AppliedState::Applied).await;
    rig.until_names("c1", &["a"]).await;
    rig.until_names("c2", &["a"]).await;
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_no_trigger_wants_is_acknowledged_and_leaves_nothing() {
    let setup = Setup::default();
    setup.catalog.edit(|snapshot| {
        let trigger = Arc::make_mut(snapshot.triggers.get_mut("names").unwrap());
        trigger.filter = serde_json::from_str(r#"{"exact": {"type": "auth.login"}}"#).unwrap();
    });
    let rig = setup.start();
    assert_eq!(rig.source.send(event("auth.other", "x")).await.await, Settled::Acked);
    assert!(rig.works().await.is_empty());
    assert_eq!(rig.handle.counters().unmatched.get(), 1);
    assert_eq!(rig.source.send(login("x")).await.await, Settled::Acked);
    rig.until_names("c1", &["x"]).await;
    rig.stop().await;
}

/// Invariant 2: a store that cannot be written means no acknowledgement.
#[tokio::test(start_paused = true)]
async fn nothing_is_acknowledged_that_is_not_stored() {
    let mut store = MockWorkStore::new();
    store.expect_next_epoch().returning(|_| Ok(1));
    store.expect_floors().returning(|_| Ok(Vec::new()));
    store.expect_works().returning(|_, _, _| Ok(Vec::new()));
    store.expect_all_applied().returning(|_, _| Ok(Vec::new()));
    store.expect_watch().returning(|| Ok(futures::stream::pending().boxed()));
    store.expect_work().returning(|_| Ok(None));
    store.expect_put_work().returning(|_, _, _| Err(StoreError::Unavailable("the disk is full".to_owned())));
    let rig = Setup { store: Arc::new(store), ..Setup::default() }.start();
    let settled = rig.source.send(login("a")).await;
    assert!(matches!(settled.await, Settled::GivenBack(_)));
    assert!(rig.names("c1").is_empty(), "nothing is applied that is not stored");
    rig.stop().await;
}

/// Invariant 2: nothing is read before definitions and clusters are known.
#[tokio::test(start_paused = true)]
async fn nothing_is_read_before_everything_is_loaded() {
    use fleet_core::cluster::{ClusterFeed, MockClusterSelector};
    use fleet_core::engine::{Config, Engine, Parts};
    use futures::StreamExt;

    let (release, released) = tokio::sync::oneshot::channel::<()>();
    let released = parking_lot::Mutex::new(Some(released));
    let mut clusters = MockClusterSelector::new();
    clusters.expect_subscribe().returning(move || {
        let released = released.lock().take();
        // The mock's call is not async: the wait is in the first poll of the feed, which the engine joins at once.
        let changes = futures::stream::once(async move {
            if let Some(released) = released {
                released.await.unwrap();
            }
            fleet_core::cluster::ClusterChange::Joined(Arc::new(crate::rig::labelled("c1", "production")))
        });
        Ok(ClusterFeed {
            snapshot: Vec::new(),
            elsewhere: Vec::new(),
            changes: changes.chain(futures::stream::pending()).boxed(),
        })
    });
    let setup = Setup::default();
    let source = Arc::new(fleet_core::memory::MemorySource::new("users"));
    let engine = Engine::new(
        Parts {
            store: Arc::new(MemoryStore::default()),
            catalog: Arc::new(setup.catalog),
            clusters: Arc::new(clusters),
            renderer: Arc::<crate::rig::Words>::default(),
            applier: Arc::clone(&setup.objects) as _,
            environment: fleet_core::environment::Environment::default(),
        },
        Config::default(),
    );
    let handle = engine.handle();
    handle.attach(Arc::clone(&source) as _);
    let settled = source.send(login("early")).await;
    assert_eq!(handle.counters().received.get(), 0, "nothing is read while the engine is not loaded");
    let stop = tokio_util::sync::CancellationToken::new();
    let running = tokio::spawn(engine.run(stop.clone()));
    assert_eq!(settled.await, Settled::Acked);
    // It became Work though no cluster matched; the cluster that joins later gets it.
    release.send(()).unwrap();
    let objects = setup.objects;
    until("the joining cluster gets it", async || {
        objects.object(&crate::rig::cluster("c1"), &object("early")).is_some()
    })
    .await;
    stop.cancel();
    running.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_redelivered_or_overtaken_event_changes_nothing() {
    let rig = Setup::default().start();
    let feed = Feed::new("users");
    rig.handle.attach(Arc::clone(&feed) as _);
    feed.deliver(login("a"), at(1));
    feed.deliver(logout("a"), at(2));
    // Both come again, in the wrong order, after the removal is complete.
    until("removed", async || rig.handle.counters().removed.get() == 2).await;
    feed.deliver(logout("a"), at(2));
    feed.deliver(login("a"), at(1));
    until("all seen", async || rig.handle.counters().received.get() == 4).await;
    until("both superseded", async || rig.handle.counters().superseded.get() == 2).await;
    assert!(rig.names("c1").is_empty());
    feed.deliver(login("a"), at(3));
    rig.until_names("c1", &["a"]).await;
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_tombstone_stays_until_the_floor_has_passed_it() {
    let rig = Setup::default().start();
    let feed = Feed::new("users");
    rig.handle.attach(Arc::clone(&feed) as _);
    feed.deliver(login("a"), at(1));
    feed.deliver(logout("a"), at(2));
    feed.deliver(logout("never-seen"), at(3));
    until("two tombstones", async || rig.handle.tombstones() == 2).await;
    assert_eq!(rig.works().await.len(), 2);
    feed.tell(SourceItem::Floor(at(2)));
    until("one tombstone", async || rig.works().await.len() == 1).await;
    // Below the floor nothing is taken, though no record of the key is left.
    feed.deliver(login("a"), at(1));
    feed.tell(SourceItem::Floor(at(3)));
    until("no tombstone", async || rig.works().await.is_empty()).await;
    assert!(rig.names("c1").is_empty());
    assert_eq!(rig.handle.counters().superseded.get(), 1);
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_slow_store_is_waited_for() {
    let store = Arc::new(MemoryStore::default());
    let failures = Arc::new(std::sync::atomic::AtomicU32::new(0));
    let mut flaky = MockWorkStore::new();
    flaky.expect_next_epoch().returning(|_| Ok(1));
    flaky.expect_floors().returning(|_| Ok(Vec::new()));
    flaky.expect_works().returning(|_, _, _| Ok(Vec::new()));
    flaky.expect_all_applied().returning(|_, _| Ok(Vec::new()));
    flaky.expect_watch().returning(|| Ok(futures::stream::pending().boxed()));
    flaky.expect_applied().returning(|_| Ok(Vec::new()));
    flaky.expect_applied_in().returning(|_, _| Ok(None));
    flaky.expect_put_applied().returning(|_, _| Ok(fleet_core::store::Revision::Counted(1)));
    flaky.expect_work().returning(|_| Ok(None));
    let counted = Arc::clone(&failures);
    flaky.expect_put_work().returning(move |_, _, _| {
        if counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed) < 5 {
            Err(StoreError::Unavailable("busy".to_owned()))
        } else {
            Ok(fleet_core::store::Revision::Counted(1))
        }
    });
    drop(store);
    let rig = Setup { store: Arc::new(flaky), ..Setup::default() }.start();
    let began = tokio::time::Instant::now();
    assert_eq!(rig.source.send(login("a")).await.await, Settled::Acked);
    assert!(began.elapsed() > Duration::from_millis(500), "tries are paced");
    rig.stop().await;
}
