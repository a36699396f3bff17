//! Work: the intent of one trigger and key, and what was done for it in each cluster.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::apply::{Change, InventoryItem, Owner};
use crate::cluster::ClusterId;
use crate::event::Event;
use crate::health::Health;
use crate::manifest::{Manifest, ObjectRef};
use crate::position::Positions;
use crate::source::Message;

/// How many characters of the trigger's name a [`WorkId`] shows.
const SHOWN: usize = 40;
/// How many hex digits of the hash a [`WorkId`] ends with.
const HASH: usize = 20;

/// The name of a Work: the trigger's, cut to 40 characters, and 20 hex digits of a hash over trigger and key.
#[derive(Clone)]
pub struct WorkId {
    name: Arc<str>,
    /// The first digits of the hash as a number: they tell ids apart faster than the name does.
    number: u64,
}

impl PartialEq for WorkId {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number && self.name == other.name
    }
}

impl Eq for WorkId {}

impl std::hash::Hash for WorkId {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        state.write_u64(self.number);
    }
}

impl PartialOrd for WorkId {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// By name, so that the Works of a trigger stand together.
impl Ord for WorkId {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.name.cmp(&other.name)
    }
}

impl Serialize for WorkId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.name)
    }
}

impl<'de> Deserialize<'de> for WorkId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Self::from_stored(&name).ok_or_else(|| serde::de::Error::custom("not the name of a Work"))
    }
}

impl WorkId {
    /// The id of the Work of a trigger and a key.
    pub fn new(trigger: &str, key: &EventKey) -> Self {
        match key {
            EventKey::About { origin, source, subject } => {
                let origin = origin.as_ref().map(ToString::to_string);
                Self::of_parts(
                    trigger,
                    &[
                        "about",
                        origin.as_deref().unwrap_or_default(),
                        source,
                        if subject.is_some() { "subject" } else { "" },
                        subject.as_deref().unwrap_or_default(),
                    ],
                )
            }
            EventKey::Text(text) => Self::of_parts(trigger, &["text", text]),
            EventKey::All => Self::of_parts(trigger, &["all"]),
            EventKey::Always => Self::of_parts(trigger, &["always"]),
        }
    }

    /// Hashes length-prefixed parts, so that no two lists of parts run together.
    pub(crate) fn of_parts(trigger: &str, parts: &[&str]) -> Self {
        let parts: Vec<&str> = std::iter::once(trigger).chain(parts.iter().copied()).collect();
        Self::hashed(Self::prefix(trigger), &parts)
    }

    fn hashed(prefix: String, parts: &[&str]) -> Self {
        use fmt::Write;
        let mut hasher = Sha256::new();
        for part in parts {
            hasher.update((part.len() as u64).to_be_bytes());
            hasher.update(part.as_bytes());
        }
        let mut name = prefix;
        let hash = hasher.finalize();
        for byte in hash.iter().take(HASH / 2) {
            // Writing to a String cannot fail.
            let _ = write!(name, "{byte:02x}");
        }
        let number = hash.first_chunk().map_or(0, |first| u64::from_be_bytes(*first));
        Self { name: name.into(), number }
    }

    /// What the ids of a trigger's Works begin with; other triggers with a long name may share it.
    pub(crate) fn prefix(trigger: &str) -> String {
        let mut name = String::with_capacity(SHOWN + 1 + HASH);
        // A ClusterProfile's own name.
        let shown = trigger.rsplit('/').next().unwrap_or(trigger);
        name.extend(shown.chars().take(SHOWN));
        name.truncate(name.trim_end_matches(['-', '.']).len());
        name.push('-');
        name
    }

    /// Reads back what [`as_str`](Self::as_str) gave, for stores.
    pub fn from_stored(name: &str) -> Option<Self> {
        let (_, hash) = name.rsplit_once('-')?;
        let number = u64::from_str_radix(hash.get(..16)?, 16).ok()?;
        (hash.len() == HASH && hash.bytes().all(|byte| byte.is_ascii_hexdigit()))
            .then(|| Self { name: name.into(), number })
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.name
    }

    /// The hash at its end: the value of the mark on applied objects.
    pub fn hash(&self) -> &str {
        self.name.rsplit_once('-').map_or("", |(_, hash)| hash)
    }

    /// The part of a mark that tells ids apart, as a number.
    pub(crate) fn number_of_mark(mark: &str) -> Option<u64> {
        u64::from_str_radix(mark.get(..16)?, 16).ok()
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// A part of the hash, for spreading Works over shards.
    pub(crate) fn shard(&self, shards: usize) -> usize {
        // The remainder of a division by a usize fits into one.
        usize::try_from(self.number % shards as u64).unwrap_or_default()
    }
}

impl fmt::Display for WorkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl fmt::Debug for WorkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// What an event is about: one key has one lifecycle.
///
/// Keys are in a stable order: by origin (namespace, then name), source and subject, or by their text, each byte by byte;
/// what has no origin or subject comes first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum EventKey {
    /// The default: where the event came from, its source and its subject.
    About {
        /// The cluster it came from, if its EventSource has origins.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        origin: Option<ClusterId>,
        /// The CloudEvents source.
        source: String,
        /// The CloudEvents subject.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        subject: Option<String>,
    },
    /// The text that the trigger's `key` template gave.
    Text(String),
    /// All keys of a trigger together: the Work that is rendered where a trigger has one for all its events. It stores
    /// none of them: what is rendered is gathered from the Works of the keys.
    All,
    /// No event at all: the one Work of a ClusterProfile.
    Always,
}

/// What an event asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Intent {
    /// The resources are to be there.
    Create,
    /// The resources are to be gone.
    Delete,
}

/// The intent of one trigger and key: the record that is durable before a delivery is acknowledged.
///
/// A Work whose intent is [`Intent::Delete`] and whose resources are all gone is a tombstone: it remembers positions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Work {
    /// Its name.
    pub id: WorkId,
    /// The trigger that the event matched, or the ClusterProfile, by its [name as a
    /// rule](crate::catalog::profile_name).
    pub trigger: Arc<str>,
    /// The EventSource it came from; empty for a ClusterProfile.
    pub source: Arc<str>,
    /// What the event is about.
    pub key: EventKey,
    /// The cluster the event came from, if its EventSource has origins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<ClusterId>,
    /// Counts the events that made a difference, from 1.
    pub generation: u64,
    /// What the last event asks for.
    pub intent: Intent,
    /// The last event. Where there is none (all keys together, a ClusterProfile), one that says so, and that no template
    /// sees.
    pub event: Arc<Event>,
    /// How the last event arrived.
    pub message: Arc<Message>,
    /// The highest position seen in each domain.
    pub positions: Positions,
    /// When the last event was accepted.
    pub received: Timestamp,
    /// When the last event was published, if its transport tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published: Option<Timestamp>,
    /// The last events by (source, id), where the EventSource says that an equal one is a duplicate; oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recent: Vec<RecentEvent>,
}

/// An event that a key saw lately.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecentEvent {
    /// A hash over the CloudEvents source and id.
    pub hash: String,
    /// When it was published, as far as the transport tells, or else accepted.
    pub at: Timestamp,
}

/// What a Work has in the management cluster for another one: its trigger says of something that it is local.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Local {
    /// The Work.
    pub work: WorkId,
    /// The cluster that it is for.
    pub cluster: ClusterId,
}

impl Local {
    /// The name that it has in place of the Work's, as that of objects' owner: each cluster's is told apart from any
    /// other's, and from what the Work has of its own.
    pub fn id(&self) -> WorkId {
        let prefix = self.work.as_str().rsplit_once('-').map_or("", |(prefix, _)| prefix);
        let (namespace, name) = (self.cluster.namespace(), self.cluster.name());
        WorkId::hashed(format!("{prefix}-"), &[self.work.as_str(), "local", namespace, name])
    }
}

/// What was done for one Work in one cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AppliedWork {
    /// The Work; of what is local, the name that it has [in its place](Local::id).
    pub work: WorkId,
    /// The cluster where it was done.
    pub cluster: ClusterId,
    /// What it was done for, if it is local: it was done in the management cluster for another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local: Option<Local>,
    /// The generation of the Work that this speaks of.
    pub generation: u64,
    /// A digest of what was last applied in full; `None` before that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// What the Work has, or may have, in the cluster. Written before the first attempt, so that nothing is forgotten.
    pub inventory: Vec<InventoryItem>,
    /// How far it is.
    pub state: AppliedState,
    /// How what was applied is doing; `None` while that was not seen yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
    /// What it would have if others had not: objects that are in conflict, and whose they are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub blocked: Vec<Blocked>,
    /// When the state was last written.
    pub updated: Timestamp,
}

impl AppliedWork {
    /// The record of a Work for which nothing was done yet.
    pub fn pending(work: &Work, cluster: ClusterId, now: Timestamp) -> Self {
        Self {
            work: work.id.clone(),
            cluster,
            local: None,
            generation: work.generation,
            digest: None,
            inventory: Vec::new(),
            state: AppliedState::Pending,
            health: None,
            blocked: Vec::new(),
            updated: now,
        }
    }

    /// The same for what is local, which is done in this cluster.
    pub fn pending_local(work: &Work, local: Local, cluster: ClusterId, now: Timestamp) -> Self {
        Self { work: local.id(), local: Some(local), ..Self::pending(work, cluster, now) }
    }

    /// The Work that it is of.
    pub fn of(&self) -> &WorkId {
        self.local.as_ref().map_or(&self.work, |local| &local.work)
    }

    /// The cluster that it is for: what is local is somewhere else.
    pub fn for_cluster(&self) -> &ClusterId {
        self.local.as_ref().map_or(&self.cluster, |local| &local.cluster)
    }

    /// Whether what is there stays though the Work does not belong there.
    pub(crate) fn is_left(&self) -> bool {
        matches!(self.state, AppliedState::Left { .. })
    }

    /// Names every manifest in the inventory, as something that may come to be.
    pub(crate) fn plan(&mut self, manifests: &[Manifest]) {
        for manifest in manifests {
            if !self.inventory.iter().any(|item| item.object.same_object(manifest.id())) {
                self.inventory.push(InventoryItem::planned(manifest.id().clone()));
            }
        }
    }
}

/// How far a Work is in a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all_fields = "camelCase")]
#[non_exhaustive]
pub enum AppliedState {
    /// To be applied or removed; nothing to report yet.
    Pending,
    /// All is there as rendered.
    Applied,
    /// Something has to happen first; tried again soon.
    Waiting {
        /// What is waited for.
        reason: String,
    },
    /// It cannot be applied until an input changes or somebody asks. What was applied before stays.
    Stalled {
        /// One CamelCase word for conditions: `TemplateError`, `Conflict`, `Rejected`.
        reason: String,
        /// What is wrong, where, and what to do. No values of Secrets or events.
        message: String,
    },
    /// It failed for a reason outside, and is retried with growing delays.
    Retrying {
        /// The last failure.
        reason: String,
    },
    /// Nothing is written here; this is what a write would do.
    Previewed {
        /// Objects that would be changed, and those that cannot be applied.
        changes: Vec<Foreseen>,
    },
    /// What is there stays there, though the Work does not belong here any more.
    Left {
        /// Why.
        reason: String,
    },
}

/// What a write would do to one object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Foreseen {
    /// Which object.
    pub object: ObjectRef,
    /// What would happen; `None` if it would fail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<Change>,
    /// Why it would fail, or what it would wait for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// How the reason of a conflict begins: records know it by that.
const NOT_OURS: &str = "it is not ours; it belongs to ";

impl Foreseen {
    /// The reason where an object would be in conflict.
    pub(crate) fn conflict(owner: &Owner) -> String {
        format!("{NOT_OURS}{owner}")
    }

    /// Whether it would fail because the object is somebody else's.
    pub fn is_conflict(&self) -> bool {
        self.change.is_none() && self.reason.as_ref().is_some_and(|reason| reason.starts_with(NOT_OURS))
    }
}

/// What would happen, to be read after `would`.
impl fmt::Display for Foreseen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.change {
            Some(change) => write!(f, "{} {}", change.verb(), self.object),
            None => {
                write!(f, "not apply {}: {}", self.object, self.reason.as_deref().unwrap_or("it would fail"))
            }
        }
    }
}

/// An object that a Work wants and somebody else has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Blocked {
    /// Which object.
    pub object: ObjectRef,
    /// Whose it is.
    pub owner: Owner,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about(source: &str, subject: Option<&str>) -> EventKey {
        EventKey::About { origin: None, source: source.into(), subject: subject.map(Into::into) }
    }

    #[test]
    fn ids_are_names_and_tell_keys_apart() {
        let ids = [
            WorkId::new("manage-namespace", &about("a", Some("bc"))),
            WorkId::new("manage-namespace", &about("ab", Some("c"))),
            WorkId::new("manage-namespace", &about("ab", None)),
            WorkId::new("manage-namespace", &about("ab", Some(""))),
            WorkId::new("manage-namespace", &EventKey::Text("ab".into())),
            WorkId::new("other", &about("a", Some("bc"))),
        ];
        let distinct: std::collections::BTreeSet<_> = ids.iter().collect();
        assert_eq!(distinct.len(), ids.len());
        for id in &ids {
            assert!(crate::manifest::names::dns_subdomain(id.as_str()).is_ok(), "{id}");
            assert_eq!(id.hash().len(), 20);
            assert_eq!(WorkId::from_stored(id.as_str()).as_ref(), Some(id));
        }
        let long = WorkId::new(&format!("{}-x", "t".repeat(39)), &EventKey::Text("k".into()));
        assert_eq!(long.as_str().len(), 39 + 1 + 20, "a dash at the cut is dropped: {long}");
    }
}
