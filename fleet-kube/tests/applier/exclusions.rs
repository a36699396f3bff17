//! Fields that others drive stay as those left them.

use std::sync::Arc;

use fleet_core::apply::{ApplyRequest, InventoryItem, Outcome};
use fleet_core::policy::{DriftExclusion, JsonPointer, Policy};
use fleet_core::work::WorkId;
use local_fleet::{Route, User};
use serde_json::{Value, json};

use super::lab::*;

const AT: &str = "/apis/apps/v1/namespaces/default/deployments/driven";

fn deployment(replicas: u32, image: &str) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "driven", "namespace": "default"},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"a": "b"}}, "template": {
            "metadata": {"labels": {"a": "b"}},
            "spec": {"containers": [{"name": "main", "image": image}]}}}})
}

async fn apply(ours: &Ours, work: &WorkId, object: &Value, inventory: &[InventoryItem]) -> Outcome {
    let exclusion =
        DriftExclusion { paths: vec![JsonPointer::parse("/spec/replicas").unwrap()], target: None };
    let policy = Arc::new(Policy { drift_exclusions: vec![exclusion], ..Policy::default() });
    let request = ours.request(work, std::slice::from_ref(object));
    ours.send(ApplyRequest { policy, inventory: inventory.to_vec(), ..request }).await.remove(0)
}

#[tokio::test]
async fn what_others_drive_is_rendered_once_and_then_stays() {
    let lab = Lab::shared().await;
    let (ours, admin) = (Ours::new(&lab, User::Admin, Route::Direct).await, lab.admin().await);
    let work = work("driven");
    let object = deployment(2, "a");
    let made = placed(&object, &apply(&ours, &work, &object, &[]).await);
    assert_eq!(admin.get(AT).await.unwrap()["spec"]["replicas"], 2);

    // As an autoscaler does.
    let scale = json!({"spec": {"replicas": 7}});
    admin.send("PATCH", &format!("{AT}?fieldManager=autoscaler"), Some(&scale)).await.unwrap();
    let object = deployment(3, "b");
    let kept = placed(&object, &apply(&ours, &work, &object, &[made]).await);
    let there = admin.get(AT).await.unwrap();
    assert_eq!(there["spec"]["replicas"], 7);
    assert_eq!(there["spec"]["template"]["spec"]["containers"][0]["image"], "b");

    // Gone from the template, it stays as it is; a foreign field does, too.
    let theirs = json!({"spec": {"replicas": 8, "minReadySeconds": 5}});
    admin.send("PATCH", &format!("{AT}?fieldManager=autoscaler"), Some(&theirs)).await.unwrap();
    let mut object = deployment(0, "c");
    object["spec"].as_object_mut().unwrap().remove("replicas");
    let kept = placed(&object, &apply(&ours, &work, &object, &[kept]).await);
    let there = admin.get(AT).await.unwrap();
    assert_eq!((&there["spec"]["replicas"], &there["spec"]["minReadySeconds"]), (&json!(8), &json!(5)));
    assert_eq!(ours.remove(&work, &[kept]).await, [Outcome::Gone]);
}
