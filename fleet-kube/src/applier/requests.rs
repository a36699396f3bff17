//! The requests for one object. In a preview none of them changes anything.

use std::sync::Arc;

use bytes::Bytes;
use fleet_core::apply::Mode;
use fleet_core::keep::keep;
use fleet_core::manifest::{ADOPTED, ObjectRef};
use fleet_core::policy::JsonPointer;
use http::Method;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::object::{METADATA, Object};
use super::run::{Run, of_reading};
use crate::client::{Call, FIELD_MANAGER, Failure, JSON, Resource};

const JSON_PATCH: &str = "application/json-patch+json";

/// An object as it is there.
pub(super) struct Live {
    pub(super) object: Object,
    /// All of it, if that was asked for.
    pub(super) whole: Option<Map<String, Value>>,
}

/// Which object an update is meant for, and in which state: it touches no other.
pub(super) struct Basis {
    pub(super) uid: Arc<str>,
    pub(super) version: Arc<str>,
    pub(super) adopted: bool,
    pub(super) live: Option<Live>,
}

/// What came of a deletion.
pub(super) enum Deleted {
    /// It is still there, with a deletionTimestamp.
    Going,
    /// It may be gone already.
    Accepted,
}

impl Run<'_> {
    pub(super) async fn look(&self, id: &ObjectRef, resource: &Resource) -> Result<Option<Object>, Failure> {
        let body = self.read(id, resource, METADATA).await?;
        body.map(|body| Object::parse(&body).map_err(of_reading)).transpose()
    }

    pub(super) async fn look_whole(
        &self,
        id: &ObjectRef,
        resource: &Resource,
    ) -> Result<Option<Live>, Failure> {
        let Some(body) = self.read(id, resource, JSON).await? else { return Ok(None) };
        let object = Object::parse(&body).map_err(of_reading)?;
        Ok(Some(Live { object, whole: Some(parse(&body).map_err(of_reading)?) }))
    }

    async fn read(
        &self,
        id: &ObjectRef,
        resource: &Resource,
        accept: &'static str,
    ) -> Result<Option<Bytes>, Failure> {
        let path = resource.object(id.namespace.as_deref(), &id.name);
        let call = Call { accept, identity: self.identity, ..Call::get(path) };
        match self.link.client.call(call, self.deadline).await {
            Ok(body) => Ok(Some(body)),
            Err(Failure::NotFound { .. }) => Ok(None),
            Err(failure) => Err(of_reading(failure)),
        }
    }

    pub(super) async fn create(
        &self,
        id: &ObjectRef,
        resource: &Resource,
        object: &Map<String, Value>,
    ) -> Result<Object, Failure> {
        let path = format!(
            "{}?fieldManager={FIELD_MANAGER}&fieldValidation=Strict",
            resource.collection(id.namespace.as_deref())
        );
        Object::parse(&self.write(Method::POST, path, JSON, METADATA, to_bytes(object)?).await?)
    }

    /// Applies to the object with this UID and in this state, and to no other. The answer shows whether the fields of our
    /// POST are still there beside those that we apply; then they become ours to take back, and the apply is repeated.
    pub(super) async fn update(
        &self,
        id: &ObjectRef,
        resource: &Resource,
        object: &Map<String, Value>,
        basis: &Basis,
    ) -> Result<Object, Failure> {
        let mut version = Arc::clone(&basis.version);
        loop {
            let body = self.server_side_apply(id, resource, object, basis, &version, METADATA).await?;
            let updated = Object::parse(&body)?;
            let Some(takeover) = updated.takeover().filter(|_| !updated.is_going()) else {
                return Ok(updated);
            };
            let taken = self.patch(id, resource, &takeover, METADATA).await?;
            version = Object::parse(&taken)?.version().map_or(version, Arc::clone);
        }
    }

    pub(super) async fn server_side_apply(
        &self,
        id: &ObjectRef,
        resource: &Resource,
        object: &Map<String, Value>,
        basis: &Basis,
        version: &str,
        accept: &'static str,
    ) -> Result<Bytes, Failure> {
        let path = format!(
            "{}?fieldManager={FIELD_MANAGER}&force=true&fieldValidation=Strict",
            resource.object(id.namespace.as_deref(), &id.name)
        );
        let mut object = object.clone();
        if let Some(live) = &basis.live {
            self.policy.excluded(id).for_each(|field| keep_field(&mut object, live, field));
        }
        if let Some(Value::Object(metadata)) = object.get_mut("metadata") {
            metadata.insert("uid".to_owned(), json!(basis.uid));
            metadata.insert("resourceVersion".to_owned(), json!(version));
            if basis.adopted {
                let annotations = metadata.entry("annotations").or_insert(Value::Null);
                if annotations.is_null() {
                    *annotations = json!({});
                }
                if let Value::Object(annotations) = annotations {
                    annotations.insert(ADOPTED.to_owned(), json!("true"));
                }
            }
        }
        self.write(Method::PATCH, path, "application/apply-patch+yaml", accept, to_bytes(&object)?).await
    }

    /// A JSON patch. One whose conditions do not hold is a [`Failure::Conflict`].
    pub(super) async fn patch(
        &self,
        id: &ObjectRef,
        resource: &Resource,
        patch: &Value,
        accept: &'static str,
    ) -> Result<Bytes, Failure> {
        let path = resource.object(id.namespace.as_deref(), &id.name);
        let path = format!("{path}?fieldManager={FIELD_MANAGER}");
        let written = self.write(Method::PATCH, path, JSON_PATCH, accept, Bytes::from(patch.to_string()));
        match written.await {
            Err(Failure::Invalid { message, .. }) => Err(Failure::Conflict { message }),
            Err(Failure::NotFound { .. }) => Err(Failure::UidMismatch),
            answer => answer,
        }
    }

    /// Deletes the object with this UID and in this state, and no other.
    pub(super) async fn delete(
        &self,
        id: &ObjectRef,
        resource: &Resource,
        uid: &str,
        version: &str,
    ) -> Result<Deleted, Failure> {
        let options = json!({
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "preconditions": {"uid": uid, "resourceVersion": version},
            "propagationPolicy": "Background",
        });
        let path = resource.object(id.namespace.as_deref(), &id.name);
        let body = self.write(Method::DELETE, path, JSON, JSON, Bytes::from(options.to_string())).await?;
        // Either the object as it is being deleted, or a Status.
        let answer: Answer = serde_json::from_slice(&body).unwrap_or_default();
        let going = answer.kind != "Status" && Object::parse(&body).is_ok_and(|object| object.is_going());
        Ok(if going { Deleted::Going } else { Deleted::Accepted })
    }

    /// Every request that could change something goes through here.
    pub(super) async fn write(
        &self,
        method: Method,
        mut path: String,
        content_type: &'static str,
        accept: &'static str,
        body: Bytes,
    ) -> Result<Bytes, Failure> {
        if self.mode == Mode::Preview {
            path.push(if path.contains('?') { '&' } else { '?' });
            path.push_str("dryRun=All");
        }
        let call =
            Call { method, path, content_type: Some(content_type), accept, body, identity: self.identity };
        let answer = self.link.client.call(call, self.deadline).await;
        // Without an answer, nothing happened all the same.
        if self.mode == Mode::Preview { answer.map_err(of_reading) } else { answer }
    }
}

/// Others may change the field: it stays as it is. One that neither the manifest has nor we have is none of our business.
fn keep_field(object: &mut Map<String, Value>, live: &Live, field: &JsonPointer) {
    let Some(whole) = &live.whole else { return };
    let owned = live.object.owned();
    let is_ours = owned.print([]) != owned.print([field]);
    let is_in_manifest = field.find(object).is_some() || field.parts().iter().any(|part| &**part == "-");
    if is_ours || is_in_manifest {
        keep(object, whole, field);
    }
}

#[derive(Default, Deserialize)]
struct Answer {
    #[serde(default)]
    kind: String,
}

pub(super) fn parse(body: &Bytes) -> Result<Map<String, Value>, Failure> {
    serde_json::from_slice(body).map_err(|_| Failure::NoAnswer {
        reason: "the answer of the API server cannot be understood".to_owned(),
    })
}

fn to_bytes(object: &Map<String, Value>) -> Result<Bytes, Failure> {
    serde_json::to_vec(object).map(Bytes::from).map_err(|_| Failure::Invalid {
        message: "the manifest cannot be written as JSON".to_owned(),
        causes: Vec::new(),
    })
}
