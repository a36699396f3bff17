//! What of an object in a cluster matters here: its metadata.

use std::sync::Arc;

use bytes::Bytes;
use fleet_core::apply::{Owner, Placed};
use fleet_core::observe::Owned;
use fleet_core::policy::JsonPointer;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::client::{FIELD_MANAGER, Failure};

/// Asks for metadata only: answers stay small, and the content of Secrets stays where it is.
pub(super) const METADATA: &str =
    "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json";

/// An object as the cluster has it.
#[derive(Deserialize)]
pub(super) struct Object {
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
    deletion_timestamp: Option<String>,
    #[serde(default)]
    labels: Option<Labels>,
    #[serde(default)]
    managed_fields: Vec<ManagedFields>,
}

#[derive(Deserialize)]
struct Labels {
    #[serde(rename = "fleet-events.dev/work")]
    mark: Option<String>,
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
    pub(super) fn parse(body: &Bytes) -> Result<Self, Failure> {
        serde_json::from_slice(body).map_err(|_| Failure::NoAnswer {
            reason: "the answer of the API server cannot be understood".to_owned(),
        })
    }

    pub(super) fn uid(&self) -> &Arc<str> {
        &self.metadata.uid
    }

    pub(super) fn version(&self) -> Option<&Arc<str>> {
        self.metadata.resource_version.as_ref()
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

    /// Whether it shows that we have written it.
    pub(super) fn is_written_by_us(&self) -> bool {
        self.metadata.managed_fields.iter().any(ManagedFields::is_ours)
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

    /// What is to be remembered of it after a write of ours.
    pub(super) fn placed<'a>(&self, excluded: impl Iterator<Item = &'a JsonPointer>) -> Placed {
        Placed {
            print: Some(self.owned().print(excluded)),
            version: self.metadata.resource_version.clone(),
            ..Placed::new(Arc::clone(self.uid()))
        }
    }

    /// What turns the fields that our POST set into fields that we applied, so that an apply can take them back.
    /// `None` if that was done, or was not needed.
    ///
    /// There can be one `Apply` entry for a manager: the one that the first apply made beside the POST's is dropped, and
    /// the next apply makes it again.
    pub(super) fn takeover(&self) -> Option<Value> {
        let entries = &self.metadata.managed_fields;
        let ours = |operation: &str| {
            entries.iter().position(|entry| {
                entry.manager == FIELD_MANAGER && entry.operation == operation && entry.subresource.is_empty()
            })
        };
        let posted = ours("Update")?;
        let test = |path: String, value: &str| json!({"op": "test", "path": path, "value": value});
        let field = |index: usize, field: &str| format!("/metadata/managedFields/{index}/{field}");
        let mut patch = vec![
            test("/metadata/uid".to_owned(), self.uid()),
            test(field(posted, "manager"), FIELD_MANAGER),
            test(field(posted, "operation"), "Update"),
        ];
        let replace = json!({"op": "replace", "path": field(posted, "operation"), "value": "Apply"});
        match ours("Apply") {
            None => patch.push(replace),
            Some(applied) => {
                patch.push(test(field(applied, "manager"), FIELD_MANAGER));
                patch.push(test(field(applied, "operation"), "Apply"));
                patch.push(replace);
                patch.push(json!({"op": "remove", "path": format!("/metadata/managedFields/{applied}")}));
            }
        }
        Some(Value::Array(patch))
    }
}

#[cfg(test)]
mod tests {
    use fleet_core::manifest::MARK;

    use super::*;

    fn object(managed_fields: Value) -> Object {
        let body = json!({"metadata": {"uid": "u", "labels": {"a": "b"}, "managedFields": managed_fields}});
        Object::parse(&Bytes::from(body.to_string())).unwrap()
    }

    #[test]
    fn only_the_post_is_taken_over() {
        let status = json!({"manager": "fleet", "operation": "Update", "subresource": "status"});
        let other = json!({"manager": "kubectl", "operation": "Update"});
        let applied = json!({"manager": "fleet", "operation": "Apply"});
        assert!(object(json!([status, other, applied])).takeover().is_none());

        let posted = json!({"manager": "fleet", "operation": "Update"});
        let patch = object(json!([applied, other, posted])).takeover().unwrap();
        let replaced = patch.as_array().unwrap().iter().find(|op| op["op"] == "replace").unwrap();
        assert_eq!(replaced["path"], "/metadata/managedFields/2/operation");
        let last = patch.as_array().unwrap().last().unwrap();
        assert_eq!(last, &json!({"op": "remove", "path": "/metadata/managedFields/0"}));
    }

    #[test]
    fn the_mark_is_read_under_its_name() {
        let body = json!({"metadata": {"uid": "u", "labels": {(MARK): "0123"}}});
        assert_eq!(Object::parse(&Bytes::from(body.to_string())).unwrap().mark(), Some("0123"));
    }
}
