//! What waits until something else is healthy.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fleet_core::health::Health;
use fleet_core::manifest::{Manifest, ObjectRef};
use fleet_core::policy::{Policy, SyncMode};
use fleet_core::work::AppliedState;
use serde_json::json;

use super::{kept, mode, setup};
use crate::rig::{Setup, cluster, login, until};
use crate::tampered::{Call, Tampered};

fn deployment(name: &str) -> ObjectRef {
    let object = json!({"apiVersion": "v1", "kind": "Gadget", "metadata": {"name": name}});
    Manifest::new(object).unwrap().id().clone()
}

#[tokio::test(start_paused = true)]
async fn what_depends_on_something_waits_until_that_is_healthy() {
    let after = Policy { depends_on: vec!["base".into()], ..mode(SyncMode::Continuous) };
    let rig = setup([kept("base", "Gadget/base", Policy::default())]).start();
    rig.source.send(login("a")).await.await;
    let c1 = cluster("c1");
    until("the base is there", async || rig.applier.object(&c1, &deployment("base")).is_some()).await;
    let condition =
        |status: &str| json!({"conditions": [{"type": "Ready", "status": status, "message": "m"}]});
    rig.applier.edit(&c1, &deployment("base"), |object| {
        object.insert("status".to_owned(), condition("False"));
    });
    until("the base is not healthy", async || {
        let is = |health: &Option<Health>| matches!(health, Some(Health::Progressing { message }) if message.contains("Gadget base"));
        rig.applied().await.iter().any(|record| is(&record.health))
    })
    .await;
    rig.catalog.edit(|snapshot| {
        snapshot.triggers.insert("top".into(), kept("top", "top", after.clone()).into());
    });
    // Definitions are taken in between two steps of anything else.
    until("an event for both", async || {
        rig.source.send(login("a")).await.await;
        rig.works().await.len() == 2
    })
    .await;
    until("the top says what it waits for", async || {
        rig.applied().await.iter().any(|record| {
            matches!(&record.state, AppliedState::Waiting { reason } if reason.contains("base is ready in civo/c1"))
        })
    })
    .await;
    assert_eq!(rig.names("c1"), ["base"]);
    rig.applier.edit(&c1, &deployment("base"), |object| {
        object.insert("status".to_owned(), condition("True"));
    });
    rig.until_names("c1", &["base", "top"]).await;
    until("both are healthy", async || {
        rig.applied().await.iter().all(|record| record.health == Some(Health::Ready))
    })
    .await;
    rig.stop().await;
}

/// A controller may say something while it is being written down that the object was applied.
#[tokio::test(start_paused = true)]
async fn what_becomes_known_while_a_record_is_written_is_not_missed() {
    let store = Arc::new(Tampered::default());
    let rig = setup([kept("base", "Gadget/base", Policy::default())]);
    let rig = Setup { store: Arc::clone(&store) as _, ..rig }.start();
    let (c1, base) = (cluster("c1"), deployment("base"));
    let (objects, go_on) = (Arc::clone(&rig.applier), Arc::new(AtomicBool::new(false)));
    let (there, may_go_on) = ((c1.clone(), base.clone()), Arc::clone(&go_on));
    store.hook(move |call| {
        let waits = call == Call::PutApplied(there.0.clone()) && objects.object(&there.0, &there.1).is_some();
        let go_on = Arc::clone(&may_go_on);
        waits.then(|| {
            Box::pin(async move {
                while !go_on.load(Ordering::Relaxed) {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                Ok(())
            }) as _
        })
    });
    rig.source.send(login("a")).await.await;
    until("the base is there", async || rig.applier.object(&c1, &base).is_some()).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let status = json!({"conditions": [{"type": "Ready", "status": "False", "message": "m"}]});
    rig.applier.edit(&c1, &base, |object| _ = object.insert("status".to_owned(), status));
    tokio::time::sleep(Duration::from_secs(1)).await;
    go_on.store(true, Ordering::Relaxed);
    until("it is not healthy", async || {
        let records = rig.applied().await;
        records.iter().any(|record| matches!(record.health, Some(Health::Progressing { .. })))
    })
    .await;
    rig.stop().await;
}
