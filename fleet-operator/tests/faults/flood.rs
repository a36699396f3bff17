//! Far more events than anybody could apply: the operator takes them, and does not grow with them.

use std::thread;
use std::time::{Duration, Instant};

use async_nats::HeaderMap;
use bytes::Bytes;
use futures::{StreamExt, stream};
use local_fleet::{Cluster, ClusterOptions, Route, User};

use crate::events::event;
use crate::feed::Feed;
use crate::number;
use crate::objects::Objects;
use crate::service::Service;
use crate::stage::{stage, wait_for};
use crate::wait::{until, until_within};
use crate::world::World;

const EVENTS: u64 = 10_000;
/// How many are published at a time.
const AT_A_TIME: usize = 64;
/// What the operator may take on top of what it takes when there is nothing to do.
const BOUND: u64 = 64 << 20;
/// What it may take besides for each event that is not applied: a place in the queue of a cluster.
const BOUND_PER_EVENT: u64 = 512;

const DEFINITIONS: &str = r#"kubectl apply -f - <<'END'
apiVersion: fleet-events.dev/v1alpha1
kind: EventSource
metadata: {name: users}
spec:
  nats:
    connectionSecretRef: {namespace: default, name: nats}
    jetStream: {stream: users}
---
apiVersion: fleet-events.dev/v1alpha1
kind: EventTrigger
metadata: {name: settings}
spec:
  eventSourceName: users
  sourceClusterSelector: {matchLabels: {env: production}}
  oneForEvent: true
  policyRefs: [{kind: ConfigMap, namespace: default, name: settings}]
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
    data: {cluster: "{{ cluster.name }}"}
END"#;

#[test]
fn a_flood_while_the_only_cluster_is_away_is_taken_and_applied_later() {
    let events = number("FLEET_FLOOD_EVENTS").unwrap_or(EVENTS);
    let world = World::with_management("flood");
    let options = ClusterOptions::default().controller_manager(false);
    let etcd = stage().lab().etcd().unwrap();
    let cluster = wait_for(Cluster::start(etcd, world.dir(), "flooded", &options)).unwrap();
    cluster.write_kubeconfig(world.dir().join("flooded.kubeconfig"), User::Admin, Route::Direct).unwrap();
    world.register("flooded", "env=production");
    world.sh(&crate::world::nats_secret("\"$NATS_PASSWORD\""));
    world.sh(DEFINITIONS);
    let feed = Feed::create(&world);
    let service = Service::start(&world);
    world.ready("eventsource/users");
    world.ready("clusters.fleet-events.dev/flooded -n civo");
    let at_first = service.peak_memory();

    wait_for(cluster.stop()).unwrap();
    let begun = Instant::now();
    wait_for(stream::iter(0..events as usize).for_each_concurrent(AT_A_TIME, async |number| {
        let payload = Bytes::from(event("login", &format!("user-{number}"), number).to_string());
        feed.publish(&number.to_string(), &HeaderMap::new(), &payload).await;
    }));
    println!("{events} events are published after {:?}", begun.elapsed());
    let patience = Duration::from_secs(60) + Duration::from_millis(15) * events as u32;
    until_within(patience, "all events are taken", || match feed.progress()? {
        progress if progress.is_complete() => Ok(()),
        progress => Err(format!("{progress:?}\n{}", world.log())),
    });
    let mib = |bytes: u64| bytes / (1 << 20);
    println!(
        "taken after {:?}; memory in MiB: {} before, {} at most",
        begun.elapsed(),
        mib(at_first),
        mib(service.peak_memory())
    );

    wait_for(cluster.api_server().start()).unwrap();
    let begun = Instant::now();
    let objects = Objects::of(&cluster);
    until_within(patience, "all events are applied", || {
        // Counting must not keep the API server from its work.
        thread::sleep(Duration::from_millis(200));
        match objects.count()? {
            count if count >= events => Ok(()),
            count => Err(format!("{count}\n{}", world.log())),
        }
    });
    let took = begun.elapsed();
    println!("applied within {took:?} of the cluster's return, {:.0}/s", events as f64 / took.as_secs_f64());
    let peak = service.peak_memory();
    println!("memory in MiB: {} at most, {} now", mib(peak), mib(service.memory_now()));
    let bound = at_first + BOUND + BOUND_PER_EVENT * events;
    assert!(peak < bound, "{} MiB are more than the {} that were to be enough", mib(peak), mib(bound));
    until("each is known to be applied", || {
        let row = &world.home.show("triggers")[0];
        match (row["works"].as_u64(), row["applied"].as_u64()) {
            (Some(works), Some(applied)) if works == events && applied == events => Ok(()),
            _ => Err(format!("{row:#?}\n{}", world.log())),
        }
    });
    assert!(service.stop().success());
}
