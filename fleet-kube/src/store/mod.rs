//! A WorkStore of Kubernetes objects: nothing to keep on a disk, and everything shows in `kubectl get works` and
//! `kubectl get appliedworks -A`.
//!
//! | record | object |
//! |---|---|
//! | Work | `Work` in the operator's namespace |
//! | AppliedWork | `AppliedWork` in the Cluster's namespace, which must exist |
//! | floors of an EventSource, epoch of a domain | a ConfigMap each in the operator's namespace |
//! | dead letter | a Secret of type [`SECRET_TYPE`] in the operator's namespace; several if it is large |
//!
//! Event data is in Works and dead letters: grant reading these as you grant reading Secrets, and have the API server
//! encrypt `works.fleet-events.dev` at rest where it encrypts Secrets.
//!
//! # How it works
//! A write is one request. A Work's plans are written with it, in its own object: until something came of a plan, the
//! AppliedWork is only there, and to callers there is no difference. A revision is an object's UID and generation, so
//! that statuses, labels and annotations, whoever writes them, disturb nobody.
//!
//! Reads come from memory. It is loaded before the store is handed out; own writes are in it when they return; what
//! others write comes by two watches. While these are broken, what is known holds, and no write is lost for it: the API
//! server compares each. A write without an answer leaves its record in doubt, and the next to read it asks the API
//! server. A Work and an AppliedWork together take about 4 KiB of memory, and what a large event adds.
//!
//! The one thing that is not compared is a record that is not an object yet: whether a plan still stands is judged by
//! what this handle knows. Where another took it over and took it away again at that moment, it is made anew, and the
//! next look at the Work removes it: what it names may have been made.
//!
//! The status of a Work is for people. It is written by a task of its own, a second after something happened, later
//! while the API server is busy.
//!
//! # Permissions
//! ```yaml
//! # ClusterRole
//! - apiGroups: [fleet-events.dev]
//!   resources: [works, appliedworks]
//!   verbs: [get, list, watch, create, patch, delete]
//! - apiGroups: [fleet-events.dev]
//!   resources: [works/status]
//!   verbs: [patch]
//! # Role in the operator's namespace
//! - apiGroups: [""]
//!   resources: [configmaps]
//!   verbs: [get, create, update]
//! - apiGroups: [""]
//!   resources: [secrets]
//!   verbs: [get, list, create, update, delete]
//! # ClusterRole, to make the operator's namespace; not needed where it is there
//! - apiGroups: [""]
//!   resources: [namespaces]
//!   verbs: [get, create]
//! ```
//! AppliedWorks are listed and watched in all namespaces, so that needs a ClusterRole. Not so with
//! [`KubeStore::open_in_one`], which has them in the operator's namespace: there a Role will do.

mod cache;
mod ledger;
mod letters;
mod objects;
mod open;
mod record;
mod status;
mod watching;
mod writing;

use std::ops::Bound;
use std::sync::Arc;

use async_trait::async_trait;
use fleet_core::cluster::ClusterId;
use fleet_core::dead_letter::DeadLetter;
use fleet_core::position::{Domain, Position};
use fleet_core::store::{Revision, StoreChange, StoreError, Stored, WorkStore};
use fleet_core::work::{AppliedWork, Work, WorkId};
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use tokio::sync::broadcast::error::RecvError;
use tokio_util::task::AbortOnDropHandle;

use self::cache::Cache;
use self::ledger::Ledger;
use self::letters::Letters;
use self::objects::{Objects, deadline};
use self::record::{Known, Place, PlannedWork, Record, Rooms, Version};
use self::writing::conflict;

pub use self::letters::SECRET_TYPE;
pub use self::open::OpenError;
pub(crate) use self::record::read_position;

/// What the object of an AppliedWork is called.
pub(crate) fn applied_object_name(work: &WorkId, cluster: &ClusterId) -> String {
    record::applied_name(work, cluster)
}

/// What stands in its spec.
pub(crate) fn applied_object_spec(
    applied: &AppliedWork,
    write: i64,
) -> Result<serde_json::Value, StoreError> {
    record::applied_spec(applied, write)
}

/// What an object with this spec says; nothing, if it cannot be read.
pub(crate) fn read_applied_object(spec: serde_json::Value) -> Option<AppliedWork> {
    AppliedWork::read("", spec).ok()
}

/// A WorkStore of Kubernetes objects. See the [module](self). Dropping it ends its tasks.
pub struct KubeStore {
    cache: Arc<Cache>,
    objects: Objects,
    rooms: Rooms,
    ledger: Ledger,
    letters: Letters,
    _tasks: [AbortOnDropHandle<()>; 3],
}

impl std::fmt::Debug for KubeStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KubeStore").field("namespace", &self.rooms.works).finish_non_exhaustive()
    }
}

fn only_work((planned, version): (&Arc<PlannedWork>, &Version)) -> Stored<Arc<Work>> {
    Stored { value: Arc::clone(&planned.work), revision: version.revision() }
}

#[async_trait]
impl WorkStore for KubeStore {
    async fn next_epoch(&self, domain: &Domain) -> Result<u64, StoreError> {
        self.ledger.next_epoch(domain).await
    }

    async fn work(&self, id: &WorkId) -> Result<Option<Stored<Arc<Work>>>, StoreError> {
        let place = Place::of_work(id);
        self.settle::<PlannedWork>(&place).await?;
        Ok(self.cache.lock::<PlannedWork>().get(&place).map(only_work))
    }

    async fn put_work(
        &self,
        work: Arc<Work>,
        expected: Option<Revision>,
        plans: Vec<AppliedWork>,
    ) -> Result<Revision, StoreError> {
        let deadline = deadline();
        let place = Place::of_work(&work.id);
        let expected = match expected.as_ref().map(Known::read) {
            None => None,
            Some(Some(Known::Object(expected))) => Some(expected),
            Some(_) => return Err(conflict(&place)),
        };
        let known = self.expect(&place, expected, deadline).await?;
        let write = expected.map_or(0, |expected| expected.generation) + 1;
        let plans = self.plans(known.as_deref(), plans, write);
        self.put(Arc::new(PlannedWork::new(work, plans)), expected, deadline).await
    }

    async fn delete_work(&self, id: &WorkId, expected: Revision) -> Result<(), StoreError> {
        let deadline = deadline();
        let place = Place::of_work(id);
        let Some(Known::Object(expected)) = Known::read(&expected) else { return Err(conflict(&place)) };
        // What was planned outlives the Work: it says what may be in clusters.
        let known = self.expect(&place, Some(expected), deadline).await?;
        for plan in self.plans(known.as_deref(), Vec::new(), 0) {
            match self.put(plan.applied, None, deadline).await {
                Ok(_) | Err(StoreError::Conflict(_)) => {}
                Err(error) => return Err(error),
            }
        }
        self.delete::<PlannedWork>(place, expected, deadline).await
    }

    async fn works<'a>(
        &self,
        trigger: Option<&'a str>,
        after: Option<&'a WorkId>,
        limit: usize,
    ) -> Result<Vec<Stored<Arc<Work>>>, StoreError> {
        let after = after.map(Place::of_work);
        let works = self.cache.lock::<PlannedWork>();
        let works = works.range(after.as_ref().map_or(Bound::Unbounded, Bound::Excluded));
        let wanted =
            works.filter(|(_, planned, _)| trigger.is_none_or(|trigger| *planned.work.trigger == *trigger));
        Ok(wanted.take(limit).map(|(_, planned, version)| only_work((planned, version))).collect())
    }

    async fn applied(&self, work: &WorkId) -> Result<Vec<Stored<Arc<AppliedWork>>>, StoreError> {
        let of_work = Place::of_work(work);
        self.settle::<PlannedWork>(&of_work).await?;
        let doubts = self.cache.lock::<AppliedWork>().doubts_of(work);
        for place in doubts {
            self.settle::<AppliedWork>(&place).await?;
        }
        let from = Bound::Included(&of_work);
        Ok(self.cache.applied(from, usize::MAX, |place| place.work == *work))
    }

    async fn applied_in(
        &self,
        work: &WorkId,
        cluster: &ClusterId,
    ) -> Result<Option<Stored<Arc<AppliedWork>>>, StoreError> {
        self.settle::<PlannedWork>(&Place::of_work(work)).await?;
        self.settle::<AppliedWork>(&Place::in_cluster(work, cluster)).await?;
        Ok(self.cache.applied_in(work, cluster))
    }

    async fn all_applied<'a>(
        &self,
        after: Option<(&'a WorkId, &'a ClusterId)>,
        limit: usize,
    ) -> Result<Vec<Stored<Arc<AppliedWork>>>, StoreError> {
        let after = after.map(|(work, cluster)| Place::in_cluster(work, cluster));
        let after = after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        Ok(self.cache.applied(after, limit, |_| true))
    }

    async fn put_applied(
        &self,
        applied: Arc<AppliedWork>,
        expected: Option<Revision>,
    ) -> Result<Revision, StoreError> {
        let deadline = deadline();
        let place = applied.place();
        let expected = match expected.as_ref().map(Known::read) {
            None if self.cache.applied_in(&applied.work, &applied.cluster).is_none() => None,
            Some(Some(Known::Object(expected))) => Some(expected),
            Some(Some(Known::Plan { uid, write }))
                if self.is_planned(&place, (uid, write), deadline).await? =>
            {
                None
            }
            Some(_) => return Err(conflict(&place)),
            None => {
                // Somebody may have taken away what is known here.
                self.fetch::<PlannedWork>(&Place::of_work(&applied.work), deadline).await?;
                self.fetch::<AppliedWork>(&place, deadline).await?;
                if self.cache.applied_in(&applied.work, &applied.cluster).is_some() {
                    return Err(conflict(&place));
                }
                None
            }
        };
        self.put(applied, expected, deadline).await
    }

    async fn delete_applied(
        &self,
        work: &WorkId,
        cluster: &ClusterId,
        expected: Revision,
    ) -> Result<(), StoreError> {
        let deadline = deadline();
        let place = Place::in_cluster(work, cluster);
        match Known::read(&expected) {
            Some(Known::Object(expected)) => {
                let is = |version: &Version| version.is(expected);
                let known = self.cache.lock::<AppliedWork>().get(&place).map(|(_, version)| is(version));
                if known != Some(true) {
                    let found = self.fetch::<AppliedWork>(&place, deadline).await?;
                    if !found.is_some_and(|(_, version)| is(&version)) {
                        return Err(conflict(&place));
                    }
                }
                // Else it would be what is known once the AppliedWork is gone.
                self.drop_plan(&place, deadline).await?;
                self.delete::<AppliedWork>(place, expected, deadline).await
            }
            Some(Known::Plan { uid, write }) if self.is_planned(&place, (uid, write), deadline).await? => {
                self.drop_plan(&place, deadline).await
            }
            _ => Err(conflict(&place)),
        }
    }

    async fn floors(&self, source: &str) -> Result<Vec<Position>, StoreError> {
        self.ledger.floors(source).await
    }

    async fn raise_floor(&self, source: &str, floor: &Position) -> Result<(), StoreError> {
        self.ledger.raise_floor(source, floor).await
    }

    async fn add_dead_letter(&self, letter: Arc<DeadLetter>) -> Result<(), StoreError> {
        self.letters.add(&letter).await
    }

    async fn dead_letters<'a>(
        &self,
        after: Option<&'a str>,
        limit: usize,
    ) -> Result<Vec<Arc<DeadLetter>>, StoreError> {
        self.letters.list(after, limit).await
    }

    async fn dead_letter(&self, id: &str) -> Result<Option<Arc<DeadLetter>>, StoreError> {
        self.letters.get(id).await
    }

    async fn drop_dead_letter(&self, id: &str) -> Result<bool, StoreError> {
        self.letters.remove(id).await
    }

    /// What others write down of a cluster is not told: two operators would have each other look for ever.
    async fn watch(&self) -> Result<BoxStream<'static, StoreChange>, StoreError> {
        let changes = stream::unfold(self.cache.changes.subscribe(), |mut changes| async move {
            loop {
                match changes.recv().await {
                    Ok(Place { cluster: Some(_), .. }) => {}
                    Ok(Place { work, .. }) => return Some((StoreChange::Work(work), changes)),
                    Err(RecvError::Lagged(_)) => return Some((StoreChange::Many, changes)),
                    Err(RecvError::Closed) => return None,
                }
            }
        });
        Ok(changes.boxed())
    }
}
