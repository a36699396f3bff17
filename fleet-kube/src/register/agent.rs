//! Registering a cluster that an agent drives: what is at the hub for it, and what is to be installed in the cluster.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fleet_core::cluster::{ClusterId, Labels};
use fleet_core::resolve::Resolve;
use http::Method;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};

use super::{DEADLINE, KUBECONFIG_KEY, RegisterError, get, objects, refused, request_token, write};
use crate::agent::{AGENT_LABEL, label_value, object_name, owner_reference};
use crate::api;
use crate::client::{Call, ClusterClient};
use crate::definitions::Family;

/// The Secret in the cluster with the kubeconfig for the hub.
pub const HUB_SECRET: &str = "fleet-agent-hub";
/// What the agent is called in its cluster.
const AGENT: &str = "fleet-agent";

/// Which cluster to register, and how its agent is to run.
#[derive(Clone, Debug)]
pub struct AgentRegistration {
    /// The cluster's name at the hub.
    pub id: ClusterId,
    /// The labels that it shall have.
    pub labels: Labels,
    /// Whose kinds the definitions at the hub are: it becomes a Cluster, or a SveltosCluster.
    pub family: Family,
    /// The agent's namespace in the cluster.
    pub namespace: String,
    /// The image with the operator's program.
    pub image: String,
    /// The ClusterRole in the cluster that says what the agent may put there; it may do all else that it needs anyway.
    pub cluster_role: String,
    /// Where the agent reaches the hub's API server; as it is reached from here if none.
    pub hub_server: Option<String>,
    /// Where names are reached that do not resolve for the agent.
    pub resolve: Vec<Resolve>,
    /// How long the first token for the hub is good. The agent renews it.
    pub token_lifetime: Duration,
    /// Write nothing.
    pub dry_run: bool,
}

/// What registering came to.
#[derive(Clone, Debug)]
pub struct AgentRegistered {
    /// The objects that were written to the hub, or would be.
    pub hub: Vec<Value>,
    /// The objects to install in the cluster. A Secret among them holds credentials.
    pub cluster: Vec<Value>,
}

/// Registers a cluster with an agent: writes what it takes to the hub, and tells what is to be installed in the cluster.
/// Doing it again changes what is there, and makes a new token.
///
/// # Errors
/// When a step fails; the steps before it stay done, and do no harm.
pub async fn register_agent(
    hub: &ClusterClient,
    registration: &AgentRegistration,
) -> Result<AgentRegistered, RegisterError> {
    let AgentRegistration { id, labels, family, dry_run, .. } = registration;
    let objects = objects::build_agent(id, labels, *family);
    let mut account = account(id);
    let token = if *dry_run {
        SecretString::from(format!("the token of service account {}/{}", id.namespace(), object_name(id)))
    } else {
        write(hub, &objects).await?;
        let [_, cluster] = &objects;
        let written = get(hub, &objects::path(cluster)).await;
        let written = written.map_err(|failure| refused(&objects::title(cluster), failure))?;
        // It all goes with the Cluster.
        let owner: Vec<Value> = written.as_ref().and_then(owner_reference).into_iter().collect();
        for object in &mut account {
            if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
                metadata.insert("ownerReferences".to_owned(), owner.clone().into());
            }
        }
        write(hub, &account).await?;
        request_token(hub, id.namespace(), &object_name(id), registration.token_lifetime).await?.token
    };
    let kubeconfig = hub.kubeconfig_with_token(registration.hub_server.as_deref(), token);
    let kubeconfig = kubeconfig.map_err(|fault| refused("the kubeconfig for the agent", fault))?;
    let cluster_objects = in_cluster(registration, &kubeconfig)?;
    Ok(AgentRegistered { hub: objects.into_iter().chain(account).collect(), cluster: cluster_objects })
}

/// Installs in a cluster what [`register_agent`] told.
///
/// # Errors
/// When the cluster refuses an object, or does not answer.
pub async fn install_agent(cluster: &ClusterClient, all: &[Value]) -> Result<(), RegisterError> {
    for object in all {
        let in_cluster = |failure| refused(&format!("{} in the cluster", objects::title(object)), failure);
        let path = objects::path(object);
        let is_namespace = object.get("kind").and_then(Value::as_str) == Some("Namespace");
        if is_namespace && get(cluster, &path).await.map_err(in_cluster)?.is_some() {
            continue;
        }
        // A Secret may have a newer token by now, which the agent wrote: this one is newer still.
        let forced = Call {
            method: Method::PATCH,
            content_type: Some("application/apply-patch+yaml"),
            body: object.to_string().into(),
            ..Call::get(format!("{path}?fieldManager={}&force=true", super::FIELD_MANAGER))
        };
        cluster.call(forced, tokio::time::Instant::now() + DEADLINE).await.map(drop).map_err(in_cluster)?;
    }
    Ok(())
}

/// What an agent may do at the hub: nothing outside of its Cluster's namespace, and there nothing but this.
fn account(id: &ClusterId) -> Vec<Value> {
    let name = object_name(id);
    let metadata = json!({
        "name": name,
        "namespace": id.namespace(),
        "labels": {(AGENT_LABEL): label_value(id)},
    });
    vec![
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "Role",
            "metadata": metadata,
            "rules": [
                // Its definitions.
                {"apiGroups": [""], "resources": ["secrets"], "resourceNames": [name], "verbs": ["get", "list", "watch"]},
                // Its sign of life; the hub makes the Lease.
                {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "resourceNames": [name], "verbs": ["get", "patch"]},
                // What it has done.
                {"apiGroups": [api::GROUP], "resources": ["appliedworks"],
                 "verbs": ["get", "list", "create", "patch", "delete"]},
                // Events for other clusters: it adds them and counts them, the hub takes them away.
                {"apiGroups": [api::GROUP], "resources": ["relayedevents"], "verbs": ["list", "create", "patch"]},
                // Its next token.
                {"apiGroups": [""], "resources": ["serviceaccounts/token"], "resourceNames": [name], "verbs": ["create"]},
            ],
        }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": metadata,
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": id.namespace()}],
        }),
    ]
}

/// What is to be installed in the cluster, in the order in which it is.
fn in_cluster(
    registration: &AgentRegistration,
    kubeconfig: &SecretString,
) -> Result<Vec<Value>, RegisterError> {
    let AgentRegistration { namespace, cluster_role, .. } = registration;
    let metadata = json!({"name": AGENT, "namespace": namespace});
    let subject = json!([{"kind": "ServiceAccount", "name": AGENT, "namespace": namespace}]);
    let mut all = vec![json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": namespace, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
    })];
    for crd in api::crds() {
        if matches!(&*crd.spec.names.kind, "Work" | "AppliedWork") {
            let value = serde_json::to_value(crd);
            all.push(value.map_err(|error| refused("the CustomResourceDefinitions", error))?);
        }
    }
    all.extend([
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "Role",
            "metadata": metadata,
            "rules": [
                {"apiGroups": [api::GROUP], "resources": ["works", "appliedworks"],
                 "verbs": ["get", "list", "watch", "create", "patch", "delete"]},
                {"apiGroups": [api::GROUP], "resources": ["works/status"], "verbs": ["patch"]},
                {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "create", "update"]},
                {"apiGroups": [""], "resources": ["secrets"],
                 "verbs": ["get", "list", "create", "update", "patch", "delete"]},
            ],
        }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": metadata,
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": AGENT},
            "subjects": subject,
        }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "fleet-events.dev:fleet-agent"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": cluster_role},
            "subjects": subject,
        }),
        json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": HUB_SECRET, "namespace": namespace},
            "type": "Opaque",
            "data": {(KUBECONFIG_KEY): STANDARD.encode(kubeconfig.expose_secret())},
        }),
        deployment(registration),
    ]);
    Ok(all)
}

fn deployment(registration: &AgentRegistration) -> Value {
    let AgentRegistration { id, namespace, image, resolve, .. } = registration;
    let labels = json!({"app.kubernetes.io/name": AGENT});
    let mut args = vec![
        "agent".to_owned(),
        format!("--cluster={id}"),
        "--data=/data".to_owned(),
        "--listen=0.0.0.0:8080".to_owned(),
    ];
    args.extend(resolve.iter().map(|resolve| format!("--resolve={resolve}")));
    let probe = |path: &str| json!({"httpGet": {"path": path, "port": "http"}});
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": AGENT, "namespace": namespace, "labels": labels},
        "spec": {
            "replicas": 1,
            // Never two at a time.
            "strategy": {"type": "Recreate"},
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "serviceAccountName": AGENT,
                    "terminationGracePeriodSeconds": 30,
                    "securityContext": {
                        "runAsNonRoot": true,
                        "runAsUser": 65532,
                        "runAsGroup": 65532,
                        "fsGroup": 65532,
                        "seccompProfile": {"type": "RuntimeDefault"},
                    },
                    "containers": [{
                        "name": AGENT,
                        "image": image,
                        "args": args,
                        "env": [
                            {"name": "POD_NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
                            {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                        ],
                        "ports": [{"name": "http", "containerPort": 8080}],
                        "livenessProbe": probe("/healthz"),
                        "readinessProbe": probe("/readyz"),
                        "securityContext": {
                            "allowPrivilegeEscalation": false,
                            "readOnlyRootFilesystem": true,
                            "capabilities": {"drop": ["ALL"]},
                        },
                        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
                    }],
                    "volumes": [{"name": "data", "emptyDir": {}}],
                },
            },
        },
    })
}
