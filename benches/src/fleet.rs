//! The whole of Fleet in this process, with a store of any kind, between a NATS server and real API servers.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use fleet_core::apply::{Applier, ApplyRequest, Outcome, RemoveRequest};
use fleet_core::catalog::TriggerDef;
use fleet_core::cluster::{ClusterId, Labels};
use fleet_core::engine::{Config, Counters, Engine, Handle, Parts};
use fleet_core::environment::Environment;
use fleet_core::manifest::Gvk;
use fleet_core::memory::MemoryCatalog;
use fleet_core::minijinja::MinijinjaRenderer;
use fleet_core::observe::{Depth, Observation};
use fleet_core::store::WorkStore;
use fleet_kube::applier::KubeApplier;
use fleet_kube::clusters::Clusters;
use fleet_kube::connection::{ClusterDefinition, Connection};
use fleet_nats::connection::{Connections, NatsConfig};
use fleet_nats::core::{CoreConfig, CoreSource};
use futures::stream::BoxStream;
use local_fleet::Cluster;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::Failure;
use crate::parts::{login, source};
use crate::table::rate;

/// How many objects are created at a time in a cluster.
pub(crate) const IN_FLIGHT: usize = 32;
/// The namespace of the clusters.
pub(crate) const NAMESPACE: &str = "civo";
/// Longer than that nothing takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// The engine with all its parts.
pub(crate) struct Fleet {
    client: async_nats::Client,
    /// Where it listens.
    subject: String,
    applied: mpsc::UnboundedReceiver<Applied>,
    running: Running,
}

/// An engine that runs.
pub(crate) struct Running {
    pub(crate) handle: Handle,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Running {
    pub(crate) fn start(parts: Parts) -> Self {
        let config = Config { cluster_concurrency: IN_FLIGHT, ..Config::default() };
        let engine = Engine::new(parts, config);
        let (handle, stop) = (engine.handle(), CancellationToken::new());
        Self { handle, task: tokio::spawn(engine.run(stop.clone())), stop }
    }

    pub(crate) async fn stop(self) {
        self.handle.detach("user-operation");
        self.stop.cancel();
        // It has stopped, or panicked and said so.
        let _ = self.task.await;
    }
}

/// An object is in a cluster.
pub(crate) struct Applied {
    pub(crate) cluster: ClusterId,
    pub(crate) name: String,
    pub(crate) at: Instant,
}

impl Fleet {
    /// Starts it with these clusters, and waits until it has put an object into each.
    pub(crate) async fn start(
        nats: &str,
        subject: &str,
        clusters: &[Cluster],
        store: Arc<dyn WorkStore>,
        trigger: TriggerDef,
    ) -> Result<Self, Failure> {
        let registry = Arc::new(Clusters::new());
        let definitions = clusters.iter().map(|cluster| definition(cluster.name(), cluster.kubeconfig()?));
        registry.update(definitions.collect::<Result<_, Failure>>()?);
        let (told, applied) = mpsc::unbounded_channel();
        let parts = Parts {
            store,
            catalog: Arc::new(MemoryCatalog::new([source()], [trigger])),
            clusters: Arc::clone(&registry) as _,
            renderer: Arc::new(MinijinjaRenderer),
            applier: Arc::new(Timed { inner: KubeApplier::new(registry), told }),
            environment: Environment::default(),
        };
        let running = Running::start(parts);
        let (nats_config, core) = (NatsConfig::new([nats])?, CoreConfig::new([subject]));
        let source = CoreSource::new("user-operation", &Connections::new(), nats_config, core);
        running.handle.attach(Arc::new(source));
        let client = async_nats::connect(nats).await?;
        let mut fleet = Self { client, subject: subject.to_owned(), applied, running };
        // Core NATS has no subscription to wait for: until it is there, nothing comes of an event.
        let deadline = Instant::now() + PATIENCE;
        let mut warm = HashSet::new();
        while warm.len() < clusters.len() {
            if Instant::now() > deadline {
                return Err("the engine took no event".into());
            }
            if warm.is_empty() {
                fleet.publish(&format!("{subject}-warm")).await?;
            }
            if let Ok(applied) = tokio::time::timeout(Duration::from_millis(500), fleet.next()).await {
                warm.insert(applied?.cluster);
            }
        }
        Ok(fleet)
    }

    /// Publishes a login of this name, which becomes an object.
    pub(crate) async fn publish(&self, name: &str) -> Result<(), Failure> {
        let event = login(name).to_json().to_string();
        Ok(self.client.publish(self.subject.clone(), event.into()).await?)
    }

    /// The next object that is in a cluster.
    pub(crate) async fn next(&mut self) -> Result<Applied, Failure> {
        let next = tokio::time::timeout(PATIENCE, self.applied.recv());
        Ok(next.await.map_err(|_| "an event was not applied in time")?.ok_or("the engine is gone")?)
    }

    /// How long one event takes, with one cluster.
    pub(crate) async fn one(&mut self, name: &str) -> Result<Duration, Failure> {
        let began = Instant::now();
        self.publish(name).await?;
        Ok(self.applied(name).await? - began)
    }

    /// When the object of this name is there, with one cluster.
    pub(crate) async fn applied(&mut self, name: &str) -> Result<Instant, Failure> {
        loop {
            // What was there before may be applied once more.
            let applied = self.next().await?;
            if applied.name == name {
                return Ok(applied.at);
            }
        }
    }

    /// Events a second, of so many at once, with one cluster.
    pub(crate) async fn burst(&mut self, prefix: &str, count: usize) -> Result<f64, Failure> {
        let mut missing: HashSet<String> = (0..count).map(|number| format!("{prefix}-{number}")).collect();
        let began = Instant::now();
        for number in 0..count {
            self.publish(&format!("{prefix}-{number}")).await?;
        }
        let mut last = began;
        while !missing.is_empty() {
            let applied = self.next().await?;
            if missing.remove(&applied.name) {
                last = applied.at;
            }
        }
        Ok(rate(count, last - began))
    }

    /// What the engine has counted.
    pub(crate) fn counters(&self) -> Arc<Counters> {
        self.running.handle.counters()
    }

    pub(crate) async fn stop(self) {
        self.running.stop().await;
    }
}

/// A cluster of the lab, in production.
pub(crate) fn definition(name: &str, kubeconfig: String) -> Result<ClusterDefinition, Failure> {
    Ok(ClusterDefinition {
        id: ClusterId::new(NAMESPACE, name)?,
        labels: [("env".to_owned(), "production".to_owned())].into(),
        annotations: Labels::new(),
        resolve: Vec::new(),
        connection: Connection::KubeconfigSecret {
            name: "the lab's kubeconfig".to_owned(),
            kubeconfig: Ok(kubeconfig.into()),
        },
    })
}

/// Tells when an object was there.
struct Timed {
    inner: KubeApplier,
    told: mpsc::UnboundedSender<Applied>,
}

#[async_trait]
impl Applier for Timed {
    async fn apply(&self, request: ApplyRequest) -> Vec<Outcome> {
        let cluster = request.cluster.id.clone();
        let name = request.manifests.first().map(|manifest| manifest.id().name.to_string());
        let outcomes = self.inner.apply(request).await;
        if outcomes.iter().all(|outcome| matches!(outcome, Outcome::Applied(_))) {
            let applied = Applied { cluster, name: name.unwrap_or_default(), at: Instant::now() };
            // Whoever measures may have gone.
            let _ = self.told.send(applied);
        }
        outcomes
    }

    async fn remove(&self, request: RemoveRequest) -> Vec<Outcome> {
        self.inner.remove(request).await
    }

    fn settle_time(&self) -> Duration {
        self.inner.settle_time()
    }

    fn observe(&self, cluster: &ClusterId, kind: &Gvk, depth: Depth) -> BoxStream<'static, Observation> {
        self.inner.observe(cluster, kind, depth)
    }
}
