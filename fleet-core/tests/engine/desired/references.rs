//! What is rendered from objects of the management cluster follows them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use fleet_core::catalog::{Condition, Subject, TriggerDef};
use fleet_core::cluster::{Cluster, Role};
use fleet_core::engine::{Fate, Foresight};
use fleet_core::policy::{MaxUpdate, Policy, SyncMode};
use fleet_core::resource::{Others, Resource, ResourceId, ResourceRef, ResourceState, Resources};
use fleet_core::work::AppliedState;
use serde_json::json;

use super::{kept, mode, setup};
use crate::rig::{Rig, Setup, Words, cluster, labelled, login, logout, object, until};

/// A trigger whose templates see a ConfigMap as `tenants`, in the cluster's namespace.
fn referring(name: &str, words: &str, to: &str, policy: Policy) -> TriggerDef {
    let reference = ResourceRef {
        identifier: "tenants".into(),
        api_version: "v1".into(),
        kind: "ConfigMap".into(),
        namespace: None,
        name: to.into(),
        language: Default::default(),
        optional: false,
    };
    TriggerDef { resources: vec![reference], ..kept(name, words, policy) }
}

fn optional(mut trigger: TriggerDef) -> TriggerDef {
    trigger.resources.iter_mut().for_each(|it| it.optional = true);
    trigger
}

fn id(name: &str) -> ResourceId {
    ResourceId {
        api_version: "v1".into(),
        kind: "ConfigMap".into(),
        namespace: "civo".into(),
        name: name.into(),
    }
}

fn plan(plan: &str) -> ResourceState {
    ResourceState::Found(Arc::new(Resource::new(json!({"data": {"plan": plan}}))))
}

/// What is known of the object of this name from now on; nothing is asked for.
fn known(setup: &Setup, name: &str, state: ResourceState) {
    setup.catalog.edit(|snapshot| {
        Arc::make_mut(&mut snapshot.resources).known.insert(id(name), state);
    });
}

impl Rig {
    fn resource(&self, name: &str, state: Option<ResourceState>) {
        self.catalog.edit(|snapshot| {
            let resources = Arc::make_mut(&mut snapshot.resources);
            match state {
                Some(state) => resources.known.insert(id(name), state),
                None => resources.known.remove(&id(name)),
            };
        });
    }

    async fn referred(&self, names: &[&str]) {
        let wanted: BTreeSet<_> = names.iter().map(|name| id(name)).collect();
        until(&format!("{names:?} is referred to"), async || self.catalog.referred() == wanted).await;
    }

    async fn until_value(&self, name: &str, value: &str) {
        until(&format!("{name} has {value}"), async || self.value(name) == Some(json!(value))).await;
    }

    /// Waits until nothing is looked at any more, and tells what was rendered since it was asked last.
    async fn rendered(&self) -> Vec<(String, usize)> {
        tokio::time::sleep(Duration::from_secs(5)).await;
        until("nothing waits", async || self.handle.backlog() == 0).await;
        self.renders.take().into_iter().map(|(trigger, _, count)| (trigger, count)).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_renders_again_what_shows_it_and_nothing_else() {
    let setup = setup([
        referring("both", "both-$subject=$plan", "plans", Policy::default()),
        referring("own", "own-$subject=$plan", "plan-$subject", Policy::default()),
        kept("none", "none-$subject", Policy::default()),
    ]);
    for name in ["plans", "plan-x", "plan-y"] {
        known(&setup, name, plan("free"));
    }
    let rig = setup.start();
    for subject in ["x", "y"] {
        rig.source.send(login(subject)).await.await;
    }
    until("all are there", async || rig.names("c1").len() == 6).await;
    rig.until_value("own-x", "free").await;
    rig.referred(&["plans", "plan-x", "plan-y"]).await;
    rig.rendered().await;

    let began = tokio::time::Instant::now();
    rig.resource("plan-x", Some(plan("paid")));
    rig.until_value("own-x", "paid").await;
    assert!(began.elapsed() < Duration::from_secs(1));
    assert_eq!(rig.rendered().await, [("own".to_owned(), 1)]);
    rig.resource("plans", Some(plan("gold")));
    rig.until_value("both-y", "gold").await;
    assert_eq!(rig.rendered().await, [("both".to_owned(), 2)]);
    // The same again is no change.
    rig.resource("plans", Some(plan("gold")));
    assert_eq!(rig.rendered().await, []);

    // What nobody shows any more, nobody has to follow.
    rig.source.send(logout("x")).await.await;
    rig.referred(&["plans", "plan-y"]).await;
    rig.set("own", |trigger| trigger.resources.clear());
    rig.referred(&["plans"]).await;
    rig.catalog.edit(|snapshot| drop(snapshot.triggers.remove("both")));
    rig.handle.confirm_withdrawals();
    rig.referred(&[]).await;
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_missing_stalls_and_what_is_there_stays_until_it_comes() {
    let setup = setup([referring("names", "$subject=$plan", "plans", Policy::default())]);
    let rig = setup.start();
    rig.source.send(login("x")).await.await;
    let stalled = |state: &AppliedState| {
        matches!(state, AppliedState::Stalled { reason, message } if reason == "ReferenceMissing"
            && message.starts_with("what templateResourceRefs calls tenants, ConfigMap civo/plans, does not exist; create it"))
    };
    rig.until_states("stalled", stalled).await;
    let condition = || rig.catalog.condition(&Subject::Trigger("names".into()));
    let is_stalled = |it: &Condition| it.reason == "WorksStalled" && it.message.contains("civo/plans");
    until("the trigger says so", async || condition().is_some_and(|it| is_stalled(&it))).await;
    // Nobody tries without a reason.
    rig.rendered().await;
    rig.resource("plans", Some(plan("free")));
    rig.until_value("x", "free").await;
    until("nothing is stalled", async || condition().is_some_and(|it| it.reason == "Ready")).await;
    // What is gone takes nothing with it.
    rig.resource("plans", None);
    rig.until_states("stalled again", stalled).await;
    assert_eq!(rig.value("x"), Some(json!("free")));
    let why = "may not be read; grant list and watch of configmaps";
    rig.resource("plans", Some(ResourceState::Unavailable(why.into())));
    rig.until_states("told why", |state| {
        matches!(state, AppliedState::Stalled { reason, message } if reason == "ReferenceUnavailable"
            && message.ends_with(why))
    })
    .await;
    rig.resource("plans", Some(plan("paid")));
    rig.until_value("x", "paid").await;
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_optional_may_be_missing() {
    let rig = setup([optional(referring("names", "$subject=$plan", "plans", Policy::default()))]).start();
    rig.source.send(login("x")).await.await;
    rig.until_value("x", "none").await;
    rig.resource("plans", Some(plan("free")));
    rig.until_value("x", "free").await;
    rig.resource("plans", Some(ResourceState::Absent));
    rig.until_value("x", "none").await;
    rig.stop().await;
}

/// A catalog that looks up only what it is asked for.
#[tokio::test(start_paused = true)]
async fn what_is_not_known_yet_is_asked_for_and_waited_for() {
    let triggers = [
        referring("names", "$subject=$plan", "plans", Policy::default()),
        referring("previewed", "p-$subject=$plan", "plans", mode(SyncMode::DryRun)),
    ];
    let setup = setup(triggers);
    setup.catalog.edit(|snapshot| Arc::make_mut(&mut snapshot.resources).others = Others::Unread);
    let rig = setup.start();
    rig.source.send(login("x")).await.await;
    rig.referred(&["plans"]).await;
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert!(rig.names("c1").is_empty());
    assert!(!rig.applied().await.iter().any(|it| matches!(it.state, AppliedState::Stalled { .. })));
    let began = tokio::time::Instant::now();
    rig.resource("plans", Some(plan("free")));
    rig.until_value("x", "free").await;
    assert!(began.elapsed() < Duration::from_secs(1));
    rig.until_states("done", |it| matches!(it, AppliedState::Applied | AppliedState::Previewed { .. })).await;
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_profile_shows_its_clusters_own_objects() {
    let profile = TriggerDef {
        name: fleet_core::catalog::profile_name("base"),
        source: None,
        action: None,
        ..referring("", "base=$plan", "$cluster-$env", Policy::default())
    };
    let setup = setup([profile]);
    known(&setup, "c1-production", plan("one"));
    known(&setup, "c1-staging", plan("two"));
    let rig = setup.start();
    rig.until_value("base", "one").await;
    // Another label, another object.
    let selector = serde_json::from_value(json!({})).unwrap();
    rig.set("ClusterProfile/base", |it| it.source_clusters = Clone::clone(&selector));
    rig.clusters.put(labelled("c1", "staging"));
    rig.until_value("base", "two").await;
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_applied_once_follows_nothing() {
    let setup = setup([referring("names", "$subject=$plan", "plans", mode(SyncMode::OneTime))]);
    known(&setup, "plans", plan("free"));
    let rig = setup.start();
    rig.source.send(login("x")).await.await;
    rig.until_value("x", "free").await;
    rig.referred(&[]).await;
    rig.rendered().await;
    rig.resource("plans", Some(plan("paid")));
    rig.rendered().await;
    assert_eq!(rig.value("x"), Some(json!("free")));
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn keys_that_are_rendered_together_follow_too() {
    let trigger = TriggerDef {
        one_for_event: false,
        ..referring("all", "all-$subjects", "of-$subjects", Policy::default())
    };
    let setup = setup([trigger]);
    let rig = setup.start();
    rig.source.send(login("x")).await.await;
    rig.referred(&["of-x"]).await;
    rig.until_states("stalled", |state| matches!(state, AppliedState::Stalled { .. })).await;
    rig.resource("of-x", Some(plan("free")));
    rig.until_names("c1", &["all-x"]).await;
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_change_is_rolled_out_as_an_edit_is() {
    let policy = Policy { max_update: Some(MaxUpdate::Clusters(1)), ..Policy::default() };
    let setup = Setup::default();
    let trigger = referring("names", "$subject=$plan", "plans", policy);
    setup.catalog.edit(|snapshot| {
        snapshot.triggers = [("names".into(), Arc::new(trigger))].into();
    });
    known(&setup, "plans", plan("free"));
    let rig = setup.start();
    rig.source.send(login("x")).await.await;
    until("both have it", async || rig.names("c1") == ["x"] && rig.names("c2") == ["x"]).await;
    rig.until_states("applied", |state| *state == AppliedState::Applied).await;
    rig.clusters.put(fleet_core::cluster::Cluster { ready: false, ..labelled("c2", "production") });
    rig.resource("plans", Some(plan("paid")));
    rig.until_value("x", "paid").await;
    let condition = || rig.catalog.condition(&Subject::Trigger("names".into()));
    until("the other is to come", async || {
        condition().is_some_and(|it| it.reason == "RollingOut" && it.message.contains("1/2 clusters"))
    })
    .await;
    rig.clusters.put(labelled("c2", "production"));
    let there = || rig.applier.object(&cluster("c2"), &crate::rig::object("x"));
    until("then the other", async || {
        there().is_some_and(|it| it.object.get("data") == Some(&json!({"v": "paid"})))
    })
    .await;
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_name_out_of_an_event_has_to_be_one() {
    let rig = setup([referring("names", "$subject", "$subject", Policy::default())]).start();
    rig.source.send(login("a/../b")).await.await;
    rig.until_states("stalled", |state| {
        matches!(state, AppliedState::Stalled { reason, message } if reason == "TemplateError"
            && message.contains("templateResourceRefs tenants, name: what it gives is no name")
            && !message.contains("a/.."))
    })
    .await;
    assert!(rig.catalog.referred().is_empty());
    rig.stop().await;
}

#[tokio::test]
async fn a_broken_reference_is_the_triggers_condition() {
    let rig = setup([referring("names", "$subject", "$syntax", Policy::default())]).start();
    let condition = || rig.catalog.condition(&Subject::Trigger("names".into()));
    until("it says so", async || {
        condition().is_some_and(|it| it.reason == "TemplateError" && it.message.contains("tenants, name"))
    })
    .await;
    rig.stop().await;
}

#[test]
fn a_preview_tells_what_it_needs() {
    use fleet_core::catalog::CatalogSnapshot;
    use fleet_core::source::{Delivery, Settle};
    let trigger = referring("names", "$subject=$plan", "of-$subject", Policy::default());
    let mut snapshot = CatalogSnapshot {
        sources: [("users".into(), Arc::new(crate::rig::source()))].into(),
        triggers: [("names".into(), Arc::new(trigger))].into(),
        ..CatalogSnapshot::default()
    };
    let tell = |snapshot: &CatalogSnapshot| {
        let clusters = [Arc::new(labelled("c1", "production"))];
        let event = login("x");
        let raw = event.to_json().to_string().into();
        let delivery = Delivery {
            event: Ok(event),
            origin: None,
            message: Arc::default(),
            raw,
            position: None,
            published: None,
            settle: Settle::nothing(),
        };
        let told = Foresight::new(snapshot, clusters, &Words::default()).tell("users", &delivery).unwrap();
        let Fate::Taken(meaning) = told[0].fate.clone() else { panic!("it is taken") };
        meaning.places[0].clone()
    };
    let place = tell(&snapshot);
    assert_eq!(place.resources, [id("of-x")].into());
    assert_eq!(place.pieces.unwrap_err().reason, "ReferenceUnread");
    snapshot.resources =
        Arc::new(Resources { known: [(id("of-x"), plan("free"))].into(), ..Resources::default() });
    let pieces = tell(&snapshot).pieces.unwrap();
    assert_eq!(pieces[0].manifest.object()["data"], json!({"v": "free"}));
}

/// What is local follows them as well, for each cluster, and so does what waits for one to be read first.
#[tokio::test(start_paused = true)]
async fn what_is_local_follows_what_it_is_rendered_from() {
    let both = referring("names", "$subject=$plan", "tenants", Policy::default());
    let local = TriggerDef { local: both.payload.clone(), payload: Vec::new(), ..both };
    let setup = setup([local]);
    setup.clusters.remove(&cluster("staging1"));
    setup.clusters.put(Cluster { role: Role::ManagementOnly, ..labelled("hub", "none") });
    let rig = setup.start();
    rig.source.send(login("a")).await.await;
    rig.referred(&["tenants"]).await;
    assert!(rig.names("hub").is_empty(), "nobody knows it yet");
    let value = || rig.applier.object(&cluster("hub"), &object("a")).map(|it| it.object["data"]["v"].clone());
    for now in ["gold", "silver"] {
        rig.resource("tenants", Some(plan(now)));
        until(now, async || value() == Some(json!(now))).await;
    }
    rig.source.send(logout("a")).await.await;
    rig.referred(&[]).await;
    rig.stop().await;
}
