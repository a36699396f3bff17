//! A management cluster for tests: what users do with `kubectl`, and what they see.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "these are tests")]

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use fleet_kube::api::{Cluster, EventSource, EventTrigger};
use fleet_kube::definitions::Definitions;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config, ResourceExt};
use local_fleet::{ClusterOptions, Lab, Route, User};
use serde_json::{Value, json};
use tokio::sync::watch;

/// How long anything may take before a test gives up.
pub const SOON: Duration = Duration::from_secs(30);

pub struct Management {
    pub lab: Lab,
    pub client: Client,
}

impl Management {
    pub async fn start() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let options = ClusterOptions::default().controller_manager(false);
        let lab = Lab::builder()
            .clusters(0)
            .management(true)
            .cluster_options(options)
            .start_scratch()
            .await
            .unwrap();
        let client = Client::try_from(config(&lab, Route::Direct).await).unwrap();
        Self { lab, client }
    }

    pub async fn install(&self) {
        for crd in fleet_kube::api::crds() {
            let api: Api<CustomResourceDefinition> = Api::all(self.client.clone());
            api.patch(&crd.name_any(), &apply(), &Patch::Apply(&crd)).await.unwrap();
            let established = kube::runtime::conditions::is_crd_established();
            let name = crd.name_any();
            let wait = kube::runtime::wait::await_condition(api, &name, established);
            tokio::time::timeout(SOON, wait).await.unwrap().unwrap();
        }
    }

    pub async fn apply(&self, object: Value) {
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        self.api(&object).patch(&name, &apply(), &Patch::Apply(&object)).await.unwrap();
    }

    pub async fn delete(&self, object: Value) {
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        self.api(&object).delete(&name, &DeleteParams::default()).await.unwrap();
    }

    pub fn api(&self, object: &Value) -> Api<DynamicObject> {
        let resource = match object["kind"].as_str().unwrap() {
            "Cluster" => ApiResource::erase::<Cluster>(&()),
            "EventSource" => ApiResource::erase::<EventSource>(&()),
            "EventTrigger" => ApiResource::erase::<EventTrigger>(&()),
            kind => ApiResource::from_gvk(&kube::api::GroupVersionKind::gvk("", "v1", kind)),
        };
        match object["metadata"]["namespace"].as_str() {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &resource),
            None => Api::all_with(self.client.clone(), &resource),
        }
    }
}

pub async fn config(lab: &Lab, route: Route) -> Config {
    let kubeconfig = lab.management().unwrap().kubeconfig_for(User::Admin, route).unwrap();
    let kubeconfig = Kubeconfig::from_yaml(&kubeconfig).unwrap();
    Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap()
}

pub fn apply() -> PatchParams {
    PatchParams::apply("kubectl").force()
}

pub fn source() -> Value {
    json!({"apiVersion": "fleet-events.dev/v1alpha1", "kind": "EventSource", "metadata": {"name": "user-operation"},
        "spec": {"http": {}}})
}

pub fn trigger(name: &str) -> Value {
    json!({"apiVersion": "fleet-events.dev/v1alpha1", "kind": "EventTrigger", "metadata": {"name": name},
        "spec": {"eventSourceName": "user-operation", "oneForEvent": true,
            "sourceClusterSelector": {"matchLabels": {"env": "production"}},
            "policyRefs": [{"kind": "ConfigMap", "namespace": "default", "name": "namespace"}]}})
}

pub fn template(text: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "namespace", "namespace": "default",
        "annotations": {"fleet-events.dev/template": "true"}}, "data": {"namespace.yaml": text}})
}

/// Waits until what is watched is as it should be.
pub async fn until<T: Clone + Debug + Send + Sync>(
    receiver: &mut watch::Receiver<T>,
    what: &str,
    holds: impl Fn(&T) -> bool,
) -> T {
    let found = tokio::time::timeout(SOON, receiver.wait_for(|value| holds(value))).await;
    if let Ok(value) = found {
        return value.unwrap().clone();
    }
    drop(found);
    panic!("not {what}: {:?}", receiver.borrow())
}

pub async fn defined(
    receiver: &mut watch::Receiver<Option<Arc<Definitions>>>,
    what: &str,
    holds: impl Fn(&Definitions) -> bool,
) -> Arc<Definitions> {
    until(receiver, what, |read| read.as_ref().is_some_and(|read| holds(read))).await.unwrap()
}

/// Waits until an object is as it should be, as `kubectl wait` does.
pub async fn shown(
    management: &Management,
    object: &Value,
    what: &str,
    holds: impl Fn(&Value) -> bool,
) -> Value {
    let name = object["metadata"]["name"].as_str().unwrap();
    let api = management.api(object);
    let mut last = Value::Null;
    let wait = async {
        loop {
            last = serde_json::to_value(api.get(name).await.unwrap()).unwrap();
            if holds(&last) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let found = tokio::time::timeout(SOON, wait).await;
    assert!(found.is_ok(), "not {what}: {last:#}");
    last
}

pub fn condition<'a>(object: &'a Value, name: &str) -> Option<&'a Value> {
    object["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == name)
}

pub fn is(object: &Value, name: &str, status: &str) -> bool {
    condition(object, name).is_some_and(|condition| condition["status"] == status)
}
