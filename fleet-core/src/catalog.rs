//! The Catalog: EventSources, triggers, and the templates they refer to.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::apply::Identity;
use crate::cluster::ClusterId;
use crate::filter::Filter;
use crate::policy::{JsonPointer, Policy};
use crate::render::{Language, TemplateSource};
use crate::resource::{ResourceId, ResourceRef, Resources};
use crate::selector::LabelSelector;

/// Where definitions come from: a folder, or the Kubernetes API.
///
/// # Contract
/// * The first snapshot MUST come only after everything was read once. Every later one is complete in itself.
/// * Absence is not an order: a file that cannot be read, a list that failed or an empty folder MUST NOT show up as
///   definitions that are gone. Either the last good version stays in the snapshot, or `complete` is false, and then
///   nothing that is missing is withdrawn.
/// * A definition that cannot be used MUST NOT hide the others.
/// * Cancel safe: dropping the future or the stream leaves nothing behind.
///
/// # Example
/// Definitions that a program was built with:
///
/// ```
/// use std::sync::Arc;
///
/// use async_trait::async_trait;
/// use fleet_core::catalog::{Catalog, CatalogError, CatalogSnapshot, Condition, Subject};
/// use futures::stream::{self, BoxStream, StreamExt};
///
/// struct BuiltIn(Arc<CatalogSnapshot>);
///
/// #[async_trait]
/// impl Catalog for BuiltIn {
///     async fn subscribe(&self) -> Result<BoxStream<'static, Arc<CatalogSnapshot>>, CatalogError> {
///         let now = Arc::clone(&self.0);
///         Ok(stream::once(async { now }).chain(stream::pending()).boxed())
///     }
///
///     fn report(&self, subject: &Subject, condition: Condition) {
///         eprintln!("{subject:?}: {}", condition.message);
///     }
/// }
/// ```
#[cfg_attr(any(test, feature = "testing"), mockall::automock)]
#[async_trait]
pub trait Catalog: Send + Sync + 'static {
    /// Opens a feed of snapshots: the present one first, then one for each change. A reader that is slow may miss
    /// snapshots in between, never the last.
    async fn subscribe(&self) -> Result<BoxStream<'static, Arc<CatalogSnapshot>>, CatalogError>;

    /// Takes the engine's word on how a definition is doing, to show it as the object's condition. Must not block;
    /// reports come only when something changed.
    fn report(&self, subject: &Subject, condition: Condition);

    /// Takes the engine's word that nothing is left of a definition that is gone, or was about to go: whoever holds it
    /// back until then (a finalizer) may let it go. Must not block. May be told more than once. By default nothing.
    fn withdrawn(&self, subject: &Subject) {
        let _ = subject;
    }

    /// Takes the engine's word on which objects of the management cluster are referred to now: all of them, whenever that
    /// changed. What is known of each belongs into the next [`snapshot`](CatalogSnapshot::resources) and, as long as it is
    /// referred to, into all later ones. Must not block. By default nothing: the snapshots hold all there is.
    fn refer(&self, resources: BTreeSet<ResourceId>) {
        let _ = resources;
    }
}

/// All definitions at one instant.
#[derive(Clone, Debug, Default)]
pub struct CatalogSnapshot {
    /// EventSources by name.
    pub sources: BTreeMap<Arc<str>, Arc<SourceDef>>,
    /// Triggers by name, ClusterProfiles among them under their [name as rules](profile_name).
    pub triggers: BTreeMap<Arc<str>, Arc<TriggerDef>>,
    /// Whether something that is not in here is known to be gone.
    pub complete: bool,
    /// Triggers that are not in here because they are about to go: each is held back until
    /// [`withdrawn`](Catalog::withdrawn) says that nothing is left of it.
    pub leaving: BTreeSet<Arc<str>>,
    /// Triggers that are not in here, and not gone either, whether this is complete or not.
    pub withheld: BTreeMap<Arc<str>, Withheld>,
    /// What is known of the objects that triggers refer to.
    pub resources: Arc<Resources>,
}

/// Why a trigger that is somewhere is not known here, and what becomes of what there is because of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum Withheld {
    /// It selects no cluster that is known here, and [leaves](crate::policy::StopMatching::LeavePolicies) what it made.
    Leaves,
    /// It asks for what cannot be done from here. What was done before stays as it is, as if it had not been read.
    Unread,
}

/// What the engine must know of an EventSource. How to connect is the business of whoever builds the source.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceDef {
    /// Its name.
    pub name: Arc<str>,
    /// Which of its events count.
    pub filter: Filter,
    /// How the cluster that an event came from is found; `None`: events have no origin.
    pub origin: Option<OriginRule>,
    /// Larger events are refused.
    pub max_event_bytes: usize,
    /// Within this time an event of one key with the source and id of an earlier one is a duplicate. `None`: equal ids
    /// say nothing, as producers do use them for different events.
    pub dedupe: Option<Duration>,
    /// What its events are.
    pub tells: Tells,
    /// Whether nobody else hears its events. Where several operators have the fleet's clusters among them, each reads most sources
    /// by itself; what is sent to one over HTTP, that one alone hears.
    pub only_here: bool,
}

/// What the events of an EventSource are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tells {
    /// What has happened. What that asks for, a trigger's action says.
    #[default]
    Events,
    /// How something is now, or that it is [gone](crate::source::GONE): what is gone is deleted, whatever a trigger's
    /// action says. A state that a filter does not let through is gone for the trigger, for it may have been let through
    /// before. An event that says what the key's last one said changes nothing. To triggers that come later, all that is
    /// live is [told again](crate::source::EventSource::tell_again).
    States,
}

/// Larger events are refused, unless a definition says otherwise.
pub const DEFAULT_MAX_EVENT_BYTES: usize = 256 * 1024;

impl SourceDef {
    /// A source all of whose events count, without origins, with the default bound on their size.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self {
            name: name.into(),
            filter: Filter::default(),
            origin: None,
            max_event_bytes: DEFAULT_MAX_EVENT_BYTES,
            dedupe: None,
            tells: Tells::Events,
            only_here: false,
        }
    }
}

/// How the cluster that an event came from is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OriginRule {
    /// Always this one.
    Fixed(ClusterId),
    /// Named by two tokens of the message's subject, counted from 0.
    SubjectTokens {
        /// Which token is the cluster's namespace.
        namespace: usize,
        /// Which token is the cluster's name.
        name: usize,
    },
    /// Named by an extension attribute of this name, in the form `namespace/name`.
    Extension(String),
}

/// A trigger: which events, from which clusters, do what, where, from which templates. Or a ClusterProfile: a trigger
/// that is always on, and has one Work that no event changes.
#[derive(Clone, Debug, PartialEq)]
pub struct TriggerDef {
    /// Its name; a ClusterProfile's is made by [`profile_name`].
    pub name: Arc<str>,
    /// The EventSource it listens to; `None` for a ClusterProfile.
    pub source: Option<Arc<str>>,
    /// Which events of the source, beside the source's own filter.
    pub filter: Filter,
    /// From which clusters events count; with events that have no origin, and for a ClusterProfile, to which clusters
    /// resources go.
    pub source_clusters: LabelSelector,
    /// Clusters that count beside those, whatever their labels.
    pub cluster_refs: BTreeSet<ClusterId>,
    /// Where resources go instead.
    pub destination_clusters: Option<LabelSelector>,
    /// A template that gives `Create` or `Delete`; always Create if none.
    pub action: Option<String>,
    /// A template that gives the key; by default origin, source and subject.
    pub key: Option<String>,
    /// What `action` and `key` are written in.
    pub language: Language,
    /// What to render for each cluster and put there.
    pub payload: Vec<Payload>,
    /// What to render for each cluster and put into the management cluster.
    pub local: Vec<Payload>,
    /// Objects of the management cluster that the templates of the payload see.
    pub resources: Vec<ResourceRef>,
    /// Whom to act as in the target cluster.
    pub identity: Option<Identity>,
    /// How what is rendered is kept.
    pub policy: Arc<Policy>,
    /// Whether each key has resources of its own; else all keys of a target cluster are rendered together.
    pub one_for_event: bool,
    /// A key that no event renews within this time is deleted as if a Delete event had come. It counts from when the
    /// transport took the key's last event (a JetStream message's timestamp), else from its acceptance; and it is a
    /// level: the time as it is defined now, for every key that is live. An event that arrives after it brings nothing to
    /// life.
    ///
    /// No key is deleted before its source has settled all that was published until its time came, for that may renew it
    /// (see [`EventSource::report_settled`](crate::source::EventSource::report_settled)).
    pub ttl: Option<Duration>,
}

impl TriggerDef {
    /// A trigger for every event of a source: creates, in the clusters selected, nothing yet.
    pub fn new(
        name: impl Into<Arc<str>>,
        source: impl Into<Arc<str>>,
        source_clusters: LabelSelector,
    ) -> Self {
        Self {
            name: name.into(),
            source: Some(source.into()),
            filter: Filter::default(),
            source_clusters,
            cluster_refs: BTreeSet::new(),
            destination_clusters: None,
            action: None,
            key: None,
            language: Language::default(),
            payload: Vec::new(),
            local: Vec::new(),
            resources: Vec::new(),
            identity: None,
            policy: Arc::default(),
            one_for_event: true,
            ttl: None,
        }
    }

    /// A ClusterProfile: what every cluster selected always gets; nothing yet.
    pub fn profile(name: &str, clusters: LabelSelector) -> Self {
        Self { source: None, ..Self::new(profile_name(name), "", clusters) }
    }
}

/// What a ClusterProfile is called among triggers. No trigger's name has a slash.
pub fn profile_name(profile: &str) -> Arc<str> {
    format!("{PROFILE}{profile}").into()
}

const PROFILE: &str = "ClusterProfile/";

/// One piece of what a trigger renders.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Payload {
    /// A template.
    Template(TemplateSource),
    /// An object that is put together from texts.
    Composed(Arc<Composed>),
    /// Something referred to that is not there. Works of the trigger are stalled until it is.
    Missing {
        /// What is missing, where it was expected, and what to do.
        reason: String,
    },
}

/// An object whose fields are rendered one by one: a Helm release, whose values are a YAML text of its own.
#[derive(Clone, PartialEq, Eq)]
pub struct Composed {
    /// Where it stands, as an error names it: `ClusterProfile nats, helmCharts[0]`.
    pub name: Arc<str>,
    /// The object, as far as it is known without rendering.
    pub object: Map<String, Value>,
    /// Texts ([`TemplateKind::Text`](crate::render::TemplateKind::Text)), and the fields that get them.
    pub texts: Vec<(JsonPointer, TemplateSource)>,
    /// Mappings ([`TemplateKind::Values`](crate::render::TemplateKind::Values)), and the fields that get them. Where a field
    /// gets more than one they are merged in this order, key by key through all mappings in them: the last one wins, and
    /// its nulls too.
    pub values: Vec<(JsonPointer, TemplateSource)>,
    /// Fields that are shown to nobody: what may come from a Secret.
    pub hidden: Vec<JsonPointer>,
}

/// What it is put together from may come from a Secret.
impl fmt::Debug for Composed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Composed").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What a [`Condition`] is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Subject {
    /// An EventSource.
    Source(Arc<str>),
    /// A trigger.
    Trigger(Arc<str>),
    /// A ClusterProfile.
    Profile(Arc<str>),
}

impl Subject {
    /// The trigger, or the ClusterProfile, of this name among triggers.
    pub fn of_trigger(name: &Arc<str>) -> Self {
        match name.strip_prefix(PROFILE) {
            Some(profile) => Self::Profile(profile.into()),
            None => Self::Trigger(Arc::clone(name)),
        }
    }
}

/// As people call it: `EventTrigger manage-namespace`.
impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Source(name) => write!(f, "EventSource {name}"),
            Self::Trigger(name) => write!(f, "EventTrigger {name}"),
            Self::Profile(name) => write!(f, "ClusterProfile {name}"),
        }
    }
}

/// How a definition is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Whether it does what it should.
    pub ready: bool,
    /// One CamelCase word.
    pub reason: String,
    /// One sentence: what is the matter, and what to do. No secrets.
    pub message: String,
}

/// Why definitions could not be read at all.
#[derive(Debug, thiserror::Error)]
#[error("definitions cannot be read: {reason}")]
pub struct CatalogError {
    /// What was tried, why it failed, and what to do.
    pub reason: String,
}
