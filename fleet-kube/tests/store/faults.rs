//! An API server that does not answer, or went away for a while.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fleet_core::position::{Domain, Position};
use fleet_core::store::{StoreChange, StoreError, WorkStore};
use fleet_core::work::{AppliedState, Work};
use futures::StreamExt;
use local_fleet::Route;

use crate::lab::SOON;
use crate::rig::*;

fn next(work: &Work) -> Arc<Work> {
    Arc::new(Work { generation: work.generation + 1, ..work.clone() })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_api_server_ends_a_call_and_loses_no_write() {
    let rig = Rig::new().await;
    let store = rig.open().await;
    let first = work("frozen", 1);
    let revision = store.put_work(Arc::clone(&first), None, vec![plan(&first, "c1")]).await.unwrap();
    let planned = store.applied_in(&first.id, &cluster("c1")).await.unwrap().unwrap();
    rig.lab.cluster.api_server().pause().await.unwrap();
    let begun = Instant::now();
    let new = work("new", 1);
    let (changed, made, recorded) = tokio::join!(
        store.put_work(next(&first), Some(revision.clone()), vec![]),
        store.put_work(Arc::clone(&new), None, vec![plan(&new, "c1")]),
        store.put_applied(applied(&first, "c1", AppliedState::Applied), Some(planned.revision)),
    );
    for error in [changed.unwrap_err(), made.unwrap_err(), recorded.unwrap_err()] {
        assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
    }
    assert!(begun.elapsed() < Duration::from_secs(12), "{:?}", begun.elapsed());
    assert_eq!(store.works(None, None, 9).await.unwrap()[0].value, first, "what is known is still listed");
    rig.lab.cluster.api_server().resume().await.unwrap();

    // Whatever became of those: a read says, and what is written on it lasts.
    for id in [&first.id, &new.id] {
        let settled = async {
            loop {
                let stored = store.work(id).await.unwrap();
                let (value, revision) = stored.map(|stored| (stored.value, stored.revision)).unzip();
                let wanted = Work { generation: 7, ..(*value.unwrap_or_else(|| Arc::clone(&new))).clone() };
                match store.put_work(Arc::new(wanted), revision, vec![]).await {
                    Ok(_) => break,
                    Err(error) => assert!(error.is_retryable(), "{error}"),
                }
            }
        };
        tokio::time::timeout(SOON, settled).await.unwrap();
    }
    let read = store.applied_in(&first.id, &cluster("c1")).await.unwrap().unwrap();
    store.put_applied(applied(&first, "c1", AppliedState::Applied), Some(read.revision)).await.unwrap();
    let fresh = rig.open().await;
    for id in [&first.id, &new.id] {
        assert_eq!(fresh.work(id).await.unwrap().unwrap().value.generation, 7);
        assert_eq!(store.work(id).await.unwrap(), fresh.work(id).await.unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_was_given_up_leaves_its_record_in_doubt() {
    let rig = Rig::new().await;
    let store = Arc::new(rig.open().await);
    let first = work("given-up", 1);
    let revision = store.put_work(Arc::clone(&first), None, vec![]).await.unwrap();
    // Frozen for less than the server's own deadline, it executes the write when it wakes, and nobody waits for it.
    rig.lab.cluster.api_server().pause().await.unwrap();
    let write = store.put_work(next(&first), Some(revision.clone()), vec![]);
    assert!(tokio::time::timeout(Duration::from_millis(300), write).await.is_err());
    rig.lab.cluster.api_server().resume().await.unwrap();
    // The next read asks the API server, and those after it need not.
    let before = rig.requests("GET", "works").await;
    store.work(&first.id).await.unwrap().unwrap();
    store.work(&first.id).await.unwrap().unwrap();
    assert_eq!(rig.requests("GET", "works").await, before + 1);
    until("a read agrees with the API server", async || {
        let stored = store.work(&first.id).await.unwrap().unwrap();
        rig.object(&first).await["spec"]["generation"] == stored.value.generation
    })
    .await;
    let stored = store.work(&first.id).await.unwrap().unwrap();
    store.put_work(work("given-up", 9), Some(stored.revision), vec![]).await.unwrap();
    assert_eq!(rig.object(&first).await["spec"]["generation"], 9);
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_go_on_while_the_network_is_cut_and_the_watch_heals() {
    let rig = Rig::new().await;
    let store = rig.open_by(Route::Proxied).await;
    let others = rig.open().await;
    let (kept, doomed) = (work("kept", 1), work("doomed", 1));
    let mut revisions = Vec::new();
    for work in [&kept, &doomed] {
        revisions.push(store.put_work(Arc::clone(work), None, vec![plan(work, "c1")]).await.unwrap());
    }
    let mut told = store.watch().await.unwrap();
    rig.lab.cluster.proxy().cut();
    let begun = Instant::now();
    let error = store.put_work(next(&kept), Some(revisions[0].clone()), vec![]).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert_eq!(store.works(None, None, 9).await.unwrap().len(), 2);
    assert_eq!(store.applied(&doomed.id).await.unwrap().len(), 1);
    let floor = Position { domain: Domain::new("d"), epoch: 1, sequence: 1 };
    assert!(store.raise_floor("src", &floor).await.is_err(), "floors are never answered from memory");
    assert!(store.floors("src").await.is_err());
    // Meanwhile others go on, for longer than the API server remembers for a watch that stood still.
    until("others know", async || others.work(&doomed.id).await.unwrap().is_some()).await;
    others.delete_work(&doomed.id, revisions[1].clone()).await.unwrap();
    let added = work("added", 1);
    others.put_work(Arc::clone(&added), None, vec![]).await.unwrap();
    rig.lab.cluster.proxy().heal();
    let mut missing = vec![doomed.id.clone(), added.id.clone()];
    let heard = async {
        while !missing.is_empty() {
            match told.next().await.unwrap() {
                StoreChange::Work(id) => missing.retain(|it| *it != id),
                other => panic!("{other:?}"),
            }
        }
    };
    tokio::time::timeout(SOON, heard).await.unwrap();
    assert!(store.work(&doomed.id).await.unwrap().is_none());
    assert_eq!(store.work(&added.id).await.unwrap().unwrap().value, added);
    let kept_now = store.work(&kept.id).await.unwrap().unwrap();
    store.put_work(next(&kept_now.value), Some(kept_now.revision), vec![]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_api_server_is_watched_again() {
    let rig = Rig::new().await;
    let store = rig.open().await;
    let first = work("before", 1);
    store.put_work(Arc::clone(&first), None, vec![]).await.unwrap();
    rig.lab.cluster.api_server().kill().await.unwrap();
    assert_eq!(store.works(None, None, 9).await.unwrap().len(), 1);
    rig.lab.cluster.api_server().start().await.unwrap();
    rig.lab.cluster.api_server().wait_ready().await.unwrap();
    let foreign = work("after", 1);
    let written =
        async { while rig.open().await.put_work(Arc::clone(&foreign), None, vec![]).await.is_err() {} };
    tokio::time::timeout(SOON, written).await.unwrap();
    until("it is heard of", async || store.work(&foreign.id).await.unwrap().is_some()).await;
    assert_eq!(store.work(&first.id).await.unwrap().unwrap().value, first);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_too_large_for_the_api_server_is_said_without_its_data() {
    let rig = Rig::new().await;
    let store = rig.open().await;
    let data = |length: usize| serde_json::json!("s3cret".repeat(length / 6));
    let largest = work_with("largest", 1, data(1 << 20));
    store.put_work(Arc::clone(&largest), None, vec![plan(&largest, "c1")]).await.unwrap();
    assert_eq!(rig.open().await.work(&largest.id).await.unwrap().unwrap().value, largest);
    for length in [1_700_000, 2 << 20, 4 << 20] {
        let large = work_with("too-large", 1, data(length));
        let error = store.put_work(Arc::clone(&large), None, vec![]).await.unwrap_err();
        assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
        assert!(error.to_string().contains("lower maxEventBytes"), "{error}");
        assert!(!format!("{error} {error:?} {large:?} {store:?}").contains("s3cret"));
        assert!(store.work(&large.id).await.unwrap().is_none());
    }
}
