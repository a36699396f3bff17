//! Calls without an answer, whose effect lands later.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use fleet_core::apply::{Applier, ApplyRequest, Outcome, RemoveRequest};
use fleet_core::cluster::ClusterId;
use fleet_core::manifest::Gvk;
use fleet_core::memory::MemoryApplier;
use fleet_core::observe::{Depth, Observation};
use fleet_core::work::AppliedState;
use futures::stream::BoxStream;
use parking_lot::Mutex;

use crate::rig::{Rig, Setup, cluster, login, logout, until};

const SETTLE: Duration = Duration::from_secs(30);

enum Lost {
    Apply(ApplyRequest),
    Remove(RemoveRequest),
}

/// Loses the answers of calls to one cluster while the test says so; their effect lands when the test says.
pub(crate) struct Late {
    inner: Arc<MemoryApplier>,
    cluster: ClusterId,
    loses: Mutex<bool>,
    lost: Mutex<VecDeque<Lost>>,
}

impl Late {
    pub(crate) fn new(inner: &Arc<MemoryApplier>) -> Arc<Self> {
        Self::in_cluster("c1", inner)
    }

    pub(crate) fn in_cluster(name: &str, inner: &Arc<MemoryApplier>) -> Arc<Self> {
        let (inner, cluster) = (Arc::clone(inner), cluster(name));
        Arc::new(Self { inner, cluster, loses: Mutex::default(), lost: Mutex::default() })
    }

    pub(crate) fn lose(&self, lose: bool) {
        *self.loses.lock() = lose;
    }

    fn loses(&self, cluster: &ClusterId) -> bool {
        *self.loses.lock() && *cluster == self.cluster
    }

    pub(crate) fn has_lost(&self) -> bool {
        !self.lost.lock().is_empty()
    }

    pub(crate) async fn one_is_lost(&self) {
        until("an answer is lost", async || self.has_lost()).await;
    }

    pub(crate) async fn land(&self) {
        let lost: Vec<_> = self.lost.lock().drain(..).collect();
        for call in lost {
            match call {
                Lost::Apply(request) => drop(self.inner.apply(request).await),
                Lost::Remove(request) => drop(self.inner.remove(request).await),
            }
        }
    }
}

#[async_trait]
impl Applier for Late {
    async fn apply(&self, request: ApplyRequest) -> Vec<Outcome> {
        if self.loses(&request.cluster.id) {
            let unknown = vec![Outcome::Unknown { reason: "lost".to_owned() }; request.manifests.len()];
            self.lost.lock().push_back(Lost::Apply(request));
            return unknown;
        }
        self.inner.apply(request).await
    }

    async fn remove(&self, request: RemoveRequest) -> Vec<Outcome> {
        if self.loses(&request.cluster.id) {
            let unknown = vec![Outcome::Unknown { reason: "lost".to_owned() }; request.items.len()];
            self.lost.lock().push_back(Lost::Remove(request));
            return unknown;
        }
        self.inner.remove(request).await
    }

    fn settle_time(&self) -> Duration {
        SETTLE
    }

    fn observe(&self, cluster: &ClusterId, kind: &Gvk, depth: Depth) -> BoxStream<'static, Observation> {
        self.inner.observe(cluster, kind, depth)
    }
}

fn start() -> (Arc<Late>, Rig) {
    let setup = Setup::default();
    let late = Late::new(&setup.objects);
    let rig = Setup { applier: Some(Arc::clone(&late) as _), ..setup }.start();
    (late, rig)
}

/// Invariant 1: a create without an answer is not settled by a later one that had an answer.
#[tokio::test(start_paused = true)]
async fn a_create_that_lands_after_the_removal_is_removed() {
    let (late, rig) = start();
    late.lose(true);
    rig.source.send(login("a")).await.await;
    late.one_is_lost().await;
    late.lose(false);
    rig.until_names("c1", &["a"]).await;
    rig.until_states("all applied", |state| *state == AppliedState::Applied).await;
    rig.source.send(logout("a")).await.await;
    rig.until_names("c1", &[]).await;
    rig.until_names("c2", &[]).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    late.land().await;
    assert_eq!(rig.names("c1"), ["a"]);
    rig.until_names("c1", &[]).await;
    until("no Work is left", async || rig.works().await.is_empty()).await;
    rig.stop().await;
}

/// The same when nothing was ever seen of it.
#[tokio::test(start_paused = true)]
async fn an_object_that_is_not_there_yet_is_no_proof() {
    let (late, rig) = start();
    late.lose(true);
    rig.source.send(login("a")).await.await;
    late.one_is_lost().await;
    rig.source.send(logout("a")).await.await;
    late.lose(false);
    rig.until_names("c2", &[]).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    late.land().await;
    rig.until_names("c1", &[]).await;
    until("no Work is left", async || rig.works().await.is_empty()).await;
    rig.stop().await;
}

/// Invariant 1: a delete without an answer may land after the next login.
#[tokio::test(start_paused = true)]
async fn a_removal_that_lands_after_the_next_login_is_made_good() {
    let (late, rig) = start();
    rig.source.send(login("a")).await.await;
    rig.until_states("all applied", |state| *state == AppliedState::Applied).await;
    late.lose(true);
    rig.source.send(logout("a")).await.await;
    late.one_is_lost().await;
    late.lose(false);
    rig.source.send(login("a")).await.await;
    rig.until_states("all applied", |state| *state == AppliedState::Applied).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    late.land().await;
    assert!(rig.names("c1").is_empty());
    rig.until_names("c1", &["a"]).await;
    rig.stop().await;
}

/// An object that leaves the template may still come to be, too; also when the operator died meanwhile.
#[tokio::test(start_paused = true)]
async fn what_was_under_way_when_the_last_operator_died_is_not_forgotten() {
    let setup = Setup::default();
    let late = Late::new(&setup.objects);
    let (store, objects) = (Arc::clone(&setup.store), Arc::clone(&setup.objects));
    let rig = Setup { applier: Some(Arc::clone(&late) as _), ..setup }.start();
    late.lose(true);
    // What is stored when the answer is still awaited.
    rig.clusters
        .put(fleet_core::cluster::Cluster { ready: false, ..crate::rig::labelled("c1", "production") });
    rig.handle.wait_until_loaded().await;
    rig.source.send(login("a")).await.await;
    rig.until_names("c2", &["a"]).await;
    rig.stop().await;
    late.lose(false);

    let setup = Setup { store, objects, applier: Some(Arc::clone(&late) as _), ..Setup::default() };
    setup.catalog.edit(|snapshot| {
        Arc::make_mut(snapshot.triggers.get_mut("names").unwrap()).payload =
            vec![crate::rig::template("$subject-new")];
    });
    let rig = setup.start();
    rig.until_names("c1", &["a-new"]).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let mut landing = rig.applier.object(&cluster("c1"), &crate::rig::object("a-new")).unwrap().object;
    landing["metadata"]["name"] = "a".into();
    rig.applier.put_foreign(&cluster("c1"), crate::rig::object("a"), landing);
    rig.until_names("c1", &["a-new"]).await;
    rig.stop().await;
}
