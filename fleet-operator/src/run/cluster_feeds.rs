//! EventSources that read something in each source cluster: its NATS, or its objects. Which clusters those are, what the Secret
//! in each says of NATS, and the feeds that follow from it.
//!
//! Each cluster is read on its own. What goes wrong in one is said of that one, and what worked there last goes on.

mod standing;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use fleet_core::catalog::Condition;
use fleet_core::cluster::{Cluster, ClusterChange, ClusterFeed, ClusterId, ClusterSelector};
use fleet_core::source::SourceStatus;
use fleet_kube::agent::RELAY_SUFFIX;
use fleet_kube::cluster_nats::{self, Told, follow};
use fleet_kube::clusters::Clusters;
use fleet_kube::connection::Connection;
use fleet_kube::definitions::{ClusterNats, ClusterSecret, Definitions, NatsTransport, Transport};
use fleet_kube::objects::{KindWatches, ObjectSource, Selection};
use fleet_nats::connection::Connections;
use fleet_nats::place::Place;
use futures::StreamExt;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::warn;

use self::standing::{Advised, Standing};
use super::sources::{Readers, read_by_agents};
use super::transport::{self, Built};

/// A Secret in a cluster.
type SecretIn = (ClusterId, ClusterSecret);
/// An EventSource in a cluster.
type SourceIn = (Arc<str>, ClusterId);

/// Keeps feeds as definitions, clusters and their Secrets say.
pub(super) struct ClusterFeeds {
    readers: Readers,
    clusters: Arc<Clusters>,
    connections: Connections,
    definitions: Arc<Definitions>,
    there: BTreeMap<ClusterId, Arc<Cluster>>,
    followed: BTreeMap<SecretIn, AbortOnDropHandle<()>>,
    told: Arc<Heard>,
    read: BTreeMap<SourceIn, Reading>,
    watches: Arc<KindWatches>,
    objects: BTreeMap<SourceIn, Arc<Selection>>,
    /// EventSources that are not read from here, of which that was said, and whether agents read them.
    nowhere: BTreeMap<Arc<str>, bool>,
}

/// What was heard of each Secret last.
#[derive(Default)]
struct Heard {
    last: Mutex<BTreeMap<SecretIn, Told>>,
    news: Notify,
}

impl Heard {
    fn last(&self) -> std::sync::MutexGuard<'_, BTreeMap<SecretIn, Told>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How an EventSource is read in a cluster.
struct Reading {
    nats: ClusterNats,
    /// The feeds that are attached, by their names.
    attached: BTreeMap<String, NatsTransport>,
    /// What is said besides, by a feed that delivers nothing.
    said: Option<SourceStatus>,
}

impl ClusterFeeds {
    pub(super) fn new(readers: Readers, clusters: Arc<Clusters>, connections: Connections) -> Self {
        Self {
            readers,
            watches: Arc::new(KindWatches::new(Arc::clone(&clusters))),
            objects: BTreeMap::new(),
            clusters,
            connections,
            definitions: Arc::default(),
            there: BTreeMap::new(),
            followed: BTreeMap::new(),
            told: Arc::default(),
            read: BTreeMap::new(),
            nowhere: BTreeMap::new(),
        }
    }

    /// Runs until `shutdown`. The feeds stay as they are then: the engine closes them.
    pub(super) async fn run(
        mut self,
        mut definitions: watch::Receiver<Option<Arc<Definitions>>>,
        shutdown: CancellationToken,
    ) {
        loop {
            // The registry tells once it has loaded; where a feed of it ends, another one begins.
            let Some(Ok(feed)) = shutdown.run_until_cancelled(self.clusters.subscribe()).await else {
                return;
            };
            let ClusterFeed { snapshot, mut changes, .. } = feed;
            let now: BTreeSet<&ClusterId> = snapshot.iter().map(|cluster| &cluster.id).collect();
            let gone: Vec<_> = self.there.keys().filter(|id| !now.contains(id)).cloned().collect();
            gone.iter().for_each(|id| self.leave(id));
            self.there = snapshot.into_iter().map(|cluster| (cluster.id.clone(), cluster)).collect();
            let told = Arc::clone(&self.told);
            loop {
                if let Some(now) = definitions.borrow_and_update().clone() {
                    self.definitions = now;
                    self.follow();
                }
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    changed = definitions.changed() => if changed.is_err() { return },
                    () = told.news.notified() => {}
                    change = changes.next() => match change {
                        Some(change) => self.note(change),
                        None => break,
                    },
                }
            }
        }
    }

    fn note(&mut self, change: ClusterChange) {
        match change {
            ClusterChange::Joined(cluster) | ClusterChange::Relabelled(cluster) => {
                self.there.insert(cluster.id.clone(), cluster);
            }
            // At once: another one of its name may have joined already.
            ClusterChange::Left(id) => self.leave(&id),
            // Whether it can be reached, whoever follows its Secret sees.
            _ => {}
        }
    }

    fn leave(&mut self, id: &ClusterId) {
        self.there.remove(id);
        self.followed.retain(|(cluster, _), _| cluster != id);
        self.told.last().retain(|(cluster, _), _| cluster != id);
        let left: Vec<_> = self.read.keys().filter(|(_, cluster)| cluster == id).cloned().collect();
        left.iter().for_each(|place| self.stop(place));
        let left: Vec<_> = self.objects.keys().filter(|(_, cluster)| cluster == id).cloned().collect();
        left.iter().for_each(|place| self.stop_objects(place));
    }

    fn stop_objects(&mut self, place: &SourceIn) {
        if self.objects.remove(place).is_some() {
            self.readers.detach(&standing_feed(place));
        }
    }

    /// Stops reading an EventSource in a cluster. What it has brought stays.
    fn stop(&mut self, place: &SourceIn) {
        let Some(reading) = self.read.remove(place) else { return };
        for feed in reading.attached.keys() {
            self.readers.detach(feed);
        }
        if reading.said.is_some() {
            self.readers.detach(&standing_feed(place));
        }
    }

    /// Makes what is read agree with what is known.
    fn follow(&mut self) {
        let wanted = self.wanted();
        let gone: Vec<_> = self.read.keys().filter(|place| !wanted.contains_key(*place)).cloned().collect();
        gone.iter().for_each(|place| self.stop(place));
        let secrets: BTreeSet<SecretIn> =
            wanted.iter().map(|((_, cluster), nats)| (cluster.clone(), nats.secret.clone())).collect();
        self.followed.retain(|secret, _| secrets.contains(secret));
        self.told.last().retain(|secret, _| secrets.contains(secret));
        for secret in secrets {
            if !self.followed.contains_key(&secret) {
                let following = self.follow_secret(&secret);
                self.followed.insert(secret, following);
            }
        }
        for (place, nats) in wanted {
            self.bring_up_to_date(&place, nats);
        }
        self.follow_objects();
        self.tell_of_those_read_nowhere();
    }

    /// Not for the hub: what a list of all objects says to one engine says nothing to another.
    fn follow_objects(&mut self) {
        if let Readers::Relay(_) = self.readers {
            return;
        }
        let mut wanted = self.selected(|transport| match transport {
            Transport::Objects(selection) => Some(Arc::clone(selection)),
            _ => None,
        });
        if !self.definitions.catalog.complete {
            // What is missing is not gone.
            for (place, selection) in &self.objects {
                wanted.entry(place.clone()).or_insert_with(|| Arc::clone(selection));
            }
        }
        let gone: Vec<_> =
            self.objects.keys().filter(|place| !wanted.contains_key(*place)).cloned().collect();
        gone.iter().for_each(|place| self.stop_objects(place));
        for (place, selection) in wanted {
            if self.objects.get(&place) == Some(&selection) {
                continue;
            }
            let (name, cluster) = place.clone();
            let (read, watches) = (Arc::clone(&selection), Arc::clone(&self.watches));
            let source = Arc::new(ObjectSource::new(name, cluster, read, watches));
            self.readers.attach(Built { source, letters: None }, false);
            self.objects.insert(place, selection);
        }
    }

    fn wanted(&self) -> BTreeMap<SourceIn, ClusterNats> {
        let mut wanted = self.selected(|transport| match transport {
            Transport::ClusterNats(nats) => Some(nats.clone()),
            _ => None,
        });
        if !self.definitions.catalog.complete {
            // What is missing is not gone.
            for (place, reading) in &self.read {
                wanted.entry(place.clone()).or_insert_with(|| reading.nats.clone());
            }
        }
        wanted
    }

    /// Where EventSources of a sort are to be read: in the clusters that a trigger of each selects.
    fn selected<T: Clone>(&self, sort: impl Fn(&Transport) -> Option<T>) -> BTreeMap<SourceIn, T> {
        let mut wanted = BTreeMap::new();
        let catalog = &self.definitions.catalog;
        for (name, transport) in &self.definitions.transports {
            let Some(what) = sort(transport) else { continue };
            let triggers: Vec<_> =
                catalog.triggers.values().filter(|it| it.source.as_ref() == Some(name)).collect();
            let selected = |cluster: &Cluster| {
                triggers.iter().any(|trigger| trigger.source_clusters.matches(&cluster.labels))
            };
            let clusters = self.there.values().filter(|cluster| selected(cluster));
            wanted.extend(clusters.map(|it| ((Arc::clone(name), it.id.clone()), what.clone())));
        }
        wanted
    }

    fn follow_secret(&self, secret: &SecretIn) -> AbortOnDropHandle<()> {
        let (told, of) = (Arc::clone(&self.told), secret.clone());
        let tell = move |now: Told| {
            told.last().insert(of.clone(), now);
            told.news.notify_one();
        };
        let (cluster, secret) = secret.clone();
        let following = follow(Arc::clone(&self.clusters), cluster, secret, tell);
        AbortOnDropHandle::new(tokio::spawn(following))
    }

    fn bring_up_to_date(&mut self, place: &SourceIn, nats: ClusterNats) {
        let told = self.told.last().get(&(place.1.clone(), nats.secret.clone())).cloned();
        let mut reading = self.read.remove(place).unwrap_or_else(|| Reading {
            nats: nats.clone(),
            attached: BTreeMap::new(),
            said: None,
        });
        reading.nats = nats;
        let trouble = match told {
            None => {
                let message = format!("{} in the cluster is being read", reading.nats.secret);
                reading.attached.is_empty().then_some(("Connecting", message))
            }
            Some(Told::Feeds(feeds)) => self.attach(place, &mut reading, feeds).err(),
            Some(Told::Wrong { reason, message }) => Some((reason, message)),
            // What was read there before may well be there still.
            Some(Told::Unreachable { reason, message }) => {
                reading.attached.is_empty().then_some((reason, message))
            }
        };
        self.say(place, &mut reading, trouble);
        self.read.insert(place.clone(), reading);
    }

    /// Attaches what the Secret says and is not attached; all of it, or nothing if any cannot be used.
    fn attach(
        &self,
        place: &SourceIn,
        reading: &mut Reading,
        feeds: Vec<cluster_nats::ClusterFeed>,
    ) -> Result<(), (&'static str, String)> {
        let (name, cluster) = place;
        let Definitions { clusters, leaving, .. } = &*self.definitions;
        let defined = clusters.iter().chain(leaving).find(|definition| definition.id == *cluster);
        // One that is missing for a moment is where it was.
        let before = || reading.attached.values().next().map(|transport| transport.resolve.clone());
        let resolve =
            defined.map(|definition| definition.resolve.clone()).or_else(before).unwrap_or_default();
        let mut wanted = BTreeMap::new();
        let mut new = Vec::new();
        for cluster_nats::ClusterFeed { name: part, mut transport } in feeds {
            transport.resolve.clone_from(&resolve);
            if let Some(stream) = &mut transport.jet_stream {
                stream.replay = reading.nats.replay;
                // Clusters may have one NATS together: each is to get everything.
                stream.durable.get_or_insert_with(|| {
                    let (namespace, cluster) = (cluster.namespace(), cluster.name());
                    format!("fleet-{name}_{namespace}_{cluster}").replace('.', "-")
                });
            }
            if let Readers::Relay(_) = self.readers {
                // A consumer of its own.
                if let Some(durable) = transport.jet_stream.as_mut().and_then(|it| it.durable.as_mut()) {
                    durable.push_str(RELAY_SUFFIX);
                }
                if let Some(group) = &mut transport.queue_group {
                    group.push_str(RELAY_SUFFIX);
                }
            }
            let feed = format!("{}/{part}", standing_feed(place));
            if reading.attached.get(&feed) != Some(&transport) {
                let at = Place { feed: feed.clone(), origin: cluster.clone() };
                let built = transport::in_cluster(name, &transport, at, &self.connections);
                new.push(built.map_err(|error| {
                    let ClusterSecret { key, .. } = &reading.nats.secret;
                    ("SecretInvalid", format!("{}, key {key}: {error}", reading.nats.secret))
                })?);
            }
            wanted.insert(feed, transport);
        }
        for source in new {
            let advice = format!(
                "Cluster {cluster}: map the name in spec.resolve, or run an agent in the cluster, where it does resolve \
                 (fleet-operator register cluster --agent)"
            );
            let source = Arc::new(Advised::new(source, advice));
            self.readers.attach(Built { source, letters: None }, false);
        }
        for feed in reading.attached.keys().filter(|feed| !wanted.contains_key(*feed)) {
            self.readers.detach(feed);
        }
        reading.attached = wanted;
        Ok(())
    }

    /// Says what is wrong in a cluster besides what its feeds say.
    fn say(&self, place: &SourceIn, reading: &mut Reading, trouble: Option<(&'static str, String)>) {
        let works = !reading.attached.is_empty();
        let status = trouble.map(|(reason, mut message)| {
            if works {
                message += "; until then what it said before is used";
            }
            SourceStatus { ready: false, reason: reason.to_owned(), message, lost: 0 }
        });
        if status == reading.said {
            return;
        }
        let feed = standing_feed(place);
        match &status {
            Some(status) => {
                let standing = Standing {
                    name: Arc::clone(&place.0),
                    feed,
                    origin: place.1.clone(),
                    status: status.clone(),
                    // What waits there to be read is not known yet.
                    unread: !works,
                };
                self.readers.attach(Built { source: Arc::new(standing), letters: None }, false);
            }
            None => self.readers.detach(&feed),
        }
        reading.said = status;
    }

    /// Whether a trigger of an EventSource selects a cluster with an agent.
    fn is_read_by_agents(&self, name: &Arc<str>) -> bool {
        let triggers = self.definitions.catalog.triggers.values();
        let triggers: Vec<_> = triggers.filter(|it| it.source.as_ref() == Some(name)).collect();
        let agents = self.definitions.clusters.iter().filter(|it| matches!(it.connection, Connection::Agent));
        agents
            .into_iter()
            .any(|it| triggers.iter().any(|trigger| trigger.source_clusters.matches(&it.labels)))
    }

    fn tell_of_those_read_nowhere(&mut self) {
        let read: BTreeSet<&Arc<str>> =
            self.read.keys().chain(self.objects.keys()).map(|(name, _)| name).collect();
        let in_clusters = self.definitions.transports.iter();
        let in_clusters =
            in_clusters.filter(|(_, it)| matches!(it, Transport::ClusterNats(_) | Transport::Objects(_)));
        let nowhere = in_clusters.map(|(name, _)| name).filter(|name| !read.contains(name));
        let nowhere: BTreeMap<Arc<str>, bool> =
            nowhere.map(|name| (Arc::clone(name), self.is_read_by_agents(name))).collect();
        for (name, by_agents) in &nowhere {
            if self.nowhere.get(name) == Some(by_agents) {
                continue;
            }
            let condition = if *by_agents {
                read_by_agents()
            } else {
                let message =
                    "no trigger of it selects a cluster by its sourceClusterSelector, so nothing is read";
                warn!("EventSource {name}: {message}");
                let (reason, message) = ("NoClusters".to_owned(), message.to_owned());
                Condition { ready: false, reason, message }
            };
            self.readers.report(name, condition);
        }
        self.nowhere = nowhere;
    }
}

/// The feed that says what is wrong in a cluster; the names of the others there begin with it.
fn standing_feed((name, cluster): &SourceIn) -> String {
    format!("{name}/{cluster}")
}
