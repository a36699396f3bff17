//! The data folder: the database, the folders that stand in for clusters, charts, and last good versions of manifests.

use std::fs::{DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use fleet_core::redb::{OpenError, RedbStore};

/// A data folder that is this process's alone. The system takes it back when the process ends, however it does.
#[derive(Debug)]
pub struct Owned(#[allow(dead_code, reason = "held, not read")] File);

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

    /// Takes the folder for as long as the answer is kept: an operator is alone on its data folder.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if another process has it.
    pub fn own(&self) -> io::Result<Owned> {
        let folder = File::open(&self.root)?;
        match folder.try_lock() {
            Ok(()) => Ok(Owned(folder)),
            Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => Err(error),
        }
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

    /// Where helm works: its caches, and the charts that were pulled.
    pub fn helm(&self) -> PathBuf {
        self.root.join("helm")
    }

    /// The kubeconfig for the hub with an agent's newest token.
    pub fn hub_kubeconfig(&self) -> PathBuf {
        self.root.join("hub-kubeconfig.json")
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
