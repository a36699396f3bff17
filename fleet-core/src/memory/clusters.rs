//! Clusters in memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use futures::StreamExt;
use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::cluster::{Cluster, ClusterChange, ClusterError, ClusterFeed, ClusterId, ClusterSelector};

/// How many changes a feed may be behind. A reader that is further behind has its feed closed, and subscribes again.
const BUFFER: usize = 4096;

/// A set of clusters that the program itself changes.
#[derive(Debug, Default)]
pub struct MemoryClusters {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    clusters: BTreeMap<ClusterId, Arc<Cluster>>,
    elsewhere: BTreeMap<ClusterId, Arc<Cluster>>,
    feeds: Vec<mpsc::Sender<ClusterChange>>,
}

impl MemoryClusters {
    /// A set of these clusters.
    pub fn new(clusters: impl IntoIterator<Item = Cluster>) -> Self {
        let clusters = clusters.into_iter().map(|cluster| (cluster.id.clone(), Arc::new(cluster))).collect();
        Self { state: Mutex::new(State { clusters, ..State::default() }) }
    }

    /// Adds a cluster, or changes the one of that name.
    pub fn put(&self, cluster: Cluster) {
        let cluster = Arc::new(cluster);
        let mut state = self.state.lock();
        let old = state.clusters.insert(cluster.id.clone(), Arc::clone(&cluster));
        match old {
            None => state.tell(ClusterChange::Joined(cluster)),
            Some(old) => {
                if (&old.labels, &old.annotations, old.role)
                    != (&cluster.labels, &cluster.annotations, cluster.role)
                {
                    state.tell(ClusterChange::Relabelled(Arc::clone(&cluster)));
                }
                match (old.ready, cluster.ready) {
                    (false, true) => state.tell(ClusterChange::Ready(cluster.id.clone())),
                    (true, false) => state.tell(ClusterChange::Unready(cluster.id.clone())),
                    _ => {}
                }
            }
        }
    }

    /// Adds a cluster that another operator drives, or changes it.
    pub fn put_elsewhere(&self, cluster: Cluster) {
        let cluster = Arc::new(cluster);
        let mut state = self.state.lock();
        state.elsewhere.insert(cluster.id.clone(), Arc::clone(&cluster));
        state.tell(ClusterChange::Elsewhere(cluster));
    }

    /// Takes out a cluster that another operator drove.
    pub fn remove_elsewhere(&self, id: &ClusterId) {
        let mut state = self.state.lock();
        if state.elsewhere.remove(id).is_some() {
            state.tell(ClusterChange::NotElsewhere(id.clone()));
        }
    }

    /// Takes a cluster out of the set.
    pub fn remove(&self, id: &ClusterId) {
        let mut state = self.state.lock();
        if state.clusters.remove(id).is_some() {
            state.tell(ClusterChange::Left(id.clone()));
        }
    }
}

impl State {
    fn tell(&mut self, change: ClusterChange) {
        self.feeds.retain(|feed| feed.try_send(change.clone()).is_ok());
    }
}

#[async_trait]
impl ClusterSelector for MemoryClusters {
    async fn subscribe(&self) -> Result<ClusterFeed, ClusterError> {
        let mut state = self.state.lock();
        let (sender, receiver) = mpsc::channel(BUFFER);
        state.feeds.push(sender);
        let changes = futures::stream::unfold(receiver, |mut receiver| async move {
            receiver.recv().await.map(|change| (change, receiver))
        });
        let snapshot = state.clusters.values().cloned().collect();
        let elsewhere = state.elsewhere.values().cloned().collect();
        Ok(ClusterFeed { snapshot, elsewhere, changes: changes.boxed() })
    }
}
