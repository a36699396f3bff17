//! What of an object in a cluster matters here: its metadata.

use std::sync::Arc;

use bytes::Bytes;
use fleet_core::apply::{Owner, Placed};
use fleet_core::manifest::{ADOPTED, MARK};
use fleet_core::observe::Owned;
use fleet_core::policy::JsonPointer;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::client::{FIELD_MANAGER, Failure};

/// An API server takes no longer over a creation: the object may get its time so much later than its fields.
const LONGEST_CREATION: SignedDuration = SignedDuration::from_secs(60);

/// Asks for metadata only: answers stay small, and the content of Secrets stays where it is.
pub(crate) const METADATA: &str =
    "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json";

/// An object as the cluster has it.
#[derive(Deserialize)]
pub(crate) struct Object {
    metadata: Metadata,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    #[serde(default)]
    namespace: Option<Arc<str>>,
    #[serde(default)]
    name: Arc<str>,
    uid: Arc<str>,
    #[serde(default)]
    resource_version: Option<Arc<str>>,
    #[serde(default)]
    creation_timestamp: Option<Timestamp>,
    #[serde(default)]
    deletion_timestamp: Option<String>,
    #[serde(default)]
    labels: Option<Labels>,
    #[serde(default)]
    annotations: Option<Annotations>,
    #[serde(default)]
    managed_fields: Vec<ManagedFields>,
}

#[derive(Deserialize)]
struct Labels {
    #[serde(rename = "fleet-events.dev/work")]
    mark: Option<String>,
}

#[derive(Deserialize)]
struct Annotations {
    #[serde(rename = "fleet-events.dev/adopted")]
    adopted: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ManagedFields {
    #[serde(default)]
    manager: String,
    #[serde(default)]
    operation: String,
    #[serde(default)]
    subresource: String,
    /// RFC 3339 in UTC with whole seconds: sorts as text.
    #[serde(default)]
    time: String,
    #[serde(default)]
    fields_v1: Option<Arc<Value>>,
}

impl ManagedFields {
    fn is_ours(&self) -> bool {
        self.manager == FIELD_MANAGER && self.subresource.is_empty()
    }
}

impl Object {
    pub(crate) fn parse(body: &Bytes) -> Result<Self, Failure> {
        serde_json::from_slice(body).map_err(|_| Failure::NoAnswer {
            reason: "the answer of the API server cannot be understood".to_owned(),
        })
    }

    pub(crate) fn uid(&self) -> &Arc<str> {
        &self.metadata.uid
    }

    pub(crate) fn version(&self) -> Option<&Arc<str>> {
        self.metadata.resource_version.as_ref()
    }

    /// Whether it was there before it was ours.
    pub(super) fn is_adopted(&self) -> bool {
        self.metadata.annotations.as_ref().is_some_and(|annotations| annotations.adopted.is_some())
    }

    /// Whether it is on its way out, so as good as gone.
    pub(super) fn is_going(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }

    /// The mark of the Work that made it, if any did.
    pub(super) fn mark(&self) -> Option<&str> {
        self.metadata.labels.as_ref()?.mark.as_deref()
    }

    /// Whose it is, as far as can be told.
    pub(super) fn owner(&self) -> Owner {
        if let Some(mark) = self.mark() {
            return Owner::Work(mark.into());
        }
        let mut managers: Vec<&str> = self
            .metadata
            .managed_fields
            .iter()
            .map(|entry| entry.manager.as_str())
            .filter(|manager| !manager.is_empty())
            .collect();
        managers.dedup();
        Owner::Other(if managers.is_empty() { "somebody unknown".to_owned() } else { managers.join(", ") })
    }

    pub(super) fn namespace(&self) -> Option<&Arc<str>> {
        self.metadata.namespace.as_ref()
    }

    pub(super) fn name(&self) -> &Arc<str> {
        &self.metadata.name
    }

    /// Whether it shows that we have written it. A copy of an object may show that too, where somebody (a backup) has put
    /// back `managedFields` as well: then its last write is older than itself.
    pub(super) fn is_written_by_us(&self) -> bool {
        let is_older =
            |entry: &ManagedFields| match (self.metadata.creation_timestamp, entry.time.parse::<Timestamp>())
            {
                (Some(created), Ok(written)) => created.duration_since(written) > LONGEST_CREATION,
                _ => false,
            };
        self.metadata.managed_fields.iter().any(|entry| entry.is_ours() && !is_older(entry))
    }

    /// Who else wrote it last; controllers that report in its status aside.
    pub(super) fn other(&self) -> Option<&str> {
        let others = self.metadata.managed_fields.iter().filter(|entry| {
            entry.manager != FIELD_MANAGER && !entry.manager.is_empty() && entry.subresource != "status"
        });
        others.max_by(|one, other| one.time.cmp(&other.time)).map(|entry| entry.manager.as_str())
    }

    /// Those of its fields that are ours: what we applied, or before the first apply what our POST set, with what the
    /// server filled in then.
    pub(super) fn owned(&self) -> Owned {
        let ours = |operation: &str| {
            let entries = self.metadata.managed_fields.iter();
            entries
                .filter(|entry| entry.is_ours() && entry.operation == operation)
                .find_map(|entry| entry.fields_v1.clone())
        };
        Owned(ours("Apply").or_else(|| ours("Update")).unwrap_or_else(|| Arc::new(json!({}))))
    }

    /// Those of its fields that a field manager has, however it came to have them.
    pub(crate) fn owned_by(&self, manager: &str) -> Value {
        let mut owned = json!({});
        let entries = self.metadata.managed_fields.iter();
        for entry in entries.filter(|entry| entry.manager == manager && entry.subresource.is_empty()) {
            if let Some(fields) = &entry.fields_v1 {
                merge(&mut owned, Value::clone(fields));
            }
        }
        owned
    }

    /// What is to be remembered of it after a write of ours.
    pub(super) fn placed<'a>(&self, excluded: impl Iterator<Item = &'a JsonPointer>) -> Placed {
        Placed {
            print: Some(self.owned().print(excluded)),
            version: self.metadata.resource_version.clone(),
            adopted: self.is_adopted(),
            ..Placed::new(Arc::clone(self.uid()))
        }
    }

    /// What turns the fields that our POST set into fields that we applied, so that an apply can take them back.
    /// `None` if that was done, or is not needed, because all of them were applied too: that is looked at again after each
    /// apply. It changes nothing if the object has changed since it was read.
    ///
    /// There can be one `Apply` entry for a manager: the POST's fields go to those of an apply, so that at no time a field
    /// of ours is nobody's, and would stay for ever.
    pub(super) fn takeover(&self) -> Option<Value> {
        let posted = self.ours("Update").next()?;
        let mut patch = self.unchanged();
        match self.ours("Apply").next() {
            None => patch.push(json!({
                "op": "replace", "path": format!("/metadata/managedFields/{posted}/operation"), "value": "Apply",
            })),
            Some(applied) => {
                let fields = |entry: usize| self.metadata.managed_fields.get(entry)?.fields_v1.as_deref();
                let nothing = json!({});
                let (of_apply, of_post) = (fields(applied).unwrap_or(&nothing), fields(posted).unwrap_or(&nothing));
                if has_all(of_apply, of_post) {
                    return None;
                }
                let mut all = of_apply.clone();
                merge(&mut all, of_post.clone());
                patch.push(json!({
                    "op": "replace", "path": format!("/metadata/managedFields/{applied}/fieldsV1"), "value": all,
                }));
                patch.push(remove(format!("/metadata/managedFields/{posted}")));
            }
        }
        Some(Value::Array(patch))
    }

    /// What takes everything that is ours off the object, and leaves its values as they are. `None` if nothing of ours
    /// is left. It changes nothing if the object has changed since it was read.
    pub(super) fn giving_back(&self) -> Option<Value> {
        let mut patch = Vec::new();
        let mut entries: Vec<usize> = self.ours("Update").chain(self.ours("Apply")).collect();
        entries.sort_unstable();
        // From the last one on, so that the places of the others stay.
        patch.extend(entries.iter().rev().map(|entry| remove(format!("/metadata/managedFields/{entry}"))));
        let path = |field, name: &str| format!("/metadata/{field}/{}", name.replace('/', "~1"));
        if self.mark().is_some() {
            patch.push(remove(path("labels", MARK)));
        }
        if self.is_adopted() {
            patch.push(remove(path("annotations", ADOPTED)));
        }
        if patch.is_empty() {
            return None;
        }
        let mut whole = self.unchanged();
        whole.append(&mut patch);
        Some(Value::Array(whole))
    }

    /// The fields that our POST set and that no apply has taken over, as `fieldsV1`.
    pub(super) fn posted(&self) -> Option<&Arc<Value>> {
        let entry = self.metadata.managed_fields.get(self.ours("Update").next()?)?;
        entry.fields_v1.as_ref()
    }

    /// The fields of everybody but our POST, as `fieldsV1`.
    pub(super) fn not_posted(&self) -> impl Iterator<Item = &Arc<Value>> {
        let entries = self.metadata.managed_fields.iter();
        entries
            .filter(|entry| !(entry.is_ours() && entry.operation == "Update"))
            .filter_map(|entry| entry.fields_v1.as_ref())
    }

    /// The places of our entries with an operation.
    fn ours<'a>(&'a self, operation: &'a str) -> impl Iterator<Item = usize> + 'a {
        let entries = self.metadata.managed_fields.iter().enumerate();
        entries
            .filter(move |(_, entry)| entry.is_ours() && entry.operation == operation)
            .map(|(index, _)| index)
    }

    /// The conditions of a JSON patch to the object as it was read.
    fn unchanged(&self) -> Vec<Value> {
        let test = |path: &str, value: &str| json!({"op": "test", "path": path, "value": value});
        let mut tests = vec![test("/metadata/uid", self.uid())];
        tests.extend(self.version().map(|version| test("/metadata/resourceVersion", version)));
        tests
    }
}

/// Whether a tree has all fields of another. Whoever has something in a map has the map as well, so for that it says
/// nothing that the other tells so (`.`).
fn has_all(fields: &Value, others: &Value) -> bool {
    let Value::Object(others) = others else { return true };
    others.iter().all(|(name, other)| name == "." || fields.get(name).is_some_and(|it| has_all(it, other)))
}

/// Adds the fields of one tree to another.
fn merge(fields: &mut Value, others: Value) {
    if let (Value::Object(fields), Value::Object(others)) = (fields, others) {
        for (name, other) in others {
            merge(fields.entry(name).or_insert_with(|| json!({})), other);
        }
    }
}

fn remove(path: String) -> Value {
    json!({"op": "remove", "path": path})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(managed_fields: Value) -> Object {
        let body = json!({"metadata": {"uid": "u", "labels": {"a": "b"}, "managedFields": managed_fields}});
        Object::parse(&Bytes::from(body.to_string())).unwrap()
    }

    #[test]
    fn what_is_older_than_the_object_was_not_written_to_it() {
        let written = |time: &str| {
            let fields = json!([{"manager": "fleet", "operation": "Update", "time": time}]);
            let body = json!({"metadata": {"uid": "u", "managedFields": fields, "creationTimestamp": "2026-01-01T00:01:00Z"}});
            Object::parse(&Bytes::from(body.to_string())).unwrap().is_written_by_us()
        };
        assert!(written("2026-01-01T00:01:00Z") && written("2026-01-02T00:00:00Z"));
        assert!(written("2026-01-01T00:00:59Z"), "the object gets its time a little later than its fields");
        assert!(!written("2025-12-31T00:00:00Z"), "a copy from a backup");
    }

    #[test]
    fn only_the_post_is_taken_over() {
        let status = json!({"manager": "fleet", "operation": "Update", "subresource": "status"});
        let other = json!({"manager": "kubectl", "operation": "Update"});
        let applied = json!({"manager": "fleet", "operation": "Apply"});
        assert!(object(json!([status, other, applied])).takeover().is_none());

        let posted = json!({"manager": "fleet", "operation": "Update", "fieldsV1": {"f:data": {"f:a": {}}}});
        let patch = object(json!([other, posted])).takeover().unwrap();
        assert_eq!(patch[1]["path"], "/metadata/managedFields/1/operation");

        let applied = json!({"manager": "fleet", "operation": "Apply", "fieldsV1": {"f:data": {"f:b": {}}}});
        let patch = object(json!([posted, other, applied])).takeover().unwrap();
        assert_eq!(patch[1]["path"], "/metadata/managedFields/2/fieldsV1");
        assert_eq!(patch[1]["value"], json!({"f:data": {"f:a": {}, "f:b": {}}}));
        assert_eq!(patch[2], json!({"op": "remove", "path": "/metadata/managedFields/0"}));
    }

    #[test]
    fn a_post_that_has_nothing_of_its_own_need_not_be_taken_over() {
        let entry = |operation: &str, fields: Value| json!({"manager": "fleet", "operation": operation, "fieldsV1": fields});
        let needed = |posted: Value, applied: Value| {
            object(json!([entry("Update", posted), entry("Apply", applied)])).takeover().is_some()
        };
        let applied = json!({"f:data": {"f:a": {}, "f:b": {}}});
        assert!(!needed(json!({"f:data": {".": {}, "f:a": {}}}), applied.clone()));
        assert!(needed(json!({"f:data": {".": {}, "f:c": {}}}), applied.clone()));
        // An empty map would stay.
        assert!(needed(json!({"f:data": {".": {}}}), json!({})));
    }

    #[test]
    fn mark_and_adoption_are_read_under_their_names() {
        let body =
            json!({"metadata": {"uid": "u", "labels": {(MARK): "0123"}, "annotations": {(ADOPTED): "true"}}});
        let object = Object::parse(&Bytes::from(body.to_string())).unwrap();
        assert_eq!((object.mark(), object.is_adopted()), (Some("0123"), true));
    }

    #[test]
    fn all_that_is_ours_is_given_back_and_nothing_else() {
        let entry = |manager: &str, operation: &str| json!({"manager": manager, "operation": operation});
        let fields = json!([entry("fleet", "Apply"), entry("kubectl", "Update"), entry("fleet", "Update")]);
        let patch = object(fields).giving_back().unwrap();
        let removed: Vec<_> = patch
            .as_array()
            .unwrap()
            .iter()
            .filter(|op| op["op"] == "remove")
            .map(|op| &op["path"])
            .collect();
        assert_eq!(removed, ["/metadata/managedFields/2", "/metadata/managedFields/0"]);
        assert!(object(json!([entry("kubectl", "Update")])).giving_back().is_none());
    }
}
