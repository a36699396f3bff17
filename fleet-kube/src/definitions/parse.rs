//! The first step: each object by itself. What can be told wrong without looking at others is told here.

use std::collections::BTreeMap;
use std::sync::Arc;

use fleet_core::cluster::Labels;
use fleet_core::manifest::names;
use fleet_core::render::Language;
use fleet_core::resource::Resource;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::cluster::ClusterDraft;
use super::contents::Contents;
use super::object::{Family, Fault, Kind, Location, ObjectId, Place, Problem, RawObject, join};
use super::policy;
use super::profile::ProfileDraft;
use super::resources;
use super::source::SourceDraft;
use super::strict::strict;
use super::sveltos;
use super::trigger::TriggerDraft;
use crate::api::{ClusterProfileSpec, ClusterSpec, EventTriggerSpec, GROUP, VERSION};
use crate::connection::ClusterDefinition;

/// An object, read as far as it can be read by itself.
#[derive(Debug)]
pub(crate) struct Parsed {
    pub(crate) place: Place,
    /// Whether it is being deleted, and only held back. Not in a folder: what stands there, somebody wants.
    pub(crate) leaving: bool,
    /// What it holds, or why it cannot be used.
    pub(crate) body: Result<Body, Unusable>,
    /// The object as it was read, where an agent may need it: from the Kubernetes API, and usable.
    pub(crate) original: Option<Original>,
    /// The object as templates see it: a ConfigMap or Secret of a folder.
    pub(crate) resource: Option<Arc<Resource>>,
}

/// An object as JSON. It may be a Secret.
#[derive(Clone)]
pub(crate) struct Original(pub(crate) Box<str>);

impl std::fmt::Debug for Original {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Original")
    }
}

/// An object that cannot be used.
#[derive(Debug)]
pub(crate) struct Unusable {
    /// Why: at least one problem.
    pub(crate) problems: Vec<Problem>,
    /// A cluster stays a cluster, with its labels, also while nobody can tell how to reach it.
    pub(crate) stand_in: Option<Box<ClusterDefinition>>,
}

impl From<Problem> for Unusable {
    fn from(problem: Problem) -> Self {
        Self::from(vec![problem])
    }
}

impl From<Vec<Problem>> for Unusable {
    fn from(problems: Vec<Problem>) -> Self {
        Self { problems, stand_in: None }
    }
}

/// What an object holds.
#[derive(Debug)]
pub(crate) enum Body {
    Source(Box<SourceDraft>),
    Trigger(Box<TriggerDraft>),
    Profile(Box<ProfileDraft>),
    Cluster(Box<ClusterDraft>),
    Contents(Contents),
}

impl Body {
    /// Whether an agent may need it: of clusters only its own.
    fn concerns_agents(&self) -> bool {
        match self {
            Self::Cluster(draft) => draft.is_agent_driven(),
            _ => true,
        }
    }
}

impl Parsed {
    pub(crate) fn new(raw: RawObject) -> Self {
        let RawObject { location, value, line_of } = raw;
        let mut place = Place::new(location, line_of);
        let leaving = place.location == Location::Api
            && value.pointer("/metadata/deletionTimestamp").is_some_and(|since| !since.is_null());
        let body = read(&mut place, &value);
        let resource = match (&place.location, &body, &place.id, &value) {
            (Location::File { .. }, Ok(Body::Contents(_)), Some(id), Value::Object(object)) => {
                Some(Arc::new(resources::as_served(id, object)))
            }
            _ => None,
        };
        let wanted = place.location == Location::Api && body.as_ref().is_ok_and(Body::concerns_agents);
        let original = wanted.then(|| Original(value.to_string().into()));
        Self { place, leaving, body, original, resource }
    }
}

/// What the templates are written in that a trigger or profile itself holds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct WrittenIn {
    /// What makes action and key of an event.
    pub(super) action: Language,
    /// The texts of charts, and the names of what templates see of the management cluster.
    pub(super) texts: Language,
}

fn read(place: &mut Place, value: &Value) -> Result<Body, Unusable> {
    let object = mapping(place, value)?;
    let (kind, family) = kind(place, object)?;
    let metadata = metadata(place, kind, object)?;
    match family {
        Family::Fleet => ours(place, kind, &metadata, object, WrittenIn::default()),
        Family::Sveltos => {
            known_fields(place, object, &["spec", "status"])?;
            let object = match sveltos::as_ours(place, kind, object) {
                Ok(object) => object,
                Err(problems) if kind == Kind::Cluster => {
                    return cluster_or_stand_in(place, &metadata, Err(problems));
                }
                Err(problems) => return Err(problems.into()),
            };
            place.called_there = Some(sveltos::called_there(kind));
            let metadata = self::metadata(place, kind, &object)?;
            ours(place, kind, &metadata, &object, sveltos::written_in(kind))
        }
    }
}

fn mapping<'a>(place: &Place, value: &'a Value) -> Result<&'a Map<String, Value>, Problem> {
    value
        .as_object()
        .ok_or_else(|| place.problem("", Fault::Invalid, "is no mapping; a Kubernetes object was expected"))
}

/// An object of Sveltos', whose name the place knows from then on; nothing if it is none, or has no name.
pub(super) fn identified<'a>(place: &mut Place, value: &'a Value) -> Option<(Kind, &'a Map<String, Value>)> {
    let object = mapping(place, value).ok()?;
    let (kind, family) = kind(place, object).ok()?;
    metadata(place, kind, object).ok()?;
    (family == Family::Sveltos).then_some((kind, object))
}

/// Reads an object of ours.
fn ours(
    place: &Place,
    kind: Kind,
    metadata: &Metadata,
    object: &Map<String, Value>,
    written_in: WrittenIn,
) -> Result<Body, Unusable> {
    match kind {
        Kind::EventSource => {
            known_fields(place, object, &["spec", "status"])?;
            let draft = SourceDraft::new(place, spec(place, object)?, object)?;
            Ok(Body::Source(Box::new(draft)))
        }
        Kind::EventTrigger => {
            known_fields(place, object, &["spec", "status"])?;
            if let Some(Value::Object(spec)) = object.get("spec") {
                policy::check_fields::<EventTriggerSpec>(place, spec)?;
            }
            let draft = TriggerDraft::new(place, spec(place, object)?, written_in)?;
            Ok(Body::Trigger(Box::new(draft)))
        }
        Kind::ClusterProfile => {
            known_fields(place, object, &["spec", "status"])?;
            if let Some(Value::Object(spec)) = object.get("spec") {
                policy::check_fields::<ClusterProfileSpec>(place, spec)?;
            }
            let draft = ProfileDraft::new(place, spec(place, object)?, written_in.texts)?;
            Ok(Body::Profile(Box::new(draft)))
        }
        Kind::Cluster => cluster_or_stand_in(place, metadata, cluster(place, metadata, object)),
        Kind::ConfigMap => {
            known_fields(place, object, &["data", "binaryData", "immutable"])?;
            Ok(Body::Contents(Contents::config_map(place, metadata, object)?))
        }
        Kind::Secret => {
            known_fields(place, object, &["data", "stringData", "type", "immutable"])?;
            Ok(Body::Contents(Contents::secret(place, metadata, object)?))
        }
    }
}

/// A cluster whose object cannot be used is one all the same.
fn cluster_or_stand_in(
    place: &Place,
    metadata: &Metadata,
    draft: Result<ClusterDraft, Vec<Problem>>,
) -> Result<Body, Unusable> {
    draft.map(|draft| Body::Cluster(Box::new(draft))).map_err(|problems| {
        let stand_in = ClusterDraft::stand_in(place, metadata, &problems).map(Box::new);
        Unusable { problems, stand_in }
    })
}

fn cluster(
    place: &Place,
    metadata: &Metadata,
    object: &Map<String, Value>,
) -> Result<ClusterDraft, Vec<Problem>> {
    let spec =
        known_fields(place, object, &["spec", "status"]).and_then(|()| spec::<ClusterSpec>(place, object));
    ClusterDraft::new(place, metadata, spec.map_err(|problem| vec![problem])?, object)
}

/// Which kind it is.
fn kind(place: &Place, object: &Map<String, Value>) -> Result<(Kind, Family), Problem> {
    let text = |field: &str| match object.get(field) {
        Some(Value::String(text)) => Ok(text.as_str()),
        Some(_) => Err(place.problem(&join("", field), Fault::Invalid, "must be a string")),
        None => Err(place.problem(
            "",
            Fault::Invalid,
            format!("{field} is missing; a Kubernetes object was expected"),
        )),
    };
    let (api_version, kind) = (text("apiVersion")?, text("kind")?);
    let ours = format!("{GROUP}/{VERSION}");
    for (version, kinds) in sveltos::KINDS {
        if version == api_version
            && let Some((_, found)) = kinds.iter().find(|(name, _)| *name == kind)
        {
            return Ok((*found, Family::Sveltos));
        }
    }
    let kinds: [(&str, &[(&str, Kind)]); 2] = [
        (
            &ours,
            &[
                ("Cluster", Kind::Cluster),
                ("ClusterProfile", Kind::ClusterProfile),
                ("EventSource", Kind::EventSource),
                ("EventTrigger", Kind::EventTrigger),
            ],
        ),
        ("v1", &[("ConfigMap", Kind::ConfigMap), ("Secret", Kind::Secret)]),
    ];
    let known = kinds
        .iter()
        .flat_map(|(version, kinds)| kinds.iter().map(move |(name, kind)| (*version, *name, *kind)));
    for (version, name, found) in known {
        if name == kind {
            if version == api_version {
                return Ok((found, Family::Fleet));
            }
            let reason = format!("{kind} of {api_version} has no meaning here; write apiVersion: {version}");
            return Err(place.problem("/apiVersion", Fault::UnknownKind, reason));
        }
    }
    let name = object.get("metadata").and_then(|metadata| metadata.get("name")).and_then(Value::as_str);
    let reason = format!(
        "{kind}{} has no meaning here; expected Cluster, ClusterProfile, EventSource or EventTrigger of {ours}, or ConfigMap or \
         Secret of v1. What is to be applied to clusters belongs into a ConfigMap that a trigger or profile refers to",
        name.map(|name| format!(" {name:?}")).unwrap_or_default(),
    );
    Err(place.problem("/kind", Fault::UnknownKind, reason))
}

/// What we use of an object's metadata.
#[derive(Debug, Default)]
pub(super) struct Metadata {
    pub(super) labels: Labels,
    pub(super) annotations: Labels,
}

/// All of ObjectMeta, so that a misspelt field is an error and one that a server wrote is not.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ObjectMeta {
    name: Option<String>,
    namespace: Option<String>,
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<BTreeMap<String, String>>,
    creation_timestamp: Option<Value>,
    deletion_grace_period_seconds: Option<Value>,
    deletion_timestamp: Option<Value>,
    finalizers: Option<Value>,
    generate_name: Option<Value>,
    generation: Option<Value>,
    managed_fields: Option<Value>,
    owner_references: Option<Value>,
    resource_version: Option<Value>,
    self_link: Option<Value>,
    uid: Option<Value>,
}

/// Reads the metadata, and from then on the place knows which object it is.
fn metadata(place: &mut Place, kind: Kind, object: &Map<String, Value>) -> Result<Metadata, Problem> {
    let Some(value) = object.get("metadata").filter(|value| !value.is_null()) else {
        return Err(place.problem(
            "",
            Fault::Invalid,
            format!("metadata is missing; every {kind} needs a name"),
        ));
    };
    // The name first, so that whatever else is wrong can be told with it.
    let text = |field: &str| value.get(field).and_then(Value::as_str);
    if let Some(name) = text("name") {
        names::dns_subdomain(name)
            .map_err(|why| place.problem("/metadata/name", Fault::Invalid, format!("{name:?} {why}")))?;
        let namespace = match (kind.namespaced(), text("namespace")) {
            (true, Some(namespace)) => {
                names::dns_label(namespace).map_err(|why| {
                    place.problem("/metadata/namespace", Fault::Invalid, format!("{namespace:?} {why}"))
                })?;
                Some(namespace.into())
            }
            // As kubectl does.
            (true, None) => Some("default".into()),
            (false, _) => None,
        };
        place.id = Some(ObjectId { kind, namespace, name: name.into() });
    }
    let read: ObjectMeta = strict(place, "/metadata", value)?;
    if read.name.is_none() {
        return Err(place.problem(
            "/metadata",
            Fault::Invalid,
            format!("name is missing; every {kind} needs one"),
        ));
    }
    if !kind.namespaced() && read.namespace.is_some() {
        let reason = format!("{kind} is a kind without namespaces; remove the field");
        return Err(place.problem("/metadata/namespace", Fault::Invalid, reason));
    }
    Ok(Metadata {
        labels: read.labels.unwrap_or_default(),
        annotations: read.annotations.unwrap_or_default(),
    })
}

/// Refuses fields beside apiVersion, kind, metadata and these.
fn known_fields(place: &Place, object: &Map<String, Value>, known: &[&str]) -> Result<(), Problem> {
    let unknown = object
        .keys()
        .find(|key| !["apiVersion", "kind", "metadata"].contains(&&***key) && !known.contains(&&***key));
    match unknown {
        None => Ok(()),
        Some(key) => Err(place.problem(
            &join("", key),
            Fault::Invalid,
            format!("unknown field `{key}`, expected one of `metadata`, `{}`", known.join("`, `")),
        )),
    }
}

fn spec<T: DeserializeOwned + Serialize>(place: &Place, object: &Map<String, Value>) -> Result<T, Problem> {
    match object.get("spec") {
        None | Some(Value::Null) => Err(place.problem("", Fault::Invalid, "spec is missing")),
        Some(value) => strict(place, "/spec", value),
    }
}
