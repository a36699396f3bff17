//! Lists and events become what was seen.

use std::fmt;
use std::sync::Arc;

use fleet_core::manifest::{Gvk, MARK, ObjectRef};
use fleet_core::observe::{Depth, Observation, Owned, Seen};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::applier::object::Object;
use crate::client::{Failure, Resource};
use crate::follow::{Reader, Told, parse, unreadable};

/// `kubectl apply` keeps all that was applied here, values of Secrets included.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Reads objects of one kind.
pub(super) struct Marked {
    kind: Gvk,
    depth: Depth,
    select: Select,
}

/// Which objects are read, and whose fields count.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Select {
    /// Those that carry a mark; the fields that we applied.
    Marked,
    /// Those that a selector chooses, with a mark or without (then it is told as empty); the fields of a field manager.
    /// All of the metadata is told. One that went away is told as going, without content, for the version of that.
    Labelled {
        /// As the API takes it.
        selector: &'static str,
        /// Whose fields count.
        manager: &'static str,
    },
}

impl Marked {
    /// Of Secrets nothing but the metadata is ever asked for.
    pub(super) fn new(kind: Gvk, depth: Depth) -> Self {
        Self { kind, depth, select: Select::Marked }
    }

    pub(super) fn selecting(self, select: Select) -> Self {
        Self { select, ..self }
    }

    fn is_secret(&self) -> bool {
        self.kind.group.is_empty() && &*self.kind.kind == "Secret"
    }

    /// The object's metadata, and its content if that is read.
    fn read(&self, raw: &RawValue) -> Result<(Object, Option<Map<String, Value>>), Failure> {
        if self.depth == Depth::Metadata && matches!(self.select, Select::Marked) {
            return Ok((parse(raw)?, None));
        }
        let content: Value = parse(raw)?;
        let object = Object::deserialize(&content).map_err(|_| unreadable())?;
        let Value::Object(content) = content else { return Err(unreadable()) };
        Ok((object, Some(content)))
    }

    /// `None` for one without the mark, which was not asked for.
    fn seen(&self, object: &Object, content: Option<Map<String, Value>>) -> Option<Seen> {
        let (mark, owned) = match self.select {
            Select::Marked => (object.mark()?, object.owned()),
            Select::Labelled { manager, .. } => {
                (object.mark().unwrap_or_default(), Owned(Arc::new(object.owned_by(manager))))
            }
        };
        Some(Seen {
            object: self.name(object),
            mark: mark.into(),
            uid: Arc::clone(object.uid()),
            version: object.version().cloned(),
            going: object.is_going(),
            written_by_us: object.is_written_by_us(),
            owned,
            other: object.other().map(Into::into),
            whole: content.map(|content| Arc::new(self.shown(content))),
        })
    }

    fn name(&self, object: &Object) -> ObjectRef {
        ObjectRef {
            gvk: self.kind.clone(),
            namespace: object.namespace().cloned(),
            name: Arc::clone(object.name()),
        }
    }

    /// An object's content as it is passed on.
    fn shown(&self, mut content: Map<String, Value>) -> Map<String, Value> {
        if self.is_secret() {
            content.retain(|field, _| matches!(field.as_str(), "metadata" | "type"));
        }
        // Items of a list do not say what they are.
        content.insert("apiVersion".to_owned(), Value::String(self.kind.api_version()));
        content.insert("kind".to_owned(), Value::String(self.kind.kind.to_string()));
        if let Some(Value::Object(metadata)) = content.get_mut("metadata") {
            metadata.remove("managedFields");
            if self.is_secret()
                && let Some(Value::Object(annotations)) = metadata.get_mut("annotations")
            {
                annotations.remove(LAST_APPLIED);
            }
        }
        content
    }
}

impl Reader for Marked {
    type Told = Observation;

    fn kind(&self) -> &Gvk {
        &self.kind
    }

    fn whole(&self) -> bool {
        self.depth == Depth::Whole && !self.is_secret()
    }

    fn selector(&self) -> &str {
        match self.select {
            Select::Marked => MARK,
            Select::Labelled { selector, .. } => selector,
        }
    }

    fn there(&self, raw: &RawValue) -> Result<Option<Told<Self>>, Failure> {
        let (object, content) = self.read(raw)?;
        let version = object.version().cloned();
        Ok(self.seen(&object, content).map(|seen| (Observation::There(seen), version)))
    }

    fn gone(&self, raw: &RawValue) -> Result<Option<Told<Self>>, Failure> {
        let (object, _) = self.read(raw)?;
        let version = object.version().cloned();
        let told = match self.select {
            Select::Labelled { .. } => {
                self.seen(&object, None).map(|seen| Observation::There(Seen { going: true, ..seen }))
            }
            // Also for one that lost the mark: then this is how it was before.
            Select::Marked => object.mark().map(|mark| {
                let (mark, uid) = (Some(mark.into()), Some(Arc::clone(object.uid())));
                Observation::Gone { object: self.name(&object), mark, uid }
            }),
        };
        Ok(told.map(|told| (told, version)))
    }

    fn listing(&self, _resource: &Resource) -> Observation {
        Observation::Listing
    }

    fn listed(&self, version: &Arc<str>) -> Observation {
        Observation::Listed { version: Some(Arc::clone(version)) }
    }

    fn missing(&self) -> Vec<Observation> {
        vec![Observation::Listing, Observation::Listed { version: None }]
    }
}

/// The kind, as messages name it.
impl fmt::Display for Marked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "objects of kind {} ({})", self.kind.kind, self.kind.api_version())
    }
}
