//! One record as an object: compared and swapped, with whatever a refused or unanswered write may mean.

use std::sync::Arc;

use fleet_core::store::{Revision, StoreError};
use fleet_core::work::AppliedWork;
use tokio::time::Instant;

use super::KubeStore;
use super::cache::{self, OwnWrite};
use super::objects::{Object, deadline, failed, had_no_effect};
use super::record::{Expected, Place, Plan, PlannedWork, Record, Version};
use crate::client::Failure;

impl KubeStore {
    /// Asks the API server for a record, and remembers the answer.
    pub(super) async fn fetch<R: Record>(
        &self,
        place: &Place,
        deadline: Instant,
    ) -> Result<Option<(Arc<R>, Version)>, StoreError> {
        let began = self.cache.lock::<R>().tick();
        let address = place.address(&self.rooms);
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
    pub(super) async fn settle<R: Record>(&self, place: &Place) -> Result<(), StoreError> {
        if self.cache.lock::<R>().is_doubtful(place) {
            self.fetch::<R>(place, deadline()).await?;
        }
        Ok(())
    }

    /// The Work as it is stored, if it has the expected version.
    pub(super) async fn expect(
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
    pub(super) async fn put<R: Record>(
        &self,
        record: Arc<R>,
        expected: Option<Expected<'_>>,
        deadline: Instant,
    ) -> Result<Revision, StoreError> {
        let spec = record.spec(expected.map_or(0, |expected| expected.generation) + 1)?;
        let write = self.cache.begin::<R>(record.place());
        let address = write.place().address(&self.rooms);
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
    pub(super) async fn refused<R: Record>(
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
    pub(super) async fn delete<R: Record>(
        &self,
        place: Place,
        expected: Expected<'_>,
        deadline: Instant,
    ) -> Result<(), StoreError> {
        let write = self.cache.begin::<R>(place);
        let path = write.place().address(&self.rooms).path();
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
    pub(super) async fn is_planned(
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
    pub(super) async fn drop_plan(&self, place: &Place, deadline: Instant) -> Result<(), StoreError> {
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
    pub(super) fn plans(&self, known: Option<&PlannedWork>, more: Vec<AppliedWork>, write: i64) -> Vec<Plan> {
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

pub(super) fn conflict(place: &Place) -> StoreError {
    StoreError::Conflict(place.to_string())
}
