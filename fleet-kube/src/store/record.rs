//! How Works and AppliedWorks are written as objects, and read back.

use std::sync::{Arc, Mutex};

use fleet_core::cluster::ClusterId;
use fleet_core::event::Event;
use fleet_core::position::{Domain, Position, Positions};
use fleet_core::source::Message;
use fleet_core::store::{Revision, StoreError, Stored};
use fleet_core::work::{AppliedWork, EventKey, Intent, RecentEvent, Work, WorkId};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::cache::{Cache, Table};
use crate::api::{
    EventText, GROUP, VERSION, WorkHeader, WorkIntent, WorkKey, WorkKeyAbout, WorkMessage, WorkPlan,
    WorkRecentEvent, WorkSpec,
};

/// Which record: a Work, or what was done for it in one cluster. Sorts by Work, then by cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) work: WorkId,
    pub(super) cluster: Option<ClusterId>,
}

impl Place {
    pub(super) fn of_work(work: &WorkId) -> Self {
        Self { work: work.clone(), cluster: None }
    }

    pub(super) fn in_cluster(work: &WorkId, cluster: &ClusterId) -> Self {
        Self { work: work.clone(), cluster: Some(cluster.clone()) }
    }

    /// Where its object is.
    pub(super) fn address(&self, rooms: &Rooms) -> Address {
        let base = format!("/apis/{GROUP}/{VERSION}/namespaces");
        match &self.cluster {
            None => Address {
                kind: "Work",
                collection: format!("{base}/{}/works", rooms.works),
                name: self.work.as_str().to_owned(),
            },
            Some(cluster) => Address {
                kind: "AppliedWork",
                collection: format!("{base}/{}/appliedworks", rooms.of(cluster)),
                name: applied_name(&self.work, cluster),
            },
        }
    }
}

/// The namespaces in which a store has its objects.
#[derive(Clone, Debug)]
pub(super) struct Rooms {
    /// The operator's own.
    pub(super) works: Arc<str>,
    /// Whether AppliedWorks are there too; else each is in the namespace of its cluster.
    pub(super) together: bool,
}

impl Rooms {
    /// Where the AppliedWorks of a cluster are.
    pub(super) fn of<'a>(&'a self, cluster: &'a ClusterId) -> &'a str {
        if self.together { &self.works } else { cluster.namespace() }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.cluster {
            None => write!(f, "Work {}", self.work),
            Some(cluster) => write!(f, "what was done for Work {} in {cluster}", self.work),
        }
    }
}

/// The path of an object. Names and namespaces are DNS names, so they need no escaping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) kind: &'static str,
    pub(super) collection: String,
    pub(super) name: String,
}

impl Address {
    pub(super) fn path(&self) -> String {
        format!("{}/{}", self.collection, self.name)
    }
}

/// The name of an AppliedWork, in the namespace of its cluster: the Work's and the cluster's, or a hash for a cluster's
/// that is too long, or has dots and so could be read as part of the Work's.
pub(super) fn applied_name(work: &WorkId, cluster: &ClusterId) -> String {
    let name = cluster.name();
    if name.contains('.') || work.as_str().len() + 1 + name.len() > 253 {
        format!("{work}.{}", hash(name.as_bytes()))
    } else {
        format!("{work}.{name}")
    }
}

/// 40 hex digits.
pub(super) fn hash(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(40);
    for byte in Sha256::digest(bytes).iter().take(20) {
        use std::fmt::Write;
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Which version of an object: what its last write left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Version {
    pub(super) uid: Arc<str>,
    /// Counts the writes of the spec. A status or a label leaves it as it is.
    pub(super) generation: i64,
    /// The resourceVersion. Of two versions of one kind the later has the higher one.
    pub(super) resource: u64,
}

impl Version {
    /// What a store's callers know it by: a status that we write is no change to them.
    pub(super) fn revision(&self) -> Revision {
        Revision::Text(format!("{}/{}", self.uid, self.generation).into())
    }

    pub(super) fn expected(&self) -> Expected<'_> {
        Expected { uid: &self.uid, generation: self.generation }
    }

    pub(super) fn is(&self, expected: Expected<'_>) -> bool {
        *self.uid == *expected.uid && self.generation == expected.generation
    }
}

/// Which version of an object is expected.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expected<'a> {
    pub(super) uid: &'a str,
    pub(super) generation: i64,
}

/// What the [`Revision`] of a record says.
#[derive(Clone, Copy, Debug)]
pub(super) enum Known<'a> {
    /// It is an object of its own.
    Object(Expected<'a>),
    /// It is a plan in its Work.
    Plan {
        /// The UID of the Work.
        uid: &'a str,
        /// With which write of the Work it came.
        write: i64,
    },
}

impl<'a> Known<'a> {
    /// Nothing, if another kind of store gave it.
    pub(super) fn read(revision: &'a Revision) -> Option<Self> {
        let Revision::Text(text) = revision else { return None };
        let (uid, number) = text.rsplit_once('/')?;
        Some(match number.strip_prefix(PLAN) {
            Some(write) => Self::Plan { uid, write: write.parse().ok()? },
            None => Self::Object(Expected { uid, generation: number.parse().ok()? }),
        })
    }
}

/// Tells a plan's revision.
const PLAN: &str = "plan-";

/// A Work as it is stored: with the plans for clusters where it has no AppliedWork yet.
#[derive(Clone, Debug)]
pub(super) struct PlannedWork {
    pub(super) work: Arc<Work>,
    /// In the order of clusters, one each.
    pub(super) plans: Vec<Plan>,
}

/// What an AppliedWork begins with.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) applied: Arc<AppliedWork>,
    /// With which write of the Work it came.
    pub(super) write: i64,
}

impl PlannedWork {
    pub(super) fn new(work: Arc<Work>, mut plans: Vec<Plan>) -> Self {
        plans.sort_by(|a, b| a.applied.cluster.cmp(&b.applied.cluster));
        Self { work, plans }
    }

    pub(super) fn plan(&self, cluster: &ClusterId) -> Option<&Plan> {
        self.plans.iter().find(|plan| plan.applied.cluster == *cluster)
    }
}

impl Plan {
    /// As callers of the store see it.
    pub(super) fn stored(&self, work: &Version) -> Stored<Arc<AppliedWork>> {
        let revision = Revision::Text(format!("{}/{PLAN}{}", work.uid, self.write).into());
        Stored { value: Arc::clone(&self.applied), revision }
    }
}

/// What is stored as the spec of an object.
pub(super) trait Record: Sized + Send + Sync + 'static {
    fn place(&self) -> Place;

    /// The spec as JSON. `write` is different from what is stored now: without any difference the API server would
    /// count no new generation.
    fn spec(&self, write: i64) -> Result<String, StoreError>;

    /// Reads it back. The words say what is wrong without any value of it.
    fn read(name: &str, spec: Value) -> Result<Self, String>;

    /// Whose object has this name and spec; nothing if it is none of ours.
    fn place_of(rooms: &Rooms, namespace: &str, name: &str, spec: &Value) -> Option<Place>;

    fn table(cache: &Cache) -> &Mutex<Table<Self>>;
}

fn unfit(place: &Place, error: impl std::fmt::Display) -> StoreError {
    StoreError::Corrupt(format!("{place} cannot be written as an object: {error}"))
}

impl Record for PlannedWork {
    fn place(&self) -> Place {
        Place::of_work(&self.work.id)
    }

    fn spec(&self, write: i64) -> Result<String, StoreError> {
        let unfit = |error: &dyn std::fmt::Display| unfit(&self.place(), error);
        let Self { work, plans } = self;
        let key = match &work.key {
            EventKey::About { origin, source, subject } => WorkKey {
                about: Some(WorkKeyAbout {
                    origin: origin.as_ref().map(ToString::to_string),
                    source: source.clone(),
                    subject: subject.clone(),
                }),
                ..WorkKey::default()
            },
            EventKey::Text(text) => WorkKey { text: Some(text.clone()), ..WorkKey::default() },
            EventKey::All => WorkKey { all: true, ..WorkKey::default() },
            EventKey::Always => WorkKey { always: true, ..WorkKey::default() },
        };
        let header =
            |(name, value): &(String, String)| WorkHeader { name: name.clone(), value: value.clone() };
        let spec = WorkSpec {
            trigger: work.trigger.as_ref().to_owned(),
            source: work.source.as_ref().to_owned(),
            key,
            origin: work.origin.as_ref().map(ToString::to_string),
            generation: i64::try_from(work.generation).map_err(|error| unfit(&error))?,
            intent: match work.intent {
                Intent::Create => WorkIntent::Create,
                Intent::Delete => WorkIntent::Delete,
            },
            event: EventText(serde_json::to_string(&*work.event).map_err(|error| unfit(&error))?),
            message: WorkMessage {
                subject: work.message.subject.clone(),
                headers: work.message.headers.iter().map(header).collect(),
            },
            positions: work.positions.iter().map(ToString::to_string).collect(),
            received: work.received.to_string(),
            published: work.published.map(|time| time.to_string()),
            plans: plans.iter().map(write_plan).collect::<Result<_, _>>().map_err(|error| unfit(&error))?,
            recent: work
                .recent
                .iter()
                .map(|event| WorkRecentEvent { hash: event.hash.clone(), at: event.at.to_string() })
                .collect(),
            write,
        };
        serde_json::to_string(&spec).map_err(|error| unfit(&error))
    }

    fn read(name: &str, spec: Value) -> Result<Self, String> {
        let id = WorkId::from_stored(name).ok_or("its name is not that of a Work")?;
        // The messages of serde quote values.
        let spec: WorkSpec = serde_json::from_value(spec)
            .map_err(|error| format!("its spec is not as the operator writes it ({:?})", error.classify()))?;
        let cluster = |text: &String| {
            text.parse::<ClusterId>().map_err(|_| "its origin is not of the form namespace/name".to_owned())
        };
        let time = |text: &str| text.parse().map_err(|_| "one of its times cannot be read".to_owned());
        let WorkKey { about, text, all, always } = spec.key;
        let key = match (about, text, all, always) {
            (Some(about), None, false, false) => EventKey::About {
                origin: about.origin.as_ref().map(cluster).transpose()?,
                source: about.source,
                subject: about.subject,
            },
            (None, Some(text), false, false) => EventKey::Text(text),
            (None, None, true, false) => EventKey::All,
            (None, None, false, true) => EventKey::Always,
            _ => return Err("its key is not exactly one of about, text, all and always".to_owned()),
        };
        if WorkId::new(&spec.trigger, &key) != id {
            return Err("its name belongs to another trigger and key".to_owned());
        }
        let mut positions = Positions::default();
        for text in &spec.positions {
            positions.record(read_position(text).ok_or("one of its positions cannot be read")?);
        }
        let plans = spec.plans.into_iter().map(|plan| read_plan(&id, plan));
        let plans = plans.collect::<Option<_>>().ok_or("one of its plans cannot be read")?;
        let event = Event::from_json(spec.event.0.as_bytes()).map_err(|_| "its event cannot be read")?;
        let recent = spec.recent.into_iter().map(|event| {
            let at = time(&event.at)?;
            Ok::<_, String>(RecentEvent { hash: event.hash, at })
        });
        let work = Work {
            id,
            trigger: spec.trigger.into(),
            source: spec.source.into(),
            key,
            origin: spec.origin.as_ref().map(cluster).transpose()?,
            generation: u64::try_from(spec.generation).map_err(|_| "its generation is negative")?,
            intent: match spec.intent {
                WorkIntent::Create => Intent::Create,
                WorkIntent::Delete => Intent::Delete,
            },
            event: Arc::new(event),
            message: Arc::new(Message {
                subject: spec.message.subject,
                headers: spec.message.headers.into_iter().map(|one| (one.name, one.value)).collect(),
            }),
            positions,
            received: time(&spec.received)?,
            published: spec.published.as_deref().map(time).transpose()?,
            recent: recent.collect::<Result<_, _>>()?,
        };
        Ok(Self::new(Arc::new(work), plans))
    }

    fn place_of(_rooms: &Rooms, _namespace: &str, name: &str, _spec: &Value) -> Option<Place> {
        Some(Place::of_work(&WorkId::from_stored(name)?))
    }

    fn table(cache: &Cache) -> &Mutex<Table<Self>> {
        &cache.works
    }
}

fn write_plan(plan: &Plan) -> serde_json::Result<WorkPlan> {
    let mut value = serde_json::to_value(&*plan.applied)?;
    if let Some(fields) = value.as_object_mut() {
        fields.insert("write".to_owned(), plan.write.into());
    }
    rename_explanation(&mut value, "reason", "message");
    serde_json::from_value(value)
}

fn read_plan(work: &WorkId, plan: WorkPlan) -> Option<Plan> {
    let write = plan.write;
    let mut value = serde_json::to_value(plan).ok()?;
    value.as_object_mut()?.insert("work".to_owned(), work.as_str().into());
    rename_explanation(&mut value, "message", "reason");
    Some(Plan { applied: Arc::new(serde_json::from_value(value).ok()?), write })
}

/// Reads what the `Display` of a [`Position`] wrote.
pub(crate) fn read_position(text: &str) -> Option<Position> {
    let (domain, numbers) = text.rsplit_once('@')?;
    let (epoch, sequence) = numbers.split_once('.')?;
    Some(Position {
        domain: Domain::new(domain),
        epoch: epoch.parse().ok()?,
        sequence: sequence.parse().ok()?,
    })
}

impl Record for AppliedWork {
    fn place(&self) -> Place {
        Place::in_cluster(&self.work, &self.cluster)
    }

    fn spec(&self, write: i64) -> Result<String, StoreError> {
        Ok(applied_spec(self, write)?.to_string())
    }

    fn read(_name: &str, mut spec: Value) -> Result<Self, String> {
        rename_explanation(&mut spec, "message", "reason");
        // The messages of serde quote values.
        serde_json::from_value(spec)
            .map_err(|error| format!("its spec is not as the operator writes it ({:?})", error.classify()))
    }

    /// A copy under another name is none of ours.
    fn place_of(rooms: &Rooms, namespace: &str, name: &str, spec: &Value) -> Option<Place> {
        let work = WorkId::from_stored(spec.get("work")?.as_str()?)?;
        let cluster: ClusterId = spec.get("cluster")?.as_str()?.parse().ok()?;
        let is_its_name = rooms.of(&cluster) == namespace && applied_name(&work, &cluster) == name;
        is_its_name.then_some(Place { work, cluster: Some(cluster) })
    }

    fn table(cache: &Cache) -> &Mutex<Table<Self>> {
        &cache.applied
    }
}

/// What stands in the spec of an AppliedWork.
pub(super) fn applied_spec(applied: &AppliedWork, write: i64) -> Result<Value, StoreError> {
    let mut spec = serde_json::to_value(applied).map_err(|error| unfit(&applied.place(), error))?;
    if let Some(spec) = spec.as_object_mut() {
        spec.insert("write".to_owned(), write.into());
    }
    rename_explanation(&mut spec, "reason", "message");
    Ok(spec)
}

/// In an object, `reason` is one word, and sentences are messages. In the engine only what is stalled has such a word.
fn rename_explanation(spec: &mut Value, from: &str, to: &str) {
    if let Some(state) = spec.get_mut("state").and_then(Value::as_object_mut)
        && state.get("phase").is_none_or(|phase| phase != "Stalled")
        && let Some(text) = state.remove(from)
    {
        state.insert(to.to_owned(), text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_applied_works_fit_and_are_told_apart() {
        let work = WorkId::new(&"t".repeat(60), &EventKey::Text("k".to_owned()));
        let name = |cluster: &str| applied_name(&work, &ClusterId::new("civo", cluster).unwrap());
        assert_eq!(name("c1"), format!("{work}.c1"));
        let long = "c".repeat(63);
        let names = [
            name("c1"),
            name("c2"),
            name("a.b"),
            name(&format!("{long}.{long}.{long}.1")),
            name(&format!("{long}.{long}.{long}.2")),
        ];
        let distinct: std::collections::BTreeSet<_> = names.iter().collect();
        assert_eq!(distinct.len(), names.len());
        assert!(names.iter().all(|name| name.len() <= 253));
    }

    #[test]
    fn positions_are_read_back() {
        let odd = Position { domain: Domain::new("a@1.2 b"), epoch: u64::MAX, sequence: u64::MAX };
        assert_eq!(read_position(&odd.to_string()), Some(odd));
        assert_eq!(read_position("d@1"), None);
    }
}
