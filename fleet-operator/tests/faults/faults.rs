//! Events while the operator, NATS and clusters fail: at the end all is as if nothing had failed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use async_nats::HeaderMap;
use fleet_core::work::{AppliedState, Intent};
use local_fleet::{Cluster, ClusterOptions, Etcd, Route, User};
use serde_json::Value;

use crate::books::Books;
use crate::disturbance::{disturb_clusters, kill_nats, kill_operators};
use crate::events::{history, model, read};
use crate::feed::{Feed, Message};
use crate::number;
use crate::objects::{Marked, Objects};
use crate::random::Random;
use crate::service::Service;
use crate::stage::wait_for;
use crate::wait::until_within;
use crate::world::World;

const EVENTS: u64 = 2_000;
const KEYS: usize = 300;
/// How far apart events are published while nothing keeps the publisher from it.
const PACE: Duration = Duration::from_millis(30);
/// A removal that was under way when an operator died is only believed once the request cannot take effect any more.
const CALM: Duration = Duration::from_secs(150);

const DEFINITIONS: &str = r#"kubectl apply -f - <<'END'
apiVersion: fleet-events.dev/v1alpha1
kind: EventSource
metadata: {name: users}
spec:
  nats:
    connectionSecretRef: {namespace: default, name: nats}
    jetStream: {stream: users, ackWait: 5s}
---
apiVersion: fleet-events.dev/v1alpha1
kind: EventTrigger
metadata: {name: settings}
spec:
  eventSourceName: users
  sourceClusterSelector: {matchLabels: {env: production}}
  oneForEvent: true
  filters: [{prefix: {subject: user-}}]
  cloudEventAction: '{% if event.type == "auth.example.com.logout" %}Delete{% else %}Create{% endif %}'
  policyRefs: [{kind: ConfigMap, namespace: default, name: settings}]
---
apiVersion: fleet-events.dev/v1alpha1
kind: EventTrigger
metadata: {name: spaces}
spec:
  eventSourceName: users
  sourceClusterSelector: {matchLabels: {env: production}}
  oneForEvent: true
  filters: [{prefix: {subject: space-}}]
  cloudEventAction: '{% if event.type == "auth.example.com.logout" %}Delete{% else %}Create{% endif %}'
  policyRefs: [{kind: ConfigMap, namespace: default, name: spaces}]
---
apiVersion: v1
kind: ConfigMap
metadata: {namespace: default, name: settings, annotations: {fleet-events.dev/template: "true"}}
data:
  it.yaml: |
    apiVersion: v1
    kind: ConfigMap
    metadata:
      namespace: default
      name: {{ event.subject }}
      annotations: {login: "{{ event.id }}"}
    data: {cluster: "{{ cluster.name }}"}
---
apiVersion: v1
kind: ConfigMap
metadata: {namespace: default, name: spaces, annotations: {fleet-events.dev/template: "true"}}
data:
  it.yaml: |
    apiVersion: v1
    kind: Namespace
    metadata:
      name: {{ event.subject }}
      annotations: {login: "{{ event.id }}"}
END"#;

/// Three managed clusters, each with an etcd of its own.
fn clusters(world: &World) -> Vec<Cluster> {
    let clusters = (1..=3).map(|number| {
        let name = format!("away{number}");
        let cluster = wait_for(async {
            let etcd = Etcd::start(world.dir().join(format!("{name}-etcd"))).await.unwrap();
            Cluster::start(&etcd, world.dir(), &name, &ClusterOptions::default()).await.unwrap()
        });
        let file = world.dir().join(format!("{name}.kubeconfig"));
        cluster.write_kubeconfig(file, User::Admin, Route::Direct).unwrap();
        world.register(&name, "env=production");
        cluster
    });
    clusters.collect()
}

#[test]
fn the_last_event_wins_whatever_fails() {
    let seed = number("FLEET_FAULTS_SEED").unwrap_or_else(|| {
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos() as u64
    });
    println!("repeat this with FLEET_FAULTS_SEED={seed}");
    let mut random = Random::seeded(seed);
    let count = number("FLEET_FAULTS_EVENTS").unwrap_or(EVENTS) as usize;
    let published = history(&mut random, count, KEYS);

    let world = World::with_management("faults");
    let clusters = clusters(&world);
    world.sh(&crate::world::nats_secret("\"$NATS_PASSWORD\""));
    world.sh(DEFINITIONS);
    let feed = Feed::create(&world);

    let begun = Instant::now();
    let (over, calm) = (AtomicBool::new(false), AtomicBool::new(false));
    thread::scope(|scope| {
        let [first, second, third] = [(); 3].map(|()| random.split());
        let kills = scope.spawn(|| kill_operators(&world, first, &calm));
        let nats = scope.spawn(|| kill_nats(world.nats(), second, &over));
        let away = scope.spawn(|| disturb_clusters(&clusters, third, &over));
        wait_for(async {
            for (number, payload) in published.iter().enumerate() {
                tokio::time::sleep_until((begun + PACE * number as u32).into()).await;
                feed.publish(&number.to_string(), &HeaderMap::new(), payload).await;
            }
        });
        println!("{count} messages are published after {:?}", begun.elapsed());
        over.store(true, Ordering::Relaxed);
        let (nats, away) = (nats.join(), away.join());
        calm.store(true, Ordering::Relaxed);
        let kills = kills.join();
        println!(
            "faults ended after {:?}: {} kills of the operator, {} of NATS; {}",
            begun.elapsed(),
            kills.unwrap(),
            nats.unwrap(),
            away.unwrap().join(", ")
        );
    });
    settle(&world, &clusters, &feed);
}

/// Waits until all is as the stream says, and looks for what is left over.
fn settle(world: &World, clusters: &[Cluster], feed: &Feed) {
    let messages = feed.read();
    let model = model(messages.iter().map(|it| &*it.payload));
    let objects: Vec<Objects> = clusters.iter().map(Objects::of).collect();
    let begun = Instant::now();
    let service = Service::start(world);
    let seen = until_within(CALM, "all clusters are as the last events say", || {
        let progress = feed.progress()?;
        if !progress.is_complete() {
            return Err(format!("{progress:?}\n{}", world.log()));
        }
        let seen: Vec<_> = objects.iter().map(Objects::marked).collect::<Result<_, _>>()?;
        for (cluster, seen) in clusters.iter().zip(&seen) {
            let differs = difference(&model, seen);
            if !differs.is_empty() {
                return Err(format!("{}: {}\n{}", cluster.name(), differs.join("\n"), world.log()));
            }
        }
        Ok(seen)
    });
    println!("as it should be after {:?}", begun.elapsed());
    until_within(CALM, "nothing is under way", || {
        let rows = world.home.show("triggers");
        let sum = |field: &str| rows.iter().map(|row| row[field].as_u64().unwrap()).sum::<u64>() as usize;
        let all = [sum("works"), sum("applied"), sum("stalled"), sum("underWay")];
        if all == [model.len(), model.len() * clusters.len(), 0, 0] {
            return Ok(());
        }
        let late = world.home.show("addons");
        let late: Vec<Value> = late.into_iter().filter(|row| row["state"] != "Applied").take(5).collect();
        Err(format!("works, applied, stalled, under way: {all:?}; {late:#?}\n{}", world.log()))
    });
    println!("nothing is under way after {:?}", begun.elapsed());
    assert!(service.stop().success());
    let again: Vec<_> = objects.iter().map(|it| it.marked().unwrap()).collect();
    assert_eq!(again, seen, "what was as it should be stays so");
    audit(&Books::of(&world.home), &messages, &seen, clusters);
    assert!(!world.log().contains("hunter2") && !world.log().contains("panicked"), "{}", world.log());
}

fn difference(model: &BTreeMap<String, String>, seen: &BTreeMap<String, Marked>) -> Vec<String> {
    let missing = model.iter().filter_map(|(name, login)| match seen.get(name) {
        Some(there) if there.login == *login && !there.dying => None,
        there => Some(format!("{name} is to be there from event {login}, and is {there:?}")),
    });
    let superfluous = seen.iter().filter(|(name, _)| !model.contains_key(*name));
    missing
        .chain(superfluous.map(|(name, there)| format!("{name} is left over: {there:?}")))
        .take(5)
        .collect()
}

/// Finds every message again, and an owner for all that is there.
fn audit(books: &Books, messages: &[Message], seen: &[BTreeMap<String, Marked>], clusters: &[Cluster]) {
    assert_eq!(books.epochs().len(), 1, "the stream had one life: {:?}", books.epochs());
    let floor = books.floor();
    println!(
        "{} messages, floor {floor}, {} Works, {} AppliedWorks, {} dead letters",
        messages.len(),
        books.works.len(),
        books.applied.len(),
        books.letters.len()
    );
    let mut refused = 0;
    for message in messages {
        let sequence = message.sequence;
        let Some(known) = read(&message.payload) else {
            refused += 1;
            let letters: Vec<_> = books
                .letters
                .iter()
                .filter(|letter| letter.position.as_ref().is_some_and(|it| it.sequence == sequence))
                .collect();
            assert_eq!(letters.len(), 1, "message {sequence} is no event, and has one dead letter");
            assert_eq!((&letters[0].raw, &*letters[0].reason), (&message.payload, "NotACloudEvent"));
            continue;
        };
        let trigger = if known.subject.starts_with("space-") { "spaces" } else { "settings" };
        match books.work(trigger, &known.subject) {
            Some(work) => assert!(Books::seen(work) >= sequence, "message {sequence} is not in {work:?}"),
            None => assert!(floor >= sequence, "message {sequence} about {} is lost", known.subject),
        }
    }
    assert_eq!(books.letters.len(), refused, "nothing else was refused");

    let live = books.works.values().filter(|work| work.intent == Intent::Create);
    let live: BTreeMap<&str, _> = live.map(|work| (work.id.hash(), work)).collect();
    for (cluster, seen) in clusters.iter().zip(seen) {
        for (name, marked) in seen {
            assert!(live.contains_key(&*marked.mark), "{name} in {} has no live Work", cluster.name());
        }
    }
    let names: BTreeSet<_> = clusters.iter().map(|cluster| format!("civo/{}", cluster.name())).collect();
    let mut places = BTreeSet::new();
    for applied in &books.applied {
        let work = live.get(applied.work.hash()).unwrap_or_else(|| panic!("{applied:?} has no live Work"));
        assert_eq!(applied.state, AppliedState::Applied, "{applied:?}");
        assert!(applied.digest.is_some() && applied.inventory.len() == 1, "{applied:?}");
        assert!(applied.generation <= work.generation, "{applied:?}");
        assert!(names.contains(&applied.cluster.to_string()), "{applied:?}");
        places.insert((applied.work.clone(), applied.cluster.clone()));
    }
    assert_eq!(places.len(), live.len() * clusters.len(), "each live Work is in each cluster");
}
