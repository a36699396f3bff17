//! Drift: what somebody does to what is ours is undone, and what is theirs is left alone.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use fleet_core::apply::{Applier, ApplyRequest, Outcome, RemoveRequest};
use fleet_core::cluster::ClusterId;
use fleet_core::manifest::Gvk;
use fleet_core::memory::MemoryApplier;
use fleet_core::observe::{Depth, Observation};
use fleet_core::policy::{DriftExclusion, JsonPointer, Policy, SyncMode};
use fleet_core::work::AppliedState;
use futures::StreamExt;
use futures::stream::BoxStream;
use serde_json::json;

use super::{kept, mode, setup};
use crate::rig::{Rig, Setup, cluster, login, logout, object, until};

const DRIFT: SyncMode = SyncMode::ContinuousWithDriftDetection;

async fn started(policy: Policy) -> Rig {
    let rig = setup([kept("names", "$subject=1", policy)]).start();
    rig.source.send(login("a")).await.await;
    rig.until_states("applied", |state| *state == AppliedState::Applied).await;
    rig
}

fn repaired(rig: &Rig) -> u64 {
    rig.handle.counters().repaired.get()
}

#[tokio::test(start_paused = true)]
async fn what_is_deleted_or_changed_comes_back() {
    let rig = started(mode(DRIFT)).await;
    let c1 = cluster("c1");
    let first = rig.applier.take_away(&c1, &object("a")).unwrap();
    until("it is there again", async || rig.value("a") == Some(json!("1"))).await;
    assert_ne!(rig.applier.object(&c1, &object("a")).unwrap().uid, first.uid);
    until("that is written down", async || repaired(&rig) == 1).await;

    rig.somebody_sets("a", "v", json!("theirs"));
    until("the field is as it was", async || rig.value("a") == Some(json!("1"))).await;
    until("that is written down", async || repaired(&rig) == 2).await;

    rig.applier.edit(&c1, &object("a"), |object| {
        object["metadata"].as_object_mut().unwrap().remove("labels");
    });
    until("the mark is back", async || rig.mark("a").is_some()).await;
    until("and all is well", async || {
        let records = rig.applied().await;
        records[0].state == AppliedState::Applied && records[0].inventory[0].repaired_at.is_some()
    })
    .await;
    rig.source.send(logout("a")).await.await;
    rig.until_names("c1", &[]).await;
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_others_add_is_theirs_and_costs_nothing() {
    let rig = started(mode(DRIFT)).await;
    for number in 0..20 {
        rig.somebody_sets("a", "theirs", json!(number));
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(repaired(&rig), 0);
    let there = rig.applier.object(&cluster("c1"), &object("a")).unwrap();
    assert_eq!(there.object["data"], json!({"v": "1", "theirs": 19}));
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn without_drift_detection_what_is_changed_stays_changed() {
    let rig = started(mode(SyncMode::Continuous)).await;
    rig.somebody_sets("a", "v", json!("theirs"));
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(rig.value("a"), Some(json!("theirs")));
    // It is noticed as soon as it is asked for.
    rig.set("names", |trigger| trigger.policy = mode(DRIFT).into());
    until("the field is as it was", async || rig.value("a") == Some(json!("1"))).await;
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_drifted_while_nobody_looked_is_put_right_at_the_start() {
    let rig = started(mode(DRIFT)).await;
    rig.source.send(login("b")).await.await;
    rig.until_names("c1", &["a", "b"]).await;
    rig.until_states("applied", |state| *state == AppliedState::Applied).await;
    let (store, objects) = (rig.store.clone(), rig.applier.clone());
    rig.stop().await;
    objects.take_away(&cluster("c1"), &object("a"));
    objects.edit(&cluster("c1"), &object("b"), |object| object["data"] = json!({"v": "theirs"}));
    let again = setup([kept("names", "$subject=1", mode(DRIFT))]);
    let rig = crate::rig::Setup { store, objects, ..again }.start();
    until("both are right", async || ["a", "b"].iter().all(|name| rig.value(name) == Some(json!("1")))).await;
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_field_that_is_excluded_belongs_to_others() {
    let exclusion = DriftExclusion { paths: vec![JsonPointer::parse("/data/v").unwrap()], target: None };
    let rig = started(Policy { drift_exclusions: vec![exclusion], ..mode(DRIFT) }).await;
    rig.somebody_sets("a", "v", json!("theirs"));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(rig.value("a"), Some(json!("theirs")));
    assert_eq!(repaired(&rig), 0);
    rig.applier.take_away(&cluster("c1"), &object("a"));
    rig.until_names("c1", &["a"]).await;
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_field_that_is_fought_over_is_left_for_a_while_and_reported() {
    let rig = started(mode(DRIFT)).await;
    // Somebody sets it back whenever it was repaired.
    until("it is reported", async || {
        if rig.value("a") == Some(json!("1")) {
            rig.somebody_sets("a", "v", json!("theirs"));
        }
        let says = |state: &AppliedState| match state {
            AppliedState::Retrying { reason } => {
                reason.contains("field manager somebody") && reason.contains("ConfigMap a")
            }
            _ => false,
        };
        rig.applied().await.iter().any(|applied| says(&applied.state))
    })
    .await;
    assert_eq!(repaired(&rig), 5);
    assert_eq!(rig.value("a"), Some(json!("theirs")));
    // It is tried again, and again left alone at once.
    until("once more", async || rig.value("a") == Some(json!("1"))).await;
    rig.somebody_sets("a", "v", json!("theirs"));
    until("paused again", async || rig.handle.counters().contested.get() == 2).await;
    // When they stop, it is repaired and stays so.
    until("it has won", async || rig.value("a") == Some(json!("1"))).await;
    rig.until_states("applied", |state| *state == AppliedState::Applied).await;
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn many_objects_deleted_at_once_all_come_back() {
    let names: Vec<_> = (0..200).map(|number| format!("n{number:03}")).collect();
    let rig = setup([kept("names", &names.join(" "), mode(DRIFT))]).start();
    rig.source.send(login("a")).await.await;
    rig.until_states("applied", |state| *state == AppliedState::Applied).await;
    for name in &names {
        rig.applier.take_away(&cluster("c1"), &object(name));
        if name.ends_with('7') {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    let expected: Vec<_> = names.iter().map(String::as_str).collect();
    rig.until_names("c1", &expected).await;
    rig.until_states("applied", |state| *state == AppliedState::Applied).await;
    assert_eq!(rig.handle.counters().contested.get(), 0);
    rig.stop().await;
}

/// Notes with which version of an object it is called, and gives versions to what it writes and to what it sees.
struct Versioned {
    inner: Arc<MemoryApplier>,
    called: Arc<Mutex<Vec<Option<Arc<str>>>>>,
}

#[async_trait]
impl Applier for Versioned {
    async fn apply(&self, request: ApplyRequest) -> Vec<Outcome> {
        self.called.lock().unwrap().push(request.inventory[0].version.clone());
        let mut outcomes = self.inner.apply(request).await;
        for outcome in &mut outcomes {
            if let Outcome::Applied(placed) = outcome {
                placed.version = Some("written".into());
            }
        }
        outcomes
    }

    async fn remove(&self, request: RemoveRequest) -> Vec<Outcome> {
        self.inner.remove(request).await
    }

    fn settle_time(&self) -> Duration {
        Duration::ZERO
    }

    fn observe(&self, cluster: &ClusterId, kind: &Gvk, depth: Depth) -> BoxStream<'static, Observation> {
        let versioned = |mut told| {
            if let Observation::There(seen) = &mut told {
                seen.version = Some("seen".into());
            }
            told
        };
        self.inner.observe(cluster, kind, depth).map(versioned).boxed()
    }
}

#[tokio::test(start_paused = true)]
async fn a_repair_begins_with_what_was_seen() {
    let base = setup([kept("names", "$subject=1", mode(DRIFT))]);
    let called = Arc::<Mutex<Vec<Option<Arc<str>>>>>::default();
    let applier = Versioned { inner: Arc::clone(&base.objects), called: Arc::clone(&called) };
    let rig = Setup { applier: Some(Arc::new(applier)), ..base }.start();
    rig.source.send(login("a")).await.await;
    rig.until_states("applied", |state| *state == AppliedState::Applied).await;
    rig.somebody_sets("a", "v", json!("theirs"));
    until("the field is as it was", async || repaired(&rig) == 1).await;
    rig.applier.take_away(&cluster("c1"), &object("a")).unwrap();
    until("it is there again", async || repaired(&rig) == 2).await;
    // It was made, changed from what it had become, and made again.
    assert_eq!(*called.lock().unwrap(), [None, Some("seen".into()), None]);
    rig.stop().await;
}
