//! Only what shows a change is rendered again; and however much that is, events do not wait for it.

use std::sync::Arc;
use std::time::Duration;

use fleet_core::catalog::TriggerDef;
use fleet_core::cluster::Cluster;
use fleet_core::engine::Config;
use fleet_core::policy::Policy;
use fleet_core::work::AppliedState;
use serde_json::json;
use tokio::time::Instant;

use super::slow::Slow;
use super::{kept, setup};
use crate::rig::{Rig, Setup, cluster, event, labelled, login, template, until};

fn tiered(name: &str, tier: &str, more: &[(&str, &str)]) -> Cluster {
    let mut cluster = labelled(name, "production");
    cluster.labels.insert("tier".to_owned(), tier.to_owned());
    cluster.labels.extend(more.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
    cluster
}

/// Waits until nothing is looked at any more, and tells what was rendered since it was asked last.
async fn rendered(rig: &Rig) -> Vec<(String, String, usize)> {
    tokio::time::sleep(Duration::from_secs(5)).await;
    until("nothing waits", async || rig.handle.backlog() == 0).await;
    rig.renders.take()
}

fn of(trigger: &str, cluster: &str, count: usize) -> (String, String, usize) {
    (trigger.to_owned(), cluster.to_owned(), count)
}

/// Two Works in c1 and c2 for each of three triggers: one that reads a label, one that reads them all, one that reads none.
async fn three() -> Rig {
    let triggers = [
        kept("tier", "tier-$subject=$tier", Policy::default()),
        kept("labels", "labels-$subject=$labels", Policy::default()),
        kept("none", "none-$subject", Policy::default()),
    ];
    let setup = setup(triggers);
    setup.clusters.put(tiered("c1", "a", &[]));
    setup.clusters.put(tiered("c2", "a", &[]));
    let rig = setup.start();
    for subject in ["x", "y"] {
        rig.source.send(login(subject)).await.await;
    }
    until("all are there", async || rig.names("c1").len() == 6 && rig.names("c2").len() == 6).await;
    rig.until_states("applied", |state| *state == AppliedState::Applied).await;
    rendered(&rig).await;
    rig
}

#[tokio::test(start_paused = true)]
async fn a_label_renders_again_what_reads_it_and_nothing_else() {
    let rig = three().await;
    rig.clusters.put(tiered("c1", "b", &[]));
    until("it shows", async || rig.value("tier-x") == Some(json!("b"))).await;
    assert_eq!(rendered(&rig).await, [of("labels", "c1", 2), of("tier", "c1", 2)]);
    // One that nobody reads by name.
    rig.clusters.put(tiered("c1", "b", &[("owner", "o")]));
    until("it counts", async || rig.value("labels-x") == Some(json!("3"))).await;
    assert_eq!(rendered(&rig).await, [of("labels", "c1", 2)]);
    let mut annotated = tiered("c1", "b", &[("owner", "o")]);
    annotated.annotations.insert("note".to_owned(), "n".to_owned());
    rig.clusters.put(annotated);
    assert_eq!(rendered(&rig).await, []);
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_label_of_the_origin_renders_again_what_went_elsewhere() {
    let elsewhere = |name: &str, words: &str| TriggerDef {
        destination_clusters: Some(serde_json::from_str(r#"{"matchLabels":{"env":"staging"}}"#).unwrap()),
        ..kept(name, words, Policy::default())
    };
    let setup = setup([elsewhere("reads", "reads-$subject=$from-tier"), elsewhere("none", "none-$subject")]);
    setup.clusters.put(tiered("c1", "a", &[]));
    setup.clusters.put(tiered("c2", "a", &[]));
    let rig = setup.start();
    rig.source.send_from(login("x"), Some(cluster("c1"))).await.await;
    rig.source.send_from(login("y"), Some(cluster("c2"))).await.await;
    until("all are there", async || rig.names("staging1").len() == 4).await;
    rendered(&rig).await;
    rig.clusters.put(tiered("c1", "b", &[]));
    assert_eq!(rendered(&rig).await, [of("reads", "staging1", 1)]);
    let there = rig.applier.objects(&cluster("staging1"));
    assert!(there.values().any(|object| object.object.get("data") == Some(&json!({"v": "b"}))));
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_edit_renders_again_its_own_works_and_only_if_they_can_tell() {
    let rig = three().await;
    rig.set("none", |trigger| trigger.payload = vec![template("none-$subject=2")]);
    until("it shows", async || rig.value("none-x") == Some(json!("2"))).await;
    assert_eq!(rendered(&rig).await, [of("none", "c1", 2), of("none", "c2", 2)]);
    rig.set("none", |trigger| trigger.policy = Policy { adopt: true, ..Policy::default() }.into());
    assert_eq!(rendered(&rig).await, [of("none", "c1", 2), of("none", "c2", 2)]);
    // What is about later events.
    rig.set("none", |trigger| trigger.action = Some("Create".to_owned()));
    rig.set("tier", |trigger| trigger.key = Some("$subject-2".to_owned()));
    assert_eq!(rendered(&rig).await, []);
    rig.source.send(event("auth.logout", "x")).await.await;
    until("later events follow it", async || rig.names("c1").contains(&"none-x".to_owned())).await;
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_event_does_not_wait_for_what_is_rendered_again() {
    let base = setup([kept("names", "$subject=1", Policy::default())]);
    let applier = Some(Arc::new(Slow::new(&base.objects, Duration::from_millis(100))) as _);
    // The lane holds only some of them.
    let config = Config { cluster_concurrency: 4, max_queued: 1000, ..Config::default() };
    let rig = Setup { applier, config, ..base }.start();
    for number in 0..5000 {
        rig.source.send(login(&format!("n{number}"))).await.await;
    }
    let applied = || rig.handle.counters().applied.get();
    until("all are there", async || applied() == 5000 && rig.handle.backlog() == 0).await;
    let before = applied();
    rig.set("names", |trigger| trigger.payload = vec![template("$subject=2")]);
    until("that is under way", async || applied() > before + 100).await;
    let (began, before) = (Instant::now(), applied());
    rig.source.send(login("new")).await.await;
    until("the event's is there", async || rig.value("new") == Some(json!("2"))).await;
    let ahead = applied() - before;
    assert!(ahead < 30, "{ahead} were applied before it, in {:?}", began.elapsed());

    until("all are applied", async || applied() == 10_001 && rig.handle.backlog() == 0).await;
    let objects = rig.applier.objects(&cluster("c1"));
    assert!(objects.len() == 5001 && objects.values().all(|it| it.object["data"] == json!({"v": "2"})));
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_rendered_again_comes_at_a_bounded_rate() {
    let base = setup([kept("names", "$subject=1", Policy::default())]);
    let rig = Setup { config: Config { rerenders_per_second: 100, ..Config::default() }, ..base }.start();
    for number in 0..500 {
        rig.source.send(login(&format!("n{number}"))).await.await;
    }
    until("all are there", async || rig.names("c1").len() == 500).await;
    rendered(&rig).await;
    rig.set("names", |trigger| trigger.payload = vec![template("$subject=2")]);
    tokio::time::sleep(Duration::from_millis(2500)).await;
    let count: usize = rig.renders.take().iter().map(|(_, _, count)| count).sum();
    assert!((200..=260).contains(&count), "{count} in 2.5 s");
    rig.stop().await;
}
