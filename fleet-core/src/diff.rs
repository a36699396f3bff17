//! What an update changes in an object, as people read it: lines of YAML, without what only servers care for, and without
//! the values of Secrets.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Map, Value, json};
use similar::{ChangeTag, TextDiff};

use crate::yaml;

/// So many unchanged lines stand around a change.
const CONTEXT: usize = 3;
/// Longer diffs are cut.
const MOST_LINES: usize = 1000;
/// Fields of the metadata that change with every write, or never.
const NOISE: [&str; 6] =
    ["managedFields", "resourceVersion", "generation", "uid", "creationTimestamp", "selfLink"];
/// Where `kubectl apply` keeps the object as it was given, values of Secrets included.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The lines that differ, as a unified diff, with `@@` where lines are left out; `None` if there is no difference. The
/// order of fields makes none, and neither does `status`.
///
/// Values of Secrets show as `***`, or `*** (changed)`.
pub fn between(before: &Map<String, Value>, after: &Map<String, Value>) -> Option<String> {
    let (before, after) = (shown(before, after, "***"), shown(after, before, "*** (changed)"));
    if before == after {
        return None;
    }
    // What came out of JSON can be written; if not, no content can get into the message.
    let text = |value: &Value| yaml::to_string(value).unwrap_or_else(|_| "(cannot be shown)\n".to_owned());
    let (before, after) = (text(&before), text(&after));
    let diff = TextDiff::from_lines(before.as_str(), after.as_str());
    let mut out = String::new();
    let mut lines = 0_usize;
    for group in diff.grouped_ops(CONTEXT) {
        out.push_str("@@\n");
        for change in group.iter().flat_map(|op| diff.iter_changes(op)) {
            lines += 1;
            if lines > MOST_LINES {
                continue;
            }
            let sign = match change.tag() {
                ChangeTag::Delete => '-',
                ChangeTag::Insert => '+',
                ChangeTag::Equal => ' ',
            };
            // Writing to a String cannot fail.
            let _ = writeln!(out, "{sign}{}", change.value().trim_end_matches('\n'));
        }
    }
    if lines > MOST_LINES {
        let _ = writeln!(out, "@@ {} more lines", lines - MOST_LINES);
    }
    Some(out)
}

/// An object as people may see it: the values of a Secret show as `***`.
pub fn masked(object: &Map<String, Value>) -> Map<String, Value> {
    let mut masked = object.clone();
    if is_secret(object) {
        mask(&mut masked, &Map::new(), "***");
    }
    masked
}

fn is_secret(object: &Map<String, Value>) -> bool {
    let is = |field: &str, value: &str| object.get(field).is_some_and(|it| it == value);
    is("apiVersion", "v1") && is("kind", "Secret")
}

/// An object as it is shown beside another state of it.
fn shown(object: &Map<String, Value>, other: &Map<String, Value>, changed: &str) -> Value {
    let mut shown = object.clone();
    shown.remove("status");
    if let Some(Value::Object(metadata)) = shown.get_mut("metadata") {
        for field in NOISE {
            metadata.remove(field);
        }
    }
    if is_secret(object) {
        mask(&mut shown, other, changed);
    }
    sorted(Value::Object(shown))
}

fn mask(secret: &mut Map<String, Value>, other: &Map<String, Value>, changed: &str) {
    for field in ["data", "stringData"] {
        let Some(values) = secret.get_mut(field) else { continue };
        let others = other.get(field);
        match values {
            Value::Object(values) => {
                for (key, value) in values {
                    mask_value(value, others.and_then(|others| others.get(key)), changed);
                }
            }
            whole => mask_value(whole, others, changed),
        }
    }
    let there = other.get("metadata").and_then(|metadata| metadata.get("annotations")?.get(LAST_APPLIED));
    if let Some(value) =
        secret.get_mut("metadata").and_then(|metadata| metadata.get_mut("annotations")?.get_mut(LAST_APPLIED))
    {
        mask_value(value, there, changed);
    }
}

fn mask_value(value: &mut Value, other: Option<&Value>, changed: &str) {
    let differs = other.is_some_and(|other| other != value);
    *value = json!(if differs { changed } else { "***" });
}

/// The same value, with the fields of each object in order.
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields: BTreeMap<_, _> =
                fields.into_iter().map(|(name, value)| (name, sorted(value))).collect();
            Value::Object(fields.into_iter().collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(sorted).collect()),
        scalar => scalar,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn diff(before: Value, after: Value) -> Option<String> {
        let (Value::Object(before), Value::Object(after)) = (before, after) else { panic!("no objects") };
        between(&before, &after)
    }

    #[test]
    fn only_what_changes_is_shown() {
        let object = |version: &str, data: Value| {
            json!({"apiVersion": "v1", "kind": "ConfigMap", "data": data, "status": {"at": version},
                "metadata": {"name": "a", "resourceVersion": version, "generation": 1, "managedFields": [version]}})
        };
        assert_eq!(
            diff(object("1", json!({"a": "1", "b": "2"})), object("2", json!({"b": "2", "a": "1"}))),
            None
        );
        let before = json!({"a": "1", "b": "2", "c": "3", "d": "4", "e": "5"});
        let after = json!({"a": "1", "b": "2", "c": "3", "d": "4", "e": "6"});
        assert_eq!(
            diff(object("1", before), object("2", after)).unwrap(),
            "@@\n   b: \"2\"\n   c: \"3\"\n   d: \"4\"\n-  e: \"5\"\n+  e: \"6\"\n kind: ConfigMap\n metadata:\n   name: a\n"
        );
    }

    #[test]
    fn values_of_secrets_are_masked_and_changes_of_them_show() {
        let secret = |data: Value, last: &str| {
            json!({"apiVersion": "v1", "kind": "Secret", "data": data,
                "metadata": {"name": "a", "annotations": {(LAST_APPLIED): last}}})
        };
        let before = secret(json!({"changed": "s3cret1", "gone": "s3cret2", "same": "s3cret3"}), "s3cret4");
        let after = secret(json!({"changed": "s3cret5", "new": "s3cret6", "same": "s3cret3"}), "s3cret7");
        let shown = diff(before.clone(), after).unwrap();
        assert!(!shown.contains("s3cret"), "{shown}");
        for line in [
            "-  changed: '***'",
            "+  changed: '*** (changed)'",
            "-  gone: '***'",
            "+  new: '***'",
            "   same: '***'",
        ] {
            assert!(shown.lines().any(|shown| shown.replace('"', "'") == line), "{line}: {shown}");
        }
        assert_eq!(diff(before.clone(), before), None);
    }

    #[test]
    fn long_diffs_are_cut() {
        let object = |value: usize| {
            let data: Map<_, _> =
                (0..2 * MOST_LINES).map(|key| (format!("{key:05}"), json!(value))).collect();
            json!({"apiVersion": "v1", "kind": "ConfigMap", "data": data})
        };
        let shown = diff(object(1), object(2)).unwrap();
        assert!(shown.lines().count() <= MOST_LINES + 2, "{}", shown.lines().count());
        assert!(shown.ends_with("more lines\n"));
    }
}
