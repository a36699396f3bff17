//! The database of a writer. After the file system failed once (the disk was full), redb refuses everything until it is
//! opened anew, so that is done before the next write.

use std::fmt;

use parking_lot::{RwLock, RwLockReadGuard};
use redb::{DatabaseError, ReadTransaction, ReadableDatabase};

use super::unavailable;
use crate::store::StoreError;

type Open = dyn Fn() -> Result<redb::Database, DatabaseError> + Send + Sync;

pub(super) struct Database {
    open: Box<Open>,
    /// `None` from a failure until it could be opened again.
    current: RwLock<Option<redb::Database>>,
}

impl Database {
    /// An open database, and how to open it whenever that is needed again.
    pub(super) fn new(
        current: redb::Database,
        open: impl Fn() -> Result<redb::Database, DatabaseError> + Send + Sync + 'static,
    ) -> Self {
        Self { open: Box::new(open), current: RwLock::new(Some(current)) }
    }

    /// Begins to read. Fails while it is closed: what writes next opens it.
    pub(super) fn begin_read(&self) -> Result<ReadTransaction, StoreError> {
        match &*self.current.read() {
            Some(database) => database.begin_read().map_err(unavailable),
            None => Err(StoreError::Unavailable(CLOSED.to_owned())),
        }
    }

    /// The open database; opened again if it was closed.
    pub(super) fn opened(&self) -> Result<Guard<'_>, StoreError> {
        if self.current.read().is_none() {
            let opened = (self.open)().map_err(unavailable)?;
            tracing::info!("the database is open again");
            *self.current.write() = Some(opened);
        }
        Ok(Guard(self.current.read()))
    }

    /// Closes it after a failure.
    pub(super) fn close(&self) {
        *self.current.write() = None;
    }
}

const CLOSED: &str = "its file could not be written, and it is not open again yet; is the disk full?";

/// The open database, for as long as this is held.
pub(super) struct Guard<'a>(RwLockReadGuard<'a, Option<redb::Database>>);

impl Guard<'_> {
    pub(super) fn get(&self) -> Result<&redb::Database, StoreError> {
        // Only the writer closes it, who holds this.
        self.0.as_ref().ok_or_else(|| StoreError::Unavailable(CLOSED.to_owned()))
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Database")
    }
}
