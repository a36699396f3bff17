//! The registry of clusters keeps the contract of a ClusterSelector, with a real API server behind each cluster.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fleet_core::cluster::{Cluster, ClusterId, ClusterSelector, Labels};
use fleet_core::testing::conformance::{NotChecked, cluster_selector};
use fleet_kube::clusters::{Clusters, Pace};
use fleet_kube::connection::{ClusterDefinition, Connection};
use local_fleet::{Proxy, Route, User};
use secrecy::SecretString;

use crate::lab::Lab;

const PACE: Pace = Pace {
    healthy: Duration::from_millis(200),
    failing: Duration::from_millis(100),
    deadline: Duration::from_secs(2),
};

struct Registry {
    lab: Arc<Lab>,
    /// The network of this one alone.
    proxy: Proxy,
    clusters: Arc<Clusters>,
    definitions: Mutex<BTreeMap<ClusterId, ClusterDefinition>>,
}

impl Registry {
    async fn new() -> Self {
        let lab = Lab::shared().await;
        let proxy = lab.proxy().await;
        let clusters = Arc::new(Clusters::with_pace(PACE));
        clusters.update(Vec::new());
        Self { lab, proxy, clusters, definitions: Mutex::default() }
    }

    fn update(&self, change: impl FnOnce(&mut BTreeMap<ClusterId, ClusterDefinition>)) {
        let mut definitions = self.definitions.lock().unwrap();
        change(&mut definitions);
        self.clusters.update(definitions.values().cloned().collect());
    }
}

impl cluster_selector::Fixture for Registry {
    async fn selector(&self) -> Arc<dyn ClusterSelector> {
        Arc::clone(&self.clusters) as _
    }

    async fn unread(&self) -> Result<Arc<dyn ClusterSelector>, NotChecked> {
        Ok(Arc::new(Clusters::with_pace(PACE)))
    }

    async fn put(&self, cluster: &ClusterId, labels: Labels) {
        let definition = ClusterDefinition {
            id: cluster.clone(),
            labels,
            connection: Connection::KubeconfigSecret {
                name: format!("Secret {cluster}-kubeconfig, key kubeconfig"),
                kubeconfig: Ok(SecretString::from(self.lab.kubeconfig_over(&self.proxy))),
            },
            ..self.lab.definition(User::Admin, Route::Direct)
        };
        self.update(|definitions| drop(definitions.insert(cluster.clone(), definition)));
    }

    async fn remove(&self, cluster: &ClusterId) {
        self.update(|definitions| drop(definitions.remove(cluster)));
    }

    async fn reach(&self, cluster: &Cluster) -> Result<(), NotChecked> {
        if cluster.ready {
            self.proxy.heal();
        } else {
            self.proxy.cut();
        }
        Ok(())
    }

    async fn fail(&self) -> Result<(), NotChecked> {
        Err(NotChecked::because("it is given complete sets, whoever reads them holds back a partial one"))
    }

    async fn mend(&self) {}
}

cluster_selector!(registry, Registry::new().await);
