//! Seeing what becomes of objects after they were applied: what an [`Applier`](crate::apply::Applier) tells of those
//! that carry a mark.

use std::sync::Arc;

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::manifest::ObjectRef;
use crate::policy::JsonPointer;

/// How much of an object is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Depth {
    /// What tells whether it is ours and unchanged.
    Metadata,
    /// All of it: whether it is healthy depends on its status.
    Whole,
}

/// One item of what is told of the marked objects of one kind in one cluster.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Observation {
    /// A complete list begins: what follows up to [`Listed`](Self::Listed) is everything that is there.
    Listing,
    /// An object is there, or changed.
    There(Seen),
    /// The list is complete: what was not in it is not there.
    Listed {
        /// What it is as of, as a [version](Seen::version): what was written later is told after it. `None`: as of when
        /// it began.
        version: Option<Arc<str>>,
    },
    /// An object is not there any more, or does not carry the mark any more.
    Gone {
        /// Which object.
        object: ObjectRef,
        /// The hash in the mark that it carried, if that is known.
        mark: Option<Arc<str>>,
        /// Its UID, if it had one that is known.
        uid: Option<Arc<str>>,
    },
}

/// A marked object as it was seen.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Which object.
    pub object: ObjectRef,
    /// The hash in its mark.
    pub mark: Arc<str>,
    /// Its UID.
    pub uid: Arc<str>,
    /// The Applier's note of what it is like now, to be compared with [`Placed::version`](crate::apply::Placed::version).
    /// Where both are decimal numbers the later one is higher, so that what is told late is known to be old.
    pub version: Option<Arc<str>>,
    /// Whether it is being deleted.
    pub going: bool,
    /// Whether it shows that this Applier's writer has written it: a copy that somebody made does not.
    pub written_by_us: bool,
    /// What is ours of it.
    pub owned: Owned,
    /// Who else wrote it last, as far as it tells.
    pub other: Option<Arc<str>>,
    /// The object, if it is looked at whole, without `managedFields`; of a Secret nothing but `metadata` and `type`. `None`
    /// also where nothing reports a status (folders): then it is as it should be by being there.
    pub whole: Option<Arc<Map<String, Value>>>,
}

/// Those fields of an object that are ours: the ones that we set last and that nobody has changed since.
///
/// In the form of the `fieldsV1` that Kubernetes keeps for each field manager: `f:` and a field's name; `k:` and the keys
/// of an item in a list that has keys; `v:` and a value in a set; `i:` and an index. Where there are no field managers
/// (folders), a leaf holds a hash of the value.
#[derive(Clone, Debug, PartialEq)]
pub struct Owned(pub Arc<Value>);

/// So many hex digits tell one state of an object from another.
const DIGITS: usize = 16;

impl Owned {
    /// All fields of an object, with their values: for where there are no field managers.
    pub fn of_values(object: &Map<String, Value>) -> Self {
        Self(Arc::new(tree(object)))
    }

    /// A short hash of it, without the fields that are excluded: another one means that somebody changed something that
    /// is ours. An index in a list whose items have keys stands for all its items.
    pub fn print<'a>(&self, excluded: impl IntoIterator<Item = &'a JsonPointer>) -> Arc<str> {
        let mut excluded = excluded.into_iter().peekable();
        let mut hasher = Sha256::new();
        if excluded.peek().is_none() {
            hash_tree(&self.0, &mut hasher);
        } else {
            let mut pruned = (*self.0).clone();
            excluded.for_each(|pointer| prune(&mut pruned, pointer.parts()));
            hash_tree(&pruned, &mut hasher);
        }
        digits(hasher).into()
    }

    /// Whether all fields of an object, as it was applied, are ours still for certain; those that are excluded aside. Of a
    /// map or list that is owned as a whole (a selector, a command) that cannot be told.
    pub fn cover<'a>(
        &self,
        object: &Map<String, Value>,
        excluded: impl IntoIterator<Item = &'a JsonPointer>,
    ) -> bool {
        let mut object = object.clone();
        for pointer in excluded {
            cut(&mut object, pointer.parts());
        }
        // What names the object belongs to nobody.
        object.remove("apiVersion");
        object.remove("kind");
        if let Some(Value::Object(metadata)) = object.get_mut("metadata") {
            metadata.remove("name");
            metadata.remove("namespace");
        }
        // Secrets are written in one field and kept in another.
        if self.0.get("f:stringData").is_none()
            && let Some(Value::Object(texts)) = object.remove("stringData")
        {
            let data = object.entry("data").or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(data) = data {
                data.extend(texts);
            }
        }
        covers_fields(&self.0, &object)
    }
}

fn covers_fields(node: &Value, object: &Map<String, Value>) -> bool {
    let is_set = |(_, value): &(&String, &Value)| !value.is_null();
    object.iter().filter(is_set).all(|(name, value)| {
        node.get(format!("f:{name}")).map_or_else(|| is_nothing(value), |node| covers(node, value))
    })
}

/// Servers drop fields that hold nothing.
fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(fields) => fields.values().all(is_nothing),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

fn covers(node: &Value, value: &Value) -> bool {
    match (node, value) {
        (Value::String(hash), value) => *hash == hash_value(value),
        // Owned as a whole, or all that was in it is somebody else's by now: the two look the same.
        (Value::Object(children), Value::Object(_) | Value::Array(_)) if children.is_empty() => {
            is_nothing(value)
        }
        (_, Value::Object(fields)) => covers_fields(node, fields),
        (Value::Object(children), Value::Array(items)) => {
            items.iter().enumerate().all(|(index, item)| covers_item(children, index, item))
        }
        _ => true,
    }
}

fn covers_item(children: &Map<String, Value>, index: usize, item: &Value) -> bool {
    if let Some(node) = children.get(&format!("i:{index}")) {
        return covers(node, item);
    }
    let Value::Object(fields) = item else {
        return children.contains_key(&format!("v:{item}"));
    };
    children.iter().any(|(key, node)| {
        let keys = key.strip_prefix("k:").and_then(|keys| serde_json::from_str::<Map<_, _>>(keys).ok());
        keys.is_some_and(|keys| {
            // A key that the item does not have was filled in by the server.
            keys.iter().all(|(name, value)| fields.get(name).is_none_or(|there| there == value))
        }) && covers_fields(node, fields)
    })
}

fn tree(object: &Map<String, Value>) -> Value {
    let node = |value: &Value| match value {
        Value::Object(fields) if !fields.is_empty() => tree(fields),
        Value::Array(items) if items.iter().any(Value::is_object) => {
            let child = |(index, item): (usize, &Value)| {
                let node = item.as_object().map_or_else(|| Value::String(hash_value(item)), tree);
                (format!("i:{index}"), node)
            };
            Value::Object(items.iter().enumerate().map(child).collect())
        }
        leaf => Value::String(hash_value(leaf)),
    };
    Value::Object(object.iter().map(|(name, value)| (format!("f:{name}"), node(value))).collect())
}

fn hash_value(value: &Value) -> String {
    let mut hasher = Sha256::new();
    hash_tree(value, &mut hasher);
    digits(hasher)
}

/// Hashes a value, whatever the order of the fields in it.
fn hash_tree(value: &Value, hasher: &mut Sha256) {
    match value {
        Value::Object(fields) => {
            hasher.update(b"{");
            let mut sorted: Vec<_> = fields.iter().collect();
            sorted.sort_unstable_by_key(|(name, _)| *name);
            for (name, value) in sorted {
                hasher.update((name.len() as u64).to_be_bytes());
                hasher.update(name.as_bytes());
                hash_tree(value, hasher);
            }
            hasher.update(b"}");
        }
        Value::Array(items) => {
            hasher.update(b"[");
            items.iter().for_each(|item| hash_tree(item, hasher));
            hasher.update(b"]");
        }
        scalar => {
            let text = whole(scalar).map_or_else(|| scalar.to_string(), |whole| whole.to_string());
            hasher.update((text.len() as u64).to_be_bytes());
            hasher.update(text.as_bytes());
        }
    }
}

/// A number that was written with a fraction or an exponent and has no need of it: YAML reads back an integer.
fn whole(value: &Value) -> Option<i64> {
    /// Up to here a float holds each integer.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let number = value.as_number().filter(|number| number.is_f64())?.as_f64()?;
    (number.fract() == 0.0 && number.abs() < EXACT).then_some(number as i64)
}

fn digits(hasher: Sha256) -> String {
    let mut text: String =
        hasher.finalize().iter().take(DIGITS / 2).map(|byte| format!("{byte:02x}")).collect();
    text.shrink_to_fit();
    text
}

fn is_index(part: &str) -> bool {
    part == "-" || part.bytes().all(|byte| byte.is_ascii_digit())
}

/// Takes a field out of a tree of owned fields, and what is left empty by that.
fn prune(node: &mut Value, parts: &[Arc<str>]) {
    let (Some((first, rest)), Value::Object(children)) = (parts.split_first(), node) else { return };
    let field = format!("f:{first}");
    let is_item = |name: &str| name.starts_with("k:") || name.starts_with("v:");
    let index = format!("i:{first}");
    let of_all_items = is_index(first) && !children.contains_key(&index);
    children.retain(|name, child| {
        if *name != field && *name != index && !(of_all_items && is_item(name)) {
            return true;
        }
        if rest.is_empty() {
            return false;
        }
        let was_empty = child.as_object().is_none_or(Map::is_empty);
        prune(child, rest);
        // Where it was the only field that is ours, it makes no difference whether the one around it is.
        was_empty || child.as_object().is_none_or(|left| left.keys().any(|name| name != "."))
    });
}

/// Takes a field out of an object.
fn cut(object: &mut Map<String, Value>, parts: &[Arc<str>]) {
    fn cut_item(value: &mut Value, parts: &[Arc<str>]) {
        match (value, parts.split_first()) {
            (Value::Object(fields), Some(_)) => cut(fields, parts),
            (Value::Array(items), Some((first, []))) if is_index(first) => items.clear(),
            (Value::Array(items), Some((first, rest))) if is_index(first) => {
                items.iter_mut().for_each(|item| cut_item(item, rest));
            }
            _ => {}
        }
    }
    match parts.split_first() {
        Some((first, [])) => {
            object.remove(&**first);
        }
        Some((first, rest)) => {
            if let Some(value) = object.get_mut(&**first) {
                cut_item(value, rest);
            }
        }
        None => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn owned(tree: Value) -> Owned {
        Owned(Arc::new(tree))
    }

    fn fields(value: Value) -> Map<String, Value> {
        let Value::Object(fields) = value else { panic!("not a mapping") };
        fields
    }

    fn pointer(text: &str) -> JsonPointer {
        JsonPointer::parse(text).unwrap()
    }

    #[test]
    fn what_was_applied_is_ours_until_somebody_changes_it() {
        let manifest = fields(json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "a", "namespace": "b", "labels": {"x/y": "1"}, "annotations": null},
            "spec": {
                "template": {"spec": {
                    "containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 80}]}],
                    "volumes": [{"name": "v", "emptyDir": {}}],
                    "nodeSelector": {},
                }},
                "finalizers": ["a", "b"],
            },
        }));
        let full = json!({
            "f:metadata": {"f:labels": {"f:x/y": {}}},
            "f:spec": {
                "f:template": {"f:spec": {
                    "f:containers": {"k:{\"name\":\"c\"}": {
                        ".": {}, "f:name": {}, "f:image": {},
                        "f:ports": {"k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}}},
                    }},
                    "f:volumes": {"k:{\"name\":\"v\"}": {".": {}, "f:name": {}, "f:emptyDir": {}}},
                }},
                "f:finalizers": {"v:\"a\"": {}, "v:\"b\"": {}},
            },
        });
        assert!(owned(full.clone()).cover(&manifest, []));
        for (path, name) in [
            ("/f:metadata/f:labels", "f:x~1y"),
            ("/f:spec/f:template/f:spec/f:containers/k:{\"name\":\"c\"}", "f:image"),
            ("/f:spec/f:template/f:spec/f:containers/k:{\"name\":\"c\"}", "f:ports"),
            ("/f:spec/f:template/f:spec/f:volumes", "k:{\"name\":\"v\"}"),
            ("/f:spec/f:finalizers", "v:\"b\""),
        ] {
            let mut lost = full.clone();
            let node = lost.pointer_mut(path).unwrap().as_object_mut().unwrap();
            assert!(node.remove(&name.replace("~1", "/")).is_some(), "{path}/{name}");
            assert!(!owned(lost.clone()).cover(&manifest, []), "{path}/{name}");
            assert_ne!(owned(lost).print([]), owned(full.clone()).print([]));
        }
    }

    #[test]
    fn excluded_fields_make_no_difference() {
        let full = owned(json!({"f:spec": {"f:replicas": {}, "f:paused": {}}}));
        let lost = owned(json!({"f:spec": {"f:paused": {}}}));
        let replicas = pointer("/spec/replicas");
        let manifest = fields(json!({"spec": {"replicas": 1, "paused": true}}));
        assert_ne!(full.print([]), lost.print([]));
        assert_eq!(full.print([&replicas]), lost.print([&replicas]));
        assert!(!lost.cover(&manifest, []));
        assert!(lost.cover(&manifest, [&replicas]));

        let item = |fields: Value| owned(json!({"f:spec": {"f:containers": {"k:{\"name\":\"c\"}": fields}}}));
        let image = pointer("/spec/containers/0/image");
        let manifest = fields(json!({"spec": {"containers": [{"name": "c", "image": "i"}]}}));
        let full = item(json!({".": {}, "f:name": {}, "f:image": {}}));
        let lost = item(json!({".": {}, "f:name": {}}));
        assert_eq!(full.print([&image]), lost.print([&image]));
        assert!(lost.cover(&manifest, [&image]));
    }

    #[test]
    fn secrets_are_written_in_one_field_and_kept_in_another() {
        let secret = fields(json!({"stringData": {"a": "b"}, "data": {"c": "ZA=="}}));
        assert!(owned(json!({"f:data": {"f:a": {}, "f:c": {}}})).cover(&secret, []));
        assert!(!owned(json!({"f:data": {"f:c": {}}})).cover(&secret, []));
    }

    #[test]
    fn without_field_managers_values_count() {
        let object =
            fields(json!({"kind": "A", "spec": {"a": 1, "list": [{"b": 2}, {"b": 3}], "flat": [1, 2]}}));
        let full = Owned::of_values(&object);
        assert!(full.cover(&object, []));
        for (path, value) in [("/spec/a", json!(2)), ("/spec/list/1/b", json!(4)), ("/spec/flat", json!([1]))]
        {
            let mut changed = Value::Object(object.clone());
            *changed.pointer_mut(path).unwrap() = value;
            let changed = Owned::of_values(&fields(changed));
            assert!(!changed.cover(&object, []), "{path}");
            assert_ne!(full.print([]), changed.print([]));
            let excluded = pointer(path);
            assert!(changed.cover(&object, [&excluded]), "{path}");
            assert_eq!(full.print([&excluded]), changed.print([&excluded]));
        }
    }
}
