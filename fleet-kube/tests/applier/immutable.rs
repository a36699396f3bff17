//! What cannot be changed, and what is too large.

use fleet_core::apply::{Change, Outcome};
use fleet_core::manifest::RECREATE;
use local_fleet::{Route, User};
use serde_json::{Value, json};

use super::at;
use super::lab::*;

fn workload(api_version: &str, kind: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": name, "namespace": "default"}, "spec": spec})
}

fn pods(label: &str) -> Value {
    json!({"metadata": {"labels": {"s3cret": label}}, "spec": {"restartPolicy": "Always", "containers": [{"name": "c", "image": "i"}]}})
}

#[tokio::test]
async fn a_change_that_is_not_possible_is_refused_with_the_field_and_what_to_do() {
    let lab = Lab::shared().await;
    let ours = Ours::new(&lab, User::Admin, Route::Direct).await;
    let work = work("immutable");
    let service =
        |ip: Value| workload("v1", "Service", "fixed", json!({"clusterIP": ip, "ports": [{"port": 80}]}));
    let deployment = |label: &str| {
        workload(
            "apps/v1",
            "Deployment",
            "fixed",
            json!({"selector": {"matchLabels": {"s3cret": label}}, "template": pods(label)}),
        )
    };
    let stateful = |name: &str| {
        workload(
            "apps/v1",
            "StatefulSet",
            "fixed",
            json!({"serviceName": name,
            "selector": {"matchLabels": {"s3cret": "a"}}, "template": pods("a")}),
        )
    };
    let job = |image: &str| {
        workload(
            "batch/v1",
            "Job",
            "fixed",
            json!({"template": {"spec": {"restartPolicy": "Never",
            "containers": [{"name": "c", "image": image}]}}}),
        )
    };
    let binding = |role: &str| {
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "metadata": {"name": "fixed", "namespace": "default"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": role}, "subjects": []})
    };
    let frozen = |value: &str| {
        let mut object = config_map("fixed", &[("a", value)]);
        object["immutable"] = json!(true);
        object
    };
    let secret = |kind: &str| {
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "fixed", "namespace": "default"},
            "type": kind, "stringData": {"a": "s3cret"}})
    };
    let definition = |scope: &str| {
        json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": "fixeds.fixed.example.com"},
            "spec": {"group": "fixed.example.com", "scope": scope,
                "names": {"plural": "fixeds", "singular": "fixed", "kind": "Fixed"},
                "versions": [{"name": "v1", "served": true, "storage": true,
                    "schema": {"openAPIV3Schema": {"type": "object"}}}]}})
    };
    // The scope of a kind is fixed once the kind is established, as it is once there is an object of it.
    let of_the_kind = json!({"apiVersion": "fixed.example.com/v1", "kind": "Fixed",
        "metadata": {"name": "a", "namespace": "default"}});
    for outcome in ours.apply_all(&work, &[definition("Namespaced"), of_the_kind], &[], None, SOON).await {
        let _ = uid(&outcome);
    }
    for (before, after, field) in [
        (service(Value::Null), service(json!("None")), "spec.clusterIP"),
        (deployment("a"), deployment("b"), "spec.selector"),
        (stateful("a"), stateful("b"), "spec"),
        (job("a"), job("b"), "spec.template"),
        (binding("a"), binding("b"), "roleRef"),
        (frozen("s3cret"), frozen("s3cret2"), "data"),
        (secret("Opaque"), secret("other/type"), "type"),
        (definition("Namespaced"), definition("Cluster"), "spec.scope"),
    ] {
        let kind = before["kind"].clone();
        let made = placed(&before, &ours.apply(&work, &before, &[]).await);
        let outcomes = [
            ours.apply(&work, &after, std::slice::from_ref(&made)).await,
            ours.preview(&work, std::slice::from_ref(&after), std::slice::from_ref(&made)).await.remove(0),
        ];
        for outcome in outcomes {
            let Outcome::Rejected { reason } = &outcome else { panic!("{kind}: {outcome:?}") };
            assert!(reason.starts_with(field), "{kind}: {reason}");
            assert!(reason.contains("any more") && reason.contains(RECREATE), "{kind}: {reason}");
            assert!(!reason.contains("s3cret"), "{kind}: {reason}");
        }
        let again = ours.apply(&work, &before, std::slice::from_ref(&made)).await;
        assert_eq!(Some(uid(&again)), made.uid.as_deref().map(str::to_owned), "{kind}: it was not touched");
    }
}

#[tokio::test]
async fn with_the_annotation_it_is_deleted_and_created_anew() {
    let lab = Lab::shared().await;
    let (ours, admin) = (Ours::new(&lab, User::Admin, Route::Direct).await, lab.admin().await);
    let work = work("recreated");
    let frozen = |value: &str, recreate: &str| {
        let mut object = config_map("recreated", &[("a", value)]);
        object["immutable"] = json!(true);
        object["metadata"]["annotations"] = json!({RECREATE: recreate});
        object
    };
    let before = frozen("1", "true");
    let made = placed(&before, &ours.apply(&work, &before, &[]).await);
    let refused = ours.apply(&work, &frozen("2", "yes"), std::slice::from_ref(&made)).await;
    assert!(matches!(refused, Outcome::Rejected { .. }), "{refused:?}");

    let after = frozen("2", "true");
    let preview = ours.preview(&work, std::slice::from_ref(&after), std::slice::from_ref(&made)).await;
    assert!(
        matches!(&preview[..], [Outcome::Would(Change::Recreate { reason })] if reason.starts_with("data")),
        "{preview:?}"
    );
    let anew = ours.apply(&work, &after, std::slice::from_ref(&made)).await;
    assert_ne!(Some(uid(&anew)), made.uid.as_deref().map(str::to_owned));
    assert_eq!(admin.get(&at("recreated")).await.unwrap()["data"]["a"], "2");

    // Where the old one does not go at once, it is waited for.
    let finalizer = json!({"metadata": {"finalizers": ["example.com/hold"]}});
    admin.send("PATCH", &at("recreated"), Some(&finalizer)).await.unwrap();
    let last = frozen("3", "true");
    let kept = placed(&after, &anew);
    for _ in 0..2 {
        let waiting = ours.apply(&work, &last, std::slice::from_ref(&kept)).await;
        assert!(matches!(waiting, Outcome::Waiting { .. }), "{waiting:?}");
    }
    let release = json!({"metadata": {"finalizers": null}});
    admin.send("PATCH", &at("recreated"), Some(&release)).await.unwrap();
    let anew = ours.apply(&work, &last, &[kept]).await;
    assert!(matches!(anew, Outcome::Applied(_)), "{anew:?}");
    assert_eq!(admin.get(&at("recreated")).await.unwrap()["data"]["a"], "3");
}

#[tokio::test]
async fn what_was_adopted_is_not_deleted_to_be_created_anew() {
    let lab = Lab::shared().await;
    let (ours, admin) = (Ours::new(&lab, User::Admin, Route::Direct).await, lab.admin().await);
    let work = work("adopted recreated");
    let mut object = config_map("adopted-frozen", &[("a", "1")]);
    object["immutable"] = json!(true);
    let path = "/api/v1/namespaces/default/configmaps";
    let before = admin.send("POST", path, Some(&object)).await.unwrap();
    object["data"]["a"] = json!("2");
    object["metadata"]["annotations"] = json!({RECREATE: "true"});
    let policy = fleet_core::policy::Policy { adopt: true, ..Default::default() };
    let request = ours.request(&work, std::slice::from_ref(&object));
    let outcome = ours
        .send(fleet_core::apply::ApplyRequest { policy: std::sync::Arc::new(policy), ..request })
        .await
        .remove(0);
    assert!(matches!(&outcome, Outcome::Rejected { reason } if reason.contains("adopted")), "{outcome:?}");
    assert_eq!(admin.get(&at("adopted-frozen")).await.unwrap(), before);
}

#[tokio::test]
async fn what_is_too_large_is_refused_with_size_and_limit() {
    let lab = Lab::shared().await;
    let ours = Ours::new(&lab, User::Admin, Route::Direct).await;
    let work = work("large");
    let definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "larges.large.example.com"},
        "spec": {"group": "large.example.com", "scope": "Cluster",
            "names": {"plural": "larges", "singular": "large", "kind": "Large"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema":
                {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}]}});
    let text = |size: usize| "s3cret".repeat(size / 6);
    let mut annotated = config_map("large", &[]);
    annotated["metadata"]["annotations"] = json!({"a": text(300_000)});
    let custom = json!({"apiVersion": "large.example.com/v1", "kind": "Large", "metadata": {"name": "a"},
        "text": text(2_000_000)});
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "large", "namespace": "default"},
        "stringData": {"a": text(1_200_000)}});
    for (object, size, limit) in [
        (annotated, "300001 bytes", "262144"),
        (config_map("large", &[("a", &text(1_200_000))]), "1200001 bytes", "1048576"),
        (secret, "", "1048576"),
        (custom, "bytes", "1572864"),
        (config_map("large", &[("a", &text(4_000_000))]), "bytes", "3145728"),
    ] {
        let outcomes = ours.apply_all(&work, &[definition.clone(), object.clone()], &[], None, SOON).await;
        let Outcome::Rejected { reason } = &outcomes[1] else { panic!("{limit}: {outcomes:?}") };
        assert!(reason.contains(size) && reason.contains(limit), "{limit}: {reason}");
        assert!(!reason.contains("s3cret") && reason.len() < 500, "{reason}");
    }
}
