//! All clusters of the fleet, as the engine sees them: those that are driven from here, and those that agents drive.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use fleet_core::cluster::{Cluster, ClusterChange, ClusterError, ClusterFeed, ClusterId, ClusterSelector};
use fleet_kube::clusters::Clusters;
use fleet_kube::connection::Connection;
use fleet_kube::definitions::Definitions;
use futures::StreamExt;
use futures::stream;
use tokio::sync::watch;

/// The registry of clusters, and beside it those that agents drive: events come from these, too.
pub(super) struct Fleet {
    pub(super) clusters: Arc<Clusters>,
    pub(super) definitions: watch::Receiver<Option<Arc<Definitions>>>,
}

type Elsewhere = BTreeMap<ClusterId, Arc<Cluster>>;

#[async_trait]
impl ClusterSelector for Fleet {
    async fn subscribe(&self) -> Result<ClusterFeed, ClusterError> {
        let mut definitions = self.definitions.clone();
        let known = match definitions.wait_for(Option::is_some).await {
            Ok(now) => now.as_deref().map(driven_by_agents).unwrap_or_default(),
            Err(_) => {
                return Err(ClusterError { reason: "definitions are not followed any more".to_owned() });
            }
        };
        let ClusterFeed { snapshot, changes, .. } = self.clusters.subscribe().await?;
        let elsewhere = known.values().cloned().collect();
        let news = stream::unfold((definitions, known), |(mut definitions, mut known)| async move {
            if definitions.changed().await.is_err() {
                // Whoever follows the other clusters learns it as well.
                return std::future::pending().await;
            }
            let now = definitions.borrow_and_update().clone();
            let changes = now.map(|now| differences(&mut known, &now)).unwrap_or_default();
            Some((stream::iter(changes), (definitions, known)))
        });
        // Where the registry's feed ends, so does this one.
        let changes =
            stream::select(changes.map(Some).chain(stream::once(async { None })), news.flatten().map(Some));
        let changes =
            changes.take_while(|change| std::future::ready(change.is_some())).filter_map(std::future::ready);
        Ok(ClusterFeed { snapshot, elsewhere, changes: changes.boxed() })
    }

    fn withdrawn(&self, cluster: &ClusterId) {
        self.clusters.withdrawn(cluster);
    }
}

fn driven_by_agents(definitions: &Definitions) -> Elsewhere {
    let agents = definitions.clusters.iter().filter(|it| matches!(it.connection, Connection::Agent));
    let clusters = agents.map(|it| {
        let labels = it.labels.clone();
        let cluster = Cluster { annotations: it.annotations.clone(), ..Cluster::new(it.id.clone(), labels) };
        (it.id.clone(), Arc::new(cluster))
    });
    clusters.collect()
}

fn differences(known: &mut Elsewhere, definitions: &Definitions) -> Vec<ClusterChange> {
    let mut now = driven_by_agents(definitions);
    if !definitions.catalog.complete {
        // What is missing is not gone; but one that is driven from here now is.
        let stays = known.iter().filter(|(id, _)| !definitions.clusters.iter().any(|it| it.id == **id));
        let stays: Vec<_> = stays.map(|(id, cluster)| (id.clone(), Arc::clone(cluster))).collect();
        now.extend(stays);
    }
    let gone = known.keys().filter(|id| !now.contains_key(*id)).cloned().map(ClusterChange::NotElsewhere);
    let new = now.iter().filter(|(id, cluster)| known.get(*id) != Some(*cluster));
    let changes = gone.chain(new.map(|(_, cluster)| ClusterChange::Elsewhere(Arc::clone(cluster)))).collect();
    *known = now;
    changes
}
