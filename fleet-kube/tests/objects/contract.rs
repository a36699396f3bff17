//! Objects of a real API server as a source keep the contract.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use fleet_core::cluster::ClusterId;
use fleet_core::event::Event;
use fleet_core::manifest::Gvk;
use fleet_core::selector::LabelSelector;
use fleet_core::source::EventSource;
use fleet_core::testing::conformance::event_source::{Abilities, Fixture};
use fleet_core::testing::conformance::{NotChecked, event_source};
use fleet_kube::clusters::Clusters;
use fleet_kube::connection::{ClusterDefinition, Connection};
use fleet_kube::objects::{KindWatches, ObjectSource, Selection, Selector};
use local_fleet::{Proxy, Route, User};
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::lab::*;

/// A kind whose objects are in no namespace: what an event is about is a name. It is one fixture's at a time, for the names
/// are the suite's.
#[derive(Clone, Copy)]
struct Kind {
    group: &'static str,
    kind: &'static str,
    plural: &'static str,
    content: fn() -> Value,
}

impl Kind {
    fn path(&self) -> String {
        format!("/apis/{}/v1/{}", self.group, self.plural)
    }
}

static FREE: Mutex<Vec<Kind>> = Mutex::new(Vec::new());
static COUNT: Semaphore = Semaphore::const_new(KINDS.len());
const KINDS: [Kind; 4] = [
    Kind {
        group: "networking.k8s.io",
        kind: "IngressClass",
        plural: "ingressclasses",
        content: || json!({"spec": {"controller": "example.com/none"}}),
    },
    Kind {
        group: "node.k8s.io",
        kind: "RuntimeClass",
        plural: "runtimeclasses",
        content: || json!({"handler": "none"}),
    },
    Kind {
        group: "storage.k8s.io",
        kind: "StorageClass",
        plural: "storageclasses",
        content: || json!({"provisioner": "example.com/none"}),
    },
    Kind {
        group: "storage.k8s.io",
        kind: "CSIDriver",
        plural: "csidrivers",
        content: || json!({"spec": {}}),
    },
];

struct Objects {
    kind: Kind,
    label: String,
    /// The network of this one alone.
    proxy: Proxy,
    clusters: Arc<Clusters>,
    cluster: ClusterId,
    admin: Other,
    _lab: Arc<Lab>,
    _permit: SemaphorePermit<'static>,
}

impl Objects {
    async fn new() -> Self {
        static USES: AtomicUsize = AtomicUsize::new(0);
        let permit = COUNT.acquire().await.unwrap();
        let number = USES.fetch_add(1, Ordering::Relaxed);
        let kind = match KINDS.get(number) {
            Some(kind) => *kind,
            None => FREE.lock().unwrap().pop().unwrap(),
        };
        let lab = Lab::shared().await;
        let (admin, proxy) = (lab.admin().await, lab.proxy().await);
        // What the one before has left.
        let left = format!("{}?labelSelector=kit", kind.path());
        admin.send("DELETE", &left, None).await.unwrap();
        let clusters = Arc::new(Clusters::with_pace(pace()));
        let definition = lab.definition(User::Admin, Route::Direct);
        let cluster = definition.id.clone();
        let connection = Connection::KubeconfigSecret {
            name: "Secret civo/one-kubeconfig, key kubeconfig".to_owned(),
            kubeconfig: Ok(SecretString::from(lab.kubeconfig_over(&proxy))),
        };
        clusters.update(vec![ClusterDefinition { connection, ..definition }]);
        until_health(&clusters, true).await;
        let label = format!("k{number}");
        Self { kind, label, proxy, clusters, cluster, admin, _lab: lab, _permit: permit }
    }
}

impl Drop for Objects {
    fn drop(&mut self) {
        FREE.lock().unwrap().push(self.kind);
    }
}

impl Fixture for Objects {
    async fn source(&self) -> Arc<dyn EventSource> {
        let selector = Selector {
            kind: Gvk { group: self.kind.group.into(), version: "v1".into(), kind: self.kind.kind.into() },
            namespace: None,
            name: None,
            labels: LabelSelector::labels([("kit", self.label.as_str())]).unwrap(),
            rules: Vec::new(),
        };
        let selection = Arc::new(Selection { selectors: vec![selector], content: false });
        let watches = Arc::new(KindWatches::new(Arc::clone(&self.clusters)));
        Arc::new(ObjectSource::new("objects", self.cluster.clone(), selection, watches))
    }

    async fn publish(&self, subject: &str) {
        let mut object = (self.kind.content)();
        object["apiVersion"] = json!(format!("{}/v1", self.kind.group));
        object["kind"] = json!(self.kind.kind);
        object["metadata"] = json!({"name": subject, "labels": {"kit": self.label}});
        self.admin.send("POST", &self.kind.path(), Some(&object)).await.unwrap();
    }

    async fn publish_event(&self, _event: &Event) -> Result<(), NotChecked> {
        Err(NotChecked::because("its events are made of objects"))
    }

    async fn publish_garbage(&self, _garbage: &[u8]) -> Result<(), NotChecked> {
        Err(NotChecked::because("an API server keeps nothing but objects"))
    }

    async fn break_off(&self) -> Result<(), NotChecked> {
        self.proxy.cut();
        Ok(())
    }

    async fn mend(&self) {
        self.proxy.heal();
    }

    fn abilities(&self) -> Abilities {
        let states =
            NotChecked::because("what was not taken is told again with all that is live, as it is then");
        Abilities {
            redelivers: Err(states.clone()),
            status: Ok(()),
            floors: Err(NotChecked::because("states have no positions")),
            reopens: Ok(()),
            bound: Err(states),
        }
    }

    async fn live(&self) -> Result<BTreeSet<(String, String)>, NotChecked> {
        let path = self.kind.path();
        let list = self.admin.get(&format!("{path}?labelSelector=kit%3D{}", self.label)).await.unwrap();
        let names = list["items"].as_array().unwrap().iter();
        let names = names.map(|item| item["metadata"]["name"].as_str().unwrap().to_owned());
        Ok(names.map(|name| (path.clone(), name)).collect())
    }
}

event_source!(objects, Objects::new().await);
