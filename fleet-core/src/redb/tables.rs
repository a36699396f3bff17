//! The tables of the database. A record is its revision (8 bytes, big endian) and JSON.

use std::path::Path;
use std::sync::Arc;

use redb::{
    Database, ReadableDatabase, ReadableTable, StorageError, Table, TableDefinition, TableError,
    WriteTransaction,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{OpenError, failed, storage, unavailable};
use crate::position::{Domain, Position};
use crate::store::{Revision, StoreError, Stored};
use crate::work::WorkId;

/// The format of the file. A change of what is stored and how raises it.
const FORMAT: u64 = 1;

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const WORKS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("works");
/// By Work, then cluster.
const APPLIED: TableDefinition<'_, (&str, &str), &[u8]> = TableDefinition::new("applied");
/// By EventSource, then domain: epoch and sequence.
const FLOORS: TableDefinition<'_, (&str, &str), (u64, u64)> = TableDefinition::new("floors");
const EPOCHS: TableDefinition<'_, &str, u64> = TableDefinition::new("epochs");
const LETTERS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("dead-letters");

const FORMAT_KEY: &str = "format";
const REVISION_KEY: &str = "revision";

/// Makes the tables of a new file, and checks the format of an old one.
pub(super) fn prepare(database: &Database, path: &Path) -> Result<(), OpenError> {
    let fault = |error: redb::Error| failed(path, error);
    let found = match database.begin_read().map_err(|error| fault(error.into()))?.open_table(META) {
        Ok(meta) => meta.get(FORMAT_KEY).map_err(|error| fault(error.into()))?.map(|format| format.value()),
        Err(TableError::TableDoesNotExist(_)) => None,
        Err(error) => return Err(fault(error.into())),
    };
    match found {
        Some(FORMAT) => Ok(()),
        Some(found) => Err(OpenError::Format { path: path.to_owned(), found, expected: FORMAT }),
        None => {
            let transaction = database.begin_write().map_err(|error| fault(error.into()))?;
            {
                let mut meta = transaction.open_table(META).map_err(|error| fault(error.into()))?;
                meta.insert(FORMAT_KEY, FORMAT).map_err(|error| fault(error.into()))?;
                // Opening makes them, so that reading never meets a table that is not there.
                transaction.open_table(WORKS).map_err(|error| fault(error.into()))?;
                transaction.open_table(APPLIED).map_err(|error| fault(error.into()))?;
                transaction.open_table(FLOORS).map_err(|error| fault(error.into()))?;
                transaction.open_table(EPOCHS).map_err(|error| fault(error.into()))?;
                transaction.open_table(LETTERS).map_err(|error| fault(error.into()))?;
            }
            transaction.commit().map_err(|error| fault(error.into()))
        }
    }
}

/// A record as JSON, without its revision yet.
pub(super) fn encode(record: &impl Serialize) -> Result<Vec<u8>, StoreError> {
    let mut bytes = vec![0; 8];
    serde_json::to_writer(&mut bytes, record)
        .map_err(|error| StoreError::Corrupt(format!("a record cannot be written: {error}")))?;
    Ok(bytes)
}

/// A record and its revision.
pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<Stored<Arc<T>>, StoreError> {
    let unreadable = |why: String| StoreError::Corrupt(format!("a record cannot be read: {why}"));
    let (revision, json) =
        bytes.split_first_chunk::<8>().ok_or_else(|| unreadable("it is too short".to_owned()))?;
    // Only where in the record the fault is: the record holds events.
    let value =
        serde_json::from_slice(json).map_err(|error| unreadable(format!("column {}", error.column())))?;
    Ok(Stored { value: Arc::new(value), revision: Revision::Counted(u64::from_be_bytes(*revision)) })
}

fn revision_of(bytes: &[u8]) -> Option<Revision> {
    bytes.first_chunk::<8>().map(|revision| Revision::Counted(u64::from_be_bytes(*revision)))
}

/// The tables inside one write transaction.
pub(super) struct Tables<'t> {
    meta: Table<'t, &'static str, u64>,
    works: Table<'t, &'static str, &'static [u8]>,
    applied: Table<'t, (&'static str, &'static str), &'static [u8]>,
    floors: Table<'t, (&'static str, &'static str), (u64, u64)>,
    epochs: Table<'t, &'static str, u64>,
    letters: Table<'t, &'static str, &'static [u8]>,
    /// Set when the database itself failed: the transaction must not be committed.
    pub(super) broken: Option<String>,
}

impl<'t> Tables<'t> {
    pub(super) fn open(transaction: &'t WriteTransaction) -> Result<Self, StoreError> {
        Ok(Self {
            meta: transaction.open_table(META).map_err(unavailable)?,
            works: transaction.open_table(WORKS).map_err(unavailable)?,
            applied: transaction.open_table(APPLIED).map_err(unavailable)?,
            floors: transaction.open_table(FLOORS).map_err(unavailable)?,
            epochs: transaction.open_table(EPOCHS).map_err(unavailable)?,
            letters: transaction.open_table(LETTERS).map_err(unavailable)?,
            broken: None,
        })
    }

    fn check<T>(&mut self, result: Result<T, StorageError>) -> Result<T, StoreError> {
        result.map_err(|error| {
            let error = storage(error);
            self.broken = Some(error.to_string());
            error
        })
    }

    fn next_revision(&mut self) -> Result<u64, StoreError> {
        let last = self.meta.get(REVISION_KEY).map(|found| found.map_or(0, |found| found.value()));
        let next = self.check(last)? + 1;
        let written = self.meta.insert(REVISION_KEY, next).map(drop);
        self.check(written)?;
        Ok(next)
    }

    pub(super) fn next_epoch(&mut self, domain: &Domain) -> Result<u64, StoreError> {
        let last = self.epochs.get(domain.as_str()).map(|found| found.map_or(0, |found| found.value()));
        let next = self.check(last)? + 1;
        let written = self.epochs.insert(domain.as_str(), next).map(drop);
        self.check(written)?;
        Ok(next)
    }

    fn work_revision(&mut self, id: &WorkId) -> Result<Option<Revision>, StoreError> {
        let found =
            self.works.get(id.as_str()).map(|found| found.and_then(|found| revision_of(found.value())));
        self.check(found)
    }

    pub(super) fn put_work(
        &mut self,
        id: &WorkId,
        record: &[u8],
        expected: Option<&Revision>,
    ) -> Result<Revision, StoreError> {
        expect(self.work_revision(id)?.as_ref(), expected, || id.to_string())?;
        let revision = self.next_revision()?;
        let written = self.works.insert(id.as_str(), &*stamped(record, revision)).map(drop);
        self.check(written)?;
        Ok(Revision::Counted(revision))
    }

    pub(super) fn delete_work(&mut self, id: &WorkId, expected: &Revision) -> Result<(), StoreError> {
        expect(self.work_revision(id)?.as_ref(), Some(expected), || id.to_string())?;
        let removed = self.works.remove(id.as_str()).map(drop);
        self.check(removed)
    }

    fn applied_revision(&mut self, work: &WorkId, cluster: &str) -> Result<Option<Revision>, StoreError> {
        let found = self.applied.get((work.as_str(), cluster));
        let found = found.map(|found| found.and_then(|found| revision_of(found.value())));
        self.check(found)
    }

    pub(super) fn put_applied(
        &mut self,
        work: &WorkId,
        cluster: &str,
        record: &[u8],
        expected: Option<&Revision>,
    ) -> Result<Revision, StoreError> {
        expect(self.applied_revision(work, cluster)?.as_ref(), expected, || format!("{work} in {cluster}"))?;
        let revision = self.next_revision()?;
        let written = self.applied.insert((work.as_str(), cluster), &*stamped(record, revision)).map(drop);
        self.check(written)?;
        Ok(Revision::Counted(revision))
    }

    /// Writes a record unless there is one.
    pub(super) fn add_applied(
        &mut self,
        work: &WorkId,
        cluster: &str,
        record: &[u8],
    ) -> Result<(), StoreError> {
        if self.applied_revision(work, cluster)?.is_none() {
            self.put_applied(work, cluster, record, None)?;
        }
        Ok(())
    }

    pub(super) fn delete_applied(
        &mut self,
        work: &WorkId,
        cluster: &str,
        expected: &Revision,
    ) -> Result<(), StoreError> {
        let found = self.applied_revision(work, cluster)?;
        expect(found.as_ref(), Some(expected), || format!("{work} in {cluster}"))?;
        let removed = self.applied.remove((work.as_str(), cluster)).map(drop);
        self.check(removed)
    }

    pub(super) fn raise_floor(&mut self, source: &str, floor: &Position) -> Result<(), StoreError> {
        let key = (source, floor.domain.as_str());
        let found = self.floors.get(key).map(|found| found.map(|found| found.value()));
        if self.check(found)?.is_none_or(|found| (floor.epoch, floor.sequence) > found) {
            let written = self.floors.insert(key, (floor.epoch, floor.sequence)).map(drop);
            self.check(written)?;
        }
        Ok(())
    }

    pub(super) fn add_dead_letter(&mut self, id: &str, record: &[u8]) -> Result<(), StoreError> {
        let written = self.letters.insert(id, record).map(drop);
        self.check(written)
    }

    pub(super) fn drop_dead_letter(&mut self, id: &str) -> Result<bool, StoreError> {
        let removed = self.letters.remove(id).map(|removed| removed.is_some());
        self.check(removed)
    }
}

fn expect(
    found: Option<&Revision>,
    expected: Option<&Revision>,
    what: impl FnOnce() -> String,
) -> Result<(), StoreError> {
    if found == expected { Ok(()) } else { Err(StoreError::Conflict(what())) }
}

fn stamped(record: &[u8], revision: u64) -> Vec<u8> {
    let mut bytes = record.to_vec();
    if let Some(place) = bytes.first_chunk_mut::<8>() {
        *place = revision.to_be_bytes();
    }
    bytes
}

/// Reading, each call in a snapshot of its own.
pub(super) mod read {
    use std::ops::Bound;
    use std::sync::Arc;

    use redb::ReadTransaction;

    use super::{APPLIED, FLOORS, LETTERS, WORKS, decode, storage, unavailable};
    use crate::cluster::ClusterId;
    use crate::dead_letter::DeadLetter;
    use crate::position::{Domain, Position};
    use crate::store::{StoreError, Stored};
    use crate::work::{AppliedWork, Work, WorkId};

    pub(in crate::redb) fn work(
        transaction: &ReadTransaction,
        id: &WorkId,
    ) -> Result<Option<Stored<Arc<Work>>>, StoreError> {
        let works = transaction.open_table(WORKS).map_err(unavailable)?;
        let found = works.get(id.as_str()).map_err(storage)?;
        found.map(|found| decode(found.value())).transpose()
    }

    pub(in crate::redb) fn works(
        transaction: &ReadTransaction,
        trigger: Option<&str>,
        after: Option<&WorkId>,
        limit: usize,
    ) -> Result<Vec<Stored<Arc<Work>>>, StoreError> {
        let works = transaction.open_table(WORKS).map_err(unavailable)?;
        // Ids begin with the trigger's name, cut where it is long: only those are read.
        let first = trigger.map(WorkId::prefix);
        let start = match (after, &first) {
            (Some(after), _) => Bound::Excluded(after.as_str()),
            (None, Some(first)) => Bound::Included(first.as_str()),
            (None, None) => Bound::Unbounded,
        };
        let mut page = Vec::new();
        for entry in works.range::<&str>((start, Bound::Unbounded)).map_err(storage)? {
            let (id, record) = entry.map_err(storage)?;
            if page.len() == limit
                || first.as_ref().is_some_and(|first| !id.value().starts_with(first.as_str()))
            {
                break;
            }
            let work: Stored<Arc<Work>> = decode(record.value())?;
            if trigger.is_none_or(|trigger| *work.value.trigger == *trigger) {
                page.push(work);
            }
        }
        Ok(page)
    }

    pub(in crate::redb) fn applied(
        transaction: &ReadTransaction,
        work: &WorkId,
    ) -> Result<Vec<Stored<Arc<AppliedWork>>>, StoreError> {
        let table = transaction.open_table(APPLIED).map_err(unavailable)?;
        let mut applied = Vec::new();
        for entry in table.range::<(&str, &str)>((work.as_str(), "")..).map_err(storage)? {
            let (key, record) = entry.map_err(storage)?;
            if key.value().0 != work.as_str() {
                break;
            }
            applied.push(decode(record.value())?);
        }
        Ok(applied)
    }

    pub(in crate::redb) fn applied_in(
        transaction: &ReadTransaction,
        work: &WorkId,
        cluster: &ClusterId,
    ) -> Result<Option<Stored<Arc<AppliedWork>>>, StoreError> {
        let table = transaction.open_table(APPLIED).map_err(unavailable)?;
        let cluster = cluster.to_string();
        let found = table.get((work.as_str(), cluster.as_str())).map_err(storage)?;
        found.map(|found| decode(found.value())).transpose()
    }

    pub(in crate::redb) fn all_applied(
        transaction: &ReadTransaction,
        after: Option<(&WorkId, &ClusterId)>,
        limit: usize,
    ) -> Result<Vec<Stored<Arc<AppliedWork>>>, StoreError> {
        let table = transaction.open_table(APPLIED).map_err(unavailable)?;
        let after = after.map(|(work, cluster)| (work, cluster.to_string()));
        let start = after
            .as_ref()
            .map_or(Bound::Unbounded, |(work, cluster)| Bound::Excluded((work.as_str(), cluster.as_str())));
        let mut applied = Vec::new();
        for entry in table.range::<(&str, &str)>((start, Bound::Unbounded)).map_err(storage)?.take(limit) {
            let (_, record) = entry.map_err(storage)?;
            applied.push(decode(record.value())?);
        }
        Ok(applied)
    }

    pub(in crate::redb) fn floors(
        transaction: &ReadTransaction,
        source: &str,
    ) -> Result<Vec<Position>, StoreError> {
        let table = transaction.open_table(FLOORS).map_err(unavailable)?;
        let mut floors = Vec::new();
        for entry in table.range::<(&str, &str)>((source, "")..).map_err(storage)? {
            let (key, floor) = entry.map_err(storage)?;
            let (of, domain) = key.value();
            if of != source {
                break;
            }
            let (epoch, sequence) = floor.value();
            floors.push(Position { domain: Domain::new(domain), epoch, sequence });
        }
        Ok(floors)
    }

    pub(in crate::redb) fn dead_letter(
        transaction: &ReadTransaction,
        id: &str,
    ) -> Result<Option<Arc<DeadLetter>>, StoreError> {
        let table = transaction.open_table(LETTERS).map_err(unavailable)?;
        let found = table.get(id).map_err(storage)?;
        found.map(|found| Ok(decode(found.value())?.value)).transpose()
    }

    pub(in crate::redb) fn dead_letters(
        transaction: &ReadTransaction,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Arc<DeadLetter>>, StoreError> {
        let table = transaction.open_table(LETTERS).map_err(unavailable)?;
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut letters = Vec::new();
        for entry in table.range::<&str>((start, Bound::Unbounded)).map_err(storage)?.take(limit) {
            let (_, record) = entry.map_err(storage)?;
            letters.push(decode(record.value())?.value);
        }
        Ok(letters)
    }
}
