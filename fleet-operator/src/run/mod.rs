//! The operator: composes definitions, clusters, sources, the database and the engine, runs them and stops them.

mod answers;
mod data;
mod definitions;
mod management;
mod metrics;
mod route;
mod sources;
mod transport;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use fleet_core::directory::DirectoryApplier;
use fleet_core::engine::{Config, Engine, Parts};
use fleet_core::environment::Environment;
use fleet_core::minijinja::MinijinjaRenderer;
use fleet_core::redb::{OpenError, RedbStore};
use fleet_core::store::WorkStore;
use fleet_kube::clusters::Clusters;
use fleet_kube::connection::ClusterDefinition;
use fleet_kube::definitions::Definitions;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use self::answers::without_operator;
pub use self::data::DataFolder;
pub use self::management::{ManagementError, connect as connect_management};

use self::answers::Running;
use self::definitions::Origin;
use self::metrics::EngineHealth;
use self::route::Routed;
use self::sources::Sources;
use crate::control::Control;
use crate::http::{Intake, Limits, Server};

/// What an operator is started with.
#[derive(Clone, Debug)]
pub struct Options {
    /// The folder of manifests; `None`: definitions come from the management cluster.
    pub folder: Option<PathBuf>,
    /// Where HTTP is served.
    pub listen: SocketAddr,
    /// The data folder.
    pub data: PathBuf,
    /// The share of all Works, in percent, that may be withdrawn at once without being confirmed.
    pub max_withdraw_percent: usize,
}

/// Why an operator could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The data folder cannot be used.
    #[error("the data folder {} cannot be used; choose another with --data", path.display())]
    Data {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The database cannot be used.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// The management cluster cannot be used.
    #[error(transparent)]
    Management(#[from] ManagementError),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}; choose another address with --listen")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// An operator that is ready to run: it has its database, its port and its definitions.
pub struct Operator {
    engine: Engine,
    server: Server,
    control: Control,
    running: Arc<Running>,
    origin: Origin,
    sources: Sources,
    definitions: watch::Receiver<Option<Arc<Definitions>>>,
    clusters: Arc<Clusters>,
    applier: Arc<Routed>,
}

impl Operator {
    /// Takes what an operator needs. No event is taken before [`run`](Self::run).
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(options: &Options) -> Result<Self, StartError> {
        let data = DataFolder::at(&options.data);
        let unusable = |source| StartError::Data { path: options.data.clone(), source };
        data.make().map_err(unusable)?;
        // Whoever has the database is the only operator here.
        let store: Arc<dyn WorkStore> = Arc::new(RedbStore::open(&data.database())?);
        let folders = DirectoryApplier::new(data.clusters()).map_err(unusable)?;
        let control = Control::bind(data.root()).map_err(unusable)?;
        let origin = Origin::open(options).await?;
        let catalog = origin.catalog();
        let clusters = Arc::new(Clusters::new());
        let applier = Arc::new(Routed::new(Arc::clone(&clusters), folders));
        let mut config = Config::default();
        let parts = Parts {
            store: Arc::clone(&store),
            catalog: Arc::clone(&catalog) as _,
            clusters: Arc::clone(&clusters) as _,
            renderer: Arc::new(MinijinjaRenderer),
            applier: Arc::clone(&applier) as _,
            environment: Environment::default(),
        };
        config.max_withdraw_percent = options.max_withdraw_percent;
        let engine = Engine::new(parts, config);
        let handle = engine.handle();
        let intake = Intake::default();
        let health = Arc::new(EngineHealth::of(handle.clone(), origin.troubles()));
        let server = Server::bind(options.listen, intake.clone(), health, Limits::default())
            .await
            .map_err(|source| StartError::Listen { address: options.listen, source })?;
        let definitions = origin.definitions();
        let running = Running {
            store,
            definitions: definitions.clone(),
            catalog: Arc::clone(&catalog),
            troubles: origin.troubles(),
            clusters: Arc::clone(&clusters),
            engine: handle.clone(),
        };
        let sources = Sources::new(handle, intake, catalog);
        Ok(Self {
            engine,
            server,
            control,
            running: Arc::new(running),
            origin,
            sources,
            definitions,
            clusters,
            applier,
        })
    }

    /// Where HTTP is served.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.server.address()
    }

    /// Runs until `shutdown`: then takes no more events, lets what is under way come to its end, and returns.
    pub async fn run(self, shutdown: CancellationToken) {
        let Self { engine, server, control, running, origin, sources, definitions, clusters, applier } = self;
        let tasks = TaskTracker::new();
        tasks.spawn(control.run(running, shutdown.clone()));
        tasks.spawn(origin.follow(Arc::clone(&clusters), shutdown.clone()));
        tasks.spawn(follow(definitions, clusters, applier, sources, shutdown.clone()));
        let served = tasks.spawn(server.run(shutdown.clone()));
        // The engine outlives the server, so that requests under way are still answered.
        let engine_stop = CancellationToken::new();
        let stop_engine = engine_stop.clone();
        tasks.spawn(async move {
            let _ = served.await;
            stop_engine.cancel();
        });
        engine.run(engine_stop).await;
        shutdown.cancel();
        tasks.close();
        tasks.wait().await;
    }
}

/// Hands definitions on to whoever acts on them beside the engine.
async fn follow(
    mut definitions: watch::Receiver<Option<Arc<Definitions>>>,
    clusters: Arc<Clusters>,
    applier: Arc<Routed>,
    mut sources: Sources,
    shutdown: CancellationToken,
) {
    let mut known: Vec<ClusterDefinition> = Vec::new();
    loop {
        let now = definitions.borrow_and_update().clone();
        if let Some(now) = now {
            let mut all = now.clusters.clone();
            if !now.catalog.complete {
                // What is missing is not gone.
                known.retain(|old| all.iter().all(|new| new.id != old.id));
                all.append(&mut known);
            }
            applier.note(&all);
            clusters.update(all.clone());
            known = all;
            sources.follow(&now);
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            changed = definitions.changed() => if changed.is_err() { return },
        }
    }
}
