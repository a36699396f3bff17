//! What the watches told. Pure: events go in, and what was read comes out.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use kube::api::DynamicObject;
use kube::runtime::watcher::{self, Event};
use serde_json::Value;

use super::scope::{Scope, resource};
use super::status::Observed;
use crate::definitions::{Family, Kind, ObjectId, Parsed, RawObject};

/// Everything that was read, by where it was.
#[derive(Default)]
pub(super) struct Index {
    family: Family,
    feeds: BTreeMap<Scope, Feed>,
    objects: BTreeMap<ObjectId, Object>,
}

/// One watch.
#[derive(Default)]
struct Feed {
    /// Whether it was read completely once.
    loaded: bool,
    /// While it is read (again): what was there so far.
    listed: Option<BTreeSet<ObjectId>>,
    trouble: Option<Trouble>,
}

struct Object {
    parsed: Arc<Parsed>,
    /// Tells apart what matters from what does not: a status, a manager of fields.
    fingerprint: u64,
}

/// Why a scope cannot be read now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The API server knows no such kind.
    NotInstalled,
    /// We may not read it.
    Forbidden(String),
    /// Anything that may go away by itself.
    Unreachable(String),
}

/// What an event came to.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Effect {
    /// Whether definitions have to be made anew.
    pub(super) definitions: bool,
    /// The status of an object as it is now; nothing if the object is gone.
    pub(super) observed: Vec<(ObjectId, Option<Observed>)>,
    /// Whether the scope's trouble came, went or changed.
    pub(super) trouble: bool,
}

impl Index {
    /// An empty one, of objects of one family.
    pub(super) fn new(family: Family) -> Self {
        Self { family, ..Self::default() }
    }

    pub(super) fn open(&mut self, scope: Scope) {
        self.feeds.entry(scope).or_default();
    }

    pub(super) fn close(&mut self, scope: &Scope) {
        self.feeds.remove(scope);
        self.objects.retain(|id, _| !belongs(id, scope));
    }

    pub(super) fn scopes(&self) -> BTreeSet<Scope> {
        self.feeds.keys().cloned().collect()
    }

    /// Whether everything of a scope was read once.
    pub(super) fn loaded(&self, scope: &Scope) -> bool {
        self.feeds.get(scope).is_some_and(|feed| feed.loaded)
    }

    /// Kinds and namespaces that we may not read, and why.
    pub(super) fn closed(&self) -> BTreeMap<(Kind, Arc<str>), String> {
        let closed = self.feeds.iter().filter_map(|(scope, feed)| match (&scope.namespace, &feed.trouble) {
            (Some(namespace), Some(Trouble::Forbidden(reason))) if !feed.loaded => {
                Some(((scope.kind, namespace.clone()), reason.clone()))
            }
            _ => None,
        });
        closed.collect()
    }

    pub(super) fn parsed(&self) -> impl Iterator<Item = Arc<Parsed>> {
        self.objects.values().map(|object| Arc::clone(&object.parsed))
    }

    pub(super) fn troubles(&self) -> impl Iterator<Item = (&Scope, &Trouble)> {
        self.feeds.iter().filter_map(|(scope, feed)| Some((scope, feed.trouble.as_ref()?)))
    }

    /// The API server answered: whatever was read before and then could not be reached is followed again.
    pub(super) fn reached(&mut self) {
        for feed in self.feeds.values_mut().filter(|feed| feed.loaded) {
            if matches!(feed.trouble, Some(Trouble::Unreachable(_))) {
                feed.trouble = None;
            }
        }
    }

    /// Takes what a watch told.
    pub(super) fn take(
        &mut self,
        scope: &Scope,
        event: Result<Event<DynamicObject>, watcher::Error>,
    ) -> Effect {
        let mut effect = Effect::default();
        let Some(feed) = self.feeds.get_mut(scope) else { return effect };
        match event {
            Ok(Event::Init) => feed.listed = Some(BTreeSet::new()),
            Ok(Event::InitApply(object)) => {
                if let Some(id) = id(scope.kind, &object) {
                    feed.listed.get_or_insert_default().insert(id.clone());
                    self.put(id, scope.kind, object, &mut effect);
                }
            }
            Ok(Event::InitDone) => {
                // The list was complete, so what is not in it is gone.
                let listed = feed.listed.take().unwrap_or_default();
                effect.trouble = feed.trouble.take().is_some();
                effect.definitions = !std::mem::replace(&mut feed.loaded, true);
                self.objects.retain(|id, _| {
                    let stays = !belongs(id, scope) || listed.contains(id);
                    if !stays {
                        effect.definitions = true;
                        effect.observed.push((id.clone(), None));
                    }
                    stays
                });
            }
            Ok(Event::Apply(object)) => {
                effect.trouble = feed.trouble.take().is_some();
                if let Some(id) = id(scope.kind, &object) {
                    self.put(id, scope.kind, object, &mut effect);
                }
            }
            Ok(Event::Delete(object)) => {
                effect.trouble = feed.trouble.take().is_some();
                if let Some(id) = id(scope.kind, &object) {
                    effect.definitions = self.objects.remove(&id).is_some();
                    effect.observed.push((id, None));
                }
            }
            Err(error) => {
                if let Some(trouble) = trouble(&error) {
                    // What is closed now may have been waited for.
                    effect.definitions = !feed.loaded && matches!(trouble, Trouble::Forbidden(_));
                    effect.trouble = feed.trouble.as_ref() != Some(&trouble);
                    feed.trouble = Some(trouble);
                }
            }
        }
        effect
    }

    fn put(&mut self, id: ObjectId, kind: Kind, mut object: DynamicObject, effect: &mut Effect) {
        if let Some(observed) = Observed::new(kind, self.family, &object) {
            effect.observed.push((id.clone(), Some(observed)));
        }
        object.metadata.managed_fields = None;
        object.metadata.finalizers = None;
        object.metadata.resource_version = None;
        if let Value::Object(fields) = &mut object.data {
            fields.remove("status");
        }
        // Items of a list of Kubernetes' own kinds do not say what they are.
        let resource = resource(kind, self.family);
        object.types = Some(kube::api::TypeMeta {
            api_version: resource.api_version.clone(),
            kind: resource.kind.clone(),
        });
        let value = match serde_json::to_value(object) {
            Ok(value) => value,
            Err(error) => {
                tracing::error!(object = %id, %error, "an object of the API is no JSON");
                return;
            }
        };
        let fingerprint = fingerprint(&value);
        if self.objects.get(&id).is_some_and(|object| object.fingerprint == fingerprint) {
            return;
        }
        effect.definitions = true;
        let parsed = Arc::new(Parsed::new(RawObject::in_api(value)));
        self.objects.insert(id, Object { parsed, fingerprint });
    }
}

fn id(kind: Kind, object: &DynamicObject) -> Option<ObjectId> {
    let name = object.metadata.name.as_deref()?;
    match (kind.namespaced(), &object.metadata.namespace) {
        (true, Some(namespace)) => Some(ObjectId::namespaced(kind, namespace, name)),
        (true, None) => None,
        (false, _) => Some(ObjectId::cluster_scoped(kind, name)),
    }
}

fn belongs(id: &ObjectId, scope: &Scope) -> bool {
    id.kind == scope.kind && (scope.namespace.is_none() || scope.namespace == id.namespace)
}

/// A hash within this process; the order of keys is that of the API server, which is stable.
fn fingerprint(value: &Value) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.to_string().hash(&mut hasher);
    hasher.finish()
}

/// What an error of a watch means; nothing, if it is part of every watch's life.
pub(super) fn trouble(error: &watcher::Error) -> Option<Trouble> {
    use kube::Error::Api;
    use watcher::Error::{InitialListFailed, WatchError, WatchFailed, WatchStartFailed};
    let status = match error {
        InitialListFailed(Api(status)) | WatchStartFailed(Api(status)) | WatchFailed(Api(status)) => {
            Some(status)
        }
        WatchError(status) => Some(status),
        _ => None,
    };
    match status {
        // The server forgot the place where the watch stood: it is read anew.
        Some(status) if status.code == 410 => None,
        // While the group is unknown too, the answer is no Status with a reason.
        Some(status) if status.code == 404 => Some(Trouble::NotInstalled),
        Some(status) if status.is_forbidden() => Some(Trouble::Forbidden(status.message.clone())),
        Some(status) => Some(Trouble::Unreachable(format!("{} ({})", status.message, status.code))),
        None => Some(Trouble::Unreachable(chain(error))),
    }
}

/// An error and its causes, as one line. kube repeats causes in its own messages; each is shown once.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use kube::core::Status;
    use serde_json::json;

    use super::*;

    fn config_map(name: &str, version: &str) -> DynamicObject {
        serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": "default", "resourceVersion": version}, "data": {"k": "v"},
        }))
        .unwrap()
    }

    fn names(index: &Index) -> Vec<&str> {
        index.objects.keys().map(|id| &*id.name).collect()
    }

    #[test]
    fn only_a_complete_list_takes_something_away() {
        let scope = Scope { kind: Kind::ConfigMap, namespace: Some("default".into()) };
        let mut index = Index::default();
        index.open(scope.clone());
        let mut take = |event| {
            let effect = index.take(&scope, event);
            (effect.definitions, names(&index).join(","), index.loaded(&scope))
        };
        assert_eq!(take(Ok(Event::Init)), (false, String::new(), false));
        assert_eq!(take(Ok(Event::InitApply(config_map("a", "1")))), (true, "a".to_owned(), false));
        assert_eq!(take(Ok(Event::InitApply(config_map("b", "1")))), (true, "a,b".to_owned(), false));
        assert_eq!(take(Ok(Event::InitDone)), (true, "a,b".to_owned(), true));
        // Read anew, and failed in the middle: nothing is gone. What has not changed is no change.
        assert_eq!(take(Ok(Event::Init)), (false, "a,b".to_owned(), true));
        assert_eq!(take(Ok(Event::InitApply(config_map("a", "2")))), (false, "a,b".to_owned(), true));
        let gone = Status::failure("too old", "Expired").with_code(410).boxed();
        let failed = watcher::Error::InitialListFailed(kube::Error::Api(gone));
        assert_eq!(take(Err(failed)), (false, "a,b".to_owned(), true));
        // Read anew in full: what is not in it is gone.
        assert_eq!(take(Ok(Event::Init)), (false, "a,b".to_owned(), true));
        assert_eq!(take(Ok(Event::InitApply(config_map("b", "2")))), (false, "a,b".to_owned(), true));
        assert_eq!(take(Ok(Event::InitDone)), (true, "b".to_owned(), true));
        assert_eq!(take(Ok(Event::Delete(config_map("b", "3")))), (true, String::new(), true));
    }
}
