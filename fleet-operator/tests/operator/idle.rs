//! What an operator asks of a cluster in which nothing happens.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use local_fleet::{ClusterOptions, Lab, Program, Progress, install};
use serde_json::{Value, json};

use crate::process::{Home, event, eventually};

/// Kinds, and how the API server calls them where it counts.
const KINDS: &[(&str, &str, &str)] = &[
    ("v1", "Namespace", "namespaces"),
    ("v1", "ConfigMap", "configmaps"),
    ("v1", "Secret", "secrets"),
    ("v1", "Service", "services"),
    ("v1", "ServiceAccount", "serviceaccounts"),
    ("v1", "LimitRange", "limitranges"),
    ("v1", "ResourceQuota", "resourcequotas"),
    ("apps/v1", "Deployment", "deployments"),
    ("apps/v1", "StatefulSet", "statefulsets"),
    ("batch/v1", "CronJob", "cronjobs"),
    ("rbac.authorization.k8s.io/v1", "Role", "roles"),
    ("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies"),
    ("networking.k8s.io/v1", "Ingress", "ingresses"),
    ("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets"),
];
const USERS: usize = 3;

struct Server {
    // Dropped before the runtime that looks after its processes.
    lab: Lab,
    kubectl: PathBuf,
    kubeconfig: PathBuf,
    _runtime: tokio::runtime::Runtime,
}

impl Server {
    fn start(home: &Home) -> Self {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let options = ClusterOptions::default().controller_manager(false);
        let builder = Lab::builder().clusters(1).cluster_options(options);
        let lab = runtime.block_on(builder.start_scratch()).unwrap();
        let kubectl = runtime.block_on(install::find(Program::Kubectl, &Progress::default())).unwrap();
        std::fs::create_dir(home.folder()).unwrap();
        let kubeconfig = home.folder().join("cluster1.kubeconfig");
        std::fs::write(&kubeconfig, lab.clusters()[0].kubeconfig().unwrap()).unwrap();
        Self { lab, kubectl, kubeconfig, _runtime: runtime }
    }

    fn get(&self, args: &[&str]) -> String {
        let output =
            Command::new(&self.kubectl).arg("get").args(args).env("KUBECONFIG", &self.kubeconfig).output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    }

    /// A metric's values, of the lines that hold a text, by resource.
    fn counts(&self, metric: &str, with: &str) -> BTreeMap<String, f64> {
        let mut counts = BTreeMap::new();
        let metrics = self.get(&["--raw", "/metrics"]);
        for line in metrics.lines().filter(|line| line.starts_with(metric) && line.contains(with)) {
            let resource = line.split("resource=\"").nth(1).and_then(|rest| rest.split('"').next());
            let value = line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok());
            *counts.entry(resource.unwrap_or_default().to_owned()).or_default() += value.unwrap();
        }
        counts
    }

    /// Open watches.
    fn watches(&self) -> BTreeMap<String, f64> {
        self.counts("apiserver_longrunning_requests{", "verb=\"WATCH\"")
    }

    /// Requests so far, without watches.
    fn requests(&self) -> BTreeMap<String, f64> {
        let of = |with: &str| self.counts("apiserver_request_total{", with);
        let (mut all, watches) = (of("resource="), of("verb=\"WATCH\""));
        for (resource, count) in &mut all {
            *count -= watches.get(resource).copied().unwrap_or_default();
        }
        all
    }
}

fn object(api_version: &str, kind: &str) -> Value {
    let labels = json!({"app": "a"});
    let pod = json!({"metadata": {"labels": labels}, "spec": {"restartPolicy": "Always",
        "containers": [{"name": "a", "image": "example.com/a"}]}});
    let selector = json!({"matchLabels": labels});
    let spec = match kind {
        "Service" => json!({"ports": [{"port": 80}]}),
        "LimitRange" => json!({"limits": [{"type": "Pod", "max": {"cpu": "2"}}]}),
        "ResourceQuota" => json!({"hard": {"pods": "10"}}),
        "Deployment" => json!({"selector": selector, "template": pod}),
        "StatefulSet" => json!({"selector": selector, "template": pod, "serviceName": "a"}),
        "CronJob" => {
            let mut pod = pod;
            pod["spec"]["restartPolicy"] = json!("Never");
            json!({"schedule": "0 0 1 1 *", "jobTemplate": {"spec": {"template": pod}}})
        }
        "NetworkPolicy" => json!({"podSelector": {}}),
        "Ingress" => json!({"defaultBackend": {"service": {"name": "a", "port": {"number": 80}}}}),
        "PodDisruptionBudget" => json!({"maxUnavailable": 1, "selector": selector}),
        _ => Value::Null,
    };
    let metadata = match kind {
        "Namespace" => json!({"name": "{{ event.subject }}"}),
        _ => json!({"name": "a", "namespace": "{{ event.subject }}"}),
    };
    let mut object = json!({"apiVersion": api_version, "kind": kind, "metadata": metadata});
    if !spec.is_null() {
        object["spec"] = spec;
    }
    object
}

fn define(home: &Home) {
    let documents = KINDS.iter().map(|(api_version, kind, _)| object(api_version, kind).to_string());
    let template = documents.collect::<Vec<_>>().join("\n---\n");
    let kind = |kind: &str, metadata: Value, spec: Value| json!({"apiVersion": "fleet-events.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec});
    let definitions = [
        kind(
            "Cluster",
            json!({"namespace": "civo", "name": "cluster1", "labels": {"env": "production"}}),
            json!({"kubeconfigFile": "cluster1.kubeconfig"}),
        ),
        kind("EventSource", json!({"name": "users"}), json!({"http": {}})),
        kind(
            "EventTrigger",
            json!({"name": "all"}),
            json!({"eventSourceName": "users", "oneForEvent": true, "syncMode": "ContinuousWithDriftDetection",
                "sourceClusterSelector": {"matchLabels": {"env": "production"}},
                "policyRefs": [{"kind": "ConfigMap", "namespace": "default", "name": "all"}]}),
        ),
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": "default", "name": "all",
            "annotations": {"fleet-events.dev/template": "true"}}, "data": {"all.yaml": template}}),
    ];
    for (number, definition) in definitions.iter().enumerate() {
        home.write(&format!("{number}.yaml"), &definition.to_string());
    }
}

#[test]
fn each_kind_is_watched_once_and_nothing_is_asked_while_nothing_happens() {
    let home = Home::new();
    let server = Server::start(&home);
    define(&home);
    let before = server.watches();
    let operator = home.start();
    for user in 0..USERS {
        operator.accepts(&event("login", &format!("user-{user}")));
    }
    let state = || home.show("addons").iter().map(|row| row["state"].to_string()).collect::<Vec<_>>();
    eventually(&format!("all is applied: {:?}\n{}", state(), home.log()), || {
        let states = state();
        (states.len() == USERS * KINDS.len() && states.iter().all(|state| state == "\"Applied\""))
            .then_some(())
    });
    let mut opened = BTreeMap::new();
    eventually("each kind is watched", || {
        let now = server.watches();
        let of = |counts: &BTreeMap<String, f64>, kind: &str| counts.get(kind).copied().unwrap_or_default();
        opened = KINDS.iter().map(|(_, _, kind)| (*kind, of(&now, kind) - of(&before, kind))).collect();
        opened.values().all(|watches| *watches >= 1.0).then_some(())
    });
    assert!(opened.values().all(|watches| *watches == 1.0), "{opened:?}");

    let asked = server.requests();
    sleep(Duration::from_secs(60));
    let now = server.requests();
    let is_of_a_kind = |resource: &str| KINDS.iter().any(|(_, _, kind)| *kind == resource);
    let more: BTreeMap<_, _> = now
        .iter()
        .map(|(resource, count)| (resource, count - asked.get(resource).copied().unwrap_or_default()))
        .filter(|(resource, more)| *more > 0.0 && is_of_a_kind(resource))
        .collect();
    assert!(more.is_empty(), "requests in an idle minute: {more:?}\n{}", home.log());
    assert!(operator.stop().success());
    drop(server.lab);
}
