//! Clusters that are folders: an [`Applier`] that writes one file per object, laid out as rendered-manifest
//! repositories are.
//!
//! `<root>/<cluster namespace>/<cluster name>/<object namespace or _cluster>/<kind>.<group or core>/<name>.yaml`, all
//! lower case. What a path cannot hold (RBAC allows `:` and upper case in names) is percent-encoded.
//!
//! A file is ours if it is one readable object of the expected kind and name with the mark of the Work in its labels; one
//! that lost its mark is ours by the UID in its annotations. Everything else in the way of an object is a conflict and
//! stays untouched, symbolic links included. Files and folders are made for the owner alone (0600, 0700), because what is
//! rendered may be secret.
//!
//! A readable file of the object that carries no mark may be [adopted](crate::policy::Policy::adopt). It becomes ours as a
//! whole, because a file does not tell whose its fields are; given back, it stays as it is but for mark and annotations.
//! No namespace is protected, and none is created for what belongs into it: a file dies alone, and needs no other.

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

use self::file::{Found, Kept, Write};
use self::layout::Place;
use self::observe::Notes;
use crate::apply::{
    Applier, ApplyRequest, Change, InventoryItem, Mode, Outcome, Owner, Placed, RemoveRequest,
};
use crate::cluster::ClusterId;
use crate::diff;
use crate::keep::keep;
use crate::manifest::{Gvk, Manifest, ObjectRef};
use crate::observe::{Depth, Observation};
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
        // As the system names paths in what it tells of changes.
        let root = std::path::absolute(root.into())?;
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
        mut step: impl FnMut(&Self, &T) -> Outcome + Send + 'static,
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

    fn apply_one(&self, request: &ApplyRequest, manifest: &Manifest) -> Outcome {
        let (id, policy) = (manifest.id(), &request.policy);
        let place = Place::of(&request.cluster.id, id);
        let found = match file::look(&self.root, &place, id) {
            Ok(found) => found,
            Err(error) => return self.failed(&place, "read", &error),
        };
        let known = request.inventory.iter().find(|item| item.object.same_object(id));
        let (old, adopted) = match found {
            Found::Foreign(owner) => return Outcome::Conflict { owner },
            Found::Nothing => (None, false),
            Found::Object(kept) => match self.standing(&place, &kept, &request.work, known) {
                Ok(adopted) => (Some(kept), adopted),
                Err(Owner::Work(mark)) if claims(request, id, &mark) => {
                    let adopted = kept.adopted;
                    (Some(kept), adopted)
                }
                Err(Owner::Other(_)) if policy.adopt && kept.mark.is_none() => (Some(kept), true),
                Err(owner) => return Outcome::Conflict { owner },
            },
        };
        let uid: Arc<str> =
            old.as_ref().and_then(|kept| kept.uid.clone()).unwrap_or_else(|| file::new_uid(&place).into());
        let mut object = file::object(manifest, &request.work, &uid, adopted);
        if let Some(kept) = &old {
            policy.excluded(id).for_each(|field| keep(&mut object, &kept.object, field));
        }
        let text = match file::text(&object) {
            Ok(text) => text,
            Err(reason) => return Outcome::Rejected { reason },
        };
        if request.mode == Mode::Preview {
            return Outcome::Would(match &old {
                None => Change::Create,
                Some(kept) => diff::between(&kept.object, &object)
                    .map_or(Change::Nothing, |diff| Change::Update { diff }),
            });
        }
        let print = file::owned(&text).map(|owned| owned.print(policy.excluded(id)));
        let version = Some(file::version(&text));
        let applied = || Outcome::Applied(Placed { print, version, adopted, ..Placed::new(uid) });
        if old.as_ref().is_some_and(|kept| kept.text == text) {
            return applied();
        }
        let how = if old.is_some() { Write::Replace } else { Write::Create };
        match file::write(&self.root, &place, &text, how) {
            Ok(()) => applied(),
            Err(error) if how == Write::Create && error.kind() == io::ErrorKind::AlreadyExists => {
                Outcome::Conflict { owner: self.writer(&place) }
            }
            Err(error) => self.failed(&place, "written", &error),
        }
    }

    fn remove_one(&self, request: &RemoveRequest, item: &InventoryItem) -> Outcome {
        let place = Place::of(&request.cluster.id, &item.object);
        let kept = match file::look(&self.root, &place, &item.object) {
            // Ours is not there; what is there instead is not ours to remove.
            Ok(Found::Nothing | Found::Foreign(_)) => return gone(request.mode),
            Ok(Found::Object(kept)) => kept,
            Err(error) => return self.failed(&place, "read", &error),
        };
        let Ok(adopted) = self.standing(&place, &kept, &request.work, Some(item)) else {
            return gone(request.mode);
        };
        if request.mode == Mode::Preview {
            return Outcome::Would(if adopted { Change::GiveBack } else { Change::Delete });
        }
        if !adopted {
            return match file::remove(&self.root, &place) {
                Ok(()) => Outcome::Gone,
                Err(error) => self.failed(&place, "removed", &error),
            };
        }
        let text = match file::text(&file::given_back(kept.object)) {
            Ok(text) => text,
            Err(reason) => return Outcome::Rejected { reason },
        };
        match file::write(&self.root, &place, &text, Write::Replace) {
            Ok(()) => Outcome::Gone,
            Err(error) => self.failed(&place, "written", &error),
        }
    }

    /// Whose a file is: ours, adopted or not, or somebody else's.
    fn standing(
        &self,
        place: &Place,
        kept: &Kept,
        work: &WorkId,
        known: Option<&InventoryItem>,
    ) -> Result<bool, Owner> {
        let path = || place.path(&self.root);
        let known = known.filter(|item| item.uid.is_some() && item.uid == kept.uid);
        let adopted = kept.adopted || known.is_some_and(|item| item.adopted);
        match (&kept.mark, &kept.uid) {
            (Some(mark), Some(_)) if **mark == *work.hash() => Ok(adopted),
            (Some(mark), None) if **mark == *work.hash() => {
                Err(Owner::Other(format!("somebody who removed its UID from {}", path().display())))
            }
            (Some(mark), _) => Err(Owner::Work(Arc::clone(mark))),
            (None, _) if known.is_some() => Ok(adopted),
            (None, _) => Err(self.writer(place)),
        }
    }

    fn writer(&self, place: &Place) -> Owner {
        Owner::Other(format!("whoever wrote {}", place.path(&self.root).display()))
    }

    fn failed(&self, place: &Place, what: &str, error: &io::Error) -> Outcome {
        let reason = format!("{} cannot be {what}: {error}", place.path(&self.root).display());
        Outcome::Retry { after: RETRY, reason, cluster: false }
    }
}

fn claims(request: &ApplyRequest, object: &ObjectRef, mark: &str) -> bool {
    request.claims.iter().any(|claim| claim.object.same_object(object) && &*claim.from == mark)
}

fn gone(mode: Mode) -> Outcome {
    match mode {
        Mode::Write => Outcome::Gone,
        Mode::Preview => Outcome::Would(Change::Nothing),
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
        let (cluster, deadline) = (Arc::clone(&request.cluster), request.deadline);
        let manifests = request.manifests.to_vec();
        let mut held_up = None;
        self.each(&cluster.id, manifests, deadline, move |this, manifest| {
            if let Some(held_up) = &held_up {
                return Outcome::clone(held_up);
            }
            let outcome = this.apply_one(&request, manifest);
            if let Outcome::Conflict { owner } = &outcome
                && !request.policy.continue_on_conflict
            {
                held_up = Some(Outcome::held_up(manifest.id(), owner));
            }
            outcome
        })
        .await
    }

    async fn remove(&self, request: RemoveRequest) -> Vec<Outcome> {
        let (cluster, deadline, items) =
            (Arc::clone(&request.cluster), request.deadline, request.items.clone());
        self.each(&cluster.id, items, deadline, move |this, item| this.remove_one(&request, item)).await
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
