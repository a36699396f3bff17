//! Following what others do to the same store: a second operator by mistake, or one that has just stopped leading.

use std::sync::Arc;

use futures::StreamExt;

use crate::engine::Shared;
use crate::engine::definitions::Found;
use crate::store::{StoreChange, StoreError, Stored};
use crate::work::{AppliedWork, Intent, WorkId};

/// Looks at Works that others changed, until it is dropped.
pub(super) async fn follow(shared: &Arc<Shared>) {
    shared.wait_until_loaded().await;
    let mut failures = 0;
    loop {
        match shared.store.watch().await {
            Ok(mut changes) => {
                if failures > 0 {
                    // What happened in between is not known.
                    shared.sweeps.everything();
                }
                failures = 0;
                while let Some(change) = changes.next().await {
                    match change {
                        StoreChange::Work(id) => look_at(shared, &id).await,
                        StoreChange::Many => shared.sweeps.everything(),
                    }
                }
            }
            Err(error) => tracing::warn!(%error, "what others change cannot be followed; trying again"),
        }
        failures += 1;
        tokio::time::sleep(shared.pause(shared.config.retry, failures)).await;
    }
}

async fn look_at(shared: &Arc<Shared>, id: &WorkId) {
    if let Err(error) = try_look_at(shared, id).await {
        tracing::warn!(work = %id, %error, "a Work that was changed elsewhere cannot be read; trying again");
        shared.sweeps.everything();
    }
}

async fn try_look_at(shared: &Arc<Shared>, id: &WorkId) -> Result<(), StoreError> {
    let stored = shared.store.work(id).await?;
    // What the keys of a trigger have together is another Work's.
    let rendered_as = match &stored {
        Some(stored) => vec![shared.rendered_as(&stored.value)],
        None => shared.aggregates_of(id),
    };
    // What others do at the same time is not known here, nor what we did meanwhile there.
    let until = shared.uncertain_until();
    if let Some(Stored { value: work, .. }) = &stored {
        shared.look_at(work, Some(work)).await;
        let definitions = shared.definitions.load();
        if let Found::Trigger(trigger) = definitions.find(&work.trigger)
            && work.intent == Intent::Create
        {
            let targets = trigger.targets(work.origin.as_ref(), &shared.clusters);
            for (id, cluster) in rendered_as.iter().flat_map(|id| targets.iter().map(move |it| (id, &it.id)))
            {
                shared.doubt_parts(trigger, id, cluster, until);
            }
        }
    }
    // Also of a Work that is gone: nothing of it should be anywhere.
    for id in rendered_as.iter().chain([id].into_iter().filter(|id| !rendered_as.contains(id))) {
        for applied in shared.applied_of(id).await? {
            let AppliedWork { work, cluster, .. } = &*applied.value;
            shared.start(shared.schedule.doubt(work, cluster, until));
        }
    }
    Ok(())
}
