//! What the registry knows of each cluster.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Weak};
use std::time::Duration;

use fleet_core::cluster::{Cluster, ClusterId};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::feed::{self, Mailbox};
use super::{Health, Link, Reach, Shared};
use crate::api::{KUBERNETES_VERSION_LABEL, kubernetes_version_label};
use crate::connection::{ClusterDefinition, Connection};

/// For how long a cluster that left can still be reached, so that what is there can be withdrawn.
const FAREWELL: Duration = Duration::from_secs(600);
/// How many of those are kept at most.
const MOST_DEPARTED: usize = 256;

#[derive(Default)]
pub(super) struct State {
    pub(super) entries: BTreeMap<ClusterId, Entry>,
    departed: VecDeque<(Instant, ClusterId, Arc<Link>)>,
    joined: u64,
    pub(super) readers: Vec<Weak<Mailbox>>,
}

pub(super) struct Entry {
    /// Tells a cluster from another one that had its name before.
    pub(super) incarnation: u64,
    pub(super) definition: ClusterDefinition,
    pub(super) cluster: Arc<Cluster>,
    pub(super) health: Arc<Health>,
    /// Closes when the cluster leaves.
    pub(super) reach: watch::Sender<Reach>,
    /// The last one that could be made: should the cluster leave together with its credentials, it is cleaned with it.
    pub(super) last_link: Option<Arc<Link>>,
    pub(super) stage: Stage,
    pub(super) _probe: Option<AbortOnDropHandle<()>>,
}

/// How far a cluster is on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// It is managed.
    Managed,
    /// It is being taken out, and cannot be reached yet.
    Leaving,
    /// To readers of the feed it has left.
    Left,
    /// Nothing is left in it.
    Withdrawn,
}

impl Entry {
    /// It, as one that is there.
    pub(super) fn told(&self) -> feed::Told {
        feed::Told { incarnation: self.incarnation, cluster: Arc::clone(&self.cluster), left: false }
    }

    /// Whether readers of the feed are to know it as one that left.
    pub(super) fn has_left(&self) -> bool {
        self.stage >= Stage::Left
    }
}

impl State {
    pub(super) fn join(&mut self, shared: &Arc<Shared>, definition: ClusterDefinition) {
        self.joined += 1;
        let folder = matches!(definition.connection, Connection::Directory);
        let health = Health {
            ready: folder,
            version: definition.labels.get(KUBERNETES_VERSION_LABEL).filter(|_| !folder).cloned(),
            reason: if folder { "Directory" } else { "Connecting" },
            message: if folder { "the cluster is a folder" } else { "the cluster is being connected" }
                .to_owned(),
        };
        let cluster = definition.cluster(folder);
        let entry = Entry {
            incarnation: self.joined,
            cluster: Arc::new(cluster),
            health: Arc::new(health),
            reach: watch::Sender::default(),
            last_link: None,
            stage: Stage::Managed,
            _probe: shared.probe(&definition, self.joined),
            definition,
        };
        self.tell(&entry.definition.id);
        self.entries.insert(entry.definition.id.clone(), entry);
    }

    pub(super) fn leave(&mut self, id: &ClusterId) {
        if let Some(Entry { last_link: Some(link), .. }) = self.entries.remove(id) {
            self.departed.push_back((Instant::now(), id.clone(), link));
        }
        self.forget_departed();
        self.tell(id);
    }

    /// Has a cluster that is being taken out leave, if that can be dealt with now.
    pub(super) fn part(&mut self, id: &ClusterId) {
        let Some(entry) = self.entries.get_mut(id) else { return };
        // What stays there needs no connection.
        let now = entry.cluster.ready || entry.cluster.keeps_resources();
        let stage = entry.stage.max(if now { Stage::Left } else { Stage::Leaving });
        if entry.stage != stage {
            entry.stage = stage;
            self.tell(id);
        }
    }

    /// A mailbox that every cluster is in, and then each that changes.
    pub(super) fn mailbox(&mut self) -> Arc<Mailbox> {
        let mailbox = Arc::new(Mailbox::default());
        self.entries.keys().for_each(|id| mailbox.put(id));
        self.readers.push(Arc::downgrade(&mailbox));
        mailbox
    }

    /// The connection of a cluster that left a while ago.
    pub(super) fn departed(&mut self, id: &ClusterId) -> Option<Arc<Link>> {
        self.forget_departed();
        let departed = self.departed.iter().rev().find(|(_, departed, _)| departed == id);
        departed.map(|(_, _, link)| Arc::clone(link))
    }

    fn forget_departed(&mut self) {
        while self.departed.len() > MOST_DEPARTED
            || self.departed.front().is_some_and(|(since, _, _)| since.elapsed() > FAREWELL)
        {
            self.departed.pop_front();
        }
    }

    /// Makes what selectors and templates see from definition and health, and tells readers if it changed.
    pub(super) fn refresh(&mut self, id: &ClusterId) {
        let Some(entry) = self.entries.get_mut(id) else {
            return;
        };
        let mut labels = entry.definition.labels.clone();
        if let Some(version) = &entry.health.version {
            labels.insert(KUBERNETES_VERSION_LABEL.to_owned(), kubernetes_version_label(version));
        }
        let cluster = Cluster { labels, ..entry.definition.cluster(entry.health.ready) };
        if *entry.cluster != cluster {
            entry.cluster = Arc::new(cluster);
            self.tell(id);
        }
    }

    /// Readers compare with what they were told, so a word too many does no harm.
    pub(super) fn tell(&mut self, id: &ClusterId) {
        self.readers.retain(|reader| match reader.upgrade() {
            Some(reader) => {
                reader.put(id);
                true
            }
            None => false,
        });
    }
}
