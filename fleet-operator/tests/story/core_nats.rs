//! The article's story, step by step, over core NATS and with a management cluster.

use std::time::Duration;

use crate::process::event;
use crate::stage::cluster;
use crate::wait::until;
use crate::world::World;

#[test]
fn a_login_is_seen_in_production_and_nowhere_else() {
    let world = World::with_management("core");
    for (cluster, labels) in
        [("cluster1", "env=production"), ("cluster2", "env=production"), ("cluster3", "env=staging")]
    {
        world.register(cluster, labels);
    }
    world.apply_example();
    let operator = world.start();
    world.ready("--all -n civo clusters.fleet-events.dev");
    world.ready("eventsource/user-operation");
    world.ready("eventtrigger/manage-namespace");

    let version = world.sh("kubectl version -o json | grep -m1 gitVersion | head -1");
    let version = version.split('"').nth(3).unwrap();
    let listed = until("the clusters are listed with their versions", || {
        let listed = world.sh("kubectl get clusters.fleet-events.dev -A --show-labels");
        let all = listed.lines().count() == 4 && listed.lines().skip(1).all(|line| line.contains(version));
        if all { Ok(listed) } else { Err(listed) }
    });
    let lines: Vec<Vec<&str>> = listed.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["NAMESPACE", "NAME", "READY", "BY", "VERSION", "AGE", "LABELS"]);
    for (line, (name, env)) in lines[1..].iter().zip([
        ("cluster1", "production"),
        ("cluster2", "production"),
        ("cluster3", "staging"),
    ]) {
        assert_eq!(line[..5], ["civo", name, "True", "hub", version], "{listed}");
        assert_eq!(line[6], format!("env={env},fleet-events.dev/kubernetes-version={version}"), "{listed}");
    }

    world.publish("user-operation", &event("login", "mgianluc"));
    let production = [cluster(1), cluster(2)];
    let first = production.map(|cluster| cluster.gets("mgianluc", || world.log()));
    assert!(cluster(3).namespace("mgianluc").is_none(), "it is not for staging");
    let table = until("both are shown", || {
        let table = world.show_addons();
        if table.matches("| mgianluc |").count() == 2 { Ok(table) } else { Err(table) }
    });
    for cluster in ["cluster1", "cluster2"] {
        let row = format!("| civo/{cluster} | :Namespace    |           | mgianluc | N/A     | 20");
        assert!(table.contains(&row), "{table}");
    }
    assert!(table.contains("| EventTrigger/manage-namespace |"), "{table}");

    // Out, and in again right away: the namespace that goes has to be gone before the new one can come.
    world.publish("user-operation", &event("logout", "mgianluc"));
    for cluster in production {
        until("the namespace goes", || match cluster.uid("mgianluc") {
            None => Ok(()),
            Some(uid) => Err(uid),
        });
    }
    world.publish("user-operation", &event("login", "mgianluc"));
    for (cluster, first) in production.iter().zip(first) {
        assert_ne!(cluster.gets("mgianluc", || world.log()), first);
    }

    world.publish("user-operation", &event("logout", "mgianluc"));
    for cluster in production {
        cluster.loses("mgianluc", || world.log());
    }
    until("nothing is shown any more", || {
        let table = world.show_addons();
        if table.contains("mgianluc") { Err(table) } else { Ok(()) }
    });
    assert!(world.stops_within(operator, Duration::from_secs(5)).success());
    assert!(!world.log().contains("hunter2") && !world.log().contains("mgianluc"), "{}", world.log());
}
