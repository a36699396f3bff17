//! Following definitions and clusters. Nothing is read from any source before both have loaded in full.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures::StreamExt;
use futures::stream::BoxStream;

use crate::catalog::CatalogSnapshot;
use crate::cluster::{Cluster, ClusterChange, ClusterFeed, ClusterId};
use crate::engine::Shared;
use crate::engine::triggers::{Affected, Trigger};
use crate::position::Domain;

/// Follows both until one of them has ended for good.
pub(super) async fn follow(shared: &Arc<Shared>) {
    begin_epoch(shared).await;
    let mut snapshots = snapshots(shared).await;
    let Some(first) = snapshots.next().await else {
        return;
    };
    take_definitions(shared, &first);
    let mut changes = clusters(shared).await;
    shared.sweeps.everything();
    // Nobody has to wait for it.
    shared.loaded.send_replace(true);
    tracing::info!(triggers = first.triggers.len(), clusters = shared.clusters.len(), "loaded");
    loop {
        tokio::select! {
            biased;
            snapshot = snapshots.next() => match snapshot {
                Some(snapshot) => take_definitions(shared, &snapshot),
                None => return,
            },
            change = changes.next() => match change {
                Some(change) => take_change(shared, &change),
                // The feed was closed because it fell behind: begin anew from what there is now, though not in a hurry.
                None => {
                    tokio::time::sleep(shared.pause(shared.config.retry, 0)).await;
                    changes = clusters(shared).await;
                }
            },
        }
    }
}

async fn begin_epoch(shared: &Shared) {
    let mut failures = 0;
    loop {
        match shared.store.next_epoch(&Domain::operator()).await {
            Ok(epoch) => return shared.epoch.store(epoch, Ordering::Relaxed),
            Err(error) => tracing::warn!(%error, "the store cannot be used yet; trying again"),
        }
        tokio::time::sleep(shared.pause(shared.config.retry, failures)).await;
        failures += 1;
    }
}

async fn snapshots(shared: &Shared) -> BoxStream<'static, Arc<CatalogSnapshot>> {
    let mut failures = 0;
    loop {
        match shared.catalog.subscribe().await {
            Ok(snapshots) => return snapshots,
            Err(error) => tracing::warn!(%error, "trying again"),
        }
        tokio::time::sleep(shared.pause(shared.config.retry, failures)).await;
        failures += 1;
    }
}

/// Takes in all clusters, and what is different from what was known.
async fn clusters(shared: &Arc<Shared>) -> BoxStream<'static, ClusterChange> {
    let mut failures = 0;
    let ClusterFeed { snapshot, elsewhere, changes } = loop {
        match shared.selector.subscribe().await {
            Ok(feed) => break feed,
            Err(error) => tracing::warn!(%error, "trying again"),
        }
        tokio::time::sleep(shared.pause(shared.config.retry, failures)).await;
        failures += 1;
    };
    for known in shared.clusters.all() {
        if !snapshot.iter().any(|cluster| cluster.id == known.id) {
            take_change(shared, &ClusterChange::Left(known.id.clone()));
        }
    }
    for cluster in snapshot {
        take_change(shared, &ClusterChange::Joined(cluster));
    }
    for known in shared.clusters.all_elsewhere() {
        if !elsewhere.iter().any(|cluster| cluster.id == known.id) {
            take_elsewhere(shared, &known.id, None);
        }
    }
    for cluster in elsewhere {
        take_elsewhere(shared, &cluster.id, Some(&cluster));
    }
    changes
}

fn take_definitions(shared: &Arc<Shared>, snapshot: &CatalogSnapshot) {
    let before = shared.definitions.load_full();
    let changed = before.follow(snapshot, &*shared.renderer);
    let is_managed = shared.clusters.management().is_some();
    shared.conditions.define(changed.definitions.conditions(is_managed), &*shared.catalog);
    let definitions = Arc::new(changed.definitions);
    shared.clusters.keep_selectors(|selector| definitions.uses(selector));
    let is_judged_anew = definitions.judges_otherwise(&before);
    shared.note_departed(&before, &definitions);
    shared.definitions.store(Arc::clone(&definitions));
    // After that: whoever looks something up notes it before.
    let shows = shared.rendered_from_changed(&before.resources, &definitions.resources);
    if !shows.is_empty() {
        tracing::debug!(works = shows.len(), "what they are rendered from changed");
        shared.sweeps.places(shows);
    }
    for trigger in shared.rollouts.follow(&definitions, &changed.triggers) {
        shared.conditions.rolling_out(&trigger, None, &*shared.catalog);
    }
    if is_judged_anew {
        shared.observe_anew();
    }
    if changed.everything {
        shared.sweeps.everything();
    }
    if !changed.triggers.is_empty() {
        tracing::debug!(triggers = ?changed.triggers, "definitions changed");
        shared.sweeps.triggers(changed.triggers);
    }
    for source in changed.told_again {
        shared.feeds.of(&source).iter().for_each(|feed| feed.tell_again());
    }
}

/// What is local goes somewhere else now, or can go somewhere, or nowhere any more.
fn take_management(shared: &Arc<Shared>) {
    let definitions = shared.definitions.load();
    if *shared.loaded.borrow() && definitions.have_local() {
        shared.sweeps.everything();
    }
    let is_managed = shared.clusters.management().is_some();
    shared.conditions.define(definitions.conditions(is_managed), &*shared.catalog);
}

/// Takes in what another operator drives: only Works whose events came from there are concerned.
fn take_elsewhere(shared: &Arc<Shared>, id: &ClusterId, now: Option<&Arc<Cluster>>) {
    let old = match now {
        Some(cluster) => shared.clusters.put_elsewhere(cluster),
        None => shared.clusters.remove_elsewhere(id),
    };
    if !*shared.loaded.borrow() {
        return;
    }
    let definitions = shared.definitions.load();
    let is_affected = |trigger: &Trigger| match (&old, now) {
        (Some(old), Some(new)) => trigger.affected_by(old, new).from_here,
        (Some(it), None) => trigger.concerns(it),
        (None, Some(it)) => trigger.concerns(it),
        (None, None) => false,
    };
    let affected = definitions.triggers.iter().filter(|(_, trigger)| is_affected(trigger));
    shared.sweeps.of_origin(id, affected.map(|(name, _)| Arc::clone(name)));
}

fn take_change(shared: &Arc<Shared>, change: &ClusterChange) {
    match change {
        ClusterChange::Elsewhere(cluster) => return take_elsewhere(shared, &cluster.id, Some(cluster)),
        ClusterChange::NotElsewhere(id) => return take_elsewhere(shared, id, None),
        _ => {}
    }
    let managed_from = shared.clusters.management().map(|cluster| cluster.id.clone());
    let (old, new) = shared.clusters.change(change);
    if managed_from != shared.clusters.management().map(|cluster| cluster.id.clone()) {
        take_management(shared);
    }
    let Some(id) = old.as_ref().or(new.as_ref()).map(|cluster| cluster.id.clone()) else {
        return;
    };
    match (&old, &new) {
        (Some(old), None) => {
            shared.left.lock().insert(id.clone(), Arc::clone(old));
            shared.ignore_cluster(&id);
            if shared.holdings.is_loaded() && shared.holdings.is_empty(&id) {
                shared.selector.withdrawn(&id);
            }
        }
        _ => {
            shared.left.lock().remove(&id);
            if old.is_none() {
                shared.observe_cluster(&id);
            }
        }
    }
    if *shared.loaded.borrow() {
        let definitions = shared.definitions.load();
        let triggers = || definitions.triggers.iter();
        match (&old, &new) {
            (Some(old), Some(new)) => {
                let of = |is_affected: fn(Affected) -> bool| {
                    let affected = triggers().filter(move |(_, it)| is_affected(it.affected_by(old, new)));
                    affected.map(|(name, _)| Arc::clone(name))
                };
                shared.sweeps.in_cluster(&id, of(|affected| affected.here));
                shared.sweeps.of_origin(&id, of(|affected| affected.from_here));
            }
            (Some(it), None) | (None, Some(it)) => {
                let concerned = || triggers().filter(|(_, trigger)| trigger.concerns(it));
                let names = || concerned().map(|(name, _)| Arc::clone(name));
                shared.sweeps.in_cluster(&id, names());
                shared.sweeps.of_origin(&id, names());
                if old.is_none() {
                    shared.sweeps.cluster(&id);
                }
            }
            (None, None) => {}
        }
    }
    shared.rollouts.cluster_changed(&id, new.is_some());
    // A cluster that left is as reachable as it was.
    if let Some(new) = new
        && let Some(lane) = shared.schedule.set_ready(&id, new.ready)
    {
        shared.start_worker(lane);
    }
}
