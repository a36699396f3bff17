//! All clusters of the fleet, as the engine sees them: those that are driven from here, and those that agents drive.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use fleet_core::cluster::{Cluster, ClusterChange, ClusterError, ClusterFeed, ClusterId, ClusterSelector};
use fleet_kube::clusters::Clusters;
use fleet_kube::connection::{ClusterDefinition, Connection};
use fleet_kube::definitions::Definitions;
use futures::StreamExt;
use futures::stream;
use tokio::sync::watch;

type Elsewhere = BTreeMap<ClusterId, Arc<Cluster>>;

/// Which clusters are defined. While definitions are not complete, one that is missing in them is as it was.
#[derive(Default)]
pub(super) struct Inventory {
    known: Vec<ClusterDefinition>,
    elsewhere: watch::Sender<Option<Arc<Elsewhere>>>,
}

/// The clusters that are driven from here.
pub(super) struct Driven {
    pub(super) all: Vec<ClusterDefinition>,
    /// Those that are being taken out; they are not among all.
    pub(super) leaving: Vec<ClusterDefinition>,
}

impl Inventory {
    /// Takes what is defined now, and says what is driven from here. Those that agents drive are told to the [`Fleet`].
    pub(super) fn take(&mut self, now: &Definitions) -> Driven {
        let mut all = now.clusters.clone();
        if !now.catalog.complete {
            let told =
                |old: &ClusterDefinition| now.clusters.iter().chain(&now.leaving).any(|new| new.id == old.id);
            all.extend(self.known.iter().filter(|old| !told(old)).cloned());
        }
        self.known.clone_from(&all);
        let by_agent = |it: &ClusterDefinition| matches!(it.connection, Connection::Agent);
        // In a cluster with an agent nobody acts from here.
        let (elsewhere, all) = all.into_iter().partition::<Vec<_>, _>(by_agent);
        let elsewhere = elsewhere.iter().map(|it| {
            let labels = it.labels.clone();
            let cluster =
                Cluster { annotations: it.annotations.clone(), ..Cluster::new(it.id.clone(), labels) };
            (it.id.clone(), Arc::new(cluster))
        });
        self.elsewhere.send_replace(Some(Arc::new(elsewhere.collect())));
        let leaving = now.leaving.iter().filter(|it| !by_agent(it)).cloned().collect();
        Driven { all, leaving }
    }

    /// All clusters, those among them that are driven from here as the registry has them.
    pub(super) fn fleet(&self, clusters: &Arc<Clusters>) -> Fleet {
        Fleet { clusters: Arc::clone(clusters), elsewhere: self.elsewhere.subscribe() }
    }
}

/// The registry of clusters, and beside it those that agents drive: events come from these, too.
pub(super) struct Fleet {
    clusters: Arc<Clusters>,
    elsewhere: watch::Receiver<Option<Arc<Elsewhere>>>,
}

#[async_trait]
impl ClusterSelector for Fleet {
    async fn subscribe(&self) -> Result<ClusterFeed, ClusterError> {
        let mut elsewhere = self.elsewhere.clone();
        let known = match elsewhere.wait_for(Option::is_some).await {
            Ok(now) => now.clone().unwrap_or_default(),
            Err(_) => {
                return Err(ClusterError { reason: "definitions are not followed any more".to_owned() });
            }
        };
        let ClusterFeed { snapshot, changes, .. } = self.clusters.subscribe().await?;
        let others = known.values().cloned().collect();
        let news = stream::unfold((elsewhere, known), |(mut elsewhere, known)| async move {
            if elsewhere.changed().await.is_err() {
                // Whoever follows the other clusters learns it as well.
                return std::future::pending().await;
            }
            let now = elsewhere.borrow_and_update().clone().unwrap_or_default();
            Some((stream::iter(differences(&known, &now)), (elsewhere, now)))
        });
        // Where the registry's feed ends, so does this one.
        let changes =
            stream::select(changes.map(Some).chain(stream::once(async { None })), news.flatten().map(Some));
        let changes =
            changes.take_while(|change| std::future::ready(change.is_some())).filter_map(std::future::ready);
        Ok(ClusterFeed { snapshot, elsewhere: others, changes: changes.boxed() })
    }

    fn withdrawn(&self, cluster: &ClusterId) {
        self.clusters.withdrawn(cluster);
    }
}

fn differences(known: &Elsewhere, now: &Elsewhere) -> Vec<ClusterChange> {
    let gone = known.keys().filter(|id| !now.contains_key(*id)).cloned().map(ClusterChange::NotElsewhere);
    let new = now.iter().filter(|(id, cluster)| known.get(*id) != Some(*cluster));
    gone.chain(new.map(|(_, cluster)| ClusterChange::Elsewhere(Arc::clone(cluster)))).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use fleet_core::cluster::Labels;
    use fleet_core::testing::conformance::{NotChecked, cluster_selector};

    use super::*;

    /// What the operator makes of definitions.
    struct Defined {
        inventory: Mutex<Inventory>,
        clusters: Arc<Clusters>,
        definitions: Mutex<Definitions>,
    }

    impl Defined {
        fn new() -> Self {
            let defined = Self {
                inventory: Mutex::default(),
                clusters: Arc::new(Clusters::new()),
                definitions: Mutex::new(Definitions::read([], Vec::new(), None)),
            };
            defined.define(|_| {});
            defined
        }

        fn define(&self, change: impl FnOnce(&mut Definitions)) {
            let mut definitions = self.definitions.lock().unwrap();
            change(&mut definitions);
            self.take(&definitions);
        }

        fn take(&self, definitions: &Definitions) {
            let Driven { all, leaving } = self.inventory.lock().unwrap().take(definitions);
            self.clusters.update_all(all, leaving);
        }

        fn put(&self, id: &ClusterId, labels: Labels, connection: Connection) {
            self.remove(id, |definitions| {
                let (id, annotations, resolve) = (id.clone(), Labels::new(), Vec::new());
                definitions.clusters.push(ClusterDefinition { id, labels, annotations, resolve, connection });
            });
        }

        fn remove(&self, id: &ClusterId, then: impl FnOnce(&mut Definitions)) {
            self.define(|definitions| {
                definitions.clusters.retain(|it| it.id != *id);
                then(definitions);
            });
        }
    }

    impl cluster_selector::Fixture for Defined {
        async fn selector(&self) -> Arc<dyn ClusterSelector> {
            Arc::new(self.inventory.lock().unwrap().fleet(&self.clusters))
        }

        async fn unread(&self) -> Result<Arc<dyn ClusterSelector>, NotChecked> {
            // What clusters there are is known before the registry was told.
            Ok(Arc::new(self.inventory.lock().unwrap().fleet(&Arc::default())))
        }

        async fn put(&self, cluster: &ClusterId, labels: Labels) {
            self.put(cluster, labels, Connection::Directory);
        }

        async fn remove(&self, cluster: &ClusterId) {
            self.remove(cluster, |_| {});
        }

        async fn reach(&self, _cluster: &Cluster) -> Result<(), NotChecked> {
            Err(NotChecked::because(
                "whether clusters are reached is the registry's, which has a suite of its own",
            ))
        }

        async fn fail(&self) -> Result<(), NotChecked> {
            let mut partial = Definitions::read([], Vec::new(), None);
            partial.catalog.complete = false;
            self.take(&partial);
            Ok(())
        }

        async fn mend(&self) {
            self.define(|_| {});
        }

        async fn elsewhere(&self, cluster: &ClusterId, labels: Option<Labels>) -> Result<(), NotChecked> {
            match labels {
                Some(labels) => self.put(cluster, labels, Connection::Agent),
                None => self.remove(cluster, |_| {}),
            }
            Ok(())
        }
    }

    cluster_selector!(what_is_defined, Defined::new());
}
