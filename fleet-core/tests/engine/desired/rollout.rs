//! Rollouts: another rendering is brought to so many clusters at a time, and stops where it fails.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use fleet_core::apply::{Applier, ApplyRequest, Outcome, RemoveRequest};
use fleet_core::catalog::{Condition, Subject, TriggerDef};
use fleet_core::cluster::{Cluster, ClusterId};
use fleet_core::manifest::{Gvk, Manifest, ObjectRef};
use fleet_core::memory::MemoryApplier;
use fleet_core::observe::{Depth, Observation};
use fleet_core::policy::{MaxUpdate, Policy, SyncMode};
use fleet_core::work::AppliedState;
use futures::stream::BoxStream;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::kept;
use super::slow::Slow;
use crate::rig::{Rig, Setup, cluster, labelled, login, logout, object, template, until};

/// Refuses what has a value, in a cluster, and hangs where it is told to.
struct Refusing {
    inner: Arc<MemoryApplier>,
    /// In which cluster, and which value.
    refused: Mutex<Option<(String, String)>>,
    /// Nothing is applied for the time being.
    hangs: Mutex<bool>,
}

#[async_trait]
impl Applier for Refusing {
    async fn apply(&self, request: ApplyRequest) -> Vec<Outcome> {
        while *self.hangs.lock() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let refused = self.refused.lock().clone();
        let is_refused = |manifest: &Manifest| {
            refused.as_ref().is_some_and(|(name, value)| {
                request.cluster.id.name() == name && manifest.object()["data"]["v"] == **value
            })
        };
        if request.manifests.iter().any(is_refused) {
            return vec![Outcome::Rejected { reason: "no such value".to_owned() }; request.manifests.len()];
        }
        self.inner.apply(request).await
    }

    async fn remove(&self, request: RemoveRequest) -> Vec<Outcome> {
        self.inner.remove(request).await
    }

    fn settle_time(&self) -> Duration {
        Duration::ZERO
    }

    fn observe(&self, cluster: &ClusterId, kind: &Gvk, depth: Depth) -> BoxStream<'static, Observation> {
        self.inner.observe(cluster, kind, depth)
    }
}

fn at_most(max: MaxUpdate) -> Policy {
    Policy { max_update: Some(max), ..Policy::default() }
}

fn one_by_one(words: &str) -> TriggerDef {
    kept("names", words, at_most(MaxUpdate::Clusters(1)))
}

/// So many production clusters, from `c1` on.
fn fleet(trigger: TriggerDef, clusters: usize) -> (Setup, Arc<Refusing>) {
    let setup = Setup::default();
    for number in 1..=clusters {
        setup.clusters.put(labelled(&format!("c{number}"), "production"));
    }
    if clusters < 2 {
        setup.clusters.remove(&cluster("c2"));
    }
    setup.catalog.edit(|snapshot| {
        snapshot.triggers.insert("names".into(), Arc::new(trigger));
    });
    let applier = Arc::new(Refusing {
        inner: Arc::clone(&setup.objects),
        refused: Mutex::default(),
        hangs: Mutex::default(),
    });
    (Setup { applier: Some(Arc::clone(&applier) as _), ..setup }, applier)
}

impl Rig {
    fn value_in(&self, cluster_name: &str, id: &ObjectRef) -> Option<Value> {
        self.applier.object(&cluster(cluster_name), id)?.object.get("data")?.get("v").cloned()
    }

    /// The values of an object in `c1` and on.
    fn values(&self, name: &str, clusters: usize) -> String {
        let value = |number| self.value_in(&format!("c{number}"), &object(name));
        (1..=clusters)
            .map(|number| value(number).map_or("-".to_owned(), |it| it.as_str().unwrap().to_owned()))
            .collect()
    }

    async fn until_values(&self, name: &str, expected: &str) {
        until(&format!("{name}: {expected}"), async || self.values(name, expected.len()) == expected).await;
    }

    fn says(&self) -> Option<Condition> {
        self.catalog.condition(&Subject::Trigger("names".into()))
    }

    async fn until_says(&self, reason: &str, message: &str) {
        until(&format!("{reason}: {message}"), async || {
            self.says().is_some_and(|it| it.reason == reason && it.message.contains(message))
        })
        .await;
    }

    async fn until_applied(&self) {
        self.until_states("applied", |state| *state == AppliedState::Applied).await;
    }

    /// Logins of these, applied in all clusters with these values.
    async fn log_in(&self, works: &[&str], values: &str) {
        for work in works {
            self.source.send(login(work)).await.await;
        }
        for work in works {
            self.until_values(work, values).await;
        }
        self.until_applied().await;
    }

    /// An edit that a cluster refuses, once that has stopped the rollout.
    async fn render_and_stop(&self, applier: &Refusing, words: &str, (name, value): (&str, &str)) {
        *applier.refused.lock() = Some((name.to_owned(), value.to_owned()));
        self.render(words);
        self.until_says("RolloutStopped", &format!("because of civo/{name}")).await;
    }

    fn render(&self, words: &str) {
        self.set("names", |trigger| trigger.payload = vec![template(words)]);
    }
}

async fn settle() {
    tokio::time::sleep(Duration::from_secs(30)).await;
}

/// How many clusters are between the old and the new rendering at any time: some of their Works have it, and not all.
async fn most_at_once(rig: &Rig, clusters: usize, works: &[&str], done: impl Fn() -> bool) -> usize {
    let mut most = 0;
    while !done() {
        let values: Vec<_> = works.iter().map(|name| rig.values(name, clusters)).collect();
        let mixed = (0..clusters).filter(|place| {
            let mut there = values.iter().map(|values| values.chars().nth(*place));
            let first = there.next();
            there.any(|it| Some(it) != first)
        });
        most = most.max(mixed.count());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    most
}

#[tokio::test(start_paused = true)]
async fn no_more_clusters_at_a_time_than_allowed() {
    for (max, expected) in [(MaxUpdate::Clusters(1), 1), (MaxUpdate::Percent(30), 3)] {
        let (setup, _) = fleet(kept("names", "$subject=1", at_most(max)), 10);
        let applier = Arc::new(Slow::one_by_one(&setup.objects, Duration::from_millis(20)));
        let rig = Setup { applier: Some(applier as _), ..setup }.start();
        let works = ["a", "b", "c", "d"];
        rig.log_in(&works, "1111111111").await;
        rig.render("$subject=2");
        rig.until_says("RollingOut", "0/10 clusters").await;
        let done = || works.iter().all(|work| rig.values(work, 10) == "2222222222");
        assert_eq!(most_at_once(&rig, 10, &works, done).await, expected);
        rig.until_says("Ready", "listening").await;
        rig.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn it_stops_at_the_first_failure_and_goes_on_once_that_is_mended() {
    let (setup, applier) = fleet(one_by_one("$subject=1"), 4);
    let rig = setup.start();
    rig.log_in(&["a", "b"], "1111").await;
    *applier.refused.lock() = Some(("c2".to_owned(), "2".to_owned()));
    rig.render("$subject=2");
    rig.until_says("RolloutStopped", "at 1/4 clusters because of civo/c2: Rejected").await;
    settle().await;
    assert_eq!(rig.values("a", 4), "2111");
    // What waits keeps what it has, and says so.
    let waiting = rig.applied().await.into_iter().filter(|it| ["c3", "c4"].contains(&it.cluster.name()));
    assert!(waiting.into_iter().all(|it| it.state == AppliedState::Applied && it.digest.is_some()));
    // Nobody else has to wait: an event, one for a new key, a removal, a new cluster.
    rig.source.send(login("b")).await.await;
    rig.until_values("b", "2122").await;
    rig.source.send(login("n")).await.await;
    rig.until_values("n", "2-22").await;
    rig.source.send(logout("b")).await.await;
    rig.until_values("b", "----").await;
    rig.clusters.put(labelled("c5", "production"));
    rig.until_values("a", "21112").await;
    settle().await;
    assert_eq!(rig.values("a", 5), "21112");
    *applier.refused.lock() = None;
    rig.until_values("a", "22222").await;
    rig.until_says("Ready", "listening").await;
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_becomes_unhealthy_stops_it_and_what_is_not_yet_healthy_is_waited_for() {
    let (setup, _) = fleet(one_by_one("Gadget/$subject=1"), 3);
    let rig = setup.start();
    rig.source.send(login("a")).await.await;
    let gadget = json!({"apiVersion": "v1", "kind": "Gadget", "metadata": {"name": "a"}});
    let gadget = Manifest::new(gadget).unwrap().id().clone();
    let values = || -> Vec<_> {
        ["c1", "c2", "c3"].iter().map(|name| rig.value_in(name, &gadget).unwrap_or_default()).collect()
    };
    until("applied", async || values() == [json!("1"), json!("1"), json!("1")]).await;
    rig.until_applied().await;
    let set = |name: &str, condition: &str, status: &str| {
        let status = json!({"conditions": [{"type": condition, "status": status, "message": "m"}]});
        rig.applier.edit(&cluster(name), &gadget, |object| _ = object.insert("status".to_owned(), status));
    };
    set("c1", "Ready", "False");
    settle().await;
    rig.render("Gadget/$subject=2");
    until("the first has it", async || values()[0] == json!("2")).await;
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(values()[1], json!("1"));
    rig.until_says("RollingOut", "0/3 clusters").await;
    set("c1", "Stalled", "True");
    rig.until_says("RolloutStopped", "civo/c1: Failed").await;
    settle().await;
    assert_eq!(values()[1], json!("1"));
    set("c1", "Ready", "True");
    until("it goes on", async || values() == [json!("2"), json!("2"), json!("2")]).await;
    rig.until_says("Ready", "listening").await;
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_restart_goes_on_where_it_was() {
    let (setup, applier) = fleet(one_by_one("$subject=1"), 4);
    let rig = setup.start();
    rig.log_in(&["a", "b"], "1111").await;
    rig.render_and_stop(&applier, "$subject=2", ("c2", "2")).await;
    let (store, objects) = (rig.store.clone(), rig.applier.clone());
    rig.stop().await;
    let (setup, _) = fleet(one_by_one("$subject=2"), 4);
    let rig = Setup { store, objects, applier: Some(Arc::clone(&applier) as _), ..setup }.start();
    rig.until_says("RolloutStopped", "at 1/4 clusters because of civo/c2: Rejected").await;
    settle().await;
    assert_eq!(rig.values("a", 4), "2111");
    *applier.refused.lock() = None;
    rig.until_values("a", "2222").await;
    rig.until_values("b", "2222").await;
    rig.until_says("Ready", "listening").await;
    rig.stop().await;
}

/// A second edit replaces the first: nothing of that is brought anywhere any more.
#[tokio::test(start_paused = true)]
async fn an_edit_in_the_middle_begins_anew() {
    let (setup, applier) = fleet(one_by_one("$subject=1"), 4);
    let rig = setup.start();
    rig.log_in(&["a"], "1111").await;
    rig.render_and_stop(&applier, "$subject=2", ("c2", "2")).await;
    // An edit that is about later events changes nothing of it.
    rig.set("names", |trigger| trigger.filter = Default::default());
    rig.set("names", |trigger| trigger.action = Some("$type".to_owned()));
    settle().await;
    assert_eq!(rig.values("a", 4), "2111");
    rig.render("$subject=3");
    rig.until_values("a", "3333").await;
    rig.until_says("Ready", "listening").await;
    // A template that cannot be rendered is brought to one cluster, and stops there.
    rig.render("$fail");
    rig.until_says("RolloutStopped", "TemplateError").await;
    settle().await;
    let stalled = rig.applied().await;
    let stalled = stalled.iter().filter(|it| matches!(it.state, AppliedState::Stalled { .. })).count();
    assert_eq!(stalled, 1);
    // Taken back: nothing is to be done.
    rig.render("$subject=3");
    rig.until_says("Ready", "listening").await;
    rig.until_applied().await;
    assert_eq!(rig.values("a", 4), "3333");
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_cluster_out_of_reach_keeps_its_place_and_is_not_begun() {
    let (setup, applier) = fleet(one_by_one("$subject=1"), 4);
    let rig = setup.start();
    rig.log_in(&["a"], "1111").await;
    let ready = |name: &str, ready: bool| rig.clusters.put(Cluster { ready, ..labelled(name, "production") });
    // Not begun: the others go on.
    ready("c2", false);
    rig.render("$subject=2");
    rig.until_values("a", "2122").await;
    rig.until_says("RollingOut", "3/4 clusters").await;
    ready("c2", true);
    rig.until_values("a", "2222").await;
    rig.until_says("Ready", "listening").await;
    // Begun, and then away: nobody knows how it does there.
    *applier.hangs.lock() = true;
    rig.render("$subject=3");
    rig.until_says("RollingOut", "0/4 clusters").await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    ready("c1", false);
    tokio::time::sleep(Duration::from_secs(20)).await;
    *applier.hangs.lock() = false;
    settle().await;
    assert_eq!(rig.values("a", 4), "2222");
    rig.until_says("RollingOut", "0/4 clusters").await;
    // It leaves for good: then its place is free.
    rig.clusters.remove(&cluster("c1"));
    until("the others", async || rig.values("a", 4).ends_with("333")).await;
    rig.until_says("Ready", "listening").await;
    rig.stop().await;
}

/// What is deleted comes back at once, with the rendering of now: no other is known.
#[tokio::test(start_paused = true)]
async fn what_is_deleted_in_a_cluster_that_waits_comes_back() {
    let policy = Policy { sync: SyncMode::ContinuousWithDriftDetection, ..at_most(MaxUpdate::Clusters(1)) };
    let (setup, applier) = fleet(kept("names", "$subject=1", policy), 3);
    let rig = setup.start();
    rig.log_in(&["a", "b"], "111").await;
    rig.render_and_stop(&applier, "$subject=2", ("c1", "2")).await;
    rig.applier.take_away(&cluster("c3"), &object("a"));
    rig.until_values("a", "112").await;
    settle().await;
    assert_eq!((rig.values("a", 3), rig.values("b", 3)), ("112".to_owned(), "111".to_owned()));
    rig.stop().await;
}
