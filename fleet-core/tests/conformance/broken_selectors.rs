//! Sources of clusters that each break one rule, and what the suite says of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use fleet_core::cluster::{
    Cluster, ClusterChange, ClusterError, ClusterFeed, ClusterId, ClusterSelector, Labels,
};
use fleet_core::memory::MemoryClusters;
use fleet_core::testing::conformance::{NotChecked, cluster_selector};
use futures::{StreamExt, stream};

use crate::{assert_each_can_fail, assert_found, found};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    DoesNotWait,
    HidesTheLast,
    TellsTwice,
    TakesUnreadyForLeft,
    TakesFailureForLeft,
    TellsOneFeedOnly,
    IsStuckWhenCancelled,
    BlocksOnWithdrawals,
}

/// Clusters in memory, with a fault.
struct Selector {
    inner: Arc<MemoryClusters>,
    fault: Fault,
    read: bool,
    feeds: AtomicUsize,
    opening: AtomicBool,
}

#[async_trait]
impl ClusterSelector for Selector {
    async fn subscribe(&self) -> Result<ClusterFeed, ClusterError> {
        let fault = self.fault;
        if !self.read && fault != Fault::DoesNotWait {
            std::future::pending::<()>().await;
        }
        if fault == Fault::IsStuckWhenCancelled {
            if self.opening.swap(true, Ordering::Relaxed) {
                return Err(ClusterError { reason: "another feed is being opened".to_owned() });
            }
            tokio::task::yield_now().await;
            self.opening.store(false, Ordering::Relaxed);
        }
        let ClusterFeed { mut snapshot, changes } = self.inner.subscribe().await?;
        if fault == Fault::HidesTheLast && snapshot.len() == 3 {
            snapshot.pop();
        }
        if self.feeds.fetch_add(1, Ordering::Relaxed) > 0 && fault == Fault::TellsOneFeedOnly {
            return Ok(ClusterFeed { snapshot, changes: stream::pending().boxed() });
        }
        let changes = changes.flat_map(move |change| {
            stream::iter(match (fault, change) {
                (Fault::TellsTwice, change @ ClusterChange::Relabelled(_)) => vec![change.clone(), change],
                (Fault::TakesUnreadyForLeft, ClusterChange::Unready(id)) => vec![ClusterChange::Left(id)],
                (_, change) => vec![change],
            })
        });
        Ok(ClusterFeed { snapshot, changes: changes.boxed() })
    }

    fn withdrawn(&self, _cluster: &ClusterId) {
        if self.fault == Fault::BlocksOnWithdrawals {
            std::thread::sleep(Duration::from_secs(60));
        }
    }
}

struct Fixture {
    inner: Arc<MemoryClusters>,
    fault: Fault,
    selector: Arc<Selector>,
}

impl Fixture {
    fn new(fault: Fault) -> Self {
        let inner = Arc::new(MemoryClusters::default());
        let selector = Self::on(&inner, fault, true);
        Self { inner, fault, selector }
    }

    fn on(inner: &Arc<MemoryClusters>, fault: Fault, read: bool) -> Arc<Selector> {
        let (feeds, opening) = Default::default();
        Arc::new(Selector { inner: Arc::clone(inner), fault, read, feeds, opening })
    }
}

impl cluster_selector::Fixture for Fixture {
    fn selector(&self) -> Arc<dyn ClusterSelector> {
        Arc::clone(&self.selector) as _
    }

    async fn put(&self, cluster: &ClusterId, labels: Labels) {
        self.inner.put(Cluster::new(cluster.clone(), labels));
    }

    async fn remove(&self, cluster: &ClusterId) {
        self.inner.remove(cluster);
    }

    async fn reach(&self, ready: bool) -> Result<(), NotChecked> {
        let [first, ..] = self.clusters();
        self.inner.put(Cluster { ready, ..Cluster::new(first, [("env", "production")]) });
        Ok(())
    }

    async fn fail(&self) -> Result<(), NotChecked> {
        if self.fault == Fault::TakesFailureForLeft {
            let [.., last] = self.clusters();
            self.inner.remove(&last);
        }
        Ok(())
    }

    async fn mend(&self) {}

    fn unread(&self) -> Result<Arc<dyn ClusterSelector>, NotChecked> {
        Ok(Self::on(&self.inner, self.fault, false))
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(2)
    }
}

cluster_selector!(memory, Fixture::new(Fault::None));

#[tokio::test]
async fn each_fault_is_found_by_the_check_that_is_there_for_it() {
    let cases: &[(Fault, &[&str])] = &[
        (Fault::None, &[]),
        (Fault::DoesNotWait, &["a_feed_waits_for_the_whole_set"]),
        (Fault::HidesTheLast, &["the_snapshot_is_the_whole_set"]),
        (Fault::TellsTwice, &["each_change_is_told_once"]),
        (Fault::TakesUnreadyForLeft, &["an_unreached_cluster_does_not_leave"]),
        (Fault::TakesFailureForLeft, &["a_failure_is_no_departure"]),
        (Fault::TellsOneFeedOnly, &["each_feed_is_told_all"]),
        (Fault::IsStuckWhenCancelled, &["a_dropped_feed_leaves_nothing_behind"]),
        (Fault::BlocksOnWithdrawals, &["withdrawals_are_taken_without_blocking"]),
    ];
    let run = cases.iter().map(async |(fault, expected)| {
        let fixture = async || Fixture::new(*fault);
        (*fault, found(cluster_selector::checks(), fixture).await, *expected)
    });
    assert_found("ClusterSelector", &futures::future::join_all(run).await);
    assert_each_can_fail(cluster_selector::checks::<Fixture>(), cases);
}
