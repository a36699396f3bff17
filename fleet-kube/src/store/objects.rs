//! Requests for single objects, and what their failures mean to a store.

use std::time::Duration;

use bytes::Bytes;
use fleet_core::store::StoreError;
use http::Method;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::record::{Address, Expected, Version};
use crate::client::{Call, ClusterClient, FIELD_MANAGER, Failure, JSON};

/// How long one call of a store may take, all its requests together.
const CALL: Duration = Duration::from_secs(10);
const JSON_PATCH: &str = "application/json-patch+json";
const MERGE_PATCH: &str = "application/merge-patch+json";

/// When a call that begins now must have come to its end.
pub(super) fn deadline() -> Instant {
    Instant::now() + CALL
}

/// The requests that a store sends.
#[derive(Clone, Debug)]
pub(super) struct Objects {
    client: ClusterClient,
}

/// An object as far as stores are concerned.
#[derive(Deserialize)]
pub(super) struct Object {
    metadata: Metadata,
    #[serde(default)]
    pub(super) spec: Value,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    uid: String,
    #[serde(default)]
    generation: i64,
    resource_version: String,
}

impl Object {
    pub(super) fn version(&self) -> Option<Version> {
        Some(Version {
            uid: self.metadata.uid.as_str().into(),
            generation: self.metadata.generation,
            resource: self.metadata.resource_version.parse().ok()?,
        })
    }
}

impl Objects {
    pub(super) fn new(client: ClusterClient) -> Self {
        Self { client }
    }

    pub(super) fn client(&self) -> &ClusterClient {
        &self.client
    }

    /// Makes one of our own objects, whose spec is given as JSON.
    pub(super) async fn create(
        &self,
        at: &Address,
        spec: &str,
        deadline: Instant,
    ) -> Result<Version, Failure> {
        let body = format!(
            r#"{{"apiVersion":"{}/{}","kind":"{}","metadata":{{"name":"{}"}},"spec":{spec}}}"#,
            crate::api::GROUP,
            crate::api::VERSION,
            at.kind,
            at.name
        );
        self.write(Method::POST, &at.collection, JSON, body, deadline).await
    }

    /// Replaces the spec of one of our own objects, if nobody else did. Whatever else changed, a status or a label,
    /// does not matter.
    pub(super) async fn replace(
        &self,
        at: &Address,
        expected: Expected<'_>,
        spec: &str,
        deadline: Instant,
    ) -> Result<Version, Failure> {
        let uid = Value::from(expected.uid);
        let body = format!(
            r#"[{{"op":"test","path":"/metadata/uid","value":{uid}}},{{"op":"test","path":"/metadata/generation","value":{}}},{{"op":"replace","path":"/spec","value":{spec}}}]"#,
            expected.generation
        );
        self.write(Method::PATCH, &at.path(), JSON_PATCH, body, deadline).await
    }

    /// Writes a status, if the object still has this UID.
    pub(super) async fn write_status(
        &self,
        at: &Address,
        uid: &str,
        status: Value,
        deadline: Instant,
    ) -> Result<Version, Failure> {
        let body = json!({"metadata": {"uid": uid}, "status": status}).to_string();
        self.write(Method::PATCH, &format!("{}/status", at.path()), MERGE_PATCH, body, deadline).await
    }

    async fn write(
        &self,
        method: Method,
        path: &str,
        content_type: &'static str,
        body: String,
        deadline: Instant,
    ) -> Result<Version, Failure> {
        // Strict: with definitions of an older version, fields would be dropped in silence.
        let path = format!("{path}?fieldManager={FIELD_MANAGER}&fieldValidation=Strict");
        let call = Call {
            method,
            path,
            content_type: Some(content_type),
            accept: JSON,
            body: Bytes::from(body),
            identity: None,
        };
        let answer = self.client.call(call, deadline).await?;
        let object: Object = parse(&answer)?;
        object.version().ok_or_else(unreadable)
    }

    /// Deletes an object, if it is this one and, where a version is given, still has it.
    pub(super) async fn delete(
        &self,
        path: &str,
        uid: &str,
        version: Option<&str>,
        deadline: Instant,
    ) -> Result<(), Failure> {
        let body = json!({"preconditions": {"uid": uid, "resourceVersion": version}}).to_string();
        let call = Call {
            method: Method::DELETE,
            content_type: Some(JSON),
            accept: JSON,
            body: Bytes::from(body),
            ..Call::get(path)
        };
        self.client.call(call, deadline).await.map(drop)
    }

    /// An object as it is now.
    pub(super) async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        deadline: Instant,
    ) -> Result<Option<T>, Failure> {
        match self.client.call(Call::get(path), deadline).await {
            Ok(answer) => parse(&answer).map(Some),
            Err(Failure::NotFound { .. }) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// Sends one of Kubernetes' own objects: POST to a collection, or PUT.
    pub(super) async fn send(
        &self,
        method: Method,
        path: &str,
        object: &Value,
        deadline: Instant,
    ) -> Result<(), Failure> {
        let call = Call {
            method,
            path: format!("{path}?fieldManager={FIELD_MANAGER}"),
            content_type: Some(JSON),
            accept: JSON,
            body: Bytes::from(object.to_string()),
            identity: None,
        };
        self.client.call(call, deadline).await.map(drop)
    }
}

fn parse<T: DeserializeOwned>(answer: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(answer).map_err(|_| unreadable())
}

/// What answers like that may have done anything.
fn unreadable() -> Failure {
    Failure::NoAnswer { reason: "the answer is not what an API server answers".to_owned() }
}

/// Whether a request that failed like this certainly had no effect.
pub(super) fn had_no_effect(failure: &Failure) -> bool {
    !failure.may_have_taken_effect()
}

/// What a failure means to who uses a store, in words that say what to do. `what` is the record.
pub(super) fn failed(what: impl std::fmt::Display, failure: Failure) -> StoreError {
    let why = match failure {
        Failure::AlreadyExists | Failure::UidMismatch | Failure::Conflict { .. } => {
            return StoreError::Conflict(what.to_string());
        }
        Failure::NoSuchPath => NOT_INSTALLED.to_owned(),
        Failure::NotFound { resource, name } if resource == "namespaces" => {
            format!("{what} cannot be written: namespace {name} is not there; create it")
        }
        Failure::NotFound { .. } => return StoreError::Conflict(what.to_string()),
        Failure::NamespaceTerminating => {
            format!(
                "{what} cannot be written: its namespace is being deleted; create it again once it is gone"
            )
        }
        Failure::Forbidden { message } => {
            format!("{message}; grant the operator what the documentation of fleet_kube::store lists")
        }
        Failure::Unauthorized => {
            "the API server does not accept the operator's credentials; renew them".to_owned()
        }
        // The server's words may quote values of the object, and these may be an event's.
        Failure::Invalid { causes, .. } if !causes.is_empty() => {
            let fields: Vec<_> =
                causes.iter().map(|cause| format!("{} ({})", cause.field, cause.reason)).collect();
            format!("the API server refuses {what} because of {}; {NEWER}", fields.join(", "))
        }
        Failure::TooLarge { .. } => format!(
            "{what} is too large for the API server, which takes about 1 MiB; lower maxEventBytes of its EventSource"
        ),
        Failure::Invalid { .. } => format!("the API server refuses {what}; {NEWER}"),
        Failure::Other { code, .. } => format!(
            "the API server answered {code} for {what}; look at its log, and at webhooks that concern the group fleet-events.dev"
        ),
        failure => format!("{what}: {failure}"),
    };
    StoreError::Unavailable(why)
}

pub(super) const NOT_INSTALLED: &str = "the CustomResourceDefinitions are not installed: run `fleet-operator crds | kubectl apply --server-side -f -`";
const NEWER: &str = "the CustomResourceDefinitions may be those of another version: run `fleet-operator crds | kubectl apply --server-side -f -`";
