//! The management cluster: the one that KUBECONFIG names, else the one that this runs in, else that of `~/.kube/config`.

use std::env;
use std::time::Duration;

use fleet_core::cluster::InvalidClusterId;
use fleet_kube::catalog::sveltos_controllers;
use fleet_kube::client::{ClientError, ClusterClient};
use fleet_kube::connection::{ClusterDefinition, Connection};
use kube::Config;
use kube::config::{InClusterError, KubeConfigOptions, KubeconfigError};
use tokio::time::timeout;

use super::StartError;

/// Why the management cluster cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManagementError {
    /// There is no kubeconfig, or it makes no sense.
    #[error(
        "no management cluster: the kubeconfig cannot be used; set KUBECONFIG to a good one, or name a folder of \
         manifests to run without a management cluster"
    )]
    Kubeconfig(#[source] Box<KubeconfigError>),
    /// This seems to run in a cluster, but not as a service account.
    #[error(
        "no management cluster: the pod's service account cannot be used; set automountServiceAccountToken"
    )]
    InCluster(#[source] InClusterError),
    /// The operator's namespace is none.
    #[error("no management cluster; correct the operator's namespace")]
    Namespace(#[from] InvalidClusterId),
    /// No client can be made.
    #[error("no management cluster")]
    Client(#[from] ClientError),
}

/// All clusters: those that are registered, and the management cluster, unless one of them stands for it.
pub fn with_management(
    clusters: &[ClusterDefinition],
    management: Option<&ClusterDefinition>,
) -> Vec<ClusterDefinition> {
    // None but such a one has its name: definitions see to that.
    let is_there = clusters.iter().any(|it| matches!(it.connection, Connection::InCluster));
    clusters.iter().chain(management.filter(|_| !is_there)).cloned().collect()
}

/// Refuses to act where Sveltos' own controllers do.
pub(super) async fn refuse_beside_sveltos(client: &ClusterClient) -> Result<(), StartError> {
    const DEADLINE: Duration = Duration::from_secs(30);
    let refuse = |reason| Err(StartError::BesideSveltos { reason });
    let client = client.for_watches().map_err(ManagementError::from)?;
    match timeout(DEADLINE, sveltos_controllers(&client)).await {
        Ok(Ok(running)) if running.is_empty() => Ok(()),
        Ok(Ok(running)) => refuse(format!("{}; scale them to 0, and start again", running.join(", "))),
        Ok(Err(error)) => refuse(format!(
            "whether they run cannot be told, as Deployments cannot be listed ({error}); grant list of deployments"
        )),
        Err(_) => {
            refuse("whether they run cannot be told, as the management cluster does not answer".to_owned())
        }
    }
}

/// Makes a client of the management cluster. Does not wait for the cluster to answer.
///
/// # Errors
/// When there is no usable configuration.
pub async fn connect() -> Result<ClusterClient, ManagementError> {
    let in_cluster = env::var_os("KUBECONFIG").is_none() && env::var_os("KUBERNETES_SERVICE_HOST").is_some();
    let config = if in_cluster {
        Config::incluster().map_err(ManagementError::InCluster)?
    } else {
        let options = KubeConfigOptions::default();
        Config::from_kubeconfig(&options)
            .await
            .map_err(|error| ManagementError::Kubeconfig(Box::new(error)))?
    };
    // A kubeconfig may run a program, which blocks.
    let made = tokio::task::spawn_blocking(move || ClusterClient::new(config)).await;
    match made {
        Ok(client) => Ok(client?),
        Err(interrupted) => std::panic::resume_unwind(interrupted.into_panic()),
    }
}
