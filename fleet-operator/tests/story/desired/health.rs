//! How what was applied is doing, and what waits for that.

use serde_json::{Value, json};

use super::{Fleet, config_map, path};
use crate::process::event;
use crate::stage::cluster;

const DEPLOYMENT: &str = "/apis/apps/v1/namespaces/default/deployments/health";

fn deployment() -> Value {
    let labels = json!({"app": "health"});
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"namespace": "default", "name": "health"},
        "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels},
            "spec": {"containers": [{"name": "main", "image": "example.com/health"}]}}}})
}

/// No controller runs here that would say it.
fn says(replicas: u32, progressing: &str, reason: &str) {
    let generation = cluster(1).get(DEPLOYMENT).unwrap()["metadata"]["generation"].clone();
    let status = json!({"observedGeneration": generation, "replicas": replicas, "updatedReplicas": replicas,
        "readyReplicas": replicas, "availableReplicas": replicas,
        "conditions": [{"type": "Progressing", "status": progressing, "reason": reason, "message": "so it is"},
            {"type": "Available", "status": if replicas > 0 { "True" } else { "False" }}]});
    cluster(1).patch(&format!("{DEPLOYMENT}/status"), &json!({"status": status}));
}

#[test]
fn health_is_told_and_what_depends_on_it_waits() {
    let fleet = Fleet::new(1);
    let check = json!({"name": "approved", "rule": "\"approved\" in object.metadata.labels"});
    let of = json!({"name": "approved", "group": "apps", "version": "v1", "kind": "Deployment", "evaluateCEL": [check]});
    fleet.trigger("health", json!({"validateHealths": [of]}));
    fleet.template("health", &[deployment()]);
    fleet.trigger("after-health", json!({"dependsOn": ["health"]}));
    fleet.template("after-health", &[config_map("after-health", &json!({}))]);
    let operator = fleet.start();
    operator.accepts(&event("login", "alice"));
    fleet.has(1, DEPLOYMENT, |_| true);
    let is = |status: &str, message: &str| {
        fleet.shows("health", |rows| {
            let health = &rows[0]["health"];
            health["status"] == status && health["message"].as_str().unwrap_or_default().contains(message)
        });
    };
    is("Progressing", "");
    let waiting = fleet.is("after-health", "Waiting");
    let message = waiting[0]["message"].to_string();
    assert!(message.contains("waits until health is ready in civo/cluster1"), "{message}");
    says(0, "False", "ProgressDeadlineExceeded");
    is("Failed", "");
    says(1, "True", "NewReplicaSetAvailable");
    is("Progressing", "check approved");
    assert_eq!(cluster(1).get(&path("after-health")), None);

    cluster(1).patch(DEPLOYMENT, &json!({"metadata": {"labels": {"approved": "yes"}}}));
    is("Ready", "");
    fleet.has(1, &path("after-health"), |_| true);
    fleet.is("after-health", "Applied");
    // What was applied stays, however it goes on.
    says(0, "False", "ProgressDeadlineExceeded");
    is("Failed", "");
    assert!(cluster(1).get(&path("after-health")).is_some());
    operator.accepts(&event("logout", "alice"));
    fleet.ends("health");
    fleet.ends("after-health");
    assert_eq!((cluster(1).get(DEPLOYMENT), cluster(1).get(&path("after-health"))), (None, None));
}
