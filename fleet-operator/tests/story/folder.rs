//! The story from a folder of manifests with real NATS and kubeconfig files: no management cluster.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::process::{Operator, event, example};
use crate::stage::cluster;
use crate::wait::until;
use crate::world::World;

/// The example in a folder, with both production clusters and the staging cluster.
fn world() -> World {
    let world = World::new();
    for (name, env) in [("cluster1", "production"), ("cluster2", "production"), ("cluster3", "staging")] {
        let kubeconfig = std::fs::read_to_string(world.dir().join(format!("{name}.kubeconfig"))).unwrap();
        world.home.write(&format!("{name}.kubeconfig"), &kubeconfig);
        let object = json!({"apiVersion": "fleet-events.dev/v1alpha1", "kind": "Cluster",
            "metadata": {"namespace": "civo", "name": name, "labels": {"env": env}},
            "spec": {"kubeconfigFile": format!("{name}.kubeconfig")}});
        world.home.write(&format!("{name}.yaml"), &object.to_string());
    }
    for file in ["event-source.yaml", "event-trigger.yaml"] {
        let text = std::fs::read_to_string(example("user-namespaces").join(file)).unwrap();
        world.home.write(file, &text);
    }
    let (url, user, password) = world.access();
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"namespace": "default", "name": "nats"},
        "stringData": {"url": url, "user": user, "password": password}});
    world.home.write("nats-secret.yaml", &secret.to_string());
    world
}

/// Starts the operator, and waits until all that it needs is there.
fn start(world: &World) -> Operator<'_> {
    let operator = world.home.start();
    until("source and clusters are ready", || {
        let rows: Vec<_> = ["sources", "clusters"].iter().flat_map(|what| world.home.show(what)).collect();
        let ready = rows.iter().all(|row| row["ready"] == true);
        if ready && rows.len() == 4 { Ok(()) } else { Err(format!("{rows:#?}\n{}", world.log())) }
    });
    operator
}

#[test]
fn logins_and_logouts_follow_each_other_as_fast_as_they_like() {
    let world = world();
    let operator = start(&world);
    let log = || world.log();
    let production = [cluster(1), cluster(2)];
    world.publish("user-operation", &event("login", "folder"));
    let first = production.map(|cluster| cluster.gets("folder", log));
    assert!(cluster(3).namespace("folder").is_none());

    // Within 10 ms: what is there at the end is one namespace, and not the old one.
    let history = production.map(|cluster| cluster.history());
    let begun = Instant::now();
    world.publish_all("user-operation", &[event("logout", "folder"), event("login", "folder")]);
    assert!(begun.elapsed() < Duration::from_millis(10), "{:?}", begun.elapsed());
    for (cluster, first) in production.iter().zip(&first) {
        until("a namespace of a new life", || match cluster.uid("folder") {
            Some(uid) if uid != *first => Ok(()),
            _ => Err(format!("{:?}\n{}", cluster.namespace("folder"), log())),
        });
    }
    // Three events that nobody saw before, at once.
    let burst = ["login", "logout", "login"].map(|what| event(what, "burst"));
    world.publish_all("user-operation", &burst);
    // What comes after it is read after it.
    world.publish("user-operation", &event("login", "after-burst"));
    for (history, cluster) in history.into_iter().zip(production) {
        let names = history.until("after-burst");
        let new = names.iter().filter(|name| *name == "folder").count();
        assert_eq!(new, 1, "exactly one new namespace: {names:?}");
        until("the burst has come to its end", || {
            let rows = world.home.show("addons");
            let row = rows
                .iter()
                .find(|row| row["name"] == "burst" && row["cluster"].to_string().contains(&cluster.name));
            match (row, cluster.uid("burst")) {
                (Some(row), Some(_)) if row["state"] == "Applied" => Ok(()),
                seen => Err(format!("{seen:#?}\n{}", log())),
            }
        });
    }
    assert!(world.stops_within(operator, Duration::from_secs(5)).success());
}

#[test]
fn an_origin_in_the_subject_is_the_only_cluster_concerned() {
    let world = world();
    world.home.edit("event-source.yaml", "- user-operation\n", "- user-operation.>\n");
    world.home.edit(
        "event-source.yaml",
        "  filters:",
        "  origin:\n    subjectTokens:\n      namespace: 1\n      name: 2\n  filters:",
    );
    let operator = start(&world);
    let log = || world.log();
    // First come those that go nowhere, so that when the last one is there they have been through.
    world.publish("user-operation.civo.cluster3", &event("login", "origin-staging"));
    world.publish("user-operation.civo.nowhere", &event("login", "origin-unknown"));
    world.publish("user-operation.civo", &event("login", "origin-missing"));
    world.publish("user-operation.civo.cluster1", &event("login", "origin"));
    cluster(1).gets("origin", log);
    let letters = until("the dead letter", || match world.home.dead_letters() {
        letters if letters.is_empty() => Err(log()),
        letters => Ok(letters),
    });
    assert_eq!(letters.len(), 1, "{letters:#?}");
    assert_eq!(letters[0]["reason"], "OriginMissing", "{letters:#?}");
    let detail = letters[0]["detail"].as_str().unwrap();
    assert!(detail.contains("user-operation"), "{detail}");
    // The same user, from another cluster: two lifecycles.
    world.publish("user-operation.civo.cluster2", &event("login", "origin"));
    cluster(2).gets("origin", log);
    world.publish("user-operation.civo.cluster1", &event("logout", "origin"));
    cluster(1).loses("origin", log);
    assert!(cluster(2).uid("origin").is_some());
    for name in ["origin-staging", "origin-unknown", "origin-missing"] {
        assert!([1, 2, 3].iter().all(|number| cluster(*number).namespace(name).is_none()), "{name}");
    }
    assert!(cluster(3).namespace("origin").is_none());
    drop(operator);
}

#[test]
fn what_others_made_is_left_alone() {
    let world = world();
    let operator = start(&world);
    world.sh("kubectl --kubeconfig $DIR/cluster1.kubeconfig create namespace by-hand");
    let by_hand = cluster(1).namespace("by-hand").unwrap();
    let system = cluster(1).namespace("kube-system").unwrap();
    for name in ["by-hand", "kube-system"] {
        world.publish("user-operation", &event("login", name));
    }
    // The other cluster has no such namespace: there it is made.
    cluster(2).gets("by-hand", || world.log());
    for (name, owner) in [("by-hand", "kubectl-create"), ("kube-system", "kube-apiserver")] {
        let message = until("the conflict is shown", || {
            let rows = world.home.show("addons");
            let row = rows.iter().find(|row| {
                row["cluster"] == "civo/cluster1"
                    && row["state"] == "Stalled"
                    && row["message"].to_string().contains(name)
            });
            row.map(|row| row["message"].to_string()).ok_or_else(|| format!("{rows:#?}\n{}", world.log()))
        });
        assert!(message.contains("Conflict") && message.contains(owner), "{message}");
        println!("{message}");
    }
    for name in ["by-hand", "kube-system"] {
        world.publish("user-operation", &event("logout", name));
    }
    cluster(2).loses("by-hand", || world.log());
    until("nothing is left to do", || {
        let rows = world.home.show("addons");
        if rows.is_empty() { Ok(()) } else { Err(format!("{rows:#?}")) }
    });
    assert_eq!(cluster(1).namespace("by-hand"), Some(by_hand), "not even its managers of fields changed");
    assert_eq!(cluster(1).namespace("kube-system"), Some(system));
    drop(operator);
}

#[test]
fn an_event_is_seen_within_milliseconds() {
    const EVENTS: usize = 21;
    let world = world();
    let operator = start(&world);
    let mut took: Vec<Duration> = (0..EVENTS)
        .map(|number| {
            let name = format!("timed-{number}");
            let watch = cluster(1).history();
            let begun = Instant::now();
            world.publish_all("user-operation", &[event("login", &name)]);
            watch.until(&name);
            begun.elapsed()
        })
        .collect();
    took.sort();
    println!(
        "from publishing to being told of the namespace: median {:?}, worst {:?}",
        took[EVENTS / 2],
        took[EVENTS - 1]
    );
    assert!(took[EVENTS / 2] < Duration::from_secs(1), "{took:?}");
    drop(operator);
}
