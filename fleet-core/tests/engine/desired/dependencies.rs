//! What waits until something else is healthy.

use fleet_core::health::Health;
use fleet_core::manifest::{Manifest, ObjectRef};
use fleet_core::policy::{Policy, SyncMode};
use fleet_core::work::AppliedState;
use serde_json::json;

use super::{kept, mode, setup};
use crate::rig::{cluster, login, until};

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
