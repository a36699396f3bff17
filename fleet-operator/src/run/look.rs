//! A look at definitions and clusters, for commands that run no operator.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use fleet_core::apply::{Applier, ApplyRequest, Outcome, RemoveRequest};
use fleet_core::cluster::ClusterId;
use fleet_core::directory::DirectoryApplier;
use fleet_core::resource::{ResourceId, Resources};
use fleet_kube::catalog::{KubeCatalog, look_up};
use fleet_kube::clusters::Clusters;
use fleet_kube::connection::ClusterDefinition;
use fleet_kube::definitions::{Definitions, Family};
use fleet_kube::helm::HelmSetup;
use futures::StreamExt as _;
use tokio::time::timeout;

use super::data::DataFolder;
use super::management::{self, ManagementError};
use super::route::Routed;

/// How long a management cluster or a managed one may take to answer.
const PATIENCE: Duration = Duration::from_secs(15);

/// Why definitions cannot be looked at.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LookError {
    /// The management cluster cannot be used.
    #[error(transparent)]
    Management(#[from] ManagementError),
    /// It did not tell everything in time.
    #[error("the management cluster did not tell its definitions within {} s{troubles}", PATIENCE.as_secs())]
    NoAnswer {
        /// What keeps it from that, if it is known.
        troubles: String,
    },
}

/// The definitions of the management cluster, as they are now, and itself; the operator's namespace is its, too.
///
/// # Errors
/// When it cannot be reached.
pub async fn definitions_of_management(
    family: Family,
    namespace: &str,
) -> Result<(Arc<Definitions>, ClusterDefinition), LookError> {
    let client = management::connect().await?;
    let management =
        ClusterDefinition::of_management(namespace, client.clone()).map_err(ManagementError::from)?;
    let watches = client.for_watches().map_err(ManagementError::from)?;
    let catalog = KubeCatalog::start_reading(watches, family, Some(management.id.clone()));
    let mut definitions = catalog.definitions();
    let read = timeout(PATIENCE, definitions.wait_for(Option::is_some)).await;
    let found = match read {
        Ok(Ok(read)) => read.clone(),
        _ => None,
    };
    let troubles = catalog.health().borrow().troubles.join("; ");
    catalog.stop().await;
    found.map(|found| (found, management)).ok_or_else(|| {
        let troubles = if troubles.is_empty() { troubles } else { format!(": {troubles}") };
        LookError::NoAnswer { troubles }
    })
}

/// Objects of the management cluster, as they are now.
///
/// # Errors
/// When it cannot be reached at all.
pub async fn resources_of_management(ids: BTreeSet<ResourceId>) -> Result<Resources, LookError> {
    let client = management::connect().await?;
    let client = client.for_watches().map_err(ManagementError::from)?;
    Ok(look_up(client, ids, PATIENCE).await)
}

/// Managed clusters that are asked, and never written to.
pub struct LiveClusters {
    clusters: Arc<Clusters>,
    applier: Routed,
}

impl LiveClusters {
    /// Connects to clusters; folders lie in the data folder.
    ///
    /// # Errors
    /// When the data folder cannot be used.
    pub fn connect(
        definitions: &[ClusterDefinition],
        data: &Path,
        protected: Vec<String>,
    ) -> std::io::Result<Self> {
        let clusters = Arc::new(Clusters::new());
        let data = DataFolder::at(data);
        let folders = DirectoryApplier::new(data.clusters())?;
        let helm = HelmSetup::new(data.helm());
        let applier = Routed::new(Arc::clone(&clusters), folders, helm, protected, Arc::new(|| true));
        applier.note(definitions);
        clusters.update(definitions.to_vec());
        Ok(Self { clusters, applier })
    }

    /// Waits until it is known whether a cluster can be reached.
    ///
    /// # Errors
    /// Why it cannot be reached.
    pub async fn reached(&self, id: &ClusterId) -> Result<(), String> {
        let mut changes = self.clusters.health_changes();
        let known = async {
            loop {
                match self.clusters.health(id) {
                    Some(health) if health.ready => return Ok(()),
                    Some(health) if health.reason != "Connecting" => return Err(health.message.clone()),
                    None => return Err("there is no such cluster".to_owned()),
                    Some(_) => {
                        let _ = changes.next().await;
                    }
                }
            }
        };
        let no_answer = || Err(format!("it did not answer within {} s", PATIENCE.as_secs()));
        timeout(PATIENCE, known).await.unwrap_or_else(|_| no_answer())
    }

    /// What an apply would do.
    pub async fn ask_to_apply(&self, request: ApplyRequest) -> Vec<Outcome> {
        self.applier.apply(request).await
    }

    /// What a removal would do.
    pub async fn ask_to_remove(&self, request: RemoveRequest) -> Vec<Outcome> {
        self.applier.remove(request).await
    }
}
