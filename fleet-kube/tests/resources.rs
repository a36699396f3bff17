//! What templates see of a management cluster, against a real API server.

// Clippy takes only test functions for tests, not what they call.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod management;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fleet_core::catalog::{Catalog, CatalogSnapshot};
use fleet_core::resource::{Lookup, ResourceId};
use fleet_kube::catalog::{KubeCatalog, look_up};
use fleet_kube::definitions::Family;
use futures::StreamExt;
use futures::stream::BoxStream;
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, Patch};
use local_fleet::Route;
use management::*;
use serde_json::{Value, json};

const RBAC: &str = "rbac.authorization.k8s.io/v1";

fn id(kind: &str, namespace: &str, name: &str) -> ResourceId {
    let (api_version, kind) = kind.rsplit_once('/').unwrap_or(("v1", kind));
    ResourceId {
        api_version: api_version.into(),
        kind: kind.into(),
        namespace: namespace.into(),
        name: name.into(),
    }
}

fn ids(ids: &[&ResourceId]) -> BTreeSet<ResourceId> {
    ids.iter().map(|id| (*id).clone()).collect()
}

fn config_map(name: &str, plan: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"}, "data": {"plan": plan}})
}

fn plan(found: Lookup<'_>) -> Option<Value> {
    match found {
        Lookup::Found(resource) => resource.value().pointer("/data/plan").cloned(),
        _ => None,
    }
}

struct Seen(BoxStream<'static, Arc<CatalogSnapshot>>);

impl Seen {
    async fn of(catalog: &KubeCatalog) -> Self {
        Self(catalog.subscribe().await.unwrap())
    }

    async fn until(&mut self, what: &str, holds: impl Fn(&CatalogSnapshot) -> bool) -> Arc<CatalogSnapshot> {
        let mut last = None;
        let wait = async {
            while let Some(snapshot) = self.0.next().await {
                if holds(&snapshot) {
                    return Some(snapshot);
                }
                last = Some(snapshot);
            }
            None
        };
        match tokio::time::timeout(SOON, wait).await {
            Ok(Some(snapshot)) => snapshot,
            _ => panic!("not {what}: {:?}", last.map(|it| it.resources.clone())),
        }
    }
}

/// How many watches of a resource the API server serves.
async fn watches(management: &Management, resource: &str) -> usize {
    let request = http::Request::get("/metrics").body(Vec::new()).unwrap();
    let metrics = management.client.request_text(request).await.unwrap();
    let of = |line: &&str| {
        line.starts_with("apiserver_longrunning_requests{")
            && line.contains(&format!("resource=\"{resource}\""))
            && line.contains("verb=\"WATCH\"")
    };
    let counts = metrics.lines().filter(of).map(|line| line.rsplit_once(' ').unwrap().1);
    counts.map(|count| count.parse::<f64>().unwrap() as usize).sum()
}

async fn until_watches(management: &Management, resource: &str, wanted: usize) {
    let wait = async {
        while watches(management, resource).await != wanted {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    assert!(tokio::time::timeout(SOON, wait).await.is_ok(), "{}", watches(management, resource).await);
}

async fn apply_of(management: &Management, group: &str, version: &str, object: &Value) {
    let gvk = GroupVersionKind::gvk(group, version, object["kind"].as_str().unwrap());
    let resource = ApiResource::from_gvk(&gvk);
    let api: Api<DynamicObject> = match object["metadata"]["namespace"].as_str() {
        Some(namespace) => Api::namespaced_with(management.client.clone(), namespace, &resource),
        None => Api::all_with(management.client.clone(), &resource),
    };
    let name = object["metadata"]["name"].as_str().unwrap();
    api.patch(name, &apply(), &Patch::Apply(object)).await.unwrap();
}

async fn grant(management: &Management, namespace: &str, name: &str, rule: Value) {
    let user = json!([{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "fleet"}]);
    for object in [
        json!({"apiVersion": RBAC, "kind": "Role", "metadata": {"name": name, "namespace": namespace}, "rules": [rule]}),
        json!({"apiVersion": RBAC, "kind": "RoleBinding", "metadata": {"name": name, "namespace": namespace}, "subjects": user,
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name}}),
    ] {
        apply_of(management, "rbac.authorization.k8s.io", "v1", &object).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn exactly_what_is_referred_to_is_watched_and_as_long_as_it_is() {
    let management = Management::start().await;
    management.install().await;
    management.apply(config_map("tenants", "free")).await;
    management.apply(config_map("others", "free")).await;
    let before = watches(&management, "configmaps").await;
    let catalog = KubeCatalog::start(management.client.clone());
    let mut seen = Seen::of(&catalog).await;
    seen.until("loaded", |_| true).await;
    let (tenants, missing) = (id("ConfigMap", "default", "tenants"), id("ConfigMap", "default", "missing"));
    // Without namespaces, and of a kind that has to be looked for.
    let (role, node) = (
        id(&format!("{RBAC}/ClusterRole"), "civo", "view"),
        id(&format!("{RBAC}/ClusterRole"), "prod", "view"),
    );
    catalog.refer(ids(&[&tenants, &missing, &role, &node]));
    let read = seen.until("all are known", |it| it.resources.known.len() == 4).await;
    assert_eq!(plan(read.resources.look_up(&tenants)), Some(json!("free")));
    assert_eq!(read.resources.look_up(&missing), Lookup::Absent);
    let (Lookup::Found(one), Lookup::Found(other)) =
        (read.resources.look_up(&role), read.resources.look_up(&node))
    else {
        panic!("{:?}", read.resources)
    };
    assert!(Arc::ptr_eq(one, other), "they are one object");
    assert_eq!(one.value()["kind"], "ClusterRole");
    assert_eq!(one.value()["metadata"].get("resourceVersion"), None);
    until_watches(&management, "configmaps", before + 2).await;

    let began = Instant::now();
    management.apply(config_map("tenants", "gold")).await;
    seen.until("the change", |it| plan(it.resources.look_up(&tenants)) == Some(json!("gold"))).await;
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    management.apply(config_map("missing", "free")).await;
    seen.until("it came", |it| plan(it.resources.look_up(&missing)) == Some(json!("free"))).await;
    management.delete(config_map("missing", "free")).await;
    seen.until("it went", |it| it.resources.look_up(&missing) == Lookup::Absent).await;

    // What nobody refers to any more is let go of, and only that.
    catalog.refer(ids(&[&tenants]));
    seen.until("only one", |it| it.resources.known.len() == 1).await;
    until_watches(&management, "configmaps", before + 1).await;
    catalog.refer(BTreeSet::new());
    until_watches(&management, "configmaps", before).await;
    catalog.stop().await;

    // The same once, for a look.
    let found = look_up(management.client.clone(), ids(&[&tenants, &missing]), SOON).await;
    assert_eq!(
        (plan(found.look_up(&tenants)), found.look_up(&missing)),
        (Some(json!("gold")), Lookup::Absent)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_be_read_says_what_to_grant_and_heals() {
    let management = Management::start().await;
    management.install().await;
    management.apply(config_map("tenants", "free")).await;
    management.apply(json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "login", "namespace": "default"},
        "stringData": {"plan": "hunter2"}})).await;
    let user = json!([{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "fleet"}]);
    let definitions =
        json!({"apiGroups": ["fleet-events.dev"], "resources": ["*"], "verbs": ["list", "watch"]});
    for object in [
        json!({"apiVersion": RBAC, "kind": "ClusterRole", "metadata": {"name": "fleet"}, "rules": [definitions]}),
        json!({"apiVersion": RBAC, "kind": "ClusterRoleBinding", "metadata": {"name": "fleet"}, "subjects": user,
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "fleet"}}),
    ] {
        apply_of(&management, "rbac.authorization.k8s.io", "v1", &object).await;
    }
    // This one object and no other: so no other is asked for.
    let one = json!({"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["tenants"], "verbs": ["list", "watch"]});
    grant(&management, "default", "one", one).await;
    let mut config = config(&management.lab, Route::Direct).await;
    config.auth_info.impersonate = Some("fleet".to_owned());
    config.auth_info.impersonate_groups = Some(vec!["system:authenticated".to_owned()]);
    let catalog = KubeCatalog::start_reading(Client::try_from(config).unwrap(), Family::Fleet, None);
    let mut seen = Seen::of(&catalog).await;
    let (tenants, login) = (id("ConfigMap", "default", "tenants"), id("Secret", "default", "login"));
    let (deployment, plan_kind) =
        (id("apps/v1/Deployment", "default", "web"), id("example.com/v1/Plan", "default", "gold"));
    catalog.refer(ids(&[&tenants, &login, &deployment, &plan_kind]));
    let read = seen.until("all are told of", |it| it.resources.known.len() == 4).await;
    assert_eq!(plan(read.resources.look_up(&tenants)), Some(json!("free")));
    let why = |id: &ResourceId| match read.resources.look_up(id) {
        Lookup::Unavailable(why) => why.to_owned(),
        other => panic!("{id}: {other:?}"),
    };
    assert!(why(&login).contains("secrets \"login\" is forbidden"), "{}", why(&login));
    assert!(
        why(&login)
            .ends_with("grant the operator list and watch of secrets (the core group) in namespace default"),
        "{}",
        why(&login)
    );
    assert!(
        why(&deployment)
            .ends_with("grant the operator list and watch of deployments (apps) in namespace default"),
        "{}",
        why(&deployment)
    );
    assert!(
        why(&plan_kind).starts_with("the management cluster has no kind Plan of example.com/v1; install its"),
        "{}",
        why(&plan_kind)
    );

    // Granted and installed, they are read without anybody doing anything more.
    grant(
        &management,
        "default",
        "secrets",
        json!({"apiGroups": [""], "resources": ["secrets"], "verbs": ["list", "watch"]}),
    )
    .await;
    let read =
        seen.until("it may be read", |it| matches!(it.resources.look_up(&login), Lookup::Found(_))).await;
    assert!(!format!("{read:?}").contains("hunter2"));
    let schema = json!({"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
    let crd = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "plans.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced", "names": {"plural": "plans", "kind": "Plan"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": schema}]}});
    apply_of(&management, "apiextensions.k8s.io", "v1", &crd).await;
    let plans = json!({"apiGroups": ["example.com"], "resources": ["plans"], "verbs": ["list", "watch"]});
    grant(&management, "default", "plans", plans).await;
    seen.until("the kind is there", |it| it.resources.look_up(&plan_kind) == Lookup::Absent).await;
}
