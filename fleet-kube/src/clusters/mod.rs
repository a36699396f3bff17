//! The clusters that are managed: which there are, how they are reached, and whether they can be.

mod feed;
mod link;
mod probe;
mod state;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use async_trait::async_trait;
use fleet_core::cluster::{ClusterError, ClusterFeed, ClusterId, ClusterSelector};
use futures::StreamExt;
use futures::stream::BoxStream;
use secrecy::ExposeSecret;
use tokio::sync::{Semaphore, watch};
use tokio_util::task::AbortOnDropHandle;

use crate::connection::{ClusterDefinition, Connection};
use feed::Mailbox;
pub use link::Link;
pub use probe::Pace;
use state::{Entry, Stage, State};

/// How many clusters are probed at the same time.
const PROBES: usize = 32;

/// The registry of clusters: definitions go in, connections, health and a feed of changes come out.
///
/// Each cluster that is reached over the network has one task that probes its API server. They end when the registry is
/// dropped, or the cluster leaves.
pub struct Clusters {
    shared: Arc<Shared>,
}

/// How a cluster is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// Whether it can be reached and works.
    pub ready: bool,
    /// The version of its API server, as it was last told.
    pub version: Option<String>,
    /// One CamelCase word.
    pub reason: &'static str,
    /// One sentence: what is the matter, and what to do. No credentials.
    pub message: String,
}

/// How an object gets into a cluster.
#[derive(Clone, Debug)]
pub enum Route {
    /// Over its API server.
    Kube(Arc<Link>),
    /// It is a folder.
    Directory,
    /// It cannot be reached now; for the reason given.
    Unreachable(String),
    /// There is no such cluster.
    Unknown,
}

/// How a cluster can be reached over the network.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reach {
    /// The connection, if one could be made.
    pub(crate) link: Option<Arc<Link>>,
    /// Whether the cluster answered when it was last probed.
    pub(crate) ready: bool,
}

struct Shared {
    state: Mutex<State>,
    loaded: watch::Sender<bool>,
    probes: Arc<Semaphore>,
    pace: Pace,
}

impl Clusters {
    /// An empty registry; [`subscribe`](ClusterSelector::subscribe) waits for the first [`update`](Self::update).
    pub fn new() -> Self {
        Self::with_pace(Pace::default())
    }

    /// As [`new`](Self::new), with another pace of probing.
    pub fn with_pace(pace: Pace) -> Self {
        let (loaded, _) = watch::channel(false);
        let state = Mutex::new(State::default());
        Self { shared: Arc::new(Shared { state, loaded, probes: Arc::new(Semaphore::new(PROBES)), pace }) }
    }

    /// Takes the complete set of clusters. What did not change keeps its connections; a cluster that is not among them
    /// has left. Call it only with a set that was read completely. Needs a tokio runtime.
    pub fn update(&self, definitions: Vec<ClusterDefinition>) {
        self.update_all(definitions, Vec::new());
    }

    /// As [`update`](Self::update), with clusters that are being taken out: to the engine they have left as soon as they
    /// can be reached (for only then can be withdrawn what is there), and their connections stay until they are not among
    /// these either. Should such a one lose its credentials, the last good ones are used.
    pub fn update_all(&self, definitions: Vec<ClusterDefinition>, leaving: Vec<ClusterDefinition>) {
        let leaving = leaving.into_iter().map(|definition| (definition.id.clone(), (definition, true)));
        let staying = definitions.into_iter().map(|definition| (definition.id.clone(), (definition, false)));
        let mut definitions: BTreeMap<ClusterId, (ClusterDefinition, bool)> =
            leaving.chain(staying).collect();
        let mut guard = self.shared.lock();
        let state = &mut *guard;
        let gone = state.entries.iter().filter(|(id, entry)| match definitions.get(*id) {
            None => true,
            // Nothing comes back from leaving: this is another cluster of that name.
            Some((_, leaving)) => !leaving && entry.stage != Stage::Managed,
        });
        let gone: Vec<ClusterId> = gone.map(|(id, _)| id.clone()).collect();
        for id in gone {
            state.leave(&id);
        }
        while let Some((id, (mut definition, leaving))) = definitions.pop_first() {
            if let Some(entry) = state.entries.get(&id).filter(|_| leaving) {
                definition.keep_credentials(&entry.definition);
            }
            match state.entries.get_mut(&id) {
                Some(entry) if same_connection(&entry.definition.connection, &definition.connection) => {
                    entry.definition = definition;
                }
                Some(entry) if same_place(&entry.definition.connection, &definition.connection) => {
                    entry._probe = self.shared.probe(&definition, entry.incarnation);
                    entry.definition = definition;
                }
                Some(_) => {
                    state.leave(&id);
                    state.join(&self.shared, definition);
                }
                None => state.join(&self.shared, definition),
            }
            state.refresh(&id);
            if leaving {
                state.part(&id);
            }
        }
        drop(guard);
        self.shared.loaded.send_replace(true);
    }

    /// How objects get into a cluster. One that left is still reached for a while, so that it can be cleaned.
    pub fn route(&self, id: &ClusterId) -> Route {
        let mut state = self.shared.lock();
        match state.entries.get(id) {
            Some(Entry {
                definition: ClusterDefinition { connection: Connection::Directory, .. }, ..
            }) => Route::Directory,
            Some(Entry { reach, health, .. }) => {
                let link = reach.borrow().link.clone();
                link.map_or_else(|| Route::Unreachable(health.message.clone()), Route::Kube)
            }
            None => state.departed(id).map_or(Route::Unknown, Route::Kube),
        }
    }

    /// How a cluster can be reached, as that changes; `None` if it is a folder, or not there. Closes when it leaves.
    pub(crate) fn reach(&self, id: &ClusterId) -> Option<watch::Receiver<Reach>> {
        let state = self.shared.lock();
        let entry = state.entries.get(id)?;
        let over_network = !matches!(entry.definition.connection, Connection::Directory);
        over_network.then(|| entry.reach.subscribe())
    }

    /// How a cluster is doing.
    pub fn health(&self, id: &ClusterId) -> Option<Arc<Health>> {
        self.shared.lock().entries.get(id).map(|entry| Arc::clone(&entry.health))
    }

    /// Clusters that are being taken out and in which nothing is left any more. May tell one more than once.
    pub fn withdrawals(&self) -> BoxStream<'static, ClusterId> {
        let mailbox = self.shared.lock().mailbox();
        futures::stream::unfold((Arc::downgrade(&self.shared), mailbox), |(shared, mailbox)| async move {
            loop {
                let id = mailbox.take().await?;
                let shared_now = shared.upgrade()?;
                let stage = shared_now.lock().entries.get(&id).map(|entry| entry.stage);
                if stage == Some(Stage::Withdrawn) {
                    return Some((id, (shared, mailbox)));
                }
            }
        })
        .boxed()
    }

    /// The health of every cluster, and again whenever it changed; `None` for one that left. A reader that is slow
    /// misses what was in between, never the last.
    pub fn health_changes(&self) -> BoxStream<'static, (ClusterId, Option<Arc<Health>>)> {
        let mailbox = self.shared.lock().mailbox();
        let shared = Arc::downgrade(&self.shared);
        let told = BTreeMap::<ClusterId, Arc<Health>>::new();
        futures::stream::unfold((shared, mailbox, told), |(shared, mailbox, mut told)| async move {
            loop {
                let id = mailbox.take().await?;
                let health = shared.upgrade()?.lock().entries.get(&id).map(|entry| Arc::clone(&entry.health));
                let before = match &health {
                    Some(health) => told.insert(id.clone(), Arc::clone(health)),
                    None => told.remove(&id),
                };
                if before != health {
                    return Some(((id, health), (shared, mailbox, told)));
                }
            }
        })
        .boxed()
    }
}

#[cfg(test)]
impl Clusters {
    /// With one cluster that is reached by a client, whatever comes.
    pub(crate) fn scripted(id: ClusterId, client: crate::client::ClusterClient) -> Self {
        let clusters = Self::new();
        let definition = ClusterDefinition {
            id: id.clone(),
            labels: Default::default(),
            annotations: Default::default(),
            resolve: Vec::new(),
            // Nobody probes a folder.
            connection: Connection::Directory,
        };
        clusters.update(vec![definition]);
        if let Some(entry) = clusters.shared.lock().entries.get_mut(&id) {
            entry.definition.connection = Connection::InCluster;
            entry.reach.send_replace(Reach { link: Some(Arc::new(Link::new(client))), ready: true });
        }
        clusters
    }
}

impl Default for Clusters {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl ClusterSelector for Clusters {
    async fn subscribe(&self) -> Result<ClusterFeed, ClusterError> {
        let mut loaded = self.shared.loaded.subscribe();
        if loaded.wait_for(|loaded| *loaded).await.is_err() {
            return Err(ClusterError { reason: "the registry of clusters was closed".to_owned() });
        }
        let mailbox = Arc::new(Mailbox::default());
        let mut state = self.shared.lock();
        state.readers.push(Arc::downgrade(&mailbox));
        // One that is leaving is in the snapshot, so that its leaving can be told.
        state.entries.iter().filter(|(_, entry)| entry.has_left()).for_each(|(id, _)| mailbox.put(id));
        let told: BTreeMap<ClusterId, feed::Told> =
            state.entries.iter().map(|(id, entry)| (id.clone(), entry.told())).collect();
        drop(state);
        let snapshot = told.values().map(|told| Arc::clone(&told.cluster)).collect();
        let changes = feed::changes(Arc::downgrade(&self.shared), mailbox, told);
        Ok(ClusterFeed::new(snapshot, changes))
    }

    fn withdrawn(&self, cluster: &ClusterId) {
        let mut state = self.shared.lock();
        // Before the feed told that it leaves, nobody can speak of that.
        if let Some(entry) = state.entries.get_mut(cluster).filter(|entry| entry.stage == Stage::Left) {
            entry.stage = Stage::Withdrawn;
            state.tell(cluster);
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn probe(
        self: &Arc<Self>,
        definition: &ClusterDefinition,
        incarnation: u64,
    ) -> Option<AbortOnDropHandle<()>> {
        let source = match &definition.connection {
            Connection::Directory => return None,
            other => other.clone(),
        };
        let permits = Arc::clone(&self.probes);
        let probe = probe::Probe::new(
            Arc::downgrade(self),
            definition.id.clone(),
            incarnation,
            source,
            permits,
            self.pace,
        );
        Some(AbortOnDropHandle::new(tokio::spawn(probe.run())))
    }

    /// What a probe found; ignored if the cluster left or was replaced meanwhile.
    fn report(&self, id: &ClusterId, incarnation: u64, link: Option<&Arc<Link>>, health: Health) {
        let mut state = self.lock();
        let Some(entry) = state.entries.get_mut(id).filter(|entry| entry.incarnation == incarnation) else {
            return;
        };
        if entry.health.ready != health.ready || entry.health.message != health.message {
            if health.ready {
                tracing::info!(cluster = %id, version = health.version.as_deref().unwrap_or("?"), "cluster is ready");
            } else {
                tracing::warn!(cluster = %id, reason = health.reason, "cluster is not ready: {}", health.message);
            }
        }
        let version = health.version.clone().or_else(|| entry.health.version.clone());
        if let Some(link) = link {
            entry.last_link = Some(Arc::clone(link));
        }
        entry.reach.send_if_modified(|reach| {
            let now = Reach { link: link.cloned(), ready: health.ready };
            let same = reach.link.as_ref().map(Arc::as_ptr) == now.link.as_ref().map(Arc::as_ptr);
            let modified = !same || reach.ready != now.ready;
            *reach = now;
            modified
        });
        let health = Health { version, ..health };
        if *entry.health != health {
            entry.health = Arc::new(health);
            state.tell(id);
        }
        state.refresh(id);
        if state.entries.get(id).is_some_and(|entry| entry.stage == Stage::Leaving) {
            state.part(id);
        }
    }
}

/// Readers wake up and find the registry gone.
impl Drop for Shared {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        state.readers.iter().filter_map(Weak::upgrade).for_each(|reader| reader.close());
    }
}

fn same_connection(one: &Connection, other: &Connection) -> bool {
    use Connection::{Agent, Directory, InCluster, KubeconfigFile, KubeconfigSecret, Management};
    match (one, other) {
        (KubeconfigSecret { name, kubeconfig }, KubeconfigSecret { name: other_name, kubeconfig: other }) => {
            name == other_name
                && match (kubeconfig, other) {
                    (Ok(text), Ok(other)) => text.expose_secret() == other.expose_secret(),
                    (Err(why), Err(other)) => why == other,
                    _ => false,
                }
        }
        (KubeconfigFile(path), KubeconfigFile(other)) => path == other,
        (Directory, Directory) | (InCluster, InCluster) | (Agent, Agent) | (Management(_), Management(_)) => {
            true
        }
        _ => false,
    }
}

/// A folder and an API server are never the same cluster; another kubeconfig may well be.
fn same_place(one: &Connection, other: &Connection) -> bool {
    matches!(one, Connection::Directory) == matches!(other, Connection::Directory)
}

#[cfg(test)]
mod tests;
