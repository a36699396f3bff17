//! Registering clusters with a management cluster, and taking them out again: what `fleet-operator register cluster` and
//! `deregister cluster` do.

mod agent;
mod objects;
mod service_account;

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use fleet_core::cluster::{ClusterId, Labels};
use http::Method;
use jiff::Timestamp;
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::client::{Call, ClientError, ClusterClient, Failure, JSON};
use crate::kubeconfig::{self, Fault, KubeconfigError, SelfContained};
pub use agent::{AgentRegistered, AgentRegistration, HUB_SECRET, install_agent, register_agent};
pub(crate) use service_account::request_token;

pub use objects::{KUBECONFIG_KEY, LEAVE_ANNOTATION, REGISTERED_ANNOTATION, secret_name};

/// Who writes what registering writes.
const FIELD_MANAGER: &str = "fleet-register";
/// How long one request may take.
const DEADLINE: Duration = Duration::from_secs(10);
/// How often is looked whether a Cluster is gone.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// What to register.
#[derive(Clone, Debug)]
pub struct Registration {
    /// The cluster's name.
    pub id: ClusterId,
    /// The labels that it shall have.
    pub labels: Labels,
    /// How it is reached.
    pub access: Access,
    /// Register it also if it cannot be reached.
    pub force: bool,
    /// Write nothing, neither to the cluster itself nor to the management cluster.
    pub dry_run: bool,
}

/// How a cluster is reached.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Access {
    /// By a kubeconfig file of this machine.
    Kubeconfig {
        /// The file.
        file: PathBuf,
        /// The context in it; its current one if none.
        context: Option<String>,
        /// Make a service account in the cluster and use its token, for kubeconfigs that run a program.
        create_service_account: bool,
    },
    /// It is the management cluster itself.
    InCluster,
}

/// What registering came to.
#[derive(Clone, Debug)]
pub struct Registered {
    /// The objects that were written to the management cluster, or would be: Namespace, Secret, Cluster. The Secret holds
    /// credentials.
    pub objects: Vec<Value>,
    /// The version of the cluster's API server, if it was reached.
    pub version: Option<String>,
    /// What the user should know: that the cluster cannot be reached, when a token expires.
    pub notes: Vec<String>,
}

/// What deregistering came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deregistered {
    /// Whether there was such a Cluster.
    pub cluster: bool,
    /// Whether it is still there: held back until the operator has withdrawn what it put into the cluster. The Secret that
    /// registering had made goes with it.
    pub held_back: bool,
    /// Whether the Secret that registering had made was deleted.
    pub secret: bool,
}

/// Whether to wait until a Cluster is gone.
pub enum Wait<'a> {
    /// Not at all.
    No,
    /// Until it is, however long that takes; is told again and again how long it took so far.
    UntilGone(&'a mut (dyn FnMut(Duration) + Send)),
}

/// Why a cluster was not (de)registered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegisterError {
    /// The kubeconfig cannot be used.
    #[error(transparent)]
    Kubeconfig(#[from] KubeconfigError),
    /// The kubeconfig runs a program.
    #[error(
        "the kubeconfig runs {program:?} to get credentials, which the operator will not do; add --create-service-account to use a token instead"
    )]
    Plugin {
        /// The program.
        program: String,
    },
    /// The cluster cannot be reached.
    #[error(
        "cluster {id} cannot be reached with this kubeconfig: {reason}; --force registers it all the same"
    )]
    Unreachable {
        /// The cluster.
        id: ClusterId,
        /// Why.
        reason: String,
    },
    /// The management cluster does not know Clusters.
    #[error(
        "the management cluster does not know the kind Cluster of fleet-events.dev/v1alpha1; install it: fleet-operator crds | kubectl apply --server-side -f -"
    )]
    NotInstalled,
    /// An object could not be written or deleted.
    #[error("{what}: {reason}")]
    Refused {
        /// The object, and where.
        what: String,
        /// Why.
        reason: String,
    },
}

/// Registers a cluster: reads its kubeconfig, sees that it can be reached, makes a service account if asked to, and writes
/// Namespace (if missing), Secret and Cluster to the management cluster. Doing it again changes what is there.
///
/// # Errors
/// When a step fails; the steps before it stay done, and do no harm.
pub async fn register(
    management: &ClusterClient,
    registration: &Registration,
) -> Result<Registered, RegisterError> {
    let Registration { id, labels, access, force, dry_run } = registration;
    let mut notes = Vec::new();
    let (kubeconfig, version) = match access {
        Access::InCluster => (None, reach(management).await.ok()),
        Access::Kubeconfig { file, context, create_service_account } => {
            let path = file.clone();
            let context = context.clone();
            let read = move || kubeconfig::self_contained(&path, context.as_deref(), Timestamp::now());
            let read = tokio::task::spawn_blocking(read).await;
            let contained = read.map_err(|_| refused("the kubeconfig", "reading it was interrupted"))??;
            let origin = file.display().to_string();
            target(id, contained, &origin, *create_service_account, *force, *dry_run, &mut notes).await?
        }
    };
    let objects = objects::build(id, labels, kubeconfig.as_ref());
    if !dry_run {
        write(management, &objects).await?;
    }
    Ok(Registered { objects, version, notes })
}

/// The kubeconfig to store, and the cluster's version.
async fn target(
    id: &ClusterId,
    contained: SelfContained,
    origin: &str,
    create_service_account: bool,
    force: bool,
    dry_run: bool,
    notes: &mut Vec<String>,
) -> Result<(Option<SecretString>, Option<String>), RegisterError> {
    let unusable = |fault: Fault| KubeconfigError { origin: origin.to_owned(), fault };
    if let Some(program) = contained.credential_plugin()
        && !create_service_account
    {
        return Err(RegisterError::Plugin { program: program.to_owned() });
    }
    let client = connect(contained.config().map_err(unusable)?).await;
    let reached = match &client {
        Ok(client) => reach(client).await.map_err(|failure| failure.to_string()),
        Err(error) => Err(error.to_string()),
    };
    let version = match reached {
        Ok(version) => Some(version),
        Err(reason) if force && !create_service_account => {
            notes.push(format!("the cluster cannot be reached now: {reason}"));
            None
        }
        Err(reason) => {
            return Err(RegisterError::Unreachable { id: id.clone(), reason });
        }
    };
    let contained = match client {
        Ok(client) if create_service_account => {
            let token = if dry_run {
                SecretString::from(format!("the token of service account {}", service_account::PATH))
            } else {
                let token = service_account::create(&client).await?;
                notes.extend(token.expires.map(|expires| {
                    format!("the cluster makes no lasting tokens: this one expires at {expires}; register again before")
                }));
                token.token
            };
            contained.with_token(token)
        }
        _ => contained,
    };
    Ok((Some(contained.to_yaml().map_err(unusable)?), version))
}

/// May run a credential plugin.
async fn connect(config: kube::Config) -> Result<ClusterClient, ClientError> {
    match tokio::task::spawn_blocking(move || ClusterClient::new(config)).await {
        Ok(made) => made,
        Err(_) => Err(ClientError { reason: "it was interrupted".to_owned() }),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Version {
    git_version: String,
}

/// The version of the API server, if it takes the credentials.
async fn reach(client: &ClusterClient) -> Result<String, Failure> {
    let deadline = Instant::now() + DEADLINE;
    let body = client.call(Call::get("/version"), deadline).await?;
    // Anybody may ask for the version, but only somebody for the kinds.
    client.call(Call::get("/api/v1"), deadline).await?;
    serde_json::from_slice(&body)
        .map(|version: Version| version.git_version)
        .map_err(|_| Failure::Other { code: 200, message: "what answers there is no API server".to_owned() })
}

async fn write(management: &ClusterClient, objects: &[Value]) -> Result<(), RegisterError> {
    for object in objects {
        let path = objects::path(object);
        let what = objects::title(object);
        let is_namespace = object.get("kind").is_some_and(|kind| kind == "Namespace");
        if is_namespace && get(management, &path).await.map_err(|failure| refused(&what, failure))?.is_some()
        {
            // Somebody else's namespace stays as it is.
            continue;
        }
        apply(management, &path, object).await.map_err(|failure| match failure {
            Failure::NoSuchPath if what.starts_with("SveltosCluster ") => refused(
                &what,
                "the management cluster does not know this kind; are Sveltos' definitions installed?",
            ),
            Failure::NoSuchPath => RegisterError::NotInstalled,
            failure => refused(&what, failure),
        })?;
    }
    Ok(())
}

/// Takes a cluster out: deletes its Cluster, and its Secret if registering made that. The operator withdraws what it put
/// there, unless `leave` says to leave it, and until then holds the Cluster back; the Secret stays as long. Without an
/// operator nothing is withdrawn, and a Cluster that one held back stays until one runs.
///
/// Cancel safe: what is not waited for happens all the same.
///
/// # Errors
/// When the management cluster refuses or does not answer.
pub async fn deregister(
    management: &ClusterClient,
    id: &ClusterId,
    leave: bool,
    wait: Wait<'_>,
) -> Result<Deregistered, RegisterError> {
    let path = objects::cluster_path(id);
    let failed = |failure| match failure {
        Failure::NoSuchPath => RegisterError::NotInstalled,
        failure => refused(&format!("Cluster {id}"), failure),
    };
    let Some(cluster) = get(management, &path).await.map_err(failed)? else {
        let secret = delete_secret(management, id).await?;
        return Ok(Deregistered { cluster: false, held_back: false, secret });
    };
    let uid = uid(&cluster).unwrap_or_default();
    // Before the Cluster is deleted: then, whatever happens to us, the garbage collector has the Secret follow it.
    bind_secret(management, id, uid).await?;
    if leave {
        let patch = json!({"metadata": {"uid": uid, "annotations": {(LEAVE_ANNOTATION): "true"}}});
        merge(management, &path, &patch).await.map_err(failed)?;
    }
    delete(management, &path, Some(uid)).await.map_err(failed)?;
    let begun = Instant::now();
    let mut wait = wait;
    loop {
        let now = get(management, &path).await.map_err(failed)?;
        if now.as_ref().and_then(self::uid) != Some(uid) {
            let secret = delete_secret(management, id).await?;
            return Ok(Deregistered { cluster: true, held_back: false, secret });
        }
        match &mut wait {
            Wait::No => return Ok(Deregistered { cluster: true, held_back: true, secret: false }),
            Wait::UntilGone(told) => told(begun.elapsed()),
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// The Secret of a cluster, if registering made it.
async fn registered_secret(
    management: &ClusterClient,
    id: &ClusterId,
) -> Result<Option<Value>, RegisterError> {
    let secret = get(management, &objects::secret_path(id)).await;
    Ok(secret.map_err(|failure| refused(&objects::secret_title(id), failure))?.filter(|secret| {
        secret.pointer("/metadata/annotations").is_some_and(|all| all.get(REGISTERED_ANNOTATION).is_some())
    }))
}

/// Makes a cluster's Secret the Cluster's own.
async fn bind_secret(
    management: &ClusterClient,
    id: &ClusterId,
    cluster_uid: &str,
) -> Result<(), RegisterError> {
    let Some(secret) = registered_secret(management, id).await? else { return Ok(()) };
    let owner = json!({"apiVersion": "fleet-events.dev/v1alpha1", "kind": "Cluster", "name": id.name(), "uid": cluster_uid});
    let patch = json!({"metadata": {"uid": uid(&secret), "ownerReferences": [owner]}});
    let bound = merge(management, &objects::secret_path(id), &patch).await;
    bound.map_err(|failure| refused(&objects::secret_title(id), failure))
}

/// Whether there was one that registering had made.
async fn delete_secret(management: &ClusterClient, id: &ClusterId) -> Result<bool, RegisterError> {
    let Some(secret) = registered_secret(management, id).await? else { return Ok(false) };
    let deleted = delete(management, &objects::secret_path(id), uid(&secret)).await;
    deleted.map_err(|failure| refused(&objects::secret_title(id), failure))
}

fn uid(object: &Value) -> Option<&str> {
    object.pointer("/metadata/uid").and_then(Value::as_str)
}

fn refused(what: &str, reason: impl std::fmt::Display) -> RegisterError {
    RegisterError::Refused { what: what.to_owned(), reason: reason.to_string() }
}

fn write_call<'a>(method: Method, path: &str, content_type: &'static str, body: &Value) -> Call<'a> {
    Call {
        method,
        path: format!("{path}?fieldManager={FIELD_MANAGER}"),
        content_type: Some(content_type),
        accept: JSON,
        body: Bytes::from(body.to_string()),
        identity: None,
    }
}

async fn apply(client: &ClusterClient, path: &str, object: &Value) -> Result<(), Failure> {
    let call = write_call(Method::PATCH, path, "application/apply-patch+yaml", object);
    client.call(call, Instant::now() + DEADLINE).await.map(drop)
}

/// Changes what is there; something that is gone stays so.
async fn merge(client: &ClusterClient, path: &str, patch: &Value) -> Result<(), Failure> {
    let call = write_call(Method::PATCH, path, "application/merge-patch+json", patch);
    match client.call(call, Instant::now() + DEADLINE).await {
        Ok(_) | Err(Failure::NotFound { .. }) => Ok(()),
        Err(failure) => Err(failure),
    }
}

async fn get(client: &ClusterClient, path: &str) -> Result<Option<Value>, Failure> {
    match client.call(Call::get(path), Instant::now() + DEADLINE).await {
        Ok(body) => Ok(serde_json::from_slice(&body).ok()),
        Err(Failure::NotFound { .. }) => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// Whether there was something to delete.
async fn delete(client: &ClusterClient, path: &str, uid: Option<&str>) -> Result<bool, Failure> {
    let options = json!({"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": uid.map(|uid| json!({"uid": uid}))});
    let call = Call { path: path.to_owned(), ..write_call(Method::DELETE, path, JSON, &options) };
    match client.call(call, Instant::now() + DEADLINE).await {
        Ok(_) => Ok(true),
        Err(Failure::NotFound { .. }) => Ok(false),
        Err(failure) => Err(failure),
    }
}
