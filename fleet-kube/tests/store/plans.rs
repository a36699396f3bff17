//! Plans: kept in their Work until there is an AppliedWork.

use std::sync::Arc;

use fleet_core::store::WorkStore;
use fleet_core::work::{AppliedState, Work};
use fleet_kube::store::KubeStore;

use crate::rig::*;

/// The clusters for which something is known of a Work.
async fn clusters(store: &KubeStore, work: &Work) -> Vec<String> {
    let applied = store.applied(&work.id).await.unwrap();
    applied.iter().map(|stored| stored.value.cluster.name().to_owned()).collect()
}

async fn objects(rig: &Rig) -> usize {
    rig.admin.get(APPLIED).await.unwrap()["items"].as_array().unwrap().len()
}

fn next(work: &Work) -> Arc<Work> {
    Arc::new(Work { generation: work.generation + 1, ..work.clone() })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_is_a_record_like_any_other() {
    let rig = Rig::new().await;
    let (store, other) = (rig.open().await, rig.open().await);
    let first = work("a", 1);
    let plans = ["c3", "c1", "c2"].map(|name| plan(&first, name)).to_vec();
    let revision = store.put_work(Arc::clone(&first), None, plans.clone()).await.unwrap();
    assert_eq!(objects(&rig).await, 0);
    until("others know", async || other.work(&first.id).await.unwrap().is_some()).await;
    assert_eq!(clusters(&other, &first).await, ["c1", "c2", "c3"]);
    let read = store.applied_in(&first.id, &cluster("c3")).await.unwrap().unwrap();
    assert_eq!((&*read.value, Some(&read)), (&plans[0], other.applied(&first.id).await.unwrap().last()));

    // It cannot be made anew, is taken over once, and stays what it is while the Work moves on.
    let done = |name| applied(&first, name, AppliedState::Applied);
    assert!(store.put_applied(done("c1"), None).await.unwrap_err().is_conflict());
    let planned = store.applied_in(&first.id, &cluster("c1")).await.unwrap().unwrap();
    let revision = store.put_work(next(&first), Some(revision), vec![]).await.unwrap();
    let known = store.applied_in(&first.id, &cluster("c1")).await.unwrap().unwrap();
    assert_eq!(known.revision, planned.revision);
    let made = store.put_applied(done("c1"), Some(planned.revision.clone())).await.unwrap();
    assert!(store.put_applied(done("c1"), Some(planned.revision.clone())).await.unwrap_err().is_conflict());
    assert_eq!(objects(&rig).await, 1);
    assert_eq!(clusters(&store, &first).await, ["c1", "c2", "c3"]);

    // With what came of it in an object of its own, the Work needs it no more; what is still planned it keeps.
    let revision = store.put_work(next(&first), Some(revision), vec![plan(&first, "c1")]).await.unwrap();
    let spec = &rig.object(&first).await["spec"];
    let left: Vec<_> = spec["plans"].as_array().unwrap().iter().map(|plan| &plan["cluster"]).collect();
    assert_eq!(left, ["civo/c2", "civo/c3"]);

    // Gone is gone.
    store.delete_applied(&first.id, &cluster("c1"), made).await.unwrap();
    assert!(store.put_applied(done("c1"), Some(planned.revision)).await.unwrap_err().is_conflict());
    let bare = store.applied_in(&first.id, &cluster("c2")).await.unwrap().unwrap();
    store.delete_applied(&first.id, &cluster("c2"), bare.revision.clone()).await.unwrap();
    assert!(store.delete_applied(&first.id, &cluster("c2"), bare.revision).await.unwrap_err().is_conflict());
    assert_eq!(clusters(&store, &first).await, ["c3"]);

    // A Work that is dropped leaves behind what may be in clusters.
    let dropped = store.delete_work(&first.id, revision).await;
    assert!(dropped.unwrap_err().is_conflict(), "taking out a plan was a write of the Work");
    let stored = store.work(&first.id).await.unwrap().unwrap();
    store.delete_work(&first.id, stored.revision).await.unwrap();
    assert!(store.work(&first.id).await.unwrap().is_none());
    assert_eq!(clusters(&store, &first).await, ["c3"]);
    assert_eq!(clusters(&rig.open().await, &first).await, ["c3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_made_of_a_plan_does_not_become_a_plan_again() {
    let rig = Rig::new().await;
    let store = rig.open().await;
    let first = work("a", 1);
    store.put_work(Arc::clone(&first), None, vec![plan(&first, "c1")]).await.unwrap();
    let planned = store.applied_in(&first.id, &cluster("c1")).await.unwrap().unwrap();
    let done = applied(&first, "c1", AppliedState::Applied);
    let made = store.put_applied(done, Some(planned.revision)).await.unwrap();
    // By a handle that has none of this from its own writes.
    let other = rig.open().await;
    other.delete_applied(&first.id, &cluster("c1"), made).await.unwrap();
    assert!(other.applied(&first.id).await.unwrap().is_empty());
    until("all know", async || store.applied(&first.id).await.unwrap().is_empty()).await;
    assert!(rig.open().await.applied(&first.id).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn plans_and_objects_are_listed_together_in_order() {
    let rig = Rig::new().await;
    let store = rig.open().await;
    for (subject, in_objects) in [("a", &["c1", "c3"][..]), ("b", &[]), ("c", &["c2"])] {
        let work = work(subject, 1);
        let plans = ["c2", "c1", "c3"].map(|name| plan(&work, name)).to_vec();
        store.put_work(Arc::clone(&work), None, plans).await.unwrap();
        for name in in_objects {
            let planned = store.applied_in(&work.id, &cluster(name)).await.unwrap().unwrap();
            store
                .put_applied(applied(&work, name, AppliedState::Applied), Some(planned.revision))
                .await
                .unwrap();
        }
    }
    for limit in 1..11 {
        let mut found = Vec::new();
        let mut after = None;
        loop {
            let place = after.as_ref().map(|(work, cluster)| (work, cluster));
            let page = store.all_applied(place, limit).await.unwrap();
            assert!(page.len() <= limit);
            let Some(last) = page.last() else { break };
            after = Some((last.value.work.clone(), last.value.cluster.clone()));
            found.extend(
                page.into_iter()
                    .map(|it| (it.value.work.clone(), it.value.cluster.clone(), it.value.state.clone())),
            );
        }
        assert_eq!(found.len(), 9, "{limit} at a time");
        assert!(found.is_sorted_by(|a, b| (&a.0, &a.1) < (&b.0, &b.1)));
        assert_eq!(found.iter().filter(|it| it.2 == AppliedState::Applied).count(), 3);
    }
}
