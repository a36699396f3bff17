//! A management cluster, and the records that tests store in it.

use std::sync::Arc;
use std::time::Duration;

use fleet_core::cluster::ClusterId;
use fleet_core::event::Event;
use fleet_core::health::Health;
use fleet_core::position::Positions;
use fleet_core::source::Message;
use fleet_core::work::{AppliedState, AppliedWork, EventKey, Intent, Work, WorkId};
use fleet_kube::client::ClusterClient;
use fleet_kube::kubeconfig::from_secret;
use fleet_kube::store::KubeStore;
use jiff::Timestamp;
use local_fleet::{ClusterOptions, Route, User};
use secrecy::SecretString;
use serde_json::{Value, json};

use crate::lab::{Lab, Other, SOON, namespace};

pub(crate) const WORKS: &str = "/apis/fleet-events.dev/v1alpha1/namespaces/fleet/works";
pub(crate) const APPLIED: &str = "/apis/fleet-events.dev/v1alpha1/namespaces/civo/appliedworks";

/// A management cluster of the test's own, with our kinds and a namespace for clusters.
pub(crate) struct Rig {
    pub(crate) lab: Lab,
    pub(crate) admin: Other,
}

impl Rig {
    pub(crate) async fn new() -> Self {
        let rig = Self::without_kinds().await;
        rig.install().await;
        rig
    }

    pub(crate) async fn without_kinds() -> Self {
        let lab = Lab::start(&ClusterOptions::default().controller_manager(false)).await;
        let admin = lab.admin().await;
        admin.send("POST", "/api/v1/namespaces", Some(&namespace("civo"))).await.unwrap();
        Self { lab, admin }
    }

    /// As `fleet-operator crds | kubectl apply --server-side -f -` does.
    pub(crate) async fn install(&self) {
        let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
        for definition in fleet_kube::api::crds() {
            let definition = serde_json::to_value(definition).unwrap();
            self.admin.send("POST", path, Some(&definition)).await.unwrap();
        }
        let served = async {
            for path in [WORKS, APPLIED] {
                // 404 at first, then 429 while the storage is made.
                while self.admin.send("GET", path, None).await.is_err() {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        };
        tokio::time::timeout(SOON, served).await.unwrap();
    }

    pub(crate) fn client(&self, user: User, route: Route) -> ClusterClient {
        let text = SecretString::from(self.lab.kubeconfig(user, route));
        ClusterClient::new(from_secret("lab", &text, Timestamp::now()).unwrap()).unwrap()
    }

    pub(crate) async fn open(&self) -> KubeStore {
        self.open_by(Route::Direct).await
    }

    pub(crate) async fn open_by(&self, route: Route) -> KubeStore {
        KubeStore::open(self.client(User::Admin, route), "fleet").await.unwrap()
    }

    /// The Work's object.
    pub(crate) async fn object(&self, work: &Work) -> Value {
        self.admin.get(&format!("{WORKS}/{}", work.id)).await.unwrap()
    }

    /// Waits until the status of a Work is as it should be.
    pub(crate) async fn until_status(&self, work: &Work, is: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        let reached = async {
            loop {
                last = self.object(work).await;
                if is(&last["status"]) {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let reached = tokio::time::timeout(SOON, reached).await;
        assert!(reached.is_ok(), "{}", last["status"]);
        last
    }

    /// How many requests of a verb the API server had for a resource, or `resource/status`, after its own count.
    pub(crate) async fn requests(&self, verb: &str, resource: &str) -> u64 {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        let request = http::Request::get("/metrics").body(Vec::new()).unwrap();
        let metrics = self.admin.0.request_text(request).await.unwrap();
        let labels = [("verb", verb), ("resource", resource), ("subresource", subresource)]
            .map(|(name, value)| format!("{name}=\"{value}\""));
        let counts = metrics
            .lines()
            .filter(|line| line.starts_with("apiserver_request_total{"))
            .filter(|line| labels.iter().all(|label| line.contains(label)))
            .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap());
        counts.sum::<f64>() as u64
    }
}

/// Waits for a condition.
pub(crate) async fn until(what: &str, is: impl AsyncFn() -> bool) {
    let reached = async {
        while !is().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, reached).await.unwrap_or_else(|_| panic!("never: {what}"));
}

pub(crate) fn work(subject: &str, generation: u64) -> Arc<Work> {
    work_with(subject, generation, json!({"n": 1.0, "big": u64::MAX, "null": null, "password": "s3cret"}))
}

pub(crate) fn work_with(subject: &str, generation: u64, data: Value) -> Arc<Work> {
    let key = EventKey::About { origin: None, source: "s".into(), subject: Some(subject.into()) };
    let event = json!({"specversion": "1.0", "id": "1", "source": "s", "type": "t", "subject": subject, "data": data});
    Arc::new(Work {
        id: WorkId::new("manage-namespace", &key),
        trigger: "manage-namespace".into(),
        source: "users".into(),
        key,
        origin: None,
        generation,
        intent: Intent::Create,
        event: Arc::new(Event::from_json(event.to_string().as_bytes()).unwrap()),
        message: Arc::new(Message::default()),
        positions: Positions::default(),
        received: Timestamp::now(),
        published: None,
        recent: Vec::new(),
    })
}

pub(crate) fn cluster(name: &str) -> ClusterId {
    ClusterId::new("civo", name).unwrap()
}

pub(crate) fn applied(work: &Work, name: &str, state: AppliedState) -> Arc<AppliedWork> {
    let health = (state == AppliedState::Applied).then_some(Health::Ready);
    Arc::new(AppliedWork { state, health, ..AppliedWork::pending(work, cluster(name), Timestamp::now()) })
}

pub(crate) fn plan(work: &Work, name: &str) -> AppliedWork {
    (*applied(work, name, AppliedState::Pending)).clone()
}
