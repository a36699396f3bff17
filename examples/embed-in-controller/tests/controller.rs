//! A controller with the engine in it, on a real API server that is management and managed cluster at once.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that meets the unexpected says so and stops"
)]

use std::time::Duration;

use embed_in_controller::run;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use k8s_openapi::api::rbac::v1::ClusterRoleBinding;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::conditions::is_crd_established;
use kube::runtime::wait::await_condition;
use kube::{Client, Config, ResourceExt};
use local_fleet::{ClusterOptions, Lab, Route, User};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

const SOON: Duration = Duration::from_secs(30);

/// As `kubectl apply --server-side`.
async fn apply(client: &Client, object: Value) {
    let kind = object["kind"].as_str().unwrap();
    let (group, version) = match object["apiVersion"].as_str().unwrap() {
        "v1" => ("", "v1"),
        other => other.split_once('/').unwrap(),
    };
    let resource = ApiResource::from_gvk(&kube::api::GroupVersionKind::gvk(group, version, kind));
    let api: Api<DynamicObject> = match object["metadata"]["namespace"].as_str() {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    let name = object["metadata"]["name"].as_str().unwrap();
    api.patch(name, &PatchParams::apply("somebody").force(), &Patch::Apply(&object)).await.unwrap();
}

async fn install(client: &Client) {
    for crd in fleet_kube::api::crds() {
        let api: Api<CustomResourceDefinition> = Api::all(client.clone());
        let name = crd.name_any();
        api.patch(&name, &PatchParams::apply("somebody"), &Patch::Apply(&crd)).await.unwrap();
        timeout(SOON, await_condition(api, &name, is_crd_established())).await.unwrap().unwrap();
    }
}

fn team(name: &str, data: &Value) -> Value {
    let labels = json!({"example.dev/team": ""});
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": "default", "name": name, "labels": labels}, "data": data})
}

async fn until<F: Future<Output = bool>>(what: &str, holds: impl Fn() -> F) {
    let reached = async {
        while !holds().await {
            sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(timeout(SOON, reached).await.is_ok(), "never: {what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_hosts_the_engine_and_its_policy_holds() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let options = ClusterOptions::default().controller_manager(false);
    let lab =
        Lab::builder().clusters(0).management(true).cluster_options(options).start_scratch().await.unwrap();
    let kubeconfig = lab.management().unwrap().kubeconfig_for(User::Admin, Route::Direct).unwrap();
    let options = KubeConfigOptions::default();
    let config = Config::from_custom_kubeconfig(Kubeconfig::from_yaml(&kubeconfig).unwrap(), &options);
    let client = Client::try_from(config.await.unwrap()).unwrap();
    install(&client).await;
    apply(&client, json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "prod"}})).await;
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"namespace": "prod", "name": "one"},
        "stringData": {"kubeconfig": kubeconfig}});
    apply(&client, secret).await;
    let cluster = json!({"apiVersion": "fleet-events.dev/v1alpha1", "kind": "Cluster",
        "metadata": {"namespace": "prod", "name": "one", "labels": {"env": "production"}},
        "spec": {"kubeconfigSecretRef": {"name": "one", "key": "kubeconfig"}}});
    apply(&client, cluster).await;
    let definitions: Vec<Value> = serde_saphyr::from_multiple(include_str!("../definitions.yaml")).unwrap();
    for definition in definitions {
        apply(&client, definition).await;
    }

    let folder = tempfile::tempdir().unwrap();
    let mut registry = Registry::default();
    let stop = CancellationToken::new();
    let works = folder.path().join("works.redb");
    let running = tokio::spawn(run(client.clone(), &works, &mut registry, stop.clone()).unwrap());

    let namespaces: Api<Namespace> = Api::all(client.clone());
    let is_there = async |name: &str| namespaces.get_opt(name).await.unwrap().is_some();
    apply(&client, team("blue", &json!({}))).await;
    until("the team has its namespace", || is_there("team-blue")).await;

    // What the policy refuses is not there, what it allows is, and the trigger says why.
    apply(&client, team("red", &json!({"admin": "rosa"}))).await;
    until("the team has its namespace", || is_there("team-red")).await;
    let triggers: Api<fleet_kube::api::EventTrigger> = Api::all(client.clone());
    let told = async || {
        let trigger = serde_json::to_value(triggers.get("teams").await.unwrap()).unwrap();
        trigger["status"]["conditions"].to_string().contains("nobody gets rights in a whole cluster")
    };
    until("the trigger tells what was refused", told).await;
    let bindings: Api<ClusterRoleBinding> = Api::all(client.clone());
    assert!(bindings.get_opt("team-red").await.unwrap().is_none());

    // A team that goes is held until the engine has stored that; what it had is taken away.
    let teams: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
    teams.delete("blue", &DeleteParams::default()).await.unwrap();
    until("the team is gone", async || teams.get_opt("blue").await.unwrap().is_none()).await;
    let leaving = async || {
        let namespace = namespaces.get_opt("team-blue").await.unwrap();
        namespace.is_none_or(|it| it.metadata.deletion_timestamp.is_some())
    };
    until("its namespace goes", leaving).await;

    let mut shown = String::new();
    encode(&mut shown, &registry).unwrap();
    for metric in ["teams_reconciled_total", "fleet_events_stored_total", "fleet_works_stalled_total"] {
        let line = shown.lines().find(|line| line.starts_with(metric)).unwrap_or_else(|| panic!("{shown}"));
        assert!(!line.ends_with(" 0"), "{line}");
    }
    stop.cancel();
    timeout(SOON, running).await.unwrap().unwrap();
}
