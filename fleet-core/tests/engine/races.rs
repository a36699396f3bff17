//! Things that happen at the same time, in the order that hurts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use fleet_core::apply::{Applier, ApplyRequest, Outcome, RemoveRequest};
use fleet_core::cluster::ClusterId;
use fleet_core::manifest::Gvk;
use fleet_core::memory::MemoryApplier;
use fleet_core::observe::{Depth, Observation};
use fleet_core::source::Settled;
use fleet_core::source::SourceItem;
use fleet_core::work::AppliedState;
use futures::stream::BoxStream;

use crate::rig::{Feed, Setup, at, at_in, cluster, labelled, login, logout, template, until};
use crate::tampered::{Call, Tampered};

/// What is stored is looked at, though reading failed right after.
#[tokio::test(start_paused = true)]
async fn an_event_that_was_stored_is_done_though_the_store_failed_right_after() {
    for call in [Call::Applied, Call::WorkPut] {
        let store = Arc::new(Tampered::default());
        let rig = Setup { store: Arc::clone(&store) as _, ..Setup::default() }.start();
        rig.source.send(login("a")).await.await;
        rig.until_states("all applied", |state| *state == AppliedState::Applied).await;
        store.fail_once(call);
        assert_eq!(rig.source.send(logout("a")).await.await, Settled::Acked);
        rig.until_names("c1", &[]).await;
        rig.until_names("c2", &[]).await;
        until("no Work is left", async || rig.works().await.is_empty()).await;
        rig.stop().await;
    }
}

/// A lane that is about to begin does not outlive the removal everywhere else.
#[tokio::test(start_paused = true)]
async fn a_work_that_ends_while_a_cluster_begins_with_it_leaves_nothing_there() {
    let store = Arc::new(Tampered::default());
    let rig = Setup { store: Arc::clone(&store) as _, ..Setup::default() }.start();
    rig.source.send(login("a")).await.await;
    rig.until_states("all applied", |state| *state == AppliedState::Applied).await;
    let held = store.hold(Call::PutApplied(cluster("c3")));
    rig.clusters.put(labelled("c3", "production"));
    held.reached().await;
    rig.source.send(logout("a")).await.await;
    until("the Work is gone", async || rig.works().await.is_empty()).await;
    let applied = rig.handle.counters().applied.get();
    drop(held);
    until("it was applied too late", async || rig.handle.counters().applied.get() > applied).await;
    rig.until_names("c3", &[]).await;
    rig.stop().await;
}

/// Applies in one cluster only when it is let.
pub(crate) struct Gated {
    inner: Arc<MemoryApplier>,
    cluster: ClusterId,
    pub(crate) open: AtomicBool,
    pub(crate) reached: AtomicBool,
    pub(crate) passed: AtomicBool,
}

impl Gated {
    fn new(inner: &Arc<MemoryApplier>) -> Arc<Self> {
        Self::in_cluster("c1", inner)
    }

    pub(crate) fn in_cluster(name: &str, inner: &Arc<MemoryApplier>) -> Arc<Self> {
        Arc::new(Self {
            inner: Arc::clone(inner),
            cluster: cluster(name),
            open: AtomicBool::new(false),
            reached: AtomicBool::new(false),
            passed: AtomicBool::new(false),
        })
    }
}

#[async_trait]
impl Applier for Gated {
    async fn apply(&self, request: ApplyRequest) -> Vec<Outcome> {
        if request.cluster.id == self.cluster {
            self.reached.store(true, Ordering::Relaxed);
            while !self.open.load(Ordering::Relaxed) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            self.passed.store(true, Ordering::Relaxed);
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

/// Two operators by mistake: what one applies after the other removed is not forgotten.
#[tokio::test(start_paused = true)]
async fn what_an_operator_applies_after_another_removed_it_is_removed_again() {
    let setup = Setup::default();
    let (store, objects) = (Arc::clone(&setup.store), Arc::clone(&setup.objects));
    let gated = Gated::new(&objects);
    let one = Setup { applier: Some(Arc::clone(&gated) as _), ..setup }.start();
    let two = Setup { store, objects, ..Setup::default() }.start();
    two.handle.wait_until_loaded().await;
    one.source.send(login("a")).await.await;
    until("one is about to apply", async || gated.reached.load(Ordering::Relaxed)).await;
    two.source.send(logout("a")).await.await;
    until("the Work is gone", async || two.works().await.is_empty()).await;
    gated.open.store(true, Ordering::Relaxed);
    until("it was applied too late", async || gated.passed.load(Ordering::Relaxed)).await;
    one.until_names("c1", &[]).await;
    one.stop().await;
    two.stop().await;
}

/// Two operators by mistake: what one applies late does not stay over what the other applied since.
#[tokio::test(start_paused = true)]
async fn what_an_operator_applies_late_does_not_stay() {
    let setup = Setup::default();
    let (store, objects) = (Arc::clone(&setup.store), Arc::clone(&setup.objects));
    let gated = Gated::new(&objects);
    let one = Setup { applier: Some(Arc::clone(&gated) as _), ..setup }.start();
    let setup = Setup { store, objects, ..Setup::default() };
    let edit = |snapshot: &mut fleet_core::catalog::CatalogSnapshot| {
        Arc::make_mut(snapshot.triggers.get_mut("names").unwrap()).payload = vec![template("$subject-new")];
    };
    setup.catalog.edit(edit);
    one.source.send(login("a")).await.await;
    until("one is about to apply", async || gated.reached.load(Ordering::Relaxed)).await;
    let two = setup.start();
    two.until_names("c1", &["a-new"]).await;
    two.until_states("all applied", |state| *state == AppliedState::Applied).await;
    one.catalog.edit(edit);
    // Long enough for its definitions to be the new ones, short enough for the call to be waited for.
    tokio::time::sleep(Duration::from_secs(1)).await;
    gated.open.store(true, Ordering::Relaxed);
    until("it was applied too late", async || gated.passed.load(Ordering::Relaxed)).await;
    one.until_names("c1", &["a-new"]).await;
    one.stop().await;
    two.stop().await;
}

/// Two operators by mistake: an event counts, whichever of them accepts it.
#[tokio::test(start_paused = true)]
async fn the_operator_that_started_first_is_heard_too() {
    let setup = Setup::default();
    let (store, objects) = (Arc::clone(&setup.store), Arc::clone(&setup.objects));
    let one = setup.start();
    one.handle.wait_until_loaded().await;
    let two = Setup { store, objects, ..Setup::default() }.start();
    two.source.send(login("a")).await.await;
    two.until_names("c1", &["a"]).await;
    one.source.send(logout("a")).await.await;
    one.until_names("c1", &[]).await;
    one.stop().await;
    two.stop().await;
}

/// Invariant 11: what is kept only to remember positions does not make a withdrawal look small.
#[tokio::test(start_paused = true)]
async fn tombstones_do_not_count_as_works() {
    let rig = Setup::default().start();
    let feed = Feed::new("users");
    rig.handle.attach(Arc::clone(&feed) as _);
    for number in 0..100 {
        feed.deliver(logout(&format!("gone-{number}")), at(number + 1));
    }
    for number in 0..15 {
        feed.deliver(login(&format!("user-{number:02}")), at(number + 101));
    }
    until("all there", async || rig.names("c1").len() == 15 && rig.handle.tombstones() == 100).await;
    rig.clusters.put(labelled("c1", "staging"));
    until("held", async || rig.handle.held_withdrawals().is_some_and(|held| held.works == 15)).await;
    assert_eq!(rig.handle.held_withdrawals().unwrap().total, 15);
    assert_eq!(rig.names("c1").len(), 15);
    rig.stop().await;
}

/// Refuses to remove, and to apply, for as long as the test says.
struct Refusing {
    inner: Arc<MemoryApplier>,
    refuses: AtomicBool,
}

#[async_trait]
impl Applier for Refusing {
    async fn apply(&self, request: ApplyRequest) -> Vec<Outcome> {
        if self.refuses.load(Ordering::Relaxed) {
            return vec![Outcome::Rejected { reason: "quota".to_owned() }; request.manifests.len()];
        }
        self.inner.apply(request).await
    }

    async fn remove(&self, request: RemoveRequest) -> Vec<Outcome> {
        if self.refuses.load(Ordering::Relaxed) {
            return vec![Outcome::Rejected { reason: "forbidden".to_owned() }; request.items.len()];
        }
        self.inner.remove(request).await
    }

    fn settle_time(&self) -> Duration {
        Duration::ZERO
    }

    fn observe(&self, cluster: &ClusterId, kind: &Gvk, depth: Depth) -> BoxStream<'static, Observation> {
        self.inner.observe(cluster, kind, depth)
    }
}

/// Invariant 11: a withdrawal that was confirmed and then taken back does not allow the next one.
#[tokio::test(start_paused = true)]
async fn a_confirmation_is_for_one_withdrawal() {
    let setup = Setup::default();
    let objects = Arc::clone(&setup.objects);
    let applier = Arc::new(Refusing { inner: objects, refuses: AtomicBool::new(false) });
    let rig = Setup { applier: Some(Arc::clone(&applier) as _), ..setup }.start();
    for number in 0..15 {
        rig.source.send(login(&format!("user-{number:02}"))).await.await;
    }
    until("all there", async || rig.names("c1").len() == 15).await;
    rig.until_states("all applied", |state| *state == AppliedState::Applied).await;
    applier.refuses.store(true, Ordering::Relaxed);
    rig.clusters.put(labelled("c1", "staging"));
    until("held", async || rig.handle.held_withdrawals().is_some()).await;
    rig.handle.confirm_withdrawals();
    let in_c1 = async |wanted: &str| {
        let applied = rig.applied().await;
        applied.iter().filter(|it| it.cluster == cluster("c1")).all(|it| match &it.state {
            AppliedState::Stalled { message, .. } => message.contains(wanted),
            _ => false,
        })
    };
    until("none can be removed", async || in_c1("forbidden").await).await;
    rig.clusters.put(labelled("c1", "production"));
    until("none can be applied", async || in_c1("quota").await).await;
    rig.clusters.put(labelled("c1", "staging"));
    until("held again", async || rig.handle.held_withdrawals().is_some()).await;
    applier.refuses.store(false, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(rig.names("c1").len(), 15, "not confirmed");
    assert_eq!(rig.handle.confirm_withdrawals(), 15);
    rig.until_names("c1", &[]).await;
    rig.stop().await;
}

/// What is held follows the definitions, also when they change while a sweep is under way.
#[tokio::test(start_paused = true)]
async fn a_withdrawal_taken_back_during_the_sweep_is_not_held() {
    let store = Arc::new(Tampered::default());
    let rig = Setup { store: Arc::clone(&store) as _, ..Setup::default() }.start();
    for number in 0..15 {
        rig.source.send(login(&format!("user-{number:02}"))).await.await;
    }
    until("all there", async || rig.names("c1").len() == 15).await;
    rig.until_states("all applied", |state| *state == AppliedState::Applied).await;
    let held = store.hold(Call::Works);
    rig.catalog.edit(|snapshot| snapshot.triggers.clear());
    held.reached().await;
    rig.catalog.edit(|snapshot| {
        snapshot.triggers.insert("names".into(), Arc::new(crate::rig::trigger()));
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    drop(held);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(rig.handle.held_withdrawals(), None);
    rig.stop().await;
}

/// A key with positions in two domains is dropped once both floors have passed it, whichever comes last.
#[tokio::test(start_paused = true)]
async fn a_tombstone_waits_for_the_floor_that_is_missing() {
    let rig = Setup::default().start();
    let feed = Feed::new("users");
    rig.handle.attach(Arc::clone(&feed) as _);
    feed.deliver(login("a"), at_in("old", 1));
    until("applied", async || rig.names("c1").len() == 1).await;
    feed.deliver(logout("a"), at_in("new", 1));
    until("a tombstone", async || rig.handle.tombstones() == 1).await;
    feed.tell(SourceItem::Floor(at_in("old", 1)));
    feed.tell(SourceItem::Floor(at_in("new", 1)));
    until("no Work is left", async || rig.works().await.is_empty()).await;
    rig.stop().await;
}

/// A cluster that comes back after a restart loses what it should not have, whoever made it.
#[tokio::test(start_paused = true)]
async fn a_cluster_that_comes_back_loses_what_does_not_belong_there_any_more() {
    let rig = Setup::default().start();
    rig.source.send(login("a")).await.await;
    rig.until_states("all applied", |state| *state == AppliedState::Applied).await;
    let (store, objects) = (Arc::clone(&rig.store), Arc::clone(&rig.applier));
    rig.stop().await;

    let setup = Setup { store, objects, ..Setup::default() };
    setup.clusters.remove(&cluster("c1"));
    let rig = setup.start();
    until("swept", async || rig.handle.is_loaded() && rig.handle.backlog() == 0).await;
    assert_eq!(rig.names("c1"), ["a"]);
    rig.clusters.put(labelled("c1", "staging"));
    rig.until_names("c1", &[]).await;
    rig.stop().await;
}

/// Origin configured but not known any more is never "every cluster".
#[tokio::test(start_paused = true)]
async fn a_source_whose_definition_goes_away_keeps_its_origin() {
    let setup = Setup::default();
    setup.catalog.edit(|snapshot| {
        let source = Arc::make_mut(snapshot.sources.get_mut("users").unwrap());
        source.origin = Some(fleet_core::catalog::OriginRule::Fixed(cluster("c2")));
    });
    let rig = setup.start();
    rig.source.send(login("x")).await.await;
    rig.until_names("c2", &["x"]).await;
    rig.catalog.edit(|snapshot| snapshot.sources.clear());
    until("told", async || {
        let condition = rig.catalog.condition(&fleet_core::catalog::Subject::Trigger("names".into()));
        condition.is_some_and(|condition| condition.reason == "SourceMissing")
    })
    .await;
    rig.source.send(login("y")).await.await;
    rig.until_names("c2", &["x", "y"]).await;
    assert!(rig.names("c1").is_empty());
    rig.stop().await;
}

/// A feed of clusters that ends at once is opened again, and not as fast as it can be.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_feed_that_ends_is_not_opened_in_a_hurry() {
    use fleet_core::cluster::{ClusterFeed, MockClusterSelector};
    use futures::StreamExt;

    let opened = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = Arc::clone(&opened);
    let mut clusters = MockClusterSelector::new();
    clusters.expect_subscribe().returning(move || {
        count.fetch_add(1, Ordering::Relaxed);
        let snapshot = vec![Arc::new(labelled("c1", "production"))];
        Ok(ClusterFeed { snapshot, elsewhere: Vec::new(), changes: futures::stream::empty().boxed() })
    });
    let setup = Setup::default();
    let parts = fleet_core::engine::Parts {
        store: setup.store,
        catalog: Arc::new(setup.catalog),
        clusters: Arc::new(clusters),
        renderer: Arc::<crate::rig::Words>::default(),
        applier: Arc::clone(&setup.objects) as _,
        environment: fleet_core::environment::Environment::default(),
    };
    let engine = fleet_core::engine::Engine::new(parts, fleet_core::engine::Config::default());
    let stop = tokio_util::sync::CancellationToken::new();
    let running = tokio::spawn(engine.run(stop.clone()));
    tokio::time::sleep(Duration::from_secs(1)).await;
    let opened = opened.load(Ordering::Relaxed);
    assert!((2..20).contains(&opened), "opened {opened} times in a second");
    stop.cancel();
    running.await.unwrap();
}
