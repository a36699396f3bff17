//! What others need goes first; a conflict holds up what comes after it.

use std::sync::Arc;

use fleet_core::apply::{ApplyRequest, InventoryItem, Outcome};
use fleet_core::policy::Policy;
use local_fleet::{Route, User};
use serde_json::{Value, json};

use super::at;
use super::lab::*;

fn definition(group: &str, kind: &str) -> Value {
    let plural = format!("{}s", kind.to_lowercase());
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{group}")},
        "spec": {"group": group, "scope": "Namespaced",
            "names": {"plural": plural, "singular": kind.to_lowercase(), "kind": kind},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema":
                {"type": "object", "properties": {"spec": {"type": "object",
                    "properties": {"size": {"type": "integer"}}}}}}}]}})
}

fn within(namespace: &str, mut object: Value) -> Value {
    object["metadata"]["namespace"] = json!(namespace);
    object
}

#[tokio::test]
async fn a_kind_and_a_namespace_may_come_with_their_objects() {
    let lab = Lab::shared().await;
    let (ours, admin) = (Ours::new(&lab, User::Admin, Route::Direct).await, lab.admin().await);
    let work = work("kinds");
    let gadget = |name: &str| {
        json!({"apiVersion": "gadgets.example.com/v1", "kind": "Gadget",
            "metadata": {"name": name, "namespace": "gadgets"}, "spec": {"size": 1}})
    };
    let objects = [
        gadget("a"),
        gadget("b"),
        within("gadgets", config_map("c", &[])),
        definition("gadgets.example.com", "Gadget"),
        namespace("gadgets"),
    ];
    // In one go, whatever their order.
    let outcomes = ours.apply_all(&work, &objects, &[], None, SOON).await;
    let inventory: Vec<InventoryItem> =
        objects.iter().zip(&outcomes).map(|(object, outcome)| placed(object, outcome)).collect();
    assert!(admin.get("/apis/gadgets.example.com/v1/namespaces/gadgets/gadgets/a").await.is_some());

    let gone = async {
        while ours.remove(&work, &inventory).await.iter().any(|outcome| *outcome != Outcome::Gone) {}
    };
    tokio::time::timeout(SOON, gone).await.unwrap();
    // The kind is gone, so its objects are.
    assert_eq!(ours.remove(&work, &inventory[..1]).await, [Outcome::Gone]);
    // It comes again, although it was known already before.
    let outcomes = ours.apply_all(&work, &objects, &inventory, None, SOON).await;
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Applied(_))), "{outcomes:?}");
}

#[tokio::test]
async fn objects_of_a_kind_whose_names_are_taken_wait() {
    let lab = Lab::shared().await;
    let ours = Ours::new(&lab, User::Admin, Route::Direct).await;
    let work = work("taken");
    let first = definition("taken.example.com", "Taken");
    let mut second = definition("taken.example.com", "Other");
    second["spec"]["names"]["shortNames"] = json!(["takens"]);
    assert!(matches!(ours.apply(&work, &first, &[]).await, Outcome::Applied(_)));
    let taken = json!({"apiVersion": "taken.example.com/v1", "kind": "Taken", "metadata": {"name": "a", "namespace": "default"}});
    assert!(matches!(
        &ours.apply_all(&work, &[first, taken], &[], None, SOON).await[..],
        [Outcome::Applied(_), Outcome::Applied(_)]
    ));
    let other = json!({"apiVersion": "taken.example.com/v1", "kind": "Other", "metadata": {"name": "a", "namespace": "default"}});
    let outcomes = ours.apply_all(&work, &[second, other], &[], None, SOON).await;
    assert!(
        matches!(&outcomes[1], Outcome::Waiting { reason } if reason.contains("names are taken")),
        "{outcomes:?}"
    );
}

#[tokio::test]
async fn a_missing_namespace_is_made_and_is_nobodys() {
    let lab = Lab::shared().await;
    let (ours, admin) = (Ours::new(&lab, User::Admin, Route::Direct).await, lab.admin().await);
    let work = work("missing namespace");
    let objects: Vec<Value> =
        (0..4).map(|index| within("made", config_map(&format!("m-{index}"), &[]))).collect();

    let skip = Policy { skip_namespace_creation: true, ..Policy::default() };
    let request = ours.request(&work, &objects);
    for outcome in ours.send(ApplyRequest { policy: Arc::new(skip), ..request }).await {
        assert!(
            matches!(&outcome, Outcome::Waiting { reason } if reason.contains("namespace made does not exist")),
            "{outcome:?}"
        );
    }
    assert!(admin.get("/api/v1/namespaces/made").await.is_none());

    let outcomes = ours.apply_all(&work, &objects, &[], None, SOON).await;
    let inventory: Vec<InventoryItem> =
        objects.iter().zip(&outcomes).map(|(object, outcome)| placed(object, outcome)).collect();
    let made = admin.get("/api/v1/namespaces/made").await.unwrap();
    assert!(made["metadata"]["labels"].get(fleet_core::manifest::MARK).is_none(), "{made}");
    assert_eq!(ours.remove(&work, &inventory).await, vec![Outcome::Gone; 4]);
    // Not even by who names it.
    assert_eq!(ours.remove(&work, &[item(&namespace("made"), None)]).await, [Outcome::Gone]);
    let there = admin.get("/api/v1/namespaces/made").await.unwrap();
    assert_eq!(there["metadata"]["uid"], made["metadata"]["uid"]);
    assert!(there["metadata"].get("deletionTimestamp").is_none());
}

#[tokio::test]
async fn a_namespace_that_is_in_the_set_is_made_as_that_says_or_not_at_all() {
    let lab = Lab::shared().await;
    let (ours, admin) = (Ours::new(&lab, User::Admin, Route::Direct).await, lab.admin().await);
    let mut bad = namespace("refused");
    bad["metadata"]["labels"] = json!({"a": "not a label!"});
    let outcomes = ours
        .apply_all(&work("refused"), &[within("refused", config_map("a", &[])), bad], &[], None, SOON)
        .await;
    assert!(matches!(&outcomes[..], [Outcome::Waiting { .. }, Outcome::Rejected { .. }]), "{outcomes:?}");
    assert!(admin.get("/api/v1/namespaces/refused").await.is_none());
}

#[tokio::test]
async fn after_a_conflict_nothing_more_is_begun_unless_it_is_to_go_on() {
    let lab = Lab::shared().await;
    let (ours, admin) = (Ours::new(&lab, User::Admin, Route::Direct).await, lab.admin().await);
    let path = "/api/v1/namespaces/default/serviceaccounts?fieldManager=helm";
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "held", "namespace": "default", "labels": {"a": "b"}}});
    admin.send("POST", path, Some(&account)).await.unwrap();
    let objects = [config_map("held", &[]), account, namespace("held-first")];

    let work = work("held");
    let preview = ours.preview(&work, &objects, &[]).await;
    let outcomes = ours.apply_all(&work, &objects, &[], None, SOON).await;
    for (outcomes, first_is) in [(&preview, "Would"), (&outcomes, "Applied")] {
        let [Outcome::Waiting { reason }, Outcome::Conflict { .. }, first] = &outcomes[..] else {
            panic!("{outcomes:?}")
        };
        assert!(reason.contains("ServiceAccount default/held") && reason.contains("helm"), "{reason}");
        assert!(format!("{first:?}").starts_with(first_is), "{first:?}");
    }
    assert!(admin.get(&at("held")).await.is_none());

    let inventory = [placed(&objects[2], &outcomes[2])];
    let policy = Arc::new(Policy { continue_on_conflict: true, ..Policy::default() });
    let request = ours.request(&work, &objects);
    let outcomes = ours.send(ApplyRequest { policy, inventory: inventory.to_vec(), ..request }).await;
    assert!(
        matches!(&outcomes[..], [Outcome::Applied(_), Outcome::Conflict { .. }, Outcome::Applied(_)]),
        "{outcomes:?}"
    );
    assert!(admin.get(&at("held")).await.is_some());
}

#[tokio::test]
async fn what_others_need_comes_first_and_goes_last() {
    let lab = Lab::shared().await;
    let (ours, admin) = (Ours::new(&lab, User::Admin, Route::Direct).await, lab.admin().await);
    let work = work("order");
    // What is held shows by its resourceVersion when its deletion began.
    let held = |api_version: &str, kind: &str, rest: Value| {
        let mut object = json!({"apiVersion": api_version, "kind": kind,
            "metadata": {"name": "ordered", "namespace": "default", "finalizers": ["example.com/hold"]}});
        object.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        object
    };
    let pods =
        json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let objects = [
        held(
            "networking.k8s.io/v1",
            "Ingress",
            json!({"spec": {"defaultBackend": {"service": {"name": "a", "port": {"number": 80}}}}}),
        ),
        held(
            "apps/v1",
            "Deployment",
            json!({"spec": {"selector": {"matchLabels": {"a": "b"}}, "template": pods}}),
        ),
        held("v1", "Service", json!({"spec": {"ports": [{"port": 80}]}})),
        held(
            "rbac.authorization.k8s.io/v1",
            "RoleBinding",
            json!({"roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "ordered"}}),
        ),
        held("rbac.authorization.k8s.io/v1", "Role", json!({"rules": []})),
        held("v1", "Secret", json!({})),
        held("v1", "ServiceAccount", json!({})),
        held("v1", "LimitRange", json!({"spec": {"limits": []}})),
    ];
    let paths = [
        "/apis/networking.k8s.io/v1/namespaces/default/ingresses/ordered",
        "/apis/apps/v1/namespaces/default/deployments/ordered",
        "/api/v1/namespaces/default/services/ordered",
        "/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings/ordered",
        "/apis/rbac.authorization.k8s.io/v1/namespaces/default/roles/ordered",
        "/api/v1/namespaces/default/secrets/ordered",
        "/api/v1/namespaces/default/serviceaccounts/ordered",
        "/api/v1/namespaces/default/limitranges/ordered",
    ];
    let versions = async || {
        let mut versions = Vec::new();
        for path in paths {
            let object = admin.get(path).await.unwrap();
            versions.push(object["metadata"]["resourceVersion"].as_str().unwrap().parse::<u64>().unwrap());
        }
        versions
    };
    let outcomes = ours.apply_all(&work, &objects, &[], None, SOON).await;
    let inventory: Vec<InventoryItem> =
        objects.iter().zip(&outcomes).map(|(object, outcome)| placed(object, outcome)).collect();
    let created = versions().await;
    assert!(created.is_sorted_by(|later, earlier| later > earlier), "{created:?}");
    for outcome in ours.remove(&work, &inventory).await {
        assert!(matches!(outcome, Outcome::Waiting { .. }), "{outcome:?}");
    }
    let deleted = versions().await;
    assert!(deleted.is_sorted_by(|first, then| first < then), "{deleted:?}");
    for path in paths {
        let release = json!({"metadata": {"finalizers": null}});
        admin.send("PATCH", path, Some(&release)).await.unwrap();
    }
}

#[tokio::test]
async fn a_namespace_on_its_way_out_is_waited_for() {
    let lab = Lab::shared().await;
    let (ours, admin) = (Ours::new(&lab, User::Admin, Route::Direct).await, lab.admin().await);
    let work = work("leaving");
    let (object, path) = (within("leaving", config_map("a", &[])), "/api/v1/namespaces/leaving");
    let first = ours.apply(&work, &object, &[]).await;
    let hold = json!({"metadata": {"finalizers": ["example.com/hold"]}});
    admin.send("PATCH", &format!("{path}/configmaps/a"), Some(&hold)).await.unwrap();
    admin.send("DELETE", path, None).await.unwrap();
    let other = within("leaving", config_map("b", &[]));
    let outcome = ours.apply(&work, &other, &[]).await;
    assert!(
        matches!(&outcome, Outcome::Waiting { reason } if reason.contains("namespace leaving is being deleted")),
        "{outcome:?}"
    );
    let release = json!({"metadata": {"finalizers": null}});
    admin.send("PATCH", &format!("{path}/configmaps/a"), Some(&release)).await.unwrap();
    admin.until_gone(path).await;
    // Gone, it is made anew.
    let outcomes =
        [ours.apply(&work, &object, &[placed(&object, &first)]).await, ours.apply(&work, &other, &[]).await];
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Applied(_))), "{outcomes:?}");
}
