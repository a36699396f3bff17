//! How many requests the common cases take.

use local_fleet::{Route, User};
use serde_json::json;

use super::lab::*;

/// A kind that no other test uses.
const RESOURCE: &str = "podtemplates";

/// How many requests for that kind the API server has answered, by its own count.
async fn answered(admin: &Other) -> u64 {
    let request = http::Request::get("/metrics").body(Vec::new()).unwrap();
    let text = admin.0.request_text(request).await.unwrap();
    text.lines()
        .filter(|line| line.starts_with("apiserver_request_total{"))
        .filter(|line| line.contains(&format!("resource=\"{RESOURCE}\"")))
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
    let before = answered(&admin).await;
    // The server counts a request a moment after it has answered it.
    let counted = async |expected: u64| {
        let reached = async { while answered(&admin).await < before + expected {} };
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
    assert_eq!(answered(&admin).await - before, 14, "more requests than one an update");
    // The deletion, and a look whether it is gone.
    assert_eq!(ours.remove(&work, &[kept]).await, [fleet_core::apply::Outcome::Gone]);
    counted(16).await;
    assert_eq!(answered(&admin).await - before, 16);
}
