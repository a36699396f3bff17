//! Manifests: rendered Kubernetes objects, checked when they are made.

pub mod names;

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::work::WorkId;

/// The label that marks an object as ours; its value is the [hash](WorkId::hash) of the Work that made it.
pub const MARK: &str = "fleet-events.dev/work";

/// The annotation of an object that was there before and was taken over. It is on the object itself, so that not even a
/// crash makes us delete what is to be given back.
pub const ADOPTED: &str = "fleet-events.dev/adopted";

/// The annotation with which a template allows, by the value `true`, that its object is deleted and created anew where a
/// change is not possible otherwise.
pub const RECREATE: &str = "fleet-events.dev/recreate";

/// Group, version and kind of an object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Gvk {
    /// The API group; empty for the core group.
    pub group: Arc<str>,
    /// The version in the group.
    pub version: Arc<str>,
    /// The kind.
    pub kind: Arc<str>,
}

impl Gvk {
    /// `group/version`, or `version` alone in the core group.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_string()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    fn parse(api_version: &str, kind: &str) -> Result<Self, ManifestError> {
        let fault = |field, reason| ManifestError { field, reason };
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        if api_version.contains('/') {
            names::dns_subdomain(group).map_err(|why| {
                fault("/apiVersion", format!("apiVersion {api_version:?}: the group {why}"))
            })?;
        }
        names::version(version)
            .map_err(|why| fault("/apiVersion", format!("apiVersion {api_version:?}: the version {why}")))?;
        names::kind(kind).map_err(|why| fault("/kind", format!("kind {kind:?}: {why}")))?;
        Ok(Self { group: group.into(), version: version.into(), kind: kind.into() })
    }
}

/// Names one object in a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectRef {
    /// Group, version and kind.
    #[serde(flatten)]
    pub gvk: Gvk,
    /// The namespace, if the manifest names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<Arc<str>>,
    /// The name.
    pub name: Arc<str>,
}

impl ObjectRef {
    /// Whether both name the same object, in whichever version of its API.
    pub fn same_object(&self, other: &ObjectRef) -> bool {
        self.gvk.group == other.gvk.group
            && self.gvk.kind == other.gvk.kind
            && self.namespace == other.namespace
            && self.name == other.name
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.gvk.kind)?;
        if let Some(namespace) = &self.namespace {
            write!(f, "{namespace}/")?;
        }
        f.write_str(&self.name)
    }
}

/// One Kubernetes object to be applied: a JSON object whose apiVersion, kind, name and namespace obey Kubernetes'
/// rules. Anything else cannot be made into one.
#[derive(Clone, PartialEq)]
pub struct Manifest {
    id: ObjectRef,
    object: Map<String, Value>,
}

impl Manifest {
    /// Checks an object and makes it a manifest.
    ///
    /// # Errors
    /// When it is no JSON object, or apiVersion, kind, `metadata.name` or `metadata.namespace` is missing or not
    /// allowed by Kubernetes; also when it carries server-side fields (`uid`, `resourceVersion`, `managedFields`,
    /// `generateName`), which name an object that this is not.
    pub fn new(object: Value) -> Result<Self, ManifestError> {
        let fault = |field: &'static str, reason: String| ManifestError { field, reason };
        let Value::Object(object) = object else {
            return Err(fault("", "is not a mapping; a Kubernetes object was expected".to_owned()));
        };
        let text = |field: &'static str, pointer| match object.get(field) {
            Some(Value::String(text)) => Ok(text.as_str()),
            Some(_) => Err(fault(pointer, format!("{field} must be a string"))),
            None => Err(fault(pointer, format!("{field} is missing; a Kubernetes object was expected"))),
        };
        let gvk = Gvk::parse(text("apiVersion", "/apiVersion")?, text("kind", "/kind")?)?;
        let Some(Value::Object(metadata)) = object.get("metadata") else {
            return Err(fault("/metadata", "metadata is missing or not a mapping".to_owned()));
        };
        for (server_side, pointer) in SERVER_SIDE {
            if metadata.contains_key(server_side) {
                return Err(fault(pointer, format!("metadata.{server_side} is not allowed; remove it")));
            }
        }
        for (field, pointer) in [("labels", "/metadata/labels"), ("annotations", "/metadata/annotations")] {
            match metadata.get(field) {
                None | Some(Value::Null) => {}
                Some(Value::Object(entries)) => {
                    if let Some((key, _)) = entries.iter().find(|(_, value)| !value.is_string()) {
                        return Err(fault(
                            pointer,
                            format!("metadata.{field}[{key:?}] must be a string; quote it"),
                        ));
                    }
                }
                Some(_) => return Err(fault(pointer, format!("metadata.{field} must be a mapping"))),
            }
        }
        let name = match metadata.get("name") {
            Some(Value::String(name)) => name.as_str(),
            Some(_) => {
                return Err(fault("/metadata/name", "metadata.name must be a string; quote it".to_owned()));
            }
            None => return Err(fault("/metadata/name", "metadata.name is missing".to_owned())),
        };
        name_rule(&gvk)(name)
            .map_err(|why| fault("/metadata/name", format!("metadata.name {}: {why}", shown(name))))?;
        let namespace = match metadata.get("namespace") {
            None | Some(Value::Null) => None,
            Some(Value::String(namespace)) => {
                names::dns_label(namespace).map_err(|why| {
                    fault("/metadata/namespace", format!("metadata.namespace {}: {why}", shown(namespace)))
                })?;
                Some(namespace.as_str().into())
            }
            Some(_) => {
                return Err(fault(
                    "/metadata/namespace",
                    "metadata.namespace must be a string; quote it".to_owned(),
                ));
            }
        };
        let id = ObjectRef { gvk, namespace, name: name.into() };
        Ok(Self { id, object })
    }

    /// What it names.
    pub fn id(&self) -> &ObjectRef {
        &self.id
    }

    /// The object as rendered.
    pub fn object(&self) -> &Map<String, Value> {
        &self.object
    }

    /// Whether the object may be deleted and created anew for a change that is not possible otherwise.
    pub fn may_be_recreated(&self) -> bool {
        let annotations = self.object.get("metadata").and_then(|metadata| metadata.get("annotations"));
        annotations.and_then(|annotations| annotations.get(RECREATE)).and_then(Value::as_str) == Some("true")
    }

    /// The object with the mark of a Work: what an Applier writes.
    pub fn marked(&self, work: &WorkId) -> Map<String, Value> {
        let mut object = self.object.clone();
        if let Some(Value::Object(metadata)) = object.get_mut("metadata") {
            let labels = metadata.entry("labels").or_insert_with(|| Value::Object(Map::new()));
            if labels.is_null() {
                *labels = Value::Object(Map::new());
            }
            if let Value::Object(labels) = labels {
                labels.insert(MARK.to_owned(), Value::String(work.hash().to_owned()));
            }
        }
        object
    }
}

/// Shows what it names only: the content may come from a Secret or from an event.
impl fmt::Debug for Manifest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Manifest({})", self.id)
    }
}

/// Why a value is no [`Manifest`]. The reason names the field, and quotes names but no other content.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct ManifestError {
    /// The field at fault, as a JSON pointer; empty for the object as a whole.
    pub field: &'static str,
    /// What is wrong, and where.
    pub reason: String,
}

/// Fields of the metadata that only a server gives, with their pointers.
const SERVER_SIDE: [(&str, &str); 5] = [
    ("uid", "/metadata/uid"),
    ("resourceVersion", "/metadata/resourceVersion"),
    ("managedFields", "/metadata/managedFields"),
    ("generateName", "/metadata/generateName"),
    ("selfLink", "/metadata/selfLink"),
];

/// The rule for names of a kind. Most kinds want DNS subdomains; the exceptions are Kubernetes' own.
fn name_rule(gvk: &Gvk) -> fn(&str) -> Result<(), &'static str> {
    match (&*gvk.group, &*gvk.kind) {
        ("", "Namespace" | "Service") => names::dns_label,
        ("rbac.authorization.k8s.io", _) => names::path_segment,
        _ => names::dns_subdomain,
    }
}

/// A name as errors show it: quoted, and cut where it is long.
fn shown(name: &str) -> String {
    const LONGEST: usize = 80;
    match name.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{:?}… ({} bytes)", name.get(..end).unwrap_or_default(), name.len()),
        None => format!("{name:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn namespace(name: &str) -> Value {
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    }

    #[test]
    fn a_subject_that_is_no_name_goes_nowhere() {
        for bad in ["../x", "https://x/y", "😀", "", "a.b", &"x".repeat(300)] {
            let error = Manifest::new(namespace(bad)).unwrap_err();
            assert!(error.reason.starts_with("metadata.name "), "{}", error.reason);
        }
        let long = Manifest::new(namespace(&"x".repeat(300))).unwrap_err();
        assert!(long.reason.len() < 200 && long.reason.contains("(300 bytes)"), "{}", long.reason);
    }

    #[test]
    fn kinds_and_groups_cannot_leave_their_folder() {
        for (api_version, kind) in [
            ("v1", "../x"),
            ("../v1", "A"),
            ("a/b/c", "A"),
            ("/v1", "A"),
            ("v1", ""),
            ("", "A"),
            ("x/V1", "A"),
        ] {
            let object = json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": "a"}});
            assert!(Manifest::new(object).is_err(), "{api_version} {kind}");
        }
    }

    #[test]
    fn missing_and_mistyped_fields_are_named() {
        for (object, expected) in [
            (json!([]), "is not a mapping"),
            (json!({"kind": "A"}), "apiVersion is missing"),
            (json!({"apiVersion": "v1"}), "kind is missing"),
            (json!({"apiVersion": "v1", "kind": 5}), "kind must be a string"),
            (json!({"apiVersion": "v1", "kind": "A"}), "metadata is missing"),
            (json!({"apiVersion": "v1", "kind": "A", "metadata": {}}), "metadata.name is missing"),
            (
                json!({"apiVersion": "v1", "kind": "A", "metadata": {"name": 5}}),
                "metadata.name must be a string",
            ),
            (
                json!({"apiVersion": "v1", "kind": "A", "metadata": {"name": "a", "uid": "x"}}),
                "metadata.uid is not",
            ),
            (
                json!({"apiVersion": "v1", "kind": "A", "metadata": {"name": "a", "labels": {"n": 5}}}),
                "metadata.labels[\"n\"] must be a string",
            ),
        ] {
            let error = Manifest::new(object).unwrap_err();
            assert!(error.reason.starts_with(expected), "{}", error.reason);
        }
    }

    #[test]
    fn rbac_names_may_hold_colons() {
        let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": {"name": "system:Viewer"}});
        assert!(Manifest::new(role).is_ok());
    }

    #[test]
    fn the_mark_is_added_and_the_rest_stays() {
        let work = WorkId::of_parts("t", &["k"]);
        let manifest = Manifest::new(json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "a", "labels": {"x": "y"}}, "data": {"k": "v"}}))
        .unwrap();
        let marked = manifest.marked(&work);
        assert_eq!(marked["metadata"]["labels"], json!({"x": "y", MARK: work.hash()}));
        assert_eq!(marked["data"], json!({"k": "v"}));
        assert!(!format!("{manifest:?}").contains('v'.to_string().repeat(2).as_str()));
    }
}
