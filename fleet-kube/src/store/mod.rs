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
//! A write is one request for each record, and a new Work and its plans are written at the same time. A revision is an
//! object's UID and generation, so that statuses, labels and annotations, whoever writes them, disturb nobody. Reads come
//! from memory: it is loaded before the store is handed out, own writes are in it when they return, and what others write
//! comes by two watches. While these are broken, what is known holds, and no write is lost for it: the API server
//! compares each. A write without an answer leaves its record in doubt, and the next to read it asks the API server.
//!
//! A Work with its AppliedWork takes about 5 KiB of memory besides its event's data. The status of a Work is written by
//! a task of its own, a second after something happened.
//!
//! # Permissions
//! ```yaml
//! # ClusterRole, or a Role in the operator's namespace and in each namespace with Clusters
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
//! AppliedWorks are listed and watched in all namespaces, so that needs a ClusterRole.

mod cache;
mod ledger;
mod letters;
mod objects;
mod open;
mod record;
mod status;
mod watching;

use std::sync::Arc;

use async_trait::async_trait;
use fleet_core::cluster::ClusterId;
use fleet_core::dead_letter::DeadLetter;
use fleet_core::position::{Domain, Position};
use fleet_core::store::{Revision, StoreChange, StoreError, Stored, WorkStore};
use fleet_core::work::{AppliedWork, Work, WorkId};
use futures::StreamExt as _;
use futures::future::{join, try_join_all};
use futures::stream::{self, BoxStream};
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use self::cache::{Cache, OwnWrite};
use self::ledger::Ledger;
use self::letters::Letters;
use self::objects::{Object, Objects, deadline, failed, had_no_effect};
use self::record::{Expected, Place, Record, Version};
use crate::client::Failure;

pub use self::letters::SECRET_TYPE;
pub use self::open::OpenError;

/// A WorkStore of Kubernetes objects. See the [module](self). Dropping it ends its tasks.
pub struct KubeStore {
    cache: Arc<Cache>,
    objects: Objects,
    /// The operator's.
    namespace: Arc<str>,
    ledger: Ledger,
    letters: Letters,
    _tasks: [AbortOnDropHandle<()>; 3],
}

impl std::fmt::Debug for KubeStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KubeStore").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

impl KubeStore {
    /// Asks the API server for a record, and remembers the answer.
    async fn fetch<R: Record>(
        &self,
        place: &Place,
        deadline: Instant,
    ) -> Result<Option<(Arc<R>, Version)>, StoreError> {
        let began = self.cache.lock::<R>().tick();
        let address = place.address(&self.namespace);
        let found = self.objects.get::<Object>(&address.path(), deadline).await;
        let Some(mut object) = found.map_err(|failure| failed(place, failure))? else {
            let effect = self.cache.lock::<R>().absent(place, began);
            self.cache.follow(&place.work, effect);
            return Ok(None);
        };
        let corrupt = |why: &str| {
            StoreError::Corrupt(format!(
                "{} {} ({}): {why}; it was edited: delete it",
                address.kind, address.name, address.collection
            ))
        };
        let version = object.version().ok_or_else(|| corrupt("its resourceVersion is no number"))?;
        let spec = object.spec.take();
        let record: R = R::read(&address.name, spec).map_err(|why| corrupt(&why))?;
        if record.place() != *place {
            return Err(corrupt("it belongs to another Work or cluster"));
        }
        let record = Arc::new(record);
        let effect = {
            let mut table = self.cache.lock::<R>();
            table.settle_doubt(place, began);
            if table.is_news(place, &version) {
                table.put(place, Arc::clone(&record), version.clone())
            } else {
                cache::Effect::default()
            }
        };
        self.cache.follow(&place.work, effect);
        Ok(Some((record, version)))
    }

    async fn read<R: Record>(&self, place: &Place) -> Result<Option<Stored<Arc<R>>>, StoreError> {
        if self.cache.lock::<R>().is_doubtful(place) {
            self.fetch::<R>(place, deadline()).await?;
        }
        Ok(self.cache.lock::<R>().get(place))
    }

    /// Fails if it can be told without writing that another revision is stored.
    async fn check<R: Record>(
        &self,
        place: &Place,
        expected: Option<Expected<'_>>,
        deadline: Instant,
    ) -> Result<(), StoreError> {
        let is = |version: Option<&Version>| match (version, &expected) {
            (Some(version), Some(expected)) => version.is(expected),
            (None, None) => true,
            _ => false,
        };
        if is(self.cache.lock::<R>().version(place)) {
            return Ok(());
        }
        // Another handle may have given the revision, or taken away what is known here.
        let found = self.fetch::<R>(place, deadline).await?;
        if is(found.as_ref().map(|(_, version)| version)) { Ok(()) } else { Err(conflict(place)) }
    }

    /// Writes a record if its revision is the expected one.
    async fn put<R: Record>(
        &self,
        record: Arc<R>,
        expected: Option<Expected<'_>>,
        deadline: Instant,
    ) -> Result<Revision, StoreError> {
        let spec = record.spec(expected.map_or(0, |expected| expected.generation) + 1)?;
        let write = self.cache.begin::<R>(record.place());
        let address = write.place().address(&self.namespace);
        let written = match expected {
            None => self.objects.create(&address, &spec, deadline).await,
            Some(expected) => self.objects.replace(&address, expected, &spec, deadline).await,
        };
        match written {
            Ok(version) => {
                let revision = version.revision();
                write.wrote(record, version);
                Ok(revision)
            }
            Err(failure) => Err(self.refused(write, expected, failure, deadline).await),
        }
    }

    /// Looks why a write was refused: the next read is to see what is there.
    async fn refused<R: Record>(
        &self,
        write: OwnWrite<'_, R>,
        expected: Option<Expected<'_>>,
        failure: Failure,
        deadline: Instant,
    ) -> StoreError {
        let place = write.place().clone();
        let is_another = match &failure {
            Failure::AlreadyExists | Failure::UidMismatch | Failure::Conflict { .. } => true,
            // A patch whose test failed is invalid too.
            Failure::Invalid { .. } => expected.is_some(),
            Failure::NotFound { resource, .. } => resource != "namespaces",
            _ => false,
        };
        if !is_another {
            if had_no_effect(&failure) {
                write.had_no_effect();
            }
            return failed(place, failure);
        }
        // Where this fails, `write` is dropped, and the record is in doubt.
        match self.fetch::<R>(&place, deadline).await {
            Ok(found) => {
                let still_is = found.zip(expected).is_some_and(|((_, version), it)| version.is(&it));
                write.had_no_effect();
                if still_is { failed(place, failure) } else { conflict(&place) }
            }
            Err(error) => error,
        }
    }

    /// Deletes a record if its revision is the expected one.
    async fn delete<R: Record>(&self, place: Place, expected: &Revision) -> Result<(), StoreError> {
        let deadline = deadline();
        let expected = Expected::read(expected).ok_or_else(|| conflict(&place))?;
        let write = self.cache.begin::<R>(place);
        let path = write.place().address(&self.namespace).path();
        let mut known = self.cache.lock::<R>().version(write.place()).cloned();
        loop {
            let Some(version) = known.filter(|version| version.is(&expected)) else {
                let found = self.fetch::<R>(write.place(), deadline).await;
                match found {
                    Ok(Some((_, version))) if version.is(&expected) => known = Some(version),
                    Ok(_) => {
                        let conflict = conflict(write.place());
                        write.had_no_effect();
                        return Err(conflict);
                    }
                    Err(error) => return Err(error),
                }
                continue;
            };
            let resource = version.resource.to_string();
            match self.objects.delete(&path, &version.uid, Some(&resource), deadline).await {
                Ok(()) => {
                    write.deleted(&version.uid);
                    return Ok(());
                }
                // A status or a label may have come in between: then it is still the one expected.
                Err(Failure::Conflict { .. } | Failure::UidMismatch | Failure::NotFound { .. }) => {
                    known = None
                }
                Err(failure) => {
                    let error = failed(write.place(), failure.clone());
                    if had_no_effect(&failure) {
                        write.had_no_effect();
                    }
                    return Err(error);
                }
            }
        }
    }

    /// Writes a plan where nothing is stored yet.
    async fn plan(&self, plan: AppliedWork, deadline: Instant) -> Result<(), StoreError> {
        let place = plan.place();
        if self.cache.lock::<AppliedWork>().version(&place).is_some() {
            return Ok(());
        }
        match self.put(Arc::new(plan), None, deadline).await {
            Err(StoreError::Conflict(_)) => Ok(()),
            written => written.map(drop),
        }
    }
}

fn conflict(place: &Place) -> StoreError {
    StoreError::Conflict(place.to_string())
}

#[async_trait]
impl WorkStore for KubeStore {
    async fn next_epoch(&self, domain: &Domain) -> Result<u64, StoreError> {
        self.ledger.next_epoch(domain).await
    }

    async fn work(&self, id: &WorkId) -> Result<Option<Stored<Arc<Work>>>, StoreError> {
        self.read(&Place::of_work(id)).await
    }

    async fn put_work(
        &self,
        work: Arc<Work>,
        expected: Option<Revision>,
        plans: Vec<AppliedWork>,
    ) -> Result<Revision, StoreError> {
        let deadline = deadline();
        let place = work.place();
        let expected = match &expected {
            Some(revision) => Some(Expected::read(revision).ok_or_else(|| conflict(&place))?),
            None => None,
        };
        self.check::<Work>(&place, expected, deadline).await?;
        let plans = try_join_all(plans.into_iter().map(|plan| self.plan(plan, deadline)));
        let (work, plans) = join(self.put(work, expected, deadline), plans).await;
        let revision = work?;
        plans?;
        Ok(revision)
    }

    async fn delete_work(&self, id: &WorkId, expected: Revision) -> Result<(), StoreError> {
        self.delete::<Work>(Place::of_work(id), &expected).await
    }

    async fn works<'a>(
        &self,
        trigger: Option<&'a str>,
        after: Option<&'a WorkId>,
        limit: usize,
    ) -> Result<Vec<Stored<Arc<Work>>>, StoreError> {
        let after = after.map(Place::of_work);
        let works = self.cache.lock::<Work>();
        let works = works.after(after.as_ref()).map(|(_, work)| work);
        let wanted = works.filter(|work| trigger.is_none_or(|trigger| *work.value.trigger == *trigger));
        Ok(wanted.take(limit).collect())
    }

    async fn applied(&self, work: &WorkId) -> Result<Vec<Stored<Arc<AppliedWork>>>, StoreError> {
        let doubts = self.cache.lock::<AppliedWork>().doubts_of(work);
        for place in doubts {
            self.fetch::<AppliedWork>(&place, deadline()).await?;
        }
        Ok(self.cache.lock::<AppliedWork>().of_work(work))
    }

    async fn applied_in(
        &self,
        work: &WorkId,
        cluster: &ClusterId,
    ) -> Result<Option<Stored<Arc<AppliedWork>>>, StoreError> {
        self.read(&Place::in_cluster(work, cluster)).await
    }

    async fn all_applied<'a>(
        &self,
        after: Option<(&'a WorkId, &'a ClusterId)>,
        limit: usize,
    ) -> Result<Vec<Stored<Arc<AppliedWork>>>, StoreError> {
        let after = after.map(|(work, cluster)| Place::in_cluster(work, cluster));
        let applied = self.cache.lock::<AppliedWork>();
        Ok(applied.after(after.as_ref()).map(|(_, applied)| applied).take(limit).collect())
    }

    async fn put_applied(
        &self,
        applied: Arc<AppliedWork>,
        expected: Option<Revision>,
    ) -> Result<Revision, StoreError> {
        let place = applied.place();
        let expected = match &expected {
            Some(revision) => Some(Expected::read(revision).ok_or_else(|| conflict(&place))?),
            None => None,
        };
        self.put(applied, expected, deadline()).await
    }

    async fn delete_applied(
        &self,
        work: &WorkId,
        cluster: &ClusterId,
        expected: Revision,
    ) -> Result<(), StoreError> {
        self.delete::<AppliedWork>(Place::in_cluster(work, cluster), &expected).await
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

    /// Tells also of Works whose AppliedWorks others changed.
    async fn watch(&self) -> Result<BoxStream<'static, StoreChange>, StoreError> {
        let changes = stream::unfold(self.cache.changes.subscribe(), |mut changes| async move {
            match changes.recv().await {
                Ok(work) => Some((StoreChange::Work(work), changes)),
                Err(RecvError::Lagged(_)) => Some((StoreChange::Many, changes)),
                Err(RecvError::Closed) => None,
            }
        });
        Ok(changes.boxed())
    }
}
