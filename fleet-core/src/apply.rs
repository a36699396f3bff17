//! Applying: manifests become objects in a cluster, and inventories are taken away again.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::cluster::{Cluster, ClusterId};
use crate::manifest::{Manifest, ObjectRef};
use crate::work::WorkId;

/// Puts manifests into clusters and takes objects out of them.
///
/// # Contract
/// * Only what we made is ours. An object that is neither in the inventory nor carries the mark of this Work MUST NOT
///   be changed or deleted: it is a [`Outcome::Conflict`]. Deletion checks the UID.
/// * Every object written carries the mark ([`Manifest::marked`]).
/// * An object that is being deleted is not there: it is [`Outcome::Waiting`] until it is gone.
/// * A call whose answer did not arrive (time-out, broken connection, 504) is [`Outcome::Unknown`]: it may still take
///   effect, for as long as [`settle_time`](Self::settle_time) says.
/// * One outcome for each manifest (apply, preview) or inventory item (remove), in the same order. An object's failure
///   does not keep the others from being tried, unless the cluster itself is out of reach.
/// * MUST return by the deadline. Cancelled, what was under way counts as unknown.
#[cfg_attr(any(test, feature = "testing"), mockall::automock)]
#[async_trait]
pub trait Applier: Send + Sync + 'static {
    /// Creates or updates the request's manifests. See [`Outcome`].
    async fn apply(&self, request: ApplyRequest) -> Vec<Outcome>;

    /// Deletes the request's inventory items, as far as they are ours.
    async fn remove(&self, request: RemoveRequest) -> Vec<Outcome>;

    /// For how long after its deadline a request that got no answer may still take effect.
    fn settle_time(&self) -> Duration;

    /// Tells what happens to marked objects in a cluster, for as long as the stream is held. An Applier that cannot
    /// watch returns an empty stream.
    fn drift(&self, cluster: &ClusterId) -> BoxStream<'static, Drift>;
}

/// What to apply, and where.
#[derive(Clone, Debug)]
pub struct ApplyRequest {
    /// The target.
    pub cluster: Arc<Cluster>,
    /// Whose objects they are.
    pub work: WorkId,
    /// What should be there.
    pub manifests: Arc<[Manifest]>,
    /// What this Work is known to have, or to have tried to make, in this cluster.
    pub inventory: Vec<InventoryItem>,
    /// Whom to act as; the Applier's own account if none.
    pub identity: Option<Identity>,
    /// Write, or only tell what would be written.
    pub mode: Mode,
    /// How long the whole call may take.
    pub deadline: Duration,
}

/// What to remove, and where.
#[derive(Clone, Debug)]
pub struct RemoveRequest {
    /// The target.
    pub cluster: Arc<Cluster>,
    /// Whose objects they are.
    pub work: WorkId,
    /// What to remove.
    pub items: Vec<InventoryItem>,
    /// Whom to act as; the Applier's own account if none.
    pub identity: Option<Identity>,
    /// How long the whole call may take.
    pub deadline: Duration,
}

/// Whether to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Write.
    Write,
    /// Only tell what a write would do.
    Preview,
}

/// A service account to act as in the target cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Identity {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// One object that a Work has, or may have, in a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InventoryItem {
    /// Which object.
    pub object: ObjectRef,
    /// Its UID, once the cluster told; `None` while the object was only planned or its creation got no answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<Arc<str>>,
    /// Until when a request without an answer may still take effect: before that, an object that is not there is not
    /// proof of anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uncertain_until: Option<Timestamp>,
    /// When it was last written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied_at: Option<Timestamp>,
}

/// What became of one object.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// It is there as it should be.
    Applied {
        /// The object's UID.
        uid: Arc<str>,
    },
    /// It is not there (any more): a removal has come to its end.
    Gone,
    /// Something has to happen in the cluster first: an old object must go, a kind must be established.
    Waiting {
        /// What is waited for.
        reason: String,
    },
    /// Somebody else's object has that name. Nothing was touched.
    Conflict {
        /// Whose it is, as far as the cluster tells: a field manager, or another Work's mark.
        owner: String,
    },
    /// The cluster refused the object; it will again unless something changes.
    Rejected {
        /// The cluster's reason. No values of Secrets.
        reason: String,
    },
    /// It could not be tried or finished now, and had no effect.
    Retry {
        /// Not before that.
        after: Duration,
        /// Why.
        reason: String,
        /// Whether the cause is the cluster as a whole (it is down, it throttles) and not this object.
        cluster: bool,
    },
    /// There was no answer: it may or may not have taken effect, now or later.
    Unknown {
        /// What happened.
        reason: String,
    },
}

/// Something happened to a marked object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drift {
    /// The hash in the object's mark.
    pub mark: String,
    /// Which object.
    pub object: ObjectRef,
    /// Whether it is gone, or was changed.
    pub gone: bool,
}
