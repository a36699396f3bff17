//! The files of one kind's objects in one cluster, and what changed of them since they were looked at.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::fs::{self, Metadata};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::cluster::ClusterId;
use crate::directory::file::{self, Content};
use crate::directory::layout::{ENDING, Place, STAGING, cluster_folder, kind_folder, object_at};
use crate::manifest::{Gvk, ObjectRef};
use crate::observe::{Observation, Owned, Seen};

/// A file that was changed more recently may be changed again and look the same: clocks of file systems are coarse.
const SETTLED: Duration = Duration::from_secs(2);

#[derive(Clone)]
pub(super) struct Files {
    root: Arc<PathBuf>,
    cluster: ClusterId,
    kind: Gvk,
    known: Arc<HashMap<PathBuf, Known>>,
}

/// What became of the files since the last look.
pub(super) enum Looked {
    Changes(Vec<Observation>),
    /// Something may have come and gone of which only all that is there can tell what it was.
    Incomplete,
}

/// A file as it was read last.
#[derive(Clone)]
struct Known {
    /// `None` if it is to be read again in any case.
    look: Option<Look>,
    /// The object in it, if it is one of ours.
    object: Option<Object>,
    /// It could not be read, and that is what it was before.
    unread: bool,
}

#[derive(Clone)]
struct Object {
    id: ObjectRef,
    mark: Arc<str>,
    uid: Arc<str>,
    version: Option<Arc<str>>,
}

/// What tells one state of a file from another without reading it.
#[derive(Clone, PartialEq)]
struct Look {
    length: u64,
    modified: Option<SystemTime>,
    #[cfg(unix)]
    inode: (u64, i64, i64),
}

impl Files {
    pub(super) fn new(root: Arc<PathBuf>, cluster: ClusterId, kind: Gvk) -> Self {
        Self { root, cluster, kind, known: Arc::default() }
    }

    /// As if nothing had been seen yet.
    pub(super) fn forget(&mut self) {
        self.known = Arc::default();
    }

    /// Whether a file may have changed already without looking different.
    pub(super) fn unsettled(&self) -> bool {
        self.known.values().any(|known| known.look.is_none())
    }

    /// What changed since the last look, where these paths are noted to have changed. Blocks.
    ///
    /// # Errors
    /// When the folders cannot be looked at. Then nothing is known of the files: they are not gone.
    pub(super) fn look(&mut self, noted: &HashSet<PathBuf>) -> io::Result<Looked> {
        let before = Arc::clone(&self.known);
        let mut told = self.all()?;
        for path in noted {
            if self.is_file(path) {
                if self.known.get(path).is_some_and(|known| known.object.is_some() || known.unread) {
                    continue;
                }
                // Another one than was seen before may have come and gone between two looks, and whoever wrote it knows
                // that it was there. So whichever it was is gone.
                let Some(object) = object_at(path, &self.kind) else { return Ok(Looked::Incomplete) };
                told.retain(
                    |told| !matches!(told, Observation::Gone { object: gone, .. } if *gone == object),
                );
                told.push(gone(object));
            } else {
                let held_some = |known: &HashMap<PathBuf, Known>| known.keys().any(|it| it.starts_with(path));
                let is_explained = held_some(&before) || held_some(&self.known);
                if !is_explained && self.may_have_held_some(path)? {
                    return Ok(Looked::Incomplete);
                }
            }
        }
        Ok(Looked::Changes(told))
    }

    /// The same without notes; everything, after [`forget`](Self::forget). Blocks.
    ///
    /// # Errors
    /// As [`look`](Self::look).
    pub(super) fn all(&mut self) -> io::Result<Vec<Observation>> {
        let mut now = HashMap::new();
        let mut told = Vec::new();
        self.staged()?;
        for path in self.paths()? {
            let before = self.known.get(&path);
            let Some(meta) = absent(fs::symlink_metadata(&path))? else { continue };
            if !meta.is_file() {
                continue;
            }
            let look = Look::of(&meta);
            if let Some(before) = before.filter(|before| before.look.as_ref() == Some(&look)) {
                now.insert(path, before.clone());
                continue;
            }
            // Another machine's clock may be ahead.
            let age = meta.modified().map(|at| at.elapsed().unwrap_or(SETTLED));
            let settled = age.is_ok_and(|age| age >= SETTLED);
            let content = match absent(file::content(&path)) {
                Ok(None) => continue,
                Ok(Some(content)) if content.is_some() || settled => content,
                // Half written, maybe; or one that cannot be read, which keeps nobody from seeing the others. It is what
                // it was.
                _ => {
                    let object = before.and_then(|before| before.object.clone());
                    now.insert(path, Known { look: None, object, unread: true });
                    continue;
                }
            };
            let seen = content.and_then(|content| self.seen(&path, content));
            let object = seen.as_ref().map(|seen| Object {
                id: seen.object.clone(),
                mark: Arc::clone(&seen.mark),
                uid: Arc::clone(&seen.uid),
                version: seen.version.clone(),
            });
            let same = match (before.and_then(|before| before.object.as_ref()), &object) {
                (Some(before), Some(now)) => {
                    (&before.mark, &before.uid, &before.version) == (&now.mark, &now.uid, &now.version)
                }
                _ => false,
            };
            if seen.is_none() && before.is_some_and(|before| before.unread) {
                told.extend(object_at(&path, &self.kind).map(gone));
            }
            told.extend(seen.filter(|_| !same).map(Observation::There));
            now.insert(path, Known { look: settled.then_some(look), object, unread: false });
        }
        // Should the disk have gone away meanwhile, nothing was seen.
        self.staged()?;
        for (path, before) in &*self.known {
            let still_ours = now.get(path).is_some_and(|known| known.object.is_some());
            if let Some(Object { id, mark, uid, .. }) = before.object.as_ref().filter(|_| !still_ours) {
                let (object, mark, uid) = (id.clone(), Some(Arc::clone(mark)), Some(Arc::clone(uid)));
                told.push(Observation::Gone { object, mark, uid });
            }
        }
        self.known = Arc::new(now);
        Ok(told)
    }

    /// A root that lost its disk looks empty; only its staging folder tells that from objects that are gone.
    fn staged(&self) -> io::Result<()> {
        fs::symlink_metadata(self.root.join(STAGING)).map(drop)
    }

    /// Whether a path would be that of an object's file.
    fn is_file(&self, path: &Path) -> bool {
        const NAMESPACE_KIND_FILE: usize = 3;
        path.strip_prefix(cluster_folder(&self.root, &self.cluster))
            .is_ok_and(|within| within.components().count() >= NAMESPACE_KIND_FILE)
    }

    /// Whether files of the kind's objects may have been in a folder, none of which is there now.
    fn may_have_held_some(&self, folder: &Path) -> io::Result<bool> {
        if absent(fs::symlink_metadata(folder))?.is_none() {
            return Ok(true);
        }
        let kind = kind_folder(&self.kind);
        let cluster = cluster_folder(&self.root, &self.cluster);
        match folder.strip_prefix(&cluster).map(|within| within.components().count()) {
            Ok(0) | Err(_) => {
                let namespaces = if is_folder(&cluster)? { entries(&cluster)? } else { Vec::new() };
                let has_kind = namespaces.iter().map(|namespace| is_folder(&namespace.join(&kind)));
                Ok(has_kind.collect::<io::Result<Vec<_>>>()?.contains(&true))
            }
            Ok(1) => is_folder(&folder.join(&kind)),
            Ok(_) => Ok(true),
        }
    }

    /// What may be files of the kind's objects.
    fn paths(&self) -> io::Result<Vec<PathBuf>> {
        let cluster = cluster_folder(&self.root, &self.cluster);
        let mut paths = Vec::new();
        if !cluster.parent().map_or(Ok(false), is_folder)? {
            return Ok(paths);
        }
        for namespace in entries(&cluster)? {
            for path in entries(&namespace.join(kind_folder(&self.kind)))? {
                if path.extension().is_some_and(|extension| ENDING.strip_prefix('.') == extension.to_str()) {
                    paths.push(path);
                }
            }
        }
        Ok(paths)
    }

    /// The object in a file, if it is one of ours in its own place.
    fn seen(&self, path: &Path, content: Content) -> Option<Seen> {
        let Content { head, version, object } = content;
        let (mark, uid) = head.ours()?;
        let id = ObjectRef {
            gvk: self.kind.clone(),
            namespace: head.namespace().map(Into::into),
            name: head.name().into(),
        };
        let place = Place::of(&self.cluster, &id);
        if !head.names(&id) || place.path(&self.root) != path {
            return None;
        }
        Some(Seen {
            object: id,
            mark: mark.into(),
            uid: uid.into(),
            version: Some(version),
            going: false,
            written_by_us: file::is_made_for(uid, &place),
            owned: Owned::of_values(&object),
            other: None,
            whole: None,
        })
    }
}

/// The kind and the cluster, as messages name them.
impl fmt::Display for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "files of kind {} in the folder of cluster {}", self.kind.kind, self.cluster)
    }
}

/// Whatever was there under this name is not there any more.
fn gone(object: ObjectRef) -> Observation {
    Observation::Gone { object, mark: None, uid: None }
}

impl Look {
    fn of(meta: &Metadata) -> Self {
        Self {
            length: meta.len(),
            modified: meta.modified().ok(),
            #[cfg(unix)]
            inode: {
                use std::os::unix::fs::MetadataExt;
                (meta.ino(), meta.ctime(), meta.ctime_nsec())
            },
        }
    }
}

/// What is in a folder; nothing if there is none, or something else in its place.
fn entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    if !is_folder(folder)? {
        return Ok(Vec::new());
    }
    let Some(entries) = absent(fs::read_dir(folder))? else { return Ok(Vec::new()) };
    entries.map(|entry| entry.map(|entry| entry.path())).collect()
}

/// Symbolic links are never followed.
fn is_folder(path: &Path) -> io::Result<bool> {
    Ok(absent(fs::symlink_metadata(path))?.is_some_and(|meta| meta.is_dir()))
}

fn absent<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error),
    }
}
