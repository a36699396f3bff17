//! Objects of a real API server as events: an engine with the real source, and targets in memory.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that meets the unexpected says so and stops; so do its helpers"
)]

#[path = "../lab/mod.rs"]
mod lab;

mod contract;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use fleet_core::catalog::{Condition, Payload, SourceDef, Subject, Tells, TriggerDef};
use fleet_core::cluster::{Cluster, ClusterId};
use fleet_core::engine::{Config, Engine, Handle, Parts};
use fleet_core::manifest::Gvk;
use fleet_core::memory::{MemoryApplier, MemoryCatalog, MemoryClusters, MemoryStore};
use fleet_core::minijinja::MinijinjaRenderer;
use fleet_core::render::TemplateSource;
use fleet_core::selector::LabelSelector;
use fleet_kube::clusters::Clusters;
use fleet_kube::objects::{KindWatches, ObjectSource, Rule, Selection, Selector};
use lab::*;
use local_fleet::{Route, User};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

const TEMPLATE: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {{ resource.metadata.name }}\ndata:\n  team: {{ resource.metadata.labels.team | default(\"none\") }}\n";

/// What is there before and after each engine.
struct World {
    lab: Arc<Lab>,
    admin: Other,
    store: Arc<MemoryStore>,
    objects: Arc<MemoryApplier>,
    selection: Arc<Selection>,
    namespace: &'static str,
}

/// An engine that runs.
struct Run {
    handle: Handle,
    catalog: Arc<MemoryCatalog>,
    objects: Arc<MemoryApplier>,
    stop: CancellationToken,
    engine: tokio::task::JoinHandle<()>,
    _clusters: Arc<Clusters>,
}

fn one() -> ClusterId {
    ClusterId::new("civo", "one").unwrap()
}

fn selector(namespace: &str, kind: (&str, &str, &str), rules: &[&str]) -> Selector {
    let (group, version, kind) = kind;
    Selector {
        kind: Gvk { group: group.into(), version: version.into(), kind: kind.into() },
        namespace: Some(namespace.into()),
        name: None,
        labels: LabelSelector::everything(),
        rules: rules.iter().map(|rule| Rule::new("rule", rule).unwrap()).collect(),
    }
}

const CONFIG_MAPS: (&str, &str, &str) = ("", "v1", "ConfigMap");

impl World {
    async fn new(name: &'static str, selection: Selection) -> Self {
        let lab = Lab::shared().await;
        let admin = lab.admin().await;
        admin.send("POST", "/api/v1/namespaces", Some(&namespace(name))).await.unwrap();
        let (store, objects) = (Arc::default(), Arc::default());
        Self { lab, admin, store, objects, selection: Arc::new(selection), namespace: name }
    }

    fn path(&self) -> String {
        format!("/api/v1/namespaces/{}/configmaps", self.namespace)
    }

    async fn put(&self, name: &str, labels: Value, data: Value) {
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": labels},
            "data": data});
        match self.admin.send("POST", &self.path(), Some(&object)).await {
            Ok(_) => {}
            Err(409) => {
                let path = format!("{}/{name}", self.path());
                let replaced = self.admin.send("PUT", &path, Some(&object)).await;
                replaced.unwrap();
            }
            Err(code) => panic!("{code}"),
        }
    }

    async fn delete(&self, name: &str) {
        self.admin.send("DELETE", &format!("{}/{name}", self.path()), None).await.unwrap();
    }

    async fn run(&self, user: User) -> Run {
        let clusters = Arc::new(Clusters::with_pace(pace()));
        clusters.update(vec![self.lab.definition(user, Route::Direct)]);
        until_health(&clusters, true).await;
        let source = SourceDef { tells: Tells::States, ..SourceDef::new("objects") };
        let trigger = TriggerDef {
            payload: vec![Payload::Template(TemplateSource::manifests("map", TEMPLATE))],
            ..TriggerDef::new("mirror", "objects", LabelSelector::everything())
        };
        let catalog = Arc::new(MemoryCatalog::new([source], [trigger]));
        let there = Arc::new(MemoryClusters::new([Cluster::new(one(), [("env", "production")])]));
        let engine = Engine::new(
            Parts {
                store: Arc::clone(&self.store) as _,
                catalog: Arc::clone(&catalog) as _,
                clusters: there,
                renderer: Arc::new(MinijinjaRenderer),
                applier: Arc::clone(&self.objects) as _,
                environment: Default::default(),
            },
            Config::default(),
        );
        let handle = engine.handle();
        let watches = Arc::new(KindWatches::new(Arc::clone(&clusters)));
        let source = ObjectSource::new("objects", one(), Arc::clone(&self.selection), watches);
        handle.attach(Arc::new(source));
        let stop = CancellationToken::new();
        let engine = tokio::spawn(engine.run(stop.clone()));
        Run { handle, catalog, objects: Arc::clone(&self.objects), stop, engine, _clusters: clusters }
    }
}

impl Run {
    /// What the trigger has made: names and teams.
    fn made(&self) -> BTreeMap<String, String> {
        let objects = self.objects.objects(&one());
        let made = objects.into_iter().map(|(id, object)| {
            let team = object.object["data"]["team"].as_str().unwrap_or_default().to_owned();
            (id.name.to_string(), team)
        });
        made.collect()
    }

    async fn until(&self, expected: &[(&str, &str)]) {
        let expected = expected.iter().map(|(name, team)| ((*name).to_owned(), (*team).to_owned())).collect();
        let reached = async {
            while self.made() != expected {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let reached = tokio::time::timeout(SOON, reached).await;
        reached.unwrap_or_else(|_| panic!("{:?} is not {expected:?}; {:?}", self.made(), self.condition()));
    }

    fn condition(&self) -> Option<Condition> {
        self.catalog.condition(&Subject::Source("objects".into()))
    }

    async fn until_said(&self, reason: &str) -> Condition {
        let said = async {
            loop {
                if let Some(condition) = self.condition().filter(|condition| condition.reason == reason) {
                    return condition;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let said = tokio::time::timeout(SOON, said).await;
        said.unwrap_or_else(|_| panic!("{reason} is never said, but {:?}", self.condition()))
    }

    async fn stop(self) {
        self.stop.cancel();
        self.engine.await.unwrap();
    }
}

fn of(namespace: &str, rules: &[&str]) -> Selection {
    Selection { selectors: vec![selector(namespace, CONFIG_MAPS, rules)], content: false }
}

#[tokio::test]
async fn an_object_that_matches_is_a_work_and_one_that_does_not_any_more_is_none() {
    let mut selection = of("live", &["resource.data.size == 'large'"]);
    selection.selectors[0].labels = LabelSelector::labels([("wanted", "yes")]).unwrap();
    let world = World::new("live", selection).await;
    let large = || json!({"size": "large"});
    let wanted = |team: &str| json!({"wanted": "yes", "team": team});
    world.put("before", wanted("a"), large()).await;
    world.put("small", wanted("a"), json!({"size": "small"})).await;
    world.put("unlabelled", json!({}), large()).await;
    let run = world.run(User::Admin).await;
    run.until(&[("before", "a")]).await;
    run.until_said("Connected").await;
    world.put("after", wanted("a"), large()).await;
    run.until(&[("after", "a"), ("before", "a")]).await;
    // Changed, it is rendered anew.
    world.put("before", wanted("b"), large()).await;
    world.put("small", wanted("c"), large()).await;
    run.until(&[("after", "a"), ("before", "b"), ("small", "c")]).await;
    // By its labels, by the expression, and for good.
    world.put("before", json!({}), large()).await;
    world.put("small", wanted("c"), json!({"size": "small"})).await;
    run.until(&[("after", "a")]).await;
    world.delete("after").await;
    run.until(&[]).await;
    assert_eq!(run.handle.counters().dead_letters.get(), 0);
    run.stop().await;
}

#[tokio::test]
async fn what_happened_while_nobody_looked_is_made_up_for() {
    let mut selection = of("down", &[]);
    selection.selectors[0].labels = LabelSelector::labels([("wanted", "yes")]).unwrap();
    let world = World::new("down", selection).await;
    let wanted = || json!({"wanted": "yes", "team": "a"});
    for name in ["stays", "changes", "goes", "unmatched"] {
        world.put(name, wanted(), json!({})).await;
    }
    let run = world.run(User::Admin).await;
    run.until(&[("changes", "a"), ("goes", "a"), ("stays", "a"), ("unmatched", "a")]).await;
    let stored = run.handle.counters().stored.get();
    assert_eq!(stored, 4);
    run.stop().await;

    world.delete("goes").await;
    world.put("unmatched", json!({}), json!({})).await;
    world.put("changes", json!({"wanted": "yes", "team": "b"}), json!({})).await;
    world.put("new", wanted(), json!({})).await;
    let run = world.run(User::Admin).await;
    run.until(&[("changes", "b"), ("new", "a"), ("stays", "a")]).await;
    // What stayed as it was is not written again.
    assert_eq!(run.handle.counters().stored.get(), 2);
    assert_eq!(run.handle.counters().missing.get(), 2);
    run.stop().await;
}

/// Invariant 11: what cannot be listed is not gone.
#[tokio::test]
async fn what_may_not_be_listed_is_said_and_deletes_nothing() {
    let world = World::new("forbidden", of("forbidden", &[])).await;
    world.put("there", json!({"team": "a"}), json!({})).await;
    let run = world.run(User::Admin).await;
    run.until(&[("there", "a")]).await;
    run.stop().await;
    world.delete("there").await;
    let run = world.run(User::Guest).await;
    let said = run.until_said("Forbidden").await;
    let expected = r#"cannot list resource "configmaps" in API group "" in the namespace "forbidden""#;
    assert!(!said.ready && said.message.contains(expected) && said.message.contains("lab-guest"), "{said:?}");
    assert_eq!(run.made().len(), 1);
    // Once it may, it sees that.
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "reader"},
        "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list", "watch"]}]});
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "reader"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "lab-guest"}]});
    let base = "/apis/rbac.authorization.k8s.io/v1/namespaces/forbidden";
    world.admin.send("POST", &format!("{base}/roles"), Some(&role)).await.unwrap();
    world.admin.send("POST", &format!("{base}/rolebindings"), Some(&binding)).await.unwrap();
    run.until(&[]).await;
    run.until_said("Connected").await;
    run.stop().await;
}

#[tokio::test]
async fn a_kind_that_is_not_served_is_said_and_looked_for_again() {
    let gadgets = ("objects.example.com", "v1", "Gadget");
    let mut selection = of("kinds", &[]);
    selection.selectors[0].name = Some("plain".into());
    selection.selectors.push(selector("kinds", gadgets, &[]));
    let world = World::new("kinds", selection).await;
    world.put("plain", json!({"team": "a"}), json!({})).await;
    let run = world.run(User::Admin).await;
    let said = run.until_said("KindMissing").await;
    assert!(said.message.contains("objects of kind Gadget (objects.example.com/v1)"), "{said:?}");
    // The others do not wait for it.
    run.until(&[("plain", "a")]).await;
    let crd = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "gadgets.objects.example.com"},
        "spec": {"group": "objects.example.com", "scope": "Namespaced",
            "names": {"plural": "gadgets", "singular": "gadget", "kind": "Gadget"},
            "versions": [{"name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}]}});
    let crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    world.admin.send("POST", crds, Some(&crd)).await.unwrap();
    run.until_said("Connected").await;
    let gadget = json!({"apiVersion": "objects.example.com/v1", "kind": "Gadget", "metadata": {"name": "g", "labels": {"team": "b"}}});
    let path = "/apis/objects.example.com/v1/namespaces/kinds/gadgets";
    world.admin.send("POST", path, Some(&gadget)).await.unwrap();
    run.until(&[("g", "b"), ("plain", "a")]).await;
    // With its definition go all objects of the kind.
    world.admin.send("DELETE", &format!("{crds}/gadgets.objects.example.com"), None).await.unwrap();
    run.until(&[("plain", "a")]).await;
    run.stop().await;
}
