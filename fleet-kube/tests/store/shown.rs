//! What people see with kubectl.

use std::sync::Arc;

use fleet_core::store::WorkStore;
use fleet_core::work::{AppliedState, Intent, Work};
use local_fleet::{Program, Progress, Route, User, install};

use crate::rig::*;

async fn kubectl(rig: &Rig, arguments: &[&str]) -> String {
    let program = install::find(Program::Kubectl, &Progress::default()).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("kubeconfig");
    std::fs::write(&config, rig.lab.kubeconfig(User::Admin, Route::Direct)).unwrap();
    let output = tokio::process::Command::new(program)
        .args(arguments)
        .env("KUBECONFIG", &config)
        .env("HOME", folder.path())
        .output()
        .await
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The words of a line.
fn words(line: Option<&str>) -> Vec<&str> {
    line.unwrap_or_default().split_whitespace().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn works_are_shown_with_what_became_of_them() {
    let rig = Rig::new().await;
    let store = rig.open().await;
    let good = work("mgianluc", 1);
    store.put_work(Arc::clone(&good), None, vec![plan(&good, "c1")]).await.unwrap();
    let planned = store.applied_in(&good.id, &cluster("c1")).await.unwrap().unwrap();
    store.put_applied(applied(&good, "c1", AppliedState::Applied), Some(planned.revision)).await.unwrap();
    rig.until_status(&good, |status| status["applied"] == 1).await;
    // A second after the plan, when it was applied: little was written for what was passed through.
    assert!(rig.requests("PATCH", "works/status").await <= 2);

    let table = kubectl(&rig, &["get", "works", "-n", "fleet"]).await;
    let mut lines = table.lines();
    assert_eq!(
        words(lines.next()),
        ["NAME", "TRIGGER", "SUBJECT", "INTENT", "CLUSTERS", "APPLIED", "READY", "REASON", "AGE"]
    );
    let row = words(lines.next());
    assert_eq!(
        row[..8],
        [good.id.as_str(), "manage-namespace", "mgianluc", "Create", "1", "1", "True", "Applied"]
    );
    let table = kubectl(&rig, &["get", "appliedworks", "-A"]).await;
    let mut lines = table.lines();
    assert_eq!(
        words(lines.next()),
        ["NAMESPACE", "NAME", "WORK", "CLUSTER", "FOR", "PHASE", "REASON", "HEALTH", "UPDATED", "AGE"]
    );
    let row = words(lines.next());
    let name = format!("{}.c1", good.id);
    assert_eq!(row[..5], ["civo", name.as_str(), good.id.as_str(), "civo/c1", "Applied"]);
    let of_work = format!("spec.work={}", good.id);
    assert!(kubectl(&rig, &["get", "awk", "-A", "--field-selector", &of_work]).await.contains(&name));
    let work = format!("work/{}", good.id);
    kubectl(&rig, &["wait", "-n", "fleet", "--for=condition=Ready", &work, "--timeout=5s"]).await;
    assert!(kubectl(&rig, &["get", "fleet-events", "-A"]).await.contains(good.id.as_str()));
    let explained = kubectl(&rig, &["explain", "work.spec.positions"]).await;
    assert!(explained.contains("highest position seen in each domain"), "{explained}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_names_twenty_failing_clusters_and_counts_all() {
    let rig = Rig::new().await;
    let store = rig.open().await;
    let bad = work("bad", 1);
    let revision = store.put_work(Arc::clone(&bad), None, vec![]).await.unwrap();
    let stalled = AppliedState::Stalled { reason: "Conflict".to_owned(), message: "not ours".to_owned() };
    for number in 0..25 {
        let name = format!("c{number:02}");
        store.put_applied(applied(&bad, &name, stalled.clone()), None).await.unwrap();
    }
    store.put_applied(applied(&bad, "good", AppliedState::Applied), None).await.unwrap();
    let retrying = AppliedState::Retrying { reason: "no answer from it".to_owned() };
    store.put_applied(applied(&bad, "late", retrying), None).await.unwrap();
    let object = rig.until_status(&bad, |status| status["failed"] == 26).await;
    let status = &object["status"];
    assert_eq!((&status["clusters"], &status["applied"]), (&27.into(), &1.into()));
    assert_eq!(status["failing"].as_array().unwrap().len(), 20);
    assert_eq!(status["failing"][0]["cluster"], "civo/c00");
    assert_eq!(status["observedGeneration"], object["metadata"]["generation"]);
    let conditions = status["conditions"].as_array().unwrap();
    let conditions: Vec<_> =
        conditions.iter().map(|it| (&it["type"], &it["status"], &it["reason"])).collect();
    assert_eq!(
        conditions,
        [
            (&"Ready".into(), &"False".into(), &"Conflict".into()),
            (&"Stalled".into(), &"True".into(), &"Conflict".into())
        ]
    );
    let late = kubectl(
        &rig,
        &["get", "awk", "-n", "civo", "-o", "wide", "--field-selector", "spec.cluster=civo/late"],
    );
    assert!(late.await.contains("no answer from it"));

    // It mends, is to be gone, and is gone: what a status does not name any more goes.
    for stored in store.applied(&bad.id).await.unwrap() {
        let cluster = stored.value.cluster.clone();
        store.delete_applied(&bad.id, &cluster, stored.revision).await.unwrap();
    }
    let tombstone = Work { intent: Intent::Delete, generation: 2, ..(*bad).clone() };
    let revision = store.put_work(Arc::new(tombstone), Some(revision), vec![]).await.unwrap();
    let object = rig.until_status(&bad, |status| status["conditions"][0]["reason"] == "Removed").await;
    assert_eq!(object["status"]["failing"], serde_json::Value::Null);
    store.delete_work(&bad.id, revision).await.unwrap();

    // The next handle finds what the last one did not come to.
    let left = work("left", 1);
    store.put_work(Arc::clone(&left), None, vec![]).await.unwrap();
    drop(store);
    assert_eq!(rig.object(&left).await["status"], serde_json::Value::Null);
    let _store = rig.open().await;
    rig.until_status(&left, |status| status["conditions"][0]["reason"] == "NoClusters").await;
}
