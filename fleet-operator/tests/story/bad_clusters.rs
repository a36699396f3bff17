//! Clusters that cannot be reached, or whose kubeconfig would do harm: each is told, and the others go on.

use std::fs;
use std::path::Path;

use local_fleet::{Cluster, ClusterOptions, Route, User};
use serde_json::Value;

use crate::process::event;
use crate::stage::{Managed, cluster, stage, wait_for};
use crate::world::World;

/// Writes a Cluster and its Secret by hand, as GitOps would, with whatever kubeconfig.
fn put(world: &World, name: &str, kubeconfig: &str) {
    let file = world.dir().join("by-hand.kubeconfig");
    fs::write(&file, kubeconfig).unwrap();
    world.sh(&format!(
        "kubectl create secret generic {name} -n civo --from-file=kubeconfig='{}' --dry-run=client -o yaml | kubectl apply -f -
        kubectl apply -f - <<'END'
apiVersion: fleet-events.dev/v1alpha1
kind: Cluster
metadata: {{namespace: civo, name: {name}, labels: {{env: production}}}}
spec: {{kubeconfigSecretRef: {{name: {name}, key: kubeconfig}}}}
END",
        file.display()
    ));
}

/// A kubeconfig, with something else for its user's credentials.
fn with_user(kubeconfig: &str, user: &str) -> String {
    let mut parsed: Value = serde_saphyr::from_str(kubeconfig).unwrap();
    parsed["users"][0]["user"] = serde_json::from_str(user).unwrap();
    parsed.to_string()
}

#[test]
fn a_bad_kubeconfig_is_told_and_the_others_go_on() {
    let world = World::with_management("kubeconfigs");
    world.register("cluster1", "env=production");
    world.apply_example();
    let good = &cluster(2).kubeconfig;
    let server = serde_saphyr::from_str::<Value>(good).unwrap()["clusters"][0]["cluster"]["server"].clone();
    let witness = world.dir().join("witness");
    let marker = witness.display();
    let cases = [
        ("garbage", "{]: s3cret".to_owned(), vec!["civo/garbage"]),
        ("unreachable", good.replace(server.as_str().unwrap(), "https://127.0.0.1:1"), vec!["refused"]),
        (
            "exec",
            with_user(
                good,
                &format!(
                    r#"{{"exec": {{"apiVersion": "client.authentication.k8s.io/v1", "command": "touch", "args": ["{marker}"], "interactiveMode": "Never"}}}}"#
                ),
            ),
            vec!["civo/exec", "exec", "--create-service-account"],
        ),
        (
            "token-file",
            with_user(good, r#"{"tokenFile": "/etc/hostname"}"#),
            vec!["civo/token-file", "tokenFile"],
        ),
        (
            "certificate-paths",
            with_user(good, r#"{"client-certificate": "/etc/hostname", "client-key": "/etc/hostname"}"#),
            vec!["civo/certificate-paths", "client-certificate"],
        ),
        ("wrong-token", with_user(good, r#"{"token": "s3cret"}"#), vec!["credentials"]),
    ];
    for (name, kubeconfig, _) in &cases {
        put(&world, name, kubeconfig);
    }
    let operator = world.start();
    world.ready("eventsource/user-operation");
    world.publish("user-operation", &event("login", "kubeconfigs"));
    cluster(1).gets("kubeconfigs", || world.log());
    for (name, _, parts) in &cases {
        let condition = world.condition(&format!("clusters.fleet-events.dev/{name} -n civo"), |ready| {
            let message = ready["message"].as_str().unwrap_or_default();
            ready["status"] == "False" && parts.iter().all(|part| message.contains(part))
        });
        let message = condition["message"].as_str().unwrap();
        println!("{name}: {}: {message}", condition["reason"]);
        assert!(
            world.log().contains(message) && world.log().contains(&format!("cluster=civo/{name}")),
            "{}",
            world.log()
        );
    }
    assert!(!witness.exists(), "a program of a Secret ran");
    assert!(cluster(2).namespace("kubeconfigs").is_none());
    // All of them are mended, one after the other; the first makes the namespace.
    for (name, ..) in &cases {
        put(&world, name, good);
        world.ready(&format!("clusters.fleet-events.dev/{name} -n civo"));
    }
    cluster(2).gets("kubeconfigs", || world.log());
    assert!(!Path::new(&witness).exists());
    let log = world.log();
    assert!(!log.contains("s3cret"), "{log}");
    println!("{log}");
    assert!(operator.stop().success());
}

#[test]
fn a_cluster_that_goes_away_is_caught_up_when_it_is_back() {
    let world = World::with_management("outage");
    let options = ClusterOptions::default().controller_manager(false);
    let fourth =
        wait_for(Cluster::start(stage().lab().etcd().unwrap(), world.dir(), "cluster4", &options)).unwrap();
    fourth.write_kubeconfig(world.dir().join("cluster4.kubeconfig"), User::Admin, Route::Direct).unwrap();
    for cluster in ["cluster1", "cluster4"] {
        world.register(cluster, "env=production");
    }
    world.apply_example();
    let operator = world.start();
    world.ready("eventsource/user-operation");
    world.ready("--all -n civo clusters.fleet-events.dev");
    let log = || world.log();
    wait_for(fourth.stop()).unwrap();
    world.publish("user-operation", &event("login", "outage"));
    cluster(1).gets("outage", log);
    let condition =
        world.condition("clusters.fleet-events.dev/cluster4 -n civo", |ready| ready["status"] == "False");
    let message = condition["message"].as_str().unwrap();
    println!("{}: {message}", condition["reason"]);
    assert!(message.contains("cannot be reached"), "{message}");
    world.publish("user-operation", &event("login", "outage-more"));
    cluster(1).gets("outage-more", log);
    wait_for(fourth.api_server().start()).unwrap();
    let seen = wait_for(Managed::new(&fourth));
    for name in ["outage", "outage-more"] {
        seen.gets(name, log);
    }
    world.ready("clusters.fleet-events.dev/cluster4 -n civo");
    println!("{}", world.log());
    assert!(operator.stop().success());
}
