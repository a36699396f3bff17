//! Where Works are kept.

use std::sync::Arc;

use clap::ValueEnum;
use fleet_core::redb::RedbStore;
use fleet_core::store::WorkStore;
use fleet_kube::client::ClusterClient;
use fleet_kube::store::KubeStore;

use super::data::DataFolder;
use super::definitions::Base;
use super::{StartError, management};

/// Where Works, what was applied for them, floors and dead letters are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum StoreKind {
    /// In a database file of the data folder: fast, and of one machine.
    #[default]
    File,
    /// In the management cluster, where another operator can go on with them: `kubectl get works,appliedworks -A`.
    Kubernetes,
}

/// The store of an operator that runs.
pub(super) async fn open(place: &Place, data: &DataFolder) -> Result<Arc<dyn WorkStore>, StartError> {
    Ok(match place {
        Place::File => Arc::new(RedbStore::open(&data.database())?),
        Place::Kubernetes { client, namespace } => {
            Arc::new(KubeStore::open(client.clone(), namespace).await?)
        }
        Place::OwnCluster { client, namespace } => {
            Arc::new(KubeStore::open_in_one(client.clone(), namespace).await?)
        }
    })
}

/// A kind of store, and what it takes.
pub(super) enum Place {
    File,
    Kubernetes {
        client: ClusterClient,
        namespace: String,
    },
    /// In an agent's own cluster, all in its namespace.
    OwnCluster {
        client: ClusterClient,
        namespace: String,
    },
}

impl Place {
    pub(super) fn of(kind: StoreKind, namespace: &str, base: &Base) -> Result<Self, StartError> {
        match (kind, base) {
            // What an agent has done outlives its pod.
            (_, Base::Agent(agent)) => {
                Ok(Self::OwnCluster { client: agent.own.clone(), namespace: namespace.to_owned() })
            }
            (StoreKind::File, _) => Ok(Self::File),
            (StoreKind::Kubernetes, Base::Management(client)) => {
                Ok(Self::Kubernetes { client: client.clone(), namespace: namespace.to_owned() })
            }
            (StoreKind::Kubernetes, Base::Folder(_)) => Err(StartError::StoreNeedsManagement),
        }
    }
}

/// What the last operator left, to look at it: no operator runs on the data folder.
///
/// # Errors
/// When there is nothing, or it cannot be read.
pub async fn open_to_read(
    data: &DataFolder,
    kind: StoreKind,
    namespace: &str,
) -> Result<Arc<dyn WorkStore>, StartError> {
    match kind {
        StoreKind::File => Ok(Arc::new(data.open_to_read()?)),
        StoreKind::Kubernetes => {
            let client = management::connect().await?;
            open(&Place::Kubernetes { client, namespace: namespace.to_owned() }, data).await
        }
    }
}
