//! Sveltos' own manifests, taken as they are: `EventSource`, `EventTrigger` and `SveltosCluster` of group
//! `lib.projectsveltos.io`, `ClusterProfile` of group `config.projectsveltos.io`, version `v1beta1`.
//!
//! Each becomes the manifest of ours that means the same, and that one is read; there is no other way from their fields to
//! what the engine needs. [`Translation`] shows it, for who wants to write it down. What has no such meaning is refused by
//! name: a field that is known and not supported is told apart from one that nobody knows.

mod cluster;
mod payload;
mod profile;
mod source;
mod trigger;

use std::borrow::Cow;

use fleet_core::render::{GoPasses, Language};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::object::{CalledThere, Fault, Kind, Place, Problem, RawObject, join};
use super::parse::{WrittenIn, identified};
use super::strict::strict;
use crate::api::{GO_CLUSTER_ANNOTATION, GO_EVENT_ANNOTATION, GROUP, VERSION};

/// The group of profiles, with its version.
pub(super) const CONFIG: &str = "config.projectsveltos.io/v1beta1";
/// The group of everything else, with its version.
pub(super) const LIB: &str = "lib.projectsveltos.io/v1beta1";

/// The label of a SveltosCluster that tells which version of Kubernetes it runs, as
/// [`KUBERNETES_VERSION_LABEL`](crate::api::KUBERNETES_VERSION_LABEL) of a Cluster does.
pub const VERSION_LABEL: &str = "projectsveltos.io/k8s-version";

/// A ConfigMap or Secret with this annotation holds Lua.
pub(super) const LUA: &str = "projectsveltos.io/lua";

/// The kinds, with group and version.
pub(super) const KINDS: [(&str, &[(&str, Kind)]); 2] = [
    (
        LIB,
        &[
            ("EventSource", Kind::EventSource),
            ("EventTrigger", Kind::EventTrigger),
            ("SveltosCluster", Kind::Cluster),
        ],
    ),
    (CONFIG, &[("ClusterProfile", Kind::ClusterProfile)]),
];

/// A manifest of Sveltos', and the one of ours that means the same but for the language of its templates.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Translation {
    /// Ours, with every field, defaults too. Nothing if something in theirs has no meaning here: what that is stands among
    /// the [problems](super::Definitions::problems) of definitions that are read from it.
    pub ours: Option<Value>,
    /// What an action is rendered by, if it has one.
    pub action: GoPasses,
    /// What the texts of charts are rendered by, and the names of objects that templates see.
    pub texts: GoPasses,
}

impl Translation {
    /// Translates a manifest; nothing if it is none of Sveltos'.
    pub fn of(object: &RawObject) -> Option<Self> {
        let mut place = Place::new(object.location.clone(), object.line_of.clone());
        let (kind, fields) = identified(&mut place, &object.value)?;
        let (action, texts) = passes(kind);
        Some(Self { ours: as_ours(&place, kind, fields).ok().map(Value::Object), action, texts })
    }
}

/// By how many passes what a ConfigMap or Secret holds is rendered; none if `annotated` knows of no annotation that says it.
pub fn passes_of_contents(annotated: impl Fn(&str) -> bool) -> Option<GoPasses> {
    match (annotated(GO_EVENT_ANNOTATION), annotated(GO_CLUSTER_ANNOTATION)) {
        (true, true) => Some(GoPasses::Both),
        (true, false) => Some(GoPasses::Event),
        (false, true) => Some(GoPasses::Cluster),
        (false, false) => None,
    }
}

/// The passes of action and texts. There, what a trigger instantiates is a template of a profile then.
fn passes(kind: Kind) -> (GoPasses, GoPasses) {
    match kind {
        Kind::ClusterProfile => (GoPasses::Cluster, GoPasses::Cluster),
        _ => (GoPasses::Event, GoPasses::Both),
    }
}

/// What the templates are written in that an object of theirs itself holds.
pub(super) fn written_in(kind: Kind) -> WrittenIn {
    let (action, texts) = passes(kind);
    WrittenIn { action: Language::Go(action), texts: Language::Go(texts) }
}

/// The object of ours that means the same.
pub(super) fn as_ours(
    place: &Place,
    kind: Kind,
    object: &Map<String, Value>,
) -> Result<Map<String, Value>, Vec<Problem>> {
    let mut metadata = Map::new();
    for field in ["name", "namespace", "labels", "annotations"] {
        let value = object.get("metadata").and_then(|metadata| metadata.get(field));
        metadata.extend(value.map(|value| (field.to_owned(), value.clone())));
    }
    let spec = match kind {
        Kind::EventSource => json!(source::source(place, object)?),
        Kind::EventTrigger => json!(trigger::trigger(place, object)?),
        Kind::ClusterProfile => json!(profile::profile(place, object)?),
        _ => json!(cluster::cluster(place, object, &mut metadata)?),
    };
    Ok(Map::from_iter([
        ("apiVersion".to_owned(), format!("{GROUP}/{VERSION}").into()),
        ("kind".to_owned(), kind.to_string().into()),
        ("metadata".to_owned(), metadata.into()),
        ("spec".to_owned(), spec),
    ]))
}

/// How fields of ours are called in an object of theirs.
pub(super) fn called_there(kind: Kind) -> CalledThere {
    match kind {
        Kind::EventSource => source::called_there,
        Kind::Cluster => cluster::called_there,
        // They have all of them.
        _ => |ours| Cow::Borrowed(ours),
    }
}

/// An object, as Kubernetes' `ObjectReference` names it, as far as anybody reads it.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct ObjectReference {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    name: String,
}

/// A field that Sveltos has and that has no meaning here.
type Unsupported = (&'static str, &'static str);

/// Reads a mapping: the fields of `T`, and none that is not supported.
fn fields<T: DeserializeOwned + Serialize>(
    place: &Place,
    pointer: &str,
    value: Option<&Value>,
    unsupported: &[Unsupported],
) -> Result<T, Vec<Problem>> {
    let value = supported(place, pointer, value, unsupported)?.unwrap_or_else(|| Value::Object(Map::new()));
    strict(place, pointer, &value).map_err(|problem| vec![problem])
}

/// A mapping without what is not supported, as long as that says nothing.
fn supported(
    place: &Place,
    pointer: &str,
    value: Option<&Value>,
    unsupported: &[Unsupported],
) -> Result<Option<Value>, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut value = value.filter(|value| !value.is_null()).cloned();
    if let Some(Value::Object(fields)) = &mut value {
        for (field, why) in unsupported {
            match fields.remove(*field) {
                None | Some(Value::Null | Value::Bool(false)) => {}
                Some(Value::Array(items)) if items.is_empty() => {}
                Some(Value::String(text)) if text.is_empty() => {}
                Some(_) => {
                    let reason = format!("of Sveltos is not supported: {why}");
                    problems.push(place.problem(&join(pointer, field), Fault::NotSupported, reason));
                }
            }
        }
    }
    if problems.is_empty() { Ok(value) } else { Err(problems) }
}
