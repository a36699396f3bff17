//! What applying a manifest would do. The API server is asked with `dryRun=All`, so that defaults, validation and
//! admission have their say.

use bytes::Bytes;
use fleet_core::apply::{Change, InventoryItem, Outcome};
use fleet_core::diff;
use fleet_core::manifest::{Manifest, ObjectRef};
use serde_json::{Map, Value, json};

use super::object::Object;
use super::refusal;
use super::requests::{Basis, parse};
use super::run::{Run, Standing, being_deleted, keeps_changing};
use crate::client::{Failure, JSON, Resource};

const TURNS: usize = 4;

impl Run<'_> {
    pub(super) async fn preview(
        &self,
        manifest: &Manifest,
        inventory: &[InventoryItem],
    ) -> Result<Outcome, Failure> {
        let id = manifest.id();
        let resource = match self.kind(id).await? {
            Ok(resource) => resource,
            // The kind comes with the same set, and so will the object.
            Err(Outcome::Waiting { .. }) => return Ok(Outcome::Would(Change::Create)),
            Err(outcome) => return Ok(outcome),
        };
        if let Some(fault) = self.scope_fault(id, &resource) {
            return Ok(fault);
        }
        let known = inventory.iter().find(|item| item.object.same_object(id));
        let object = manifest.marked(self.work);
        for _ in 0..TURNS {
            let Some(live) = self.look_whole(id, &resource).await? else {
                match self.create_where_it_belongs(id, &resource, &object).await {
                    Ok(Ok(_)) => return Ok(Outcome::Would(Change::Create)),
                    Ok(Err(outcome)) => return Ok(outcome),
                    Err(Failure::AlreadyExists) => continue,
                    Err(Failure::NotFound { resource, name })
                        if resource == "namespaces"
                            && (self.has_namespace(&name) || self.may_make_namespace(&name)) =>
                    {
                        return Ok(Outcome::Would(Change::Create));
                    }
                    Err(failure) => return Err(refusal::explained(failure, manifest)),
                }
            };
            if live.object.is_going() {
                return Ok(being_deleted(id));
            }
            let adopted = match self.standing(id, &live.object, known) {
                Standing::Theirs(owner) => return Ok(Outcome::Conflict { owner }),
                Standing::Ours { adopted } => adopted,
            };
            let basis = Basis::of(live, adopted);
            let Some(before) = basis.live.as_ref().and_then(|live| live.whole.as_ref()) else { continue };
            match self.after(id, &resource, &object, &basis).await {
                Ok(after) => {
                    let update = |diff| Change::Update { diff };
                    return Ok(Outcome::Would(diff::between(before, &after).map_or(Change::Nothing, update)));
                }
                Err(Failure::UidMismatch | Failure::Conflict { .. } | Failure::NotFound { .. }) => {}
                Err(failure) => {
                    let Some(fixed) = refusal::immutable(&failure, manifest) else {
                        return Err(refusal::explained(failure, manifest));
                    };
                    return Ok(match self.recreation_refused(manifest, &basis, fixed.clone()) {
                        Some(refused) => refused,
                        None => Outcome::Would(Change::Recreate { reason: fixed }),
                    });
                }
            }
        }
        Ok(keeps_changing())
    }

    /// The object as an update would leave it.
    async fn after(
        &self,
        id: &ObjectRef,
        resource: &Resource,
        object: &Map<String, Value>,
        basis: &Basis,
    ) -> Result<Map<String, Value>, Failure> {
        let body = self.server_side_apply(id, resource, object, basis, &basis.version, JSON).await?;
        let after = parse(&body)?;
        let answered = Object::parse(&body)?;
        let Some(posted) = answered.posted() else { return Ok(after) };
        // A write would take over what our POST set, and drop what the manifest does not have any more; the server would
        // then fill in its defaults.
        let written_as_text = written_as_text(object);
        let mut others: Vec<&Value> = answered.not_posted().map(|fields| &**fields).collect();
        others.extend(&written_as_text);
        let mut stripped = Value::Object(after.clone());
        strip(&mut stripped, posted, &others);
        let Value::Object(stripped) = stripped else { return Ok(after) };
        if stripped == after {
            return Ok(after);
        }
        let patch = replacement(&after, &stripped, &basis.uid, &basis.version);
        let body: Bytes = self.patch(id, resource, &patch, JSON).await?;
        parse(&body)
    }
}

/// The fields of `data` that a Secret sets by its `stringData`: the API server writes the one for the other.
fn written_as_text(object: &Map<String, Value>) -> Option<Value> {
    let is = |field: &str, value: &str| object.get(field).is_some_and(|it| it == value);
    let texts = object.get("stringData").and_then(Value::as_object)?;
    let fields: Map<String, Value> = texts.keys().map(|key| (format!("f:{key}"), json!({}))).collect();
    (is("apiVersion", "v1") && is("kind", "Secret")).then(|| json!({"f:data": fields}))
}

/// Takes out the fields that nobody but our POST has.
fn strip(value: &mut Value, fields: &Value, others: &[&Value]) {
    let Value::Object(fields) = fields else { return };
    for (name, node) in fields {
        let others: Vec<&Value> = others.iter().filter_map(|other| other.get(name)).collect();
        let is_leaf = node.as_object().is_none_or(Map::is_empty);
        match (value.as_object_mut(), name.strip_prefix("f:")) {
            (Some(object), Some(field)) if is_leaf && others.is_empty() => {
                object.remove(field);
            }
            (Some(object), Some(field)) => {
                let Some(inner) = object.get_mut(field) else { continue };
                strip(inner, node, &others);
                if others.is_empty() && inner.as_object().is_some_and(Map::is_empty) {
                    object.remove(field);
                }
            }
            _ => strip_item(value, name, node, &others),
        }
    }
}

fn strip_item(list: &mut Value, name: &str, node: &Value, others: &[&Value]) {
    let Value::Array(items) = list else { return };
    if let Some(wanted) = name.strip_prefix("v:") {
        let Ok(wanted) = serde_json::from_str::<Value>(wanted) else { return };
        if others.is_empty() {
            items.retain(|item| *item != wanted);
        }
    } else if let Some(keys) = name.strip_prefix("k:") {
        let Ok(Value::Object(keys)) = serde_json::from_str(keys) else { return };
        let is_it = |item: &Value| keys.iter().all(|(key, value)| item.get(key) == Some(value));
        if others.is_empty() {
            items.retain(|item| !is_it(item));
        } else if let Some(item) = items.iter_mut().find(|item| is_it(item)) {
            strip(item, node, others);
        }
    }
}

/// A JSON patch that makes one object of another; not a PUT, which needs a permission of its own.
fn replacement(before: &Map<String, Value>, after: &Map<String, Value>, uid: &str, version: &str) -> Value {
    let mut patch = vec![
        json!({"op": "test", "path": "/metadata/uid", "value": uid}),
        json!({"op": "test", "path": "/metadata/resourceVersion", "value": version}),
    ];
    let mut replace = |path: String, before: Option<&Value>, after: Option<&Value>| match (before, after) {
        (_, Some(after)) => patch.push(json!({"op": "add", "path": path, "value": after})),
        (Some(_), None) => patch.push(json!({"op": "remove", "path": path})),
        (None, None) => {}
    };
    let metadata = |object: &Map<String, Value>, field: &str| object.get("metadata")?.get(field).cloned();
    for field in ["labels", "annotations", "finalizers", "ownerReferences"] {
        let (before, after) = (metadata(before, field), metadata(after, field));
        replace(format!("/metadata/{field}"), before.as_ref(), after.as_ref());
    }
    for field in
        before.keys().filter(|field| !["apiVersion", "kind", "metadata", "status"].contains(&field.as_str()))
    {
        let path = format!("/{}", field.replace('~', "~0").replace('/', "~1"));
        replace(path, before.get(field), after.get(field));
    }
    Value::Array(patch)
}
