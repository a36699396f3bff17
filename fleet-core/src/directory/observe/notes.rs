//! What the system tells of the root folder: one watch for all clusters, passed on to those whom it concerns.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use notify::{Config, Event, RecommendedWatcher, RecursiveMode, Watcher as _};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::cluster::ClusterId;
use crate::directory::layout::{cluster_folder, kind_folder};
use crate::manifest::Gvk;

/// The notes on one root folder.
pub(in crate::directory) struct Notes {
    root: Arc<PathBuf>,
    /// The watch, for as long as somebody holds it.
    watched: Mutex<Weak<Watched>>,
    interests: Arc<Mutex<Vec<Weak<Interest>>>>,
    warned: Mutex<bool>,
}

pub(super) struct Watched {
    _watcher: RecommendedWatcher,
    /// Which folder it is on: after another one has taken its place, nothing comes any more.
    folder: Identity,
}

/// So many paths are remembered between two looks.
const MOST_PATHS: usize = 10_000;

/// Whom a note may concern.
pub(super) struct Interest {
    cluster: PathBuf,
    kind: String,
    noted: Notify,
    since_look: Mutex<Noted>,
}

/// What was noted since the last look.
#[derive(Clone, Default)]
pub(super) struct Noted {
    /// What came, changed or went, as far as notes came.
    pub(super) paths: HashSet<PathBuf>,
    /// Whether there were more, or some were lost.
    pub(super) incomplete: bool,
}

impl Noted {
    pub(super) fn add(&mut self, other: Self) {
        other.paths.into_iter().for_each(|path| self.add_path(path));
        self.incomplete |= other.incomplete;
    }

    fn add_path(&mut self, path: PathBuf) {
        if self.paths.len() < MOST_PATHS {
            self.paths.insert(path);
        } else {
            self.incomplete = true;
        }
    }
}

impl Interest {
    /// Waits until something may have happened. Cancel safe.
    pub(super) async fn noted(&self) {
        self.noted.notified().await;
    }

    /// Takes out what was noted.
    pub(super) fn take(&self) -> Noted {
        std::mem::take(&mut *self.since_look.lock())
    }

    fn is_in(&self, path: &Path) -> bool {
        match path.strip_prefix(&self.cluster) {
            // Something around the cluster, as its coming and going.
            Err(_) => self.cluster.starts_with(path),
            Ok(within) => {
                within.components().nth(1).is_none_or(|kind| kind.as_os_str() == self.kind.as_str())
            }
        }
    }
}

impl Notes {
    pub(in crate::directory) fn new(root: Arc<PathBuf>) -> Self {
        Self { root, watched: Mutex::default(), interests: Arc::default(), warned: Mutex::default() }
    }

    pub(super) fn interest(&self, cluster: &ClusterId, kind: &Gvk) -> Arc<Interest> {
        let interest = Arc::new(Interest {
            cluster: cluster_folder(&self.root, cluster),
            kind: kind_folder(kind),
            noted: Notify::new(),
            since_look: Mutex::default(),
        });
        let mut interests = self.interests.lock();
        interests.retain(|interest| interest.strong_count() > 0);
        interests.push(Arc::downgrade(&interest));
        interest
    }

    /// Makes notes come, if they do not yet; `None` if that is not possible. Blocks.
    pub(super) fn watch(&self) -> Option<Arc<Watched>> {
        let folder = identity(&self.root).ok()?;
        let mut watched = self.watched.lock();
        if let Some(watched) = watched.upgrade().filter(|watched| watched.folder == folder) {
            return Some(watched);
        }
        let interests = Arc::downgrade(&self.interests);
        let note = move |event: notify::Result<Event>| {
            let Some(interests) = interests.upgrade() else { return };
            match event {
                // That they are read is no news.
                Ok(event) if event.kind.is_access() => {}
                Ok(event) if !event.need_rescan() && !event.paths.is_empty() => {
                    pass_on(&interests, |interest, noted| {
                        let concerned = event.paths.iter().filter(|path| interest.is_in(path));
                        concerned.map(|path| noted.add_path(path.clone())).count() > 0
                    });
                }
                _ => pass_on(&interests, |_, noted| {
                    noted.incomplete = true;
                    true
                }),
            }
        };
        let config = Config::default().with_follow_symlinks(false);
        let watcher = RecommendedWatcher::new(note, config).and_then(|mut watcher| {
            watcher.watch(&self.root, RecursiveMode::Recursive)?;
            Ok(watcher)
        });
        match watcher {
            Ok(watcher) => {
                let now = Arc::new(Watched { _watcher: watcher, folder });
                *watched = Arc::downgrade(&now);
                Some(now)
            }
            Err(error) => {
                if !std::mem::replace(&mut *self.warned.lock(), true) {
                    tracing::warn!(
                        "{} cannot be watched: {error}; it is looked at often instead",
                        self.root.display()
                    );
                }
                None
            }
        }
    }
}

fn pass_on(interests: &Mutex<Vec<Weak<Interest>>>, note: impl Fn(&Interest, &mut Noted) -> bool) {
    let interests = interests.lock();
    for interest in interests.iter().filter_map(Weak::upgrade) {
        if note(&interest, &mut interest.since_look.lock()) {
            interest.noted.notify_one();
        }
    }
}

#[cfg(unix)]
type Identity = (u64, u64);
#[cfg(not(unix))]
type Identity = ();

#[cfg(unix)]
fn identity(folder: &Path) -> io::Result<Identity> {
    use std::os::unix::fs::MetadataExt;
    let meta = std::fs::metadata(folder)?;
    Ok((meta.dev(), meta.ino()))
}

#[cfg(not(unix))]
fn identity(folder: &Path) -> io::Result<Identity> {
    std::fs::metadata(folder).map(drop)
}
