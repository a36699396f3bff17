//! Our source of clusters in memory keeps the contract.

use std::sync::Arc;

use fleet_core::cluster::{Cluster, ClusterId, ClusterSelector, Labels};
use fleet_core::memory::MemoryClusters;
use fleet_core::testing::conformance::{NotChecked, cluster_selector};

#[derive(Default)]
struct Memory(Arc<MemoryClusters>);

impl cluster_selector::Fixture for Memory {
    async fn selector(&self) -> Arc<dyn ClusterSelector> {
        Arc::clone(&self.0) as _
    }

    async fn unread(&self) -> Result<Arc<dyn ClusterSelector>, NotChecked> {
        Err(NotChecked::because("memory need not be read"))
    }

    async fn put(&self, cluster: &ClusterId, labels: Labels) {
        self.0.put(Cluster::new(cluster.clone(), labels));
    }

    async fn remove(&self, cluster: &ClusterId) {
        self.0.remove(cluster);
    }

    async fn reach(&self, cluster: &Cluster) -> Result<(), NotChecked> {
        self.0.put(cluster.clone());
        Ok(())
    }

    async fn fail(&self) -> Result<(), NotChecked> {
        Err(NotChecked::because("memory does not fail"))
    }

    async fn mend(&self) {}

    async fn elsewhere(&self, cluster: &ClusterId, labels: Option<Labels>) -> Result<(), NotChecked> {
        match labels {
            Some(labels) => self.0.put_elsewhere(Cluster::new(cluster.clone(), labels)),
            None => self.0.remove_elsewhere(cluster),
        }
        Ok(())
    }
}

cluster_selector!(memory, Memory::default());
