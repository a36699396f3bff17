//! Objects come, change and go.

use fleet_core::apply::{Identity, InventoryItem, Outcome, Owner};
use fleet_core::manifest::MARK;
use jiff::{SignedDuration, Timestamp};
use local_fleet::{Route, User};
use serde_json::{Value, json};

use super::at;
use super::lab::*;

#[tokio::test]
async fn what_is_removed_from_a_manifest_is_removed_from_the_object() {
    let lab = Lab::shared().await;
    let (ours, admin) = (Ours::new(&lab, User::Admin, Route::Direct).await, lab.admin().await);
    let work = work("fields");
    let first = config_map("fields", &[("kept", "1"), ("dropped", "2")]);
    let created = uid(&ours.apply(&work, &first, &[]).await);
    let object = admin.get(&at("fields")).await.unwrap();
    assert_eq!(object["metadata"]["labels"][MARK], work.hash());
    assert_eq!(object["data"], json!({"kept": "1", "dropped": "2"}));

    let inventory = [item(&first, Some(&created))];
    let second = config_map("fields", &[("kept", "1"), ("added", "3")]);
    assert_eq!(uid(&ours.apply(&work, &second, &inventory).await), created);
    assert_eq!(admin.get(&at("fields")).await.unwrap()["data"], json!({"kept": "1", "added": "3"}));
    let third = config_map("fields", &[("last", "4")]);
    assert_eq!(uid(&ours.apply(&work, &third, &inventory).await), created);
    let object = admin.get(&at("fields")).await.unwrap();
    assert_eq!(object["data"], json!({"last": "4"}));
    let managers = object["metadata"]["managedFields"].as_array().unwrap();
    assert_eq!(managers.len(), 1, "one entry is enough: {managers:?}");
    assert_eq!((&managers[0]["manager"], &managers[0]["operation"]), (&json!("fleet"), &json!("Apply")));

    // Somebody else's field stays, a field of ours that somebody changed comes back.
    let patch = json!({"data": {"last": "changed", "theirs": "5"}});
    admin.send("PATCH", &at("fields"), Some(&patch)).await.unwrap();
    assert_eq!(uid(&ours.apply(&work, &third, &inventory).await), created);
    assert_eq!(admin.get(&at("fields")).await.unwrap()["data"], json!({"last": "4", "theirs": "5"}));

    assert_eq!(ours.remove(&work, &inventory).await, [Outcome::Gone]);
    assert!(admin.get(&at("fields")).await.is_none());
    assert_eq!(ours.remove(&work, &inventory).await, [Outcome::Gone], "again does no harm");
}

#[tokio::test]
async fn somebody_elses_object_is_left_alone() {
    let lab = Lab::shared().await;
    let (ours, admin) = (Ours::new(&lab, User::Admin, Route::Direct).await, lab.admin().await);
    let theirs = config_map("foreign", &[("theirs", "1")]);
    let path = "/api/v1/namespaces/default/configmaps?fieldManager=helm";
    let before = admin.send("POST", path, Some(&theirs)).await.unwrap();

    let work = work("foreign");
    let mine = config_map("foreign", &[("ours", "1")]);
    assert_eq!(
        ours.apply(&work, &mine, &[]).await,
        Outcome::Conflict { owner: Owner::Other("helm".to_owned()) }
    );
    // Not with an inventory that only planned it, nor with one whose object was replaced by theirs.
    assert!(matches!(ours.apply(&work, &mine, &[item(&mine, None)]).await, Outcome::Conflict { .. }));
    let replaced = item(&mine, Some("11111111-2222-3333-4444-555555555555"));
    assert!(matches!(
        ours.apply(&work, &mine, std::slice::from_ref(&replaced)).await,
        Outcome::Conflict { .. }
    ));
    assert_eq!(ours.remove(&work, &[item(&mine, None)]).await, [Outcome::Gone]);
    assert_eq!(ours.remove(&work, &[replaced]).await, [Outcome::Gone]);
    assert_eq!(admin.get(&at("foreign")).await.unwrap(), before, "UID, resourceVersion, fields and managers");
}

#[tokio::test]
async fn another_works_object_is_somebody_elses() {
    let lab = Lab::shared().await;
    let ours = Ours::new(&lab, User::Admin, Route::Direct).await;
    let (one, other) = (work("one"), work("other"));
    let object = config_map("contested", &[("a", "1")]);
    let first = uid(&ours.apply(&one, &object, &[]).await);
    let Outcome::Conflict { owner } = ours.apply(&other, &object, &[]).await else { panic!() };
    assert_eq!(owner, Owner::Work(one.hash().into()));
    assert_eq!(ours.remove(&other, &[item(&object, None)]).await, [Outcome::Gone]);
    assert_eq!(uid(&ours.apply(&one, &object, &[item(&object, Some(&first))]).await), first);
}

#[tokio::test]
async fn of_two_that_race_one_wins() {
    let lab = Lab::shared().await;
    let (a, b) = tokio::join!(
        Ours::new(&lab, User::Admin, Route::Direct),
        Ours::new(&lab, User::Admin, Route::Direct)
    );
    for round in 0..10 {
        let name = format!("race-{round}");
        let object = config_map(&name, &[("a", "1")]);
        let (one, other) = (work("race a"), work("race b"));
        let (first, second) = tokio::join!(a.apply(&one, &object, &[]), b.apply(&other, &object, &[]));
        let applied = |outcome: &Outcome| matches!(outcome, Outcome::Applied(_));
        let conflict = |outcome: &Outcome| matches!(outcome, Outcome::Conflict { .. });
        assert!(
            (applied(&first) && conflict(&second)) || (conflict(&first) && applied(&second)),
            "{first:?} {second:?}"
        );
    }
}

#[tokio::test]
async fn what_carries_our_mark_is_adopted() {
    let lab = Lab::shared().await;
    let (ours, admin) = (Ours::new(&lab, User::Admin, Route::Direct).await, lab.admin().await);
    let work = work("adopted");
    let old = config_map("adopted", &[("old", "1")]);
    let created = uid(&ours.apply(&work, &old, &[]).await);
    // As after a crash: the answer was never written down.
    let new = config_map("adopted", &[("new", "2")]);
    assert_eq!(uid(&ours.apply(&work, &new, &[item(&new, None)]).await), created);
    assert_eq!(admin.get(&at("adopted")).await.unwrap()["data"], json!({"new": "2"}));
    assert_eq!(ours.remove(&work, &[item(&new, None)]).await, [Outcome::Gone]);
    assert!(admin.get(&at("adopted")).await.is_none());

    // Deleted by somebody: it comes again, as another object.
    let again = uid(&ours.apply(&work, &new, &[item(&new, Some(&created))]).await);
    assert_ne!(again, created);
    // And the inventory still has the old UID: what is there is ours all the same.
    assert_eq!(ours.remove(&work, &[item(&new, Some(&created))]).await, [Outcome::Gone]);
    assert!(admin.get(&at("adopted")).await.is_none());
}

#[tokio::test]
async fn login_logout_login_makes_a_new_namespace() {
    let lab = Lab::shared().await;
    let (ours, admin) = (Ours::new(&lab, User::Admin, Route::Direct).await, lab.admin().await);
    let (work, tenant) = (work("mgianluc"), namespace("mgianluc"));
    let mut inside = config_map("inside", &[("a", "1")]);
    inside["metadata"]["namespace"] = json!("mgianluc");
    let objects = [inside, tenant];

    let outcomes = ours.apply_all(&work, &objects, &[], None, SOON).await;
    let first: Vec<String> = outcomes.iter().map(uid).collect();
    let inventory: Vec<InventoryItem> =
        objects.iter().zip(&first).map(|(object, uid)| item(object, Some(uid))).collect();
    let removed = ours.remove(&work, &inventory).await;
    assert!(
        matches!(&removed[1], Outcome::Waiting { reason } if reason == "Namespace mgianluc is being deleted"),
        "{removed:?}"
    );

    // The old one is on its way out: neither applied to, nor counted as ours.
    let waiting = ours.apply_all(&work, &objects, &inventory, None, SOON).await;
    assert!(waiting.iter().all(|outcome| matches!(outcome, Outcome::Waiting { .. })), "{waiting:?}");
    let waiting = ours.apply_all(&work, &objects, &[], None, SOON).await;
    assert!(waiting.iter().all(|outcome| matches!(outcome, Outcome::Waiting { .. })), "{waiting:?}");

    admin.until_gone("/api/v1/namespaces/mgianluc").await;
    let second: Vec<String> =
        ours.apply_all(&work, &objects, &inventory, None, SOON).await.iter().map(uid).collect();
    assert!(second.iter().all(|uid| !first.contains(uid)));
    let there = admin.get("/api/v1/namespaces/mgianluc").await.unwrap();
    assert_eq!(there["metadata"]["uid"], json!(second[1]));
    assert_eq!(there["status"]["phase"], "Active");
    // The old inventory cannot touch the new namespace's object unless it carries the mark; another Work's cannot at all.
    let foreign = work_of_nobody();
    assert_eq!(ours.remove(&foreign, &inventory).await, [Outcome::Gone, Outcome::Gone]);
    assert_eq!(admin.get("/api/v1/namespaces/mgianluc").await.unwrap()["status"]["phase"], "Active");
}

fn work_of_nobody() -> fleet_core::work::WorkId {
    work("nobody")
}

#[tokio::test]
async fn a_logout_for_kube_system_deletes_nothing() {
    let lab = Lab::shared().await;
    let (ours, admin) = (Ours::new(&lab, User::Admin, Route::Direct).await, lab.admin().await);
    let work = work("kube-system");
    for name in ["kube-system", "kube-public", "kube-node-lease", "default"] {
        let (object, path) = (namespace(name), format!("/api/v1/namespaces/{name}"));
        let before = admin.get(&path).await.unwrap();
        assert!(matches!(ours.apply(&work, &object, &[]).await, Outcome::Conflict { .. }));
        assert_eq!(ours.remove(&work, &[item(&object, None)]).await, [Outcome::Gone], "it was never ours");
        let uid = before["metadata"]["uid"].as_str().unwrap();
        let outcome = ours.remove(&work, &[item(&object, Some(uid))]).await.remove(0);
        assert!(
            matches!(&outcome, Outcome::Rejected { reason } if reason.contains("never deleted")),
            "{outcome:?}"
        );
        assert_eq!(admin.get(&path).await.unwrap(), before);
    }
}

#[tokio::test]
async fn what_a_cluster_cannot_take_is_refused_with_the_reason() {
    let lab = Lab::shared().await;
    let ours = Ours::new(&lab, User::Admin, Route::Direct).await;
    let work = work("faults");
    let mut no_namespace = config_map("a", &[]);
    no_namespace["metadata"].as_object_mut().unwrap().remove("namespace");
    let mut with_namespace = namespace("a");
    with_namespace["metadata"]["namespace"] = json!("default");
    let with = |field: &str, value: Value| {
        let mut object = config_map("a", &[]);
        object[field] = value;
        object
    };
    let widget = json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"}});
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "default"},
        "type": "kubernetes.io/dockerconfigjson", "stringData": {".dockerconfigjson": "s3cret"}});
    let not_base64 = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "default"},
        "data": {"a": "s3cret!"}});
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x", "namespace": "default"},
        "spec": {"ports": [{"port": 80}], "type": "s3cret"}});
    let too_large = config_map("a", &[("a", &"x".repeat(4 << 20))]);
    for (object, expected) in [
        (no_namespace, "metadata.namespace is missing"),
        (with_namespace, "Namespace is not namespaced"),
        (widget, "does not know the kind Widget of example.com/v1"),
        (with("datta", json!({"a": "b"})), "unknown field \"datta\""),
        (with("data", json!({"a": 1})), "ConfigMap"),
        (with("data", json!({"a b": "s3cret"})), "data[a b]: Invalid value: …"),
        (secret, "data[.dockerconfigjson]: FieldValueInvalid"),
        (not_base64, "left out, because it may quote the Secret"),
        (service, "spec.type: Unsupported value: …"),
        (too_large, "large"),
    ] {
        let outcome = ours.apply(&work, &object, &[]).await;
        let Outcome::Rejected { reason } = &outcome else { panic!("{expected}: {outcome:?}") };
        assert!(reason.contains(expected), "{expected}: {reason}");
        assert!(!reason.contains("s3cret"), "{reason}");
        assert_eq!(ours.remove(&work, &[item(&object, None)]).await, [Outcome::Gone], "it was never there");
    }
    // An update is refused the same way as a creation.
    let made = config_map("updated", &[("a", "1")]);
    let uid = uid(&ours.apply(&work, &made, &[]).await);
    let mut typo = made.clone();
    typo["datta"] = json!({});
    let outcome = ours.apply(&work, &typo, &[item(&made, Some(&uid))]).await;
    assert!(matches!(&outcome, Outcome::Rejected { reason } if reason.contains("datta")), "{outcome:?}");
}

#[tokio::test]
async fn absence_proves_nothing_while_a_request_may_still_land() {
    let lab = Lab::shared().await;
    let ours = Ours::new(&lab, User::Admin, Route::Direct).await;
    let work = work("uncertain");
    let object = config_map("uncertain", &[]);
    let until = Timestamp::now() + SignedDuration::from_secs(3600);
    let uncertain = InventoryItem { uncertain_until: Some(until), ..item(&object, None) };
    let with_uid =
        InventoryItem { uid: Some("11111111-2222-3333-4444-555555555555".into()), ..uncertain.clone() };
    for item in [&uncertain, &with_uid] {
        let outcome = ours.remove(&work, std::slice::from_ref(item)).await.remove(0);
        assert!(matches!(outcome, Outcome::Waiting { .. }), "{outcome:?}");
    }
    // It lands: then it is found and deleted, whatever the clock says; and the wait goes on.
    let _ = uid(&ours.apply(&work, &object, &[]).await);
    assert!(matches!(ours.remove(&work, std::slice::from_ref(&uncertain)).await[0], Outcome::Waiting { .. }));
    assert!(lab.admin().await.get(&at("uncertain")).await.is_none());

    let clusters = std::sync::Arc::clone(&ours.clusters);
    let later = fleet_kube::applier::KubeApplier::new(clusters).with_clock(move || until);
    let ours = Ours { applier: later, ..ours };
    assert_eq!(ours.remove(&work, &[uncertain, with_uid]).await, [Outcome::Gone, Outcome::Gone]);
}

#[tokio::test]
async fn a_tenants_trigger_does_what_its_account_may() {
    let lab = Lab::shared().await;
    let (ours, admin) = (Ours::new(&lab, User::Admin, Route::Direct).await, lab.admin().await);
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": "tenant", "namespace": "tenant-a"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "tenant"},
        "subjects": [{"kind": "ServiceAccount", "name": "robot", "namespace": "tenant-a"}]});
    admin.send("POST", "/api/v1/namespaces", Some(&namespace("tenant-a"))).await.unwrap();
    let may = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
        "metadata": {"name": "tenant", "namespace": "tenant-a"},
        "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "create", "patch"]}]});
    let path = "/apis/rbac.authorization.k8s.io/v1/namespaces/tenant-a/roles";
    admin.send("POST", path, Some(&may)).await.unwrap();
    let path = "/apis/rbac.authorization.k8s.io/v1/namespaces/tenant-a/rolebindings";
    admin.send("POST", path, Some(&role)).await.unwrap();

    let robot = || Some(Identity { namespace: "tenant-a".to_owned(), name: "robot".to_owned() });
    let mut allowed = config_map("allowed", &[]);
    allowed["metadata"]["namespace"] = json!("tenant-a");
    let objects = [allowed, config_map("denied", &[])];
    let work = work("tenant");
    let until_bound = async {
        loop {
            let outcomes = ours.apply_all(&work, &objects, &[], robot(), SOON).await;
            let Outcome::Rejected { reason } = &outcomes[1] else { panic!("{outcomes:?}") };
            assert!(
                reason
                    .contains("system:serviceaccount:tenant-a:robot\" cannot create resource \"configmaps\""),
                "{reason}"
            );
            if let Outcome::Applied(_) = outcomes[0] {
                break;
            }
        }
    };
    tokio::time::timeout(SOON, until_bound).await.unwrap();

    // Who may not impersonate is told so.
    let guest = Ours::new(&lab, User::Guest, Route::Direct).await;
    let outcome = guest.apply_all(&work, &objects[..1], &[], robot(), SOON).await.remove(0);
    let Outcome::Rejected { reason } = outcome else { panic!("{outcome:?}") };
    assert!(reason.contains("lab-guest") && reason.contains("cannot impersonate"), "{reason}");
}
