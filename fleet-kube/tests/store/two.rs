//! Two handles on the same data.

use std::sync::Arc;
use std::time::Duration;

use fleet_core::store::{StoreChange, WorkStore};
use fleet_core::work::{AppliedState, Work};
use futures::StreamExt;
use serde_json::json;

use crate::lab::SOON;
use crate::rig::*;

#[tokio::test(flavor = "multi_thread")]
async fn no_increment_is_lost_between_two_handles() {
    let rig = Rig::new().await;
    let stores = [Arc::new(rig.open().await), Arc::new(rig.open().await)];
    let counted = work("counter", 1);
    stores[0].put_work(Arc::clone(&counted), None, vec![]).await.unwrap();
    let writers = (0..4).map(|writer| {
        let (store, id) = (Arc::clone(&stores[writer % 2]), counted.id.clone());
        tokio::spawn(async move {
            for _ in 0..8 {
                loop {
                    let Some(stored) = store.work(&id).await.unwrap() else { continue };
                    let next = Work { generation: stored.value.generation + 1, ..(*stored.value).clone() };
                    match store.put_work(Arc::new(next), Some(stored.revision), vec![]).await {
                        Ok(_) => break,
                        Err(error) => assert!(error.is_conflict(), "{error}"),
                    }
                }
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        tokio::time::timeout(SOON, writer).await.unwrap().unwrap();
    }
    assert_eq!(rig.object(&counted).await["spec"]["generation"], 33);
    for store in &stores {
        until("both know", async || store.work(&counted.id).await.unwrap().unwrap().value.generation == 33)
            .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_write_and_a_deletion_one_comes_first() {
    let rig = Rig::new().await;
    let (ours, theirs) = (rig.open().await, rig.open().await);
    let mut deleted = 0;
    for round in 0..20 {
        let raced = work(&format!("raced-{round}"), 1);
        let revision = ours.put_work(Arc::clone(&raced), None, vec![]).await.unwrap();
        let record = applied(&raced, "c1", AppliedState::Pending);
        let of_record = ours.put_applied(Arc::clone(&record), None).await.unwrap();
        let next = Arc::new(Work { generation: 2, ..(*raced).clone() });
        let (deletion, write, record_deletion, record_write) = tokio::join!(
            ours.delete_work(&raced.id, revision.clone()),
            theirs.put_work(next, Some(revision), vec![]),
            ours.delete_applied(&raced.id, &record.cluster, of_record.clone()),
            theirs.put_applied(Arc::clone(&record), Some(of_record)),
        );
        for (deletion, write, object) in [
            (deletion, write, rig.admin.get(&format!("{WORKS}/{}", raced.id)).await),
            (record_deletion, record_write, rig.admin.get(&format!("{APPLIED}/{}.c1", raced.id)).await),
        ] {
            assert_ne!(deletion.is_ok(), write.is_ok(), "{deletion:?} {write:?}");
            assert_eq!(object.is_none(), deletion.is_ok());
            deleted += usize::from(deletion.is_ok());
            let lost = deletion.err().or(write.err()).unwrap();
            assert!(lost.is_conflict(), "{lost}");
        }
    }
    assert!((1..40).contains(&deleted), "it was a race: {deleted} of 40");
}

#[tokio::test(flavor = "multi_thread")]
async fn others_are_heard_of_and_we_are_not() {
    let rig = Rig::new().await;
    let (ours, theirs) = (rig.open().await, rig.open().await);
    let mut told = ours.watch().await.unwrap();
    // Many at once, so that echoes come before answers.
    let all: Vec<_> = (0..200).map(|number| work(&format!("ours-{number}"), 1)).collect();
    let ours_to_write = all.iter().map(|work| async {
        let revision = ours.put_work(Arc::clone(work), None, vec![plan(work, "c1")]).await.unwrap();
        let next = Arc::new(Work { generation: 2, ..(**work).clone() });
        ours.put_work(next, Some(revision), vec![]).await.unwrap();
        let planned = ours.applied_in(&work.id, &cluster("c1")).await.unwrap().unwrap();
        let done = applied(work, "c1", AppliedState::Applied);
        let made = ours.put_applied(done, Some(planned.revision)).await.unwrap();
        ours.delete_applied(&work.id, &cluster("c1"), made).await.unwrap();
        let revision = ours.work(&work.id).await.unwrap().unwrap().revision;
        ours.delete_work(&work.id, revision).await.unwrap();
        assert!(ours.work(&work.id).await.unwrap().is_none(), "a late event brought it back");
    });
    futures::future::join_all(ours_to_write).await;
    let foreign = work("theirs", 1);
    theirs.put_work(Arc::clone(&foreign), None, vec![plan(&foreign, "c1")]).await.unwrap();
    let first = tokio::time::timeout(SOON, told.next()).await.unwrap();
    assert_eq!(first, Some(StoreChange::Work(foreign.id.clone())), "our own writes are not told");
    assert_eq!(ours.work(&foreign.id).await.unwrap().unwrap().value, foreign);
    let planned = ours.applied(&foreign.id).await.unwrap().remove(0);
    theirs
        .put_applied(applied(&foreign, "c1", AppliedState::Applied), Some(planned.revision.clone()))
        .await
        .unwrap();
    let overtaken =
        ours.put_applied(applied(&foreign, "c1", AppliedState::Pending), Some(planned.revision)).await;
    assert!(overtaken.unwrap_err().is_conflict());
    let fresh = ours.applied_in(&foreign.id, &cluster("c1")).await.unwrap().unwrap();
    assert_eq!(fresh.value.state, AppliedState::Applied, "after a conflict a read is fresh");
    let again = tokio::time::timeout(Duration::from_millis(500), told.next()).await;
    assert!(again.is_err(), "what they wrote down of a cluster is not told: {again:?}");
    for work in &all {
        assert!(ours.work(&work.id).await.unwrap().is_none(), "a late event brought it back");
    }
    // A status or a label is no change.
    rig.until_status(&foreign, |status| status["applied"] == 1).await;
    let path = format!("{WORKS}/{}", foreign.id);
    rig.admin.send("PATCH", &path, Some(&json!({"metadata": {"labels": {"a": "b"}}}))).await.unwrap();
    // Somebody deletes it by hand.
    while tokio::time::timeout(Duration::from_millis(200), told.next()).await.is_ok() {}
    rig.admin.send("DELETE", &path, None).await.unwrap();
    let next = tokio::time::timeout(SOON, told.next()).await.unwrap();
    assert_eq!(next, Some(StoreChange::Work(foreign.id.clone())));
    assert!(ours.work(&foreign.id).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_is_told_to_look_at_everything() {
    let rig = Rig::new().await;
    let (ours, theirs) = (rig.open().await, rig.open().await);
    let mut told = ours.watch().await.unwrap();
    let many: Vec<_> = (0..1200).map(|number| work(&format!("many-{number}"), 1)).collect();
    let writes = futures::stream::iter(&many)
        .map(|work| theirs.put_work(Arc::clone(work), None, vec![]))
        .buffer_unordered(16);
    writes.for_each(async |written| drop(written.unwrap())).await;
    until("all are heard of", async || ours.works(None, None, 5000).await.unwrap().len() == 1200).await;
    assert_eq!(tokio::time::timeout(SOON, told.next()).await.unwrap(), Some(StoreChange::Many));
}

#[tokio::test(flavor = "multi_thread")]
async fn edits_by_hand_cannot_pass_for_ours() {
    let rig = Rig::new().await;
    let store = rig.open().await;
    let edited = work("edited", 1);
    let revision = store.put_work(Arc::clone(&edited), None, vec![]).await.unwrap();
    store.put_applied(applied(&edited, "c1", AppliedState::Pending), None).await.unwrap();
    let mut told = store.watch().await.unwrap();
    let path = format!("{WORKS}/{}", edited.id);
    // What the engine can read counts as another one's write.
    rig.admin.send("PATCH", &path, Some(&json!({"spec": {"intent": "Delete"}}))).await.unwrap();
    assert_eq!(told.next().await, Some(StoreChange::Work(edited.id.clone())));
    let write = store.put_work(Arc::clone(&edited), Some(revision), vec![]).await;
    assert!(write.unwrap_err().is_conflict());
    // What it cannot read is said, and nothing of it is shown.
    rig.admin.send("PATCH", &path, Some(&json!({"spec": {"event": "s3cret"}}))).await.unwrap();
    let stored = store.work(&edited.id).await.unwrap().unwrap();
    let error = store.put_work(Arc::clone(&edited), Some(stored.revision), vec![]).await.unwrap_err();
    assert!(matches!(error, fleet_core::store::StoreError::Corrupt(_)), "{error}");
    assert!(error.to_string().contains("it was edited: delete it"), "{error}");
    assert!(!error.to_string().contains("s3cret"), "{error}");
    // A copy of an AppliedWork under another name stands for nothing.
    let mut copy = rig.admin.get(APPLIED).await.unwrap()["items"][0].clone();
    copy["apiVersion"] = json!("fleet-events.dev/v1alpha1");
    copy["kind"] = json!("AppliedWork");
    copy["metadata"] = json!({"name": "copy", "namespace": "civo"});
    copy["spec"]["state"] = json!({"phase": "Applied"});
    rig.admin.send("POST", APPLIED, Some(&copy)).await.unwrap();
    let later = work("later", 1);
    rig.open().await.put_work(Arc::clone(&later), None, vec![plan(&later, "c1")]).await.unwrap();
    until("what came after it is heard of", async || !store.applied(&later.id).await.unwrap().is_empty())
        .await;
    let known = store.applied(&edited.id).await.unwrap();
    assert_eq!((known.len(), &known[0].value.state), (1, &AppliedState::Pending));
}
