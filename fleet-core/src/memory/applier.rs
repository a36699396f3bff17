//! Clusters' contents in memory.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use parking_lot::Mutex;
use serde_json::{Map, Value};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use crate::apply::{
    Applier, ApplyRequest, Change, InventoryItem, Mode, Outcome, Owner, Placed, RemoveRequest,
};
use crate::cluster::ClusterId;
use crate::keep::keep;
use crate::manifest::{Gvk, MARK, Manifest, ObjectRef};
use crate::observe::{Depth, Observation, Owned, Seen};
use crate::policy::Policy;

/// So many changes may wait for an observer; one that is slower gets a list.
const WAITING: usize = 1024;

/// Keeps objects in memory as a cluster would: with UIDs, and only what carries a Work's mark is ever changed.
#[derive(Debug, Default)]
pub struct MemoryApplier {
    clusters: Arc<Mutex<HashMap<ClusterId, Contents>>>,
    uids: AtomicU64,
}

#[derive(Debug)]
struct Contents {
    objects: HashMap<ObjectRef, MemoryObject>,
    changes: broadcast::Sender<Observed>,
}

/// A change as observers are told of it.
#[derive(Clone, Debug)]
enum Observed {
    There(Box<Seen>),
    Gone { object: ObjectRef, mark: Arc<str>, uid: Arc<str> },
}

impl Default for Contents {
    fn default() -> Self {
        Self { objects: HashMap::new(), changes: broadcast::Sender::new(WAITING) }
    }
}

/// An object of a [`MemoryApplier`].
#[derive(Clone, Debug, PartialEq)]
pub struct MemoryObject {
    /// Its UID.
    pub uid: Arc<str>,
    /// Its content, mark included.
    pub object: Map<String, Value>,
    /// What was applied to it last, if anything ever was.
    applied: Option<Map<String, Value>>,
    /// Whether it was there before, and was taken over.
    adopted: bool,
}

impl MemoryObject {
    fn mark(&self) -> Option<&str> {
        self.object.get("metadata")?.get("labels")?.get(MARK)?.as_str()
    }

    fn owner(&self) -> Owner {
        self.mark().map_or_else(|| Owner::Other("somebody else".to_owned()), |mark| Owner::Work(mark.into()))
    }

    /// What is ours of it, as it is now.
    fn owned(&self) -> Owned {
        Owned::of_values(
            &self.applied.as_ref().map(|applied| common(&self.object, applied)).unwrap_or_default(),
        )
    }

    fn placed(&self, id: &ObjectRef, policy: &Policy) -> Placed {
        let print = Some(self.owned().print(policy.excluded(id)));
        Placed { print, adopted: self.adopted, ..Placed::new(Arc::clone(&self.uid)) }
    }

    fn seen(&self, id: &ObjectRef) -> Option<Box<Seen>> {
        Some(Box::new(Seen {
            object: id.clone(),
            mark: self.mark()?.into(),
            uid: Arc::clone(&self.uid),
            version: None,
            going: false,
            written_by_us: self.applied.is_some(),
            owned: self.owned(),
            other: Some("somebody".into()),
            whole: Some(Arc::new(self.object.clone())),
        }))
    }
}

/// Those fields of an object that another one has too.
fn common(object: &Map<String, Value>, with: &Map<String, Value>) -> Map<String, Value> {
    let field = |(name, value): (&String, &Value)| {
        let value = match (value, with.get(name)?) {
            (Value::Object(value), Value::Object(with)) => Value::Object(common(value, with)),
            (value, _) => value.clone(),
        };
        Some((name.clone(), value))
    };
    object.iter().filter_map(field).collect()
}

impl Contents {
    /// Tells observers what became of an object.
    fn tell(&self, id: &ObjectRef, before: Option<&MemoryObject>) {
        // Nobody may be listening.
        let after = self.objects.get(id).and_then(|object| object.seen(id));
        match (after, before.and_then(|before| Some((before.mark()?, &before.uid)))) {
            (Some(seen), _) => {
                let _ = self.changes.send(Observed::There(seen));
            }
            (None, Some((mark, uid))) => {
                let gone = Observed::Gone { object: id.clone(), mark: mark.into(), uid: Arc::clone(uid) };
                let _ = self.changes.send(gone);
            }
            (None, None) => {}
        }
    }

    fn put(&mut self, id: &ObjectRef, object: MemoryObject) {
        let before = self.objects.insert(id.clone(), object);
        self.tell(id, before.as_ref());
    }

    fn take(&mut self, id: &ObjectRef) -> Option<MemoryObject> {
        let before = self.objects.remove(id)?;
        self.tell(id, Some(&before));
        Some(before)
    }
}

impl MemoryApplier {
    /// Puts an object there that is not ours.
    pub fn put_foreign(&self, cluster: &ClusterId, id: ObjectRef, object: Map<String, Value>) {
        let uid = self.next_uid();
        let object = MemoryObject { uid, object, applied: None, adopted: false };
        self.clusters.lock().entry(cluster.clone()).or_default().put(&id, object);
    }

    /// Changes an object as somebody else would; nothing if it is not there.
    pub fn edit(&self, cluster: &ClusterId, id: &ObjectRef, edit: impl FnOnce(&mut Map<String, Value>)) {
        let mut clusters = self.clusters.lock();
        let Some(contents) = clusters.get_mut(cluster) else { return };
        if let Some(mut object) = contents.objects.get(id).cloned() {
            edit(&mut object.object);
            contents.put(id, object);
        }
    }

    /// Takes an object away, whoever it belongs to.
    pub fn take_away(&self, cluster: &ClusterId, id: &ObjectRef) -> Option<MemoryObject> {
        self.clusters.lock().get_mut(cluster)?.take(id)
    }

    /// An object, if it is there.
    pub fn object(&self, cluster: &ClusterId, id: &ObjectRef) -> Option<MemoryObject> {
        self.clusters.lock().get(cluster)?.objects.get(id).cloned()
    }

    /// Everything in a cluster.
    pub fn objects(&self, cluster: &ClusterId) -> HashMap<ObjectRef, MemoryObject> {
        self.clusters.lock().get(cluster).map(|contents| contents.objects.clone()).unwrap_or_default()
    }

    fn next_uid(&self) -> Arc<str> {
        self.uids.fetch_add(1, Ordering::Relaxed).to_string().into()
    }

    fn apply_one(&self, contents: &mut Contents, manifest: &Manifest, request: &ApplyRequest) -> Outcome {
        let id = manifest.id();
        let mut marked = manifest.marked(&request.work);
        let writes = request.mode == Mode::Write;
        let Some(there) = contents.objects.get(id) else {
            if !writes {
                return Outcome::Would(Change::Create);
            }
            let (uid, applied) = (self.next_uid(), Some(marked.clone()));
            let object = MemoryObject { uid, object: marked, applied, adopted: false };
            let placed = object.placed(id, &request.policy);
            contents.put(id, object);
            return Outcome::Applied(placed);
        };
        let is_known =
            |item: &InventoryItem| item.object.same_object(id) && item.uid.as_ref() == Some(&there.uid);
        let is_claimed =
            |mark: &str| request.claims.iter().any(|claim| claim.object == *id && &*claim.from == mark);
        let adopted = match there.mark() {
            Some(mark) if mark == request.work.hash() || is_claimed(mark) => there.adopted,
            None if request.inventory.iter().any(is_known) => there.adopted,
            None if request.policy.adopt => true,
            _ => return Outcome::Conflict { owner: there.owner() },
        };
        request.policy.excluded(id).for_each(|field| keep(&mut marked, &there.object, field));
        let mut after = MemoryObject { adopted, ..there.clone() };
        let before = after.applied.replace(marked.clone()).unwrap_or_default();
        without(&mut after.object, &before, &marked);
        overlay(&mut after.object, &marked);
        if !writes {
            let change = if after.object == there.object {
                Change::Nothing
            } else {
                Change::Update { diff: "(in memory)".to_owned() }
            };
            return Outcome::Would(change);
        }
        let placed = after.placed(id, &request.policy);
        if after != *there {
            contents.put(id, after);
        }
        Outcome::Applied(placed)
    }
}

/// Takes out fields that were applied before and are not now.
fn without(object: &mut Map<String, Value>, before: &Map<String, Value>, now: &Map<String, Value>) {
    for (name, before) in before {
        match (object.get_mut(name), before, now.get(name)) {
            (Some(Value::Object(object)), Value::Object(before), Some(Value::Object(now))) => {
                without(object, before, now);
            }
            (Some(_), _, None) => {
                object.remove(name);
            }
            _ => {}
        }
    }
}

fn overlay(object: &mut Map<String, Value>, with: &Map<String, Value>) {
    for (name, value) in with {
        match (object.get_mut(name), value) {
            (Some(Value::Object(object)), Value::Object(value)) => overlay(object, value),
            _ => {
                object.insert(name.clone(), value.clone());
            }
        }
    }
}

#[async_trait]
impl Applier for MemoryApplier {
    async fn apply(&self, request: ApplyRequest) -> Vec<Outcome> {
        let mut clusters = self.clusters.lock();
        let contents = clusters.entry(request.cluster.id.clone()).or_default();
        let mut conflict = None;
        let outcome = |manifest: &Manifest| {
            if let Some(with) = conflict.as_ref().filter(|_| !request.policy.continue_on_conflict) {
                return Outcome::Waiting { reason: format!("it is not tried while {with} is in conflict") };
            }
            let outcome = self.apply_one(contents, manifest, &request);
            if matches!(outcome, Outcome::Conflict { .. }) {
                conflict = Some(manifest.id().clone());
            }
            outcome
        };
        request.manifests.iter().map(outcome).collect()
    }

    async fn remove(&self, request: RemoveRequest) -> Vec<Outcome> {
        let mut clusters = self.clusters.lock();
        let contents = clusters.entry(request.cluster.id.clone()).or_default();
        let outcome = |item: &InventoryItem| {
            let is_ours = contents.objects.get(&item.object).is_some_and(|there| match there.mark() {
                Some(mark) => mark == request.work.hash(),
                None => item.uid.as_ref() == Some(&there.uid),
            });
            let adopted =
                item.adopted || contents.objects.get(&item.object).is_some_and(|there| there.adopted);
            match (is_ours, request.mode, adopted) {
                (false, Mode::Preview, _) => return Outcome::Would(Change::Nothing),
                (false, Mode::Write, _) => return Outcome::Gone,
                (true, Mode::Preview, false) => return Outcome::Would(Change::Delete),
                (true, Mode::Preview, true) => return Outcome::Would(Change::GiveBack),
                (true, Mode::Write, false) => {
                    contents.take(&item.object);
                }
                (true, Mode::Write, true) => {
                    if let Some(mut object) = contents.objects.get(&item.object).cloned() {
                        if let Some(Value::Object(labels)) =
                            object.object.get_mut("metadata").and_then(|metadata| metadata.get_mut("labels"))
                        {
                            labels.remove(MARK);
                        }
                        object.applied = None;
                        object.adopted = false;
                        contents.put(&item.object, object);
                    }
                }
            }
            Outcome::Gone
        };
        request.items.iter().map(outcome).collect()
    }

    fn settle_time(&self) -> Duration {
        Duration::ZERO
    }

    fn observe(&self, cluster: &ClusterId, kind: &Gvk, depth: Depth) -> BoxStream<'static, Observation> {
        let observer = Observer {
            clusters: Arc::clone(&self.clusters),
            cluster: cluster.clone(),
            kind: kind.clone(),
            depth,
            changes: None,
            told: VecDeque::new(),
        };
        futures::stream::unfold(observer, async |mut observer| {
            let observation = observer.next().await;
            Some((observation, observer))
        })
        .boxed()
    }
}

/// Tells one observer of one kind in one cluster.
struct Observer {
    clusters: Arc<Mutex<HashMap<ClusterId, Contents>>>,
    cluster: ClusterId,
    kind: Gvk,
    depth: Depth,
    changes: Option<broadcast::Receiver<Observed>>,
    told: VecDeque<Observation>,
}

impl Observer {
    async fn next(&mut self) -> Observation {
        loop {
            if let Some(observation) = self.told.pop_front() {
                return observation;
            }
            let Some(changes) = &mut self.changes else {
                self.list();
                continue;
            };
            match changes.recv().await {
                Ok(Observed::There(seen)) if self.is_of_kind(&seen.object) => return self.there(*seen),
                Ok(Observed::Gone { object, mark, uid }) if self.is_of_kind(&object) => {
                    return Observation::Gone { object, mark: Some(mark), uid: Some(uid) };
                }
                Ok(_) => {}
                Err(RecvError::Lagged(_) | RecvError::Closed) => self.changes = None,
            }
        }
    }

    fn is_of_kind(&self, object: &ObjectRef) -> bool {
        object.gvk.kind == self.kind.kind && object.gvk.group == self.kind.group
    }

    fn there(&self, seen: Seen) -> Observation {
        let whole = seen.whole.filter(|_| self.depth == Depth::Whole);
        Observation::There(Seen { whole, ..seen })
    }

    fn list(&mut self) {
        let clusters = Arc::clone(&self.clusters);
        let mut clusters = clusters.lock();
        let contents = clusters.entry(self.cluster.clone()).or_default();
        self.changes = Some(contents.changes.subscribe());
        self.told.push_back(Observation::Listing);
        for (id, object) in &contents.objects {
            if let Some(seen) = object.seen(id).filter(|_| self.is_of_kind(id)) {
                let there = self.there(*seen);
                self.told.push_back(there);
            }
        }
        self.told.push_back(Observation::Listed { version: None });
    }
}
