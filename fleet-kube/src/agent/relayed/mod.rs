//! What agents hand on, at the hub: each agent's events of an EventSource are a feed of it.
//!
//! An object goes once its event is stored as Work; until then it waits, whether an operator runs or not. Where an event
//! comes from, its namespace says: an agent can write in that of its Cluster only. What the agent says is its place in the
//! order counts within that Cluster's feed only.
//!
//! What is in the objects is read when it is their turn: in memory are their names and places.

mod feed;
mod inbox;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use fleet_core::cluster::ClusterId;
use fleet_core::event::{DecodeError, Event};
use fleet_core::source::Message;
use futures::StreamExt as _;
use futures::stream::{BoxStream, FuturesUnordered};
use http::Method;
use kube::Api;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event as Seen, watcher};
use serde_json::json;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

pub use feed::RelayedFeed;
use inbox::Inbox;

use super::relayed_path_in;
use crate::api::RelayedEvent;
use crate::catalog::WATCH;
use crate::client::{Call, ClusterClient, Failure, JSON, Patience, chain};

/// How many objects are read at a time: they hold events.
const PAGE: u32 = 50;
/// How many are deleted at the same time.
const DELETERS: usize = 8;
/// How long one request may take.
const DEADLINE: Duration = Duration::from_secs(10);
/// When is tried again what failed.
const AGAIN: Duration = Duration::from_secs(2);

/// An agent's EventSource: the namespace of its Cluster, and the name.
type Place = (String, String);

/// Reads events out of messages as the transport of their EventSource does.
pub type Decode = Arc<dyn Fn(&Message, &Bytes) -> Result<Event, DecodeError> + Send + Sync>;

/// All that agents hand on.
pub struct Relayed {
    shared: Arc<Shared>,
}

struct Shared {
    client: ClusterClient,
    state: Mutex<State>,
    news: Notify,
}

#[derive(Default)]
struct State {
    /// Whether everything was read. Until then no floor can be told.
    loaded: bool,
    boxes: BTreeMap<Place, Inbox>,
    /// Wakes who reads one.
    bells: BTreeMap<Place, Arc<Notify>>,
    /// Which are read; unknown until definitions are.
    wanted: Option<BTreeSet<Place>>,
    /// The namespaces of agents.
    namespaces: BTreeSet<String>,
    trouble: Option<String>,
}

impl Relayed {
    /// Of the hub that a client talks to.
    pub fn new(client: ClusterClient) -> Self {
        Self { shared: Arc::new(Shared { client, state: Mutex::default(), news: Notify::new() }) }
    }

    /// What the agent of a cluster hands on of an EventSource. Nothing is read before [`run`](Self::run).
    pub fn feed(&self, source: &str, cluster: &ClusterId, decode: Decode) -> RelayedFeed {
        RelayedFeed::new(Arc::clone(&self.shared), source, cluster, decode)
    }

    /// Says which agents and which feeds of theirs there are: what these agents hand on besides, no trigger wants any more.
    pub fn keep<'a>(
        &self,
        agents: impl IntoIterator<Item = &'a ClusterId>,
        feeds: impl IntoIterator<Item = (ClusterId, Arc<str>)>,
    ) {
        let wanted = feeds.into_iter().map(|(id, source)| (id.namespace().to_owned(), source.to_string()));
        let mut state = self.shared.lock();
        state.wanted = Some(wanted.collect());
        state.namespaces = agents.into_iter().map(|id| id.namespace().to_owned()).collect();
        drop(state);
        self.shared.news.notify_waiters();
    }

    /// Follows the objects, and deletes those that are done, until `shutdown`.
    pub async fn run(&self, shutdown: CancellationToken) {
        shutdown.run_until_cancelled(self.shared.follow()).await;
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn follow(&self) {
        let mut seen = self.watch();
        let mut listed = BTreeSet::new();
        let mut deleting = FuturesUnordered::new();
        let mut pause = std::pin::pin!(None);
        loop {
            let news = self.news.notified();
            if pause.is_none() {
                for (of, name, uid) in self.lock().due(DELETERS.saturating_sub(deleting.len())) {
                    deleting.push(async move {
                        let deleted = self.delete(&of.0, &name, &uid).await;
                        (of, name, uid, deleted)
                    });
                }
            }
            tokio::select! {
                Some(event) = seen.next() => self.take(event, &mut listed),
                Some((of, name, uid, deleted)) = deleting.next() => {
                    let is_gone = match deleted {
                        Ok(()) => true,
                        Err(failure) => {
                            self.complain(&format!("what agents handed on cannot be deleted: {failure}; it is tried again"));
                            pause.set(Some(sleep(AGAIN)));
                            false
                        }
                    };
                    let mut state = self.lock();
                    state.deleted(&of, &name, &uid, is_gone);
                    // Now a floor may hold.
                    state.ring(&of);
                }
                () = news => {}
                () = async { match pause.as_mut().as_pin_mut() {
                    Some(pause) => pause.await,
                    None => std::future::pending().await,
                }} => pause.set(None),
            }
        }
    }

    fn watch(&self) -> BoxStream<'static, Result<Seen<RelayedEvent>, watcher::Error>> {
        match self.client.for_watches() {
            Ok(client) => {
                let config = watcher::Config::default().timeout(WATCH.as_secs() as u32).page_size(PAGE);
                watcher(Api::all(client), config).backoff(Patience::default()).boxed()
            }
            Err(error) => {
                tracing::error!("what agents hand on cannot be read: {error}");
                futures::stream::pending().boxed()
            }
        }
    }

    fn take(
        &self,
        event: Result<Seen<RelayedEvent>, watcher::Error>,
        listed: &mut BTreeSet<(Place, String)>,
    ) {
        let mut state = self.lock();
        match event {
            Ok(Seen::Init) => {
                listed.clear();
                // A list is not in order: how far an agent is may be listed before events that came earlier.
                state.loaded = false;
            }
            Ok(Seen::InitApply(object)) => listed.extend(state.put(object)),
            Ok(Seen::InitDone) => {
                // The list was complete, so what is not in it is gone.
                for (of, inbox) in &mut state.boxes {
                    inbox.retain(|name| listed.contains(&(of.clone(), name.to_owned())));
                }
                state.boxes.retain(|_, inbox| !inbox.is_empty());
                state.loaded = true;
                state.bells.values().for_each(|bell| bell.notify_waiters());
            }
            Ok(Seen::Apply(object)) => {
                if let Some((of, _)) = state.put(object) {
                    state.ring(&of);
                }
            }
            Ok(Seen::Delete(object)) => state.remove(&object),
            Err(error) => {
                drop(state);
                return self.complain(&format!(
                    "what agents hand on cannot be read: {}; grant list and watch of relayedevents, and install the kind \
                     (fleet-operator crds)",
                    chain(&error)
                ));
            }
        }
        if state.trouble.take().is_some() {
            tracing::info!("what agents hand on is read again");
        }
    }

    fn complain(&self, trouble: &str) {
        let mut state = self.lock();
        if state.trouble.as_deref() != Some(trouble) {
            tracing::warn!("{trouble}");
            state.trouble = Some(trouble.to_owned());
        }
    }

    async fn delete(&self, namespace: &str, name: &str, uid: &str) -> Result<(), Failure> {
        let options = json!({"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": uid}});
        let call = Call {
            method: Method::DELETE,
            content_type: Some(JSON),
            body: options.to_string().into(),
            ..Call::get(format!("{}/{name}", relayed_path_in(namespace)))
        };
        match self.client.call(call, Instant::now() + DEADLINE).await {
            Ok(_) | Err(Failure::NotFound { .. } | Failure::UidMismatch) => Ok(()),
            Err(failure) => Err(failure),
        }
    }
}

impl State {
    fn ring(&self, of: &Place) {
        if let Some(bell) = self.bells.get(of) {
            bell.notify_waiters();
        }
    }

    /// Takes note of an object; where it is, if it can be understood.
    fn put(&mut self, object: RelayedEvent) -> Option<(Place, String)> {
        let name = object.metadata.name.clone()?;
        let of = (object.metadata.namespace.clone()?, object.spec.source.clone());
        if let Err(why) = self.boxes.entry(of.clone()).or_default().put(&name, object) {
            tracing::warn!(
                namespace = of.0,
                name,
                "a RelayedEvent is not as an agent writes it ({why}); it is dropped"
            );
        }
        Some((of, name))
    }

    fn remove(&mut self, object: &RelayedEvent) {
        let (Some(namespace), Some(name)) = (&object.metadata.namespace, &object.metadata.name) else {
            return;
        };
        let of = (namespace.clone(), object.spec.source.clone());
        if let Some(inbox) = self.boxes.get_mut(&of) {
            inbox.retain(|other| other != name);
        }
    }

    /// What is to be deleted now: what is done, and what nobody wants.
    fn due(&mut self, most: usize) -> Vec<(Place, String, String)> {
        let mut due = Vec::new();
        for (of, inbox) in &mut self.boxes {
            let is_wanted = self.wanted.as_ref().is_none_or(|wanted| wanted.contains(of));
            if !is_wanted && self.namespaces.contains(&of.0) {
                inbox.refuse();
            }
            inbox.take_done(most.saturating_sub(due.len()), |name, uid| {
                due.push((of.clone(), name.to_owned(), uid.to_owned()));
            });
        }
        due
    }

    fn deleted(&mut self, of: &Place, name: &str, uid: &str, is_gone: bool) {
        if let Some(inbox) = self.boxes.get_mut(of) {
            inbox.deleted(name, uid, is_gone);
        }
    }
}
