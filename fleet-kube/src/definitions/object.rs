//! Objects as they were found: where, and what is wrong with them.

use std::borrow::Cow;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use fleet_core::catalog::{Subject, profile_name};
use serde_json::Value;

/// Tells the line of a field, given as a JSON pointer (`/spec/policyRefs/0/name`), in the file that the object is from.
pub type LineOf = Arc<dyn Fn(&str) -> Option<u32> + Send + Sync>;

/// An object that nobody has looked into yet.
#[derive(Clone)]
pub struct RawObject {
    /// Where it was found.
    pub location: Location,
    /// The object. It may be a Secret.
    pub value: Value,
    /// The lines of its fields, where there are lines.
    pub line_of: Option<LineOf>,
}

impl RawObject {
    /// An object from a file, whose document begins at a line.
    pub fn in_file(file: impl Into<Arc<Path>>, line: u32, value: Value, line_of: LineOf) -> Self {
        Self { location: Location::File { file: file.into(), line }, value, line_of: Some(line_of) }
    }

    /// An object from the Kubernetes API.
    pub fn in_api(value: Value) -> Self {
        Self { location: Location::Api, value, line_of: None }
    }
}

/// Leaves the object out: it may be a Secret.
impl fmt::Debug for RawObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawObject").field("location", &self.location).finish_non_exhaustive()
    }
}

/// Where an object was found.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Location {
    /// In a file of manifests.
    File {
        /// The file.
        file: Arc<Path>,
        /// The line that its document begins at, counted from 1.
        line: u32,
    },
    /// In the Kubernetes API.
    Api,
}

impl Location {
    /// Whether it is in this file, or in a file under this folder.
    pub(super) fn is_within(&self, outer: &Self) -> bool {
        matches!((self, outer), (Self::File { file, .. }, Self::File { file: outer, .. }) if file.starts_with(outer))
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { file, line } => write!(f, "{}:{line}", file.display()),
            Self::Api => f.write_str("the Kubernetes API"),
        }
    }
}

/// The kinds that definitions are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Kind {
    /// Where events come from.
    EventSource,
    /// The rule.
    EventTrigger,
    /// What clusters always get.
    ClusterProfile,
    /// A managed cluster.
    Cluster,
    /// Templates, or objects to apply as they stand.
    ConfigMap,
    /// As a ConfigMap; also credentials.
    Secret,
}

impl Kind {
    /// Whether its objects live in namespaces.
    pub fn namespaced(self) -> bool {
        !matches!(self, Self::EventSource | Self::EventTrigger | Self::ClusterProfile)
    }
}

/// Whose custom resources definitions are made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Family {
    /// Ours, of group `fleet-events.dev`.
    #[default]
    Fleet,
    /// Sveltos', of the groups `lib.projectsveltos.io` and `config.projectsveltos.io`.
    Sveltos,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Names one object of a definition, printed as `Cluster civo/cluster1`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectId {
    /// The kind.
    pub kind: Kind,
    /// The namespace, for kinds that have one.
    pub namespace: Option<Arc<str>>,
    /// The name.
    pub name: Arc<str>,
}

impl ObjectId {
    /// Names an object that lives in a namespace.
    pub fn namespaced(kind: Kind, namespace: &str, name: &str) -> Self {
        Self { kind, namespace: Some(namespace.into()), name: name.into() }
    }

    /// Names an object that lives in none.
    pub fn cluster_scoped(kind: Kind, name: &str) -> Self {
        Self { kind, namespace: None, name: name.into() }
    }
}

impl ObjectId {
    /// What a trigger or profile is called among triggers.
    pub(crate) fn rule(&self) -> Arc<str> {
        match self.kind {
            Kind::ClusterProfile => profile_name(&self.name),
            _ => Arc::clone(&self.name),
        }
    }

    /// The trigger or profile with this name among triggers.
    pub(crate) fn of_rule(rule: &Arc<str>) -> Self {
        match Subject::of_trigger(rule) {
            Subject::Profile(name) => Self::cluster_scoped(Kind::ClusterProfile, &name),
            _ => Self::cluster_scoped(Kind::EventTrigger, rule),
        }
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.kind)?;
        if let Some(namespace) = &self.namespace {
            write!(f, "{namespace}/")?;
        }
        f.write_str(&self.name)
    }
}

/// Something about an object that somebody has to change. Never holds anything out of a Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The object, if it can be told.
    pub object: Option<ObjectId>,
    /// Where the object was found.
    pub location: Location,
    /// The field, as a path from the object's root: `spec.policyRefs[0].name`.
    pub field: Option<Box<str>>,
    /// The line of the field, or of what holds it.
    pub line: Option<u32>,
    /// What kind of fault it is.
    pub fault: Fault,
    /// What is wrong, and what to do.
    pub reason: String,
}

impl Problem {
    /// A file, or a document in it, that could not be read at all.
    pub fn unreadable(file: impl Into<Arc<Path>>, line: Option<u32>, reason: impl Into<String>) -> Self {
        let location = Location::File { file: file.into(), line: line.unwrap_or(1) };
        Self { object: None, location, field: None, line, fault: Fault::Unreadable, reason: reason.into() }
    }
}

/// What, where, why, and what to do: `triggers.yaml:14: EventTrigger t: spec.syncMode: …`.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Location::File { file, line } = &self.location {
            write!(f, "{}:{}: ", file.display(), self.line.unwrap_or(*line))?;
        }
        if let Some(object) = &self.object {
            write!(f, "{object}: ")?;
        }
        if let Some(field) = &self.field {
            write!(f, "{field}: ")?;
        }
        f.write_str(&self.reason)
    }
}

/// The kinds of [`Problem`]s. Their names are the reasons that conditions show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// It could not be read: no YAML, no permission.
    Unreadable,
    /// It is of a kind that has no meaning here.
    UnknownKind,
    /// A field is unknown, missing or wrong.
    Invalid,
    /// It is defined twice.
    Duplicate,
    /// It refers to something that does not exist, or cannot be used.
    MissingReference,
    /// It asks for something that does not exist yet.
    NotSupported,
    /// It changes what must not change.
    Immutable,
}

/// Says how a field of ours, given as a JSON pointer, is called in an object of another family.
pub(crate) type CalledThere = fn(&str) -> Cow<'_, str>;

/// An object that was identified, so that problems can name it.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) id: Option<ObjectId>,
    pub(crate) location: Location,
    pub(crate) line_of: Option<LineOf>,
    /// How the object calls what we know by our names; by these, if it is ours.
    pub(crate) called_there: Option<CalledThere>,
}

impl Place {
    pub(crate) fn new(location: Location, line_of: Option<LineOf>) -> Self {
        Self { id: None, location, line_of, called_there: None }
    }

    /// A problem at a field of ours, given as a JSON pointer; `""` is the object itself.
    pub(crate) fn problem(&self, pointer: &str, fault: Fault, reason: impl Into<String>) -> Problem {
        let pointer = match self.called_there {
            Some(called_there) => called_there(pointer),
            None => Cow::Borrowed(pointer),
        };
        Problem {
            object: self.id.clone(),
            location: self.location.clone(),
            field: (!pointer.is_empty()).then(|| dotted(&pointer).into()),
            line: self.line(&pointer),
            fault,
            reason: reason.into(),
        }
    }

    /// The line of a field, or of the nearest thing around it that has one.
    fn line(&self, pointer: &str) -> Option<u32> {
        let line_of = self.line_of.as_ref()?;
        let mut pointer = pointer;
        loop {
            if let Some(line) = line_of(pointer) {
                return Some(line);
            }
            pointer = pointer.rsplit_once('/')?.0;
        }
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {}", self.id.as_ref().map(ToString::to_string).unwrap_or_default(), self.location)
    }
}

/// Adds a segment to a JSON pointer.
pub(crate) fn join(pointer: &str, segment: &str) -> String {
    format!("{pointer}/{}", segment.replace('~', "~0").replace('/', "~1"))
}

/// A JSON pointer as people write paths.
fn dotted(pointer: &str) -> String {
    let mut path = String::with_capacity(pointer.len());
    for segment in pointer.split('/').skip(1) {
        let segment = segment.replace("~1", "/").replace("~0", "~");
        let plain = !segment.is_empty()
            && segment.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
        if !path.is_empty() && segment.bytes().all(|b| b.is_ascii_digit()) {
            path.push_str(&format!("[{segment}]"));
        } else if plain {
            if !path.is_empty() {
                path.push('.');
            }
            path.push_str(&segment);
        } else {
            path.push_str(&format!("[{segment:?}]"));
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_read_like_kubectl_prints_them() {
        for (pointer, path) in [
            ("/spec/policyRefs/0/name", "spec.policyRefs[0].name"),
            (
                &join("/metadata/annotations", "fleet-events.dev/template"),
                "metadata.annotations[\"fleet-events.dev/template\"]",
            ),
            ("/data/tls.key", "data[\"tls.key\"]"),
        ] {
            assert_eq!(dotted(pointer), path);
        }
    }

    #[test]
    fn a_field_without_a_line_has_that_of_what_holds_it() {
        let line_of: LineOf = Arc::new(|pointer| match pointer {
            "/spec" => Some(5),
            "/spec/key" => Some(7),
            _ => None,
        });
        let place = Place::new(Location::Api, Some(line_of));
        assert_eq!(place.line("/spec/key"), Some(7));
        assert_eq!(place.line("/spec/origin/fixed"), Some(5));
        assert_eq!(place.line("/metadata"), None);
    }
}
