//! What the Applier and the registry say when an API server does not answer, or not well.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that meets the unexpected says so and stops; so do its helpers"
)]

mod lab;

use std::time::{Duration, Instant};

use fleet_core::apply::Outcome;
use fleet_core::cluster::{ClusterChange, ClusterSelector};
use fleet_kube::api::KUBERNETES_VERSION_LABEL;
use fleet_kube::clusters::Clusters;
use fleet_kube::connection::{ClusterDefinition, Connection};
use futures::StreamExt;
use lab::*;
use local_fleet::{ClusterOptions, Network, Route, User};
use secrecy::SecretString;

fn bare() -> ClusterOptions {
    ClusterOptions::default().controller_manager(false)
}

#[tokio::test]
async fn a_frozen_api_server_leaves_it_open_by_the_deadline() {
    let lab = Lab::start(&bare()).await;
    let ours = Ours::new(&lab, User::Admin, Route::Direct).await;
    let work = work("frozen");
    let (one, other) = (config_map("one", &[]), config_map("other", &[]));
    let warm = uid(&ours.apply(&work, &one, &[]).await);

    lab.cluster.api_server().pause().await.unwrap();
    let begun = Instant::now();
    let objects = [one.clone(), other.clone()];
    let deadline = Duration::from_millis(500);
    let outcomes = ours.apply_all(&work, &objects, &[item(&one, Some(&warm))], None, deadline).await;
    let took = begun.elapsed();
    assert!(took >= deadline && took < deadline + Duration::from_millis(500), "{took:?}");
    // The one that went out on a connection that stood may take effect; one that got no connection cannot have.
    for outcome in &outcomes {
        assert!(matches!(outcome, Outcome::Unknown { .. } | Outcome::Retry { .. }), "{outcomes:?}");
    }
    assert!(outcomes.iter().any(|outcome| matches!(outcome, Outcome::Unknown { .. })), "{outcomes:?}");
    until_health(&ours.clusters, false).await;

    lab.cluster.api_server().resume().await.unwrap();
    until_health(&ours.clusters, true).await;
    let again = ours.apply_all(&work, &objects, &[item(&one, Some(&warm))], None, SOON).await;
    assert_eq!(uid(&again[0]), warm);
    let _ = uid(&again[1]);
}

#[tokio::test]
async fn a_stopped_api_server_is_the_clusters_fault_and_comes_back() {
    let lab = Lab::start(&bare()).await;
    let ours = Ours::new(&lab, User::Admin, Route::Direct).await;
    let mut feed = ours.clusters.subscribe().await.unwrap();
    let version = feed.snapshot[0].labels[KUBERNETES_VERSION_LABEL].clone();
    assert!(version.starts_with("v1."), "{version}");
    assert!(feed.snapshot[0].ready);
    assert_eq!(feed.snapshot[0].labels["env"], "production");

    lab.cluster.api_server().kill().await.unwrap();
    let work = work("stopped");
    let objects = [config_map("a", &[]), config_map("b", &[]), config_map("c", &[])];
    let unreachable = async {
        loop {
            // The very first may find a connection that broke only now.
            let outcomes = ours.apply_all(&work, &objects, &[], None, SOON).await;
            if outcomes.iter().all(|outcome| matches!(outcome, Outcome::Retry { cluster: true, .. })) {
                break outcomes;
            }
        }
    };
    let outcomes = tokio::time::timeout(SOON, unreachable).await.unwrap();
    assert!(format!("{outcomes:?}").contains("cannot be reached"), "{outcomes:?}");
    let change = tokio::time::timeout(SOON, feed.changes.next()).await.unwrap();
    assert_eq!(change, Some(ClusterChange::Unready(ours.target.id.clone())));
    let health = ours.clusters.health(&ours.target.id).unwrap();
    assert_eq!(
        (health.reason, health.version.as_ref()),
        ("Unreachable", Some(&version)),
        "{}",
        health.message
    );

    lab.cluster.api_server().start().await.unwrap();
    let change = tokio::time::timeout(SOON, feed.changes.next()).await.unwrap();
    assert_eq!(change, Some(ClusterChange::Ready(ours.target.id.clone())));
    for outcome in ours.apply_all(&work, &objects, &[], None, SOON).await {
        let _ = uid(&outcome);
    }
}

#[tokio::test]
async fn lost_packets_leave_a_removal_open() {
    let lab = Lab::start(&bare()).await;
    let ours = Ours::new(&lab, User::Admin, Route::Proxied).await;
    let work = work("silent");
    let object = config_map("one", &[]);
    let made = placed(&object, &ours.apply(&work, &object, &[]).await);
    lab.cluster.proxy().set(Network::Silent);
    let request = fleet_core::apply::RemoveRequest {
        cluster: ours.target.clone(),
        work: work.clone(),
        items: vec![made.clone()],
        mode: fleet_core::apply::Mode::Write,
        identity: None,
        deadline: Duration::from_millis(300),
    };
    let outcome = fleet_core::apply::Applier::remove(&ours.applier, request).await;
    assert!(matches!(outcome[0], Outcome::Unknown { .. }), "{outcome:?}");
    lab.cluster.proxy().heal();
    let gone = async { while ours.remove(&work, std::slice::from_ref(&made)).await != [Outcome::Gone] {} };
    tokio::time::timeout(SOON, gone).await.unwrap();
    assert!(lab.admin().await.get("/api/v1/namespaces/default/configmaps/one").await.is_none());
}

#[tokio::test]
async fn a_server_that_throttles_says_when() {
    let options = bare()
        .api_server_flag("--enable-priority-and-fairness=false")
        .api_server_flag("--max-requests-inflight=4")
        .api_server_flag("--max-mutating-requests-inflight=1");
    let lab = Lab::start(&options).await;
    let ours = Ours::new(&lab, User::Writer, Route::Direct).await;
    let work = work("throttled");
    let throttled = async {
        for round in 0.. {
            let objects: Vec<_> =
                (0..40).map(|index| config_map(&format!("m-{round}-{index}"), &[])).collect();
            let all = objects.iter().map(|object| ours.apply(&work, object, &[]));
            for outcome in futures::future::join_all(all).await {
                match outcome {
                    Outcome::Retry { after, cluster: true, reason } if reason.contains("throttles") => {
                        return after;
                    }
                    Outcome::Applied(_) => {}
                    other => panic!("{other:?}"),
                }
            }
        }
        unreachable!()
    };
    let after = tokio::time::timeout(SOON, throttled).await.unwrap();
    assert_eq!(after, Duration::from_secs(1), "what the Retry-After header says");
}

#[tokio::test]
async fn each_way_not_to_get_in_has_its_message() {
    let lab = Lab::start(&bare()).await;
    let good = lab.kubeconfig(User::Writer, Route::Direct);
    let token = good.lines().find_map(|line| line.trim().strip_prefix("token: ")).unwrap();
    let definition = |name: &str, kubeconfig: String| ClusterDefinition {
        id: fleet_core::cluster::ClusterId::new("civo", name).unwrap(),
        connection: Connection::KubeconfigSecret {
            name: format!("Secret civo/{name}-kubeconfig, key kubeconfig"),
            kubeconfig: Ok(SecretString::from(kubeconfig)),
        },
        ..lab.definition(User::Admin, Route::Direct)
    };
    let authority = good.lines().find(|line| line.contains("certificate-authority-data")).unwrap();
    let clusters = Clusters::with_pace(pace());
    clusters.update(vec![
        definition("good", good.clone()),
        definition("wrong-token", good.replace(token, "s3cret")),
        definition(
            "wrong-port",
            good.replace(&lab.cluster.api_server().address().to_string(), "127.0.0.1:1"),
        ),
        definition("wrong-authority", good.replace(&format!("{authority}\n"), "")),
        definition(
            "not-kubernetes",
            good.replace("https://", "http://").replace(
                &lab.cluster.api_server().address().to_string(),
                &lab.etcd.server().address().to_string(),
            ),
        ),
    ]);
    for (name, reason, message) in [
        ("good", "Connected", "the API server answers"),
        ("wrong-token", "Unauthorized", "does not accept the kubeconfig's credentials"),
        ("wrong-port", "Unreachable", "refused"),
        ("wrong-authority", "Unreachable", "certificate"),
        ("not-kubernetes", "NotAnApiServer", "no API server"),
    ] {
        let id = fleet_core::cluster::ClusterId::new("civo", name).unwrap();
        let told = async {
            loop {
                let health = clusters.health(&id).unwrap();
                if health.reason != "Connecting" {
                    break health;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let health = tokio::time::timeout(SOON, told).await.unwrap();
        assert_eq!(health.reason, reason, "{name}: {}", health.message);
        assert!(health.message.contains(message), "{name}: {}", health.message);
        assert!(!health.message.contains("s3cret"));
    }
}

#[tokio::test]
async fn a_file_that_comes_late_or_changes_is_read_again() {
    let lab = Lab::start(&bare()).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kubeconfig");
    let clusters = Clusters::with_pace(pace());
    clusters.update(vec![ClusterDefinition {
        connection: Connection::KubeconfigFile(path.clone()),
        ..lab.definition(User::Admin, Route::Direct)
    }]);
    until_health(&clusters, false).await;
    let id = fleet_core::cluster::ClusterId::new("civo", "one").unwrap();
    let health = clusters.health(&id).unwrap();
    assert!(health.message.contains("kubeconfig cannot be read"), "{}", health.message);
    std::fs::write(&path, lab.kubeconfig(User::Admin, Route::Direct)).unwrap();
    until_health(&clusters, true).await;
    std::fs::write(&path, "garbage").unwrap();
    until_health(&clusters, false).await;
    std::fs::write(&path, lab.kubeconfig(User::Writer, Route::Direct)).unwrap();
    until_health(&clusters, true).await;
}
