//! Fields that others may change: the value that is there is put into what is applied, so that it stays.

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::policy::JsonPointer;

/// Makes a field of a manifest what it is in the object that is there. Where the object does not have it, somebody removed
/// it, and the manifest must not bring it back.
///
/// `-` stands for each item of a list. Items that have a name are the same if their names are; others, if they are at the
/// same place.
pub fn keep(manifest: &mut Map<String, Value>, live: &Map<String, Value>, field: &JsonPointer) {
    keep_in_fields(manifest, Some(live), field.parts());
}

fn keep_in_fields(manifest: &mut Map<String, Value>, live: Option<&Map<String, Value>>, parts: &[Arc<str>]) {
    let Some((first, rest)) = parts.split_first() else { return };
    let there = live.and_then(|live| live.get(&**first));
    if rest.is_empty() {
        match there {
            Some(value) => {
                manifest.insert((**first).to_owned(), value.clone());
            }
            None => {
                manifest.remove(&**first);
            }
        }
        return;
    }
    match manifest.get_mut(&**first) {
        Some(value) => {
            let was_empty = is_empty(value);
            keep_in(value, there, rest);
            if there.is_none() && !was_empty && is_empty(value) {
                manifest.remove(&**first);
            }
        }
        // What is around it may be gone from the manifest, but not what others have put there.
        None => {
            if let Some(Value::Object(there)) = there {
                let mut around = Map::new();
                keep_in_fields(&mut around, Some(there), rest);
                if !around.is_empty() {
                    manifest.insert((**first).to_owned(), Value::Object(around));
                }
            }
        }
    }
}

fn keep_in(value: &mut Value, live: Option<&Value>, parts: &[Arc<str>]) {
    match value {
        Value::Object(fields) => keep_in_fields(fields, live.and_then(Value::as_object), parts),
        Value::Array(items) => keep_in_items(items, live.and_then(Value::as_array), parts),
        _ => {}
    }
}

fn keep_in_items(items: &mut Vec<Value>, live: Option<&Vec<Value>>, parts: &[Arc<str>]) {
    let Some((first, rest)) = parts.split_first() else { return };
    let chosen = |index: usize| &**first == "-" || first.parse() == Ok(index);
    let counterpart = |index: usize, item: &Value| {
        let live = live?;
        match name(item) {
            Some(wanted) => live.iter().find(|item| name(item) == Some(wanted)),
            None => live.get(index).filter(|item| name(item).is_none()),
        }
    };
    let old = std::mem::take(items);
    for (index, mut item) in old.into_iter().enumerate() {
        if chosen(index) {
            match counterpart(index, &item) {
                there if !rest.is_empty() => keep_in(&mut item, there, rest),
                Some(there) => item = there.clone(),
                None => continue,
            }
        }
        items.push(item);
    }
}

fn name(item: &Value) -> Option<&str> {
    item.get("name").and_then(Value::as_str)
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Object(fields) => fields.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn kept(manifest: Value, live: Value, field: &str) -> Value {
        let (Value::Object(mut manifest), Value::Object(live)) = (manifest, live) else {
            panic!("no objects")
        };
        keep(&mut manifest, &live, &JsonPointer::parse(field).unwrap());
        Value::Object(manifest)
    }

    #[test]
    fn what_is_there_stays() {
        for (field, manifest, live, expected) in [
            (
                "/spec/replicas",
                json!({"spec": {"replicas": 1}}),
                json!({"spec": {"replicas": 5}}),
                json!({"spec": {"replicas": 5}}),
            ),
            (
                "/spec/replicas",
                json!({"spec": {"a": 1}}),
                json!({"spec": {"replicas": 5}}),
                json!({"spec": {"a": 1, "replicas": 5}}),
            ),
            (
                "/spec/replicas",
                json!({}),
                json!({"spec": {"replicas": 5, "b": 1}}),
                json!({"spec": {"replicas": 5}}),
            ),
            ("/spec/replicas", json!({}), json!({"spec": {"b": 1}}), json!({})),
            // Removed by somebody; with it the mapping around it, or not.
            ("/a/b", json!({"a": {"b": 1, "c": 2}}), json!({}), json!({"a": {"c": 2}})),
            ("/a/b", json!({"a": {"b": 1}}), json!({"a": {}}), json!({"a": {}})),
            ("/a/b", json!({"a": {"b": 1}}), json!({}), json!({})),
        ] {
            assert_eq!(kept(manifest, live, field), expected, "{field}");
        }
    }

    #[test]
    fn items_are_known_by_name() {
        let manifest = json!({"c": [{"name": "a", "image": "1"}, {"name": "b", "image": "1"}]});
        let live = json!({"c": [{"name": "sidecar", "image": "9"}, {"name": "a", "image": "2"}, {"name": "b", "image": "3"}]});
        assert_eq!(
            kept(manifest.clone(), live.clone(), "/c/0/image"),
            json!({"c": [{"name": "a", "image": "2"}, {"name": "b", "image": "1"}]})
        );
        assert_eq!(
            kept(manifest, live, "/c/-/image"),
            json!({"c": [{"name": "a", "image": "2"}, {"name": "b", "image": "3"}]})
        );
        assert_eq!(kept(json!({"c": [1, 2]}), json!({"c": [3, 4]}), "/c/1"), json!({"c": [1, 4]}));
        assert_eq!(kept(json!({"c": [1, 2]}), json!({"c": [3]}), "/c/1"), json!({"c": [1]}));
    }
}
