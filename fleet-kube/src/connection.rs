//! How a cluster is reached: what a `Cluster` object says, checked.

use std::path::PathBuf;

use fleet_core::cluster::{Cluster, ClusterId, InvalidClusterId, Labels, Role};
use fleet_core::resolve::Resolve;
use secrecy::SecretString;

use crate::client::ClusterClient;

/// What the management cluster is called where no Cluster stands for it.
const MANAGEMENT: &str = "management";

/// One `Cluster` object: its name, what selectors and templates see, and how to reach it.
#[derive(Clone, Debug)]
pub struct ClusterDefinition {
    /// Its namespace and name.
    pub id: ClusterId,
    /// The object's labels.
    pub labels: Labels,
    /// The object's annotations.
    pub annotations: Labels,
    /// How to reach it.
    pub connection: Connection,
    /// Where names are reached from here that only the cluster itself knows.
    pub resolve: Vec<Resolve>,
}

impl ClusterDefinition {
    /// What the management cluster is called where no Cluster stands for it: `management` in the operator's namespace. No
    /// other one may be called so.
    ///
    /// # Errors
    /// When the namespace is none.
    pub fn management_id(namespace: &str) -> Result<ClusterId, InvalidClusterId> {
        ClusterId::new(namespace, MANAGEMENT)
    }

    /// The management cluster, where no Cluster stands for it. It is none of the fleet, so it has no labels that anything
    /// could select it by.
    ///
    /// # Errors
    /// When the namespace is none.
    pub fn of_management(namespace: &str, client: ClusterClient) -> Result<Self, InvalidClusterId> {
        Ok(Self {
            id: Self::management_id(namespace)?,
            labels: Labels::new(),
            annotations: Labels::new(),
            connection: Connection::Management(client),
            resolve: Vec::new(),
        })
    }

    /// As selectors and templates see it.
    pub fn cluster(&self, ready: bool) -> Cluster {
        Cluster {
            id: self.id.clone(),
            labels: self.labels.clone(),
            annotations: self.annotations.clone(),
            ready,
            role: self.connection.role(),
        }
    }

    /// Takes over the credentials from before, if these cannot be used.
    pub(crate) fn keep_credentials(&mut self, before: &Self) {
        if let Connection::KubeconfigSecret { kubeconfig: Err(_), .. } = self.connection
            && let Connection::KubeconfigSecret { kubeconfig: Ok(_), .. } = before.connection
        {
            self.connection = before.connection.clone();
        }
    }
}

/// How a cluster is reached: exactly one way.
#[derive(Clone, Debug)]
pub enum Connection {
    /// A kubeconfig that was read from a Secret. It may be hostile: nothing in it may run a program or read a file.
    KubeconfigSecret {
        /// The Secret and its key, as errors name them: `Secret civo/cluster1-kubeconfig, key kubeconfig`.
        name: String,
        /// The kubeconfig, or why the Secret could not be used.
        kubeconfig: Result<SecretString, String>,
    },
    /// A kubeconfig file of the operator's own machine.
    KubeconfigFile(PathBuf),
    /// A folder that stands in for a cluster; where it lies is the operator's choice.
    Directory,
    /// The cluster that the operator runs in.
    InCluster,
    /// Not from here: an agent in the cluster does all there.
    Agent,
    /// The management cluster, where no Cluster stands for it.
    Management(ClusterClient),
}

impl Connection {
    /// What a cluster that is reached like this is to the fleet.
    pub fn role(&self) -> Role {
        match self {
            Self::InCluster => Role::Management,
            Self::Management(_) => Role::ManagementOnly,
            Self::KubeconfigSecret { .. } | Self::KubeconfigFile(_) | Self::Directory | Self::Agent => {
                Role::Member
            }
        }
    }
}
