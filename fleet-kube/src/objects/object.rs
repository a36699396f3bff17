//! Objects as they are read, and what is told of them.

use std::fmt;
use std::sync::Arc;

use fleet_core::cluster::Labels;
use fleet_core::manifest::Gvk;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::client::{Failure, Resource};
use crate::follow::{Reader, Told as ToldOf, parse, unreadable};

/// `kubectl apply` keeps all that was applied here, values of Secrets included.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// One object.
pub(super) struct Object {
    pub(super) namespace: Option<Arc<str>>,
    pub(super) name: Arc<str>,
    uid: String,
    version: String,
    pub(super) labels: Labels,
    /// What there is of it, without what is only about how it is kept.
    pub(super) content: Map<String, Value>,
}

impl Object {
    /// `namespace/name`, or its name.
    pub(super) fn subject(&self) -> String {
        match &self.namespace {
            Some(namespace) => format!("{namespace}/{}", self.name),
            None => self.name.to_string(),
        }
    }

    /// Whether it is being deleted: then it is not there any more.
    pub(super) fn is_going(&self) -> bool {
        self.content.get("metadata").is_some_and(|metadata| metadata.get("deletionTimestamp").is_some())
    }

    /// What tells this state of it from all others.
    pub(super) fn id(&self) -> String {
        format!("{}/{}", self.uid, self.version)
    }

    fn read(kind: &Gvk, raw: &RawValue) -> Result<Self, Failure> {
        let mut content: Map<String, Value> = parse(raw)?;
        // Items of a list do not say what they are, and metadata alone says that it is that.
        content.insert("apiVersion".to_owned(), Value::String(kind.api_version()));
        content.insert("kind".to_owned(), Value::String(kind.kind.to_string()));
        let Some(Value::Object(metadata)) = content.get_mut("metadata") else { return Err(unreadable()) };
        metadata.remove("managedFields");
        let version = metadata.remove("resourceVersion");
        if let Some(Value::Object(annotations)) = metadata.get_mut("annotations") {
            annotations.remove(LAST_APPLIED);
        }
        let text = |field: &str| metadata.get(field).and_then(Value::as_str);
        let labels = metadata.get("labels").map_or(Ok(Labels::new()), Labels::deserialize);
        Ok(Self {
            namespace: text("namespace").map(Into::into),
            name: text("name").ok_or_else(unreadable)?.into(),
            uid: text("uid").unwrap_or_default().to_owned(),
            version: version.as_ref().and_then(Value::as_str).unwrap_or_default().to_owned(),
            labels: labels.map_err(|_| unreadable())?,
            content,
        })
    }
}

/// May hold anything, values of Secrets included.
impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Object").field("subject", &self.subject()).finish_non_exhaustive()
    }
}

/// What is told of the objects of a kind.
#[derive(Clone, Debug)]
pub(super) enum Told {
    /// A list of all begins; the path of the kind's collection in all namespaces.
    Listing(Arc<str>),
    There(Arc<Object>),
    Gone(Arc<Object>),
    /// The list is complete.
    Listed,
    Trouble(Trouble),
    Recovered,
}

/// Why nothing is told now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trouble {
    /// One CamelCase word.
    pub(super) reason: &'static str,
    /// What is wrong, and what to do.
    pub(super) message: String,
}

/// Reads the objects of a kind.
pub(super) struct Objects {
    pub(super) kind: Gvk,
    pub(super) namespace: Option<Arc<str>>,
    pub(super) whole: bool,
}

impl Objects {
    fn read(&self, raw: &RawValue) -> Result<(Arc<Object>, Option<Arc<str>>), Failure> {
        let object = Object::read(&self.kind, raw)?;
        let version = (!object.version.is_empty()).then(|| object.version.as_str().into());
        Ok((Arc::new(object), version))
    }
}

impl Reader for Objects {
    type Told = Told;

    fn kind(&self) -> &Gvk {
        &self.kind
    }

    fn any_version(&self) -> bool {
        false
    }

    fn whole(&self) -> bool {
        self.whole
    }

    fn selector(&self) -> &str {
        ""
    }

    fn namespace(&self) -> Option<&str> {
        self.namespace.as_deref()
    }

    fn there(&self, object: &RawValue) -> Result<Option<ToldOf<Self>>, Failure> {
        self.read(object).map(|(object, version)| Some((Told::There(object), version)))
    }

    fn gone(&self, object: &RawValue) -> Result<Option<ToldOf<Self>>, Failure> {
        self.read(object).map(|(object, version)| Some((Told::Gone(object), version)))
    }

    fn listing(&self, resource: &Resource) -> Told {
        Told::Listing(resource.collection(None).into())
    }

    fn listed(&self, _version: &Arc<str>) -> Told {
        Told::Listed
    }

    fn missing(&self) -> Vec<Told> {
        let message = format!(
            "the cluster serves no {self}; install the CustomResourceDefinition there, or mend resourceSelectors"
        );
        vec![Told::Trouble(Trouble { reason: "KindMissing", message })]
    }

    fn trouble(&self, why: &Failure) -> Option<Told> {
        let (reason, message) = match why {
            Failure::Forbidden { message } => {
                let advice = "allow the user of the cluster's kubeconfig the verbs list and watch for";
                ("Forbidden", format!("{message}; {advice} {self}"))
            }
            Failure::Unauthorized => ("Unauthorized", format!("{self} cannot be read: {why}")),
            Failure::Throttled { .. } | Failure::Other { code: 410, .. } => return None,
            Failure::Unreachable { .. } | Failure::NoAnswer { .. } | Failure::NotTried { .. } => {
                let stays = "what was told of them stays until the cluster answers again";
                ("ClusterUnreachable", format!("{self} cannot be read now ({why}); {stays}"))
            }
            _ => ("CannotRead", format!("{self} cannot be read: {why}")),
        };
        Some(Told::Trouble(Trouble { reason, message }))
    }

    fn recovered(&self) -> Option<Told> {
        Some(Told::Recovered)
    }
}

/// The kind, as messages name it.
impl fmt::Display for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "objects of kind {} ({})", self.kind.kind, self.kind.api_version())?;
        match &self.namespace {
            Some(namespace) => write!(f, " in namespace {namespace}"),
            None => Ok(()),
        }
    }
}
