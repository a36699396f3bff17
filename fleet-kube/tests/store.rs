//! The WorkStore of Kubernetes objects, on a real API server.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that meets the unexpected says so and stops; so do its helpers"
)]

mod lab;

use std::sync::Arc;
use std::time::Duration;

use fleet_core::cluster::ClusterId;
use fleet_core::dead_letter::DeadLetter;
use fleet_core::event::Event;
use fleet_core::position::{Domain, Position, Positions};
use fleet_core::source::Message;
use fleet_core::store::{StoreChange, StoreError, WorkStore};
use fleet_core::work::{AppliedState, AppliedWork, EventKey, Intent, Work, WorkId};
use fleet_kube::client::ClusterClient;
use fleet_kube::kubeconfig::from_secret;
use fleet_kube::store::{KubeStore, OpenError, SECRET_TYPE};
use futures::StreamExt;
use jiff::Timestamp;
use lab::*;
use local_fleet::{ClusterOptions, Route, User};
use secrecy::SecretString;
use serde_json::{Value, json};

fn bare() -> ClusterOptions {
    ClusterOptions::default().controller_manager(false)
}

/// A management cluster of the test's own, with our kinds and a namespace for clusters.
struct Rig {
    lab: Lab,
    admin: Other,
}

impl Rig {
    async fn new() -> Self {
        let rig = Self::without_kinds(&bare()).await;
        rig.install().await;
        rig
    }

    async fn without_kinds(options: &ClusterOptions) -> Self {
        let lab = Lab::start(options).await;
        let admin = lab.admin().await;
        admin.send("POST", "/api/v1/namespaces", Some(&namespace("civo"))).await.unwrap();
        Self { lab, admin }
    }

    /// As `fleet-operator crds | kubectl apply --server-side -f -` does.
    async fn install(&self) {
        let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
        for definition in fleet_kube::api::crds() {
            let definition = serde_json::to_value(definition).unwrap();
            self.admin.send("POST", path, Some(&definition)).await.unwrap();
        }
        let served = async {
            for kind in ["works", "appliedworks"] {
                let path = format!("/apis/fleet-events.dev/v1alpha1/{kind}");
                // 404 at first, then 429 while the storage is made.
                while self.admin.send("GET", &path, None).await.is_err() {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        };
        tokio::time::timeout(SOON, served).await.unwrap();
    }

    fn client(&self, user: User, route: Route) -> ClusterClient {
        let text = SecretString::from(self.lab.kubeconfig(user, route));
        ClusterClient::new(from_secret("lab", &text, Timestamp::now()).unwrap()).unwrap()
    }

    async fn open(&self) -> KubeStore {
        KubeStore::open(self.client(User::Admin, Route::Direct), "fleet").await.unwrap()
    }
}

fn work(subject: &str, generation: u64) -> Arc<Work> {
    let key = EventKey::About { origin: None, source: "s".into(), subject: Some(subject.into()) };
    let event = json!({"specversion": "1.0", "id": "1", "source": "s", "type": "t", "subject": subject});
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
        recent: Vec::new(),
    })
}

fn applied(work: &Work, name: &str, state: AppliedState) -> AppliedWork {
    AppliedWork {
        work: work.id.clone(),
        cluster: ClusterId::new("civo", name).unwrap(),
        generation: work.generation,
        digest: None,
        inventory: Vec::new(),
        state,
        updated: Timestamp::now(),
    }
}

fn pending(work: &Work, name: &str) -> AppliedWork {
    applied(work, name, AppliedState::Pending)
}

#[tokio::test(flavor = "multi_thread")]
async fn it_keeps_the_contract() {
    let rig = Rig::new().await;
    fleet_core::testing::work_store(async || Arc::new(rig.open().await) as Arc<dyn WorkStore>).await;
}
