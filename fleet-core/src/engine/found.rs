//! Objects that we wrote, whose Work knows nothing of them: what a request left that took effect long after it was given
//! up. They are put into the record of their Work, which then takes them away, or keeps them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::apply::InventoryItem;
use crate::cluster::ClusterId;
use crate::engine::Shared;
use crate::engine::definitions::Found;
use crate::engine::holdings::Stray;
use crate::engine::local::Part;
use crate::engine::record::Record;
use crate::observe::Seen;
use crate::store::StoreError;
use crate::work::{Local, Work, WorkId};

/// So many at a time; more are found by the next complete list.
const MOST: usize = 1000;
/// All Works are looked through for them, so not too often.
const PAUSE: Duration = Duration::from_secs(5);
/// How many Works are read at a time.
const PAGE: usize = 256;

/// What was found and is not looked into yet.
#[derive(Debug, Default)]
pub(super) struct FoundObjects {
    objects: Mutex<Vec<(Stray, Arc<str>)>>,
    added: Notify,
}

impl FoundObjects {
    pub(super) fn add(&self, cluster: &ClusterId, seen: &Seen) {
        let mut objects = self.objects.lock();
        if objects.len() < MOST {
            let (object, mark) = (seen.object.clone(), Arc::clone(&seen.mark));
            objects.push((Stray { cluster: cluster.clone(), object, mark }, Arc::clone(&seen.uid)));
            self.added.notify_one();
        }
    }
}

/// Looks for the Works of what is found, until it is dropped.
pub(super) async fn run(shared: &Arc<Shared>) {
    loop {
        shared.found.added.notified().await;
        let objects = std::mem::take(&mut *shared.found.objects.lock());
        if let Err(error) = look_for_owners(shared, &objects).await {
            tracing::warn!(%error, "Works cannot be read; trying again");
            shared.found.objects.lock().extend(objects);
            shared.found.added.notify_one();
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn look_for_owners(shared: &Arc<Shared>, objects: &[(Stray, Arc<str>)]) -> Result<(), StoreError> {
    let mut by_mark: BTreeMap<&str, Vec<&(Stray, Arc<str>)>> = BTreeMap::new();
    for object in objects {
        by_mark.entry(&object.0.mark).or_default().push(object);
    }
    let mut after: Option<WorkId> = None;
    loop {
        let page = shared.store.works(None, after.as_ref(), PAGE).await?;
        let Some(last) = page.last() else { return Ok(()) };
        after = Some(last.value.id.clone());
        for work in page {
            for (stray, uid) in by_mark.remove(work.value.id.hash()).into_iter().flatten() {
                give(shared, &work.value, None, stray, uid).await?;
            }
            let definitions = shared.definitions.load_full();
            let Found::Trigger(trigger) = definitions.find(&work.value.trigger) else { continue };
            if !trigger.has(Part::Local) || by_mark.is_empty() {
                continue;
            }
            for cluster in trigger.targets(work.value.origin.as_ref(), &shared.clusters).iter() {
                let local = Local { work: work.value.id.clone(), cluster: cluster.id.clone() };
                for (stray, uid) in by_mark.remove(local.id().hash()).into_iter().flatten() {
                    give(shared, &work.value, Some(&local), stray, uid).await?;
                }
            }
        }
    }
}

/// Writes an object into the record of its Work.
async fn give(
    shared: &Arc<Shared>,
    work: &Work,
    local: Option<&Local>,
    stray: &Stray,
    uid: &Arc<str>,
) -> Result<(), StoreError> {
    let id = local.map_or_else(|| work.id.clone(), Local::id);
    let stored = shared.store.applied_in(&id, &stray.cluster).await?;
    let (record, revision) = match stored {
        Some(stored) => ((*stored.value).clone(), Some(stored.revision)),
        None => (Record::new(work, local, stray.cluster.clone(), shared.now()).applied, None),
    };
    if !record.inventory.iter().any(|item| item.object.same_object(&stray.object)) {
        let mut record = record;
        record.digest = None;
        record.inventory.push(InventoryItem {
            uid: Some(Arc::clone(uid)),
            ..InventoryItem::planned(stray.object.clone())
        });
        match shared.store.put_applied(Arc::new(record), revision).await {
            // Somebody is at work on it, and sees it by its mark.
            Err(error) if error.is_conflict() => {}
            written => {
                written?;
            }
        }
    }
    shared.holdings.is_no_stray(stray);
    shared.enqueue(&id, &stray.cluster);
    Ok(())
}
