//! The story over JetStream: what is published is done, whatever happens to the operator.

use std::time::Duration;

use crate::process::event;
use crate::stage::{Managed, cluster};
use crate::world::World;

/// The example, with a stream that the user made.
fn with_a_stream(name: &str) -> World {
    let world = World::with_management(name);
    for cluster in ["cluster1", "cluster2"] {
        world.register(cluster, "env=production");
    }
    world.apply_example();
    world.sh("nats stream add users --subjects user-operation --storage file --defaults");
    world.sh(
        "kubectl patch eventsource user-operation --type merge -p '{\"spec\":{\"nats\":{\"jetStream\":{\"stream\":\"users\"}}}}'",
    );
    world
}

fn production() -> [&'static Managed; 2] {
    [cluster(1), cluster(2)]
}

#[test]
fn what_is_published_while_nobody_listens_is_done_later_and_only_once() {
    let world = with_a_stream("jetstream");
    let config = || world.sh("nats stream info users --json | sed -n '/\"config\"/,/^  }/p'");
    let before = config();
    assert!(before.contains("user-operation"), "{before}");
    world.publish("user-operation", &event("login", "anna"));
    let operator = world.start();
    let log = || world.log();
    for cluster in production() {
        cluster.gets("anna", log);
    }
    world.ready("eventsource/user-operation");
    assert!(world.stops_within(operator, Duration::from_secs(5)).success());

    world.publish("user-operation", &event("logout", "anna"));
    world.publish("user-operation", &event("login", "berta"));
    let operator = world.start();
    for cluster in production() {
        cluster.gets("berta", log);
        cluster.loses("anna", log);
    }
    assert!(world.stops_within(operator, Duration::from_secs(5)).success());

    // The server forgets what was acknowledged, and delivers everything again.
    let consumers = world.sh("nats consumer ls users --names");
    world.sh(&format!("nats consumer rm users {} --force", consumers.trim()));
    let history = production().map(|cluster| cluster.history());
    let berta = production().map(|cluster| cluster.uid("berta"));
    let operator = world.start();
    world.publish("user-operation", &event("login", "clara"));
    for (history, cluster) in history.into_iter().zip(production()) {
        let names = history.until("clara");
        assert!(
            !names.contains(&"anna".to_owned()),
            "an old login made anna's namespace again in {}",
            cluster.name
        );
    }
    assert_eq!(production().map(|cluster| cluster.uid("berta")), berta);
    assert_eq!(config(), before, "a user's stream is never changed");
    assert!(world.stops_within(operator, Duration::from_secs(5)).success());
}

#[test]
fn a_kill_in_the_middle_loses_nothing() {
    const USERS: usize = 40;
    let world = with_a_stream("killed");
    let operator = world.start();
    world.ready("eventsource/user-operation");
    let user = |number: usize| format!("killed-{number}");
    let events: Vec<String> = (0..USERS).map(|number| event("login", &user(number))).collect();
    world.publish_all("user-operation", &events);
    cluster(1).gets(&user(0), || world.log());
    operator.kill();
    let there = (0..USERS).filter(|number| cluster(2).uid(&user(*number)).is_some()).count();
    let operator = world.start();
    for cluster in production() {
        for number in 0..USERS {
            cluster.gets(&user(number), || world.log());
        }
    }
    println!("{there} of {USERS} namespaces were there when the operator was killed");
    assert!(operator.stop().success());
}
