//! Lists and events become what was seen.

use std::fmt;
use std::sync::Arc;

use fleet_core::manifest::{Gvk, MARK, ObjectRef};
use fleet_core::observe::{Depth, Observation, Owned, Seen};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::applier::object::{METADATA, Object};
use crate::client::{Failure, JSON};

const METADATA_LIST: &str =
    "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";
/// `kubectl apply` keeps all that was applied here, values of Secrets included.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Reads objects of one kind.
pub(super) struct Reader {
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

/// One page of a list.
pub(super) struct Page {
    pub(super) objects: Vec<Seen>,
    /// The token for the next page.
    pub(super) next: Option<String>,
    /// What the list is as of.
    pub(super) version: Arc<str>,
}

/// One line of a watch.
pub(super) enum Event {
    Told(Observation, Option<Arc<str>>),
    /// Nothing else has happened up to this version.
    Bookmark(Arc<str>),
    /// The server has forgotten where the watch stood.
    Expired,
    /// Nothing that matters.
    Other,
}

#[derive(Deserialize)]
struct List<'a> {
    metadata: ListMetadata,
    #[serde(borrow, default)]
    items: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListMetadata {
    #[serde(default)]
    resource_version: Arc<str>,
    #[serde(default)]
    r#continue: Option<String>,
}

#[derive(Deserialize)]
struct Line<'a> {
    r#type: &'a str,
    #[serde(borrow)]
    object: &'a RawValue,
}

#[derive(Deserialize)]
struct Bookmark {
    metadata: ListMetadata,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Status {
    code: u16,
    message: String,
}

impl Reader {
    /// Of Secrets nothing but the metadata is ever asked for.
    pub(super) fn new(kind: Gvk, depth: Depth) -> Self {
        Self { kind, depth, select: Select::Marked }
    }

    pub(super) fn selecting(self, select: Select) -> Self {
        Self { select, ..self }
    }

    pub(super) fn selector(&self) -> &'static str {
        match self.select {
            Select::Marked => MARK,
            Select::Labelled { selector, .. } => selector,
        }
    }

    pub(super) fn kind(&self) -> &Gvk {
        &self.kind
    }

    /// Whether objects are read with their content.
    pub(super) fn whole(&self) -> bool {
        self.depth == Depth::Whole && !self.is_secret()
    }

    fn is_secret(&self) -> bool {
        self.kind.group.is_empty() && &*self.kind.kind == "Secret"
    }

    pub(super) fn accept(&self) -> &'static str {
        if self.whole() { JSON } else { METADATA }
    }

    pub(super) fn accept_list(&self) -> &'static str {
        if self.whole() { JSON } else { METADATA_LIST }
    }

    pub(super) fn page(&self, body: &[u8]) -> Result<Page, Failure> {
        let list: List<'_> = serde_json::from_slice(body).map_err(|_| unreadable())?;
        let items = list.items.unwrap_or_default();
        let read = |raw: &RawValue| self.read(raw).map(|(object, content)| self.seen(&object, content));
        Ok(Page {
            objects: items
                .into_iter()
                .map(read)
                .collect::<Result<Vec<_>, _>>()?
                .into_iter()
                .flatten()
                .collect(),
            next: list.metadata.r#continue.filter(|token| !token.is_empty()),
            version: list.metadata.resource_version,
        })
    }

    pub(super) fn event(&self, line: &[u8]) -> Result<Event, Failure> {
        if line.trim_ascii().is_empty() {
            return Ok(Event::Other);
        }
        let line: Line<'_> = serde_json::from_slice(line).map_err(|_| unreadable())?;
        Ok(match line.r#type {
            "ADDED" | "MODIFIED" => {
                let (object, content) = self.read(line.object)?;
                let version = object.version().cloned();
                match self.seen(&object, content) {
                    Some(seen) => Event::Told(Observation::There(seen), version),
                    None => Event::Other,
                }
            }
            // Also for one that lost the mark: then this is how it was before.
            "DELETED" => {
                let (object, _) = self.read(line.object)?;
                if matches!(self.select, Select::Labelled { .. }) {
                    let version = object.version().cloned();
                    let gone = self.seen(&object, None).map(|seen| Seen { going: true, ..seen });
                    return Ok(
                        gone.map_or(Event::Other, |seen| Event::Told(Observation::There(seen), version))
                    );
                }
                match object.mark() {
                    Some(mark) => {
                        let (mark, uid) = (Some(mark.into()), Some(Arc::clone(object.uid())));
                        let gone = Observation::Gone { object: self.name(&object), mark, uid };
                        Event::Told(gone, object.version().cloned())
                    }
                    None => Event::Other,
                }
            }
            "BOOKMARK" => {
                let bookmark: Bookmark = parse(line.object)?;
                Event::Bookmark(bookmark.metadata.resource_version)
            }
            "ERROR" => match parse(line.object)? {
                Status { code: 410, .. } => Event::Expired,
                Status { code, message } => {
                    return Err(Failure::NoAnswer {
                        reason: format!("the API server ended the watch with {code}: {message}"),
                    });
                }
            },
            _ => Event::Other,
        })
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

/// The kind, as messages name it.
impl fmt::Display for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "objects of kind {} ({})", self.kind.kind, self.kind.api_version())
    }
}

fn parse<'a, T: Deserialize<'a>>(raw: &'a RawValue) -> Result<T, Failure> {
    serde_json::from_str(raw.get()).map_err(|_| unreadable())
}

fn unreadable() -> Failure {
    Failure::NoAnswer { reason: "what the API server tells of objects cannot be understood".to_owned() }
}
