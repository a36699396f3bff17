//! The Applier for real clusters keeps the contract, on a real API server.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use fleet_core::apply::Applier;
use fleet_core::cluster::Cluster;
use fleet_core::manifest::{Manifest, ObjectRef};
use fleet_core::testing::conformance::{NotChecked, applier};
use fleet_kube::applier::KubeApplier;
use fleet_kube::clusters::Clusters;
use fleet_kube::connection::{ClusterDefinition, Connection};
use local_fleet::{Network, Proxy, Route, User};
use secrecy::SecretString;
use serde_json::{Value, json};

use crate::lab::*;

struct Kube {
    /// The network of this one alone.
    proxy: Proxy,
    clusters: Arc<Clusters>,
    target: Arc<Cluster>,
    admin: Other,
    lived_in: String,
    _lab: Arc<Lab>,
}

impl Kube {
    async fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let lab = Lab::shared().await;
        let proxy = lab.proxy().await;
        let clusters = Arc::new(Clusters::with_pace(pace()));
        let definition = lab.definition(User::Admin, Route::Direct);
        let target = Arc::new(Cluster::new(definition.id.clone(), definition.labels.clone()));
        let connection = Connection::KubeconfigSecret {
            name: "Secret civo/one-kubeconfig, key kubeconfig".to_owned(),
            kubeconfig: Ok(SecretString::from(lab.kubeconfig_over(&proxy))),
        };
        clusters.update(vec![ClusterDefinition { connection, ..definition }]);
        until_health(&clusters, true).await;
        let lived_in = format!("kit-lived-in-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        Self { proxy, clusters, target, admin: lab.admin().await, lived_in, _lab: lab }
    }
}

/// Where those kinds of objects are that the suite is given.
fn path(object: &ObjectRef) -> String {
    match &object.namespace {
        Some(namespace) => format!("/api/v1/namespaces/{namespace}/configmaps/{}", object.name),
        None => format!("/api/v1/namespaces/{}", object.name),
    }
}

impl applier::Fixture for Kube {
    async fn applier(&self) -> Arc<dyn Applier> {
        let applier = KubeApplier::new(Arc::clone(&self.clusters));
        Arc::new(applier.protecting([self.lived_in.clone()]))
    }

    fn cluster(&self) -> Arc<Cluster> {
        Arc::clone(&self.target)
    }

    fn refused(&self, name: &str) -> Result<Value, NotChecked> {
        Ok(self.object(name, &[("this is no key", "")]))
    }

    fn in_order(&self, name: &str) -> Result<[Value; 2], NotChecked> {
        let mut within = self.object(name, &[]);
        within["metadata"]["namespace"] = json!(name);
        Ok([namespace(name), within])
    }

    fn lived_in(&self) -> Result<Value, NotChecked> {
        Ok(namespace(&self.lived_in))
    }

    async fn read(&self, object: &ObjectRef) -> Option<Value> {
        self.admin.get(&path(object)).await
    }

    async fn put(&self, object: &Value) {
        let mut object = object.clone();
        let written = |field: &String, _: &mut Value| {
            matches!(field.as_str(), "name" | "namespace" | "labels" | "annotations")
        };
        object["metadata"].as_object_mut().unwrap().retain(written);
        let path = path(Manifest::new(object.clone()).unwrap().id());
        let (folder, _) = path.rsplit_once('/').unwrap();
        match self.admin.send("POST", folder, Some(&object)).await {
            Err(409) => drop(self.admin.send("PUT", &path, Some(&object)).await.unwrap()),
            made => drop(made.unwrap()),
        }
    }

    async fn delete(&self, object: &ObjectRef) {
        self.admin.send("DELETE", &path(object), None).await.unwrap();
        self.admin.until_gone(&path(object)).await;
    }

    async fn hold(&self, object: &ObjectRef) -> Result<(), NotChecked> {
        let held = json!({"metadata": {"finalizers": ["example.com/kit"]}});
        self.admin.send("PATCH", &path(object), Some(&held)).await.unwrap();
        self.admin.send("DELETE", &path(object), None).await.unwrap();
        Ok(())
    }

    async fn let_go(&self, object: &ObjectRef) {
        let free = json!({"metadata": {"finalizers": null}});
        self.admin.send("PATCH", &path(object), Some(&free)).await.unwrap();
    }

    async fn break_off(&self) -> Result<(), NotChecked> {
        self.proxy.set(Network::Silent);
        Ok(())
    }

    async fn mend(&self) {
        self.proxy.heal();
    }

    fn abilities(&self) -> applier::Abilities {
        applier::Abilities::all()
    }
}

applier!(on_an_api_server, Kube::new().await);
