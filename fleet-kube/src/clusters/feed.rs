//! Feeds of changes, bounded by the number of clusters: a reader is told *that* a cluster changed and compares with what
//! it said last. One that is slow skips what was in between.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use fleet_core::cluster::{Cluster, ClusterChange, ClusterId};
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::sync::Notify;

use super::Shared;

/// Which clusters changed since a reader looked.
#[derive(Default)]
pub(super) struct Mailbox {
    changed: Mutex<Changed>,
    arrived: Notify,
}

#[derive(Default)]
struct Changed {
    order: VecDeque<ClusterId>,
    there: HashSet<ClusterId>,
    closed: bool,
}

impl Mailbox {
    pub(super) fn put(&self, id: &ClusterId) {
        let mut changed = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
        if changed.there.insert(id.clone()) {
            changed.order.push_back(id.clone());
        }
        drop(changed);
        self.arrived.notify_one();
    }

    pub(super) fn close(&self) {
        self.changed.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        self.arrived.notify_one();
    }

    /// The next cluster that changed; `None` once the registry is gone. Cancel safe.
    pub(super) async fn take(&self) -> Option<ClusterId> {
        loop {
            {
                let mut changed = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
                if changed.closed {
                    return None;
                }
                if let Some(id) = changed.order.pop_front() {
                    changed.there.remove(&id);
                    return Some(id);
                }
            }
            self.arrived.notified().await;
        }
    }
}

/// A cluster as a reader was told of it, and which incarnation that was.
pub(super) type Told = (u64, Arc<Cluster>);

pub(super) fn changes(
    shared: Weak<Shared>,
    mailbox: Arc<Mailbox>,
    told: BTreeMap<ClusterId, Told>,
) -> BoxStream<'static, ClusterChange> {
    futures::stream::unfold((shared, mailbox, told), |(shared, mailbox, mut told)| async move {
        let id = mailbox.take().await?;
        let now = {
            let shared = shared.upgrade()?;
            let state = shared.lock();
            state.entries.get(&id).map(|entry| (entry.incarnation, Arc::clone(&entry.cluster)))
        };
        let before = match &now {
            Some(now) => told.insert(id.clone(), now.clone()),
            None => told.remove(&id),
        };
        Some((futures::stream::iter(difference(id, before, now)), (shared, mailbox, told)))
    })
    .flatten()
    .boxed()
}

fn difference(id: ClusterId, before: Option<Told>, now: Option<Told>) -> Vec<ClusterChange> {
    match (before, now) {
        (None, None) => Vec::new(),
        (None, Some((_, now))) => vec![ClusterChange::Joined(now)],
        (Some(_), None) => vec![ClusterChange::Left(id)],
        (Some((first, _)), Some((second, now))) if first != second => {
            vec![ClusterChange::Left(id), ClusterChange::Joined(now)]
        }
        (Some((_, before)), Some((_, now))) => {
            let mut changes = Vec::new();
            if before.labels != now.labels || before.annotations != now.annotations {
                changes.push(ClusterChange::Relabelled(Arc::clone(&now)));
            }
            match (before.ready, now.ready) {
                (false, true) => changes.push(ClusterChange::Ready(id)),
                (true, false) => changes.push(ClusterChange::Unready(id)),
                _ => {}
            }
            changes
        }
    }
}
