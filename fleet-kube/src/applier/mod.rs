//! The Applier for real clusters.
//!
//! An object that is not in the inventory is created by POST, which never touches what is there. One that is ours is
//! updated by server-side apply that names its UID and the resourceVersion of our last write: it never creates, never
//! touches another object, and never overtakes another Work that took the object over. If somebody else wrote to the
//! object in between, its mark is read, and the write goes on from there. Deletions are guarded in the same way.
//!
//! Everything is written as field manager [`fleet`](crate::client::FIELD_MANAGER), whatever Work it is for.

mod apply;
mod ground;
pub(crate) mod object;
pub(crate) mod observe;
mod order;
pub(crate) mod outcome;
mod preview;
mod refusal;
mod remove;
mod requests;
mod run;

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use fleet_core::apply::{Applier, ApplyRequest, Mode, Outcome, RemoveRequest};
use fleet_core::cluster::ClusterId;
use fleet_core::manifest::{Gvk, Manifest};
use fleet_core::observe::{Depth, Observation};
use fleet_core::policy::Policy;
use futures::stream::BoxStream;
use jiff::Timestamp;

pub use self::observe::Watches;
use self::order::{Rank, in_order};
use self::run::Run;
use crate::clusters::{Clusters, Link, Route};

/// Namespaces that are never deleted, whoever made them: that would destroy a cluster, not a tenant.
pub const PROTECTED_NAMESPACES: [&str; 4] = ["default", "kube-node-lease", "kube-public", "kube-system"];

/// API servers cut requests that write after 34 s, whatever `timeout=` says (they wait for storage no longer); the rest
/// is for clocks and queues. A server or etcd that was frozen may act later still: then the mark tells whose it is.
const SETTLE: Duration = Duration::from_secs(40);

/// Applies to clusters that a registry knows, over their API servers.
pub struct KubeApplier {
    clusters: Arc<Clusters>,
    watches: Watches,
    protected: BTreeSet<String>,
    now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
}

impl KubeApplier {
    /// An Applier for these clusters.
    pub fn new(clusters: Arc<Clusters>) -> Self {
        let protected = PROTECTED_NAMESPACES.map(str::to_owned).into();
        Self { clusters, watches: Watches::default(), protected, now: Arc::new(Timestamp::now) }
    }

    /// The same, that never deletes these namespaces either, beside [`PROTECTED_NAMESPACES`].
    #[must_use]
    pub fn protecting(mut self, namespaces: impl IntoIterator<Item = String>) -> Self {
        self.protected.extend(namespaces);
        self
    }

    /// The same, with another clock.
    #[must_use]
    pub fn with_clock(mut self, now: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        self.now = Arc::new(now);
        self
    }

    /// The same, with other bounds on how long watches stand.
    #[must_use]
    pub fn with_watches(mut self, watches: Watches) -> Self {
        self.watches = watches;
        self
    }

    /// The way into a cluster, or the outcome for everything in a request to it.
    fn link(&self, cluster: &ClusterId) -> Result<Arc<Link>, Outcome> {
        let retry = |after, reason| Outcome::Retry { after, reason, cluster: true };
        match self.clusters.route(cluster) {
            Route::Kube(link) => Ok(link),
            Route::Unreachable(reason) => Err(retry(Duration::from_secs(1), reason)),
            Route::Directory => Err(Outcome::Rejected {
                reason: format!("cluster {cluster} is a folder, without an API server"),
            }),
            Route::Unknown => {
                Err(retry(Duration::from_secs(10), format!("cluster {cluster} is not registered (any more)")))
            }
        }
    }
}

#[async_trait]
impl Applier for KubeApplier {
    async fn apply(&self, request: ApplyRequest) -> Vec<Outcome> {
        let ApplyRequest { cluster, work, manifests, inventory, claims, policy, identity, mode, deadline } =
            request;
        let run = self.link(&cluster.id).and_then(|link| {
            let (policy, protected, identity) = (&policy, &self.protected, identity.as_ref());
            Run::new(link, &work, policy, protected, identity, mode, deadline)
        });
        let run = match run {
            Ok(run) => run.applying(&manifests, &claims),
            Err(outcome) => return vec![outcome; manifests.len()],
        };
        let ranks: Vec<Rank> = manifests.iter().map(|manifest| Rank::of(&manifest.id().gvk)).collect();
        let mut outcomes = in_order(&ranks, |index| {
            let (run, inventory, manifests) = (&run, &inventory, &manifests);
            async move {
                let manifest = manifests.get(index)?;
                let id = manifest.id();
                Some(match mode {
                    Mode::Write => run.guarded(id, run.apply(manifest, inventory)).await,
                    Mode::Preview => run.guarded(id, run.preview(manifest, inventory)).await,
                })
            }
        })
        .await;
        if mode == Mode::Preview && !policy.continue_on_conflict {
            hold_up(&manifests, &ranks, &mut outcomes);
        }
        outcomes
    }

    async fn remove(&self, request: RemoveRequest) -> Vec<Outcome> {
        let RemoveRequest { cluster, work, items, mode, identity, deadline } = request;
        let policy = Policy::default();
        let run = self.link(&cluster.id).and_then(|link| {
            let (policy, protected, identity) = (&policy, &self.protected, identity.as_ref());
            Run::new(link, &work, policy, protected, identity, mode, deadline)
        });
        let run = match run {
            Ok(run) => run,
            Err(outcome) => return vec![outcome; items.len()],
        };
        let ranks: Vec<_> = items.iter().map(|item| Reverse(Rank::of(&item.object.gvk))).collect();
        in_order(&ranks, |index| {
            let (run, items) = (&run, &items);
            async move {
                let item = items.get(index)?;
                Some(run.guarded(&item.object, run.remove(item, &*self.now)).await)
            }
        })
        .await
    }

    fn settle_time(&self) -> Duration {
        SETTLE
    }

    /// Holds a connection of its own. Empty for clusters that are folders.
    fn observe(&self, cluster: &ClusterId, kind: &Gvk, depth: Depth) -> BoxStream<'static, Observation> {
        observe::observe(&self.clusters, cluster, kind, depth, self.watches)
    }
}

/// What a conflict would keep from being begun: whatever comes after it in the order.
fn hold_up(manifests: &[Manifest], ranks: &[Rank], outcomes: &mut [Outcome]) {
    let conflicts = ranks.iter().zip(manifests).zip(outcomes.iter());
    let first = conflicts
        .filter_map(|((rank, manifest), outcome)| match outcome {
            Outcome::Conflict { owner } => Some((*rank, Outcome::held_up(manifest.id(), owner))),
            _ => None,
        })
        .min_by_key(|(rank, _)| *rank);
    let Some((conflicting, held_up)) = first else { return };
    for (rank, outcome) in ranks.iter().zip(outcomes) {
        if *rank > conflicting && matches!(outcome, Outcome::Would(_)) {
            *outcome = held_up.clone();
        }
    }
}
