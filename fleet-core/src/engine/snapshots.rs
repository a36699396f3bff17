//! Snapshots: a source tells all that is live in a scope, and what else the store has there is deleted, as far as nothing
//! newer of its key was processed. They are never stored: a source tells them anew after each start.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use futures::StreamExt;
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore, oneshot};

use crate::catalog::{OriginRule, SourceDef};
use crate::cluster::ClusterId;
use crate::engine::accept::patiently;
use crate::engine::{Shared, withdrawals};
use crate::position::Position;
use crate::source::Snapshot;
use crate::store::{StoreError, Stored};
use crate::work::{EventKey, Intent, Work, WorkId};

/// How many Works are read at a time.
const PAGE: usize = 256;
/// So many are deleted at the same time.
const AT_ONCE: usize = 64;

/// Snapshots that wait to be compared with the store. Each waits with its feed, so they are no more than those.
#[derive(Debug, Default)]
pub(super) struct Snapshots {
    waiting: Mutex<Vec<Waiting>>,
    added: Notify,
}

#[derive(Debug)]
struct Waiting {
    source: Arc<str>,
    snapshot: Snapshot,
    position: Position,
    done: oneshot::Sender<()>,
}

/// Has a snapshot compared with the store, once all that was read before it is settled. Returns when what it lacks is
/// deleted for good, or held. Cancelled, it may be half processed.
pub(super) async fn take(
    shared: &Arc<Shared>,
    source: &SourceDef,
    in_flight: &Semaphore,
    most_in_flight: usize,
    mut snapshot: Snapshot,
) {
    if let (None, Some(OriginRule::Fixed(origin))) = (&snapshot.origin, &source.origin) {
        snapshot.origin = Some(origin.clone());
    }
    // What is on its way to the store is not in it yet. Never closed.
    let settled = in_flight.acquire_many(u32::try_from(most_in_flight).unwrap_or(u32::MAX)).await;
    let position = snapshot.position.clone().unwrap_or_else(|| shared.next_position());
    let (done, processed) = oneshot::channel();
    let waiting = Waiting { source: Arc::clone(&source.name), snapshot, position, done };
    shared.snapshots.waiting.lock().push(waiting);
    shared.snapshots.added.notify_one();
    // Dropped only when the engine stops.
    let _ = processed.await;
    drop(settled);
}

/// Compares snapshots with the store, all that wait in one go, until it is dropped.
pub(super) async fn run(shared: &Arc<Shared>) {
    shared.wait_until_loaded().await;
    let mut failures = 0;
    let mut is_counted = false;
    loop {
        let mut waiting = std::mem::take(&mut *shared.snapshots.waiting.lock());
        waiting.retain(|it| !it.done.is_closed());
        if waiting.is_empty() {
            shared.snapshots.added.notified().await;
            continue;
        }
        while let Err(error) = process(shared, &waiting, &mut is_counted).await {
            tracing::warn!(%error, "a snapshot of what is live cannot be compared with the store; trying again");
            tokio::time::sleep(shared.pause(shared.config.retry, failures)).await;
            failures += 1;
        }
        failures = 0;
        for done in waiting {
            // Its feed may be closed by now.
            let _ = done.done.send(());
        }
    }
}

async fn process(shared: &Arc<Shared>, waiting: &[Waiting], is_counted: &mut bool) -> Result<(), StoreError> {
    if !*is_counted {
        // The first sweep takes its time; until it is done nobody knows how many there are.
        shared.set_total(count(shared).await?);
        *is_counted = true;
    }
    let mut by_source: BTreeMap<&Arc<str>, HashMap<&Option<ClusterId>, Vec<&Waiting>>> = BTreeMap::new();
    for it in waiting {
        by_source.entry(&it.source).or_default().entry(&it.snapshot.origin).or_default().push(it);
    }
    let definitions = shared.definitions.load_full();
    let mut missing = BTreeMap::new();
    for (source, by_origin) in by_source {
        for trigger in definitions.of_source(source) {
            let mut after: Option<WorkId> = None;
            loop {
                let page = shared.store.works(Some(trigger), after.as_ref(), PAGE).await?;
                let Some(last) = page.last() else { break };
                after = Some(last.value.id.clone());
                for Stored { value: work, .. } in &page {
                    let of_origin = by_origin.get(&work.origin).filter(|_| work.source == *source);
                    for Waiting { snapshot, position, .. } in of_origin.into_iter().flatten() {
                        match snapshot.live.lacks(&work.event) {
                            Some(true) if is_older(work, position) => {
                                missing.insert(work.id.clone(), position.clone());
                            }
                            Some(false) => shared.withdrawals.renewed(&work.id),
                            _ => {}
                        }
                    }
                }
            }
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    delete(shared, withdrawals::of_keys(shared, missing)).await
}

/// Whether a key is there, and saw nothing newer than a place.
fn is_older(work: &Work, position: &Position) -> bool {
    work.intent == Intent::Create
        && matches!(work.key, EventKey::About { .. } | EventKey::Text(_))
        && work.positions.admits(position)
}

async fn count(shared: &Arc<Shared>) -> Result<usize, StoreError> {
    let mut after: Option<WorkId> = None;
    let mut live = 0;
    loop {
        let page = shared.store.works(None, after.as_ref(), PAGE).await?;
        let Some(last) = page.last() else { return Ok(live) };
        after = Some(last.value.id.clone());
        live += page.iter().filter(|stored| stored.value.intent == Intent::Create).count();
    }
}

/// Deletes keys for which somebody has confirmed it. Those that are renewed meanwhile stay.
pub(super) async fn delete_confirmed(shared: &Arc<Shared>, keys: BTreeMap<WorkId, Position>) {
    if let Err(error) = patiently(shared, || delete(shared, keys.clone())).await {
        tracing::warn!(%error, "keys that a snapshot lacks cannot be deleted; they wait for the next one");
    }
}

async fn delete(shared: &Arc<Shared>, keys: BTreeMap<WorkId, Position>) -> Result<(), StoreError> {
    if keys.is_empty() {
        return Ok(());
    }
    tracing::info!(keys = keys.len(), "a snapshot of what is live lacks keys: they are deleted");
    let deleted = futures::stream::iter(keys).map(|(id, position)| delete_one(shared, id, position));
    let mut deleted = deleted.buffer_unordered(AT_ONCE);
    while let Some(result) = deleted.next().await {
        result?;
    }
    Ok(())
}

async fn delete_one(shared: &Arc<Shared>, id: WorkId, position: Position) -> Result<(), StoreError> {
    loop {
        let Some(stored) = shared.store.work(&id).await? else { return Ok(()) };
        let old = &stored.value;
        if old.intent == Intent::Delete && old.positions.in_domain(&position.domain) == Some(&position) {
            // By an attempt of ours that got no answer.
            shared.look_at(old, Some(old)).await;
            return Ok(());
        }
        if !is_older(old, &position) {
            return Ok(());
        }
        if shared.end_at(&stored, &position).await? {
            shared.counters.missing.add();
            return Ok(());
        }
    }
}
