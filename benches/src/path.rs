//! From a NATS message to an object on a real API server: the whole path with the file store, next to a bare loop that
//! receives a message and creates an object. The two take turns, so that their ratio holds while the machine drifts.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use fleet_core::apply::{Applier, ApplyRequest, Drift, Outcome, RemoveRequest};
use fleet_core::cluster::{ClusterId, Labels};
use fleet_core::engine::{Config, Engine, Handle, Parts};
use fleet_core::environment::Environment;
use fleet_core::memory::{MemoryCatalog, MemoryStore};
use fleet_core::minijinja::MinijinjaRenderer;
use fleet_core::redb::RedbStore;
use fleet_core::store::WorkStore;
use fleet_kube::applier::KubeApplier;
use fleet_kube::client::ClusterClient;
use fleet_kube::clusters::Clusters;
use fleet_kube::connection::{ClusterDefinition, Connection};
use fleet_nats::connection::{Connections, NatsConfig};
use fleet_nats::core::{CoreConfig, CoreSource};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::api::PostParams;
use local_fleet::{ClusterOptions, Lab, NatsOptions, Route};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::engine::NAMESPACE;
use crate::parts::{login, source, trigger};
use crate::table::{line, millis, percentile, rate};

type Failure = Box<dyn Error + Send + Sync>;

/// How often the two take turns with a burst; the median counts.
const ROUNDS: usize = 5;
/// How many objects are created at a time, here and there.
const IN_FLIGHT: usize = 32;
/// Longer than that nothing takes.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) async fn measure(events: usize, burst: usize, memory: bool) -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let lab = Lab::builder()
        .clusters(1)
        .cluster_options(ClusterOptions::default().controller_manager(false))
        .nats(NatsOptions::default())
        .start_scratch()
        .await?;
    let cluster = lab.clusters().first().ok_or("the lab has no cluster")?;
    let nats = lab.nats().ok_or("the lab has no NATS")?.url(Route::Direct).to_owned();
    let kubeconfig = cluster.kubeconfig()?;
    let store: Arc<dyn WorkStore> = if memory {
        Arc::new(MemoryStore::default())
    } else {
        Arc::new(RedbStore::open(&folder.path().join("fleet.redb"))?)
    };

    let mut floor = Floor::start(&nats, &kubeconfig).await?;
    let mut fleet = Fleet::start(&nats, kubeconfig, store).await?;

    let (mut bare, mut whole) = (Vec::new(), Vec::new());
    for number in 0..events {
        bare.push(floor.one(&format!("floor-{number}")).await?);
        whole.push(fleet.one(&format!("fleet-{number}")).await?);
    }
    // The first ones open connections.
    let warm = events / 10;
    let (bare, whole) = (bare.get_mut(warm..).unwrap_or_default(), whole.get_mut(warm..).unwrap_or_default());
    for percent in [50, 99] {
        let (bare, whole) = (percentile(bare, percent), percentile(whole, percent));
        let ratio = whole.as_secs_f64() / bare.as_secs_f64();
        line(
            &format!("event to object, p{percent}: bare loop / fleet / ratio"),
            format!("{} / {} / {ratio:.2}", millis(bare), millis(whole)),
        );
    }
    let mut ratios = Vec::new();
    for round in 0..ROUNDS {
        let bare = floor.burst(&format!("floor-burst{round}"), burst).await?;
        let whole = fleet.burst(&format!("fleet-burst{round}"), burst).await?;
        line(
            &format!("throughput at {IN_FLIGHT} in flight: bare loop / fleet / ratio"),
            format!("{bare:.0} / {whole:.0} /s / {:.2}", whole / bare),
        );
        ratios.push(whole / bare);
    }
    ratios.sort_by(f64::total_cmp);
    line("throughput, median ratio", format!("{:.2}", ratios.get(ROUNDS / 2).copied().unwrap_or_default()));
    fleet.stop().await;
    lab.stop().await?;
    Ok(())
}

/// Receives a message, and creates an object with a bare client.
struct Floor {
    client: async_nats::Client,
    messages: async_nats::Subscriber,
    api: Api<Namespace>,
}

impl Floor {
    async fn start(nats: &str, kubeconfig: &str) -> Result<Self, Failure> {
        let kubeconfig = kube::config::Kubeconfig::from_yaml(kubeconfig)?;
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await?;
        let client = async_nats::connect(nats).await?;
        let messages = client.subscribe("floor").await?;
        client.flush().await?;
        Ok(Self { client, messages, api: Api::all(ClusterClient::new(config)?.api()) })
    }

    async fn create(api: &Api<Namespace>, name: &str) -> Result<(), Failure> {
        let namespace: Namespace = serde_json::from_value(serde_json::json!({"metadata": {"name": name}}))?;
        api.create(&PostParams::default(), &namespace).await?;
        Ok(())
    }

    async fn one(&mut self, name: &str) -> Result<Duration, Failure> {
        let event = login(name).to_json().to_string();
        let began = Instant::now();
        self.client.publish("floor", event.into()).await?;
        let message = self.messages.next().await.ok_or("NATS is gone")?;
        let event: serde_json::Value = serde_json::from_slice(&message.payload)?;
        Self::create(&self.api, event.get("subject").and_then(|it| it.as_str()).unwrap_or_default()).await?;
        Ok(began.elapsed())
    }

    async fn burst(&mut self, prefix: &str, count: usize) -> Result<f64, Failure> {
        let began = Instant::now();
        for number in 0..count {
            let event = login(&format!("{prefix}-{number}")).to_json().to_string();
            self.client.publish("floor", event.into()).await?;
        }
        let api = self.api.clone();
        let messages = self.messages.by_ref().take(count).map(Ok::<_, Failure>);
        messages
            .try_for_each_concurrent(IN_FLIGHT, |message| {
                let api = api.clone();
                async move {
                    let event: serde_json::Value = serde_json::from_slice(&message.payload)?;
                    Self::create(&api, event.get("subject").and_then(|it| it.as_str()).unwrap_or_default())
                        .await
                }
            })
            .await?;
        Ok(rate(count, began.elapsed()))
    }
}

/// The whole of Fleet, in this process.
struct Fleet {
    client: async_nats::Client,
    applied: mpsc::UnboundedReceiver<Instant>,
    handle: Handle,
    stop: CancellationToken,
    running: tokio::task::JoinHandle<()>,
}

impl Fleet {
    async fn start(nats: &str, kubeconfig: String, store: Arc<dyn WorkStore>) -> Result<Self, Failure> {
        let clusters = Arc::new(Clusters::new());
        clusters.update(vec![ClusterDefinition {
            id: ClusterId::new("civo", "cluster1")?,
            labels: [("env".to_owned(), "production".to_owned())].into(),
            annotations: Labels::new(),
            connection: Connection::KubeconfigSecret {
                name: "the lab's kubeconfig".to_owned(),
                kubeconfig: Ok(kubeconfig.into()),
            },
        }]);
        let (told, applied) = mpsc::unbounded_channel();
        let parts = Parts {
            store,
            catalog: Arc::new(MemoryCatalog::new([source()], [trigger(NAMESPACE)])),
            clusters: Arc::clone(&clusters) as _,
            renderer: Arc::new(MinijinjaRenderer),
            applier: Arc::new(Timed { inner: KubeApplier::new(clusters), told }),
            environment: Environment::default(),
        };
        let config = Config { cluster_concurrency: IN_FLIGHT, ..Config::default() };
        let engine = Engine::new(parts, config);
        let handle = engine.handle();
        let stop = CancellationToken::new();
        let running = tokio::spawn(engine.run(stop.clone()));
        let (nats_config, core) = (NatsConfig::new([nats])?, CoreConfig::new(["fleet"]));
        handle.attach(Arc::new(CoreSource::new("user-operation", &Connections::new(), nats_config, core)));
        let client = async_nats::connect(nats).await?;
        let mut fleet = Self { client, applied, handle, stop, running };
        // A request to nobody is answered so: once it is not, the subscription is there.
        let deadline = Instant::now() + PATIENCE;
        while fleet.one_within("fleet-warm", Duration::from_millis(500)).await?.is_none() {
            if Instant::now() > deadline {
                return Err("the engine took no event".into());
            }
        }
        Ok(fleet)
    }

    async fn one(&mut self, name: &str) -> Result<Duration, Failure> {
        Ok(self.one_within(name, PATIENCE).await?.ok_or("an event was not applied in time")?)
    }

    async fn one_within(&mut self, name: &str, patience: Duration) -> Result<Option<Duration>, Failure> {
        let event = login(name).to_json().to_string();
        let began = Instant::now();
        self.client.publish("fleet", event.into()).await?;
        match tokio::time::timeout(patience, self.applied.recv()).await {
            Ok(at) => Ok(Some(at.ok_or("the engine is gone")? - began)),
            Err(_) => Ok(None),
        }
    }

    async fn burst(&mut self, prefix: &str, count: usize) -> Result<f64, Failure> {
        let began = Instant::now();
        for number in 0..count {
            let event = login(&format!("{prefix}-{number}")).to_json().to_string();
            self.client.publish("fleet", event.into()).await?;
        }
        let mut last = began;
        for _ in 0..count {
            let at = tokio::time::timeout(PATIENCE, self.applied.recv()).await?;
            last = at.ok_or("the engine is gone")?;
        }
        Ok(rate(count, last - began))
    }

    async fn stop(self) {
        self.handle.detach("user-operation");
        self.stop.cancel();
        // It has stopped, or panicked and said so.
        let _ = self.running.await;
    }
}

/// Tells when an object was there.
struct Timed {
    inner: KubeApplier,
    told: mpsc::UnboundedSender<Instant>,
}

#[async_trait]
impl Applier for Timed {
    async fn apply(&self, request: ApplyRequest) -> Vec<Outcome> {
        let outcomes = self.inner.apply(request).await;
        if outcomes.iter().all(|outcome| matches!(outcome, Outcome::Applied { .. })) {
            // Whoever measures may have gone.
            let _ = self.told.send(Instant::now());
        }
        outcomes
    }

    async fn remove(&self, request: RemoveRequest) -> Vec<Outcome> {
        self.inner.remove(request).await
    }

    fn settle_time(&self) -> Duration {
        self.inner.settle_time()
    }

    fn drift(&self, cluster: &ClusterId) -> BoxStream<'static, Drift> {
        self.inner.drift(cluster)
    }
}
