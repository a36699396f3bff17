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
//! AppliedWorks are listed and watched in all namespaces, so that needs a ClusterRole.

mod cache;
mod ledger;
mod letters;
mod objects;
mod open;
mod record;
mod status;
mod watching;

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
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use self::cache::{Cache, OwnWrite};
use self::ledger::Ledger;
use self::letters::Letters;
use self::objects::{Object, Objects, deadline, failed, had_no_effect};
use self::record::{Expected, Known, Place, Plan, PlannedWork, Record, Version};
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
            self.cache.follow(place, effect);
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
        self.cache.follow(place, effect);
        Ok(Some((record, version)))
    }

    /// Asks the API server for a record of which it is not known what a write did.
    async fn settle<R: Record>(&self, place: &Place) -> Result<(), StoreError> {
        if self.cache.lock::<R>().is_doubtful(place) {
            self.fetch::<R>(place, deadline()).await?;
        }
        Ok(())
    }

    /// The Work as it is stored, if it has the expected version.
    async fn expect(
        &self,
        place: &Place,
        expected: Option<Expected<'_>>,
        deadline: Instant,
    ) -> Result<Option<Arc<PlannedWork>>, StoreError> {
        let is = |version: &Version| expected.is_some_and(|expected| version.is(expected));
        match self.cache.lock::<PlannedWork>().get(place) {
            Some((known, version)) if is(version) => return Ok(Some(Arc::clone(known))),
            None if expected.is_none() => return Ok(None),
            _ => {}
        }
        // Another handle may have given the revision, or taken away what is known here.
        match self.fetch::<PlannedWork>(place, deadline).await? {
            Some((found, version)) if is(&version) => Ok(Some(found)),
            None if expected.is_none() => Ok(None),
            _ => Err(conflict(place)),
        }
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
                let still_is = found.zip(expected).is_some_and(|((_, version), it)| version.is(it));
                write.had_no_effect();
                if still_is { failed(place, failure) } else { conflict(&place) }
            }
            Err(error) => {
                if matches!(error, StoreError::Corrupt(_)) {
                    // That is what is there; what is known from before holds.
                    write.had_no_effect();
                }
                error
            }
        }
    }

    /// Deletes an object if it has the expected version.
    async fn delete<R: Record>(
        &self,
        place: Place,
        expected: Expected<'_>,
        deadline: Instant,
    ) -> Result<(), StoreError> {
        let write = self.cache.begin::<R>(place);
        let path = write.place().address(&self.namespace).path();
        let mut known = self.cache.lock::<R>().get(write.place()).map(|(_, version)| version.clone());
        loop {
            let Some(version) = known.filter(|version| version.is(expected)) else {
                let found = self.fetch::<R>(write.place(), deadline).await;
                match found {
                    Ok(Some((_, version))) if version.is(expected) => known = Some(version),
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

    /// Whether this plan is still what is known of a Work in a cluster.
    async fn is_planned(
        &self,
        place: &Place,
        (uid, write): (&str, i64),
        deadline: Instant,
    ) -> Result<bool, StoreError> {
        let of_work = Place::of_work(&place.work);
        let is = || {
            let (works, applied) = (self.cache.lock::<PlannedWork>(), self.cache.lock::<AppliedWork>());
            let planned = works.get(&of_work).filter(|(_, version)| *version.uid == *uid);
            let plan = planned.and_then(|(planned, _)| planned.plan(place.cluster.as_ref()?));
            applied.get(place).is_none() && plan.is_some_and(|plan| plan.write == write)
        };
        if is() {
            return Ok(true);
        }
        self.fetch::<PlannedWork>(&of_work, deadline).await?;
        self.fetch::<AppliedWork>(place, deadline).await?;
        Ok(is())
    }

    /// Takes a plan out of its Work.
    async fn drop_plan(&self, place: &Place, deadline: Instant) -> Result<(), StoreError> {
        let of_work = Place::of_work(&place.work);
        self.settle::<PlannedWork>(&of_work).await?;
        loop {
            let known = self
                .cache
                .lock::<PlannedWork>()
                .get(&of_work)
                .map(|(it, version)| (Arc::clone(it), version.clone()));
            let Some((known, version)) = known else { return Ok(()) };
            let cluster = place.cluster.as_ref();
            if cluster.is_none_or(|cluster| known.plan(cluster).is_none()) {
                return Ok(());
            }
            let mut planned = (*known).clone();
            planned.plans.retain(|plan| Some(&plan.applied.cluster) != cluster);
            match self.put(Arc::new(planned), Some(version.expected()), deadline).await {
                // What is there was read since.
                Err(StoreError::Conflict(_)) => {}
                put => return put.map(drop),
            }
        }
    }

    /// What a Work that is written now has planned: what it had, and more, where there is no AppliedWork.
    fn plans(&self, known: Option<&PlannedWork>, more: Vec<AppliedWork>, write: i64) -> Vec<Plan> {
        let applied = self.cache.lock::<AppliedWork>();
        let is_open = |plan: &Plan| applied.get(&plan.applied.place()).is_none();
        let mut plans: Vec<Plan> = Vec::new();
        let old = known.into_iter().flat_map(|known| known.plans.iter().cloned());
        let more = more.into_iter().map(|plan| Plan { applied: Arc::new(plan), write });
        for plan in old.chain(more).filter(is_open) {
            if plans.iter().all(|it| it.applied.cluster != plan.applied.cluster) {
                plans.push(plan);
            }
        }
        plans
    }
}

fn only_work((planned, version): (&Arc<PlannedWork>, &Version)) -> Stored<Arc<Work>> {
    Stored { value: Arc::clone(&planned.work), revision: version.revision() }
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
