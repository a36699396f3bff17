//! The Applier for releases of charts, by the `helm` program, version 4 or 3.
//!
//! `helm upgrade --install` brings a release about, so that `helm ls` and `helm history` tell the truth. What we made of
//! what is written on the release itself, in labels of the Secret in which helm keeps it: the mark of the Work, a hash over
//! all that it was made of, and the revision that we made. So one request tells whether anything is to be done, whatever
//! else was forgotten, and a release without the mark is somebody else's.
//!
//! Runs of helm outlast the calls that begin them: a call that has no time left answers that helm is at work, and the next
//! one hears of its end. What a kill has left half done is rolled back, or uninstalled if nothing was there before, and
//! then done anew.

mod apply;
mod charts;
mod live;
mod observe;
mod operation;
mod parts;
mod preview;
mod program;
mod remove;
mod spec;
mod words;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use fleet_core::apply::{Applier, ApplyRequest, Claim, Identity, Mode, Outcome, Owner, RemoveRequest};
use fleet_core::cluster::ClusterId;
use fleet_core::manifest::{Gvk, ObjectRef};
use fleet_core::observe::{Depth, Observation};
use fleet_core::policy::Policy;
use futures::stream::BoxStream;
use jiff::Timestamp;
use tokio::time::Instant;

use self::charts::Charts;
use self::live::Revision;
use self::operation::{GRACE, Key, Operations, Place, Task, Workshop};
pub use self::program::HelmSetup;
use self::program::Program;
pub use self::spec::{KIND, is_release, kind};
use self::words::Secrets;
use crate::applier::{Watches, outcome};
use crate::client::Failure;
use crate::clusters::{Clusters, Link, Route};

/// How long after its end a request of a helm that was killed may still take effect: as long as an API server takes.
const SETTLE: Duration = Duration::from_secs(40);
/// Of a call's time, so much is kept for the answer.
const MARGIN: Duration = Duration::from_millis(500);
/// How often a release may turn out to be otherwise in one call.
const TURNS: usize = 8;

/// Installs, upgrades and uninstalls releases in clusters that a registry knows.
pub struct HelmApplier {
    clusters: Arc<Clusters>,
    workshop: Arc<Workshop>,
    operations: Operations,
    watches: Watches,
    now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
}

impl HelmApplier {
    /// An Applier for these clusters. That helm can be used is found out when it is needed.
    pub fn new(clusters: Arc<Clusters>, options: HelmSetup) -> Self {
        let workshop = Workshop { program: Program::new(options), charts: Charts::default() };
        Self {
            clusters,
            workshop: Arc::new(workshop),
            operations: Operations::default(),
            watches: Watches::default(),
            now: Arc::new(Timestamp::now),
        }
    }

    /// The same, with other bounds on how long watches stand.
    #[must_use]
    pub fn with_watches(mut self, watches: Watches) -> Self {
        self.watches = watches;
        self
    }

    fn link(&self, cluster: &ClusterId) -> Result<Arc<Link>, Outcome> {
        let retry = |after, reason| Outcome::Retry { after, reason, cluster: true };
        match self.clusters.route(cluster) {
            Route::Kube(link) => Ok(link),
            Route::Unreachable(reason) => Err(retry(Duration::from_secs(1), reason)),
            Route::Directory => Err(in_a_folder(cluster)),
            Route::Unknown => {
                Err(retry(Duration::from_secs(10), format!("cluster {cluster} is not registered (any more)")))
            }
        }
    }

    fn ask<'a>(
        &'a self,
        cluster: &ClusterId,
        mark: &'a str,
        (policy, claims): (&'a Policy, &'a [Claim]),
        (identity, mode): (Option<Identity>, Mode),
        deadline: Duration,
    ) -> Result<Ask<'a>, Outcome> {
        let link = self.link(cluster)?;
        if identity.is_some() && link.client.impersonates() {
            let reason = "the cluster's kubeconfig acts as another user already, so it cannot act as a service \
                          account; remove `as` from it";
            return Err(Outcome::Rejected { reason: reason.to_owned() });
        }
        let by = Instant::now() + deadline.saturating_sub(MARGIN.min(deadline / 4));
        Ok(Ask { helm: self, cluster: cluster.clone(), link, mark, policy, claims, identity, mode, by })
    }
}

/// Charts need an API server.
pub fn in_a_folder(cluster: &ClusterId) -> Outcome {
    Outcome::Rejected {
        reason: format!(
            "cluster {cluster} is a folder, and charts are installed over an API server; leave helmCharts out for it, or \
             give it a kubeconfig"
        ),
    }
}

/// One request, on its way.
struct Ask<'a> {
    helm: &'a HelmApplier,
    cluster: ClusterId,
    link: Arc<Link>,
    mark: &'a str,
    policy: &'a Policy,
    claims: &'a [Claim],
    identity: Option<Identity>,
    mode: Mode,
    by: Instant,
}

/// What there is of a release, and what it is to a Work.
enum Standing<'a> {
    /// Nothing.
    Absent,
    /// Ours to change, or to be given back one day.
    Ours {
        latest: &'a Revision,
        adopted: bool,
    },
    Theirs(Owner),
}

impl Ask<'_> {
    fn place(&self, id: &ObjectRef) -> Place {
        let key = Key {
            cluster: self.cluster.clone(),
            namespace: id.namespace.as_deref().unwrap_or_default().to_owned(),
            name: id.name.to_string(),
        };
        Place { link: Arc::clone(&self.link), identity: self.identity.clone(), key }
    }

    async fn revisions(&self, place: &Place) -> Result<Vec<Revision>, Failure> {
        let Key { namespace, name, .. } = &place.key;
        live::revisions(&self.link.client, (namespace, name), self.identity.as_ref(), self.by).await
    }

    fn standing<'r>(&self, id: &ObjectRef, revisions: &'r [Revision]) -> Standing<'r> {
        let Some(latest) = revisions.first().filter(|latest| !latest.is_gone()) else {
            return Standing::Absent;
        };
        let may_claim =
            |mark: &str| self.claims.iter().any(|claim| claim.object.same_object(id) && &*claim.from == mark);
        match &latest.mark {
            Some(mark) if **mark == *self.mark || may_claim(mark) => {
                Standing::Ours { latest, adopted: latest.adopted }
            }
            Some(mark) => Standing::Theirs(Owner::Work(Arc::clone(mark))),
            None if self.policy.adopt => Standing::Ours { latest, adopted: true },
            None => Standing::Theirs(Owner::Other("somebody who installed it with helm".to_owned())),
        }
    }

    /// What takes up a release that a run of helm was broken off in; or the outcome while it may still be at work.
    fn recovery(&self, place: &Place, revisions: &[Revision], timeout: Duration) -> Result<Task, Outcome> {
        let Some((latest, before)) = revisions.split_first() else { return Ok(Task::Uninstall { timeout }) };
        let held = self.helm.workshop.hold(&place.key);
        let held = held.map_err(|unrun| words::of_run(unrun, "helm", &Secrets::default()))?;
        let Some(held) = held else { return Err(at_work()) };
        let age = latest.changed.map(|at| (self.helm.now)().as_second().saturating_sub(at));
        let longest = timeout.saturating_add(GRACE).as_secs();
        let is_old = age.is_none_or(|age| u64::try_from(age).is_ok_and(|age| age > longest));
        if held.begun() != Some(latest.number) && !is_old {
            return Err(Outcome::Waiting {
                reason: format!(
                    "helm is at work on revision {} ({}), begun elsewhere; what becomes of it is looked at again, and it is \
                     taken up when it is {longest} s old",
                    latest.number, latest.status
                ),
            });
        }
        let is_good = |revision: &&Revision| matches!(revision.status.as_str(), "deployed" | "superseded");
        Ok(match before.iter().find(is_good) {
            Some(good) if latest.status != "uninstalling" => {
                Task::RollBack { to: good.number, revision: latest.number.saturating_add(1), timeout }
            }
            _ => Task::Uninstall { timeout },
        })
    }

    /// One release's outcome.
    fn told(&self, id: &ObjectRef, result: Result<Outcome, Failure>) -> Outcome {
        let outcome = match result {
            Ok(outcome) => outcome,
            Err(failure) => outcome::of_failure(failure, id),
        };
        if matches!(outcome, Outcome::Retry { cluster: true, .. }) {
            self.link.doubt();
        }
        outcome
    }
}

fn at_work() -> Outcome {
    Outcome::Waiting { reason: "helm is at work on it".to_owned() }
}

#[async_trait]
impl Applier for HelmApplier {
    async fn apply(&self, request: ApplyRequest) -> Vec<Outcome> {
        let ApplyRequest { cluster, work, manifests, inventory, claims, policy, identity, mode, deadline } =
            request;
        let ask = self.ask(&cluster.id, work.hash(), (&policy, &claims), (identity, mode), deadline);
        let ask = match ask {
            Ok(ask) => ask,
            Err(outcome) => return vec![outcome; manifests.len()],
        };
        // What helm does is bounded for all together.
        let outcomes = manifests.iter().map(|manifest| async {
            let known = inventory.iter().find(|item| item.object.same_object(manifest.id()));
            ask.told(manifest.id(), ask.apply(manifest, known).await)
        });
        futures::future::join_all(outcomes).await
    }

    async fn remove(&self, request: RemoveRequest) -> Vec<Outcome> {
        let RemoveRequest { cluster, work, items, mode, identity, deadline } = request;
        let policy = Policy::default();
        let ask = self.ask(&cluster.id, work.hash(), (&policy, &[]), (identity, mode), deadline);
        let ask = match ask {
            Ok(ask) => ask,
            Err(outcome) => return vec![outcome; items.len()],
        };
        let outcomes = items.iter().map(|item| async { ask.told(&item.object, ask.remove(item).await) });
        futures::future::join_all(outcomes).await
    }

    fn settle_time(&self) -> Duration {
        SETTLE
    }

    /// A release is seen with all its objects: when one of them is deleted, or loses a field to somebody, the release has
    /// another print. Holds a connection for the releases, and one for each kind that charts have objects of.
    fn observe(&self, cluster: &ClusterId, kind: &Gvk, _depth: Depth) -> BoxStream<'static, Observation> {
        match is_release(kind) {
            true => observe::observe(&self.clusters, cluster, self.watches),
            false => Box::pin(futures::stream::empty()),
        }
    }
}
