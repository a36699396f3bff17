//! `Cluster` objects.

use std::path::PathBuf;

use fleet_core::cluster::{ClusterId, InvalidClusterId, Labels};
use fleet_core::resolve::Resolve;
use fleet_core::selector::LabelSelector;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value};

use super::object::{Fault, Kind, Location, ObjectId, Place, Problem, join};
use super::parse::Metadata;
use super::references::References;
use super::strict::exactly_one;
use crate::api::ClusterSpec;
use crate::connection::{ClusterDefinition, Connection};

/// A Cluster, read as far as that goes without looking at Secrets.
#[derive(Debug)]
pub(crate) struct ClusterDraft {
    id: ClusterId,
    labels: Labels,
    annotations: Labels,
    connection: Draft,
    resolve: Vec<Resolve>,
}

#[derive(Debug)]
enum Draft {
    Secret(Kubeconfig),
    Ready(Connection),
}

/// A Secret in the cluster's namespace, and the key with the kubeconfig in it.
#[derive(Debug)]
struct Kubeconfig {
    name: String,
    /// By default `kubeconfig`, or the only key that there is.
    key: Option<String>,
}

impl ClusterDraft {
    pub(super) fn new(
        place: &Place,
        metadata: &Metadata,
        spec: ClusterSpec,
        object: &Map<String, Value>,
    ) -> Result<Self, Vec<Problem>> {
        let mut problems = wrong_labels(place, metadata);
        let ways = ["kubeconfigSecretRef", "kubeconfigFile", "directory", "inCluster", "agent"];
        problems.extend(exactly_one(place, object, "/spec", &ways).err());
        let resolve = mappings(place, &spec.resolve, &mut problems);
        let id = cluster_id(place)
            .map_err(|error| problems.push(place.problem("/metadata", Fault::Invalid, error.to_string())));
        let connection = match spec {
            ClusterSpec { kubeconfig_secret_ref: Some(secret), .. } => {
                Draft::Secret(Kubeconfig { name: secret.name, key: secret.key })
            }
            ClusterSpec { kubeconfig_file: Some(file), .. } => match (&place.location, file.as_str()) {
                (_, "") => {
                    problems.push(place.problem(
                        "/spec/kubeconfigFile",
                        Fault::Invalid,
                        "is empty; name a file",
                    ));
                    Draft::Ready(Connection::Directory)
                }
                (Location::File { file: manifest, .. }, file) => {
                    // An absolute path stays as it is.
                    let path = manifest.parent().map(PathBuf::from).unwrap_or_default().join(file);
                    Draft::Ready(Connection::KubeconfigFile(path))
                }
                (Location::Api, _) => {
                    let reason = "works only in a folder of manifests; put the kubeconfig into a Secret and name it in \
                                  kubeconfigSecretRef";
                    problems.push(place.problem("/spec/kubeconfigFile", Fault::Invalid, reason));
                    Draft::Ready(Connection::Directory)
                }
            },
            ClusterSpec { in_cluster: Some(_), .. } => Draft::Ready(Connection::InCluster),
            ClusterSpec { agent: Some(_), .. } => {
                if place.location != Location::Api {
                    let reason = "works only with a management cluster, where the agent gets its definitions; register the \
                                  cluster there (fleet-operator register cluster --agent)";
                    problems.push(place.problem("/spec/agent", Fault::MissingReference, reason));
                }
                Draft::Ready(Connection::Agent)
            }
            ClusterSpec { .. } => Draft::Ready(Connection::Directory),
        };
        match id {
            Ok(id) if problems.is_empty() => Ok(Self {
                id,
                labels: metadata.labels.clone(),
                annotations: metadata.annotations.clone(),
                connection,
                resolve,
            }),
            _ => Err(problems),
        }
    }

    /// A cluster that nobody can reach, in place of one whose object cannot be used. The connection says why.
    pub(super) fn stand_in(
        place: &Place,
        metadata: &Metadata,
        problems: &[Problem],
    ) -> Option<ClusterDefinition> {
        let id = cluster_id(place).ok()?;
        let name = format!("Cluster {id}");
        let reason = problems.first().map(ToString::to_string).unwrap_or_default();
        Some(ClusterDefinition {
            id,
            labels: metadata.labels.clone(),
            annotations: metadata.annotations.clone(),
            connection: Connection::KubeconfigSecret { name, kubeconfig: Err(reason) },
            resolve: Vec::new(),
        })
    }

    /// Whether an agent acts in it.
    pub(super) fn is_agent_driven(&self) -> bool {
        matches!(self.connection, Draft::Ready(Connection::Agent))
    }

    /// The Secret it refers to.
    pub(super) fn references(&self) -> Option<ObjectId> {
        match &self.connection {
            Draft::Secret(secret) => Some(self.secret(secret)),
            Draft::Ready(_) => None,
        }
    }

    fn secret(&self, secret: &Kubeconfig) -> ObjectId {
        ObjectId::namespaced(Kind::Secret, self.id.namespace(), &secret.name)
    }

    /// The definition. Without its Secret a cluster is still one: it cannot be reached, and says why.
    pub(super) fn resolve(
        &self,
        place: &Place,
        references: &References<'_>,
        problems: &mut Vec<Problem>,
    ) -> ClusterDefinition {
        let connection = match &self.connection {
            Draft::Ready(connection) => connection.clone(),
            Draft::Secret(secret) => {
                let id = self.secret(secret);
                let key =
                    secret.key.as_deref().unwrap_or_else(|| references.only_key(&id).unwrap_or("kubeconfig"));
                let kubeconfig = references.text(&id, key).map(|text| SecretString::from(&*text));
                if let Err(reason) = &kubeconfig {
                    problems.push(place.problem(
                        "/spec/kubeconfigSecretRef",
                        Fault::MissingReference,
                        reason.clone(),
                    ));
                }
                Connection::KubeconfigSecret { name: format!("{id}, key {key}"), kubeconfig }
            }
        };
        ClusterDefinition {
            id: self.id.clone(),
            labels: self.labels.clone(),
            annotations: self.annotations.clone(),
            connection,
            resolve: self.resolve.clone(),
        }
    }
}

fn wrong_labels(place: &Place, metadata: &Metadata) -> Vec<Problem> {
    let wrong = metadata.labels.iter().filter_map(|(key, value)| {
        let error = LabelSelector::labels([(key, value)]).err()?;
        Some(place.problem(&join("/metadata/labels", key), Fault::Invalid, error.to_string()))
    });
    wrong.collect()
}

/// Where names are reached that only the cluster knows.
fn mappings(place: &Place, texts: &[String], problems: &mut Vec<Problem>) -> Vec<Resolve> {
    let mut mapped: Vec<Resolve> = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        let reason = match text.parse::<Resolve>() {
            Ok(new) if mapped.iter().any(|old| old.is_for(new.host(), new.port())) => {
                format!("{}:{} is mapped twice; keep one", new.host(), new.port())
            }
            Ok(new) => {
                mapped.push(new);
                continue;
            }
            Err(error) => error.to_string(),
        };
        problems.push(place.problem(&format!("/spec/resolve/{index}"), Fault::Invalid, reason));
    }
    mapped
}

fn cluster_id(place: &Place) -> Result<ClusterId, InvalidClusterId> {
    match &place.id {
        Some(ObjectId { namespace: Some(namespace), name, .. }) => ClusterId::new(namespace, name),
        _ => ClusterId::new("", ""),
    }
}

/// Whether two definitions say the same, credentials included.
pub(super) fn same(one: &ClusterDefinition, other: &ClusterDefinition) -> bool {
    let connections = match (&one.connection, &other.connection) {
        (
            Connection::KubeconfigSecret { name, kubeconfig },
            Connection::KubeconfigSecret { name: other_name, kubeconfig: other },
        ) => {
            name == other_name
                && match (kubeconfig, other) {
                    (Ok(one), Ok(other)) => one.expose_secret() == other.expose_secret(),
                    (Err(one), Err(other)) => one == other,
                    _ => false,
                }
        }
        (Connection::KubeconfigFile(one), Connection::KubeconfigFile(other)) => one == other,
        (Connection::Directory, Connection::Directory)
        | (Connection::InCluster, Connection::InCluster)
        | (Connection::Agent, Connection::Agent) => true,
        _ => false,
    };
    connections
        && one.id == other.id
        && one.labels == other.labels
        && one.annotations == other.annotations
        && one.resolve == other.resolve
}
