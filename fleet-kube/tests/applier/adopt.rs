//! What was there before is taken over where that is allowed, and given back.

use std::sync::Arc;

use fleet_core::apply::{ApplyRequest, Claim, InventoryItem, Outcome, Owner};
use fleet_core::manifest::{ADOPTED, MARK, Manifest};
use fleet_core::policy::Policy;
use fleet_core::work::WorkId;
use local_fleet::{Route, User};
use serde_json::{Value, json};

use super::at;
use super::lab::*;

async fn adopt(ours: &Ours, work: &WorkId, object: &Value, inventory: &[InventoryItem]) -> Outcome {
    let policy = Arc::new(Policy { adopt: true, ..Policy::default() });
    let request = ours.request(work, std::slice::from_ref(object));
    ours.send(ApplyRequest { policy, inventory: inventory.to_vec(), ..request }).await.remove(0)
}

async fn theirs(admin: &Other, name: &str) -> Value {
    let mut object = config_map(name, &[("shared", "theirs"), ("theirs", "1")]);
    object["metadata"]["labels"] = json!({"app": "theirs"});
    let path = "/api/v1/namespaces/default/configmaps?fieldManager=helm";
    admin.send("POST", path, Some(&object)).await.unwrap()
}

fn managers(object: &Value) -> Vec<&str> {
    let entries = object["metadata"]["managedFields"].as_array().unwrap();
    entries.iter().map(|entry| entry["manager"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn what_is_adopted_is_given_back_with_its_values() {
    let lab = Lab::shared().await;
    let (ours, admin) = (Ours::new(&lab, User::Admin, Route::Direct).await, lab.admin().await);
    let work = work("adopter");
    let before = theirs(&admin, "given-back").await;
    let object = config_map("given-back", &[("shared", "ours"), ("ours", "1")]);
    let adopted = placed(&object, &adopt(&ours, &work, &object, &[]).await);
    assert!(adopted.adopted);
    assert_eq!(json!(adopted.uid), before["metadata"]["uid"]);
    let there = admin.get(&at("given-back")).await.unwrap();
    assert_eq!(there["data"], json!({"shared": "ours", "theirs": "1", "ours": "1"}));
    assert_eq!(there["metadata"]["labels"], json!({"app": "theirs", MARK: work.hash()}));

    // An update keeps it adopted, and takes back what the template does not have any more.
    let changed = config_map("given-back", &[("shared", "ours again")]);
    let adopted = placed(&changed, &ours.apply(&work, &changed, &[adopted]).await);
    assert!(adopted.adopted);
    let there = admin.get(&at("given-back")).await.unwrap();
    assert_eq!(there["data"], json!({"shared": "ours again", "theirs": "1"}));

    assert_eq!(ours.remove(&work, std::slice::from_ref(&adopted)).await, [Outcome::Gone]);
    let after = admin.get(&at("given-back")).await.unwrap();
    assert_eq!(after["metadata"]["uid"], before["metadata"]["uid"]);
    assert_eq!(after["data"], there["data"], "values stay");
    assert_eq!(after["metadata"]["labels"], json!({"app": "theirs"}));
    assert!(after["metadata"].get("annotations").is_none(), "{after}");
    assert!(!managers(&after).contains(&"fleet"), "{after}");
    assert_eq!(ours.remove(&work, &[adopted]).await, [Outcome::Gone], "again does no harm");
    assert_eq!(admin.get(&at("given-back")).await.unwrap(), after);
}

#[tokio::test]
async fn a_crash_does_not_make_us_delete_what_was_adopted() {
    let lab = Lab::shared().await;
    let (ours, admin) = (Ours::new(&lab, User::Admin, Route::Direct).await, lab.admin().await);
    let work = work("crashed adopter");
    let before = theirs(&admin, "crashed").await;
    let object = config_map("crashed", &[("ours", "1")]);
    adopt(&ours, &work, &object, &[]).await;
    // The answer was never written down.
    let planned = item(&object, None);
    let again = placed(&object, &adopt(&ours, &work, &object, std::slice::from_ref(&planned)).await);
    assert!(again.adopted);
    assert_eq!(ours.remove(&work, &[planned]).await, [Outcome::Gone]);
    let after = admin.get(&at("crashed")).await.unwrap();
    assert_eq!(after["metadata"]["uid"], before["metadata"]["uid"]);
    assert!(after["metadata"]["labels"].get(MARK).is_none());
    // Nor does it if somebody took our label away, or wrote to it meanwhile.
    let again = placed(&object, &adopt(&ours, &work, &object, &[]).await);
    let unmark = json!({"metadata": {"labels": {MARK: null}, "annotations": {ADOPTED: null}}});
    admin.send("PATCH", &at("crashed"), Some(&unmark)).await.unwrap();
    assert_eq!(ours.remove(&work, &[again]).await, [Outcome::Gone]);
    let after = admin.get(&at("crashed")).await.unwrap();
    assert_eq!(after["metadata"]["uid"], before["metadata"]["uid"]);
    assert!(!managers(&after).contains(&"fleet"), "{after}");
}

#[tokio::test]
async fn only_what_is_nobodys_work_is_adopted() {
    let lab = Lab::shared().await;
    let ours = Ours::new(&lab, User::Admin, Route::Direct).await;
    let (one, other) = (work("adopted by one"), work("adopted by other"));
    let object = config_map("not-adopted", &[("a", "1")]);
    ours.apply(&one, &object, &[]).await;
    assert_eq!(
        adopt(&ours, &other, &object, &[]).await,
        Outcome::Conflict { owner: Owner::Work(one.hash().into()) }
    );
}

#[tokio::test]
async fn adoption_is_handed_over_too() {
    let lab = Lab::shared().await;
    let (ours, admin) = (Ours::new(&lab, User::Admin, Route::Direct).await, lab.admin().await);
    let (first, second) = (work("first adopter"), work("second adopter"));
    let before = theirs(&admin, "passed-on").await;
    let object = config_map("passed-on", &[("ours", "1")]);
    adopt(&ours, &first, &object, &[]).await;
    let claim =
        Claim { object: Manifest::new(object.clone()).unwrap().id().clone(), from: first.hash().into() };
    let request = ours.request(&second, std::slice::from_ref(&object));
    let taken = ours.send(ApplyRequest { claims: vec![claim], ..request }).await.remove(0);
    let taken = placed(&object, &taken);
    assert!(taken.adopted);
    assert_eq!(ours.remove(&second, &[taken]).await, [Outcome::Gone]);
    let after = admin.get(&at("passed-on")).await.unwrap();
    assert_eq!(after["metadata"]["uid"], before["metadata"]["uid"]);
}

#[tokio::test]
async fn a_protected_namespace_may_be_adopted_and_is_given_back() {
    let lab = Lab::shared().await;
    let (ours, admin) = (Ours::new(&lab, User::Admin, Route::Direct).await, lab.admin().await);
    let work = work("public");
    let mut object = namespace("kube-public");
    object["metadata"]["labels"] = json!({"team": "a"});
    let adopted = placed(&object, &adopt(&ours, &work, &object, &[]).await);
    assert_eq!(ours.remove(&work, &[adopted]).await, [Outcome::Gone]);
    let there = admin.get("/api/v1/namespaces/kube-public").await.unwrap();
    assert_eq!(
        (&there["status"]["phase"], &there["metadata"]["labels"]["team"]),
        (&json!("Active"), &json!("a"))
    );
    assert!(there["metadata"]["labels"].get(MARK).is_none());
}
