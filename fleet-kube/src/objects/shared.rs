//! One watch for a kind in a cluster, whoever reads it.
//!
//! Nothing is kept of the objects: for whoever joins, all is listed again, for everybody. Who does not keep up is cut off,
//! and joins again.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use fleet_core::cluster::ClusterId;
use fleet_core::manifest::Gvk;
use futures::StreamExt;
use futures::stream::{SelectAll, select_all};
use tokio::sync::{Notify, mpsc};
use tokio_util::task::AbortOnDropHandle;

use super::object::{Objects, Told};
use super::selection::Needs;
use crate::clusters::Clusters;
use crate::follow::{Watches, follow};

/// So much waits for a reader.
const WAITING: usize = 256;
/// For so long the others wait for one that does not take what is told.
const PATIENCE: Duration = Duration::from_secs(10);
/// Who joins within such a time gets the same list.
const TOGETHER: Duration = Duration::from_millis(50);

/// The watches of all kinds in all clusters, each shared by all that read it.
pub struct KindWatches {
    clusters: Arc<Clusters>,
    watches: Watches,
    kinds: Mutex<HashMap<(ClusterId, Gvk), Weak<Shared>>>,
}

impl std::fmt::Debug for KindWatches {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KindWatches")
    }
}

/// Part of a kind: all of it, or what is in one namespace.
pub(super) type Part = Option<Arc<str>>;

/// What a reader is told.
#[derive(Clone, Debug)]
pub(super) enum Message {
    /// All is told anew, in these parts.
    Begins(Arc<[Part]>),
    /// Of one of them.
    Told(Part, Told),
}

/// What one reads of a kind.
pub(super) struct Subscription {
    pub(super) messages: mpsc::Receiver<Message>,
    shared: Arc<Shared>,
    number: u64,
}

/// A kind in a cluster; it is watched for as long as somebody holds this.
struct Shared {
    readers: Arc<Readers>,
    _watch: AbortOnDropHandle<()>,
}

#[derive(Default)]
struct Readers {
    now: Mutex<Now>,
    changed: Notify,
}

#[derive(Default)]
struct Now {
    next: u64,
    /// Counts how often all had to be told anew.
    round: u64,
    readers: BTreeMap<u64, (Needs, mpsc::Sender<Message>)>,
}

impl KindWatches {
    /// Watches over the connections of a registry.
    pub fn new(clusters: Arc<Clusters>) -> Self {
        Self::with_watches(clusters, Watches::default())
    }

    /// The same, for watches that stand for another time.
    pub fn with_watches(clusters: Arc<Clusters>, watches: Watches) -> Self {
        Self { clusters, watches, kinds: Mutex::default() }
    }

    /// Whether a cluster has an API server.
    pub(super) fn has_api_server(&self, cluster: &ClusterId) -> bool {
        self.clusters.reach(cluster).is_some()
    }

    /// Reads a kind in a cluster. All is told at the begin.
    pub(super) fn read(&self, cluster: &ClusterId, kind: &Gvk, needs: Needs) -> Subscription {
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        kinds.retain(|_, shared| shared.strong_count() > 0);
        let place = (cluster.clone(), kind.clone());
        let shared = kinds.get(&place).and_then(Weak::upgrade).unwrap_or_else(|| {
            let readers = Arc::<Readers>::default();
            let (clusters, watches) = (Arc::clone(&self.clusters), self.watches);
            let watching = watch(Arc::clone(&readers), clusters, cluster.clone(), kind.clone(), watches);
            let shared = Arc::new(Shared { readers, _watch: AbortOnDropHandle::new(tokio::spawn(watching)) });
            kinds.insert(place, Arc::downgrade(&shared));
            shared
        });
        drop(kinds);
        let (sender, messages) = mpsc::channel(WAITING);
        let number = shared.readers.join(needs, sender);
        Subscription { messages, shared, number }
    }
}

impl Subscription {
    /// Has all told anew.
    pub(super) fn again(&self) {
        self.shared.readers.again();
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.shared.readers.lock().readers.remove(&self.number);
    }
}

impl Readers {
    fn lock(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn join(&self, needs: Needs, sender: mpsc::Sender<Message>) -> u64 {
        let mut now = self.lock();
        let number = now.next;
        now.next += 1;
        now.readers.insert(number, (needs, sender));
        drop(now);
        self.again();
        number
    }

    fn again(&self) {
        self.lock().round += 1;
        self.changed.notify_one();
    }

    fn round(&self) -> u64 {
        self.lock().round
    }

    /// What all of them need together.
    fn needs(&self) -> Option<Needs> {
        let now = self.lock();
        let mut all = now.readers.values().map(|(needs, _)| needs);
        let first = all.next()?.clone();
        Some(all.fold(first, Needs::with))
    }

    /// Tells all of them. One that does not take it is left behind.
    async fn tell(&self, message: Message) {
        let readers: Vec<_> = {
            let now = self.lock();
            now.readers.iter().map(|(number, (_, sender))| (*number, sender.clone())).collect()
        };
        for (number, sender) in readers {
            if sender.send_timeout(message.clone(), PATIENCE).await.is_err() {
                self.lock().readers.remove(&number);
            }
        }
    }
}

/// Goes on until it is dropped.
async fn watch(
    readers: Arc<Readers>,
    clusters: Arc<Clusters>,
    cluster: ClusterId,
    kind: Gvk,
    watches: Watches,
) {
    loop {
        tokio::time::sleep(TOGETHER).await;
        let round = readers.round();
        if let Some(needs) = readers.needs() {
            let parts: Arc<[Part]> = match needs.namespaces {
                None => Arc::new([None]),
                Some(namespaces) => namespaces.into_iter().map(Some).collect(),
            };
            readers.tell(Message::Begins(Arc::clone(&parts))).await;
            let mut told: SelectAll<_> = select_all(parts.iter().map(|part| {
                let objects = Objects { kind: kind.clone(), namespace: part.clone(), whole: needs.whole };
                let part = part.clone();
                follow(&clusters, &cluster, objects, watches).map(move |told| (part.clone(), told)).boxed()
            }));
            while readers.round() == round {
                tokio::select! {
                    biased;
                    () = readers.changed.notified() => {}
                    next = told.next() => match next {
                        Some((part, told)) => readers.tell(Message::Told(part, told)).await,
                        // The cluster has left.
                        None => break,
                    },
                }
            }
        }
        while readers.round() == round {
            readers.changed.notified().await;
        }
    }
}
