//! Clusters: what an event can come from and what resources go to.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::BoxStream;
use serde::{Deserialize, Serialize};

use crate::manifest::names;
use crate::selector::LabelSelector;

/// Labels or annotations of an object.
pub type Labels = BTreeMap<String, String>;

/// The name of a managed cluster: a namespace and a name, printed as `namespace/name`.
///
/// The namespace is a DNS label and the name a DNS subdomain (RFC 1123), checked when the value is made, so that both
/// are safe in paths and names.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClusterId {
    namespace: Arc<str>,
    name: Arc<str>,
}

impl ClusterId {
    /// Makes an id from a namespace and a name.
    ///
    /// # Errors
    /// When either is not allowed; the message says which and why.
    pub fn new(namespace: &str, name: &str) -> Result<Self, InvalidClusterId> {
        names::dns_label(namespace)
            .map_err(|why| InvalidClusterId(format!("cluster namespace {namespace:?} {why}")))?;
        names::dns_subdomain(name).map_err(|why| InvalidClusterId(format!("cluster name {name:?} {why}")))?;
        Ok(Self { namespace: namespace.into(), name: name.into() })
    }

    /// The namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The name within the namespace.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// Why a text is no [`ClusterId`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidClusterId(String);

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl fmt::Debug for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ClusterId {
    type Err = InvalidClusterId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('/') {
            Some((namespace, name)) => Self::new(namespace, name),
            None => Err(InvalidClusterId(format!("{text:?} is not of the form namespace/name"))),
        }
    }
}

impl Serialize for ClusterId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ClusterId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The annotation on a cluster that says, when it leaves, that what was put there stays there. Its value is `true`.
pub const LEAVE_ANNOTATION: &str = "fleet-events.dev/leave";

/// One managed cluster as selectors and templates see it. How to reach it is the Applier's business.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// Its name.
    pub id: ClusterId,
    /// What selectors match.
    pub labels: Labels,
    /// What templates may read besides.
    pub annotations: Labels,
    /// Whether it can be reached now. An unready cluster keeps its Works; they are applied once it is ready.
    pub ready: bool,
    /// What it is to the fleet.
    pub role: Role,
}

/// What a cluster is to the fleet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// One of those that are managed.
    #[default]
    Member,
    /// One of those, and the one that the fleet is managed from: there goes what is local. Of several, the first by name
    /// is.
    Management,
    /// The one that the fleet is managed from, and none of those that are managed: no selector selects it and nothing
    /// else names it. Where another one is [`Management`](Self::Management), it is not looked at.
    ManagementOnly,
}

impl Cluster {
    /// A ready cluster with these labels.
    pub fn new<K: Into<String>, V: Into<String>>(
        id: ClusterId,
        labels: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        let labels = labels.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
        Self { id, labels, annotations: Labels::new(), ready: true, role: Role::Member }
    }

    /// Whether it is one of those that are managed.
    pub fn is_member(&self) -> bool {
        self.role != Role::ManagementOnly
    }

    /// Whether a selector selects it.
    pub fn is_selected_by(&self, selector: &LabelSelector) -> bool {
        self.is_member() && selector.matches(&self.labels)
    }

    /// Whether what was put there stays there when the cluster leaves.
    pub fn keeps_resources(&self) -> bool {
        self.annotations.get(LEAVE_ANNOTATION).is_some_and(|value| value == "true")
    }
}

/// One change in the set of clusters.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClusterChange {
    /// A cluster that was not there.
    Joined(Arc<Cluster>),
    /// Labels, annotations or role changed; the cluster as it is now.
    Relabelled(Arc<Cluster>),
    /// The cluster can be reached (again).
    Ready(ClusterId),
    /// The cluster cannot be reached. Nothing is withdrawn for that.
    Unready(ClusterId),
    /// The cluster is not managed any more, and what was put there is withdrawn, as far as the Applier still reaches it;
    /// unless it was [annotated](LEAVE_ANNOTATION) otherwise. Only sent when it is certain: never because a list failed.
    Left(ClusterId),
    /// A cluster that another operator drives, new or as it is now: events may come from it, and nothing is put there from
    /// here.
    Elsewhere(Arc<Cluster>),
    /// A cluster that another operator drove is not in the fleet any more, or is not driven by another one. Only sent when
    /// that is certain.
    NotElsewhere(ClusterId),
}

/// The clusters at one instant, and every change after it.
pub struct ClusterFeed {
    /// All clusters when the feed was opened.
    pub snapshot: Vec<Arc<Cluster>>,
    /// The clusters that other operators drive: events may come from them, and nothing is put there from here. As a rule none.
    pub elsewhere: Vec<Arc<Cluster>>,
    /// What changed since. Where the stream ends (its reader fell too far behind), the engine opens another feed.
    pub changes: BoxStream<'static, ClusterChange>,
}

impl ClusterFeed {
    /// A feed of clusters that are all driven from here.
    pub fn new(snapshot: Vec<Arc<Cluster>>, changes: BoxStream<'static, ClusterChange>) -> Self {
        Self { snapshot, elsewhere: Vec::new(), changes }
    }
}

/// Where clusters come from.
///
/// # Contract
/// * [`subscribe`](Self::subscribe) MUST return only after the whole set has been read, and the feed MUST tell every
///   change after the snapshot exactly once, in order. To a reader that is behind, what a cluster went through meanwhile
///   MAY be told as one change, except that it left: one that comes back is another cluster of that name, so both are told.
/// * A source of clusters that failed or came back partial MUST NOT show up as clusters that left.
/// * Matching labels is not its business: the engine matches and indexes, so that no implementation can get the
///   semantics wrong.
/// * Cancel safe: dropping the future or the feed leaves nothing behind.
///
/// # Example
/// An inventory that never changes:
///
/// ```
/// use std::sync::Arc;
///
/// use async_trait::async_trait;
/// use fleet_core::cluster::{Cluster, ClusterError, ClusterFeed, ClusterSelector};
/// use futures::stream::{self, StreamExt};
///
/// struct Inventory(Vec<Arc<Cluster>>);
///
/// #[async_trait]
/// impl ClusterSelector for Inventory {
///     async fn subscribe(&self) -> Result<ClusterFeed, ClusterError> {
///         // A stream that ended would have the engine open another feed, again and again.
///         Ok(ClusterFeed::new(self.0.clone(), stream::pending().boxed()))
///     }
/// }
/// ```
#[cfg_attr(any(test, feature = "testing"), mockall::automock)]
#[async_trait]
pub trait ClusterSelector: Send + Sync + 'static {
    /// Opens a feed: a snapshot and the changes after it. May be called more than once.
    async fn subscribe(&self) -> Result<ClusterFeed, ClusterError>;

    /// Takes the engine's word that nothing that it knows of is left in a cluster that has left: whoever holds it back
    /// until then (a finalizer) may let it go. Must not block. May be told more than once. By default nothing.
    fn withdrawn(&self, cluster: &ClusterId) {
        let _ = cluster;
    }
}

/// Why clusters could not be read.
#[derive(Debug, thiserror::Error)]
#[error("clusters cannot be read: {reason}")]
pub struct ClusterError {
    /// What was tried, why it failed, and what to do.
    pub reason: String,
}
