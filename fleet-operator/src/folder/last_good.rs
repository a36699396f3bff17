//! The last good version of each file, in memory and in the data folder.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tracing::warn;

use super::read::Manifests;

const NAME: &str = "manifests.json";

pub(super) struct LastGood {
    store: PathBuf,
    kept: Kept,
}

/// What is in the file. It may hold Secrets.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
struct Kept {
    /// The folder that the files are from. Another folder is another story.
    root: PathBuf,
    /// The text of each file, by its path.
    files: BTreeMap<PathBuf, Arc<str>>,
}

impl LastGood {
    /// Opens what was kept of this folder. What cannot be read was not kept: the warning says so.
    pub(super) fn open(data: &Path, root: &Path) -> Self {
        let store = data.join(NAME);
        let root = fs::canonicalize(root).unwrap_or_else(|_| root.to_path_buf());
        let kept = match load(&store) {
            Some(kept) if kept.root == root => kept,
            _ => Kept { root, files: BTreeMap::new() },
        };
        Self { store, kept }
    }

    /// What was kept, of whichever folder.
    pub(super) fn remembered(data: &Path) -> Manifests {
        parse(&load(&data.join(NAME)).unwrap_or_default().files)
    }

    /// All that is kept.
    pub(super) fn manifests(&self) -> Manifests {
        parse(&self.kept.files)
    }

    /// Keeps what was found, except of files that are at fault.
    pub(super) fn remember(&mut self, found: &Manifests, faulty: &BTreeSet<PathBuf>) {
        let mut files = BTreeMap::new();
        for (path, text) in &found.files {
            let good = if faulty.contains(path) { self.kept.files.get(path) } else { Some(text) };
            if let Some(good) = good {
                files.insert(path.clone(), Arc::clone(good));
            }
        }
        if !found.problems.is_empty() {
            for (path, text) in &self.kept.files {
                files.entry(path.clone()).or_insert_with(|| Arc::clone(text));
            }
        }
        if files == self.kept.files {
            return;
        }
        self.kept.files = files;
        if let Err(error) = self.save() {
            warn!(
                "{} cannot be written: {error}; a manifest that is broken at the next start has no last good version",
                self.store.display()
            );
        }
    }

    fn save(&self) -> io::Result<()> {
        let staged = self.store.with_extension("json.new");
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&staged)?;
        file.write_all(&serde_json::to_vec(&self.kept)?)?;
        file.sync_all()?;
        fs::rename(&staged, &self.store)
    }
}

fn load(store: &Path) -> Option<Kept> {
    let bytes = match fs::read(store) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => {
            warn!("{} cannot be read: {error}; last good versions of manifests are lost", store.display());
            return None;
        }
    };
    let kept = serde_json::from_slice(&bytes);
    if kept.is_err() {
        warn!("{} is damaged; last good versions of manifests are lost", store.display());
    }
    kept.ok()
}

fn parse(files: &BTreeMap<PathBuf, Arc<str>>) -> Manifests {
    let mut manifests = Manifests::default();
    for (path, text) in files {
        manifests.add(path, text.to_string());
    }
    manifests
}
