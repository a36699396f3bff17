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
    ListsThenListens,
    TellsTwice,
    TurnsTheOrder,
    SumsUpReturns,
    TakesUnreadyForLeft,
    ForgetsUnreadiness,
    TakesFailureForLeft,
    ListsNothingWhenFailed,
    MixesInOthers,
    TellsOneFeedOnly,
    IsStuckWhenCancelled,
    EndsWithTheFirstThatIsDropped,
    BlocksOnWithdrawals,
}

/// Clusters in memory, with a fault.
struct Selector {
    inner: Arc<MemoryClusters>,
    fault: Fault,
    read: bool,
    failed: Arc<AtomicBool>,
    feeds: AtomicUsize,
    opening: AtomicBool,
    dropped: Arc<AtomicBool>,
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
        let ClusterFeed { mut snapshot, mut elsewhere, mut changes } = self.inner.subscribe().await?;
        match fault {
            Fault::HidesTheLast if snapshot.len() == 3 => drop(snapshot.pop()),
            Fault::ListsNothingWhenFailed if self.failed.load(Ordering::Relaxed) => snapshot.clear(),
            Fault::ForgetsUnreadiness => {
                snapshot.iter_mut().for_each(|it| *it = Arc::new(Cluster { ready: true, ..(**it).clone() }));
            }
            Fault::MixesInOthers => snapshot.append(&mut elsewhere),
            Fault::ListsThenListens => {
                tokio::task::yield_now().await;
                changes = self.inner.subscribe().await?.changes;
            }
            _ => {}
        }
        if self.feeds.fetch_add(1, Ordering::Relaxed) > 0 && fault == Fault::TellsOneFeedOnly {
            changes = stream::pending().boxed();
        }
        let mut changes =
            changes.ready_chunks(100).flat_map(move |told| stream::iter(spoil(fault, told))).boxed();
        if fault == Fault::EndsWithTheFirstThatIsDropped {
            let (guard, dropped) = (Dropped(Arc::clone(&self.dropped)), Arc::clone(&self.dropped));
            changes = changes
                .take_while(move |_| {
                    let _held = &guard;
                    std::future::ready(!dropped.load(Ordering::Relaxed))
                })
                .boxed();
        }
        Ok(ClusterFeed { snapshot, elsewhere, changes })
    }

    fn withdrawn(&self, _cluster: &ClusterId) {
        if self.fault == Fault::BlocksOnWithdrawals {
            std::thread::sleep(Duration::from_secs(60));
        }
    }
}

/// Whether a feed was dropped with something unread in it.
struct Dropped(Arc<AtomicBool>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What is told in place of what nobody had read yet.
fn spoil(fault: Fault, mut told: Vec<ClusterChange>) -> Vec<ClusterChange> {
    use ClusterChange::{Elsewhere, Joined, Left, Relabelled, Unready};
    match fault {
        Fault::TurnsTheOrder if told.iter().all(|change| matches!(change, Joined(_))) => told.reverse(),
        Fault::SumsUpReturns => {
            let returned = |told: &[ClusterChange]| match told {
                [Left(id), Joined(now)] => now.id == *id,
                _ => false,
            };
            while let Some(at) = told.windows(2).position(returned) {
                told.drain(at..at + 2);
            }
        }
        _ => {}
    }
    told.into_iter()
        .flat_map(|change| match (fault, change) {
            (Fault::TellsTwice, change @ Relabelled(_)) => vec![change.clone(), change],
            (Fault::TakesUnreadyForLeft, Unready(id)) => vec![Left(id)],
            (Fault::MixesInOthers, Elsewhere(cluster)) => vec![Joined(cluster)],
            (_, change) => vec![change],
        })
        .collect()
}

struct Fixture {
    inner: Arc<MemoryClusters>,
    fault: Fault,
    failed: Arc<AtomicBool>,
    selector: Arc<Selector>,
}

impl Fixture {
    fn new(fault: Fault) -> Self {
        let (inner, failed) = Default::default();
        let selector = Self::on(&inner, &failed, fault, true);
        Self { inner, fault, failed, selector }
    }

    fn on(inner: &Arc<MemoryClusters>, failed: &Arc<AtomicBool>, fault: Fault, read: bool) -> Arc<Selector> {
        let (feeds, opening, dropped) = Default::default();
        let (inner, failed) = (Arc::clone(inner), Arc::clone(failed));
        Arc::new(Selector { inner, fault, read, failed, feeds, opening, dropped })
    }
}

impl cluster_selector::Fixture for Fixture {
    async fn selector(&self) -> Arc<dyn ClusterSelector> {
        Arc::clone(&self.selector) as _
    }

    async fn unread(&self) -> Result<Arc<dyn ClusterSelector>, NotChecked> {
        Ok(Self::on(&self.inner, &self.failed, self.fault, false))
    }

    async fn put(&self, cluster: &ClusterId, labels: Labels) {
        self.inner.put(Cluster::new(cluster.clone(), labels));
    }

    async fn remove(&self, cluster: &ClusterId) {
        self.inner.remove(cluster);
    }

    async fn reach(&self, cluster: &Cluster) -> Result<(), NotChecked> {
        self.inner.put(cluster.clone());
        Ok(())
    }

    async fn fail(&self) -> Result<(), NotChecked> {
        self.failed.store(true, Ordering::Relaxed);
        if self.fault == Fault::TakesFailureForLeft {
            self.inner.remove(&self.clusters()[1]);
        }
        Ok(())
    }

    async fn mend(&self) {
        self.failed.store(false, Ordering::Relaxed);
    }

    async fn elsewhere(&self, cluster: &ClusterId, labels: Option<Labels>) -> Result<(), NotChecked> {
        match labels {
            Some(labels) => self.inner.put_elsewhere(Cluster::new(cluster.clone(), labels)),
            None => self.inner.remove_elsewhere(cluster),
        }
        Ok(())
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(2)
    }
}

cluster_selector!(an_inventory_without_a_fault, Fixture::new(Fault::None));

#[tokio::test]
async fn each_fault_is_found_by_the_check_that_is_there_for_it() {
    let cases: &[(Fault, &[&str])] = &[
        (Fault::None, &[]),
        (Fault::DoesNotWait, &["a_feed_waits_for_the_whole_set"]),
        (Fault::HidesTheLast, &["the_snapshot_is_the_whole_set", "a_dropped_feed_leaves_nothing_behind"]),
        (Fault::ListsThenListens, &["nothing_falls_between_snapshot_and_changes"]),
        (Fault::TellsTwice, &["each_change_is_told_once", "one_that_left_and_came_back_is_told_as_such"]),
        (Fault::TurnsTheOrder, &["changes_are_told_in_order"]),
        (Fault::SumsUpReturns, &["one_that_left_and_came_back_is_told_as_such"]),
        (Fault::TakesUnreadyForLeft, &["an_unreached_cluster_does_not_leave"]),
        (Fault::ForgetsUnreadiness, &["an_unreached_cluster_does_not_leave"]),
        (Fault::TakesFailureForLeft, &["a_failure_is_no_departure"]),
        (Fault::ListsNothingWhenFailed, &["a_failure_is_no_departure"]),
        (Fault::MixesInOthers, &["a_failure_is_no_departure", "what_others_drive_is_told_apart"]),
        (
            Fault::TellsOneFeedOnly,
            &[
                "nothing_falls_between_snapshot_and_changes",
                "an_unreached_cluster_does_not_leave",
                "each_feed_is_told_all",
            ],
        ),
        (Fault::IsStuckWhenCancelled, &["a_dropped_feed_leaves_nothing_behind"]),
        (
            Fault::EndsWithTheFirstThatIsDropped,
            &[
                "nothing_falls_between_snapshot_and_changes",
                "a_failure_is_no_departure",
                "a_dropped_feed_leaves_nothing_behind",
            ],
        ),
        (Fault::BlocksOnWithdrawals, &["withdrawals_are_taken_without_blocking"]),
    ];
    let run = cases.iter().map(async |(fault, expected)| {
        let fixture = async || Fixture::new(*fault);
        (*fault, found(cluster_selector::checks(), fixture).await, *expected)
    });
    assert_found("ClusterSelector", &futures::future::join_all(run).await);
    assert_each_can_fail(cluster_selector::checks::<Fixture>(), cases);
}
