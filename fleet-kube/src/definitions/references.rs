//! Looking up ConfigMaps and Secrets that definitions refer to.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::contents::Contents;
use super::object::{Kind, ObjectId};
use super::parse::{Body, Parsed};

/// The objects that definitions may refer to, as far as they are known.
pub(super) struct References<'a> {
    /// What can be used.
    pub(super) objects: &'a BTreeMap<ObjectId, Arc<Parsed>>,
    /// What is there and cannot be used, and why.
    pub(super) unusable: &'a BTreeMap<ObjectId, &'static str>,
    /// Kinds and namespaces in which nothing could be looked up, and why.
    pub(super) closed: &'a BTreeMap<(Kind, Arc<str>), String>,
    /// Whether something could not be read that might hold anything.
    pub(super) unread: bool,
    /// Triggers that wait for each other, and the words for that.
    pub(super) circles: &'a BTreeMap<Arc<str>, String>,
}

/// What a look-up gave.
pub(super) enum Lookup<'a> {
    /// It is there.
    Found(&'a Contents),
    /// It is certain that there is none.
    Absent(String),
    /// There may be one, but it cannot be used.
    Unusable(String),
}

impl<'a> References<'a> {
    /// Looks up a ConfigMap or Secret.
    pub(super) fn look_up(&self, id: &ObjectId) -> Lookup<'a> {
        if let Some(Ok(Body::Contents(contents))) = self.objects.get(id).map(|object| object.body.as_ref()) {
            return Lookup::Found(contents);
        }
        if let Some(why) = self.unusable.get(id) {
            return Lookup::Unusable(format!("{id} {why}; correct it first"));
        }
        let namespace = id.namespace.clone().unwrap_or_else(|| "".into());
        if let Some(reason) = self.closed.get(&(id.kind, namespace)) {
            return Lookup::Unusable(format!("{id} cannot be read: {reason}"));
        }
        if self.unread {
            return Lookup::Unusable(format!(
                "{id} was not found, and not everything could be read; see the other problems"
            ));
        }
        Lookup::Absent(format!("{id} does not exist; create it, or correct the reference"))
    }

    /// Looks up an EventSource; why there is none, otherwise.
    pub(super) fn source(&self, name: &str) -> Result<(), String> {
        let what_else = "create it, or delete the trigger and name another source";
        self.definition(&ObjectId::cluster_scoped(Kind::EventSource, name), what_else)
    }

    /// Looks up a trigger or profile that another one waits for; why there is none, otherwise.
    pub(super) fn dependency(&self, rule: &Arc<str>) -> Result<(), String> {
        let what_else = "create it, or correct the name; until then nothing more is applied";
        self.definition(&ObjectId::of_rule(rule), what_else)
    }

    fn definition(&self, id: &ObjectId, what_else: &str) -> Result<(), String> {
        match self.unusable.get(id) {
            Some(why) => Err(format!("{id} {why}; correct it first")),
            None if self.objects.contains_key(id) => Ok(()),
            None => Err(format!("{id} does not exist; {what_else}")),
        }
    }

    /// The key of an object that has but one.
    pub(super) fn only_key(&self, id: &ObjectId) -> Option<&'a str> {
        match self.look_up(id) {
            Lookup::Found(contents) if contents.entries.len() == 1 => {
                contents.entries.keys().next().map(String::as_str)
            }
            _ => None,
        }
    }

    /// The text under one key, or why there is none.
    pub(super) fn text(&self, id: &ObjectId, key: &str) -> Result<Arc<str>, String> {
        let contents = match self.look_up(id) {
            Lookup::Found(contents) => contents,
            Lookup::Absent(reason) | Lookup::Unusable(reason) => return Err(reason),
        };
        match contents.entries.get(key) {
            Some(Ok(text)) => Ok(text.clone()),
            Some(Err(why)) => Err(format!("{id}, key {key} {why}")),
            None if contents.entries.is_empty() => Err(format!("{id} has no key {key}; it is empty")),
            None => {
                let keys: Vec<_> = contents.entries.keys().map(String::as_str).collect();
                Err(format!("{id} has no key {key}; it has {}", keys.join(", ")))
            }
        }
    }
}
