//! A service account in the cluster that is registered, for kubeconfigs whose credentials cannot be stored.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use jiff::Timestamp;
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{DEADLINE, RegisterError, apply, get, objects, refused, write_call};
use crate::client::{ClusterClient, JSON};

const NAMESPACE: &str = "fleet-system";
const NAME: &str = "fleet";
/// The account, as people read it.
pub(super) const PATH: &str = "fleet-system/fleet";
/// How long the cluster may take to fill in a lasting token.
const LASTING_TOKEN: Duration = Duration::from_secs(5);
/// Ten years; clusters shorten it as they like.
const EXPIRATION_SECONDS: u64 = 10 * 365 * 24 * 3600;

pub(crate) struct Token {
    pub(crate) token: SecretString,
    /// `None` if it lasts.
    pub(crate) expires: Option<Timestamp>,
}

/// Makes (or finds) the service account, lets it do everything, and gets a token for it.
pub(super) async fn create(client: &ClusterClient) -> Result<Token, RegisterError> {
    for object in account() {
        let in_cluster = |failure| refused(&format!("{} in the cluster", objects::title(&object)), failure);
        apply(client, &objects::path(&object), &object).await.map_err(in_cluster)?;
    }
    match lasting(client).await? {
        Some(token) => Ok(Token { token, expires: None }),
        None => request_token(client, NAMESPACE, NAME, Duration::from_secs(EXPIRATION_SECONDS)).await,
    }
}

fn account() -> [Value; 4] {
    [
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}),
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": NAME, "namespace": NAMESPACE}}),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "fleet-events.dev:fleet"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
            "subjects": [{"kind": "ServiceAccount", "name": NAME, "namespace": NAMESPACE}],
        }),
        json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": "fleet-token",
                "namespace": NAMESPACE,
                "annotations": {"kubernetes.io/service-account.name": NAME},
            },
            "type": "kubernetes.io/service-account-token",
        }),
    ]
}

/// The token that the cluster's token controller fills in, if it has one.
async fn lasting(client: &ClusterClient) -> Result<Option<SecretString>, RegisterError> {
    let path = format!("/api/v1/namespaces/{NAMESPACE}/secrets/fleet-token");
    let until = Instant::now() + LASTING_TOKEN;
    loop {
        let secret = get(client, &path).await;
        let secret =
            secret.map_err(|failure| refused("Secret fleet-system/fleet-token in the cluster", failure))?;
        let data = secret.as_ref().and_then(|secret| secret.pointer("/data/token")).and_then(Value::as_str);
        let token =
            data.and_then(|data| STANDARD.decode(data).ok()).and_then(|token| String::from_utf8(token).ok());
        match token {
            Some(token) if !token.is_empty() => return Ok(Some(SecretString::from(token))),
            _ if Instant::now() >= until => return Ok(None),
            _ => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// A token of a service account that lasts as long as asked for, or less if the cluster has it so.
///
/// # Errors
/// When the cluster refuses or does not answer.
pub(crate) async fn request_token(
    client: &ClusterClient,
    namespace: &str,
    name: &str,
    lifetime: Duration,
) -> Result<Token, RegisterError> {
    #[derive(Deserialize)]
    struct Answer {
        status: Status,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Status {
        token: SecretString,
        expiration_timestamp: Timestamp,
    }
    let what = &format!("a token of service account {namespace}/{name}");
    let request = json!({
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {"expirationSeconds": lifetime.as_secs()},
    });
    let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token");
    let call = write_call(Method::POST, &path, JSON, &request);
    let body =
        client.call(call, Instant::now() + DEADLINE).await.map_err(|failure| refused(what, failure))?;
    let Answer { status } =
        serde_json::from_slice(&body).map_err(|_| refused(what, "the answer cannot be understood"))?;
    Ok(Token { token: status.token, expires: Some(status.expiration_timestamp) })
}
