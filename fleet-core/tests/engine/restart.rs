//! What is stored is done, whatever happens to the process; and stopping is safe.

use std::sync::Arc;

use fleet_core::engine::Config;
use fleet_core::memory::MemorySource;
use fleet_core::redb::RedbStore;
use fleet_core::source::Settled;
use fleet_core::work::AppliedState;

use crate::rig::{Setup, labelled, login, logout, until};
use crate::tampered::{Call, Tampered};

fn away() -> fleet_core::cluster::Cluster {
    fleet_core::cluster::Cluster { ready: false, ..labelled("c1", "production") }
}

#[tokio::test(start_paused = true)]
async fn acknowledged_work_is_done_after_a_restart() {
    let setup = Setup::default();
    setup.clusters.put(away());
    let (store, objects) = (Arc::clone(&setup.store), Arc::clone(&setup.objects));
    let rig = setup.start();
    assert_eq!(rig.source.send(login("a")).await.await, Settled::Acked);
    rig.until_names("c2", &["a"]).await;
    rig.stop().await;
    assert!(objects.objects(&crate::rig::cluster("c1")).is_empty());

    let rig = Setup { store, objects, ..Setup::default() }.start();
    rig.until_names("c1", &["a"]).await;
    rig.until_states("all applied", |state| *state == AppliedState::Applied).await;
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_removal_that_was_interrupted_is_finished_after_a_restart() {
    let setup = Setup::default();
    let (store, objects) = (Arc::clone(&setup.store), Arc::clone(&setup.objects));
    let rig = setup.start();
    rig.source.send(login("a")).await.await;
    rig.until_names("c1", &["a"]).await;
    rig.clusters.put(away());
    rig.source.send(logout("a")).await.await;
    rig.until_names("c2", &[]).await;
    rig.stop().await;
    assert_eq!(objects.objects(&crate::rig::cluster("c1")).len(), 1);

    let rig = Setup { store, objects, ..Setup::default() }.start();
    rig.until_names("c1", &[]).await;
    until("no Work is left", async || rig.works().await.is_empty()).await;
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_restart_with_nothing_to_do_writes_nothing() {
    let setup = Setup::default();
    let (store, objects) = (Arc::clone(&setup.store), Arc::clone(&setup.objects));
    let rig = setup.start();
    rig.source.send(login("a")).await.await;
    rig.until_states("all applied", |state| *state == AppliedState::Applied).await;
    let before = rig.applied().await;
    rig.stop().await;

    let rig = Setup { store, objects, ..Setup::default() }.start();
    until("swept", async || rig.handle.is_loaded() && rig.handle.backlog() == 0).await;
    rig.source.send(login("b")).await.await;
    rig.until_names("c1", &["a", "b"]).await;
    let after: Vec<_> =
        rig.applied().await.into_iter().filter(|it| before.iter().any(|old| old.work == it.work)).collect();
    assert_eq!(after, before);
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn stopping_finishes_what_is_in_flight_and_reads_no_more() {
    let rig = Setup::default().start();
    let mut sent = Vec::new();
    for number in 0..100 {
        sent.push(rig.source.send(login(&format!("user-{number}"))).await);
    }
    until("some are read", async || rig.handle.counters().received.get() > 0).await;
    rig.stop.cancel();
    let (store, source) = (Arc::clone(&rig.store), Arc::clone(&rig.source));
    rig.engine.await.unwrap();
    drop(source);
    let stored = store.works(None, None, 1000).await.unwrap().len();
    // Dropping the last handles drops what was not read.
    drop((rig.handle, rig.source));
    let mut acked = 0;
    for settled in sent {
        match settled.await {
            Settled::Acked => acked += 1,
            Settled::Dropped => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(acked, stored, "exactly what was acknowledged is stored");
}

/// Invariant 9: a store that does not answer holds nothing up, and keeps no delivery from whoever reads next.
#[tokio::test(start_paused = true)]
async fn what_cannot_be_stored_by_the_drain_deadline_is_given_back() {
    let store = Arc::new(Tampered::default());
    let held = store.hold(Call::PutWork);
    let rig = Setup { store, ..Setup::default() }.start();
    let sent = rig.source.send(login("a")).await;
    held.reached().await;
    let asked = tokio::time::Instant::now();
    rig.stop.cancel();
    let settled = tokio::time::timeout(std::time::Duration::from_secs(60), sent);
    assert!(matches!(settled.await, Ok(Settled::GivenBack(_))));
    rig.engine.await.unwrap();
    assert!(asked.elapsed() <= Config::default().drain_deadline, "{:?}", asked.elapsed());
}

/// The same with the file store, in real time: it has a thread of its own.
#[tokio::test]
async fn the_story_survives_in_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fleet.redb");
    let objects = Arc::default();
    for round in 0..3 {
        let store = Arc::new(RedbStore::open(&path).unwrap());
        let rig = Setup { store, objects: Arc::clone(&objects), ..Setup::default() }.start();
        if round > 0 {
            assert_eq!(rig.names("c1"), [format!("user-{}", round - 1)]);
            rig.source.send(logout(&format!("user-{}", round - 1))).await.await;
        }
        rig.source.send(login(&format!("user-{round}"))).await.await;
        rig.until_names("c1", &[&format!("user-{round}")]).await;
        let handle = rig.handle.clone();
        rig.stop().await;
        drop(handle);
    }
}

#[tokio::test(start_paused = true)]
async fn a_source_can_be_replaced_and_detached() {
    let rig = Setup::default().start();
    rig.source.send(login("a")).await.await;
    let next = Arc::new(MemorySource::new("users"));
    rig.handle.attach(Arc::clone(&next) as _);
    assert_eq!(next.send(login("b")).await.await, Settled::Acked);
    rig.until_names("c1", &["a", "b"]).await;
    rig.handle.detach("users");
    until("closed", async || next.send(login("c")).await.await == Settled::Dropped).await;
    rig.stop().await;
}
