//! The data folder: the database, the folders that stand in for clusters, and last good versions of manifests.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use fleet_core::redb::{OpenError, RedbStore};

/// Where things lie in a data folder.
#[derive(Clone, Debug)]
pub struct DataFolder {
    root: PathBuf,
}

impl DataFolder {
    /// The data folder at a path, there or not.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Makes the folder, for its owner alone, if it is missing.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn make(&self) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.root)
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The database.
    pub fn database(&self) -> PathBuf {
        self.root.join("fleet.redb")
    }

    /// The folders that stand in for clusters.
    pub fn clusters(&self) -> PathBuf {
        self.root.join("clusters")
    }

    /// Opens the database to look at it, while no operator runs. One that was not closed properly is repaired.
    ///
    /// # Errors
    /// When there is none, or it cannot be opened.
    pub fn open_to_read(&self) -> Result<RedbStore, OpenError> {
        match RedbStore::open_to_read(&self.database()) {
            Err(OpenError::NeedsRepair { path }) => RedbStore::open(&path),
            opened => opened,
        }
    }
}
