//! Where definitions come from, and what the engine says of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use fleet_core::catalog::{Catalog, CatalogError, CatalogSnapshot, Condition, Subject};
use fleet_kube::catalog::{Holding, KubeCatalog};
use fleet_kube::client::ClusterClient;
use fleet_kube::clusters::Clusters;
use fleet_kube::definitions::{Definitions, Family};
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::StartError;
use super::management::{self, ManagementError};
use crate::folder::{Folder, Follower};

/// What an operator runs on.
pub(super) enum Base {
    /// A folder of manifests.
    Folder(PathBuf),
    /// A management cluster.
    Management(ClusterClient),
}

impl Base {
    pub(super) async fn of(folder: Option<&Path>) -> Result<Self, ManagementError> {
        match folder {
            Some(folder) => Ok(Self::Folder(folder.to_owned())),
            None => Ok(Self::Management(management::connect().await?)),
        }
    }
}

/// Where definitions come from.
pub(super) enum Origin {
    /// A folder, which has to be followed.
    Folder(Arc<Folder>, Box<Follower>),
    /// A management cluster, which is watched.
    Management(Arc<KubeCatalog>),
}

impl Origin {
    pub(super) fn open(
        base: &Base,
        data: &Path,
        family: Family,
        holding: Holding,
    ) -> Result<Self, StartError> {
        match base {
            Base::Folder(folder) => {
                let (folder, follower) = Folder::open(folder, data);
                Ok(Self::Folder(folder, Box::new(follower)))
            }
            Base::Management(client) => {
                let watches = client.for_watches().map_err(ManagementError::from)?;
                Ok(Self::Management(Arc::new(KubeCatalog::start_holding(watches, family, holding))))
            }
        }
    }

    /// The definitions, once they have been read.
    pub(super) fn definitions(&self) -> watch::Receiver<Option<Arc<Definitions>>> {
        match self {
            Self::Folder(folder, _) => folder.definitions(),
            Self::Management(catalog) => catalog.definitions(),
        }
    }

    pub(super) fn catalog(&self) -> Arc<Recorded> {
        let catalog: Arc<dyn Catalog> = match self {
            Self::Folder(folder, _) => Arc::clone(folder) as _,
            Self::Management(catalog) => Arc::clone(catalog) as _,
        };
        Arc::new(Recorded { catalog, conditions: Mutex::default() })
    }

    /// What keeps definitions from being read.
    pub(super) fn troubles(&self) -> Troubles {
        Troubles(match self {
            Self::Folder(..) => None,
            Self::Management(catalog) => Some(catalog.health()),
        })
    }

    /// Follows the folder, or tells the management cluster how the managed clusters are doing, until `shutdown`.
    pub(super) async fn follow(self, clusters: Arc<Clusters>, shutdown: CancellationToken) {
        match self {
            Self::Folder(_, follower) => follower.run(shutdown).await,
            Self::Management(catalog) => {
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
        }
    }
}

/// What keeps definitions from being read, in sentences that say what to do.
pub(super) struct Troubles(Option<watch::Receiver<fleet_kube::catalog::CatalogHealth>>);

impl Troubles {
    pub(super) fn now(&self) -> Vec<String> {
        self.0.as_ref().map(|health| health.borrow().troubles.clone()).unwrap_or_default()
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
}
