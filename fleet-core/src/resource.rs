//! Objects of the management cluster that templates see: what a trigger refers to, and what is known of that.
//!
//! A trigger names them ([`ResourceRef`]); which objects those are may depend on the cluster and on the event. Rendering
//! finds that out, looks them up in the snapshot of the catalog ([`Resources`]), and tells the catalog which ones it wants
//! to know ([`Catalog::refer`](crate::catalog::Catalog::refer)). When one of them becomes another one, what was rendered from
//! it is rendered again.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde_json::Value;

use crate::render::Language;

/// One object that the templates of a trigger see, under a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceRef {
    /// What templates call it: `resources.<identifier>`.
    pub identifier: Arc<str>,
    /// Group and version: `v1`, `apps/v1`.
    pub api_version: Arc<str>,
    /// The kind.
    pub kind: Arc<str>,
    /// A template that gives the namespace, over what the templates themselves see; the cluster's own if none.
    pub namespace: Option<Arc<str>>,
    /// A template that gives the name.
    pub name: Arc<str>,
    /// What the two are written in.
    pub language: Language,
    /// Whether rendering goes on while it does not exist; templates find it undefined then.
    pub optional: bool,
}

/// Names an object of the management cluster, printed as `ConfigMap default/tenants`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ResourceId {
    /// Group and version.
    pub api_version: Arc<str>,
    /// The kind.
    pub kind: Arc<str>,
    /// The namespace. Means nothing for kinds without namespaces.
    pub namespace: Arc<str>,
    /// The name.
    pub name: Arc<str>,
}

impl fmt::Display for ResourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

/// An object as templates see it. It may be a Secret: nothing shows what is in it.
#[derive(Clone, PartialEq, Eq)]
pub struct Resource(Value);

impl Resource {
    /// An object. Left out of it is what only its API server needs: `managedFields`, `resourceVersion`, `uid`.
    pub fn new(mut object: Value) -> Self {
        if let Some(Value::Object(metadata)) = object.get_mut("metadata") {
            for field in ["managedFields", "resourceVersion", "uid"] {
                metadata.remove(field);
            }
        }
        Self(object)
    }

    /// The object. Data, never structure.
    pub fn value(&self) -> &Value {
        &self.0
    }
}

impl fmt::Debug for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Resource")
    }
}

/// What is known of one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResourceState {
    /// It is there.
    Found(Arc<Resource>),
    /// It is certain that it is not.
    Absent,
    /// Nobody can tell: why, and what to do about it. No values.
    Unavailable(Arc<str>),
}

/// What is known of objects that triggers refer to, at one instant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// What was looked up.
    pub known: BTreeMap<ResourceId, ResourceState>,
    /// What is to be said of others.
    pub others: Others,
}

/// What is to be said of an object that was not looked up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Others {
    /// Nothing yet: whoever refers to it waits for a later snapshot.
    #[default]
    Unread,
    /// It is not there.
    Absent,
    /// Of some kinds all objects are known, so that it is not there; those of other kinds cannot be had.
    Only {
        /// Group and version, and kind.
        kinds: &'static [(&'static str, &'static str)],
        /// Why others cannot be had, and what to do.
        otherwise: Arc<str>,
    },
}

/// What a look-up gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup<'a> {
    /// It is there.
    Found(&'a Arc<Resource>),
    /// It is not.
    Absent,
    /// Nobody can tell, and why.
    Unavailable(&'a str),
    /// It was not looked up yet.
    Unread,
}

impl Resources {
    /// What is known of an object.
    pub fn look_up(&self, id: &ResourceId) -> Lookup<'_> {
        match (self.known.get(id), &self.others) {
            (Some(ResourceState::Found(resource)), _) => Lookup::Found(resource),
            (Some(ResourceState::Absent), _) | (None, Others::Absent) => Lookup::Absent,
            (Some(ResourceState::Unavailable(why)), _) => Lookup::Unavailable(why),
            (None, Others::Unread) => Lookup::Unread,
            (None, Others::Only { kinds, otherwise }) => {
                match kinds.contains(&(&*id.api_version, &*id.kind)) {
                    true => Lookup::Absent,
                    false => Lookup::Unavailable(otherwise),
                }
            }
        }
    }
}

/// What the templates of one rendering see, by identifier: nothing, where something optional does not exist.
pub type Referred = BTreeMap<Arc<str>, Option<Arc<Resource>>>;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nothing_shows_what_an_object_holds() {
        let secret =
            Resource::new(json!({"data": {"password": "hunter2"}, "metadata": {"managedFields": []}}));
        let found = ResourceState::Found(Arc::new(secret.clone()));
        let referred: Referred = [("s".into(), Some(Arc::new(secret.clone())))].into();
        assert_eq!(format!("{secret:?} {found:?} {referred:?}").matches("hunter2").count(), 0);
        assert_eq!(secret.value(), &json!({"data": {"password": "hunter2"}, "metadata": {}}));
    }
}
