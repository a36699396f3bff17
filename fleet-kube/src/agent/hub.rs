//! The hub's side: writes the definitions of each agent, and hears from them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fleet_core::cluster::ClusterId;
use fleet_core::render::Renderer;
use fleet_core::resource::{ResourceId, Resources};
use futures::StreamExt as _;
use futures::stream::BoxStream;
use http::Method;
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event, watcher};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::bundle::BundleError;
use super::compile::{Compiled, LeftOut, compile};
use super::heartbeat::{DIGEST, MESSAGE_KEY, NOTES, VERSION, WITHDRAWN};
use super::readers::hears_no_http_of_the_hub;
use super::{AGENT_LABEL, label_value, lease_path, object_name, secret_path};
use crate::catalog::{KubeCatalog, WATCH};
use crate::client::{Call, ClusterClient, FIELD_MANAGER, Failure, Patience, chain};
use crate::connection::{ClusterDefinition, Connection};
use crate::definitions::{Definitions, Kind, ObjectId};

/// How many agents are written to at the same time.
const WRITERS: usize = 4;
/// How long one request may take.
const DEADLINE: Duration = Duration::from_secs(10);
/// When is tried again what failed.
const AGAIN: Duration = Duration::from_secs(2);

/// How an agent, and the cluster that it drives, is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentHealth {
    /// Whether it lives, and has what it needs.
    pub ready: bool,
    /// Whether it has not been heard of for too long: what is known of its Works may not be so any more.
    pub silent: bool,
    /// The version of its cluster's API server, as it was last told.
    pub version: Option<String>,
    /// One CamelCase word.
    pub reason: &'static str,
    /// One sentence: what is the matter, and what to do.
    pub message: String,
}

/// All agents, from the hub's side.
pub struct Agents {
    client: ClusterClient,
    silent_after: Duration,
    leads: Arc<dyn Fn() -> bool + Send + Sync>,
    renderer: Arc<dyn Renderer>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    agents: BTreeMap<ClusterId, Agent>,
    /// What each Lease said last, by namespace and name.
    leases: BTreeMap<(String, String), Word>,
    /// Since when Leases are known.
    listening: Option<Instant>,
}

/// One agent-driven cluster.
#[derive(Default)]
struct Agent {
    /// What is to be written, until it is.
    unwritten: Option<Write>,
    /// The digest of what was last asked for.
    digest: String,
    /// Why the last write failed.
    failed: Option<(&'static str, String)>,
    left_out: LeftOut,
    /// Whether triggers of an HTTP source select it: what is sent to the hub, it does not hear.
    hears_no_http: bool,
    leaving: bool,
    told: Option<AgentHealth>,
    told_withdrawn: bool,
}

#[derive(Clone)]
struct Write {
    digest: String,
    secret: Value,
    lease: Value,
}

/// What a Lease said, and when that was heard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Word {
    renewed: Option<String>,
    digest: Option<String>,
    version: Option<String>,
    message: Option<String>,
    notes: Option<String>,
    withdrawn: bool,
    heard: Option<Instant>,
    /// Whether it was renewed while we listened.
    alive: bool,
}

/// What there is to tell of agents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AgentNews {
    /// How one is doing.
    Health(ClusterId, AgentHealth),
    /// Its Cluster is being taken out, and it says that nothing is left in it.
    Withdrawn(ClusterId),
}

impl Agents {
    /// Of the hub that a client talks to. An agent counts as silent after `silent_after` without a word. Nothing is written
    /// while this process does not lead. The renderer is the one that agents have: it tells which objects of the hub
    /// templates see in a cluster.
    pub fn new(
        client: ClusterClient,
        silent_after: Duration,
        leads: Arc<dyn Fn() -> bool + Send + Sync>,
        renderer: Arc<dyn Renderer>,
    ) -> Self {
        Self { client, silent_after, leads, renderer, state: Mutex::default() }
    }

    /// How the agent of a cluster is doing; nothing if it has none, or nobody can tell yet.
    pub fn health(&self, id: &ClusterId) -> Option<AgentHealth> {
        self.lock().agents.get(id)?.told.clone()
    }

    /// Keeps agents up to date with the definitions, and tells of them, until `shutdown`.
    pub async fn run(
        &self,
        catalog: &KubeCatalog,
        mut tell: impl FnMut(AgentNews) + Send,
        shutdown: CancellationToken,
    ) {
        let (mut definitions, mut resources) = (catalog.definitions(), catalog.resources());
        let mut leases: Option<BoxStream<'static, _>> = None;
        let mut listed = BTreeSet::new();
        let mut retry_at: Option<Instant> = None;
        let mut news = true;
        loop {
            if std::mem::take(&mut news) {
                if let Some(now) = definitions.borrow_and_update().clone() {
                    let known = Arc::clone(&resources.borrow_and_update());
                    catalog.refer_for_agents(self.compile(&now, &known));
                }
                retry_at = None;
            }
            if leases.is_none() && !self.lock().agents.is_empty() {
                leases = self.watch_leases();
            }
            if retry_at.is_none_or(|at| at <= Instant::now()) {
                retry_at = self.write().await.then(|| Instant::now() + AGAIN);
            }
            let next = self.judge(&mut tell);
            let heard = async {
                match &mut leases {
                    Some(leases) => leases.next().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => return,
                changed = definitions.changed() => match changed {
                    Ok(()) => news = true,
                    Err(_) => return,
                },
                changed = resources.changed() => match changed {
                    Ok(()) => news = true,
                    Err(_) => return,
                },
                Some(event) = heard => self.hear(event, &mut listed),
                () = sleep_until(retry_at.unwrap_or_else(Instant::now)), if retry_at.is_some() => {}
                () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {}
            }
        }
    }

    /// Takes in what agents are to have. Gives the objects of the hub that their templates see.
    fn compile(&self, definitions: &Definitions, resources: &Resources) -> BTreeSet<ResourceId> {
        let staying = definitions.clusters.iter().map(|it| (it, false));
        let leaving = definitions.leaving.iter().map(|it| (it, true));
        let agents = staying.chain(leaving).filter(|(it, _)| matches!(it.connection, Connection::Agent));
        let mut state = self.lock();
        let (mut there, mut refers) = (BTreeSet::new(), BTreeSet::new());
        for (cluster, leaving) in agents {
            there.insert(cluster.id.clone());
            let agent = state.agents.entry(cluster.id.clone()).or_default();
            agent.leaving = leaving;
            agent.told_withdrawn &= leaving;
            if definitions.shares_namespace(&cluster.id).is_some() {
                // What it has been given stays.
                continue;
            }
            let compiled = compile(definitions, cluster, resources, &*self.renderer);
            refers.extend(compiled.refers.iter().cloned());
            agent.take(definitions, cluster, compiled);
        }
        if definitions.catalog.complete {
            // What is at the hub goes with the Cluster.
            state.agents.retain(|id, _| there.contains(id));
        }
        refers
    }

    /// Writes what is to be written; whether something failed that may be tried again.
    async fn write(&self) -> bool {
        let due: Vec<(ClusterId, Write)> = {
            let state = self.lock();
            let due = state.agents.iter();
            due.filter_map(|(id, agent)| Some((id.clone(), agent.unwritten.clone()?))).collect()
        };
        let writes = due.into_iter().map(|(id, write)| async move {
            let written = match (self.leads)() {
                true => self.write_one(&id, &write).await,
                false => Err(Failure::NotTried { reason: "this operator does not lead any more".to_owned() }),
            };
            (id, write.digest, written)
        });
        let mut writes = futures::stream::iter(writes).buffer_unordered(WRITERS);
        let mut failed = false;
        while let Some((id, digest, written)) = writes.next().await {
            let mut state = self.lock();
            let Some(agent) = state.agents.get_mut(&id) else { continue };
            match written {
                Ok(()) => {
                    agent.failed = None;
                    if agent.unwritten.as_ref().is_some_and(|write| write.digest == digest) {
                        agent.unwritten = None;
                    }
                }
                Err(failure) => {
                    failed = true;
                    let message = match failure {
                        Failure::Forbidden { message } => format!(
                            "{message}; grant the operator create and patch of secrets and of leases (coordination.k8s.io)"
                        ),
                        failure => failure.to_string(),
                    };
                    let message = format!("its definitions cannot be written: {message}; it is tried again");
                    agent.failed = Some(("DefinitionsNotWritten", message));
                }
            }
        }
        failed
    }

    async fn write_one(&self, id: &ClusterId, write: &Write) -> Result<(), Failure> {
        // The agent may not make its Lease: so it may write that one only.
        for (path, object) in [(secret_path(id), &write.secret), (lease_path(id), &write.lease)] {
            let call = Call {
                method: Method::PATCH,
                content_type: Some("application/apply-patch+yaml"),
                body: object.to_string().into(),
                ..Call::get(format!("{path}?fieldManager={FIELD_MANAGER}&force=true"))
            };
            self.client.call(call, Instant::now() + DEADLINE).await?;
        }
        Ok(())
    }

    fn watch_leases(&self) -> Option<BoxStream<'static, Result<Event<Lease>, watcher::Error>>> {
        let client = match self.client.for_watches() {
            Ok(client) => client,
            Err(error) => {
                tracing::error!("agents cannot be heard of: {error}");
                return None;
            }
        };
        let config = watcher::Config::default().timeout(WATCH.as_secs() as u32).labels(AGENT_LABEL);
        Some(watcher(Api::all(client), config).backoff(Patience::default()).boxed())
    }

    fn hear(&self, event: Result<Event<Lease>, watcher::Error>, listed: &mut BTreeSet<(String, String)>) {
        let mut state = self.lock();
        match event {
            Ok(Event::Init) => listed.clear(),
            Ok(Event::InitApply(lease)) => {
                listed.extend(place_of(&lease));
                state.take(&lease);
            }
            Ok(Event::Apply(lease)) => state.take(&lease),
            Ok(Event::InitDone) => {
                state.leases.retain(|place, _| listed.contains(place));
                state.listening.get_or_insert_with(Instant::now);
            }
            Ok(Event::Delete(lease)) => {
                if let Some(place) = place_of(&lease) {
                    state.leases.remove(&place);
                }
            }
            Err(error) => tracing::debug!("agents cannot be heard of now: {}", chain(&error)),
        }
    }

    /// Says what is new; and when something may be that nobody says.
    fn judge(&self, tell: &mut impl FnMut(AgentNews)) -> Option<Instant> {
        let now = Instant::now();
        let mut next: Option<Instant> = None;
        let mut news = Vec::new();
        let mut guard = self.lock();
        let State { agents, leases, listening } = &mut *guard;
        for (id, agent) in agents {
            let place = (id.namespace().to_owned(), object_name(id));
            let word = leases.get(&place);
            let since = word.and_then(|word| word.heard).or(*listening);
            let silent_at = since.map(|since| since + self.silent_after);
            if let Some(at) = silent_at.filter(|at| *at > now) {
                next = Some(next.map_or(at, |next| next.min(at)));
            }
            let Some(health) = agent.judge(word, silent_at, now, self.silent_after) else { continue };
            if agent.told.as_ref() != Some(&health) {
                if agent.told.as_ref().is_none_or(|told| told.ready != health.ready) {
                    if health.ready {
                        tracing::info!(cluster = %id, "its agent is there");
                    } else {
                        tracing::warn!(cluster = %id, reason = health.reason, "{}", health.message);
                    }
                }
                agent.told = Some(health.clone());
                news.push(AgentNews::Health(id.clone(), health));
            }
            let says_so =
                |word: &Word| word.alive && word.withdrawn && word.digest.as_ref() == Some(&agent.digest);
            if agent.leaving && !agent.told_withdrawn && word.is_some_and(says_so) {
                agent.told_withdrawn = true;
                news.push(AgentNews::Withdrawn(id.clone()));
            }
        }
        drop(guard);
        news.into_iter().for_each(tell);
        next
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn take(&mut self, lease: &Lease) {
        let Some(place) = place_of(lease) else { return };
        let annotation =
            |key: &str| lease.metadata.annotations.as_ref().and_then(|all| all.get(key).cloned());
        let renewed = lease.spec.as_ref().and_then(|spec| spec.renew_time.as_ref());
        let renewed = renewed.map(|time| time.0.to_string());
        let before = self.leases.get(&place);
        // When it was heard counts, not what the other's clock said. What was there when we began to listen may be old.
        let first = before.is_none() && self.listening.is_none();
        let is_news = before.is_none_or(|before| before.renewed != renewed) && renewed.is_some();
        let word = Word {
            alive: before.is_some_and(|before| before.alive) || (is_news && !first),
            heard: if is_news { Some(Instant::now()) } else { before.and_then(|before| before.heard) },
            renewed,
            digest: annotation(DIGEST),
            version: annotation(VERSION),
            message: annotation(MESSAGE_KEY),
            notes: annotation(NOTES),
            withdrawn: annotation(WITHDRAWN).is_some(),
        };
        self.leases.insert(place, word);
    }
}

impl Agent {
    /// Takes in what it is to have.
    fn take(&mut self, definitions: &Definitions, cluster: &ClusterDefinition, compiled: Compiled) {
        self.hears_no_http = hears_no_http_of_the_hub(definitions, cluster);
        self.left_out = compiled.left_out;
        match compiled.bundle.to_secret(&self.digest) {
            Ok(None) => {}
            Ok(Some((mut secret, digest))) => {
                let owner = owner(definitions, &cluster.id);
                if let Some(metadata) = secret.get_mut("metadata").and_then(Value::as_object_mut) {
                    metadata.insert("namespace".to_owned(), cluster.id.namespace().into());
                    metadata.insert("ownerReferences".to_owned(), owner.clone());
                }
                let lease = json!({
                    "apiVersion": "coordination.k8s.io/v1",
                    "kind": "Lease",
                    "metadata": {
                        "name": object_name(&cluster.id),
                        "namespace": cluster.id.namespace(),
                        "labels": {(AGENT_LABEL): label_value(&cluster.id)},
                        "ownerReferences": owner,
                    },
                });
                self.unwritten = Some(Write { digest: digest.clone(), secret, lease });
                self.digest = digest;
                self.failed = None;
            }
            Err(error) => {
                let reason = match error {
                    BundleError::TooLarge { .. } => "DefinitionsTooLarge",
                    _ => "DefinitionsNotWritten",
                };
                self.unwritten = None;
                self.digest.clear();
                self.failed = Some((reason, format!("{error}; its agent goes on with those that it has")));
            }
        }
    }

    /// How it is doing; nothing while nobody can tell.
    fn judge(
        &self,
        word: Option<&Word>,
        silent_at: Option<Instant>,
        now: Instant,
        silent_after: Duration,
    ) -> Option<AgentHealth> {
        let version = word.and_then(|word| word.version.clone());
        let unready = |reason, message, silent| {
            Some(AgentHealth { ready: false, silent, version: version.clone(), reason, message })
        };
        let is_silent = silent_at.is_some_and(|at| at <= now);
        if is_silent && word.is_none_or(|word| word.renewed.is_none()) {
            let message = "no agent has been heard of yet; install it in the cluster: \
                           fleet-operator register cluster --agent";
            return unready("AgentMissing", message.to_owned(), true);
        }
        if is_silent {
            let message = format!(
                "its agent has not been heard of for {} s; nothing is withdrawn because of that, and what is known of the \
                 cluster may not be so any more; see whether the agent runs there, and reaches this API server",
                silent_after.as_secs()
            );
            return unready("AgentSilent", message, true);
        }
        if let Some((reason, message)) = &self.failed {
            return unready(reason, message.clone(), false);
        }
        let word = word.filter(|word| word.alive)?;
        if let Some(message) = &word.message {
            return unready("AgentTroubled", format!("its agent says: {message}"), false);
        }
        if let Some(message) = self.left_out.told() {
            return unready("TriggersLeftOut", message, false);
        }
        let message = match word.digest.as_ref() == Some(&self.digest) {
            true => "its agent is there, with the definitions as they are now",
            false => "its agent is there; it has not got the newest definitions yet",
        };
        let mut notes = word.notes.as_ref().map(|notes| format!("; {notes}")).unwrap_or_default();
        if self.hears_no_http {
            notes.push_str(
                "; events that are sent to the hub's own port put nothing here, send them to the agent's",
            );
        }
        Some(AgentHealth {
            ready: true,
            silent: false,
            version,
            reason: "AgentConnected",
            message: format!("{message}{notes}"),
        })
    }
}

fn place_of(lease: &Lease) -> Option<(String, String)> {
    Some((lease.metadata.namespace.clone()?, lease.metadata.name.clone()?))
}

/// The Cluster as owner of what is there for it, so that this goes with it.
fn owner(definitions: &Definitions, id: &ClusterId) -> Value {
    let object = definitions.original(&ObjectId::namespaced(Kind::Cluster, id.namespace(), id.name()));
    let object: Value = object.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    owner_reference(&object).into_iter().collect()
}

/// The owner reference that names an object.
pub(crate) fn owner_reference(object: &Value) -> Option<Value> {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str);
    Some(json!({
        "apiVersion": text("/apiVersion")?,
        "kind": text("/kind")?,
        "name": text("/metadata/name")?,
        "uid": text("/metadata/uid")?,
    }))
}

#[cfg(test)]
mod tests;
