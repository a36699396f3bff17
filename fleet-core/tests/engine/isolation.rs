//! One slow cluster, failing trigger or bad template delays nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use fleet_core::apply::{Applier, ApplyRequest, Outcome, RemoveRequest};
use fleet_core::catalog::{Payload, Subject};
use fleet_core::cluster::ClusterId;
use fleet_core::engine::Config;
use fleet_core::manifest::Gvk;
use fleet_core::memory::MemoryApplier;
use fleet_core::observe::{Depth, Observation};
use fleet_core::work::AppliedState;
use futures::stream::BoxStream;

use crate::rig::{Setup, cluster, event, login, logout, object, template, until};

/// Does to one cluster what the test says, and leaves the others alone.
struct Troubled {
    inner: Arc<MemoryApplier>,
    cluster: ClusterId,
    trouble: Trouble,
    mended: AtomicBool,
}

#[derive(Clone, Copy)]
enum Trouble {
    Hangs,
    Down,
    Panics,
    /// It takes effect, and the answer is lost.
    AnswersLost,
}

impl Troubled {
    fn new(inner: &Arc<MemoryApplier>, trouble: Trouble) -> Arc<Self> {
        Arc::new(Self {
            inner: Arc::clone(inner),
            cluster: cluster("c1"),
            trouble,
            mended: AtomicBool::new(false),
        })
    }

    fn mend(&self) {
        self.mended.store(true, Ordering::Relaxed);
    }

    fn is_troubled(&self, cluster: &ClusterId) -> bool {
        *cluster == self.cluster && !self.mended.load(Ordering::Relaxed)
    }

    async fn fail(&self, calls: usize) -> Vec<Outcome> {
        let reason = "trouble".to_owned();
        match self.trouble {
            Trouble::Hangs => std::future::pending().await,
            Trouble::Down => {
                tokio::time::sleep(Duration::from_millis(20)).await;
                vec![Outcome::Retry { after: Duration::ZERO, reason, cluster: true }; calls]
            }
            Trouble::Panics => panic!("on purpose"),
            Trouble::AnswersLost => vec![Outcome::Unknown { reason }; calls],
        }
    }
}

#[async_trait]
impl Applier for Troubled {
    async fn apply(&self, request: ApplyRequest) -> Vec<Outcome> {
        let troubled = self.is_troubled(&request.cluster.id);
        let calls = request.manifests.len();
        if !troubled || matches!(self.trouble, Trouble::AnswersLost) {
            let outcomes = self.inner.apply(request).await;
            if !troubled {
                return outcomes;
            }
        }
        self.fail(calls).await
    }

    async fn remove(&self, request: RemoveRequest) -> Vec<Outcome> {
        if self.is_troubled(&request.cluster.id) {
            self.fail(request.items.len()).await
        } else {
            self.inner.remove(request).await
        }
    }

    fn settle_time(&self) -> Duration {
        Duration::ZERO
    }

    fn observe(&self, cluster: &ClusterId, kind: &Gvk, depth: Depth) -> BoxStream<'static, Observation> {
        self.inner.observe(cluster, kind, depth)
    }
}

#[tokio::test(start_paused = true)]
async fn a_cluster_in_trouble_costs_the_others_nothing_and_catches_up() {
    for trouble in [Trouble::Hangs, Trouble::Down, Trouble::Panics, Trouble::AnswersLost] {
        let setup = Setup::default();
        let applier = Troubled::new(&setup.objects, trouble);
        let config = Config { cluster_concurrency: 4, ..Config::default() };
        let rig = Setup { applier: Some(Arc::clone(&applier) as _), config, ..setup }.start();
        let began = tokio::time::Instant::now();
        let names: Vec<_> = (0..20).map(|number| format!("user-{number:02}")).collect();
        for name in &names {
            rig.source.send(login(name)).await.await;
        }
        let expected: Vec<_> = names.iter().map(String::as_str).collect();
        rig.until_names("c2", &expected).await;
        assert!(began.elapsed() < Duration::from_secs(1), "the healthy cluster waited {:?}", began.elapsed());
        rig.source.send(logout("user-07")).await.await;
        applier.mend();
        let expected: Vec<_> = expected.into_iter().filter(|name| *name != "user-07").collect();
        rig.until_names("c1", &expected).await;
        rig.until_names("c2", &expected).await;
        rig.until_states("all applied", |state| *state == AppliedState::Applied).await;
        rig.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_unready_cluster_is_left_alone_until_it_is_ready() {
    let setup = Setup::default();
    let mut away = crate::rig::labelled("c1", "production");
    away.ready = false;
    setup.clusters.put(away.clone());
    let rig = setup.start();
    rig.source.send(login("a")).await.await;
    rig.until_names("c2", &["a"]).await;
    assert!(rig.names("c1").is_empty());
    away.ready = true;
    rig.clusters.put(away);
    rig.until_names("c1", &["a"]).await;
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_subject_that_is_no_name_stalls_its_own_work_only() {
    let rig = Setup::default().start();
    for bad in ["https://x/y", "../../x", "😀", &"x".repeat(300)] {
        rig.source.send(login(bad)).await.await;
    }
    rig.source.send(login("good")).await.await;
    rig.until_names("c1", &["good"]).await;
    until("four Works are stalled in two clusters", async || {
        let applied = rig.applied().await;
        applied
            .iter()
            .filter(
                |it| matches!(&it.state, AppliedState::Stalled { reason, .. } if reason == "TemplateError"),
            )
            .count()
            == 8
    })
    .await;
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn mending_a_template_applies_what_it_stalled() {
    let setup = Setup::default();
    let edit = |text: &'static str| {
        move |snapshot: &mut fleet_core::catalog::CatalogSnapshot| {
            Arc::make_mut(snapshot.triggers.get_mut("names").unwrap()).payload = vec![template(text)];
        }
    };
    setup.catalog.edit(edit("$syntax"));
    let rig = setup.start();
    rig.source.send(login("a")).await.await;
    rig.until_states(
        "stalled",
        |state| matches!(state, AppliedState::Stalled { reason, .. } if reason == "TemplateError"),
    )
    .await;
    let condition = rig.catalog.condition(&Subject::Trigger("names".into())).unwrap();
    assert!(
        !condition.ready && condition.message.contains("ConfigMap default/names, key names, line 1"),
        "{condition:?}"
    );

    rig.catalog.edit(edit("$subject $subject-extra"));
    rig.until_names("c1", &["a", "a-extra"]).await;
    assert!(rig.catalog.condition(&Subject::Trigger("names".into())).unwrap().ready);

    // A template that breaks again takes nothing away.
    rig.catalog.edit(edit("$fail"));
    rig.until_states("stalled", |state| matches!(state, AppliedState::Stalled { .. })).await;
    assert_eq!(rig.names("c1"), ["a", "a-extra"]);
    // The trigger can be used, and tells what its Works wait for.
    let condition = rig.catalog.condition(&Subject::Trigger("names".into())).unwrap();
    assert!(condition.ready && condition.reason == "WorksStalled", "{condition:?}");
    assert!(condition.message.contains("civo/c1, and 1 more times: TemplateError"), "{condition:?}");

    // And an object that leaves the template is deleted.
    rig.catalog.edit(edit("$subject-extra"));
    rig.until_names("c1", &["a-extra"]).await;
    rig.source.send(logout("a")).await.await;
    rig.until_names("c1", &[]).await;
    rig.until_names("c2", &[]).await;
    let condition = rig.catalog.condition(&Subject::Trigger("names".into())).unwrap();
    assert_eq!((condition.ready, &*condition.reason), (true, "Ready"), "{condition:?}");
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_missing_reference_stalls_until_it_is_there() {
    let setup = Setup::default();
    setup.catalog.edit(|snapshot| {
        let reason = "ConfigMap default/names does not exist; create it".to_owned();
        Arc::make_mut(snapshot.triggers.get_mut("names").unwrap()).payload =
            vec![Payload::Missing { reason }];
    });
    let rig = setup.start();
    rig.source.send(login("a")).await.await;
    rig.until_states(
        "stalled",
        |state| matches!(state, AppliedState::Stalled { reason, .. } if reason == "ReferenceMissing"),
    )
    .await;
    rig.catalog.edit(|snapshot| {
        Arc::make_mut(snapshot.triggers.get_mut("names").unwrap()).payload = vec![template("$subject")];
    });
    rig.until_names("c1", &["a"]).await;
    rig.stop().await;
}

/// Invariant 5: an object that is not ours is neither changed nor removed.
#[tokio::test(start_paused = true)]
async fn a_foreign_object_is_left_alone() {
    let setup = Setup::default();
    let foreign =
        serde_json::json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "kube-system"}});
    setup.objects.put_foreign(&cluster("c1"), object("kube-system"), foreign.as_object().unwrap().clone());
    let before = setup.objects.object(&cluster("c1"), &object("kube-system"));
    let rig = setup.start();
    rig.source.send(login("kube-system")).await.await;
    rig.until_names("c2", &["kube-system"]).await;
    until("the conflict is reported with the owner", async || {
        rig.applied().await.iter().any(|it| matches!(&it.state, AppliedState::Stalled { reason, message } if reason == "Conflict" && message.contains("somebody else")))
    })
    .await;
    rig.source.send(logout("kube-system")).await.await;
    rig.until_names("c2", &[]).await;
    until("no Work is left", async || rig.works().await.is_empty()).await;
    assert_eq!(rig.applier.object(&cluster("c1"), &object("kube-system")), before);
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn two_works_that_want_one_object_do_not_fight() {
    let setup = Setup::default();
    setup.catalog.edit(|snapshot| {
        Arc::make_mut(snapshot.triggers.get_mut("names").unwrap()).payload = vec![template("shared")];
    });
    let rig = setup.start();
    rig.source.send(login("a")).await.await;
    rig.until_names("c1", &["shared"]).await;
    rig.source.send(event("auth.login", "b")).await.await;
    until("the second is told who has it", async || {
        rig.applied().await.iter().any(|it| matches!(&it.state, AppliedState::Stalled { message, .. } if message.contains("of EventTrigger names")))
    })
    .await;
    // When the first lets go, the second gets it: it is tried again slowly.
    rig.source.send(logout("a")).await.await;
    rig.until_states("the second has it", |state| *state == AppliedState::Applied).await;
    assert_eq!(rig.names("c1"), ["shared"]);
    rig.stop().await;
}

/// Works that fail together are one failure of their cluster: the pause grows once, not once for each.
#[tokio::test(start_paused = true)]
async fn a_short_outage_under_load_is_over_soon() {
    let setup = Setup::default();
    let applier = Troubled::new(&setup.objects, Trouble::Down);
    let rig = Setup { applier: Some(Arc::clone(&applier) as _), ..setup }.start();
    let names: Vec<_> = (0..30).map(|number| format!("user-{number:02}")).collect();
    for name in &names {
        drop(rig.source.send(login(name)).await);
    }
    let expected: Vec<_> = names.iter().map(String::as_str).collect();
    rig.until_names("c2", &expected).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    applier.mend();
    let mended = tokio::time::Instant::now();
    rig.until_names("c1", &expected).await;
    assert!(mended.elapsed() < Duration::from_secs(3), "it took {:?}", mended.elapsed());
    rig.stop().await;
}

/// Invariant 7: what waits for a cluster is bounded in memory; nothing of it is lost, deleted or changed meanwhile.
#[tokio::test(start_paused = true)]
async fn what_finds_no_room_in_a_lane_follows_from_the_store() {
    let config = fleet_core::engine::Config { max_queued: 8, ..Default::default() };
    let rig = Setup { config, ..Setup::default() }.start();
    rig.handle.wait_until_loaded().await;
    let down = |ready| fleet_core::cluster::Cluster { ready, ..crate::rig::labelled("c1", "production") };
    rig.clusters.put(down(false));
    let names: Vec<String> = (0..100).map(|number| format!("u{number:02}")).collect();
    for name in &names {
        rig.source.send(login(name)).await.await;
    }
    for name in names.iter().step_by(3) {
        rig.source.send(crate::rig::logout(name)).await.await;
    }
    let left: Vec<&str> =
        names.iter().enumerate().filter(|(place, _)| place % 3 != 0).map(|(_, name)| name.as_str()).collect();
    rig.until_names("c2", &left).await;
    assert!(rig.names("c1").is_empty());
    assert!(rig.handle.backlog() <= 8, "{} wait in memory", rig.handle.backlog());
    rig.clusters.put(down(true));
    rig.until_names("c1", &left).await;
    until("nothing waits", async || rig.handle.backlog() == 0 && rig.works().await.len() == left.len()).await;
    rig.stop().await;
}

/// Works that cannot be applied wait for their time elsewhere than those that can, and are tried again however many.
#[tokio::test(start_paused = true)]
async fn many_stalled_works_leave_room_for_others_and_are_all_tried_again() {
    let stalled =
        fleet_core::engine::Backoff { first: Duration::from_secs(5), longest: Duration::from_secs(60) };
    let config = fleet_core::engine::Config { max_queued: 8, stalled, ..Default::default() };
    let setup = Setup { config, ..Setup::default() };
    let names: Vec<String> = (0..30).map(|number| format!("taken{number:02}")).collect();
    let foreign = |name: &String| setup.objects.put_foreign(&cluster("c1"), object(name), Default::default());
    names.iter().for_each(foreign);
    let rig = setup.start();
    for name in &names {
        rig.source.send(login(name)).await.await;
    }
    until("all are stalled", async || {
        let stalled = |state: &AppliedState| matches!(state, AppliedState::Stalled { .. });
        rig.applied().await.iter().filter(|it| stalled(&it.state)).count() == names.len()
    })
    .await;
    rig.source.send(login("free")).await.await;
    until("the others are applied", async || rig.names("c1").contains(&"free".to_owned())).await;
    for name in &names {
        rig.applier.take_away(&cluster("c1"), &object(name));
    }
    until("all are applied", async || rig.applied().await.iter().all(|it| it.state == AppliedState::Applied))
        .await;
    rig.stop().await;
}
