//! The Catalog against a real API server: what users do with `kubectl`, and what they see.

// Clippy takes only test functions for tests, not what they call.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod management;

use std::time::Duration;

use fleet_core::catalog::{Catalog, CatalogSnapshot, Condition, Payload, Subject};
use fleet_core::cluster::ClusterId;
use fleet_kube::catalog::{CatalogHealth, KubeCatalog};
use fleet_kube::connection::Connection;
use fleet_kube::definitions::{Definitions, Fault, Transport};
use futures::StreamExt;
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, Patch};
use local_fleet::Route;
use management::*;
use secrecy::ExposeSecret;
use serde_json::json;

fn text(snapshot: &CatalogSnapshot, trigger: &str) -> Option<String> {
    match snapshot.triggers.get(trigger)?.payload.as_slice() {
        [Payload::Template(template)] => Some(template.text.to_string()),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn definitions_are_followed_and_their_conditions_tell_how_they_do() {
    let management = Management::start().await;
    let catalog = KubeCatalog::start(management.client.clone());
    let mut health = catalog.health();
    let mut definitions = catalog.definitions();

    // Without CustomResourceDefinitions it says what to do, and heals when they are there.
    let told = until(&mut health, "told what to install", |health| !health.troubles.is_empty()).await;
    assert!(!told.loaded);
    assert_eq!(
        told.troubles,
        [
            "the CustomResourceDefinitions are not installed: run `fleet-operator crds | kubectl apply --server-side -f -`"
        ]
    );
    management.install().await;
    until(&mut health, "loaded", |health| *health == CatalogHealth { loaded: true, troubles: Vec::new() })
        .await;
    let mut snapshots = catalog.subscribe().await.unwrap();
    assert!(snapshots.next().await.unwrap().complete);

    // A trigger first, and then, one after the other, what it needs.
    management.apply(trigger("manage-namespace")).await;
    let read =
        defined(&mut definitions, "a trigger that lacks two things", |read| read.problems.len() == 2).await;
    assert!(matches!(read.catalog.triggers["manage-namespace"].payload[..], [Payload::Missing { .. }]));
    let lacking =
        shown(&management, &trigger("manage-namespace"), "stalled", |it| is(it, "Stalled", "True")).await;
    let ready = condition(&lacking, "Ready").unwrap();
    assert_eq!((&ready["status"], &ready["reason"]), (&json!("False"), &json!("MissingReference")));
    let message = ready["message"].as_str().unwrap();
    assert!(message.contains("spec.eventSourceName: EventSource user-operation does not exist"), "{message}");
    assert!(message.contains("spec.policyRefs[0]: ConfigMap default/namespace does not exist"), "{message}");
    assert_eq!(lacking["status"]["observedGeneration"], lacking["metadata"]["generation"]);

    management.apply(source()).await;
    management.apply(template("kind: Namespace")).await;
    let read =
        defined(&mut definitions, "a trigger that lacks nothing", |read| read.problems.is_empty()).await;
    assert_eq!(text(&read.catalog, "manage-namespace").as_deref(), Some("kind: Namespace"));
    assert_eq!(read.transports["user-operation"], Transport::Http);

    // The engine's word becomes a condition, in the words of kstatus.
    let subject = Subject::Trigger("manage-namespace".into());
    let listening = Condition { ready: true, reason: "Ready".into(), message: "listening".into() };
    catalog.report(&subject, listening.clone());
    let ready = shown(&management, &trigger("manage-namespace"), "ready", |it| is(it, "Ready", "True")).await;
    assert_eq!(condition(&ready, "Stalled"), None);
    let source_down =
        Condition { ready: false, reason: "Disconnected".into(), message: "nats://a:4222 is down".into() };
    catalog.report(&Subject::Source("user-operation".into()), source_down);
    let down = shown(&management, &source(), "reconciling", |it| is(it, "Reconciling", "True")).await;
    assert_eq!(condition(&down, "Ready").unwrap()["reason"], "Disconnected");

    // What was said is not written again, and not by our own writing.
    catalog.report(&subject, listening);
    let since = ready["metadata"]["resourceVersion"].clone();
    let other = ClusterId::new("civo", "nobody").unwrap();
    catalog.report_cluster(&other, true, Some("v1.36.3"), "Reachable", "");

    // A template is edited; a status is not a change.
    management.apply(template("kind: ConfigMap")).await;
    defined(&mut definitions, "the new template", |read| {
        text(&read.catalog, "manage-namespace").as_deref() == Some("kind: ConfigMap")
    })
    .await;
    let now = shown(&management, &trigger("manage-namespace"), "there", |_| true).await;
    assert_eq!(now["metadata"]["resourceVersion"], since, "the condition did not change");

    // One bad object is named and does not touch the others; edited badly, the last good version stays.
    let mut bad = trigger("manage-namespace");
    bad["spec"]["filters"] = json!([{"not": {"equals": {"type": "a"}}}]);
    management.apply(bad).await;
    management.apply(trigger("another")).await;
    let read = defined(&mut definitions, "both", |read| {
        read.catalog.triggers.len() == 2 && !read.problems.is_empty()
    });
    let read = read.await;
    assert_eq!(read.problems.len(), 1, "{:?}", read.problems);
    assert_eq!(read.problems[0].fault, Fault::Invalid);
    assert!(read.catalog.complete && text(&read.catalog, "manage-namespace").is_some());
    let bad =
        shown(&management, &trigger("manage-namespace"), "refused", |it| is(it, "Ready", "False")).await;
    assert_eq!(condition(&bad, "Ready").unwrap()["reason"], "Invalid");
    assert_eq!(bad["status"]["observedGeneration"], bad["metadata"]["generation"]);

    // Triggers that wait for each other are told so, each of them, and stay as they were.
    for (name, other) in [("manage-namespace", "another"), ("another", "manage-namespace")] {
        let mut waiting = trigger(name);
        waiting["spec"]["dependsOn"] = json!([other]);
        management.apply(waiting).await;
    }
    for name in ["manage-namespace", "another"] {
        shown(&management, &trigger(name), "told of the circle", |it| {
            let ready = condition(it, "Ready").and_then(|ready| ready["message"].as_str());
            let circle = "another → manage-namespace → another";
            ready.is_some_and(|message| message.contains(circle)) && is(it, "Stalled", "True")
        })
        .await;
    }
    management.apply(trigger("manage-namespace")).await;
    defined(&mut definitions, "mended", |read| read.problems.is_empty()).await;

    // What is deleted is gone.
    management.delete(trigger("manage-namespace")).await;
    let gone = |read: &Definitions| !read.catalog.triggers.contains_key("manage-namespace");
    assert!(defined(&mut definitions, "gone", gone).await.catalog.complete);
    let last = loop {
        let snapshot = tokio::time::timeout(SOON, snapshots.next()).await.unwrap().unwrap();
        if !snapshot.triggers.contains_key("manage-namespace") && snapshot.triggers.contains_key("another") {
            break snapshot;
        }
    };
    assert_eq!(text(&last, "another").as_deref(), Some("kind: ConfigMap"));
    tokio::time::timeout(SOON, catalog.stop()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn clusters_come_with_their_kubeconfig_and_show_how_they_do() {
    let management = Management::start().await;
    management.install().await;
    management.apply(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "civo"}})).await;
    let cluster = json!({"apiVersion": "fleet-events.dev/v1alpha1", "kind": "Cluster",
        "metadata": {"name": "cluster1", "namespace": "civo", "labels": {"env": "production"}},
        "spec": {"kubeconfigSecretRef": {"name": "cluster1"}}});
    management.apply(cluster.clone()).await;
    let catalog = KubeCatalog::start(management.client.clone());
    let mut definitions = catalog.definitions();
    let kubeconfig = |read: &Definitions| match read.clusters.as_slice() {
        [one] => match &one.connection {
            Connection::KubeconfigSecret { kubeconfig, .. } => {
                Some(kubeconfig.as_ref().map(|text| text.expose_secret().to_owned()).map_err(Clone::clone))
            }
            _ => None,
        },
        _ => None,
    };
    let read =
        defined(&mut definitions, "a cluster without its Secret", |read| kubeconfig(read).is_some()).await;
    let missing = "Secret civo/cluster1 does not exist; create it, or correct the reference";
    assert_eq!(kubeconfig(&read), Some(Err(missing.to_owned())));
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "cluster1", "namespace": "civo"},
        "stringData": {"kubeconfig": "hunter2"}});
    management.apply(secret).await;
    let read = defined(&mut definitions, "a cluster with its Secret", |read| {
        kubeconfig(read) == Some(Ok("hunter2".into()))
    });
    assert!(!format!("{:?}", read.await).contains("hunter2"));

    let id = ClusterId::new("civo", "cluster1").unwrap();
    catalog.report_cluster(&id, true, Some("v1.36.3+k3s1"), "Reachable", "the API server answers");
    let ready = shown(&management, &cluster, "ready", |it| {
        is(it, "Ready", "True")
            && it["metadata"]["labels"].get("fleet-events.dev/kubernetes-version").is_some()
    })
    .await;
    assert_eq!(
        ready["metadata"]["labels"],
        json!({"env": "production", "fleet-events.dev/kubernetes-version": "v1.36.3_k3s1"})
    );
    assert_eq!(ready["status"]["version"], "v1.36.3+k3s1");
    let since = condition(&ready, "Ready").unwrap()["lastTransitionTime"].clone();
    defined(&mut definitions, "relabelled", |read| {
        read.clusters.iter().any(|one| one.labels.contains_key("fleet-events.dev/kubernetes-version"))
    })
    .await;

    catalog.report_cluster(&id, true, Some("v1.37.0"), "Reachable", "the API server answers");
    let upgraded = shown(&management, &cluster, "upgraded", |it| it["status"]["version"] == "v1.37.0").await;
    assert_eq!(condition(&upgraded, "Ready").unwrap()["lastTransitionTime"], since);
    catalog.report_cluster(&id, false, None, "Unreachable", "connection refused");
    let down = shown(&management, &cluster, "down", |it| is(it, "Reconciling", "True")).await;
    assert_eq!(down["status"]["version"], "v1.37.0", "the last version stays");
    assert!(is(&down, "Ready", "False"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_the_api_server_takes_nothing_away() {
    let management = Management::start().await;
    management.install().await;
    management.apply(source()).await;
    management.apply(trigger("manage-namespace")).await;
    management.apply(template("kind: Namespace")).await;
    let mut config = config(&management.lab, Route::Proxied).await;
    config.connect_timeout = Some(Duration::from_secs(2));
    config.read_timeout = Some(fleet_kube::catalog::WATCH + Duration::from_secs(5));
    let catalog = KubeCatalog::start(Client::try_from(config).unwrap());
    let mut definitions = catalog.definitions();
    let mut health = catalog.health();
    let read = defined(&mut definitions, "read", |read| read.catalog.triggers.len() == 1).await;
    definitions.mark_unchanged();

    let proxy = management.lab.management().unwrap().proxy();
    proxy.cut();
    let cut = until(&mut health, "noticed", |health| !health.troubles.is_empty()).await;
    assert!(cut.loaded);
    assert!(cut.troubles.iter().all(|one| one.contains("what was read last holds")), "{cut:?}");
    assert!(!definitions.has_changed().unwrap(), "nothing was taken away");
    // What happens meanwhile is seen afterwards; a report waits until it can be written.
    management.delete(trigger("manage-namespace")).await;
    management.apply(trigger("another")).await;
    let word = Condition { ready: true, reason: "Connected".into(), message: "connected".into() };
    catalog.report(&Subject::Source("user-operation".into()), word);
    assert!(definitions.borrow().as_ref().unwrap().same(&read));
    proxy.heal();
    let after =
        defined(&mut definitions, "followed again", |read| read.catalog.triggers.contains_key("another"))
            .await;
    assert_eq!(after.catalog.triggers.len(), 1);
    until(&mut health, "well again", |health| health.troubles.is_empty()).await;
    shown(&management, &source(), "written afterwards", |it| is(it, "Ready", "True")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_may_not_be_read_is_the_problem_of_those_who_need_it() {
    let management = Management::start().await;
    management.install().await;
    management.apply(source()).await;
    management.apply(template("kind: Namespace")).await;
    management.apply(trigger("manage-namespace")).await;
    let mut tenant = trigger("tenant");
    tenant["spec"]["policyRefs"][0]["namespace"] = json!("tenant");
    tenant["spec"]["policyRefs"][0]["optional"] = json!(true);
    management.apply(tenant.clone()).await;
    for object in [
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "fleet"},
            "rules": [{"apiGroups": ["fleet-events.dev"], "resources": ["*"], "verbs": ["list", "watch", "patch"]}]}),
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "fleet"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "fleet"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "fleet"}]}),
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
            "metadata": {"name": "fleet", "namespace": "default"},
            "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list", "watch"]}]}),
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "metadata": {"name": "fleet", "namespace": "default"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "fleet"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "fleet"}]}),
    ] {
        let group = "rbac.authorization.k8s.io";
        let gvk = kube::api::GroupVersionKind::gvk(group, "v1", object["kind"].as_str().unwrap());
        let resource = ApiResource::from_gvk(&gvk);
        let api: Api<DynamicObject> = match object["metadata"]["namespace"].as_str() {
            Some(namespace) => Api::namespaced_with(management.client.clone(), namespace, &resource),
            None => Api::all_with(management.client.clone(), &resource),
        };
        api.patch("fleet", &apply(), &Patch::Apply(&object)).await.unwrap();
    }
    let mut config = config(&management.lab, Route::Direct).await;
    config.auth_info.impersonate = Some("fleet".to_owned());
    let catalog = KubeCatalog::start(Client::try_from(config).unwrap());
    let mut definitions = catalog.definitions();
    let read = defined(&mut definitions, "read", |_| true).await;
    assert_eq!(text(&read.catalog, "manage-namespace").as_deref(), Some("kind: Namespace"));
    let [Payload::Missing { reason }] = &read.catalog.triggers["tenant"].payload[..] else {
        panic!("{read:?}")
    };
    assert!(reason.starts_with("ConfigMap tenant/namespace cannot be read: "), "{reason}");
    shown(&management, &tenant, "stalled", |it| is(it, "Stalled", "True")).await;
}
