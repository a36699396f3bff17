//! What an API server does not take, in words that say what to do: fields that cannot be changed, and objects that are too
//! large.

use fleet_core::manifest::{Manifest, RECREATE};
use serde_json::Value;

use crate::client::{Cause, Failure};

/// What API servers say of a field that cannot be changed any more.
const FIXED: [&str; 7] = [
    "immutable",
    "may not change",
    "may not be changed",
    "cannot change",
    "cannot be changed",
    "can not be changed",
    "may not update",
];

/// Which fields of an object cannot be changed, if that is why an update failed. No values.
pub(super) fn immutable(failure: &Failure, manifest: &Manifest) -> Option<String> {
    let Failure::Invalid { message, causes } = failure else { return None };
    let mut fields: Vec<&str> = causes
        .iter()
        .filter(|cause| is_fixed(&cause.message))
        .map(|cause| if cause.field.is_empty() { "a field" } else { cause.field.as_str() })
        .collect();
    fields.dedup();
    if fields.is_empty() && !(causes.is_empty() && is_fixed(message)) {
        return None;
    }
    let fields = if fields.is_empty() { "a field".to_owned() } else { fields.join(", ") };
    let kind = &manifest.id().gvk.kind;
    Some(if fields == "spec" {
        format!("spec: this {kind} exists, and what the change is about cannot be changed in it any more")
    } else {
        format!("{fields} cannot be changed any more, because this {kind} exists")
    })
}

pub(super) fn with_advice(fixed: String) -> String {
    format!(
        "{fixed}; take the change back, or give the object another name, or set the annotation {RECREATE}: \"true\" in \
         the template: then it is deleted and created anew"
    )
}

fn is_fixed(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    FIXED.iter().any(|words| message.contains(words))
        || (message.contains("updates to ") && message.contains("forbidden"))
}

/// The same failure, with the size of what is too large.
pub(super) fn explained(failure: Failure, manifest: &Manifest) -> Failure {
    let Failure::Invalid { message, causes } = failure else { return failure };
    let causes = causes
        .into_iter()
        .map(|cause| match cause.reason.as_str() {
            "FieldValueTooLong" => with_size(cause, manifest),
            _ => cause,
        })
        .collect();
    Failure::Invalid { message, causes }
}

fn with_size(cause: Cause, manifest: &Manifest) -> Cause {
    // ConfigMaps and Secrets are measured as a whole.
    let fields: &[&str] =
        if matches!(cause.field.as_str(), "" | "data" | "[]") { &["data", "binaryData"] } else { &[] };
    let size = if fields.is_empty() {
        let mut parts = cause.field.split('.');
        let first = parts.next().and_then(|part| manifest.object().get(part));
        first.and_then(|first| parts.try_fold(first, |value, part| value.get(part))).map(size)
    } else {
        Some(fields.iter().filter_map(|field| manifest.object().get(*field)).map(size).sum())
    };
    let Some(size) = size else { return cause };
    let field = if cause.field.is_empty() || cause.field == "[]" { "data".to_owned() } else { cause.field };
    let message = format!("{}; it has {size} bytes, so make it smaller or split it up", cause.message);
    Cause { message, field, ..cause }
}

/// Names and values, as they stand in the manifest.
fn size(value: &Value) -> usize {
    match value {
        Value::Object(fields) => fields.iter().map(|(name, value)| name.len() + size(value)).sum(),
        Value::Array(items) => items.iter().map(size).sum(),
        Value::String(text) => text.len(),
        Value::Null => 0,
        other => other.to_string().len(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn manifest() -> Manifest {
        let object = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a", "annotations": {"b": "12345"}}});
        Manifest::new(object).unwrap()
    }

    fn invalid(field: &str, reason: &str, message: &str) -> Failure {
        let cause = Cause { field: field.to_owned(), reason: reason.to_owned(), message: message.to_owned() };
        Failure::Invalid { message: "it is invalid".to_owned(), causes: vec![cause] }
    }

    #[test]
    fn what_cannot_be_changed_is_known_by_the_servers_words() {
        for (field, message) in [
            ("spec.clusterIPs[0]", "Invalid value: [\"s3cret\"]: may not change once set"),
            ("spec.selector", "Invalid value: {\"s3cret\":1}: field is immutable"),
            ("spec", "Forbidden: updates to statefulset spec for fields other than 'replicas' are forbidden"),
            ("roleRef", "Invalid value: {}: cannot change roleRef"),
            ("value", "Forbidden: may not be changed in an update."),
        ] {
            let said = immutable(&invalid(field, "", message), &manifest()).unwrap();
            assert!(said.contains(field) && !said.contains("s3cret"), "{said}");
        }
        assert_eq!(immutable(&invalid("spec.x", "", "Required value"), &manifest()), None);
    }

    #[test]
    fn what_is_too_large_is_measured() {
        let failure =
            invalid("metadata.annotations", "FieldValueTooLong", "Too long: may not be more than 5 bytes");
        let Failure::Invalid { causes, .. } = explained(failure, &manifest()) else { panic!() };
        assert!(causes[0].message.contains("more than 5 bytes; it has 6 bytes"), "{}", causes[0].message);
    }
}
