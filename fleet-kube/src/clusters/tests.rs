use std::time::Duration;

use super::*;
use crate::api::kubernetes_version_label;
use fleet_core::cluster::{ClusterChange, Labels};
use futures::FutureExt;
use secrecy::SecretString;

fn id(name: &str) -> ClusterId {
    ClusterId::new("civo", name).unwrap()
}

fn folder(name: &str, env: &str) -> ClusterDefinition {
    ClusterDefinition {
        id: id(name),
        labels: Labels::from([("env".to_owned(), env.to_owned())]),
        annotations: Labels::new(),
        resolve: Vec::new(),
        connection: Connection::Directory,
    }
}

fn secret(name: &str, kubeconfig: Result<&str, &str>) -> ClusterDefinition {
    let kubeconfig = kubeconfig.map(|text| SecretString::from(text.to_owned())).map_err(str::to_owned);
    let connection =
        Connection::KubeconfigSecret { name: format!("Secret civo/{name}-kubeconfig"), kubeconfig };
    ClusterDefinition { connection, ..folder(name, "production") }
}

#[tokio::test]
async fn subscribing_waits_for_the_first_complete_set() {
    let clusters = Clusters::new();
    assert!(clusters.subscribe().now_or_never().is_none());
    clusters.update(vec![folder("a", "production")]);
    let feed = clusters.subscribe().await.unwrap();
    assert_eq!(feed.snapshot.len(), 1);
    assert!(feed.snapshot[0].ready);
    assert!(matches!(clusters.route(&id("a")), Route::Directory));
    assert!(matches!(clusters.route(&id("b")), Route::Unknown));
}

#[tokio::test]
async fn only_what_changed_is_told() {
    let clusters = Clusters::new();
    clusters.update(vec![folder("a", "x"), folder("b", "x")]);
    let mut changes = clusters.subscribe().await.unwrap().changes;
    clusters.update(vec![folder("a", "x"), folder("b", "y"), folder("c", "x")]);
    assert!(matches!(changes.next().await, Some(ClusterChange::Relabelled(b)) if b.labels["env"] == "y"));
    assert!(matches!(changes.next().await, Some(ClusterChange::Joined(c)) if c.id == id("c")));
    clusters.update(vec![folder("b", "y"), folder("c", "x")]);
    assert_eq!(changes.next().await, Some(ClusterChange::Left(id("a"))));
    assert!(changes.next().now_or_never().is_none(), "nothing else changed");
    drop(clusters);
    assert_eq!(changes.next().await, None);
}

#[tokio::test]
async fn a_slow_reader_gets_the_sum_and_holds_no_backlog() {
    let clusters = Clusters::new();
    clusters.update(vec![folder("a", "0"), folder("b", "0")]);
    let mut changes = clusters.subscribe().await.unwrap().changes;
    for round in 0..1000 {
        clusters.update(vec![folder("a", &round.to_string())]);
        clusters.update(vec![folder("a", &round.to_string()), folder("b", "0")]);
    }
    let mut told = Vec::new();
    while let Some(Some(change)) = changes.next().now_or_never() {
        told.push(change);
    }
    // `b` left and came back: that is another cluster of the same name, and both are told.
    let [ClusterChange::Left(gone), ClusterChange::Joined(new), ClusterChange::Relabelled(a)] = &told[..]
    else {
        panic!("{told:?}")
    };
    assert_eq!((gone, &new.id), (&id("b"), &id("b")));
    assert_eq!(a.labels["env"], "999");
}

#[tokio::test]
async fn what_is_wrong_with_a_kubeconfig_shows_in_the_health_and_heals() {
    let clusters = Clusters::new();
    clusters
        .update(vec![secret("a", Err("Secret civo/a-kubeconfig is missing")), secret("b", Ok("garbage"))]);
    let mut health = clusters.health_changes();
    let mut seen = BTreeMap::new();
    while seen.len() < 2 {
        let (id, health) = health.next().await.unwrap();
        let health = health.unwrap();
        assert!(!health.ready);
        if health.reason != "Connecting" {
            seen.insert(id, health);
        }
    }
    assert_eq!(seen[&id("a")].message, "Secret civo/a-kubeconfig is missing");
    assert_eq!(seen[&id("b")].reason, "KubeconfigInvalid");
    assert!(seen[&id("b")].message.starts_with("Secret civo/b-kubeconfig: this is no kubeconfig"));
    assert!(matches!(clusters.route(&id("b")), Route::Unreachable(why) if why.contains("no kubeconfig")));

    clusters.update(vec![folder("a", "x")]);
    let (first, left) = (health.next().await.unwrap(), health.next().await.unwrap());
    let ready = [&first, &left].into_iter().find(|(of, _)| *of == id("a")).unwrap();
    assert!(ready.1.as_ref().unwrap().ready);
    let gone = [&first, &left].into_iter().find(|(of, _)| *of == id("b")).unwrap();
    assert!(gone.1.is_none());
}

#[test]
fn versions_become_label_values() {
    assert_eq!(kubernetes_version_label("v1.36.3"), "v1.36.3");
    assert_eq!(kubernetes_version_label("v1.33.1+k3s1"), "v1.33.1_k3s1");
    assert_eq!(kubernetes_version_label(&format!("v{}+", "1".repeat(62))).len(), 63);
    assert_eq!(kubernetes_version_label("v1+"), "v1");
}

async fn next_of(feed: &mut BoxStream<'static, ClusterChange>) -> ClusterChange {
    tokio::time::timeout(Duration::from_secs(20), feed.next()).await.unwrap().unwrap()
}

#[tokio::test]
async fn a_cluster_that_is_taken_out_has_left_and_is_still_reached() {
    let clusters = Clusters::new();
    clusters.update(vec![folder("a", "x"), folder("b", "x")]);
    let mut changes = clusters.subscribe().await.unwrap().changes;
    let mut withdrawals = clusters.withdrawals();
    clusters.withdrawn(&id("a"));
    assert!(withdrawals.next().now_or_never().is_none(), "it is not leaving");

    clusters.update_all(vec![folder("b", "x")], vec![folder("a", "x")]);
    assert_eq!(next_of(&mut changes).await, ClusterChange::Left(id("a")));
    assert!(matches!(clusters.route(&id("a")), Route::Directory));
    // Another engine, or the next one, is told too.
    let mut later = clusters.subscribe().await.unwrap();
    assert_eq!(later.snapshot.len(), 2);
    assert_eq!(next_of(&mut later.changes).await, ClusterChange::Left(id("a")));

    clusters.withdrawn(&id("a"));
    assert_eq!(withdrawals.next().await, Some(id("a")));
    clusters.update(vec![folder("b", "x")]);
    assert!(changes.next().now_or_never().is_none(), "it had left already");
    assert!(matches!(clusters.route(&id("a")), Route::Unknown));
    // One of the same name is another cluster.
    clusters.update_all(Vec::new(), vec![folder("b", "x")]);
    clusters.update(vec![folder("b", "x")]);
    assert_eq!(next_of(&mut changes).await, ClusterChange::Left(id("b")));
    assert!(matches!(next_of(&mut changes).await, ClusterChange::Joined(_)));
}

#[tokio::test]
async fn one_that_cannot_be_reached_leaves_once_it_can_unless_nothing_is_to_be_done_there() {
    let clusters = Clusters::new();
    let mut keeps = secret("keeps", Err("no Secret"));
    keeps.annotations.insert(fleet_core::cluster::LEAVE_ANNOTATION.to_owned(), "true".to_owned());
    clusters.update(vec![secret("a", Err("no Secret")), keeps.clone()]);
    let mut changes = clusters.subscribe().await.unwrap().changes;
    clusters.update_all(Vec::new(), vec![secret("a", Err("no Secret")), keeps]);
    assert_eq!(next_of(&mut changes).await, ClusterChange::Ready(id("keeps")));
    assert_eq!(next_of(&mut changes).await, ClusterChange::Left(id("keeps")));
    assert!(changes.next().now_or_never().is_none(), "what is in the other one cannot be withdrawn now");
    let incarnation = clusters.shared.lock().entries[&id("a")].incarnation;
    let well = Health { ready: true, version: None, reason: "Connected", message: String::new() };
    clusters.shared.report(&id("a"), incarnation, None, well);
    assert_eq!(next_of(&mut changes).await, ClusterChange::Ready(id("a")));
    assert_eq!(next_of(&mut changes).await, ClusterChange::Left(id("a")));
}

#[tokio::test]
async fn that_what_is_there_stays_is_heard_however_late_it_is_said() {
    let clusters = Clusters::new();
    clusters.update(vec![folder("a", "x"), folder("b", "x")]);
    let mut changes = clusters.subscribe().await.unwrap().changes;
    let keeping = |name| {
        let mut definition = folder(name, "x");
        definition.annotations.insert(fleet_core::cluster::LEAVE_ANNOTATION.to_owned(), "true".to_owned());
        definition
    };
    // The annotation and the deletion are seen at once: it is told before the cluster leaves.
    clusters.update_all(Vec::new(), vec![keeping("a"), folder("b", "x")]);
    assert!(matches!(next_of(&mut changes).await, ClusterChange::Relabelled(a) if a.keeps_resources()));
    assert_eq!(next_of(&mut changes).await, ClusterChange::Left(id("a")));
    assert_eq!(next_of(&mut changes).await, ClusterChange::Left(id("b")));
    // And of one that has left without it.
    clusters.update_all(Vec::new(), vec![keeping("a"), keeping("b")]);
    assert!(matches!(next_of(&mut changes).await, ClusterChange::Joined(b) if b.keeps_resources()));
    assert_eq!(next_of(&mut changes).await, ClusterChange::Left(id("b")));
    assert!(changes.next().now_or_never().is_none());
}

#[tokio::test]
async fn one_that_leaves_keeps_its_last_good_credentials() {
    let clusters = Clusters::new();
    let credentials = || match &clusters.shared.lock().entries[&id("a")].definition.connection {
        Connection::KubeconfigSecret { kubeconfig, .. } => kubeconfig.is_ok(),
        _ => false,
    };
    clusters.update(vec![secret("a", Ok("one"))]);
    clusters.update_all(Vec::new(), vec![secret("a", Err("Secret civo/a-kubeconfig does not exist"))]);
    assert!(credentials());
    clusters.update(vec![secret("a", Err("Secret civo/a-kubeconfig does not exist"))]);
    assert!(!credentials(), "another cluster of that name");
}
