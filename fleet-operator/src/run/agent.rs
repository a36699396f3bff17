//! An agent: one cluster, its own; definitions from the hub, and the hub told of what is done.

use std::env;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fleet_core::cluster::ClusterId;
use fleet_core::resolve::Resolve;
use fleet_core::store::WorkStore;
use fleet_kube::agent::{
    AgentCatalog, AgentPlace, Heartbeat, HubAccess, Kept, Relay, RelayPlace, Renewal, heartbeat, mirror,
};
use fleet_kube::client::ClusterClient;
use fleet_kube::connection::Connection;
use fleet_kube::register::HUB_SECRET;
use futures::StreamExt as _;
use tokio_util::sync::CancellationToken;

use super::Options;
use super::data::DataFolder;
use super::definitions::{Around, Troubles};

/// What makes an operator an agent.
#[derive(Clone, Debug)]
pub struct AgentOptions {
    /// Its cluster, as the hub calls it.
    pub cluster: ClusterId,
    /// The kubeconfig for the hub; by default it is in a Secret of the agent's namespace.
    pub hub_kubeconfig: Option<PathBuf>,
    /// Where names are reached that do not resolve here.
    pub resolve: Vec<Resolve>,
    /// How often the hub is given a sign of life.
    pub heartbeat: Duration,
    /// When the token for the hub is renewed.
    pub renewal: Renewal,
}

/// What an agent runs on.
pub(super) struct AgentBase {
    /// Its own cluster.
    pub(super) own: ClusterClient,
    pub(super) options: AgentOptions,
}

/// The hub, for an agent.
pub(super) struct FromHub {
    pub(super) catalog: Arc<AgentCatalog>,
    access: HubAccess,
    options: AgentOptions,
}

impl FromHub {
    pub(super) fn start(base: &AgentBase, options: &Options) -> Self {
        let AgentBase { own, options: agent } = base;
        let kept = match &agent.hub_kubeconfig {
            Some(file) => {
                let renewed = DataFolder::at(&options.data).hub_kubeconfig();
                Kept::File { file: file.clone(), renewed }
            }
            None => Kept::Secret {
                own: own.clone(),
                namespace: options.namespace.clone(),
                name: HUB_SECRET.to_owned(),
            },
        };
        let access = HubAccess::start(kept, agent.renewal);
        let place = AgentPlace {
            id: agent.cluster.clone(),
            connection: own_connection(),
            resolve: agent.resolve.clone(),
            own: own.clone(),
            namespace: options.namespace.clone(),
        };
        let catalog = Arc::new(AgentCatalog::start(place, access.client()));
        Self { catalog, access, options: agent.clone() }
    }

    pub(super) fn troubles(&self) -> Troubles {
        let all = [self.access.trouble(), self.catalog.trouble()];
        Troubles(Arc::new(move || all.iter().filter_map(|trouble| trouble.borrow().clone()).collect()))
    }

    /// What hands events on to the hub.
    pub(super) fn relay(&self, store: Arc<dyn WorkStore>) -> Relay {
        let catalog = Arc::clone(&self.catalog);
        Relay::new(RelayPlace {
            id: self.options.cluster.clone(),
            store,
            definitions: self.catalog.relayed(),
            hub: self.access.client(),
            owner: Box::new(move || catalog.owner()),
        })
    }

    /// Tells the hub how it goes, until `shutdown`.
    pub(super) async fn follow(self, around: Around, shutdown: CancellationToken) {
        let Self { catalog, access, options: AgentOptions { cluster, heartbeat: every, .. } } = self;
        let Around { clusters, store, catalog: recorded, relay } = around;
        let withdrawn = AtomicBool::new(false);
        let (definitions, digest) = (catalog.definitions(), catalog.digest());
        let holder = env::var("POD_NAME").or_else(|_| env::var("HOSTNAME")).unwrap_or_default();
        let say = || {
            let health = clusters.health(&cluster);
            let is_leaving = definitions.borrow().as_ref().is_some_and(|it| !it.leaving.is_empty());
            let message = health.as_ref().filter(|health| !health.ready && health.reason != "Connecting");
            Heartbeat {
                holder: holder.clone(),
                digest: digest.borrow().as_deref().map(str::to_owned),
                version: health.as_ref().and_then(|health| health.version.clone()),
                message: message.map(|health| health.message.clone()),
                notes: recorded
                    .unready()
                    .into_iter()
                    .chain(relay.iter().flat_map(|it| it.troubles()))
                    .collect(),
                withdrawn: is_leaving && withdrawn.load(Ordering::Relaxed),
            }
        };
        let mut withdrawals = clusters.withdrawals();
        let note = async {
            while let Some(id) = withdrawals.next().await {
                if id == cluster {
                    withdrawn.store(true, Ordering::Relaxed);
                }
            }
        };
        let beats = heartbeat(cluster.clone(), access.client(), every, say);
        let owner = || catalog.owner();
        let mirrors = mirror(store, cluster.clone(), access.client(), owner);
        let hand_on = Box::pin(async {
            match &relay {
                Some(relay) => relay.run().await,
                None => std::future::pending().await,
            }
        });
        let all = async { tokio::join!(beats, mirrors, note, hand_on) };
        shutdown.run_until_cancelled(all).await;
    }
}

/// How the cluster that this runs in is reached: as [`super::connect_management`] does.
fn own_connection() -> Connection {
    match env::var_os("KUBECONFIG") {
        Some(file) => Connection::KubeconfigFile(file.into()),
        None if env::var_os("KUBERNETES_SERVICE_HOST").is_some() => Connection::InCluster,
        None => {
            let home = env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
            Connection::KubeconfigFile(home.join(".kube/config"))
        }
    }
}
