//! What is local: rendered for each cluster, and put into the one that the fleet is managed from.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use fleet_core::apply::{Applier, ApplyRequest, Outcome, RemoveRequest};
use fleet_core::catalog::{CatalogSnapshot, Subject, TriggerDef};
use fleet_core::cluster::{Cluster, ClusterId, Role};
use fleet_core::engine::{Config, Fate, Foresight, Place};
use fleet_core::event::Event;
use fleet_core::manifest::Gvk;
use fleet_core::memory::{MemoryApplier, MemoryCatalog};
use fleet_core::observe::{Depth, Observation};
use fleet_core::policy::{MaxUpdate, Policy, StopMatching, SyncMode};
use fleet_core::selector::LabelSelector;
use fleet_core::source::{Delivery, Settle};
use fleet_core::store::WorkStore;
use fleet_core::work::{AppliedState, AppliedWork};
use futures::stream::BoxStream;
use serde_json::json;

use super::mode;
use crate::rig::{
    Rig, Setup, Words, cluster, labelled, login, logout, object, source, template, trigger, until,
};

/// The cluster that the fleet is managed from, and nothing else.
pub(super) fn hub() -> Cluster {
    Cluster { role: Role::ManagementOnly, ..Cluster::new(cluster("hub"), [("env", "production")]) }
}

/// The login story: something in each cluster, and something for it in the management cluster.
fn both(policy: Policy) -> TriggerDef {
    TriggerDef { local: vec![template("$subject-$cluster=$env")], policy: Arc::new(policy), ..trigger() }
}

/// Nothing but what is local.
pub(super) fn only_local(policy: Policy) -> TriggerDef {
    TriggerDef { payload: Vec::new(), ..both(policy) }
}

pub(super) fn setup(trigger: TriggerDef) -> Setup {
    let setup = Setup { catalog: MemoryCatalog::new([source()], [trigger]), ..Setup::default() };
    setup.clusters.put(hub());
    setup
}

pub(super) async fn send(rig: &Rig, event: Event) {
    rig.source.send(event).await.await;
}

/// All records there are, by the place of each.
async fn records(store: &dyn WorkStore) -> Vec<AppliedWork> {
    let all = store.all_applied(None, 10_000).await.unwrap();
    all.into_iter().map(|stored| (*stored.value).clone()).collect()
}

pub(super) async fn local_records(rig: &Rig) -> Vec<AppliedWork> {
    records(&*rig.store).await.into_iter().filter(|record| record.local.is_some()).collect()
}

pub(super) async fn until_settled(rig: &Rig) {
    until("all applied", async || {
        let all = records(&*rig.store).await;
        !all.is_empty() && all.iter().all(|record| record.state == AppliedState::Applied)
    })
    .await;
}

pub(super) async fn until_nothing_is_left(rig: &Rig) {
    until("no record is left", async || records(&*rig.store).await.is_empty()).await;
}

fn value(rig: &Rig, there: &ClusterId, name: &str) -> Option<String> {
    let object = rig.applier.object(there, &object(name))?.object;
    Some(object.get("data")?.get("v")?.as_str()?.to_owned())
}

#[tokio::test(start_paused = true)]
async fn for_each_cluster_it_is_put_into_the_management_cluster() {
    let rig = setup(both(Policy::default())).start();
    send(&rig, login("a")).await;
    send(&rig, login("b")).await;
    for name in ["c1", "c2"] {
        rig.until_names(name, &["a", "b"]).await;
    }
    // The management cluster carries the label that is selected, and is selected by nothing.
    rig.until_names("hub", &["a-c1", "a-c2", "b-c1", "b-c2"]).await;
    until_settled(&rig).await;
    let local = local_records(&rig).await;
    assert_eq!(local.len(), 4);
    for record in &local {
        let of = record.local.clone().unwrap();
        assert_eq!((&record.work, &record.cluster), (&of.id(), &cluster("hub")));
        assert!(rig.works().await.contains(&of.work), "no Work is stored for what is local: {of:?}");
    }
    send(&rig, logout("a")).await;
    rig.until_names("hub", &["b-c1", "b-c2"]).await;
    send(&rig, logout("b")).await;
    rig.until_names("hub", &[]).await;
    until_nothing_is_left(&rig).await;
    until("no Work is left", async || rig.works().await.is_empty()).await;
    rig.stop().await;
}

/// A cluster that cannot be reached keeps nothing of what is local waiting.
#[tokio::test(start_paused = true)]
async fn it_needs_the_cluster_that_it_is_for_to_be_known_only() {
    let setup = setup(only_local(Policy::default()));
    setup.clusters.put(Cluster { ready: false, ..labelled("c1", "production") });
    let rig = setup.start();
    send(&rig, login("a")).await;
    rig.until_names("hub", &["a-c1", "a-c2"]).await;
    until_settled(&rig).await;
    assert_eq!(records(&*rig.store).await.len(), 2, "nothing is noted for the clusters themselves");
    send(&rig, logout("a")).await;
    rig.until_names("hub", &[]).await;
    until("no Work is left", async || rig.works().await.is_empty()).await;
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_registered_management_cluster_is_one_of_the_fleet_as_well() {
    let setup =
        Setup { catalog: MemoryCatalog::new([source()], [both(Policy::default())]), ..Setup::default() };
    setup.clusters.put(Cluster { role: Role::Management, ..labelled("c2", "production") });
    let rig = setup.start();
    send(&rig, login("a")).await;
    rig.until_names("c1", &["a"]).await;
    rig.until_names("c2", &["a", "a-c1", "a-c2"]).await;
    until_settled(&rig).await;
    // Its own part goes with it, and what is local for others stays.
    rig.clusters.put(Cluster { role: Role::Management, ..labelled("c2", "staging") });
    rig.until_names("c2", &["a-c1"]).await;
    send(&rig, logout("a")).await;
    rig.until_names("c2", &[]).await;
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn it_follows_what_it_is_rendered_from() {
    let rig = setup(both(Policy::default())).start();
    send(&rig, login("a")).await;
    rig.until_names("hub", &["a-c1", "a-c2"]).await;
    until_settled(&rig).await;
    let hub = cluster("hub");
    assert_eq!(value(&rig, &hub, "a-c1").as_deref(), Some("production"));
    let edit = |words: &'static str| {
        rig.catalog.edit(|snapshot| {
            let trigger = Arc::make_mut(snapshot.triggers.get_mut("names").unwrap());
            trigger.local = if words.is_empty() { Vec::new() } else { vec![template(words)] };
        });
    };
    // Pruned, and put there anew.
    edit("$subject-$cluster-new=$tier");
    rig.until_names("hub", &["a-c1-new", "a-c2-new"]).await;
    // A label of the cluster that it is for.
    rig.clusters.put(Cluster::new(cluster("c1"), [("env", "production"), ("tier", "gold")]));
    until("it shows", async || value(&rig, &hub, "a-c1-new").as_deref() == Some("gold")).await;
    assert_eq!(value(&rig, &hub, "a-c2-new").as_deref(), Some("none"));
    // Nothing is local any more: that is no withdrawal that anybody has to confirm.
    edit("");
    rig.until_names("hub", &[]).await;
    until("no local record is left", async || local_records(&rig).await.is_empty()).await;
    rig.until_names("c1", &["a"]).await;
    edit("$subject-$cluster");
    rig.until_names("hub", &["a-c1", "a-c2"]).await;
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn it_goes_with_the_cluster_that_it_is_for() {
    let rig = setup(both(Policy::default())).start();
    send(&rig, login("a")).await;
    rig.until_names("hub", &["a-c1", "a-c2"]).await;
    until_settled(&rig).await;
    // It does not match any more.
    rig.clusters.put(labelled("c1", "staging"));
    rig.until_names("hub", &["a-c2"]).await;
    rig.clusters.put(labelled("c1", "production"));
    rig.until_names("hub", &["a-c1", "a-c2"]).await;
    until_settled(&rig).await;
    // It leaves, whatever stays in it: that is somewhere else.
    let mut leaving = labelled("c2", "production");
    leaving.annotations.insert("fleet-events.dev/leave".to_owned(), "true".to_owned());
    rig.clusters.put(leaving);
    rig.clusters.remove(&cluster("c2"));
    rig.until_names("hub", &["a-c1"]).await;
    assert_eq!(rig.names("c2"), ["a"]);
    rig.stop().await;
}

/// While nobody looked, the cluster left, and the event of another key asked for its end.
#[tokio::test(start_paused = true)]
async fn after_a_restart_it_goes_on_as_it_should_be() {
    let started = setup(only_local(Policy::default()));
    let (store, objects) = (Arc::clone(&started.store), Arc::clone(&started.objects));
    let rig = started.start();
    send(&rig, login("a")).await;
    send(&rig, login("b")).await;
    rig.until_names("hub", &["a-c1", "a-c2", "b-c1", "b-c2"]).await;
    until_settled(&rig).await;
    rig.stop().await;

    let again = Setup { store, objects, ..setup(only_local(Policy::default())) };
    again.clusters.remove(&cluster("c2"));
    let rig = again.start();
    rig.until_names("hub", &["a-c1", "b-c1"]).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(rig.handle.counters().applied.get(), 0, "what is there as it should be is not applied again");
    send(&rig, logout("a")).await;
    rig.until_names("hub", &["b-c1"]).await;
    send(&rig, logout("b")).await;
    rig.until_names("hub", &[]).await;
    until("no Work is left", async || rig.works().await.is_empty()).await;
    rig.stop().await;
}

/// A Delete event that comes in the first instant, before anybody has read what is where.
#[tokio::test(start_paused = true)]
async fn an_event_in_the_first_instant_finds_what_is_local() {
    let started = setup(only_local(Policy::default()));
    let (store, objects) = (Arc::clone(&started.store), Arc::clone(&started.objects));
    let rig = started.start();
    send(&rig, login("a")).await;
    rig.until_names("hub", &["a-c1", "a-c2"]).await;
    until_settled(&rig).await;
    rig.stop().await;
    let rig = Setup { store, objects, ..setup(only_local(Policy::default())) }.start();
    send(&rig, logout("a")).await;
    rig.until_names("hub", &[]).await;
    until_nothing_is_left(&rig).await;
    until("no Work is left", async || rig.works().await.is_empty()).await;
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_trigger_that_is_deleted_takes_it_along() {
    let rig = setup(only_local(Policy::default())).start();
    send(&rig, login("a")).await;
    rig.until_names("hub", &["a-c1", "a-c2"]).await;
    until_settled(&rig).await;
    rig.catalog.edit(|snapshot| snapshot.triggers.clear());
    rig.until_names("hub", &[]).await;
    until("nothing is left of it", async || rig.works().await.is_empty()).await;
    rig.stop().await;
}

/// Too many at once wait, counted as Works; and those wait with them, so that all comes back with the trigger.
#[tokio::test(start_paused = true)]
async fn too_many_withdrawals_at_once_are_held() {
    let config = Config { max_withdraw_percent: 10, max_withdraw_floor: 1, ..Config::default() };
    let rig = Setup { config, ..setup(only_local(Policy::default())) }.start();
    for subject in ["a", "b", "c"] {
        send(&rig, login(subject)).await;
    }
    let all = ["a-c1", "a-c2", "b-c1", "b-c2", "c-c1", "c-c2"];
    rig.until_names("hub", &all).await;
    until_settled(&rig).await;
    let trigger = Arc::new(only_local(Policy::default()));
    rig.catalog.edit(|snapshot| snapshot.triggers.clear());
    until("they are held", async || rig.handle.held_withdrawals().is_some()).await;
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(rig.handle.held_withdrawals().unwrap().works, 3);
    assert_eq!((rig.names("hub"), rig.works().await.len()), (all.map(str::to_owned).to_vec(), 3));
    rig.catalog.edit(|snapshot| _ = snapshot.triggers.insert("names".into(), Arc::clone(&trigger)));
    until("nothing is held", async || rig.handle.held_withdrawals().is_none()).await;
    send(&rig, logout("c")).await;
    rig.until_names("hub", &all[..4]).await;
    rig.catalog.edit(|snapshot| snapshot.triggers.clear());
    until("they are held", async || rig.handle.held_withdrawals().is_some()).await;
    assert_eq!(rig.handle.confirm_withdrawals(), 2);
    rig.until_names("hub", &[]).await;
    until("no Work is left", async || rig.works().await.is_empty()).await;
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn two_clusters_that_render_one_object_are_in_conflict() {
    let one = TriggerDef { local: vec![template("$subject=$cluster")], ..only_local(Policy::default()) };
    let rig = setup(one).start();
    send(&rig, login("a")).await;
    rig.until_names("hub", &["a"]).await;
    until("one has it, and one is told so", async || {
        let states: Vec<_> = local_records(&rig).await.into_iter().map(|record| record.state).collect();
        states.contains(&AppliedState::Applied)
            && states.iter().any(
                |state| matches!(state, AppliedState::Stalled { reason, message } if reason == "Conflict" && message.contains("EventTrigger names")),
            )
    })
    .await;
    let said = rig.catalog.condition(&Subject::Trigger("names".into())).unwrap();
    assert!(said.message.contains("what is local for civo/c"), "{said:?}");
    // Whoever has it leaves: the other one gets it.
    let hub = cluster("hub");
    let has = value(&rig, &hub, "a").unwrap();
    rig.clusters.remove(&cluster(&has));
    let left = tokio::time::Instant::now();
    let other = if has == "c1" { "c2" } else { "c1" };
    until("the other has it", async || value(&rig, &hub, "a").as_deref() == Some(other)).await;
    assert!(left.elapsed() < Config::default().stalled.first, "at once: it took {:?}", left.elapsed());
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn drift_in_the_management_cluster_is_put_right() {
    let rig = setup(both(mode(SyncMode::ContinuousWithDriftDetection))).start();
    send(&rig, login("a")).await;
    rig.until_names("hub", &["a-c1", "a-c2"]).await;
    until_settled(&rig).await;
    let hub = cluster("hub");
    rig.applier.take_away(&hub, &object("a-c1"));
    rig.until_names("hub", &["a-c1", "a-c2"]).await;
    rig.applier.edit(&hub, &object("a-c2"), |object| object["data"]["v"] = json!("mine"));
    until("it is put right", async || value(&rig, &hub, "a-c2").as_deref() == Some("production")).await;
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_left_stays_and_what_is_previewed_is_told() {
    let leave = Policy { stop_matching: StopMatching::LeavePolicies, ..Policy::default() };
    let rig = setup(only_local(leave)).start();
    send(&rig, login("a")).await;
    rig.until_names("hub", &["a-c1", "a-c2"]).await;
    until_settled(&rig).await;
    rig.clusters.put(labelled("c1", "staging"));
    until("it is known to stay", async || {
        let left = |record: &AppliedWork| matches!(record.state, AppliedState::Left { .. });
        local_records(&rig).await.iter().any(left)
    })
    .await;
    assert_eq!(rig.names("hub"), ["a-c1", "a-c2"]);
    send(&rig, logout("a")).await;
    rig.until_names("hub", &[]).await;
    rig.stop().await;

    let rig = setup(only_local(mode(SyncMode::DryRun))).start();
    send(&rig, login("a")).await;
    until("it is told", async || {
        let local = local_records(&rig).await;
        local.len() == 2
            && local
                .iter()
                .all(|it| matches!(&it.state, AppliedState::Previewed { changes } if changes.len() == 1))
    })
    .await;
    assert!(rig.names("hub").is_empty());
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn without_a_management_cluster_the_trigger_says_so() {
    let setup = setup(both(Policy::default()));
    setup.clusters.remove(&cluster("hub"));
    let rig = setup.start();
    let subject = Subject::Trigger("names".into());
    let reason = || rig.catalog.condition(&subject).map(|it| it.reason);
    until("it says so", async || reason().as_deref() == Some("NoManagementCluster")).await;
    assert!(rig.catalog.condition(&subject).unwrap().message.contains("spec.inCluster"));
    send(&rig, login("a")).await;
    rig.until_names("c1", &["a"]).await;
    // Once there is one, everything is done.
    rig.clusters.put(hub());
    rig.until_names("hub", &["a-c1", "a-c2"]).await;
    until("it is well", async || reason().as_deref() == Some("Ready")).await;
    until_settled(&rig).await;
    // None again, for whatever reason: nothing is taken away for that.
    rig.clusters.put(Cluster { role: Role::Member, ..hub() });
    until("it says so again", async || reason().as_deref() == Some("NoManagementCluster")).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(rig.names("hub").contains(&"a-c1".to_owned()), "{:?}", rig.names("hub"));
    rig.stop().await;
}

/// The management cluster gets a name of its own in the fleet, and loses it: it is the same one, and so are its objects.
#[tokio::test(start_paused = true)]
async fn under_another_name_the_management_cluster_keeps_what_it_has() {
    let started = setup(only_local(Policy::default()));
    let objects = Arc::clone(&started.objects);
    let aliased =
        Arc::new(Aliased { objects: Arc::clone(&objects), alias: cluster("self"), of: cluster("hub") });
    let rig = Setup { applier: Some(aliased), ..started }.start();
    send(&rig, login("a")).await;
    rig.until_names("hub", &["a-c1", "a-c2"]).await;
    until_settled(&rig).await;
    let hub_id = cluster("hub");
    let uid = |name: &str| rig.applier.object(&hub_id, &object(name)).map(|it| it.uid);
    let before = [uid("a-c1"), uid("a-c2")];
    let at = |name: &'static str| {
        let rig = &rig;
        async move {
            until(&format!("all is in {name}"), async || {
                let all = local_records(rig).await;
                let is_there =
                    |it: &AppliedWork| it.cluster == cluster(name) && it.state == AppliedState::Applied;
                all.len() == 2 && all.iter().all(is_there)
            })
            .await;
        }
    };
    rig.clusters.put(Cluster { role: Role::Management, ..Cluster::new(cluster("self"), [("env", "none")]) });
    at("self").await;
    assert_eq!([uid("a-c1"), uid("a-c2")], before);
    rig.clusters.remove(&cluster("self"));
    at("hub").await;
    assert_eq!([uid("a-c1"), uid("a-c2")], before);
    send(&rig, logout("a")).await;
    rig.until_names("hub", &[]).await;
    rig.stop().await;
}

/// Two names of one cluster.
struct Aliased {
    objects: Arc<MemoryApplier>,
    alias: ClusterId,
    of: ClusterId,
}

impl Aliased {
    fn name(&self, cluster: &ClusterId) -> ClusterId {
        if *cluster == self.alias { self.of.clone() } else { cluster.clone() }
    }

    fn cluster(&self, cluster: &Cluster) -> Arc<Cluster> {
        Arc::new(Cluster { id: self.name(&cluster.id), ..cluster.clone() })
    }
}

#[async_trait]
impl Applier for Aliased {
    async fn apply(&self, request: ApplyRequest) -> Vec<Outcome> {
        let cluster = self.cluster(&request.cluster);
        self.objects.apply(ApplyRequest { cluster, ..request }).await
    }

    async fn remove(&self, request: RemoveRequest) -> Vec<Outcome> {
        let cluster = self.cluster(&request.cluster);
        self.objects.remove(RemoveRequest { cluster, ..request }).await
    }

    fn settle_time(&self) -> Duration {
        self.objects.settle_time()
    }

    fn observe(&self, cluster: &ClusterId, kind: &Gvk, depth: Depth) -> BoxStream<'static, Observation> {
        self.objects.observe(&self.name(cluster), kind, depth)
    }
}

#[tokio::test(start_paused = true)]
async fn keys_that_are_rendered_together_are_so_for_each_cluster() {
    let trigger = TriggerDef {
        one_for_event: false,
        payload: vec![template("all=$subjects")],
        local: vec![template("$cluster=$subjects")],
        ..trigger()
    };
    // The stand-in for a renderer knows no cluster where it joins subjects.
    let setup = setup(TriggerDef { local: vec![template("here=$subjects")], ..trigger });
    setup.clusters.remove(&cluster("c2"));
    let rig = setup.start();
    let hub = cluster("hub");
    let is = async |expected: &str| {
        until(expected, async || value(&rig, &hub, "here").as_deref() == Some(expected)).await;
    };
    send(&rig, login("b")).await;
    send(&rig, login("a")).await;
    is("a,b").await;
    send(&rig, logout("b")).await;
    is("a").await;
    rig.clusters.put(labelled("c1", "staging"));
    rig.until_names("hub", &[]).await;
    rig.clusters.put(labelled("c1", "production"));
    is("a").await;
    send(&rig, logout("a")).await;
    rig.until_names("hub", &[]).await;
    until_nothing_is_left(&rig).await;
    rig.stop().await;
}

/// A profile, its dependents and a rollout, by the clusters that what is local is for.
#[tokio::test(start_paused = true)]
async fn it_counts_for_the_cluster_that_it_is_for() {
    let production = || LabelSelector::labels([("env", "production")]).unwrap();
    let one_by_one = Policy { max_update: Some(MaxUpdate::Clusters(1)), ..Policy::default() };
    let base = TriggerDef {
        local: vec![template("$cluster=one")],
        policy: Arc::new(one_by_one),
        ..TriggerDef::profile("base", production())
    };
    let needs = Policy { depends_on: vec![Arc::clone(&base.name)], ..Policy::default() };
    let above = TriggerDef {
        payload: vec![template("above")],
        policy: Arc::new(needs),
        ..TriggerDef::profile("above", production())
    };
    let broken = TriggerDef { local: vec![template("$cluster=one $fail")], ..base.clone() };
    let rig = Setup { catalog: MemoryCatalog::new([source()], [broken, above]), ..setup(trigger()) }.start();
    rig.clusters.put(hub());
    until("both are told of", async || local_records(&rig).await.len() == 2).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(rig.names("c1").is_empty(), "what it depends on is not there");
    let put = |local: &str| {
        let def = TriggerDef { local: vec![template(local)], ..base.clone() };
        rig.catalog.edit(|snapshot| _ = snapshot.triggers.insert(Arc::clone(&def.name), Arc::new(def)));
    };
    put("$cluster=one");
    rig.until_names("hub", &["c1", "c2"]).await;
    rig.until_names("c1", &["above"]).await;
    rig.until_names("c2", &["above"]).await;
    until_settled(&rig).await;
    // One cluster at a time, and no further one once it has failed there.
    let hub = cluster("hub");
    for name in ["extra-c1", "extra-c2"] {
        rig.applier.put_foreign(
            &hub,
            object(name),
            json!({"kind": "ConfigMap"}).as_object().unwrap().clone(),
        );
    }
    put("$cluster=two extra-$cluster");
    let said = || rig.catalog.condition(&Subject::Profile("base".into())).unwrap();
    until("it has stopped", async || said().reason == "RolloutStopped").await;
    assert!(said().message.contains("0/2 clusters because of civo/c"), "{:?}", said());
    tokio::time::sleep(Duration::from_secs(300)).await;
    let is_new = |name: &&str| value(&rig, &hub, name).as_deref() == Some("two");
    assert_eq!(["c1", "c2"].iter().filter(|it| is_new(it)).count(), 1);
    rig.stop().await;
}

/// What an event would put where, and what there should be in a cluster.
#[test]
fn what_is_foretold_names_the_clusters_that_it_is_for() {
    let snapshot = CatalogSnapshot {
        sources: [("users".into(), Arc::new(source()))].into(),
        triggers: [("names".into(), Arc::new(both(Policy::default())))].into(),
        ..CatalogSnapshot::default()
    };
    let clusters = [hub(), labelled("c1", "production"), labelled("c2", "production")].map(Arc::new);
    let foresight = Foresight::new(&snapshot, clusters, &Words::default());
    let event = login("a");
    let raw = event.to_json().to_string();
    let told = foresight.tell("users", &Delivery::new(Ok(event), raw, Settle::nothing())).unwrap();
    let Fate::Taken(meaning) = told[0].fate.clone() else { panic!("it is taken") };
    let named = |places: &[Place]| -> Vec<String> {
        let named = places.iter().map(|place| {
            let names = place.pieces.iter().flatten().map(|it| it.manifest.id().name.to_string());
            let there = place.local.as_ref().unwrap_or(&place.cluster).id.name().to_owned();
            format!("{} in {there} for {}", names.collect::<String>(), place.cluster.id.name())
        });
        named.collect()
    };
    let remote = ["a in c1 for c1", "a in c2 for c2"];
    let local = ["a-c1 in hub for c1", "a-c2 in hub for c2"];
    assert_eq!(named(&meaning.places), [remote[0], local[0], remote[1], local[1]]);
    assert_eq!(named(&foresight.places_in(&meaning.work, &cluster("hub"))), local);
    assert_eq!(named(&foresight.places_in(&meaning.work, &cluster("c1"))), remote[..1]);
}
