//! An Applier that does in simulated clusters what fleet-kube's does in real ones.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use fleet_core::apply::{Applier, ApplyRequest, InventoryItem, Outcome, Owner, Placed, RemoveRequest};
use fleet_core::cluster::ClusterId;
use fleet_core::environment::Clock;
use fleet_core::manifest::{Gvk, Manifest};
use fleet_core::observe::{Depth, Observation};
use fleet_core::work::WorkId;
use futures::StreamExt;
use futures::stream::BoxStream;
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::clusters::{Clusters, Failure, Object, Request, SETTLE};
use crate::process::Process;
use crate::world::{Lie, World};

/// How often an object may change under our hands before it is left for later.
const TURNS: usize = 4;

/// One process's way into the clusters.
pub(crate) struct SimApplier {
    pub(crate) world: Arc<World>,
    pub(crate) process: Arc<Process>,
    pub(crate) clusters: Arc<Clusters>,
}

/// One request, on its way.
struct Run<'a> {
    applier: &'a SimApplier,
    cluster: &'a ClusterId,
    work: &'a WorkId,
    deadline: Instant,
    /// Set once the cluster turned out to be out of reach: the rest is not tried.
    out_of_reach: Mutex<Option<Outcome>>,
}

enum Step {
    Create,
    Update(Arc<str>),
    Look,
}

impl Run<'_> {
    async fn call(&self, name: &str, request: Request) -> Result<Object, Failure> {
        let process = &self.applier.process;
        let (kind, cluster) = (request.clone(), self.cluster);
        process.may_die(|| format!("before {kind:?} of {name} in {cluster}")).await;
        let answer = self.applier.clusters.call(cluster, name, request, self.deadline).await;
        process.may_die(|| format!("after {kind:?} of {name} in {cluster}")).await;
        answer
    }

    /// A failure to read had no effect, whatever it was.
    async fn look(&self, name: &str) -> Result<Option<Object>, Failure> {
        match self.call(name, Request::Get).await {
            Ok(object) => Ok(Some(object)),
            Err(Failure::NotFound) => Ok(None),
            Err(Failure::NoAnswer) => Err(Failure::Unreachable),
            Err(failure) => Err(failure),
        }
    }

    async fn apply(&self, manifest: &Manifest, inventory: &[InventoryItem]) -> Result<Outcome, Failure> {
        let name = &*manifest.id().name;
        let item = inventory.iter().find(|item| item.object.same_object(manifest.id()));
        let known = item.and_then(|item| item.uid.clone());
        let (mark, content) = (self.work.hash().to_owned(), content(manifest));
        let mut step = known.map_or(Step::Create, Step::Update);
        for _ in 0..TURNS {
            let (mark, content) = (mark.clone(), content.clone());
            step = match step {
                Step::Create => match self.call(name, Request::Create { mark, content }).await {
                    Ok(object) => return Ok(Outcome::Applied(Placed::new(object.uid))),
                    Err(Failure::AlreadyExists) => Step::Look,
                    Err(failure) => return Err(failure),
                },
                Step::Update(uid) => {
                    match self.call(name, Request::Update { uid: Arc::clone(&uid), mark, content }).await {
                        Ok(object) if object.is_going => return Ok(being_deleted()),
                        Ok(_) => return Ok(Outcome::Applied(Placed::new(uid))),
                        Err(Failure::UidMismatch) => Step::Look,
                        Err(failure) => return Err(failure),
                    }
                }
                Step::Look => match self.look(name).await? {
                    None => Step::Create,
                    Some(object) if object.is_going => return Ok(being_deleted()),
                    Some(object) if object.mark.as_deref() == Some(self.work.hash()) => {
                        Step::Update(object.uid)
                    }
                    Some(_) => {
                        return Ok(Outcome::Conflict { owner: Owner::Other("somebody else".to_owned()) });
                    }
                },
            };
        }
        Err(Failure::AlreadyExists)
    }

    async fn remove(&self, item: &InventoryItem) -> Result<Outcome, Failure> {
        let name = &*item.object.name;
        let mut uid = item.uid.clone();
        for _ in 0..TURNS {
            if let Some(known) = uid.take() {
                match self.call(name, Request::Delete { uid: known }).await {
                    Ok(object) if object.is_going => return Ok(being_deleted()),
                    Ok(_) | Err(Failure::NotFound | Failure::UidMismatch) => {}
                    Err(failure) => return Err(failure),
                }
            }
            let begun = self.applier.world.now();
            let Some(object) = self.look(name).await? else {
                return Ok(absent(item, begun));
            };
            let is_ours =
                object.mark.as_deref() == Some(self.work.hash()) || item.uid.as_ref() == Some(&object.uid);
            if !is_ours {
                return Ok(absent(item, begun));
            }
            if object.is_going {
                return Ok(being_deleted());
            }
            uid = Some(object.uid);
        }
        Err(Failure::AlreadyExists)
    }

    async fn guarded(&self, work: impl Future<Output = Result<Outcome, Failure>>) -> Outcome {
        if let Some(outcome) = self.out_of_reach.lock().clone() {
            return outcome;
        }
        let outcome = work.await.unwrap_or_else(|failure| of_failure(&failure));
        if matches!(outcome, Outcome::Retry { cluster: true, .. }) {
            *self.out_of_reach.lock() = Some(outcome.clone());
        }
        outcome
    }
}

/// Nothing of ours was there in a read that began at `begun`: that is proof only once nothing can land any more.
fn absent(item: &InventoryItem, begun: Timestamp) -> Outcome {
    match item.uncertain_until {
        Some(until) if begun < until => Outcome::Waiting { reason: format!("it may come until {until}") },
        _ => Outcome::Gone,
    }
}

fn being_deleted() -> Outcome {
    Outcome::Waiting { reason: "it is being deleted".to_owned() }
}

fn of_failure(failure: &Failure) -> Outcome {
    let reason = format!("{failure:?}");
    let soon = Duration::from_secs(1);
    match failure {
        Failure::Unreachable => Outcome::Retry { after: soon, reason, cluster: true },
        Failure::NoAnswer => Outcome::Unknown { reason },
        _ => Outcome::Retry { after: soon, reason, cluster: false },
    }
}

/// What tells one rendering of an object from another.
fn content(manifest: &Manifest) -> String {
    manifest.object()["data"]["event"].as_str().unwrap().to_owned()
}

#[async_trait]
impl Applier for SimApplier {
    async fn apply(&self, request: ApplyRequest) -> Vec<Outcome> {
        let run = self.run(&request.cluster.id, &request.work, request.deadline);
        let manifests = request.manifests.iter();
        let each = manifests.map(|manifest| run.guarded(run.apply(manifest, &request.inventory)));
        futures::future::join_all(each).await
    }

    async fn remove(&self, request: RemoveRequest) -> Vec<Outcome> {
        let run = self.run(&request.cluster.id, &request.work, request.deadline);
        futures::future::join_all(request.items.iter().map(|item| run.guarded(run.remove(item)))).await
    }

    fn settle_time(&self) -> Duration {
        if self.world.lie == Lie::NothingLandsLate { Duration::ZERO } else { SETTLE }
    }

    fn observe(&self, _: &ClusterId, _: &Gvk, _: Depth) -> BoxStream<'static, Observation> {
        futures::stream::empty().boxed()
    }
}

impl SimApplier {
    fn run<'a>(&'a self, cluster: &'a ClusterId, work: &'a WorkId, deadline: Duration) -> Run<'a> {
        let deadline = Instant::now() + deadline;
        Run { applier: self, cluster, work, deadline, out_of_reach: Mutex::default() }
    }
}
