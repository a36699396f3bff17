//! The operator: composes definitions, clusters, sources, the database and the engine, runs them and stops them.

mod agent;
mod answers;
mod cluster_feeds;
mod compose;
mod data;
mod definitions;
mod fleet;
mod leading;
mod look;
mod management;
mod metrics;
mod relayed;
mod route;
mod sources;
mod store;
mod transport;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use fleet_core::redb::OpenError;
use fleet_kube::definitions::Family;
use fleet_kube::helm::Mirror;
use fleet_kube::leader::{Election, Lost};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

pub use self::agent::AgentOptions;
pub use self::answers::without_operator;
pub use self::data::DataFolder;
pub use self::leading::LeaderElection;
pub use self::look::{LiveClusters, LookError, definitions_of_management, resources_of_management};
pub use self::management::{ManagementError, connect as connect_management, with_management};
pub use self::store::{StoreKind, open_to_read};

use self::compose::{Composed, Served};
use self::definitions::Base;
use self::metrics::OperatorHealth;
use crate::http::{Access, AccessError, AccessOptions, Intake, Limits, Server};

/// What an operator is started with.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where definitions come from, and what is managed.
    pub on: RunsOn,
    /// Whose kinds definitions are, in a management cluster.
    pub api: Family,
    /// Where HTTP is served.
    pub listen: SocketAddr,
    /// Who may send events there, and over what.
    pub access: AccessOptions,
    /// The data folder.
    pub data: PathBuf,
    /// Where Works are kept.
    pub store: StoreKind,
    /// The operator's own namespace in the management cluster, for its Lease and its Works.
    pub namespace: String,
    /// How it comes to run where others wait to; `None`: it runs at once.
    pub leader_election: Option<LeaderElection>,
    /// The share of all Works, in percent, that may be withdrawn at once without being confirmed.
    pub max_withdraw_percent: usize,
    /// Namespaces that are never deleted in any cluster, beside the operator's own and Kubernetes'.
    pub protect_namespaces: Vec<String>,
    /// The helm program, 4 or 3: a path, or a name that is looked for in `PATH`.
    pub helm: PathBuf,
    /// Where charts are pulled from instead of their repositories.
    pub chart_mirrors: Vec<Mirror>,
    /// How long a Cluster that is deleted is held back while what is in it cannot be withdrawn.
    pub withdraw_timeout: Duration,
    /// An agent that has not been heard of for so long counts as silent.
    pub agent_silent_after: Duration,
    /// How long stopping may take until what is in flight is cut off; a few seconds more for what is given back then.
    pub drain: Duration,
}

/// Where definitions come from, and what is managed.
#[derive(Clone, Debug)]
pub enum RunsOn {
    /// A folder of manifests.
    Folder(PathBuf),
    /// The management cluster.
    Management,
    /// The one cluster that an agent runs in, with definitions from the hub.
    Agent(AgentOptions),
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
    /// Another operator has the data folder.
    #[error(
        "the data folder {} is in use by another operator; stop that one, or choose another --data folder",
        path.display()
    )]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// The database cannot be used.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// The management cluster cannot keep Works.
    #[error("Works cannot be kept in the management cluster (--store kubernetes)")]
    KubeStore(#[from] fleet_kube::store::OpenError),
    /// The management cluster cannot be used.
    #[error(transparent)]
    Management(#[from] ManagementError),
    /// Sveltos' own controllers run, or nobody knows whether they do.
    #[error("--api sveltos acts on the objects that Sveltos' own controllers act on: {reason}")]
    BesideSveltos {
        /// Which run, or why that cannot be told, and what to do.
        reason: String,
    },
    /// There is no management cluster to keep Works in.
    #[error(
        "--store kubernetes keeps Works in the management cluster, and an operator that runs on a folder has none; \
         leave the folder out, or use --store file"
    )]
    StoreNeedsManagement,
    /// There is no management cluster to be elected on.
    #[error(
        "--leader-elect needs a management cluster, where the Lease is kept, and an operator that runs on a folder has \
         none; leave one of them out"
    )]
    ElectionNeedsManagement,
    /// A leader could not go on with what the one before it did.
    #[error(
        "--leader-elect needs --store kubernetes: with --store file, what an operator has stored lies in its own data \
         folder, where the next leader cannot go on with it"
    )]
    ElectionNeedsSharedStore,
    /// The Lease cannot be named so.
    #[error("no leader can be elected; correct --namespace or --lease-name")]
    Lease(#[from] fleet_kube::leader::NameError),
    /// It cannot be told who may send events.
    #[error(
        "it cannot be told who may send events over HTTP; correct the files of --tls-cert, --tls-key, --client-ca or --token-file"
    )]
    Access(#[from] AccessError),
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

/// Why an operator that was not asked to stop ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// It came to lead, and could not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// It does not lead any more, and ended at once, for another one may do now.
    #[error(
        "stopped at once, because the leadership was lost (Lease {lease}): start it again to wait for it"
    )]
    Lost {
        /// The Lease.
        lease: String,
        /// How.
        #[source]
        lost: Lost,
    },
}

/// An operator that is ready to run, or to wait until it leads.
pub struct Operator {
    site: Site,
    server: Server,
    stage: Stage,
}

/// What everything in an operator is composed with.
struct Site {
    options: Options,
    base: Base,
    store: store::Place,
    data: DataFolder,
    _owned: data::Owned,
    intake: Intake,
    health: Arc<OperatorHealth>,
}

enum Stage {
    Runs(Box<Composed>),
    Waits(Box<Election>, String),
}

impl Operator {
    /// Takes what an operator needs. No event is taken before [`run`](Self::run); and where a leader is elected, nothing is
    /// read or written before it leads.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(options: &Options) -> Result<Self, StartError> {
        let data = DataFolder::at(&options.data);
        let unusable = |source| StartError::Data { path: options.data.clone(), source };
        data.make().map_err(unusable)?;
        let owned = data.own().map_err(|error| match error.kind() {
            std::io::ErrorKind::WouldBlock => StartError::InUse { path: options.data.clone() },
            _ => unusable(error),
        })?;
        let base = Base::of(&options.on).await?;
        if let (Family::Sveltos, Base::Management(client)) = (options.api, &base) {
            management::refuse_beside_sveltos(client).await?;
        }
        let store = store::Place::of(options.store, &options.namespace, &base)?;
        let election = match (&options.leader_election, &base, &store) {
            (None, ..) => None,
            (Some(_), Base::Folder(_) | Base::Agent(_), _) => {
                return Err(StartError::ElectionNeedsManagement);
            }
            (Some(_), _, store::Place::File) => return Err(StartError::ElectionNeedsSharedStore),
            (Some(how), Base::Management(client), _) => {
                let lease = format!("{}/{}", options.namespace, how.lease);
                Some((how.candidate(client.clone(), &options.namespace)?, lease))
            }
        };
        let intake = Intake::default();
        let standing = election.as_ref().map(|(election, _)| election.standing());
        let health = Arc::new(OperatorHealth::new(standing));
        let limits = Limits { stop: options.drain / 4, ..Limits::default() };
        let access = Access::open(&options.access)?;
        if let Some(caution) = options.access.caution(options.listen) {
            tracing::warn!("http at {}: {caution}", options.listen);
        }
        let server = Server::bind(options.listen, intake.clone(), access, Arc::clone(&health) as _, limits)
            .await
            .map_err(|source| StartError::Listen { address: options.listen, source })?;
        let site = Site { options: options.clone(), base, store, data, _owned: owned, intake, health };
        let stage = match election {
            Some((election, lease)) => Stage::Waits(Box::new(election), lease),
            None => Stage::Runs(Box::new(Composed::new(&site, None).await?)),
        };
        Ok(Self { site, server, stage })
    }

    /// Where HTTP is served.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.server.address()
    }

    /// Runs until `shutdown`: then takes no more events, lets what is under way come to its end, and returns. Where a
    /// leader is elected, it waits first until it leads.
    ///
    /// # Errors
    /// When it ends without having been asked to. Then it has stopped at once: drop the runtime that it ran in.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), RunError> {
        let Self { site, server, stage } = self;
        // Health is served also while it waits.
        let served = Served::spawn(server);
        let (election, lease) = match stage {
            Stage::Runs(composed) => {
                composed.run(served, shutdown).await;
                return Ok(());
            }
            Stage::Waits(election, lease) => (election, lease),
        };
        let _logs = AbortOnDropHandle::new(tokio::spawn(leading::log(lease.clone(), election.standing())));
        let Some(leadership) = shutdown.run_until_cancelled(election.acquire()).await else {
            served.stop().await;
            return Ok(());
        };
        tracing::info!("leading: this operator holds Lease {lease}");
        let lead = async {
            let composed = Composed::new(&site, Some(leadership.tenure()));
            if let Some(composed) = shutdown.run_until_cancelled(composed).await {
                composed?.run(served, shutdown).await;
            }
            Ok::<_, StartError>(())
        };
        let done = tokio::select! {
            lost = leadership.lost() => return Err(RunError::Lost { lease, lost }),
            done = lead => done,
        };
        // Last: whoever leads next must not meet anything of this one.
        if let Err(error) = leadership.release().await {
            tracing::warn!("Lease {lease}: {error}");
        }
        Ok(done?)
    }
}
