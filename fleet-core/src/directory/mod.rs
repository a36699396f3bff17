//! Clusters that are folders: an [`Applier`] that writes one file per object, laid out as rendered-manifest
//! repositories are.
//!
//! `<root>/<cluster namespace>/<cluster name>/<object namespace or _cluster>/<kind>.<group or core>/<name>.yaml`, all
//! lower case. What a path cannot hold (RBAC allows `:` and upper case in names) is percent-encoded.
//!
//! A file is ours if it is one readable object of the expected kind and name with the mark of the Work in its labels.
//! Everything else in the way of an object is a conflict and stays untouched, symbolic links included. Files and folders
//! are made for the owner alone (0600, 0700), because what is rendered may be secret.

mod file;
mod layout;
mod observe;

use std::hash::BuildHasher;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use tokio::sync::Mutex;
use tokio::time::Instant;

use self::file::{Found, Write};
use self::layout::Place;
use self::observe::Notes;
use crate::apply::{Applier, ApplyRequest, Mode, Outcome, Owner, RemoveRequest};
use crate::cluster::ClusterId;
use crate::manifest::{Gvk, Manifest, ObjectRef};
use crate::observe::{Depth, Observation};
use crate::policy::Policy;
use crate::work::WorkId;

/// Locks that keep calls for one cluster apart. A fixed number, shared by all clusters.
const LOCKS: usize = 64;
/// How soon a write that the file system refused is worth another try.
const RETRY: Duration = Duration::from_secs(5);

/// Writes objects as files below a root folder. The folder must have no other writer that uses marks.
#[derive(Clone)]
pub struct DirectoryApplier {
    root: Arc<PathBuf>,
    notes: Arc<Notes>,
    locks: Arc<[Arc<Mutex<()>>]>,
    hasher: std::hash::RandomState,
}

impl DirectoryApplier {
    /// An applier for the clusters below `root`, which is made if it is missing. Clears away what a crash left half
    /// written. Blocks for a few file operations.
    ///
    /// # Errors
    /// When `root` cannot be made or written.
    pub fn new(root: impl Into<PathBuf>) -> io::Result<Self> {
        let root = root.into();
        file::prepare(&root)?;
        let locks = (0..LOCKS).map(|_| Arc::default()).collect();
        let root = Arc::new(root);
        let notes = Arc::new(Notes::new(Arc::clone(&root)));
        Ok(Self { root, notes, locks, hasher: std::hash::RandomState::new() })
    }

    /// Whether there is anything in the folder of a cluster.
    pub fn has(&self, cluster: &ClusterId) -> bool {
        layout::cluster_folder(&self.root, cluster).is_dir()
    }

    /// Runs one step per object on a thread that may block, one call per cluster at a time.
    async fn each<T: Send + 'static>(
        &self,
        cluster: &ClusterId,
        items: Vec<T>,
        deadline: Duration,
        step: impl Fn(&Self, &T) -> Outcome + Send + 'static,
    ) -> Vec<Outcome> {
        let until = Instant::now() + deadline;
        let count = items.len();
        let index = usize::try_from(self.hasher.hash_one(cluster) % LOCKS as u64).unwrap_or_default();
        let Some(lock) = self.locks.get(index) else {
            return vec![busy(); count];
        };
        let Ok(guard) = tokio::time::timeout_at(until, Arc::clone(lock).lock_owned()).await else {
            return vec![busy(); count];
        };
        let this = self.clone();
        let steps = tokio::task::spawn_blocking(move || {
            let _guard = guard;
            items
                .iter()
                .map(|item| if Instant::now() < until { step(&this, item) } else { busy() })
                .collect::<Vec<_>>()
        });
        match tokio::time::timeout_at(until, steps).await {
            Ok(Ok(outcomes)) => outcomes,
            Ok(Err(_)) => vec![unknown("writing the files was broken off"); count],
            Err(_) => vec![unknown("the file system did not answer by the deadline"); count],
        }
    }

    fn apply_one(
        &self,
        cluster: &ClusterId,
        work: &WorkId,
        manifest: &Manifest,
        policy: &Policy,
        mode: Mode,
    ) -> Outcome {
        let place = Place::of(cluster, manifest.id());
        let found = match file::look(&self.root, &place, manifest.id(), work) {
            Ok(found) => found,
            Err(error) => return self.failed(&place, "read", &error),
        };
        let (uid, old) = match found {
            Found::Foreign(owner) => return Outcome::Conflict { owner },
            Found::Nothing => (file::new_uid(&place).into(), None),
            Found::Ours { uid, text } => (uid, Some(text)),
        };
        let text = match file::text(manifest, work, &uid) {
            Ok(text) => text,
            Err(reason) => return Outcome::Rejected { reason },
        };
        let placed = |uid| file::placed(uid, &text, policy.excluded(manifest.id()));
        if mode == Mode::Preview || old.as_ref() == Some(&text) {
            return Outcome::Applied(placed(uid));
        }
        let how = if old.is_some() { Write::Replace } else { Write::Create };
        match file::write(&self.root, &place, &text, how) {
            Ok(()) => Outcome::Applied(placed(uid)),
            Err(error) if how == Write::Create && error.kind() == io::ErrorKind::AlreadyExists => {
                let owner = format!("whoever wrote {}", place.path(&self.root).display());
                Outcome::Conflict { owner: Owner::Other(owner) }
            }
            Err(error) => self.failed(&place, "written", &error),
        }
    }

    fn remove_one(&self, cluster: &ClusterId, work: &WorkId, object: &ObjectRef) -> Outcome {
        let place = Place::of(cluster, object);
        match file::look(&self.root, &place, object, work) {
            // Ours is not there; what is there instead is not ours to remove.
            Ok(Found::Nothing | Found::Foreign(_)) => Outcome::Gone,
            Ok(Found::Ours { .. }) => match file::remove(&self.root, &place) {
                Ok(()) => Outcome::Gone,
                Err(error) => self.failed(&place, "removed", &error),
            },
            Err(error) => self.failed(&place, "read", &error),
        }
    }

    fn failed(&self, place: &Place, what: &str, error: &io::Error) -> Outcome {
        let reason = format!("{} cannot be {what}: {error}", place.path(&self.root).display());
        Outcome::Retry { after: RETRY, reason, cluster: false }
    }
}

fn busy() -> Outcome {
    let reason = "the folder was busy until the deadline".to_owned();
    Outcome::Retry { after: Duration::from_secs(1), reason, cluster: true }
}

fn unknown(reason: &str) -> Outcome {
    Outcome::Unknown { reason: reason.to_owned() }
}

#[async_trait]
impl Applier for DirectoryApplier {
    async fn apply(&self, request: ApplyRequest) -> Vec<Outcome> {
        if let Some(identity) = &request.identity {
            let reason = format!(
                "cluster {} is a folder, where nobody can act as service account {}/{}; remove serviceAccountName",
                request.cluster.id, identity.namespace, identity.name
            );
            return vec![Outcome::Rejected { reason }; request.manifests.len()];
        }
        let ApplyRequest { cluster, work, manifests, policy, mode, deadline, .. } = request;
        let id = cluster.id.clone();
        self.each(&cluster.id, manifests.to_vec(), deadline, move |this, manifest| {
            this.apply_one(&id, &work, manifest, &policy, mode)
        })
        .await
    }

    async fn remove(&self, request: RemoveRequest) -> Vec<Outcome> {
        let RemoveRequest { cluster, work, items, deadline, .. } = request;
        let id = cluster.id.clone();
        let objects = items.into_iter().map(|item| item.object).collect();
        self.each(&cluster.id, objects, deadline, move |this, object| this.remove_one(&id, &work, object))
            .await
    }

    /// Not at all: a later call for the same cluster waits until an earlier one has let go of the files.
    fn settle_time(&self) -> Duration {
        Duration::ZERO
    }

    /// Files are never seen [whole](crate::observe::Seen::whole): nobody reports a status in them, so there is nothing
    /// to wait for. Does not end.
    fn observe(&self, cluster: &ClusterId, kind: &Gvk, _: Depth) -> BoxStream<'static, Observation> {
        observe::observe(Arc::clone(&self.root), Arc::clone(&self.notes), cluster, kind)
    }
}

#[cfg(test)]
mod tests;
