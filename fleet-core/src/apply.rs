//! Applying: manifests become objects in a cluster, and inventories are taken away again.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::cluster::{Cluster, ClusterId};
use crate::manifest::{Gvk, Manifest, ObjectRef};
use crate::observe::{Depth, Observation};
use crate::policy::Policy;
use crate::work::WorkId;

/// Puts manifests into clusters and takes objects out of them.
///
/// # Contract
/// * Only what we made is ours. An object that is neither in the inventory nor carries the mark of this Work MUST NOT
///   be changed or deleted: it is a [`Outcome::Conflict`]. So is one that carries another Work's mark, even if it is in
///   the inventory, unless the request [claims](ApplyRequest::claims) it from that Work. With [`Policy::adopt`] an
///   object without any mark is taken over.
/// * Deletion checks UID and mark. An object that was [adopted](InventoryItem::adopted) is given back instead: mark and
///   ownership go, values stay; it is adopted for as long as it has the mark. What others live in and would die with (`kube-system`) is never deleted.
/// * Every object written carries the mark ([`Manifest::marked`]).
/// * Fields that were applied before and are not in the manifest any more are removed. Where [`Policy::excluded`] names
///   a field, the value that is there stays. Applied again, what is as it should be stays as it is.
/// * What others need goes first: namespaces and definitions of kinds before what lives in them; removal the other way
///   round.
/// * A [`Mode::Preview`] MUST NOT change anything; its outcomes are [`Outcome::Would`] in place of `Applied` and `Gone`.
/// * An object that is being deleted is not there: it is [`Outcome::Waiting`] until it is gone.
/// * A call whose answer did not arrive (time-out, broken connection, 504) is [`Outcome::Unknown`]: it may still take
///   effect, for as long as [`settle_time`](Self::settle_time) says.
/// * One outcome for each manifest (apply) or inventory item (remove), in the same order. An object's failure does not
///   keep the others from being tried, unless the cluster itself is out of reach. Only a conflict does, unless
///   [`Policy::continue_on_conflict`] is set: those not tried are [`Outcome::Waiting`].
/// * MUST return by the deadline. Cancelled, what was under way counts as unknown.
///
/// # Example
/// A policy around any Applier: nothing of kind ClusterRole is written. What is refused is [`Outcome::Rejected`] in its
/// place, all else goes on:
///
/// ```
/// use std::sync::Arc;
/// use std::time::Duration;
///
/// use async_trait::async_trait;
/// use fleet_core::apply::{Applier, ApplyRequest, Outcome, RemoveRequest};
/// use fleet_core::cluster::ClusterId;
/// use fleet_core::manifest::{Gvk, Manifest};
/// use fleet_core::observe::{Depth, Observation};
/// use futures::stream::BoxStream;
///
/// struct NoClusterRoles(Arc<dyn Applier>);
///
/// fn is_allowed(manifest: &Manifest) -> bool {
///     &*manifest.id().gvk.kind != "ClusterRole"
/// }
///
/// #[async_trait]
/// impl Applier for NoClusterRoles {
///     async fn apply(&self, mut request: ApplyRequest) -> Vec<Outcome> {
///         let asked = Arc::clone(&request.manifests);
///         request.manifests = asked.iter().filter(|it| is_allowed(it)).cloned().collect();
///         let mut outcomes = self.0.apply(request).await.into_iter();
///         let outcome = |manifest| {
///             if is_allowed(manifest) {
///                 // One outcome for each manifest, in their order.
///                 outcomes.next().unwrap_or(Outcome::Unknown { reason: "no outcome was given".to_owned() })
///             } else {
///                 Outcome::Rejected { reason: "ClusterRoles are not for events to make".to_owned() }
///             }
///         };
///         asked.iter().map(outcome).collect()
///     }
///
///     async fn remove(&self, request: RemoveRequest) -> Vec<Outcome> {
///         self.0.remove(request).await
///     }
///
///     fn settle_time(&self) -> Duration {
///         self.0.settle_time()
///     }
///
///     fn observe(&self, cluster: &ClusterId, kind: &Gvk, depth: Depth) -> BoxStream<'static, Observation> {
///         self.0.observe(cluster, kind, depth)
///     }
/// }
/// ```
#[cfg_attr(any(test, feature = "testing"), mockall::automock)]
#[async_trait]
pub trait Applier: Send + Sync + 'static {
    /// Creates or updates the request's manifests. See [`Outcome`].
    async fn apply(&self, request: ApplyRequest) -> Vec<Outcome>;

    /// Deletes the request's inventory items, as far as they are ours.
    async fn remove(&self, request: RemoveRequest) -> Vec<Outcome>;

    /// For how long after its deadline a request that got no answer may still take effect.
    fn settle_time(&self) -> Duration;

    /// Tells of the marked objects of one kind in a cluster, whoever's mark it is, for as long as the stream is held: a
    /// complete list first, then each change as it happens, and a list again whenever something may have been missed.
    /// It MUST NOT poll, and MUST NOT end while the cluster is known; while the cluster is out of reach it waits. An
    /// Applier that cannot watch returns a stream that is empty.
    fn observe(&self, cluster: &ClusterId, kind: &Gvk, depth: Depth) -> BoxStream<'static, Observation>;
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
    /// What it may take from other Works: what they have to leave to it.
    pub claims: Vec<Claim>,
    /// How it is to be kept.
    pub policy: Arc<Policy>,
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
    /// Write, or only tell what would be removed.
    pub mode: Mode,
    /// Whom to act as; the Applier's own account if none.
    pub identity: Option<Identity>,
    /// How long the whole call may take.
    pub deadline: Duration,
}

/// An object that a Work may take from another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Which object.
    pub object: ObjectRef,
    /// The hash in the mark that it carries now.
    pub from: Arc<str>,
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
    /// When it was last written because somebody else had changed or deleted it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repaired_at: Option<Timestamp>,
    /// What the cluster shows of those of its fields that are ours, as a [print](crate::observe::Owned::print): another
    /// one later means that somebody changed something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub print: Option<Arc<str>>,
    /// The Applier's own note of what the object was like after its last write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Arc<str>>,
    /// Whether it was there before, and is to be given back rather than deleted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub adopted: bool,
    /// The name of the template that it was rendered from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<Arc<str>>,
    /// What was installed by it, if it is a release of a chart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chart: Option<ChartVersion>,
}

/// Which chart a release was installed from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChartVersion {
    /// The version that the chart says of itself.
    pub version: Arc<str>,
    /// A hash over the chart as it was packaged: `sha256:` and hex digits.
    pub digest: Arc<str>,
}

impl InventoryItem {
    /// An object that may come to be.
    pub fn planned(object: ObjectRef) -> Self {
        Self {
            object,
            uid: None,
            uncertain_until: None,
            applied_at: None,
            repaired_at: None,
            print: None,
            version: None,
            adopted: false,
            template: None,
            chart: None,
        }
    }
}

/// What an object is like after it was applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Its UID.
    pub uid: Arc<str>,
    /// See [`InventoryItem::print`]; `None` where the Applier cannot tell.
    pub print: Option<Arc<str>>,
    /// See [`InventoryItem::version`].
    pub version: Option<Arc<str>>,
    /// Whether it was there before, and was taken over.
    pub adopted: bool,
    /// See [`InventoryItem::chart`].
    pub chart: Option<ChartVersion>,
}

impl Placed {
    /// An object of which nothing but the UID is known.
    pub fn new(uid: impl Into<Arc<str>>) -> Self {
        Self { uid: uid.into(), print: None, version: None, adopted: false, chart: None }
    }
}

/// What became of one object.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// It is there as it should be.
    Applied(Placed),
    /// It is not there (any more): a removal has come to its end.
    Gone,
    /// Something has to happen in the cluster first: an old object must go, a kind must be established.
    Waiting {
        /// What is waited for.
        reason: String,
    },
    /// Nothing was written; this is what a write would do now.
    Would(Change),
    /// Somebody else's object has that name. Nothing was touched.
    Conflict {
        /// Whose it is.
        owner: Owner,
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

impl Outcome {
    /// What becomes of the other objects of a set after one was in conflict, where
    /// [`Policy::continue_on_conflict`] is not set.
    pub fn held_up(by: &ObjectRef, owner: &Owner) -> Self {
        let reason =
            format!("{by} is in conflict, it belongs to {owner}; continueOnConflict would go on without it");
        Self::Waiting { reason }
    }
}

/// Whose an object is that is not ours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Owner {
    /// Another Work's, with this hash in its mark.
    Work(Arc<str>),
    /// Somebody's, as far as the cluster tells: field managers, or who wrote a file.
    Other(String),
}

impl std::fmt::Display for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Work(mark) => write!(f, "the Work with mark {mark}"),
            Self::Other(who) => f.write_str(who),
        }
    }
}

/// What a write would do to an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all_fields = "camelCase")]
#[non_exhaustive]
pub enum Change {
    /// Nothing.
    Nothing,
    /// Create it.
    Create,
    /// Change it.
    Update {
        /// Line by line, as unified diffs have it: `-`, `+` or a space, then YAML; `@@` where lines are left out. Values of
        /// Secrets are masked.
        diff: String,
    },
    /// Delete it, to create it anew.
    Recreate {
        /// Why an update is not possible.
        reason: String,
    },
    /// Delete it.
    Delete,
    /// Leave it to whoever had it before.
    GiveBack,
}

impl Change {
    /// What would be done, in the infinitive.
    pub fn verb(&self) -> &'static str {
        match self {
            Self::Nothing => "leave",
            Self::Create => "create",
            Self::Update { .. } => "update",
            Self::Recreate { .. } => "recreate",
            Self::Delete => "delete",
            Self::GiveBack => "give back",
        }
    }
}
