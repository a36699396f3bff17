//! From a NATS message to an object on a real API server: the whole path with each kind of store, next to a bare loop
//! that receives a message and creates an object. They take turns, so that their ratios hold while the machine drifts.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fleet_core::memory::MemoryStore;
use fleet_core::redb::RedbStore;
use fleet_core::store::WorkStore;
use fleet_kube::client::ClusterClient;
use fleet_kube::store::KubeStore;
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::PostParams;
use kube::{Api, ResourceExt};
use local_fleet::{Cluster, ClusterOptions, Lab, NatsOptions, Route};

use crate::Failure;
use crate::bare::config;
use crate::engine::NAMESPACE as TEMPLATE;
use crate::fleet::{Fleet, IN_FLIGHT, NAMESPACE};
use crate::parts::{login, trigger};
use crate::table::{line, median, millis, percentile, rate};

/// How often they take turns with a burst; the median counts.
const ROUNDS: usize = 5;

/// How long it is quiet between two events.
const QUIET: Duration = Duration::from_millis(10);

/// Whose turn it is: the floor's, or a store's. None always follows the same one.
fn at_turn(turn: usize, all: &mut [Measured]) -> Option<&mut Measured> {
    (turn % (all.len() + 1)).checked_sub(1).and_then(|place| all.get_mut(place))
}

/// One kind of store, and what was measured with it.
struct Measured {
    store: &'static str,
    fleet: Fleet,
    latencies: Vec<Duration>,
    /// Of its rates to those of the floor.
    ratios: Vec<f64>,
}

pub(crate) async fn measure(events: usize, burst: usize) -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let lab = Lab::builder()
        .management(true)
        .clusters(1)
        .cluster_options(ClusterOptions::default().controller_manager(false))
        .nats(NatsOptions::default())
        .start_scratch()
        .await?;
    let nats = lab.nats().ok_or("the lab has no NATS")?.url(Route::Direct);
    let cluster = lab.clusters().first().ok_or("the lab has no cluster")?;
    let management = lab.management().ok_or("the lab has no management cluster")?;
    let stores: [(&str, Arc<dyn WorkStore>); 3] = [
        ("memory", Arc::new(MemoryStore::default())),
        ("file", Arc::new(RedbStore::open(&folder.path().join("fleet.redb"))?)),
        ("kubernetes", Arc::new(in_kubernetes(management).await?)),
    ];
    let mut floor = Floor::start(&nats, &cluster.kubeconfig()?).await?;
    let mut all = Vec::new();
    for (store, opened) in stores {
        let fleet = Fleet::start(&nats, store, lab.clusters(), opened, trigger(TEMPLATE)).await?;
        all.push(Measured { store, fleet, latencies: Vec::new(), ratios: Vec::new() });
    }

    let mut bare = Vec::new();
    // The first ones open connections.
    let warm = events / 10;
    for number in 0..events + warm {
        for turn in 0..=all.len() {
            // What the one before has still to write down is not to count.
            tokio::time::sleep(QUIET).await;
            let (latencies, took) = match at_turn(number + turn, &mut all) {
                None => (&mut bare, floor.one(&format!("floor-{number}")).await?),
                Some(Measured { store, fleet, latencies, .. }) => {
                    (latencies, fleet.one(&format!("{store}-{number}")).await?)
                }
            };
            if number >= warm {
                latencies.push(took);
            }
        }
    }
    for percent in [50, 99] {
        let bare = percentile(&mut bare, percent);
        for Measured { store, latencies, .. } in &mut all {
            let whole = percentile(latencies, percent);
            let ratio = whole.as_secs_f64() / bare.as_secs_f64();
            line(
                &format!("event to object, p{percent}: bare loop / fleet with {store} store / ratio"),
                format!("{} / {} / {ratio:.2}", millis(bare), millis(whole)),
            );
        }
    }
    for round in 0..ROUNDS {
        let bare = floor.burst(&format!("floor-burst{round}"), burst).await?;
        for Measured { store, fleet, ratios, .. } in &mut all {
            let whole = fleet.burst(&format!("{store}-burst{round}"), burst).await?;
            line(
                &format!("throughput at {IN_FLIGHT} in flight: bare loop / fleet with {store} store / ratio"),
                format!("{bare:.0} / {whole:.0} /s / {:.2}", whole / bare),
            );
            ratios.push(whole / bare);
        }
    }
    for Measured { store, fleet, ratios, .. } in all {
        line(&format!("throughput with {store} store, median ratio"), format!("{:.2}", median(ratios)));
        fleet.stop().await;
    }
    lab.stop().await?;
    Ok(())
}

/// A store of objects in a management cluster, which is a second API server on the same machine and the same etcd.
async fn in_kubernetes(management: &Cluster) -> Result<KubeStore, Failure> {
    let config = config(&management.kubeconfig()?).await?;
    let client = ClusterClient::new(config)?;
    install(&client.api()).await?;
    // Where the Cluster would be, and so the records of what was done in it.
    Floor::create(&Api::all(client.api()), NAMESPACE).await?;
    Ok(KubeStore::open(client, "fleet").await?)
}

/// Installs our kinds, and waits until the API server serves them.
async fn install(client: &kube::Client) -> Result<(), Failure> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    for definition in fleet_kube::api::crds() {
        let name = definition.name_any();
        api.create(&PostParams::default(), &definition).await?;
        let established = |definition: CustomResourceDefinition| {
            let conditions = definition.status.and_then(|status| status.conditions).unwrap_or_default();
            conditions.iter().any(|condition| condition.type_ == "Established" && condition.status == "True")
        };
        while !established(api.get(&name).await?) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
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
        let config = config(kubeconfig).await?;
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
