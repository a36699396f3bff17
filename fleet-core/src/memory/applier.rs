//! Clusters' contents in memory.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use parking_lot::Mutex;
use serde_json::{Map, Value};

use crate::apply::{Applier, ApplyRequest, Mode, Outcome, Owner, Placed, RemoveRequest};
use crate::cluster::ClusterId;
use crate::manifest::{Gvk, MARK, ObjectRef};
use crate::observe::{Depth, Observation};
use crate::work::WorkId;

/// Keeps objects in memory as a cluster would: with UIDs, and only what carries a Work's mark is ever changed.
#[derive(Debug, Default)]
pub struct MemoryApplier {
    clusters: Mutex<HashMap<ClusterId, HashMap<ObjectRef, MemoryObject>>>,
    uids: AtomicU64,
}

/// An object of a [`MemoryApplier`].
#[derive(Clone, Debug, PartialEq)]
pub struct MemoryObject {
    /// Its UID.
    pub uid: Arc<str>,
    /// Its content, mark included.
    pub object: Map<String, Value>,
}

impl MemoryObject {
    fn mark(&self) -> Option<&str> {
        self.object.get("metadata")?.get("labels")?.get(MARK)?.as_str()
    }

    fn belongs_to(&self, work: &WorkId) -> bool {
        self.mark() == Some(work.hash())
    }

    fn owner(&self) -> Owner {
        self.mark().map_or_else(|| Owner::Other("somebody else".to_owned()), |mark| Owner::Work(mark.into()))
    }
}

impl MemoryApplier {
    /// Puts an object there that is not ours.
    pub fn put_foreign(&self, cluster: &ClusterId, id: ObjectRef, object: Map<String, Value>) {
        let uid = self.next_uid();
        self.clusters.lock().entry(cluster.clone()).or_default().insert(id, MemoryObject { uid, object });
    }

    /// Takes an object away, whoever it belongs to.
    pub fn take_away(&self, cluster: &ClusterId, id: &ObjectRef) -> Option<MemoryObject> {
        self.clusters.lock().get_mut(cluster)?.remove(id)
    }

    /// An object, if it is there.
    pub fn object(&self, cluster: &ClusterId, id: &ObjectRef) -> Option<MemoryObject> {
        self.clusters.lock().get(cluster)?.get(id).cloned()
    }

    /// Everything in a cluster.
    pub fn objects(&self, cluster: &ClusterId) -> HashMap<ObjectRef, MemoryObject> {
        self.clusters.lock().get(cluster).cloned().unwrap_or_default()
    }

    fn next_uid(&self) -> Arc<str> {
        self.uids.fetch_add(1, Ordering::Relaxed).to_string().into()
    }
}

#[async_trait]
impl Applier for MemoryApplier {
    async fn apply(&self, request: ApplyRequest) -> Vec<Outcome> {
        let mut clusters = self.clusters.lock();
        let objects = clusters.entry(request.cluster.id.clone()).or_default();
        let outcome = |manifest: &crate::manifest::Manifest| match objects.get_mut(manifest.id()) {
            Some(there) if !there.belongs_to(&request.work) => Outcome::Conflict { owner: there.owner() },
            Some(there) => {
                if request.mode == Mode::Write {
                    there.object = manifest.marked(&request.work);
                }
                Outcome::Applied(Placed::new(Arc::clone(&there.uid)))
            }
            None => {
                let uid = self.next_uid();
                if request.mode == Mode::Write {
                    let object = manifest.marked(&request.work);
                    objects.insert(manifest.id().clone(), MemoryObject { uid: Arc::clone(&uid), object });
                }
                Outcome::Applied(Placed::new(uid))
            }
        };
        request.manifests.iter().map(outcome).collect()
    }

    async fn remove(&self, request: RemoveRequest) -> Vec<Outcome> {
        let mut clusters = self.clusters.lock();
        let objects = clusters.entry(request.cluster.id.clone()).or_default();
        let outcome = |item: &crate::apply::InventoryItem| {
            if objects.get(&item.object).is_some_and(|there| there.belongs_to(&request.work)) {
                objects.remove(&item.object);
            }
            Outcome::Gone
        };
        request.items.iter().map(outcome).collect()
    }

    fn settle_time(&self) -> Duration {
        Duration::ZERO
    }

    fn observe(&self, _: &ClusterId, _: &Gvk, _: Depth) -> BoxStream<'static, Observation> {
        futures::stream::empty().boxed()
    }
}
