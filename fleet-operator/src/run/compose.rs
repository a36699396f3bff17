//! Composing the engine with its parts, running and stopping them all.

use std::sync::Arc;

use fleet_core::directory::DirectoryApplier;
use fleet_core::engine::{Config, Engine, Parts};
use fleet_core::environment::Environment;
use fleet_core::languages::Languages;
use fleet_kube::agent::Relay;
use fleet_kube::catalog::Holding;
use fleet_kube::clusters::Clusters;
use fleet_kube::connection::ClusterDefinition;
use fleet_kube::definitions::Definitions;
use fleet_kube::helm::HelmSetup;
use fleet_kube::leader::Tenure;
use fleet_nats::connection::Connections;
use futures::FutureExt;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::answers::Running;
use super::cluster_feeds::ClusterFeeds;
use super::definitions::{Around, Base, Origin};
use super::fleet::{Driven, Inventory};
use super::relayed::RelayedFeeds;
use super::route::{Leads, Routed};
use super::sources::{Readers, Sources};
use super::{Site, StartError, store, with_management};
use crate::control::Control;
use crate::http::Server;
use crate::show;

/// All parts of an operator that is about to run.
pub(super) struct Composed {
    engine: Engine,
    control: Control,
    running: Arc<Running>,
    origin: Origin,
    sources: Sources,
    cluster_feeds: ClusterFeeds,
    /// What agents hand on, if this is their hub.
    relayed: Option<RelayedFeeds>,
    /// What is handed on to the hub, if this is an agent.
    relay: Option<Relaying>,
    connections: Connections,
    definitions: watch::Receiver<Option<Arc<Definitions>>>,
    inventory: Inventory,
    clusters: Arc<Clusters>,
    applier: Arc<Routed>,
    management: Option<ClusterDefinition>,
}

/// What an agent reads for the hub.
struct Relaying {
    relay: Arc<Relay>,
    definitions: watch::Receiver<Option<Arc<Definitions>>>,
    sources: Sources,
    cluster_feeds: ClusterFeeds,
}

impl Composed {
    /// Opens and connects everything. With a tenure, nothing is applied once that does not hold any more.
    pub(super) async fn new(site: &Site, tenure: Option<Tenure>) -> Result<Self, StartError> {
        let Site { options, base, data, intake, health, .. } = site;
        let unusable = |source| StartError::Data { path: options.data.clone(), source };
        let store = store::open(&site.store, data).await?;
        let folders = DirectoryApplier::new(data.clusters()).map_err(unusable)?;
        let control = Control::bind(data.root()).map_err(unusable)?;
        let leads: Leads = match tenure {
            Some(tenure) => Arc::new(move || tenure.holds()),
            None => Arc::new(|| true),
        };
        let works = Arc::clone(&store);
        let management = base.management(options)?;
        let holding = Holding {
            management: management.as_ref().map(|it| it.id.clone()),
            withdraw_timeout: options.withdraw_timeout,
            leads: Arc::clone(&leads),
            remains: Arc::new(move |cluster| {
                let works = Arc::clone(&works);
                async move { show::remains(&*works, &cluster).await }.boxed()
            }),
        };
        let origin = Origin::open(base, options, holding)?;
        let catalog = origin.catalog();
        let (clusters, inventory) = (Arc::new(Clusters::new()), Inventory::default());
        let mut protected = options.protect_namespaces.clone();
        protected.push(options.namespace.clone());
        let (program, mirrors) = (options.helm.clone(), options.chart_mirrors.clone());
        let helm = HelmSetup { program, mirrors, ..HelmSetup::new(data.helm()) };
        let applier = Arc::new(Routed::new(Arc::clone(&clusters), folders, helm, protected, leads));
        let parts = Parts {
            store: Arc::clone(&store),
            catalog: Arc::clone(&catalog) as _,
            clusters: Arc::new(inventory.fleet(&clusters)),
            renderer: Arc::new(Languages),
            applier: Arc::clone(&applier) as _,
            environment: Environment::default(),
        };
        let config = Config {
            max_withdraw_percent: options.max_withdraw_percent,
            // The rest of the time is the HTTP server's, which stops first.
            drain_deadline: options.drain - options.drain / 4,
            ..Config::default()
        };
        let engine = Engine::new(parts, config);
        let handle = engine.handle();
        health.runs(handle.clone(), origin.troubles());
        let definitions = origin.definitions();
        let running = Arc::new(Running {
            store,
            definitions: definitions.clone(),
            catalog: Arc::clone(&catalog),
            troubles: origin.troubles(),
            clusters: Arc::clone(&clusters),
            agents: origin.agents(base),
            engine: handle.clone(),
            management: management.clone(),
        });
        let connections = Connections::new();
        let relayed = match base {
            Base::Management(hub) => Some(RelayedFeeds::new(handle.clone(), hub.clone())),
            Base::Folder(_) | Base::Agent(_) => None,
        };
        let read_by = |readers: Readers, intake| {
            let feeds = ClusterFeeds::new(readers.clone(), Arc::clone(&clusters), connections.clone());
            (Sources::new(readers, intake, connections.clone()), feeds)
        };
        let (sources, cluster_feeds) = read_by(Readers::Engine { engine: handle, catalog }, intake.clone());
        let relay = origin.relay(&running.store).map(|(relay, definitions)| {
            let (sources, cluster_feeds) = read_by(Readers::Relay(Arc::clone(&relay)), intake.second());
            Relaying { relay, definitions, sources, cluster_feeds }
        });
        Ok(Self {
            engine,
            control,
            running,
            origin,
            sources,
            cluster_feeds,
            relayed,
            relay,
            connections,
            definitions,
            inventory,
            clusters,
            applier,
            management,
        })
    }

    /// Runs until `shutdown`: then stops taking events, lets what is under way come to its end, and gives back the rest.
    pub(super) async fn run(self, served: Served, shutdown: CancellationToken) {
        let Self {
            engine,
            control,
            running,
            origin,
            sources,
            cluster_feeds,
            relayed,
            relay,
            connections,
            definitions,
            inventory,
            clusters,
            applier,
            management,
        } = self;
        let tasks = TaskTracker::new();
        let around = Around {
            clusters: Arc::clone(&clusters),
            store: Arc::clone(&running.store),
            catalog: Arc::clone(&running.catalog),
            relay: relay.as_ref().map(|relaying| Arc::clone(&relaying.relay)),
        };
        tasks.spawn(control.run(running, shutdown.clone()));
        tasks.spawn(origin.follow(around, shutdown.clone()));
        tasks.spawn(cluster_feeds.run(definitions.clone(), shutdown.clone()));
        if let Some(relayed) = relayed {
            tasks.spawn(relayed.run(definitions.clone(), shutdown.clone()));
        }
        if let Some(Relaying { definitions, sources, cluster_feeds, .. }) = relay {
            tasks.spawn(cluster_feeds.run(definitions.clone(), shutdown.clone()));
            tasks.spawn(follow_sources(definitions, sources, shutdown.clone()));
        }
        tasks.spawn(follow(
            definitions,
            inventory,
            (clusters, management),
            applier,
            sources,
            shutdown.clone(),
        ));
        // The engine outlives the server, so that requests under way are still answered.
        let engine_stop = CancellationToken::new();
        let stop_engine = engine_stop.clone();
        let stopping = shutdown.clone();
        tasks.spawn(async move {
            stopping.cancelled().await;
            served.stop().await;
            stop_engine.cancel();
        });
        engine.run(engine_stop).await;
        shutdown.cancel();
        tasks.close();
        tasks.wait().await;
        connections.closed().await;
    }
}

/// The HTTP server at work.
pub(super) struct Served {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Served {
    pub(super) fn spawn(server: Server) -> Self {
        let stop = CancellationToken::new();
        Self { task: tokio::spawn(server.run(stop.clone())), stop }
    }

    /// Takes no more requests, and waits for those under way.
    pub(super) async fn stop(self) {
        self.stop.cancel();
        let _ = self.task.await;
    }
}

/// Has an agent read for the hub what its definitions say.
async fn follow_sources(
    mut definitions: watch::Receiver<Option<Arc<Definitions>>>,
    mut sources: Sources,
    shutdown: CancellationToken,
) {
    loop {
        let now = definitions.borrow_and_update().clone();
        if let Some(now) = now {
            sources.follow(&now);
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            changed = definitions.changed() => if changed.is_err() { return },
        }
    }
}

/// Hands definitions on to whoever acts on them beside the engine.
async fn follow(
    mut definitions: watch::Receiver<Option<Arc<Definitions>>>,
    mut inventory: Inventory,
    (clusters, management): (Arc<Clusters>, Option<ClusterDefinition>),
    applier: Arc<Routed>,
    mut sources: Sources,
    shutdown: CancellationToken,
) {
    loop {
        let now = definitions.borrow_and_update().clone();
        if let Some(now) = now {
            let Driven { all, leaving } = inventory.take(&now);
            applier.note(&leaving);
            let all = with_management(&all, management.as_ref());
            applier.note(&all);
            clusters.update_all(all, leaving);
            sources.follow(&now);
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            changed = definitions.changed() => if changed.is_err() { return },
        }
    }
}
