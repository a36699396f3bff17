//! Bringing in what found no room in a lane: Works are in the store, so a lane holds only some of what waits for a
//! cluster, and looks at all of them when it has room again.

use std::sync::Arc;

use crate::engine::Shared;
use crate::engine::lane::Lane;
use crate::engine::sweep;
use crate::engine::triggers::Found;
use crate::store::StoreError;
use crate::work::{Intent, Work, WorkId};

/// How many Works are read at a time.
const PAGE: usize = 256;

/// Fills a lane until nothing is left out any more, or the engine stops.
pub(super) async fn run(shared: &Arc<Shared>, lane: &Arc<Lane>) {
    tracing::info!(cluster = %lane.cluster, "more waits for the cluster than is kept in memory; the rest follows from the store");
    let mut failures = 0;
    loop {
        match fill(shared, lane).await {
            Ok(()) if lane.end_refill() => return,
            Ok(()) => failures = 0,
            Err(error) => {
                tracing::warn!(cluster = %lane.cluster, %error, "Works cannot be read; trying again");
                tokio::time::sleep(shared.pause(shared.config.retry, failures)).await;
                failures += 1;
            }
        }
    }
}

async fn fill(shared: &Arc<Shared>, lane: &Arc<Lane>) -> Result<(), StoreError> {
    shared.schedule.room(lane).await;
    lane.begin_refill();
    let mut after: Option<WorkId> = None;
    let mut last_in: Option<WorkId> = None;
    loop {
        let page = shared.store.works(None, after.as_ref(), PAGE).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.value.id.clone());
        for stored in page {
            if concerns(shared, &stored.value, lane).await? {
                let id = shared.rendered_as(&stored.value);
                // Many keys may be rendered together.
                if last_in.as_ref() != Some(&id) {
                    shared.schedule.room(lane).await;
                    shared.look_again_at(&id, &lane.cluster).await;
                    last_in = Some(id);
                }
            }
        }
    }
    let mut after = None;
    while let Some((orphans, last)) = sweep::orphans(shared, after.as_ref()).await? {
        after = Some(last);
        for (work, _) in orphans.iter().filter(|(_, cluster)| *cluster == lane.cluster) {
            shared.schedule.room(lane).await;
            shared.look_again_at(work, &lane.cluster).await;
        }
    }
    Ok(())
}

/// Whether a Work belongs into the lane's cluster, or has something there.
async fn concerns(shared: &Shared, work: &Work, lane: &Lane) -> Result<bool, StoreError> {
    let belongs = work.intent == Intent::Create
        && match (shared.definitions.load().find(&work.trigger), shared.clusters.get(&lane.cluster)) {
            (Found::Trigger(trigger), Some(cluster)) => {
                trigger.targets_cluster(work.origin.as_ref(), &cluster, &shared.clusters)
            }
            _ => false,
        };
    Ok(belongs || shared.store.applied_in(&work.id, &lane.cluster).await?.is_some())
}
