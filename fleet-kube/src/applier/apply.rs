//! One manifest becomes an object.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fleet_core::apply::{InventoryItem, Outcome};
use fleet_core::manifest::{Manifest, ObjectRef};
use http::Method;
use serde_json::{Map, Value};

use super::object::{METADATA, Object};
use super::{Run, of_reading};
use crate::client::{Call, FIELD_MANAGER, Failure, JSON, Resource};

/// How often an object may change under our hands before it is left for later.
const TURNS: usize = 6;

enum Step {
    /// It is not there, as far as we know.
    Create,
    /// It is ours.
    Update(Arc<str>),
    /// Something has its name.
    Look,
}

impl Run<'_> {
    pub(super) async fn apply(
        &self,
        manifest: &Manifest,
        inventory: &[InventoryItem],
        request: &[Manifest],
    ) -> Result<Outcome, Failure> {
        let id = manifest.id();
        let found = self.link.kinds.find(&self.link.client, &id.gvk, self.deadline).await;
        let Some(resource) = found.map_err(of_reading)? else {
            return Ok(unknown_kind(id, request));
        };
        if let Some(fault) = self.scope_fault(id, &resource) {
            return Ok(fault);
        }
        let known =
            inventory.iter().find(|item| item.object.same_object(id)).and_then(|item| item.uid.clone());
        let object = manifest.marked(self.work);
        let mut step = known.map_or(Step::Create, Step::Update);
        for _ in 0..TURNS {
            step = match step {
                Step::Create => match self.create(id, &resource, &object).await {
                    Ok(object) => {
                        return Ok(Outcome::Applied(object.placed(self.policy.excluded(id))));
                    }
                    Err(Failure::AlreadyExists) => Step::Look,
                    Err(failure) => return Err(failure),
                },
                Step::Update(uid) => match self.update(id, &resource, &object, &uid).await {
                    Ok(object) if object.is_going() => return Ok(being_deleted(id)),
                    Ok(object) => return Ok(Outcome::Applied(object.placed(self.policy.excluded(id)))),
                    Err(Failure::UidMismatch) => Step::Look,
                    Err(failure) => return Err(failure),
                },
                Step::Look => match self.look(id, &resource).await? {
                    None => Step::Create,
                    Some(object) if object.is_going() => return Ok(being_deleted(id)),
                    Some(object) if object.mark() == Some(self.work.hash()) => {
                        Step::Update(Arc::clone(object.uid()))
                    }
                    Some(object) => {
                        return Ok(Outcome::Conflict { owner: object.owner() });
                    }
                },
            };
        }
        Ok(keeps_changing())
    }

    async fn create(
        &self,
        id: &ObjectRef,
        resource: &Resource,
        object: &Map<String, Value>,
    ) -> Result<Object, Failure> {
        let path = resource.collection(id.namespace.as_deref());
        let call = Call {
            method: Method::POST,
            path: format!("{path}?fieldManager={FIELD_MANAGER}&fieldValidation=Strict"),
            content_type: Some(JSON),
            accept: METADATA,
            body: to_bytes(object)?,
            identity: self.identity,
        };
        Object::parse(&self.link.client.call(call, self.deadline).await?)
    }

    /// Applies to the object with this UID and no other. The answer shows whether the fields of our POST are still
    /// there beside those that we apply; then they become ours to take back, and the apply is repeated.
    async fn update(
        &self,
        id: &ObjectRef,
        resource: &Resource,
        object: &Map<String, Value>,
        uid: &str,
    ) -> Result<Object, Failure> {
        let path = resource.object(id.namespace.as_deref(), &id.name);
        let apply = Call {
            method: Method::PATCH,
            path: format!("{path}?fieldManager={FIELD_MANAGER}&force=true&fieldValidation=Strict"),
            content_type: Some("application/apply-patch+yaml"),
            accept: METADATA,
            body: to_bytes(&with_uid(object, uid))?,
            identity: self.identity,
        };
        for _ in 0..TURNS {
            let object = Object::parse(&self.link.client.call(apply.clone(), self.deadline).await?)?;
            let Some(takeover) = object.takeover().filter(|_| !object.is_going()) else {
                return Ok(object);
            };
            let take_over = Call {
                method: Method::PATCH,
                path: format!("{path}?fieldManager={FIELD_MANAGER}"),
                content_type: Some("application/json-patch+json"),
                accept: METADATA,
                body: Bytes::from(takeover.to_string()),
                identity: self.identity,
            };
            match self.link.client.call(take_over, self.deadline).await {
                Ok(_) => {}
                // Somebody wrote in between, so the list of managers is another one: the next answer shows it.
                Err(Failure::Invalid { .. } | Failure::Conflict { .. }) => {}
                Err(Failure::NotFound { .. }) => return Err(Failure::UidMismatch),
                Err(failure) => return Err(failure),
            }
        }
        Err(Failure::Conflict { message: "others write to it all the time".to_owned() })
    }

    pub(super) async fn look(&self, id: &ObjectRef, resource: &Resource) -> Result<Option<Object>, Failure> {
        let path = resource.object(id.namespace.as_deref(), &id.name);
        let call = Call { accept: METADATA, identity: self.identity, ..Call::get(path) };
        match self.link.client.call(call, self.deadline).await {
            Ok(body) => Object::parse(&body).map(Some).map_err(of_reading),
            Err(Failure::NotFound { .. }) => Ok(None),
            Err(failure) => Err(of_reading(failure)),
        }
    }
}

/// With a UID, server-side apply neither creates nor touches another object.
fn with_uid(object: &Map<String, Value>, uid: &str) -> Map<String, Value> {
    let mut object = object.clone();
    if let Some(Value::Object(metadata)) = object.get_mut("metadata") {
        metadata.insert("uid".to_owned(), Value::String(uid.to_owned()));
    }
    object
}

fn to_bytes(object: &Map<String, Value>) -> Result<Bytes, Failure> {
    serde_json::to_vec(object).map(Bytes::from).map_err(|_| Failure::Invalid {
        message: "the manifest cannot be written as JSON".to_owned(),
        causes: Vec::new(),
    })
}

fn unknown_kind(id: &ObjectRef, request: &[Manifest]) -> Outcome {
    let (api_version, kind) = (id.gvk.api_version(), &id.gvk.kind);
    if request.iter().any(|manifest| defines(manifest, id)) {
        return Outcome::Waiting { reason: format!("{kind} ({api_version}) is not established yet") };
    }
    Outcome::Rejected {
        reason: format!(
            "the cluster does not know the kind {kind} of {api_version}; install its CustomResourceDefinition, or \
             correct apiVersion and kind"
        ),
    }
}

/// Whether a manifest is the definition of the kind.
fn defines(manifest: &Manifest, id: &ObjectRef) -> bool {
    let text = |path| {
        manifest.object().get("spec").and_then(|spec: &Value| spec.pointer(path)).and_then(Value::as_str)
    };
    &*manifest.id().gvk.kind == "CustomResourceDefinition"
        && text("/group") == Some(&*id.gvk.group)
        && text("/names/kind") == Some(&*id.gvk.kind)
}

pub(super) fn being_deleted(id: &ObjectRef) -> Outcome {
    Outcome::Waiting { reason: format!("{id} is being deleted") }
}

pub(super) fn keeps_changing() -> Outcome {
    Outcome::Retry {
        after: Duration::from_secs(1),
        reason: "somebody else replaces the object all the time".to_owned(),
        cluster: false,
    }
}
