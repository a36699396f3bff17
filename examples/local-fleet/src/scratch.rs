//! Folders that belong to one lab, and throw-away ones for tests.

use std::env;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::{LabError, Result, private};

const PREFIX: &str = "local-fleet-";
const LOCK: &str = "lock";

/// A folder that no other lab uses meanwhile. The kernel gives it back however this process ends.
#[derive(Debug)]
pub(crate) struct Owned {
    dir: PathBuf,
    throw_away: bool,
    _lock: File,
}

impl Owned {
    /// Takes a folder, made if there is none.
    pub(crate) fn take(dir: &Path) -> Result<Self> {
        private::create_dir(dir).map_err(LabError::file("create", dir))?;
        // Children get absolute paths: each runs in a folder of its own.
        let dir = dir.canonicalize().map_err(LabError::file("find", dir))?;
        let lock = dir.join(LOCK);
        let file = File::create(&lock).map_err(LabError::file("create", &lock))?;
        match file.try_lock() {
            Ok(()) => Ok(Owned { dir, throw_away: false, _lock: file }),
            Err(TryLockError::WouldBlock) => Err(LabError::InUse { dir }),
            Err(TryLockError::Error(source)) => Err(LabError::file("lock", &lock)(source)),
        }
    }

    /// Makes a new folder in the system's folder for temporary files, removed on drop; one that a killed process
    /// could not remove is removed by the next that makes one.
    pub(crate) fn scratch() -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let parent = env::temp_dir();
        sweep(&parent);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let mut owned = Owned::take(&parent.join(format!("{PREFIX}{}-{count}", process::id())))?;
        owned.throw_away = true;
        Ok(owned)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.dir
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        if self.throw_away {
            // If this fails, the next sweep tries again.
            let _kept = fs::remove_dir_all(&self.dir);
        }
    }
}

/// Removes the scratch folders that nobody uses any more, as far as it can: they may be another user's.
fn sweep(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let ours = entry.file_name().to_string_lossy().starts_with(PREFIX);
        // One without a lock file is just being made.
        if ours
            && let Ok(lock) = File::open(entry.path().join(LOCK))
            && lock.try_lock().is_ok()
        {
            let _kept = fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_one_owner_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let first = Owned::take(dir.path()).unwrap();
        assert!(matches!(Owned::take(dir.path()), Err(LabError::InUse { .. })));
        drop(first);
        Owned::take(dir.path()).unwrap();
    }

    #[test]
    fn abandoned_scratch_folders_are_swept() {
        let parent = tempfile::tempdir().unwrap();
        let (used, abandoned) =
            (parent.path().join("local-fleet-1-0"), parent.path().join("local-fleet-2-0"));
        let _owner = Owned::take(&used).unwrap();
        drop(Owned::take(&abandoned).unwrap());
        sweep(parent.path());
        assert!(used.exists());
        assert!(!abandoned.exists());
    }
}
