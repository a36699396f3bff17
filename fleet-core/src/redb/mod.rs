//! A WorkStore in an embedded database file, for one operator at a time.
//!
//! Writers share commits: what arrives while one commit is written to disk goes into the next, together. A call
//! returns when its commit is on disk.

mod database;
mod tables;
mod writer;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use redb::{
    Builder, ConcurrencyMode, DatabaseError, ReadOnlyDatabase, ReadTransaction, ReadableDatabase,
    StorageError,
};

use self::database::Database;
use self::tables::read;
use self::writer::Writer;
use crate::cluster::ClusterId;
use crate::dead_letter::DeadLetter;
use crate::position::{Domain, Position};
use crate::store::{Revision, StoreChange, StoreError, Stored, WorkStore};
use crate::work::{AppliedWork, Work, WorkId};

/// What the database may keep of its file in memory. The operating system caches the file besides.
const CACHE: usize = 16 << 20;

/// A WorkStore in a file. See the [module](self).
#[derive(Debug)]
pub struct RedbStore {
    // Dropped first: its thread shares the database.
    writer: Option<Writer>,
    database: Opened,
}

enum Opened {
    ToWrite(Arc<Database>),
    ToRead(ReadOnlyDatabase),
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::ToWrite(_) => "ToWrite",
            Self::ToRead(_) => "ToRead",
        })
    }
}

/// Why a database file cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process has it.
    #[error("{} is in use by another operator; stop that one, or choose another --data folder", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// There is no such file.
    #[error("{} does not exist; no operator has run with this --data folder", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// It was not closed properly, and cannot be repaired by a reader.
    #[error("{} was not closed properly; it is repaired when it is opened to write", path.display())]
    NeedsRepair {
        /// The file.
        path: PathBuf,
    },
    /// It is not ours, or was written by another version.
    #[error("{} has format {found}, and this program writes format {expected}; use the program that wrote it", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// The format of the file.
        found: u64,
        /// The format of this program.
        expected: u64,
    },
    /// The file system or the database failed.
    #[error("{} cannot be opened", path.display())]
    Failed {
        /// The file.
        path: PathBuf,
        /// How.
        #[source]
        source: Box<redb::Error>,
    },
}

impl RedbStore {
    /// Opens a database file, and makes it if there is none (mode 0600). What a crash left behind is repaired.
    ///
    /// # Errors
    /// When another process has it, when another version wrote it, or when the file system fails.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        private(path).map_err(|error| failed(path, redb::Error::Io(error)))?;
        let file = path.to_owned();
        Self::open_by(path, move || builder().create(&file))
    }

    fn open_by(
        path: &Path,
        open: impl Fn() -> Result<redb::Database, DatabaseError> + Send + Sync + 'static,
    ) -> Result<Self, OpenError> {
        let database = open().map_err(|error| refused(path, error))?;
        tables::prepare(&database, path)?;
        let database = Arc::new(Database::new(database, open));
        let writer =
            Writer::start(Arc::clone(&database)).map_err(|error| failed(path, redb::Error::Io(error)))?;
        Ok(Self { database: Opened::ToWrite(database), writer: Some(writer) })
    }

    /// Opens a database file to look at it, also while an operator runs. Writing fails.
    ///
    /// # Errors
    /// As [`open`](Self::open); and [`OpenError::NeedsRepair`] where only opening it to write can help.
    pub fn open_to_read(path: &Path) -> Result<Self, OpenError> {
        if !path.exists() {
            return Err(OpenError::Missing { path: path.to_owned() });
        }
        let database = builder().open_read_only(path).map_err(|error| refused(path, error))?;
        Ok(Self { database: Opened::ToRead(database), writer: None })
    }

    fn begin(&self) -> Result<ReadTransaction, StoreError> {
        match &self.database {
            Opened::ToWrite(database) => database.begin_read(),
            Opened::ToRead(database) => database.begin_read().map_err(unavailable),
        }
    }

    fn writer(&self) -> Result<&Writer, StoreError> {
        self.writer.as_ref().ok_or_else(|| StoreError::Unavailable("it was opened to read".to_owned()))
    }
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_concurrency_mode(ConcurrencyMode::SingleWriter).set_cache_size(CACHE);
    builder
}

/// Makes the file readable for its owner only, before anything is in it.
fn private(path: &Path) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.create(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map(drop)
}

fn refused(path: &Path, error: DatabaseError) -> OpenError {
    let path = path.to_owned();
    match error {
        DatabaseError::DatabaseAlreadyOpen => OpenError::InUse { path },
        DatabaseError::RepairAborted => OpenError::NeedsRepair { path },
        other => failed(&path, other.into()),
    }
}

fn failed(path: &Path, source: redb::Error) -> OpenError {
    OpenError::Failed { path: path.to_owned(), source: Box::new(source) }
}

fn unavailable(error: impl Into<redb::Error>) -> StoreError {
    match error.into() {
        redb::Error::Corrupted(what) => StoreError::Corrupt(what),
        other => StoreError::Unavailable(other.to_string()),
    }
}

fn storage(error: StorageError) -> StoreError {
    unavailable(error)
}

#[async_trait]
impl WorkStore for RedbStore {
    async fn next_epoch(&self, domain: &Domain) -> Result<u64, StoreError> {
        let domain = domain.clone();
        self.writer()?.write(move |tables| tables.next_epoch(&domain)).await
    }

    async fn work(&self, id: &WorkId) -> Result<Option<Stored<Arc<Work>>>, StoreError> {
        read::work(&self.begin()?, id)
    }

    async fn put_work(
        &self,
        work: Arc<Work>,
        expected: Option<Revision>,
        plans: Vec<AppliedWork>,
    ) -> Result<Revision, StoreError> {
        let record = tables::encode(&*work)?;
        let plans = plans
            .into_iter()
            .map(|plan| Ok((plan.cluster.to_string(), tables::encode(&plan)?)))
            .collect::<Result<Vec<_>, StoreError>>()?;
        let revision = self.writer()?.write(move |tables| {
            let revision = tables.put_work(&work.id, &record, expected.as_ref())?;
            for (cluster, plan) in &plans {
                tables.add_applied(&work.id, cluster, plan)?;
            }
            Ok(revision)
        });
        revision.await
    }

    async fn delete_work(&self, id: &WorkId, expected: Revision) -> Result<(), StoreError> {
        let key = id.clone();
        self.writer()?.write(move |tables| tables.delete_work(&key, &expected)).await
    }

    async fn works<'a>(
        &self,
        trigger: Option<&'a str>,
        after: Option<&'a WorkId>,
        limit: usize,
    ) -> Result<Vec<Stored<Arc<Work>>>, StoreError> {
        read::works(&self.begin()?, trigger, after, limit)
    }

    async fn applied(&self, work: &WorkId) -> Result<Vec<Stored<Arc<AppliedWork>>>, StoreError> {
        read::applied(&self.begin()?, work)
    }

    async fn applied_in(
        &self,
        work: &WorkId,
        cluster: &ClusterId,
    ) -> Result<Option<Stored<Arc<AppliedWork>>>, StoreError> {
        read::applied_in(&self.begin()?, work, cluster)
    }

    async fn all_applied<'a>(
        &self,
        after: Option<(&'a WorkId, &'a ClusterId)>,
        limit: usize,
    ) -> Result<Vec<Stored<Arc<AppliedWork>>>, StoreError> {
        read::all_applied(&self.begin()?, after, limit)
    }

    async fn put_applied(
        &self,
        applied: Arc<AppliedWork>,
        expected: Option<Revision>,
    ) -> Result<Revision, StoreError> {
        let record = tables::encode(&*applied)?;
        let cluster = applied.cluster.to_string();
        let write = move |tables: &mut tables::Tables<'_>| {
            tables.put_applied(&applied.work, &cluster, &record, expected.as_ref())
        };
        self.writer()?.write(write).await
    }

    async fn delete_applied(
        &self,
        work: &WorkId,
        cluster: &ClusterId,
        expected: Revision,
    ) -> Result<(), StoreError> {
        let (work, cluster) = (work.clone(), cluster.to_string());
        self.writer()?.write(move |tables| tables.delete_applied(&work, &cluster, &expected)).await
    }

    async fn floors(&self, source: &str) -> Result<Vec<Position>, StoreError> {
        read::floors(&self.begin()?, source)
    }

    async fn raise_floor(&self, source: &str, floor: &Position) -> Result<(), StoreError> {
        let (source, floor) = (source.to_owned(), floor.clone());
        self.writer()?.write(move |tables| tables.raise_floor(&source, &floor)).await
    }

    async fn add_dead_letter(&self, letter: Arc<DeadLetter>) -> Result<(), StoreError> {
        let record = tables::encode(&*letter)?;
        self.writer()?.write(move |tables| tables.add_dead_letter(&letter.id, &record)).await
    }

    async fn dead_letters<'a>(
        &self,
        after: Option<&'a str>,
        limit: usize,
    ) -> Result<Vec<Arc<DeadLetter>>, StoreError> {
        read::dead_letters(&self.begin()?, after, limit)
    }

    async fn dead_letter(&self, id: &str) -> Result<Option<Arc<DeadLetter>>, StoreError> {
        read::dead_letter(&self.begin()?, id)
    }

    async fn drop_dead_letter(&self, id: &str) -> Result<bool, StoreError> {
        let id = id.to_owned();
        self.writer()?.write(move |tables| tables.drop_dead_letter(&id)).await
    }

    /// Nobody else can write: there is nothing to tell.
    async fn watch(&self) -> Result<BoxStream<'static, StoreChange>, StoreError> {
        Ok(futures::stream::pending().boxed())
    }
}
