//! How many requests the common cases take.

use fleet_core::apply::{InventoryItem, Outcome};
use local_fleet::{Route, User};
use serde_json::json;

use super::lab::*;

/// Kinds that no other test uses.
const RESOURCE: &str = "podtemplates";
const WITHOUT_DEFAULTS: &str = "endpoints";

/// How many requests for a kind the API server has answered, by its own count.
async fn answered(admin: &Other, resource: &str) -> u64 {
    let request = http::Request::get("/metrics").body(Vec::new()).unwrap();
    let text = admin.0.request_text(request).await.unwrap();
    text.lines()
        .filter(|line| line.starts_with("apiserver_request_total{"))
        .filter(|line| line.contains(&format!("resource=\"{resource}\"")))
        .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap() as u64)
        .sum()
}

#[tokio::test]
async fn a_creation_is_one_request_and_so_is_an_update() {
    let lab = Lab::shared().await;
    let (ours, admin) = (Ours::new(&lab, User::Admin, Route::Direct).await, lab.admin().await);
    let work = work("counted");
    let object = |image: &str| {
        json!({"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "counted", "namespace": "default"},
            "template": {"spec": {"containers": [{"name": "c", "image": image}]}}})
    };
    let before = answered(&admin, RESOURCE).await;
    // The server counts a request a moment after it has answered it.
    let counted = async |expected: u64| {
        let reached = async { while answered(&admin, RESOURCE).await < before + expected {} };
        tokio::time::timeout(SOON, reached).await.expect("fewer requests than it takes");
    };
    let mut kept = placed(&object("0"), &ours.apply(&work, &object("0"), &[]).await);
    counted(1).await;
    // The first update takes over what the creation set: apply, take over, apply again.
    kept = placed(&object("1"), &ours.apply(&work, &object("1"), &[kept]).await);
    counted(4).await;
    for round in 2..12 {
        let object = object(&round.to_string());
        kept = placed(&object, &ours.apply(&work, &object, &[kept]).await);
    }
    counted(14).await;
    assert_eq!(answered(&admin, RESOURCE).await - before, 14, "more requests than one an update");
    // The deletion, and a look whether it is gone.
    assert_eq!(ours.remove(&work, &[kept]).await, [Outcome::Gone]);
    counted(16).await;
    assert_eq!(answered(&admin, RESOURCE).await - before, 16);
}

#[tokio::test]
async fn an_update_that_takes_nothing_back_is_one_request_and_so_is_a_repair() {
    let lab = Lab::shared().await;
    let (ours, admin) = (Ours::new(&lab, User::Admin, Route::Direct).await, lab.admin().await);
    let work = work("counted-repairs");
    let object = |annotations: serde_json::Value| {
        json!({"apiVersion": "v1", "kind": "Endpoints",
            "metadata": {"name": "counted-repairs", "namespace": "default", "annotations": annotations}})
    };
    let path = "/api/v1/namespaces/default/endpoints/counted-repairs";
    let mut asked = answered(&admin, WITHOUT_DEFAULTS).await;
    // The server counts a request a moment after it has answered it.
    let mut counted = async |more: u64| {
        asked += more;
        let reached = async { while answered(&admin, WITHOUT_DEFAULTS).await < asked {} };
        tokio::time::timeout(SOON, reached).await.expect("fewer requests than it takes");
        assert_eq!(answered(&admin, WITHOUT_DEFAULTS).await, asked, "more requests than it takes");
    };
    let apply = async |object: &serde_json::Value, kept: Vec<InventoryItem>| {
        placed(object, &ours.apply(&work, object, &kept).await)
    };
    let kept = apply(&object(json!({"a": "1", "b": "1"})), vec![]).await;
    let changed = object(json!({"a": "2", "b": "1"}));
    let mut kept = apply(&changed, vec![kept]).await;
    counted(2).await;

    let theirs = json!({"metadata": {"annotations": {"a": "theirs"}}});
    let theirs = admin.send("PATCH", path, Some(&theirs)).await.unwrap();
    kept.version = Some(theirs["metadata"]["resourceVersion"].as_str().unwrap().into());
    let mut kept = apply(&changed, vec![kept]).await;
    counted(2).await;

    admin.send("DELETE", path, None).await.unwrap();
    kept.version = None;
    let kept = apply(&changed, vec![kept]).await;
    counted(2).await;

    // What the creation set can be taken back all the same, at any later time.
    let kept = apply(&object(json!({"a": "3", "b": "1"})), vec![kept]).await;
    counted(1).await;
    let kept = apply(&object(json!({"a": "3"})), vec![kept]).await;
    let there = admin.get(path).await.unwrap();
    assert_eq!(there["metadata"]["annotations"], json!({"a": "3"}));
    counted(4).await;
    assert_eq!(ours.remove(&work, &[kept]).await, [Outcome::Gone]);
}
