//! Clusters in memory: whoever follows them knows the same at the end, whenever they began.

use std::collections::BTreeMap;

use futures::{FutureExt, StreamExt};
use shuttle::future::block_on;
use shuttle::sync::Arc;
use shuttle::thread;

use crate::cluster::{Cluster, ClusterChange, ClusterFeed, ClusterId, ClusterSelector};
use crate::memory::MemoryClusters;

fn id(number: usize) -> ClusterId {
    ClusterId::new("fleet", &format!("c{number}")).unwrap()
}

/// What a follower knows of the clusters: their labels.
fn known(mut feed: ClusterFeed) -> BTreeMap<ClusterId, Option<String>> {
    let label = |cluster: &Cluster| cluster.labels.get("a").cloned();
    let mut known: BTreeMap<_, _> = feed.snapshot.iter().map(|it| (it.id.clone(), label(it))).collect();
    while let Some(Some(change)) = feed.changes.next().now_or_never() {
        match change {
            ClusterChange::Joined(cluster) | ClusterChange::Relabelled(cluster) => {
                known.insert(cluster.id.clone(), label(&cluster));
            }
            ClusterChange::Left(id) => {
                known.remove(&id);
            }
            _ => {}
        }
    }
    known
}

/// One subscribes while clusters join, change and leave.
pub fn a_subscriber_misses_nothing() {
    let clusters = Arc::new(MemoryClusters::new([Cluster::new(id(0), [("a", "x")])]));
    let changes = {
        let clusters = Arc::clone(&clusters);
        thread::spawn(move || {
            clusters.put(Cluster::new(id(1), [("a", "x")]));
            clusters.put(Cluster::new(id(0), [("a", "y")]));
            clusters.remove(&id(1));
            clusters.put(Cluster::new(id(2), [("a", "z")]));
        })
    };
    let feed = block_on(clusters.subscribe()).unwrap();
    changes.join().unwrap();
    let late = block_on(clusters.subscribe()).unwrap();
    assert_eq!(known(feed), known(late));
}
