//! What an agent hands on to the hub: events of triggers that put something into other clusters.
//!
//! Each EventSource with such triggers is read a second time, by feeds of its own: so whatever only this cluster needs goes
//! on while the hub is away, and what the hub needs stays unacknowledged where the transport keeps it. An event is
//! acknowledged once the hub's API server has it, as a [`RelayedEvent`](crate::api::RelayedEvent) whose name is made of its
//! place in the feed: handed on twice, it is there once.
//!
//! | bound | |
//! |---|---|
//! | events of a feed on their way | [`ON_THEIR_WAY`]; then it is not read |
//! | events of an agent that wait at the hub | [`MOST_WAITING`]; then none is handed on |

mod feed;
mod outbox;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fleet_core::catalog::{Tells, TriggerDef};
use fleet_core::cluster::ClusterId;
use fleet_core::filter::Facts;
use fleet_core::position::{Domain, Position};
use fleet_core::source::{Delivery, EventSource, SourceStatus};
use fleet_core::store::WorkStore;
use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::{Notify, watch};
use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;

use crate::client::ClusterClient;
use crate::definitions::{Definitions, Transport};
use outbox::Outbox;

/// How many events of one feed are on their way at most.
pub const ON_THEIR_WAY: usize = 64;
/// How many events of one agent wait at the hub at most, give or take those on their way.
pub const MOST_WAITING: usize = 500;

/// How long changes of how far it is are gathered until the hub is told.
const GATHER: Duration = Duration::from_secs(1);
/// When is tried again to tell.
const AGAIN: Duration = Duration::from_secs(2);

/// Whose events are handed on, and with what.
pub struct RelayPlace {
    /// The agent's cluster, as the hub calls it.
    pub id: ClusterId,
    /// Keeps floors of feeds, epochs, and what can never be handed on.
    pub store: Arc<dyn WorkStore>,
    /// What events are wanted for.
    pub definitions: watch::Receiver<Option<Arc<Definitions>>>,
    /// The way to the hub.
    pub hub: watch::Receiver<Option<ClusterClient>>,
    /// The Cluster at the hub, as an owner reference.
    pub owner: Box<dyn Fn() -> Option<Value> + Send + Sync>,
}

/// Hands events on. Dropped, it ends reading; what was not acknowledged comes again.
pub struct Relay {
    shared: Arc<Shared>,
    feeds: Mutex<BTreeMap<String, AbortOnDropHandle<()>>>,
}

struct Shared {
    store: Arc<dyn WorkStore>,
    definitions: watch::Receiver<Option<Arc<Definitions>>>,
    outbox: Outbox,
    progress: Mutex<BTreeMap<Arc<str>, Progress>>,
    news: Notify,
}

/// How far an EventSource is handed on.
#[derive(Default)]
struct Progress {
    feeds: BTreeMap<String, FeedProgress>,
    untold: bool,
}

/// How far a feed is.
#[derive(Clone, Default)]
struct FeedProgress {
    floors: BTreeMap<Domain, Position>,
    settled: Option<Timestamp>,
    status: Option<SourceStatus>,
}

impl Relay {
    /// Of an agent.
    pub fn new(place: RelayPlace) -> Self {
        let RelayPlace { id, store, definitions, hub, owner } = place;
        let shared = Shared {
            store,
            definitions,
            outbox: Outbox::new(id, hub, owner),
            progress: Mutex::default(),
            news: Notify::new(),
        };
        Self { shared: Arc::new(shared), feeds: Mutex::default() }
    }

    /// Reads a feed from now on, in place of the one of the same name. Needs a tokio runtime.
    ///
    /// With `patience`, an event that could not be handed on for so long is given back: its sender waits for an answer, and
    /// sends it again.
    pub fn attach(&self, source: Arc<dyn EventSource>, patience: Option<Duration>) {
        let name = source.feed().to_owned();
        let mut progress = self.shared.progress();
        let of_source = progress.entry(source.name().into()).or_default();
        of_source.feeds.insert(name.clone(), FeedProgress::default());
        of_source.untold = true;
        drop(progress);
        let reading = feed::read(Arc::clone(&self.shared), source, patience);
        let task = AbortOnDropHandle::new(tokio::spawn(reading));
        self.feeds.lock().unwrap_or_else(PoisonError::into_inner).insert(name, task);
    }

    /// Stops reading a feed.
    pub fn detach(&self, feed: &str) {
        self.feeds.lock().unwrap_or_else(PoisonError::into_inner).remove(feed);
        for of_source in self.shared.progress().values_mut() {
            of_source.untold |= of_source.feeds.remove(feed).is_some();
        }
    }

    /// What keeps events from being handed on, in sentences that say what to do.
    pub fn troubles(&self) -> Vec<String> {
        let mut troubles: Vec<String> = self.shared.outbox.trouble().into_iter().collect();
        for (source, of_source) in &*self.shared.progress() {
            for (feed, FeedProgress { status, .. }) in &of_source.feeds {
                let Some(SourceStatus { ready: false, reason, message, .. }) = status else { continue };
                troubles.push(format!("EventSource {source}, for the hub ({feed}): {reason}: {message}"));
            }
        }
        troubles
    }

    /// Tells the hub how far it is, for as long as it runs. Cancel safe.
    pub async fn run(&self) {
        loop {
            self.shared.news.notified().await;
            sleep(GATHER).await;
            let mut again = false;
            for (source, floors, settled) in self.shared.untold() {
                match self.shared.outbox.tell(&source, &floors, settled).await {
                    Ok(()) => {}
                    Err(failure) => {
                        tracing::debug!(%source, "the hub cannot be told how far it is handed on: {failure}");
                        again = true;
                        if let Some(of_source) = self.shared.progress().get_mut(&source) {
                            of_source.untold = true;
                        }
                    }
                }
            }
            if again {
                sleep(AGAIN).await;
                self.shared.news.notify_one();
            }
        }
    }
}

impl Shared {
    fn progress(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Progress>> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes something about a feed, if that is still read.
    fn note(&self, source: &dyn EventSource, tell: bool, change: impl FnOnce(&mut FeedProgress)) {
        if let Some(of_source) = self.progress().get_mut(source.name())
            && let Some(feed) = of_source.feeds.get_mut(source.feed())
        {
            change(feed);
            of_source.untold |= tell;
        }
        if tell {
            self.news.notify_one();
        }
    }

    /// What the hub was not told of yet.
    fn untold(&self) -> Vec<(Arc<str>, Vec<Position>, Option<Timestamp>)> {
        let mut progress = self.progress();
        let mut untold = Vec::new();
        for (source, Progress { feeds, untold: is_untold }) in progress.iter_mut() {
            if !std::mem::take(is_untold) {
                continue;
            }
            let floors = feeds.values().flat_map(|feed| feed.floors.values().cloned()).collect();
            // Only what is so of all of them; of none, nothing is known.
            let settled = feeds.values().map(|feed| feed.settled).min().flatten();
            untold.push((Arc::clone(source), floors, settled));
        }
        untold
    }

    /// Whether the hub is to have an event.
    fn wants(&self, source: &str, delivery: &Delivery) -> bool {
        let definitions = self.definitions.borrow();
        definitions.as_ref().is_some_and(|definitions| wants(definitions, source, delivery))
    }

    /// Whether keys of a source expire: then the hub needs to know what was settled.
    fn has_ttl(&self, source: &str) -> bool {
        let definitions = self.definitions.borrow();
        let triggers = definitions.iter().flat_map(|it| relayed_triggers(it, source));
        triggers.into_iter().any(|trigger| trigger.ttl.is_some())
    }
}

/// Whether an event is one of a trigger that puts something into other clusters. One that cannot be judged is refused
/// where the cluster's own engine reads it, and kept there as a dead letter.
fn wants(definitions: &Definitions, source: &str, delivery: &Delivery) -> bool {
    let (Ok(event), Some(known)) = (&delivery.event, definitions.catalog.sources.get(source)) else {
        return false;
    };
    if known.tells == Tells::States {
        // One that a filter does not let through is gone.
        return relayed_triggers(definitions, source).next().is_some();
    }
    let facts = Facts::new(event, &delivery.message);
    delivery.raw.len() <= known.max_event_bytes
        && known.filter.matches(&facts) == Ok(true)
        && relayed_triggers(definitions, source).any(|it| it.filter.matches(&facts) == Ok(true))
}

fn relayed_triggers<'a>(
    definitions: &'a Definitions,
    source: &'a str,
) -> impl Iterator<Item = &'a Arc<TriggerDef>> {
    let triggers = definitions.catalog.triggers.values();
    triggers.filter(move |it| it.source.as_deref() == Some(source) && it.destination_clusters.is_some())
}

/// What of an agent's definitions its relay reads: these EventSources, as consumers of their own, and the triggers of them
/// that put something into other clusters.
pub fn relayed_definitions(definitions: &Definitions, sources: &BTreeSet<Arc<str>>) -> Definitions {
    let mut relayed = definitions.clone();
    relayed.catalog.triggers.retain(|_, trigger| {
        trigger.destination_clusters.is_some()
            && trigger.source.as_ref().is_some_and(|source| sources.contains(source))
    });
    let used: BTreeSet<Arc<str>> =
        relayed.catalog.triggers.values().filter_map(|trigger| trigger.source.clone()).collect();
    relayed.catalog.sources.retain(|name, _| used.contains(name));
    relayed.transports.retain(|name, _| used.contains(name));
    for transport in relayed.transports.values_mut() {
        let Transport::Nats(nats) = transport else { continue };
        if let Some(durable) = nats.jet_stream.as_mut().and_then(|stream| stream.durable.as_mut()) {
            durable.push_str(RELAY_SUFFIX);
        }
        if let Some(group) = &mut nats.queue_group {
            group.push_str(RELAY_SUFFIX);
        }
    }
    relayed
}

/// What the consumers of a relay have at the end of their names.
pub const RELAY_SUFFIX: &str = "_relay";
