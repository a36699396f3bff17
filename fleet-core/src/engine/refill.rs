//! Bringing in what found no room in a lane: Works are in the store, so a lane holds only some of what waits for a
//! cluster, and looks at all of them when it has room again.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::engine::Shared;
use crate::engine::definitions::Found;
use crate::engine::lane::Lane;
use crate::engine::local::Part;
use crate::engine::schedule::Item;
use crate::engine::sweep;
use crate::store::StoreError;
use crate::work::{Intent, Local, Work, WorkId};

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
    // Many keys may be rendered together.
    let mut together = BTreeSet::new();
    loop {
        let page = shared.store.works(None, after.as_ref(), PAGE).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.value.id.clone());
        for stored in page {
            for item in belonging(shared, &stored.value, lane).await? {
                if is_together(shared, &stored.value) && !together.insert(item.id.as_ref().clone()) {
                    continue;
                }
                shared.schedule.room(lane).await;
                shared.look_again_at(item, &lane.cluster).await;
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

/// What a Work has in the lane's cluster, or should have: itself, and what is local.
async fn belonging(shared: &Shared, work: &Work, lane: &Lane) -> Result<Vec<Item<'static>>, StoreError> {
    let mut items: BTreeMap<WorkId, Option<Local>> = BTreeMap::new();
    let rendered_as = shared.rendered_as(work);
    if shared.store.applied_in(&work.id, &lane.cluster).await?.is_some() {
        items.insert(rendered_as.clone(), None);
    }
    let local = shared.holdings.local_of(&work.id).into_iter();
    items.extend(local.filter(|(_, there)| *there == lane.cluster).map(|(id, _)| (id, None)));
    let definitions = shared.definitions.load();
    if let Found::Trigger(trigger) = definitions.find(&work.trigger)
        && work.intent == Intent::Create
    {
        let origin = work.origin.as_ref();
        if let Some(cluster) = shared.clusters.get(&lane.cluster)
            && trigger.has(Part::Remote)
            && trigger.targets_cluster(origin, &cluster, &shared.clusters)
        {
            items.insert(rendered_as.clone(), None);
        }
        let manages = shared.clusters.management().is_some_and(|it| it.id == lane.cluster);
        if manages && trigger.has(Part::Local) {
            for cluster in trigger.targets(origin, &shared.clusters).iter() {
                let local = Local { work: rendered_as.clone(), cluster: cluster.id.clone() };
                items.insert(local.id(), Some(local));
            }
        }
    }
    Ok(items.into_iter().map(|(id, local)| Item { id: Cow::Owned(id), local: local.map(Arc::new) }).collect())
}

fn is_together(shared: &Shared, work: &Work) -> bool {
    shared.rendered_as(work) != work.id
}
