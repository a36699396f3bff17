//! Real clusters for tests, and the short words to speak with them.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part")]

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use fleet_core::apply::{
    Applier, ApplyRequest, Identity, InventoryItem, Mode, Outcome, Placed, RemoveRequest,
};
use fleet_core::cluster::{Cluster, ClusterId, Labels};
use fleet_core::manifest::Manifest;
use fleet_core::work::{EventKey, WorkId};
use fleet_kube::applier::KubeApplier;
use fleet_kube::clusters::{Clusters, Pace};
use fleet_kube::connection::{ClusterDefinition, Connection};
use futures::StreamExt;
use http::Request;
use local_fleet::{ClusterOptions, Etcd, Proxy, Route, User};
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::sync::Mutex;

pub const SOON: Duration = Duration::from_secs(30);

/// One real cluster on an etcd of its own.
pub struct Lab {
    pub cluster: local_fleet::Cluster,
    pub etcd: Etcd,
    _dir: tempfile::TempDir,
}

impl Lab {
    pub async fn start(options: &ClusterOptions) -> Self {
        let _installed_before = rustls::crypto::ring::default_provider().install_default();
        let dir = tempfile::tempdir().unwrap();
        let etcd = Etcd::start(dir.path()).await.unwrap();
        let cluster = local_fleet::Cluster::start(&etcd, dir.path(), "one", options).await.unwrap();
        Self { cluster, etcd, _dir: dir }
    }

    /// The cluster that the tests of this binary share; it ends with the last of them.
    pub async fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<Lab>> = Mutex::const_new(Weak::new());
        let mut shared = SHARED.lock().await;
        if let Some(lab) = shared.upgrade() {
            return lab;
        }
        let lab = Arc::new(Self::start(&ClusterOptions::default()).await);
        *shared = Arc::downgrade(&lab);
        lab
    }

    pub fn kubeconfig(&self, user: User, route: Route) -> String {
        self.cluster.kubeconfig_for(user, route).unwrap()
    }

    /// A network to the API server of its own, which can be cut while others use the lab.
    pub async fn proxy(&self) -> Proxy {
        let address = self.cluster.url(Route::Direct).strip_prefix("https://").unwrap().parse().unwrap();
        Proxy::before(address).await.unwrap()
    }

    /// The administrator's kubeconfig, over that network.
    pub fn kubeconfig_over(&self, proxy: &Proxy) -> String {
        let url = format!("https://{}", proxy.address());
        self.kubeconfig(User::Admin, Route::Direct).replace(&self.cluster.url(Route::Direct), &url)
    }

    pub fn definition(&self, user: User, route: Route) -> ClusterDefinition {
        ClusterDefinition {
            id: ClusterId::new("civo", "one").unwrap(),
            labels: Labels::from([("env".to_owned(), "production".to_owned())]),
            annotations: Labels::new(),
            resolve: Vec::new(),
            connection: Connection::KubeconfigSecret {
                name: "Secret civo/one-kubeconfig, key kubeconfig".to_owned(),
                kubeconfig: Ok(SecretString::from(self.kubeconfig(user, route))),
            },
        }
    }

    /// The administrator, who stands for everybody who is not us.
    pub async fn admin(&self) -> Other {
        Other::new(&self.kubeconfig(User::Admin, Route::Direct)).await
    }
}

/// Quick enough for tests.
pub fn pace() -> Pace {
    Pace {
        healthy: Duration::from_secs(2),
        failing: Duration::from_millis(100),
        deadline: Duration::from_secs(1),
    }
}

pub async fn until_health(clusters: &Clusters, ready: bool) {
    let mut health = clusters.health_changes();
    let reached = async {
        while let Some((_, health)) = health.next().await {
            if health.is_some_and(|health| health.ready == ready && health.reason != "Connecting") {
                return;
            }
        }
        panic!("the registry ended");
    };
    tokio::time::timeout(SOON, reached)
        .await
        .unwrap_or_else(|_| panic!("the cluster never got ready={ready}"));
}

/// An Applier with one ready cluster.
pub struct Ours {
    pub clusters: Arc<Clusters>,
    pub applier: KubeApplier,
    pub target: Arc<Cluster>,
}

impl Ours {
    pub async fn new(lab: &Lab, user: User, route: Route) -> Self {
        let clusters = Arc::new(Clusters::with_pace(pace()));
        let definition = lab.definition(user, route);
        let target = Arc::new(Cluster::new(definition.id.clone(), definition.labels.clone()));
        clusters.update(vec![definition]);
        until_health(&clusters, true).await;
        Self { applier: KubeApplier::new(Arc::clone(&clusters)), clusters, target }
    }

    /// A request to be changed, and then sent.
    pub fn request(&self, work: &WorkId, objects: &[Value]) -> ApplyRequest {
        let manifests: Vec<Manifest> =
            objects.iter().map(|object| Manifest::new(object.clone()).unwrap()).collect();
        ApplyRequest {
            cluster: Arc::clone(&self.target),
            work: work.clone(),
            manifests: manifests.into(),
            inventory: Vec::new(),
            identity: None,
            claims: Vec::new(),
            policy: Arc::default(),
            mode: Mode::Write,
            deadline: SOON,
        }
    }

    pub async fn send(&self, request: ApplyRequest) -> Vec<Outcome> {
        let count = request.manifests.len();
        let outcomes = self.applier.apply(request).await;
        assert_eq!(outcomes.len(), count);
        outcomes
    }

    pub async fn preview(
        &self,
        work: &WorkId,
        objects: &[Value],
        inventory: &[InventoryItem],
    ) -> Vec<Outcome> {
        let request = self.request(work, objects);
        self.send(ApplyRequest { mode: Mode::Preview, inventory: inventory.to_vec(), ..request }).await
    }

    pub async fn preview_removal(&self, work: &WorkId, items: &[InventoryItem]) -> Vec<Outcome> {
        self.take(work, items, Mode::Preview).await
    }

    pub async fn apply_all(
        &self,
        work: &WorkId,
        objects: &[Value],
        inventory: &[InventoryItem],
        identity: Option<Identity>,
        deadline: Duration,
    ) -> Vec<Outcome> {
        let request = self.request(work, objects);
        self.send(ApplyRequest { inventory: inventory.to_vec(), identity, deadline, ..request }).await
    }

    pub async fn apply(&self, work: &WorkId, object: &Value, inventory: &[InventoryItem]) -> Outcome {
        self.apply_all(work, std::slice::from_ref(object), inventory, None, SOON).await.remove(0)
    }

    pub async fn remove(&self, work: &WorkId, items: &[InventoryItem]) -> Vec<Outcome> {
        self.take(work, items, Mode::Write).await
    }

    async fn take(&self, work: &WorkId, items: &[InventoryItem], mode: Mode) -> Vec<Outcome> {
        let request = RemoveRequest {
            cluster: Arc::clone(&self.target),
            work: work.clone(),
            items: items.to_vec(),
            mode,
            identity: None,
            deadline: SOON,
        };
        let outcomes = self.applier.remove(request).await;
        assert_eq!(outcomes.len(), items.len());
        outcomes
    }
}

pub fn work(name: &str) -> WorkId {
    WorkId::new("test", &EventKey::Text(name.to_owned()))
}

pub fn item(object: &Value, uid: Option<&str>) -> InventoryItem {
    let planned = InventoryItem::planned(Manifest::new(object.clone()).unwrap().id().clone());
    InventoryItem { uid: uid.map(Into::into), ..planned }
}

/// What is remembered of an object that was applied.
pub fn placed(object: &Value, outcome: &Outcome) -> InventoryItem {
    let Outcome::Applied(Placed { uid, print, version, adopted, chart }) = outcome.clone() else {
        panic!("{outcome:?}")
    };
    InventoryItem { uid: Some(uid), print, version, adopted, chart, ..item(object, None) }
}

pub fn uid(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Applied(Placed { uid, .. }) => uid.to_string(),
        other => panic!("{other:?}"),
    }
}

pub fn namespace(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
}

pub fn config_map(name: &str, data: &[(&str, &str)]) -> Value {
    let data: BTreeMap<_, _> = data.iter().copied().collect();
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"}, "data": data})
}

/// Somebody else's client.
pub struct Other(pub kube::Client);

impl Other {
    pub async fn new(kubeconfig: &str) -> Self {
        let kubeconfig = kube::config::Kubeconfig::from_yaml(kubeconfig).unwrap();
        let mut config = kube::Config::try_from(kubeconfig).unwrap();
        config.default_retry = false;
        config.read_timeout = Some(SOON);
        Self(kube::Client::try_from(config).unwrap())
    }

    pub async fn send(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, u16> {
        let content_type =
            if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
        let body = body.map(Value::to_string).unwrap_or_default().into_bytes();
        let request = Request::builder().method(method).uri(path).header("content-type", content_type);
        match self.0.request(request.body(body).unwrap()).await {
            Ok(value) => Ok(value),
            Err(kube::Error::Api(status)) => Err(status.code),
            Err(error) => panic!("{error}"),
        }
    }

    pub async fn get(&self, path: &str) -> Option<Value> {
        match self.send("GET", path, None).await {
            Ok(object) => Some(object),
            Err(404) => None,
            Err(code) => panic!("{path}: {code}"),
        }
    }

    pub async fn until_gone(&self, path: &str) {
        let gone = async { while self.get(path).await.is_some() {} };
        tokio::time::timeout(SOON, gone).await.unwrap_or_else(|_| panic!("{path} does not go away"));
    }
}
