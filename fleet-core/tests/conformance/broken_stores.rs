//! Stores that each break one rule, and what the suite says of them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use fleet_core::cluster::ClusterId;
use fleet_core::dead_letter::DeadLetter;
use fleet_core::memory::MemoryStore;
use fleet_core::position::{Domain, Position};
use fleet_core::source::Message;
use fleet_core::store::{Revision, StoreChange, StoreError, Stored, WorkStore};
use fleet_core::testing::conformance::{NotChecked, work_store};
use fleet_core::work::{AppliedWork, Work, WorkId};
use futures::StreamExt;
use futures::stream::BoxStream;
use parking_lot::Mutex;

use crate::{assert_each_can_fail, assert_found, found};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    ForgetsHeaders,
    ForgetsInventories,
    CutsLetters,
    OverwritesWorks,
    OverwritesApplied,
    CountsRevisionsPerLife,
    ListsDeleted,
    ReplacesPlans,
    ListsTriggersByPrefix,
    HidesOrphans,
    LongPages,
    LowersFloors,
    GivesOneEpoch,
    ListsLettersBackwards,
    KeepsBothLetters,
    IsDeaf,
    ReadsStaleAfterConflicts,
    RemembersFloors,
    ForgetsInACrash,
}

/// A handle on a store in memory, with a fault.
struct Store {
    inner: MemoryStore,
    fault: Fault,
    shared: Arc<Shared>,
    /// What this handle has read, where it believes that.
    works: Mutex<HashMap<WorkId, Stored<Arc<Work>>>>,
    floors: Mutex<HashMap<String, Vec<Position>>>,
}

/// What all handles of a broken store share.
#[derive(Default)]
struct Shared {
    lives: Mutex<HashMap<WorkId, Vec<Revision>>>,
    deleted: Mutex<Vec<Stored<Arc<AppliedWork>>>>,
    floors: Mutex<HashMap<String, Vec<Position>>>,
}

impl Store {
    fn new(inner: MemoryStore, fault: Fault, shared: Arc<Shared>) -> Self {
        Self { inner, fault, shared, works: Mutex::default(), floors: Mutex::default() }
    }

    fn is(&self, fault: Fault) -> bool {
        self.fault == fault
    }

    /// The revision that the inner store knows.
    fn inner_revision(&self, id: &WorkId, revision: Revision) -> Revision {
        match revision {
            Revision::Counted(number) if self.is(Fault::CountsRevisionsPerLife) => {
                let lives = self.shared.lives.lock();
                let at = usize::try_from(number).unwrap() - 1;
                lives.get(id).and_then(|life| life.get(at)).cloned().unwrap_or(Revision::Counted(0))
            }
            revision => revision,
        }
    }
}

#[async_trait]
impl WorkStore for Store {
    async fn next_epoch(&self, domain: &Domain) -> Result<u64, StoreError> {
        if self.is(Fault::GivesOneEpoch) { Ok(1) } else { self.inner.next_epoch(domain).await }
    }

    async fn work(&self, id: &WorkId) -> Result<Option<Stored<Arc<Work>>>, StoreError> {
        if self.is(Fault::ReadsStaleAfterConflicts)
            && let Some(read) = self.works.lock().get(id)
        {
            return Ok(Some(read.clone()));
        }
        let mut found = self.inner.work(id).await?;
        if self.is(Fault::CountsRevisionsPerLife)
            && let Some(found) = &mut found
        {
            let lives = self.shared.lives.lock();
            let at = lives[id].iter().position(|revision| *revision == found.revision).unwrap();
            found.revision = Revision::Counted(at as u64 + 1);
        }
        Ok(found)
    }

    async fn put_work(
        &self,
        mut work: Arc<Work>,
        expected: Option<Revision>,
        plans: Vec<AppliedWork>,
    ) -> Result<Revision, StoreError> {
        let id = work.id.clone();
        if self.is(Fault::ForgetsHeaders) {
            work = Arc::new(Work { message: Arc::new(Message::default()), ..(*work).clone() });
        }
        let mut expected = expected.map(|revision| self.inner_revision(&id, revision));
        if self.is(Fault::OverwritesWorks) {
            expected = self.inner.work(&id).await?.map(|stored| stored.revision);
        }
        if self.is(Fault::ReplacesPlans) {
            for plan in &plans {
                let there = self.inner.applied_in(&id, &plan.cluster).await?.map(|stored| stored.revision);
                self.inner.put_applied(Arc::new(plan.clone()), there).await?;
            }
        }
        let revision = self.inner.put_work(Arc::clone(&work), expected, plans).await?;
        if self.is(Fault::ReadsStaleAfterConflicts) {
            self.works.lock().insert(id.clone(), Stored { value: work, revision: revision.clone() });
        }
        if self.is(Fault::CountsRevisionsPerLife) {
            let mut lives = self.shared.lives.lock();
            let life = lives.entry(id).or_default();
            life.push(revision);
            return Ok(Revision::Counted(life.len() as u64));
        }
        Ok(revision)
    }

    async fn delete_work(&self, id: &WorkId, expected: Revision) -> Result<(), StoreError> {
        self.inner.delete_work(id, self.inner_revision(id, expected)).await?;
        self.shared.lives.lock().remove(id);
        self.works.lock().remove(id);
        Ok(())
    }

    async fn works<'a>(
        &self,
        trigger: Option<&'a str>,
        after: Option<&'a WorkId>,
        limit: usize,
    ) -> Result<Vec<Stored<Arc<Work>>>, StoreError> {
        if self.is(Fault::ListsTriggersByPrefix)
            && let Some(trigger) = trigger
        {
            let mut all = self.inner.works(None, after, usize::MAX).await?;
            all.retain(|stored| stored.value.trigger.starts_with(trigger));
            all.truncate(limit);
            return Ok(all);
        }
        let limit = if self.is(Fault::LongPages) { limit + 1 } else { limit };
        self.inner.works(trigger, after, limit).await
    }

    async fn applied(&self, work: &WorkId) -> Result<Vec<Stored<Arc<AppliedWork>>>, StoreError> {
        let mut found = self.inner.applied(work).await?;
        if self.is(Fault::ListsDeleted) {
            found.extend(self.shared.deleted.lock().iter().filter(|it| it.value.work == *work).cloned());
        }
        Ok(found)
    }

    async fn applied_in(
        &self,
        work: &WorkId,
        cluster: &ClusterId,
    ) -> Result<Option<Stored<Arc<AppliedWork>>>, StoreError> {
        self.inner.applied_in(work, cluster).await
    }

    async fn all_applied<'a>(
        &self,
        after: Option<(&'a WorkId, &'a ClusterId)>,
        limit: usize,
    ) -> Result<Vec<Stored<Arc<AppliedWork>>>, StoreError> {
        let mut page = self.inner.all_applied(after, limit).await?;
        if self.is(Fault::HidesOrphans) {
            let works = self.inner.works(None, None, usize::MAX).await?;
            page.retain(|stored| works.iter().any(|work| work.value.id == stored.value.work));
        }
        Ok(page)
    }

    async fn put_applied(
        &self,
        mut applied: Arc<AppliedWork>,
        mut expected: Option<Revision>,
    ) -> Result<Revision, StoreError> {
        if self.is(Fault::ForgetsInventories) {
            applied = Arc::new(AppliedWork { inventory: Vec::new(), ..(*applied).clone() });
        }
        if self.is(Fault::OverwritesApplied) {
            let there = self.inner.applied_in(&applied.work, &applied.cluster).await?;
            expected = there.map(|stored| stored.revision);
        }
        self.inner.put_applied(applied, expected).await
    }

    async fn delete_applied(
        &self,
        work: &WorkId,
        cluster: &ClusterId,
        expected: Revision,
    ) -> Result<(), StoreError> {
        let there = self.inner.applied_in(work, cluster).await?;
        self.inner.delete_applied(work, cluster, expected).await?;
        self.shared.deleted.lock().extend(there);
        Ok(())
    }

    async fn floors(&self, source: &str) -> Result<Vec<Position>, StoreError> {
        if self.is(Fault::LowersFloors) {
            return Ok(self.shared.floors.lock().get(source).cloned().unwrap_or_default());
        }
        let found = self.inner.floors(source).await?;
        if self.is(Fault::RemembersFloors) && !found.is_empty() {
            return Ok(self.floors.lock().entry(source.to_owned()).or_insert(found).clone());
        }
        Ok(found)
    }

    async fn raise_floor(&self, source: &str, floor: &Position) -> Result<(), StoreError> {
        self.shared.floors.lock().insert(source.to_owned(), vec![floor.clone()]);
        self.floors.lock().remove(source);
        self.inner.raise_floor(source, floor).await
    }

    async fn add_dead_letter(&self, letter: Arc<DeadLetter>) -> Result<(), StoreError> {
        let mut letter = (*letter).clone();
        if self.is(Fault::CutsLetters) {
            letter.raw.truncate(100);
        }
        if self.is(Fault::KeepsBothLetters) && self.inner.dead_letter(&letter.id).await?.is_some() {
            letter.id = format!("0{}", letter.id);
        }
        self.inner.add_dead_letter(Arc::new(letter)).await
    }

    async fn dead_letters<'a>(
        &self,
        after: Option<&'a str>,
        limit: usize,
    ) -> Result<Vec<Arc<DeadLetter>>, StoreError> {
        let mut page = self.inner.dead_letters(after, limit).await?;
        if self.is(Fault::ListsLettersBackwards) {
            page.reverse();
        }
        Ok(page)
    }

    async fn dead_letter(&self, id: &str) -> Result<Option<Arc<DeadLetter>>, StoreError> {
        self.inner.dead_letter(id).await
    }

    async fn drop_dead_letter(&self, id: &str) -> Result<bool, StoreError> {
        self.inner.drop_dead_letter(id).await
    }

    async fn watch(&self) -> Result<BoxStream<'static, StoreChange>, StoreError> {
        if self.is(Fault::IsDeaf) {
            return Ok(futures::stream::pending().boxed());
        }
        self.inner.watch().await
    }
}

struct Fixture {
    records: MemoryStore,
    fault: Fault,
    shared: Arc<Shared>,
}

impl Fixture {
    fn new(fault: Fault) -> Self {
        Self { records: MemoryStore::default(), fault, shared: Arc::default() }
    }

    fn handle(&self) -> Arc<dyn WorkStore> {
        Arc::new(Store::new(self.records.another_handle(), self.fault, Arc::clone(&self.shared)))
    }
}

impl work_store::Fixture for Fixture {
    async fn store(&self) -> Arc<dyn WorkStore> {
        self.handle()
    }

    async fn another(&self) -> Result<Arc<dyn WorkStore>, NotChecked> {
        Ok(self.handle())
    }

    async fn after_a_crash(&self) -> Result<Arc<dyn WorkStore>, NotChecked> {
        if self.fault == Fault::ForgetsInACrash {
            return Ok(Arc::new(MemoryStore::default()));
        }
        Ok(self.handle())
    }

    fn patience(&self) -> Duration {
        Duration::from_millis(300)
    }
}

#[tokio::test]
async fn each_fault_is_found_by_the_check_that_is_there_for_it() {
    let cases: &[(Fault, &[&str])] = &[
        (Fault::None, &[]),
        (Fault::ForgetsHeaders, &["a_work_comes_back_as_it_was"]),
        (
            Fault::ForgetsInventories,
            &["an_applied_work_comes_back_as_it_was", "plans_replace_nothing", "everything_survives_a_crash"],
        ),
        (Fault::CutsLetters, &["a_dead_letter_comes_back_byte_for_byte", "everything_survives_a_crash"]),
        (
            Fault::OverwritesWorks,
            &[
                "a_stale_write_of_a_work_fails",
                "one_of_many_writers_wins",
                "after_a_conflict_a_read_is_fresh",
            ],
        ),
        (Fault::OverwritesApplied, &["a_stale_write_of_an_applied_work_fails"]),
        (Fault::CountsRevisionsPerLife, &["a_revision_never_comes_twice"]),
        (Fault::ListsDeleted, &["reads_see_what_was_written"]),
        (Fault::ReplacesPlans, &["plans_replace_nothing"]),
        (Fault::ListsTriggersByPrefix, &["works_are_listed_in_the_order_of_their_ids"]),
        (Fault::HidesOrphans, &["what_was_applied_is_listed_also_without_its_work"]),
        (Fault::LongPages, &["pages_have_a_limit"]),
        (Fault::LowersFloors, &["floors_only_rise"]),
        (
            Fault::GivesOneEpoch,
            &["epochs_only_grow", "floors_and_epochs_are_read_as_they_are", "everything_survives_a_crash"],
        ),
        (Fault::ListsLettersBackwards, &["dead_letters_are_listed_in_the_order_of_their_ids"]),
        (Fault::KeepsBothLetters, &["a_dead_letter_replaces_itself"]),
        (Fault::IsDeaf, &["what_another_handle_wrote_is_told"]),
        (Fault::ReadsStaleAfterConflicts, &["after_a_conflict_a_read_is_fresh"]),
        (Fault::RemembersFloors, &["floors_and_epochs_are_read_as_they_are"]),
        (Fault::ForgetsInACrash, &["everything_survives_a_crash"]),
    ];
    let run = cases.iter().map(async |(fault, expected)| {
        let fixture = async || Fixture::new(*fault);
        (*fault, found(work_store::checks(), fixture).await, *expected)
    });
    assert_found("WorkStore", &futures::future::join_all(run).await);
    assert_each_can_fail(work_store::checks::<Fixture>(), cases);
}
