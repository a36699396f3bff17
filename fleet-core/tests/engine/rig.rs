//! What the engine's tests stand on: an engine of in-memory parts, and a renderer that needs no template language.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use fleet_core::apply::Applier;
use fleet_core::catalog::{Payload, SourceDef, TriggerDef};
use fleet_core::cluster::{Cluster, ClusterError, ClusterFeed, ClusterId, ClusterSelector};
use fleet_core::engine::{Config, Engine, Handle, Parts};
use fleet_core::environment::{Clock, Environment};
use fleet_core::event::Event;
use fleet_core::manifest::{Manifest, ObjectRef};
use fleet_core::memory::{MemoryApplier, MemoryCatalog, MemoryClusters, MemorySource, MemoryStore};
use fleet_core::position::{Domain, Position};
use fleet_core::render::{Context, Renderer, Template, TemplateError, TemplateFault, TemplateSource};
use fleet_core::selector::LabelSelector;
use fleet_core::source::{EventSource, SourceError, SourceItem};
use fleet_core::store::WorkStore;
use fleet_core::work::{AppliedState, AppliedWork, WorkId};
use futures::StreamExt;
use futures::stream::BoxStream;
use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Replaces `$subject`, `$type` and `$cluster`, `$subjects` where keys are rendered together, `$env` and `$tier` by labels of the cluster, `$labels` by how many it has,
/// and `$from-tier` by a label of the origin; `$plan` by what the resource `tenants` holds under `plan`; `$fail` fails, and `$bug` panics for the subject `bug`. A manifest template is
/// a list of ConfigMaps: `name`, or `name=value`, or `kind/name`.
#[derive(Default)]
pub(crate) struct Words {
    renders: Arc<Renders>,
}

/// How often manifests were rendered, by trigger and cluster.
#[derive(Default)]
pub(crate) struct Renders(Mutex<BTreeMap<(String, String), usize>>);

impl Renders {
    /// What was rendered since this was asked last.
    pub(crate) fn take(&self) -> Vec<(String, String, usize)> {
        let renders = std::mem::take(&mut *self.0.lock());
        renders.into_iter().map(|((trigger, cluster), count)| (trigger, cluster, count)).collect()
    }
}

struct Compiled {
    source: TemplateSource,
    reads: BTreeSet<String>,
    renders: Arc<Renders>,
}

/// What is replaced by something of a cluster, and what that reads.
const READS: [(&str, &str); 4] = [
    ("$env", "cluster.labels.env"),
    ("$tier", "cluster.labels.tier"),
    ("$labels", "cluster.labels"),
    ("$from-tier", "origin.labels.tier"),
];

impl Renderer for Words {
    fn compile(&self, source: &TemplateSource) -> Result<Arc<dyn Template>, TemplateError> {
        if source.text.contains("$syntax") {
            return Err(error(source, TemplateFault::Syntax, "syntax"));
        }
        let reads = READS.iter().filter(|(word, _)| source.text.contains(word));
        let reads = reads.map(|(_, path)| (*path).to_owned()).collect();
        Ok(Arc::new(Compiled { source: source.clone(), reads, renders: Arc::clone(&self.renders) }))
    }
}

fn error(source: &TemplateSource, fault: TemplateFault, reason: &str) -> TemplateError {
    TemplateError { template: source.name.clone(), line: Some(1), fault, reason: reason.to_owned() }
}

impl Template for Compiled {
    fn reads(&self) -> &BTreeSet<String> {
        &self.reads
    }

    fn text<'a>(&self, context: &Context<'a>) -> Result<String, TemplateError> {
        if let Some(events) = context.events {
            let subjects: Vec<_> = events.iter().filter_map(|it| it.event.subject()).collect();
            return Ok(self.source.text.replace("$subjects", &subjects.join(",")));
        }
        let mut text = self.source.text.to_string();
        if let Some(event) = context.event {
            assert!(!text.contains("$bug") || event.subject() != Some("bug"), "a renderer with a bug");
            text = text.replace("$type", event.ty());
        }
        if text.contains("$subject") {
            let undefined = || error(&self.source, TemplateFault::Undefined, "event.subject is undefined");
            let subject = context.event.and_then(|event| event.subject());
            text = text.replace("$subject", subject.ok_or_else(undefined)?);
        }
        if let Some(cluster) = context.cluster {
            let label = |name: &str| cluster.labels.get(name).map_or("none", String::as_str);
            text = text.replace("$cluster", cluster.id.name());
            text = text.replace("$env", label("env")).replace("$tier", label("tier"));
            text = text.replace("$labels", &cluster.labels.len().to_string());
        }
        if let Some(origin) = context.origin {
            text = text.replace("$from-tier", origin.labels.get("tier").map_or("none", String::as_str));
        }
        if let Some(resources) = context.resources {
            let plan = resources.get("tenants").and_then(Option::as_ref);
            let plan = plan.and_then(|it| it.value().pointer("/data/plan")?.as_str());
            text = text.replace("$plan", plan.unwrap_or("none"));
        }
        text = text.replace("$bug", "");
        match text.contains("$fail") {
            true => Err(error(&self.source, TemplateFault::Evaluation, "failed")),
            false => Ok(text.replace("auth.login", "Create").replace("auth.logout", "Delete")),
        }
    }

    fn manifests<'a>(&self, context: &Context<'a>) -> Result<Vec<Manifest>, TemplateError> {
        let place = (context.trigger.to_owned(), context.cluster.unwrap().id.name().to_owned());
        *self.renders.0.lock().entry(place).or_default() += 1;
        let names = self.text(context)?;
        let manifest = |word: &str| {
            let (kind, word) = word.split_once('/').unwrap_or(("ConfigMap", word));
            let (name, value) = word.split_once('=').unzip();
            let mut object =
                json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name.unwrap_or(word)}});
            if let Some(value) = value {
                object["data"] = json!({"v": value});
            }
            Manifest::new(object).map_err(|fault| error(&self.source, TemplateFault::Output, &fault.reason))
        };
        names.split_whitespace().map(manifest).collect()
    }
}

/// A feed with positions, as JetStream has: what is fed is delivered as often as the test says.
pub(crate) struct Feed {
    name: &'static str,
    /// The cluster that it is in, where that is a feed of its own.
    origin: Option<ClusterId>,
    feed: String,
    /// How often it was asked what is settled, if messages can wait in it.
    asked: Option<AtomicU64>,
    /// How often it was asked to tell all again.
    asked_again: AtomicU64,
    sender: mpsc::UnboundedSender<SourceItem>,
    receiver: Mutex<Option<mpsc::UnboundedReceiver<SourceItem>>>,
}

impl Feed {
    pub(crate) fn new(name: &'static str) -> Arc<Self> {
        Self::keeping(name, None, None)
    }

    /// What one of the clusters has of a source.
    pub(crate) fn in_cluster(name: &'static str, origin: &str) -> Arc<Self> {
        Self::keeping(name, Some(AtomicU64::new(0)), Some(cluster(origin)))
    }

    /// One in which messages can wait to be read.
    pub(crate) fn with_backlog(name: &'static str) -> Arc<Self> {
        Self::keeping(name, Some(AtomicU64::new(0)), None)
    }

    fn keeping(name: &'static str, asked: Option<AtomicU64>, origin: Option<ClusterId>) -> Arc<Self> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let receiver = Mutex::new(Some(receiver));
        let feed = origin.as_ref().map_or_else(|| name.to_owned(), |origin| format!("{name}/{origin}"));
        Arc::new(Self { name, origin, feed, asked, asked_again: AtomicU64::new(0), sender, receiver })
    }

    /// How often it was asked up to when all is settled.
    pub(crate) fn asked(&self) -> u64 {
        self.asked.as_ref().map_or(0, |asked| asked.load(Ordering::Relaxed))
    }

    /// How often it was asked to tell all again.
    pub(crate) fn asked_again(&self) -> u64 {
        self.asked_again.load(Ordering::Relaxed)
    }

    /// Delivers what has no place but that of its acceptance.
    pub(crate) fn tell_state(&self, event: Event) {
        self.tell(SourceItem::Delivery(fleet_core::source::Delivery {
            raw: event.to_json().to_string().into(),
            event: Ok(event),
            origin: self.origin.clone(),
            message: Arc::default(),
            position: None,
            published: None,
            settle: fleet_core::source::Settle::nothing(),
        }));
    }

    pub(crate) fn deliver(&self, event: Event, position: Position) {
        self.deliver_with(event, position, fleet_core::source::Settle::nothing());
    }

    pub(crate) fn deliver_with(&self, event: Event, position: Position, settle: fleet_core::source::Settle) {
        self.deliver_published(event, position, None, settle);
    }

    pub(crate) fn deliver_published(
        &self,
        event: Event,
        position: Position,
        published: Option<Timestamp>,
        settle: fleet_core::source::Settle,
    ) {
        let raw = event.to_json().to_string().into();
        self.tell(SourceItem::Delivery(fleet_core::source::Delivery {
            event: Ok(event),
            origin: self.origin.clone(),
            message: Arc::default(),
            raw,
            position: Some(position),
            published,
            settle,
        }));
    }

    pub(crate) fn tell(&self, item: SourceItem) {
        self.sender.send(item).unwrap();
    }
}

#[async_trait]
impl EventSource for Feed {
    fn name(&self) -> &str {
        self.name
    }

    fn feed(&self) -> &str {
        &self.feed
    }

    fn origin(&self) -> Option<ClusterId> {
        self.origin.clone()
    }

    async fn open(&self, _floors: Vec<Position>) -> Result<BoxStream<'static, SourceItem>, SourceError> {
        let receiver = self.receiver.lock().take().expect("opened once");
        Ok(futures::stream::unfold(receiver, |mut receiver| async {
            receiver.recv().await.map(|item| (item, receiver))
        })
        .boxed())
    }

    fn tell_again(&self) {
        self.asked_again.fetch_add(1, Ordering::Relaxed);
    }

    fn report_settled(&self) -> bool {
        self.asked.as_ref().is_some_and(|asked| {
            asked.fetch_add(1, Ordering::Relaxed);
            true
        })
    }
}

pub(crate) fn at(sequence: u64) -> Position {
    Position { domain: Domain::new("feed"), epoch: 1, sequence }
}

pub(crate) fn at_in(domain: &str, sequence: u64) -> Position {
    Position { domain: Domain::new(domain), epoch: 1, sequence }
}

pub(crate) fn event(ty: &str, subject: &str) -> Event {
    let json = json!({"specversion": "1.0", "id": "10001", "source": "auth", "type": ty, "subject": subject});
    Event::from_json(json.to_string().as_bytes()).unwrap()
}

pub(crate) fn login(subject: &str) -> Event {
    event("auth.login", subject)
}

pub(crate) fn logout(subject: &str) -> Event {
    event("auth.logout", subject)
}

pub(crate) fn cluster(name: &str) -> ClusterId {
    ClusterId::new("civo", name).unwrap()
}

pub(crate) fn labelled(name: &str, env: &str) -> Cluster {
    Cluster::new(cluster(name), [("env", env)])
}

pub(crate) fn object(name: &str) -> ObjectRef {
    let manifest = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}});
    Manifest::new(manifest).unwrap().id().clone()
}

pub(crate) fn template(text: &str) -> Payload {
    Payload::Template(TemplateSource::manifests("ConfigMap default/names, key names", text))
}

pub(crate) fn source() -> SourceDef {
    SourceDef { max_event_bytes: 2048, ..SourceDef::new("users") }
}

/// The login story: login creates, logout deletes, in every production cluster.
pub(crate) fn trigger() -> TriggerDef {
    let production = LabelSelector::labels([("env", "production")]).unwrap();
    TriggerDef {
        action: Some(" $type\n".to_owned()),
        payload: vec![template("$subject")],
        ..TriggerDef::new("names", "users", production)
    }
}

/// A wall clock that goes with tokio's, which tests pause.
struct Virtual {
    began: tokio::time::Instant,
    at: Timestamp,
}

impl Virtual {
    fn start() -> Self {
        Self { began: tokio::time::Instant::now(), at: Timestamp::now() }
    }
}

impl Clock for Virtual {
    fn now(&self) -> Timestamp {
        self.at.checked_add(jiff::SignedDuration::try_from(self.began.elapsed()).unwrap()).unwrap()
    }
}

/// A running engine and its parts.
pub(crate) struct Rig {
    pub(crate) store: Arc<dyn WorkStore>,
    pub(crate) catalog: Arc<MemoryCatalog>,
    pub(crate) clusters: Arc<MemoryClusters>,
    /// Clusters of which was told that nothing is left in them, or because of them.
    pub(crate) withdrawn: Arc<Mutex<Vec<ClusterId>>>,
    pub(crate) applier: Arc<MemoryApplier>,
    pub(crate) source: Arc<MemorySource>,
    pub(crate) renders: Arc<Renders>,
    pub(crate) handle: Handle,
    pub(crate) stop: CancellationToken,
    pub(crate) engine: tokio::task::JoinHandle<()>,
}

/// Clusters that take note of what is said of them.
struct Noted {
    clusters: Arc<MemoryClusters>,
    withdrawn: Arc<Mutex<Vec<ClusterId>>>,
}

#[async_trait]
impl ClusterSelector for Noted {
    async fn subscribe(&self) -> Result<ClusterFeed, ClusterError> {
        self.clusters.subscribe().await
    }

    fn withdrawn(&self, cluster: &ClusterId) {
        self.withdrawn.lock().push(cluster.clone());
    }
}

/// What a rig is made of; the default is the login story with two production clusters and one staging cluster.
pub(crate) struct Setup {
    pub(crate) store: Arc<dyn WorkStore>,
    pub(crate) catalog: MemoryCatalog,
    pub(crate) clusters: MemoryClusters,
    pub(crate) objects: Arc<MemoryApplier>,
    /// Stands in front of `objects`, where a test needs it.
    pub(crate) applier: Option<Arc<dyn Applier>>,
    /// In place of [`Words`], where a test needs it.
    pub(crate) renderer: Option<Arc<dyn Renderer>>,
    pub(crate) environment: Environment,
    pub(crate) config: Config,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            store: Arc::new(MemoryStore::default()),
            catalog: MemoryCatalog::new([source()], [trigger()]),
            clusters: MemoryClusters::new([
                labelled("c1", "production"),
                labelled("c2", "production"),
                labelled("staging1", "staging"),
            ]),
            objects: Arc::default(),
            applier: None,
            renderer: None,
            environment: Environment { clock: Arc::new(Virtual::start()), ..Environment::default() },
            config: Config::default(),
        }
    }
}

impl Setup {
    pub(crate) fn start(self) -> Rig {
        let source = Arc::new(MemorySource::new("users"));
        let renders = Arc::<Renders>::default();
        let (catalog, clusters) = (Arc::new(self.catalog), Arc::new(self.clusters));
        let withdrawn = Arc::<Mutex<Vec<ClusterId>>>::default();
        let noted = Noted { clusters: Arc::clone(&clusters), withdrawn: Arc::clone(&withdrawn) };
        let parts = Parts {
            store: Arc::clone(&self.store),
            catalog: Arc::clone(&catalog) as _,
            clusters: Arc::new(noted),
            renderer: self.renderer.unwrap_or_else(|| Arc::new(Words { renders: Arc::clone(&renders) })),
            applier: self.applier.unwrap_or_else(|| Arc::clone(&self.objects) as _),
            environment: self.environment,
        };
        let engine = Engine::new(parts, self.config);
        let handle = engine.handle();
        handle.attach(Arc::clone(&source) as _);
        let stop = CancellationToken::new();
        let engine = tokio::spawn(engine.run(stop.clone()));
        let (store, applier) = (self.store, self.objects);
        Rig { store, catalog, clusters, withdrawn, applier, source, renders, handle, stop, engine }
    }
}

impl Rig {
    /// The names of what is in a cluster, in order.
    pub(crate) fn names(&self, name: &str) -> Vec<String> {
        let objects = self.applier.objects(&cluster(name));
        let names: BTreeSet<_> = objects.keys().map(|id| id.name.to_string()).collect();
        names.into_iter().collect()
    }

    pub(crate) async fn until_names(&self, name: &str, expected: &[&str]) {
        until(&format!("{name} holds {expected:?}"), async || self.names(name) == expected).await;
    }

    pub(crate) async fn applied(&self) -> Vec<AppliedWork> {
        let mut all = Vec::new();
        for work in self.store.works(None, None, 10_000).await.unwrap() {
            let applied = self.store.applied(&work.value.id).await.unwrap();
            all.extend(applied.into_iter().map(|stored| (*stored.value).clone()));
        }
        all
    }

    pub(crate) async fn works(&self) -> Vec<WorkId> {
        let works = self.store.works(None, None, 10_000).await.unwrap();
        works.into_iter().map(|stored| stored.value.id.clone()).collect()
    }

    /// Waits until every record is as the test wants it, and there is one.
    pub(crate) async fn until_states(&self, what: &str, wanted: impl Fn(&AppliedState) -> bool) {
        until(what, async || {
            let applied = self.applied().await;
            !applied.is_empty() && applied.iter().all(|applied| wanted(&applied.state))
        })
        .await;
    }

    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.engine.await.unwrap();
    }
}

/// Waits for a condition. Time is virtual in these tests: pauses between tries take none.
pub(crate) async fn until(what: &str, condition: impl AsyncFn() -> bool) {
    for _ in 0..60_000 {
        if condition().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never came true: {what}");
}
