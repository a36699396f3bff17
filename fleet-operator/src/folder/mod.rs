//! Definitions from a folder of manifests.
//!
//! Data flows one way: `read` finds and parses the files, `fleet_kube::definitions` makes sense of the objects, and
//! `watch` has it done again when something changes.
//!
//! Absence is not an order: a folder that is missing or empty, or a file that cannot be read or understood, withdraws
//! nothing; what was good before stays. `last_good` keeps that for the next start too.

mod last_good;
mod read;
mod watch;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fleet_core::catalog::{Catalog, CatalogError, CatalogSnapshot, Condition, Subject};
use fleet_kube::definitions::{Definitions, Fault, Location, Problem, RawObject};
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::sync::watch as channel;
use tokio_stream::wrappers::WatchStream;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::last_good::LastGood;
use self::read::Manifests;

/// A Catalog that reads a folder and follows what changes there.
pub struct Folder {
    published: channel::Receiver<Option<Arc<Definitions>>>,
}

/// Reads the folder again and again. Nothing changes while it does not run.
pub struct Follower {
    root: PathBuf,
    last_good: LastGood,
    said: BTreeSet<String>,
    changes: watch::Changes,
    publish: channel::Sender<Option<Arc<Definitions>>>,
}

impl Folder {
    /// Reads the folder for the first time; `data` is where last good versions are kept. Blocks.
    pub fn open(root: &Path, data: &Path) -> (Arc<Self>, Follower) {
        // First, so that no change is missed between reading and watching.
        let changes = watch::Changes::of(root.to_path_buf());
        let last_good = LastGood::open(data, root);
        let previous = Definitions::read(last_good.manifests().objects, Vec::new(), None);
        let (publish, published) = channel::channel(Some(Arc::new(previous)));
        let mut follower =
            Follower { root: root.to_path_buf(), last_good, said: BTreeSet::new(), changes, publish };
        follower.refresh();
        (Arc::new(Self { published }), follower)
    }

    /// What was defined when the last operator ran, for a look at it while none runs.
    pub fn remembered(data: &Path) -> Definitions {
        Definitions::read(LastGood::remembered(data).objects, Vec::new(), None)
    }

    /// What a folder or a file of manifests defines, for a look at it. Blocks.
    pub fn look(path: &Path) -> Definitions {
        let (objects, problems) = Self::objects(path);
        Definitions::read(objects, problems, None)
    }

    /// The objects in a folder or a file of manifests, and what could not be read. Blocks.
    pub fn objects(path: &Path) -> (Vec<RawObject>, Vec<Problem>) {
        let mut found = if path.is_dir() {
            Manifests::find(path)
        } else {
            let mut found = Manifests::default();
            found.read(path);
            found
        };
        (std::mem::take(&mut found.objects), found.problems)
    }

    /// What a text of manifests defines; `name` is where it comes from.
    pub fn look_at_text(name: &Path, text: String) -> Definitions {
        let mut found = Manifests::default();
        found.add(name, text);
        Definitions::read(std::mem::take(&mut found.objects), found.problems, None)
    }

    /// The definitions as they are now, and every change. Never `None`.
    pub fn definitions(&self) -> channel::Receiver<Option<Arc<Definitions>>> {
        self.published.clone()
    }
}

#[async_trait::async_trait]
impl Catalog for Folder {
    async fn subscribe(&self) -> Result<BoxStream<'static, Arc<CatalogSnapshot>>, CatalogError> {
        let snapshots = WatchStream::new(self.published.clone());
        Ok(snapshots
            .filter_map(async |read| read.map(|definitions| Arc::new(definitions.catalog.clone())))
            .boxed())
    }

    /// Nothing is written into the folder.
    fn report(&self, _subject: &Subject, _condition: Condition) {}
}

impl Follower {
    /// Follows the folder until `shutdown`.
    pub async fn run(mut self, shutdown: CancellationToken) {
        while shutdown.run_until_cancelled(self.changes.next()).await.is_some() {
            // Reading may block for long on a network file system; nothing else waits for it.
            let refreshed = tokio::task::spawn_blocking(move || {
                self.refresh();
                self
            });
            match refreshed.await {
                Ok(this) => self = this,
                Err(error) => {
                    tracing::error!(%error, "reading the folder failed; this is a bug, please report it");
                    return;
                }
            }
        }
    }

    /// Reads the folder and publishes what changed.
    fn refresh(&mut self) {
        let mut found = Manifests::find(&self.root);
        let (objects, unread) = (std::mem::take(&mut found.objects), found.problems.clone());
        let previous = self.publish.borrow().clone();
        let definitions = Definitions::read(objects, unread, previous.as_deref());
        self.last_good.remember(&found, &faulty(&definitions));
        self.say(&definitions.problems);
        if !previous.is_some_and(|previous| definitions.same(&previous)) {
            self.publish.send_replace(Some(Arc::new(definitions)));
        }
    }

    /// Says each problem once, for as long as it lasts.
    fn say(&mut self, problems: &[Problem]) {
        let now: BTreeSet<String> = problems.iter().map(ToString::to_string).collect();
        for problem in now.difference(&self.said) {
            warn!("{problem}");
        }
        if now.is_empty() && !self.said.is_empty() {
            info!("all manifests in {} can be used again", self.root.display());
        }
        self.said = now;
    }
}

/// The files in which something itself is at fault, not only what it refers to.
fn faulty(definitions: &Definitions) -> BTreeSet<PathBuf> {
    let itself = definitions.problems.iter().filter(|problem| problem.fault != Fault::MissingReference);
    itself
        .filter_map(|problem| match &problem.location {
            Location::File { file, .. } => Some(file.to_path_buf()),
            Location::Api => None,
        })
        .collect()
}

#[cfg(test)]
mod tests;
