//! Following what others do to the same store: a second operator by mistake, or one that has just stopped leading.

use std::sync::Arc;

use futures::StreamExt;

use crate::engine::Shared;
use crate::store::{StoreChange, StoreError};
use crate::work::WorkId;

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
    match shared.store.work(id).await? {
        Some(stored) => shared.look_at(&stored.value, Some(&stored.value)).await,
        // Nothing of it should be anywhere.
        None => {
            for applied in shared.store.applied(id).await? {
                shared.enqueue(id, &applied.value.cluster);
            }
        }
    }
    Ok(())
}
