//! What every [`ClusterSelector`] keeps to. See [`cluster_selector!`](super::cluster_selector!).

mod changes;
mod feeds;
mod follower;

use std::sync::Arc;
use std::time::Duration;

use super::{NotChecked, checks};
use crate::cluster::{Cluster, ClusterId, ClusterSelector, Labels};

use self::changes::*;
use self::feeds::*;

/// A source of clusters under test, and the inventory behind it. Every check has a fixture of its own, whose inventory is
/// empty, and was read.
pub trait Fixture: Send + Sync + 'static {
    /// The source of clusters.
    fn selector(&self) -> impl Future<Output = Arc<dyn ClusterSelector>> + Send;

    /// Another source of the same clusters, whose inventory was not read yet and is not read meanwhile.
    fn unread(&self) -> impl Future<Output = Result<Arc<dyn ClusterSelector>, NotChecked>> + Send;

    /// Three clusters that can be in the inventory, by default `civo/c1` to `civo/c3`.
    fn clusters(&self) -> [ClusterId; 3] {
        ["c1", "c2", "c3"].map(|name| {
            #[allow(clippy::expect_used, reason = "a literal")]
            ClusterId::new("civo", name).expect("the name of a cluster")
        })
    }

    /// Adds a cluster with these labels to the inventory, or gives it these. Returns once the inventory has it.
    fn put(&self, cluster: &ClusterId, labels: Labels) -> impl Future<Output = ()> + Send;

    /// Takes a cluster out of the inventory.
    fn remove(&self, cluster: &ClusterId) -> impl Future<Output = ()> + Send;

    /// Has a cluster, which is in the inventory with these labels, be reached or not, as it says itself
    /// ([`Cluster::ready`]).
    fn reach(&self, cluster: &Cluster) -> impl Future<Output = Result<(), NotChecked>> + Send;

    /// Has the inventory fail, or come back in parts.
    fn fail(&self) -> impl Future<Output = Result<(), NotChecked>> + Send;

    /// Has it come back whole again.
    fn mend(&self) -> impl Future<Output = ()> + Send;

    /// Has another operator drive a cluster, with these labels, or not any more.
    fn elsewhere(
        &self,
        cluster: &ClusterId,
        labels: Option<Labels>,
    ) -> impl Future<Output = Result<(), NotChecked>> + Send {
        let _ = (cluster, labels);
        async { Err(NotChecked::because("all its clusters are driven from here")) }
    }

    /// How long anything may take.
    fn patience(&self) -> Duration {
        Duration::from_secs(20)
    }
}

/// Makes one test of every rule in the contract of [`ClusterSelector`](crate::cluster::ClusterSelector), in a module of its
/// own.
///
/// Its arguments are the name of the module, and an expression that makes a
/// [`Fixture`](crate::testing::conformance::cluster_selector::Fixture), evaluated once for each test; it may `.await`.
///
/// ```
/// use std::sync::Arc;
///
/// use fleet_core::cluster::{Cluster, ClusterId, ClusterSelector, Labels};
/// use fleet_core::memory::MemoryClusters;
/// use fleet_core::testing::conformance::{NotChecked, cluster_selector};
///
/// #[derive(Default)]
/// struct Memory(Arc<MemoryClusters>);
///
/// impl cluster_selector::Fixture for Memory {
///     async fn selector(&self) -> Arc<dyn ClusterSelector> {
///         Arc::clone(&self.0) as _
///     }
///
///     async fn unread(&self) -> Result<Arc<dyn ClusterSelector>, NotChecked> {
///         Err(NotChecked::because("memory need not be read"))
///     }
///
///     async fn put(&self, cluster: &ClusterId, labels: Labels) {
///         self.0.put(Cluster::new(cluster.clone(), labels));
///     }
///
///     async fn remove(&self, cluster: &ClusterId) {
///         self.0.remove(cluster);
///     }
///
///     async fn reach(&self, cluster: &Cluster) -> Result<(), NotChecked> {
///         self.0.put(cluster.clone());
///         Ok(())
///     }
///
///     async fn fail(&self) -> Result<(), NotChecked> {
///         Err(NotChecked::because("memory does not fail"))
///     }
///
///     async fn mend(&self) {}
/// }
///
/// cluster_selector!(memory, Memory::default());
/// # fn main() {}
/// ```
#[macro_export]
#[doc(hidden)]
macro_rules! __conformance_cluster_selector {
    ($name:ident, $fixture:expr $(,)?) => {
        $crate::__conformance_cluster_selector_checks!($crate::__conformance_tests; cluster_selector, $name, $fixture);
    };
}

/// The checks, for whoever makes something of each.
#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_cluster_selector_checks {
    ($then:path; $($arguments:tt)*) => {
        $then! {
            $($arguments)*; "ClusterSelector";
            a_feed_waits_for_the_whole_set: "MUST return only after the whole set has been read",
            the_snapshot_is_the_whole_set: "All clusters when the feed was opened",
            nothing_falls_between_snapshot_and_changes:
                "the feed MUST tell every change after the snapshot exactly once, in order",
            each_change_is_told_once:
                "the feed MUST tell every change after the snapshot exactly once, in order",
            changes_are_told_in_order:
                "the feed MUST tell every change after the snapshot exactly once, in order",
            one_that_left_and_came_back_is_told_as_such:
                "what a cluster went through meanwhile MAY be told as one change, except that it left",
            an_unreached_cluster_does_not_leave: "The cluster cannot be reached. Nothing is withdrawn for that",
            a_failure_is_no_departure:
                "A source of clusters that failed or came back partial MUST NOT show up as clusters that left",
            what_others_drive_is_told_apart:
                "A cluster that another operator drives, new or as it is now: events may come from it, and nothing is put there from here",
            each_feed_is_told_all: "May be called more than once",
            a_dropped_feed_leaves_nothing_behind: "dropping the future or the feed leaves nothing behind",
            withdrawals_are_taken_without_blocking: "Must not block. May be told more than once",
        }
    };
}

crate::__conformance_cluster_selector_checks!(checks;);
