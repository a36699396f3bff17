//! What an object needs to be there at all: its kind and its namespace.

use std::time::Duration;

use bytes::Bytes;
use fleet_core::apply::{Mode, Outcome};
use fleet_core::manifest::{Manifest, ObjectRef};
use http::Method;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::apply::{Creation, Kind};
use super::object::METADATA;
use super::run::{Run, of_reading};
use crate::client::{FIELD_MANAGER, Failure, JSON, Resource};

/// A definition that is not established by then has a problem, and holds up no other object.
const LONGEST: Duration = Duration::from_secs(10);
const SHORTEST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

impl Run<'_> {
    /// Where the object's kind is served. If its definition is in the set, it is waited for.
    pub(super) async fn kind(&self, id: &ObjectRef) -> Kind {
        if let Some(resource) = self.find(id).await? {
            return Ok(Ok(resource));
        }
        let Some(definition) = self.definition_of(id) else { return Ok(Err(unknown_kind(id))) };
        if self.mode == Mode::Preview {
            return Ok(Err(not_established(id, None)));
        }
        let Ok(_establishing) = tokio::time::timeout_at(self.deadline, self.establishing.lock()).await else {
            return Ok(Err(not_established(id, None)));
        };
        if let Some(resource) = self.find(id).await? {
            return Ok(Ok(resource));
        }
        let until = self.until();
        let mut pause = SHORTEST_PAUSE;
        loop {
            match self.definition(definition).await? {
                Some(definition) if definition.has("NamesAccepted", "False") => {
                    return Ok(Err(not_established(id, Some("its names are taken by another definition"))));
                }
                Some(definition) if definition.has("Established", "True") => {
                    self.link.kinds.forget(&id.gvk);
                    if let Some(resource) = self.find(id).await? {
                        return Ok(Ok(resource));
                    }
                }
                Some(_) => {}
                None => return Ok(Err(not_established(id, Some("its definition is not there")))),
            }
            if Instant::now() + pause >= until {
                return Ok(Err(not_established(id, None)));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn find(&self, id: &ObjectRef) -> Result<Option<Resource>, Failure> {
        self.link.kinds.find(&self.link.client, &id.gvk, self.deadline).await.map_err(of_reading)
    }

    /// The manifest in the set that defines the object's kind.
    pub(super) fn definition_of(&self, id: &ObjectRef) -> Option<&ObjectRef> {
        self.manifests.iter().find(|manifest| defines(manifest, id)).map(Manifest::id)
    }

    async fn definition(&self, id: &ObjectRef) -> Result<Option<Definition>, Failure> {
        let Some(resource) = self.find(id).await? else { return Ok(None) };
        let Some(live) = self.look_whole(id, &resource).await?.filter(|live| !live.object.is_going()) else {
            return Ok(None);
        };
        let whole = live.whole.map(Value::Object).unwrap_or_default();
        Ok(Some(serde_json::from_value(whole).unwrap_or_default()))
    }

    fn until(&self) -> Instant {
        (Instant::now() + LONGEST).min(self.deadline)
    }

    /// Creates an object, and its namespace if that is missing.
    pub(super) async fn create_where_it_belongs(
        &self,
        id: &ObjectRef,
        resource: &Resource,
        object: &Map<String, Value>,
    ) -> Creation {
        match self.create_once_served(id, resource, object).await {
            Err(Failure::NotFound { resource: missing, name }) if missing == "namespaces" => {
                if self.mode == Mode::Preview || !self.may_make_namespace(&name) {
                    return Err(Failure::NotFound { resource: missing, name });
                }
                if let Err(outcome) = self.make_namespace(&name).await? {
                    return Ok(Err(outcome));
                }
                self.create_once_served(id, resource, object).await.map(Ok)
            }
            created => created.map(Ok),
        }
    }

    /// An API server serves a kind a little later than it says that the kind is established.
    async fn create_once_served(
        &self,
        id: &ObjectRef,
        resource: &Resource,
        object: &Map<String, Value>,
    ) -> Result<super::object::Object, Failure> {
        let until = self.until();
        let mut pause = SHORTEST_PAUSE;
        loop {
            match self.create(id, resource, object).await {
                Err(Failure::NoSuchPath | Failure::Throttled { cluster: false, .. })
                    if self.definition_of(id).is_some() && Instant::now() + pause < until =>
                {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                created => return created,
            }
        }
    }

    /// Whether a namespace that is missing is to be made for what belongs into it. One that is in the set is made as that
    /// says, or not at all.
    pub(super) fn may_make_namespace(&self, name: &str) -> bool {
        !self.policy.skip_namespace_creation && !self.has_namespace(name)
    }

    /// Whether a namespace is in the set.
    pub(super) fn has_namespace(&self, name: &str) -> bool {
        self.manifests.iter().any(|manifest| {
            let id = manifest.id();
            id.gvk.group.is_empty() && &*id.gvk.kind == "Namespace" && &*id.name == name
        })
    }

    /// Makes a namespace that is nobody's: it carries no mark, and is never deleted.
    async fn make_namespace(&self, name: &str) -> Result<Result<(), Outcome>, Failure> {
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        let path = format!("/api/v1/namespaces?fieldManager={FIELD_MANAGER}");
        let body = Bytes::from(namespace.to_string());
        match self.write(Method::POST, path, JSON, METADATA, body).await {
            // If it is on its way out, the next request says so.
            Ok(_) | Err(Failure::AlreadyExists) => Ok(Ok(())),
            Err(Failure::Forbidden { message }) => Ok(Err(Outcome::Waiting {
                reason: format!("namespace {name} does not exist, and cannot be created: {message}"),
            })),
            Err(failure) => Err(failure),
        }
    }
}

/// The part of a definition's status that tells whether its kind is served.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Definition {
    status: DefinitionStatus,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct DefinitionStatus {
    conditions: Vec<Condition>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Condition {
    r#type: String,
    status: String,
}

impl Definition {
    fn has(&self, condition: &str, status: &str) -> bool {
        self.status.conditions.iter().any(|found| found.r#type == condition && found.status == status)
    }
}

fn not_established(id: &ObjectRef, why: Option<&str>) -> Outcome {
    let (kind, version) = (&id.gvk.kind, id.gvk.api_version());
    let why = why.map(|why| format!(": {why}")).unwrap_or_default();
    Outcome::Waiting { reason: format!("{kind} ({version}) is not established yet{why}") }
}

fn unknown_kind(id: &ObjectRef) -> Outcome {
    let (api_version, kind) = (id.gvk.api_version(), &id.gvk.kind);
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
