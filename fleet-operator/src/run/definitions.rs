//! Where definitions come from, and what the engine says of them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use fleet_core::catalog::{Catalog, CatalogError, CatalogSnapshot, Condition, Subject};
use fleet_core::languages::Languages;
use fleet_core::resource::ResourceId;
use fleet_core::store::WorkStore;
use fleet_kube::agent::{AgentNews, Agents, Mirrored, Relay};
use fleet_kube::catalog::{Holding, KubeCatalog};
use fleet_kube::client::ClusterClient;
use fleet_kube::clusters::Clusters;
use fleet_kube::connection::ClusterDefinition;
use fleet_kube::definitions::Definitions;
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::agent::{AgentBase, FromHub};
use super::management::{self, ManagementError};
use super::{Options, RunsOn, StartError};
use crate::folder::{Folder, Follower};

/// What an operator runs on.
pub(super) enum Base {
    /// A folder of manifests.
    Folder(PathBuf),
    /// A management cluster.
    Management(ClusterClient),
    /// An agent's own cluster, and the hub.
    Agent(Box<AgentBase>),
}

impl Base {
    pub(super) async fn of(on: &RunsOn) -> Result<Self, ManagementError> {
        match on {
            RunsOn::Folder(folder) => Ok(Self::Folder(folder.clone())),
            RunsOn::Management => Ok(Self::Management(management::connect().await?)),
            RunsOn::Agent(agent) => {
                let own = management::connect().await?;
                Ok(Self::Agent(Box::new(AgentBase { own, options: agent.clone() })))
            }
        }
    }
}

impl Base {
    /// The management cluster, where no Cluster stands for it.
    pub(super) fn management(&self, options: &Options) -> Result<Option<ClusterDefinition>, ManagementError> {
        let Self::Management(client) = self else { return Ok(None) };
        Ok(Some(ClusterDefinition::of_management(&options.namespace, client.clone())?))
    }
}

/// Where definitions come from.
pub(super) enum Origin {
    /// A folder, which has to be followed.
    Folder(Arc<Folder>, Box<Follower>),
    /// A management cluster, which is watched; and the agents that it is the hub of.
    Management(Arc<KubeCatalog>, Arc<Agents>),
    /// The hub, for an agent.
    Agent(Box<FromHub>),
}

/// Definitions, once they have been read.
pub(super) type Read = watch::Receiver<Option<Arc<Definitions>>>;

/// What goes on beside the engine.
pub(super) struct Around {
    pub(super) clusters: Arc<Clusters>,
    pub(super) store: Arc<dyn WorkStore>,
    pub(super) catalog: Arc<Recorded>,
    /// What hands events on to the hub, if this is an agent.
    pub(super) relay: Option<Arc<Relay>>,
}

impl Origin {
    pub(super) fn open(base: &Base, options: &Options, holding: Holding) -> Result<Self, StartError> {
        match base {
            Base::Folder(folder) => {
                let (folder, follower) = Folder::open(folder, &options.data);
                Ok(Self::Folder(folder, Box::new(follower)))
            }
            Base::Management(client) => {
                let watches = client.for_watches().map_err(ManagementError::from)?;
                let leads = Arc::clone(&holding.leads);
                let catalog = Arc::new(KubeCatalog::start_holding(watches, options.api, holding));
                let agents =
                    Agents::new(client.clone(), options.agent_silent_after, leads, Arc::new(Languages));
                Ok(Self::Management(catalog, Arc::new(agents)))
            }
            Base::Agent(agent) => Ok(Self::Agent(Box::new(FromHub::start(agent, options)))),
        }
    }

    /// The definitions, once they have been read.
    pub(super) fn definitions(&self) -> Read {
        match self {
            Self::Folder(folder, _) => folder.definitions(),
            Self::Management(catalog, _) => catalog.definitions(),
            Self::Agent(hub) => hub.catalog.definitions(),
        }
    }

    pub(super) fn catalog(&self) -> Arc<Recorded> {
        let catalog: Arc<dyn Catalog> = match self {
            Self::Folder(folder, _) => Arc::clone(folder) as _,
            Self::Management(catalog, _) => Arc::clone(catalog) as _,
            Self::Agent(hub) => Arc::clone(&hub.catalog) as _,
        };
        Arc::new(Recorded { catalog, conditions: Mutex::default() })
    }

    /// Of an agent: what hands events on to the hub, and the definitions that say which.
    pub(super) fn relay(&self, store: &Arc<dyn WorkStore>) -> Option<(Arc<Relay>, Read)> {
        match self {
            Self::Agent(hub) => Some((Arc::new(hub.relay(Arc::clone(store))), hub.catalog.relayed())),
            Self::Folder(..) | Self::Management(..) => None,
        }
    }

    /// What keeps definitions from being read.
    pub(super) fn troubles(&self) -> Troubles {
        match self {
            Self::Folder(..) => Troubles(Arc::new(Vec::new)),
            Self::Management(catalog, _) => {
                let health = catalog.health();
                Troubles(Arc::new(move || health.borrow().troubles.clone()))
            }
            Self::Agent(hub) => hub.troubles(),
        }
    }

    /// What agents do, if this is their hub.
    pub(super) fn agents(&self, base: &Base) -> Option<OfAgents> {
        match (self, base) {
            (Self::Management(_, agents), Base::Management(client)) => {
                Some(OfAgents { agents: Arc::clone(agents), mirrored: Mirrored::new(client.clone()) })
            }
            _ => None,
        }
    }

    /// Follows the folder; or tells the management cluster how the managed clusters are doing, and agents what there is to
    /// do; or tells the hub what an agent does; until `shutdown`.
    pub(super) async fn follow(self, around: Around, shutdown: CancellationToken) {
        match self {
            Self::Folder(_, follower) => follower.run(shutdown).await,
            Self::Management(catalog, agents) => {
                let of_agents = agents.run(&catalog, tell_of_agents(&catalog), shutdown.clone());
                tokio::join!(of_agents, tell_of_clusters(&catalog, &around.clusters, shutdown));
            }
            Self::Agent(hub) => hub.follow(around, shutdown).await,
        }
    }
}

/// What is known of agents and of what they did.
pub(super) struct OfAgents {
    pub(super) agents: Arc<Agents>,
    pub(super) mirrored: Mirrored,
}

fn tell_of_agents(catalog: &KubeCatalog) -> impl FnMut(AgentNews) {
    |news| match news {
        AgentNews::Health(id, health) => {
            let version = health.version.as_deref();
            catalog.report_cluster(&id, health.ready, version, health.reason, &health.message);
        }
        AgentNews::Withdrawn(id) => catalog.withdrawn_cluster(&id),
    }
}

async fn tell_of_clusters(catalog: &KubeCatalog, clusters: &Clusters, shutdown: CancellationToken) {
    let mut changes = clusters.health_changes();
    let mut withdrawals = clusters.withdrawals();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            Some(id) = withdrawals.next() => catalog.withdrawn_cluster(&id),
            Some((id, health)) = changes.next() => if let Some(health) = health {
                let version = health.version.as_deref();
                catalog.report_cluster(&id, health.ready, version, health.reason, &health.message);
            },
            else => return,
        }
    }
}

/// What keeps definitions from being read, in sentences that say what to do.
pub(super) struct Troubles(pub(super) Arc<dyn Fn() -> Vec<String> + Send + Sync>);

impl Troubles {
    pub(super) fn now(&self) -> Vec<String> {
        (self.0)()
    }
}

/// A Catalog that remembers what was reported to it.
pub(super) struct Recorded {
    catalog: Arc<dyn Catalog>,
    conditions: Mutex<BTreeMap<Subject, Condition>>,
}

impl Recorded {
    /// What was said last.
    pub(super) fn condition(&self, subject: &Subject) -> Option<Condition> {
        self.conditions.lock().unwrap_or_else(PoisonError::into_inner).get(subject).cloned()
    }

    /// What is not as it should be.
    pub(super) fn unready(&self) -> Vec<String> {
        let conditions = self.conditions.lock().unwrap_or_else(PoisonError::into_inner);
        let unready = conditions.iter().filter(|(_, condition)| !condition.ready);
        unready.map(|(subject, it)| format!("{subject}: {}: {}", it.reason, it.message)).collect()
    }
}

#[async_trait]
impl Catalog for Recorded {
    async fn subscribe(&self) -> Result<BoxStream<'static, Arc<CatalogSnapshot>>, CatalogError> {
        self.catalog.subscribe().await
    }

    fn report(&self, subject: &Subject, condition: Condition) {
        let before = self
            .conditions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(subject.clone(), condition.clone());
        // What a source says of itself is logged where it is heard, and a reference where it is looked up.
        if matches!(subject, Subject::Trigger(_) | Subject::Profile(_))
            && !condition.ready
            && condition.reason != "ReferenceMissing"
            && before.as_ref() != Some(&condition)
        {
            warn!("{subject}: {}: {}", condition.reason, condition.message);
        }
        self.catalog.report(subject, condition);
    }

    fn withdrawn(&self, subject: &Subject) {
        self.catalog.withdrawn(subject);
    }

    fn refer(&self, resources: BTreeSet<ResourceId>) {
        self.catalog.refer(resources);
    }
}
