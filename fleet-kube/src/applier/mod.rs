//! The Applier for real clusters.
//!
//! An object that is not in the inventory is created by POST, which never touches what is there. One that is ours is
//! updated by server-side apply that names its UID, which never creates and never touches another object. Ours is what
//! the inventory knows by UID, or what carries this Work's mark; all else is somebody else's.

mod create;
mod object;
mod observe;
mod outcome;
mod remove;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use fleet_core::apply::{Applier, ApplyRequest, Identity, Mode, Outcome, RemoveRequest};
use fleet_core::cluster::ClusterId;
use fleet_core::manifest::{Gvk, ObjectRef};
use fleet_core::observe::{Depth, Observation};
use fleet_core::policy::Policy;
use fleet_core::work::WorkId;
use futures::StreamExt;
use futures::stream::BoxStream;
use jiff::Timestamp;
use tokio::time::Instant;

pub use self::observe::Watches;
use crate::client::{Failure, Resource};
use crate::clusters::{Clusters, Link, Route};

/// How many objects of one request are worked on at the same time.
const PARALLEL: usize = 8;

/// API servers cut requests that write after 34 s, whatever `timeout=` says (they wait for storage no longer); the rest
/// is for clocks and queues. A server or etcd that was frozen may act later still: then the mark tells whose it is.
const SETTLE: Duration = Duration::from_secs(40);

/// Applies to clusters that a registry knows, over their API servers.
pub struct KubeApplier {
    clusters: Arc<Clusters>,
    watches: Watches,
    now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
}

impl KubeApplier {
    /// An Applier for these clusters.
    pub fn new(clusters: Arc<Clusters>) -> Self {
        Self { clusters, watches: Watches::default(), now: Arc::new(Timestamp::now) }
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
        let ApplyRequest { cluster, work, manifests, inventory, identity, mode, deadline, policy, .. } =
            request;
        let all = |outcome: Outcome| vec![outcome; manifests.len()];
        if mode == Mode::Preview {
            return all(Outcome::Rejected { reason: "preview is not supported yet".to_owned() });
        }
        let run = match self
            .link(&cluster.id)
            .and_then(|link| Run::new(link, &work, &policy, identity.as_ref(), deadline))
        {
            Ok(run) => run,
            Err(outcome) => return all(outcome),
        };
        // What others live in comes first.
        in_two_steps(
            manifests.len(),
            |index| manifests.get(index).is_some_and(|manifest| is_ground(&manifest.id().gvk)),
            |index| {
                let (run, inventory, manifests) = (&run, &inventory, &manifests);
                async move {
                    let manifest = manifests.get(index)?;
                    Some(run.guarded(manifest.id(), run.apply(manifest, inventory, manifests)).await)
                }
            },
        )
        .await
    }

    async fn remove(&self, request: RemoveRequest) -> Vec<Outcome> {
        let RemoveRequest { cluster, work, items, identity, deadline, .. } = request;
        let policy = Policy::default();
        let run = match self
            .link(&cluster.id)
            .and_then(|link| Run::new(link, &work, &policy, identity.as_ref(), deadline))
        {
            Ok(run) => run,
            Err(outcome) => return vec![outcome; items.len()],
        };
        in_two_steps(
            items.len(),
            |index| items.get(index).is_some_and(|item| !is_ground(&item.object.gvk)),
            |index| {
                let (run, items) = (&run, &items);
                async move {
                    let item = items.get(index)?;
                    Some(run.guarded(&item.object, run.remove(item, &*self.now)).await)
                }
            },
        )
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

/// What other objects need to be there at all.
fn is_ground(gvk: &Gvk) -> bool {
    matches!(
        (&*gvk.group, &*gvk.kind),
        ("", "Namespace") | ("apiextensions.k8s.io", "CustomResourceDefinition")
    )
}

/// Runs one future for each index: all `first` ones, a few at a time, then the others.
async fn in_two_steps<F, Fut>(count: usize, first: impl Fn(usize) -> bool, run: F) -> Vec<Outcome>
where
    F: Fn(usize) -> Fut,
    Fut: Future<Output = Option<Outcome>>,
{
    let mut outcomes = vec![Outcome::Unknown { reason: "it was not tried".to_owned() }; count];
    for step in [true, false] {
        let indices = (0..count).filter(|index| first(*index) == step);
        let mut running = futures::stream::iter(indices)
            .map(|index| {
                let one = run(index);
                async move { (index, one.await) }
            })
            .buffer_unordered(PARALLEL);
        while let Some((index, outcome)) = running.next().await {
            if let (Some(place), Some(outcome)) = (outcomes.get_mut(index), outcome) {
                *place = outcome;
            }
        }
    }
    outcomes
}

/// One request, on its way.
struct Run<'a> {
    link: Arc<Link>,
    work: &'a WorkId,
    policy: &'a Policy,
    identity: Option<&'a Identity>,
    deadline: Instant,
    /// Set once the cluster turned out to be out of reach: the rest is not tried.
    out_of_reach: OnceLock<Outcome>,
}

impl<'a> Run<'a> {
    fn new(
        link: Arc<Link>,
        work: &'a WorkId,
        policy: &'a Policy,
        identity: Option<&'a Identity>,
        deadline: Duration,
    ) -> Result<Self, Outcome> {
        if identity.is_some() && link.client.impersonates() {
            let reason = "the cluster's kubeconfig acts as another user already, so it cannot act as a service \
                          account; remove `as` from it";
            return Err(Outcome::Rejected { reason: reason.to_owned() });
        }
        Ok(Self {
            link,
            work,
            policy,
            identity,
            deadline: Instant::now() + deadline,
            out_of_reach: OnceLock::new(),
        })
    }

    /// One object's outcome, unless the cluster is out of reach already.
    async fn guarded(&self, id: &ObjectRef, work: impl Future<Output = Result<Outcome, Failure>>) -> Outcome {
        if let Some(outcome) = self.out_of_reach.get() {
            return outcome.clone();
        }
        let outcome = match work.await {
            Ok(outcome) => outcome,
            Err(failure) => {
                if matches!(failure, Failure::NoSuchPath) {
                    self.link.kinds.forget(&id.gvk);
                }
                outcome::of_failure(failure, id)
            }
        };
        match &outcome {
            Outcome::Retry { cluster: true, .. } => {
                self.link.doubt();
                let _ = self.out_of_reach.set(outcome.clone());
            }
            Outcome::Unknown { .. } => self.link.doubt(),
            _ => {}
        }
        outcome
    }

    /// Whether a manifest or an inventory item names its object as the kind wants it.
    fn scope_fault(&self, id: &ObjectRef, resource: &Resource) -> Option<Outcome> {
        let reason = match (resource.namespaced, &id.namespace) {
            (true, None) => "metadata.namespace is missing".to_owned(),
            (false, Some(_)) => format!("{} is not namespaced; remove metadata.namespace", id.gvk.kind),
            _ => return None,
        };
        Some(Outcome::Rejected { reason })
    }
}

/// A failure to read had no effect, whatever it was.
fn of_reading(failure: Failure) -> Failure {
    match failure {
        Failure::NoAnswer { reason } => Failure::Unreachable { reason },
        other => other,
    }
}
