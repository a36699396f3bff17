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

/// A cluster as a reader was told of it.
#[derive(Clone)]
pub(super) struct Told {
    /// Which one of that name.
    pub(super) incarnation: u64,
    pub(super) cluster: Arc<Cluster>,
    /// Whether it was told to have left, although it is still there to be withdrawn from.
    pub(super) left: bool,
}

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
            state.entries.get(&id).map(|entry| Told { left: entry.has_left(), ..entry.told() })
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
    use ClusterChange::{Joined, Left, Ready, Relabelled, Unready};
    let there = before.as_ref().filter(|before| !before.left);
    match (there, now) {
        (None, None) => Vec::new(),
        (Some(_), None) => vec![Left(id)],
        (None, Some(now)) if !now.left => vec![Joined(now.cluster)],
        // Whoever changed his mind about what stays there is heard even then.
        (None, Some(now)) => match before {
            Some(before) if before.cluster.keeps_resources() == now.cluster.keeps_resources() => Vec::new(),
            Some(_) => vec![Joined(now.cluster), Left(id)],
            None => Vec::new(),
        },
        (Some(before), Some(now)) if before.incarnation != now.incarnation => {
            if now.left {
                vec![Left(id)]
            } else {
                vec![Left(id), Joined(now.cluster)]
            }
        }
        (Some(before), Some(now)) => {
            let mut changes = Vec::new();
            let (old, new) = (&before.cluster, &now.cluster);
            if (&old.labels, &old.annotations, old.role) != (&new.labels, &new.annotations, new.role) {
                changes.push(Relabelled(Arc::clone(new)));
            }
            match (old.ready, new.ready || now.left) {
                // Also of one that leaves: what waits for it to be ready would wait for ever.
                (false, true) => changes.push(Ready(id.clone())),
                (true, false) => changes.push(Unready(id.clone())),
                _ => {}
            }
            changes.extend(now.left.then_some(Left(id)));
            changes
        }
    }
}
