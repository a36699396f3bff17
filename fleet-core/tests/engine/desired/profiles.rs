//! ClusterProfiles: triggers that are always on.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use fleet_core::apply::{Applier, ApplyRequest, Outcome, RemoveRequest};
use fleet_core::catalog::{Composed, Payload, TriggerDef, profile_name};
use fleet_core::cluster::ClusterId;
use fleet_core::manifest::{Gvk, Manifest};
use fleet_core::memory::{MemoryApplier, MemoryCatalog};
use fleet_core::minijinja::MinijinjaRenderer;
use fleet_core::observe::{Depth, Observation};
use fleet_core::policy::{JsonPointer, MaxUpdate, Policy, StopMatching, SyncMode};
use fleet_core::render::{TemplateKind, TemplateSource};
use fleet_core::selector::LabelSelector;
use fleet_core::work::{AppliedState, EventKey, WorkId};
use futures::stream::BoxStream;
use parking_lot::Mutex;
use serde_json::{Map, Value, json};

use crate::rig::{Rig, Setup, cluster, labelled, login, source, template, trigger, until};

/// An applier that writes down what it does.
struct Told {
    inner: Arc<MemoryApplier>,
    log: Mutex<Vec<(ClusterId, String)>>,
}

impl Told {
    fn of(&self, name: &str) -> Vec<String> {
        let log = self.log.lock();
        log.iter().filter(|(id, _)| *id == cluster(name)).map(|(_, what)| what.clone()).collect()
    }
}

#[async_trait]
impl Applier for Told {
    async fn apply(&self, request: ApplyRequest) -> Vec<Outcome> {
        let (id, manifests) = (request.cluster.id.clone(), Arc::clone(&request.manifests));
        let outcomes = self.inner.apply(request).await;
        self.log.lock().extend(manifests.iter().map(|it| (id.clone(), format!("+{}", it.id().name))));
        outcomes
    }

    async fn remove(&self, request: RemoveRequest) -> Vec<Outcome> {
        let (id, items) = (request.cluster.id.clone(), request.items.clone());
        let outcomes = self.inner.remove(request).await;
        self.log.lock().extend(items.iter().map(|it| (id.clone(), format!("-{}", it.object.name))));
        outcomes
    }

    fn settle_time(&self) -> Duration {
        self.inner.settle_time()
    }

    fn observe(&self, cluster: &ClusterId, kind: &Gvk, depth: Depth) -> BoxStream<'static, Observation> {
        self.inner.observe(cluster, kind, depth)
    }
}

fn production() -> LabelSelector {
    LabelSelector::labels([("env", "production")]).unwrap()
}

fn profile(name: &str, words: &str) -> TriggerDef {
    TriggerDef { payload: vec![template(words)], ..TriggerDef::profile(name, production()) }
}

fn after(profile: TriggerDef, others: &[&str]) -> TriggerDef {
    let depends_on = others.iter().map(|name| profile_name(name)).collect();
    TriggerDef { policy: Policy { depends_on, ..Policy::default() }.into(), ..profile }
}

fn setup(rules: impl IntoIterator<Item = TriggerDef>) -> Setup {
    Setup { catalog: MemoryCatalog::new([source()], rules), ..Setup::default() }
}

fn put(rig: &Rig, profile: TriggerDef) {
    rig.catalog.edit(|snapshot| _ = snapshot.triggers.insert(Arc::clone(&profile.name), profile.into()));
}

fn take(rig: &Rig, profile: &str) {
    rig.catalog.edit(|snapshot| _ = snapshot.triggers.remove(&profile_name(profile)));
}

#[tokio::test(start_paused = true)]
async fn every_cluster_that_matches_has_it_for_as_long_as_it_does() {
    let rig = setup([profile("base", "base-$cluster")]).start();
    rig.until_names("c1", &["base-c1"]).await;
    rig.until_names("c2", &["base-c2"]).await;
    assert!(rig.names("staging1").is_empty());
    rig.clusters.put(labelled("c3", "production"));
    rig.until_names("c3", &["base-c3"]).await;
    rig.clusters.put(labelled("c1", "staging"));
    rig.until_names("c1", &[]).await;
    put(&rig, profile("base", "other"));
    rig.until_names("c2", &["other"]).await;
    rig.until_names("c3", &["other"]).await;
    take(&rig, "base");
    rig.until_names("c2", &[]).await;
    rig.until_names("c3", &[]).await;
    until("its Work is gone", async || rig.works().await.is_empty()).await;
    put(&rig, profile("base", "again"));
    rig.until_names("c2", &["again"]).await;
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn clusters_can_be_named_too() {
    let named = |clusters: &[&str]| TriggerDef {
        cluster_refs: clusters.iter().map(|name| cluster(name)).collect(),
        payload: vec![template("base")],
        ..TriggerDef::profile("base", LabelSelector::nothing())
    };
    let rig = setup([named(&["staging1", "c9"])]).start();
    rig.until_names("staging1", &["base"]).await;
    assert!(rig.names("c1").is_empty());
    rig.clusters.put(labelled("c9", "other"));
    rig.until_names("c9", &["base"]).await;
    put(&rig, named(&["c1", "c9"]));
    rig.until_names("c1", &["base"]).await;
    rig.until_names("staging1", &[]).await;
    rig.stop().await;
}

/// A trigger of the same name is another rule, and an event does not touch what is always on.
#[tokio::test(start_paused = true)]
async fn a_profile_and_a_trigger_may_have_one_name() {
    let rig = setup([profile("names", "base"), trigger()]).start();
    rig.source.send(login("a")).await.await;
    rig.until_names("c1", &["a", "base"]).await;
    let id = WorkId::new(&profile_name("names"), &EventKey::Always);
    assert!(id.as_str().starts_with("names-"), "{id}");
    assert!(!rig.handle.give_up(&id).await.unwrap(), "what is always on is not given up");
    take(&rig, "names");
    rig.until_names("c1", &["a"]).await;
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_depends_on_another_comes_after_it_and_goes_before_it() {
    let setup = setup([after(profile("top", "top"), &["base"]), profile("base", "base")]);
    let told = Arc::new(Told { inner: Arc::clone(&setup.objects), log: Mutex::default() });
    let rig = Setup { applier: Some(Arc::clone(&told) as _), ..setup }.start();
    rig.until_names("c1", &["base", "top"]).await;
    rig.until_names("c2", &["base", "top"]).await;
    assert_eq!(told.of("c1"), ["+base", "+top"], "the base first");
    // As the cluster stops to match.
    rig.clusters.put(labelled("c1", "staging"));
    rig.until_names("c1", &[]).await;
    assert_eq!(told.of("c1"), ["+base", "+top", "-top", "-base"], "the base last");
    // As both are taken away at once.
    rig.catalog.edit(|snapshot| snapshot.triggers.clear());
    rig.until_names("c2", &[]).await;
    assert_eq!(told.of("c2"), ["+base", "+top", "-top", "-base"], "the base last");
    until("their Works are gone", async || rig.works().await.is_empty()).await;
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_base_is_taken_away_under_what_stays() {
    let top = TriggerDef { payload: vec![template("top")], ..after(profile("top", "top"), &["base"]) };
    let rig = setup([top, profile("base", "base")]).start();
    rig.until_names("c1", &["base", "top"]).await;
    take(&rig, "base");
    rig.until_names("c1", &["top"]).await;
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_profile_is_applied_once_or_left_or_only_told_if_it_says_so() {
    let with = |name: &str, policy: Policy| TriggerDef { policy: policy.into(), ..profile(name, name) };
    let rig = setup([
        with("once", Policy { sync: SyncMode::OneTime, ..Policy::default() }),
        with("stays", Policy { stop_matching: StopMatching::LeavePolicies, ..Policy::default() }),
        with("told", Policy { sync: SyncMode::DryRun, ..Policy::default() }),
    ])
    .start();
    rig.until_names("c1", &["once", "stays"]).await;
    until("it is told what would be", async || {
        rig.applied()
            .await
            .iter()
            .any(|record| matches!(&record.state, AppliedState::Previewed { changes } if changes.len() == 1))
    })
    .await;
    rig.clusters.put(labelled("c1", "staging"));
    rig.until_names("c1", &["stays"]).await;
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_change_goes_cluster_by_cluster_where_it_says_so() {
    let one_by_one = |words: &str| TriggerDef {
        policy: Policy { max_update: Some(MaxUpdate::Clusters(1)), ..Policy::default() }.into(),
        ..profile("base", words)
    };
    let rig = setup([one_by_one("base")]).start();
    rig.until_names("c1", &["base"]).await;
    rig.until_names("c2", &["base"]).await;
    put(&rig, one_by_one("$fail"));
    until("it has failed in one", async || {
        rig.applied().await.iter().any(|record| matches!(record.state, AppliedState::Stalled { .. }))
    })
    .await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let stalled = rig.applied().await;
    let stalled = stalled.iter().filter(|record| matches!(record.state, AppliedState::Stalled { .. }));
    assert_eq!(stalled.count(), 1, "and is brought to no other");
    put(&rig, one_by_one("better"));
    rig.until_names("c1", &["better"]).await;
    rig.until_names("c2", &["better"]).await;
    rig.stop().await;
}

/// A release of a chart is such an object.
#[tokio::test(start_paused = true)]
async fn an_object_is_put_together_from_texts_and_values() {
    let pointer = |text: &str| JsonPointer::parse(text).unwrap();
    let object =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": "x"}, "data": {"a": "1"}});
    let Value::Object(object) = object else { unreachable!() };
    let values = |text: &str| TemplateSource::new("values", text, TemplateKind::Values);
    let composed = |values| Composed {
        name: "ClusterProfile base, helmCharts[0]".into(),
        object: object.clone(),
        texts: vec![(
            pointer("/metadata/name"),
            TemplateSource::new("name", "for-{{ cluster.name }}", TemplateKind::Text),
        )],
        values,
        hidden: Vec::new(),
    };
    let under = values("# comment\nx: {env: '{{ cluster.labels.env }}', keep: 1}\n");
    let over = values("x: {env: {{ cluster.name }}}\nz: |\n  {{ cluster.namespace }}\n");
    let both = vec![(pointer("/data"), under), (pointer("/data"), over)];
    let rule = |values| TriggerDef {
        payload: vec![Payload::Composed(Arc::new(composed(values)))],
        ..TriggerDef::profile("base", production())
    };
    let rig = Setup { renderer: Some(Arc::new(MinijinjaRenderer)), ..setup([rule(both)]) }.start();
    rig.until_names("c1", &["for-c1"]).await;
    let named = |name: &str| {
        let object =
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "x"}});
        Manifest::new(object).unwrap().id().clone()
    };
    let data = |rig: &Rig| -> Map<String, Value> {
        let object = rig.applier.object(&cluster("c1"), &named("for-c1")).unwrap();
        object.object["data"].as_object().unwrap().clone()
    };
    assert_eq!(Value::Object(data(&rig)), json!({"a": "1", "x": {"env": "c1", "keep": 1}, "z": "civo\n"}));
    for (bad, says) in [("- a\n", "is not a mapping"), ("a: 1\n---\nb: 2\n", "values are one document")] {
        put(&rig, rule(vec![(pointer("/data"), values(bad))]));
        rig.until_states(
            "it is stalled",
            |state| matches!(state, AppliedState::Stalled { message, .. } if message.contains(says)),
        )
        .await;
    }
    rig.stop().await;
}
