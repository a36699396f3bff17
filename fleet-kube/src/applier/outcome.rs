//! Failures become outcomes, with reasons that show no values.

use std::time::Duration;

use fleet_core::apply::Outcome;
use fleet_core::manifest::ObjectRef;

use crate::client::{Cause, Failure};

/// Longer reasons are cut.
const LONGEST: usize = 1024;

pub(crate) fn of_failure(failure: Failure, id: &ObjectRef) -> Outcome {
    let soon = Duration::from_secs(1);
    let later = Duration::from_secs(10);
    let retry = |after, reason, cluster| Outcome::Retry { after, reason, cluster };
    match failure {
        Failure::NamespaceTerminating => Outcome::Waiting {
            reason: format!("namespace {} is being deleted", id.namespace.as_deref().unwrap_or_default()),
        },
        Failure::NotFound { resource, name } if resource == "namespaces" => {
            Outcome::Waiting { reason: format!("namespace {name} does not exist in the cluster") }
        }
        Failure::NotFound { .. } => retry(soon, "the object went away meanwhile".to_owned(), false),
        Failure::AlreadyExists | Failure::UidMismatch => {
            retry(soon, "somebody else replaced the object meanwhile".to_owned(), false)
        }
        Failure::Conflict { .. } => {
            retry(soon, "somebody else wrote to the object at the same time".to_owned(), false)
        }
        Failure::NoSuchPath => {
            retry(soon, format!("the cluster does not serve {} any more", id.gvk.kind), false)
        }
        Failure::Forbidden { message } => Outcome::Rejected { reason: forbidden(&message, id) },
        Failure::Invalid { message, causes } => Outcome::Rejected { reason: invalid(&message, &causes, id) },
        Failure::TooLarge { sent, limit } => Outcome::Rejected { reason: too_large(sent, limit) },
        Failure::Unauthorized => retry(
            later,
            "the API server does not accept the credentials of the cluster's kubeconfig; renew them"
                .to_owned(),
            true,
        ),
        Failure::Throttled { retry_after, reason, cluster } => {
            retry(retry_after, guarded(&reason, id), cluster)
        }
        Failure::Unreachable { reason } => {
            retry(soon, format!("the API server cannot be reached: {reason}"), true)
        }
        Failure::NotTried { reason } => retry(soon, reason, false),
        Failure::NoAnswer { reason } => Outcome::Unknown { reason: guarded(&reason, id) },
        Failure::Other { code, message } => {
            retry(later, format!("the API server answered {code}: {}", guarded(&message, id)), false)
        }
    }
}

fn too_large(sent: usize, limit: Option<u64>) -> String {
    let limit = match limit {
        Some(limit) => format!("{limit} bytes"),
        None => "what its storage is set to (etcd: 1572864 bytes by default)".to_owned(),
    };
    format!(
        "the object is too large: it has {sent} bytes, and the API server takes at most {limit}; split it up"
    )
}

fn is_secret(id: &ObjectRef) -> bool {
    id.gvk.group.is_empty() && &*id.gvk.kind == "Secret"
}

/// A message that may quote anything.
fn guarded(message: &str, id: &ObjectRef) -> String {
    if is_secret(id) {
        return "(the message is left out, because it may quote the Secret)".to_owned();
    }
    cut(without_values(message))
}

/// A webhook's own words may quote the object; the API server's name users and resources only.
fn forbidden(message: &str, id: &ObjectRef) -> String {
    const DENIED: &str = "denied the request";
    match message.find(DENIED).filter(|_| is_secret(id)) {
        Some(at) => cut(message.get(..at + DENIED.len()).unwrap_or_default().to_owned()),
        None => cut(message.to_owned()),
    }
}

fn invalid(message: &str, causes: &[Cause], id: &ObjectRef) -> String {
    let fields: Vec<String> = causes
        .iter()
        .filter(|cause| !cause.field.is_empty())
        .map(|Cause { reason, message, field }| {
            // How large something is tells nothing of its content.
            if is_secret(id) && reason != "FieldValueTooLong" {
                format!("{field}: {reason}")
            } else {
                format!("{field}: {}", without_values(message))
            }
        })
        .collect();
    if fields.is_empty() {
        return format!("the API server refuses it: {}", guarded(message, id));
    }
    cut(format!("the API server refuses it: {}", fields.join("; ")))
}

/// Leaves out what follows `Invalid value: ` and its like, up to the explanation.
fn without_values(message: &str) -> String {
    const VALUE: &str = "value: ";
    let Some((before, after)) = message.split_once(VALUE) else {
        return message.to_owned();
    };
    let rest = match after.strip_prefix('"') {
        Some(quoted) => {
            let mut escaped = false;
            let end = quoted.find(|c| {
                let end = c == '"' && !escaped;
                escaped = c == '\\' && !escaped;
                end
            });
            end.and_then(|end| quoted.get(end + 1..)).unwrap_or_default()
        }
        // A number, a list or a struct in Go's notation.
        None => after.rfind(": ").and_then(|at| after.get(at..)).unwrap_or_default(),
    };
    format!("{before}{VALUE}…{}", without_values(rest))
}

fn cut(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(LONGEST) {
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use fleet_core::manifest::Gvk;

    fn id(kind: &str) -> ObjectRef {
        let gvk = Gvk { group: "".into(), version: "v1".into(), kind: kind.into() };
        ObjectRef { gvk, namespace: Some("a".into()), name: "n".into() }
    }

    #[test]
    fn values_are_left_out() {
        for (message, shown) in [
            (r#"Invalid value: "s3cret": must be a DNS label"#, "Invalid value: …: must be a DNS label"),
            (r#"Invalid value: "s3\": cret": must be x"#, "Invalid value: …: must be x"),
            (r#"Invalid value: "s3cret"#, "Invalid value: …"),
            (r#"Invalid value: []string{"s3cret: x"}: must be x"#, "Invalid value: …: must be x"),
            (
                r#"a: Unsupported value: "s3cret": supported values: "A", b: Invalid value: "s3cret": no"#,
                r#"a: Unsupported value: …: supported values: "A", b: Invalid value: …: no"#,
            ),
            ("spec.x: Required value", "spec.x: Required value"),
        ] {
            assert_eq!(without_values(message), shown);
        }
    }

    #[test]
    fn of_a_secret_only_fields_show() {
        let cause = Cause {
            reason: "FieldValueInvalid".into(),
            message: "s3cret is bad".into(),
            field: "data[k]".into(),
        };
        let failures = [
            Failure::Invalid { message: "s3cret".into(), causes: vec![cause] },
            Failure::Invalid { message: "s3cret".into(), causes: vec![] },
            Failure::Forbidden { message: "admission webhook \"w\" denied the request: s3cret".into() },
            Failure::NoAnswer { reason: "the API server answered 500: s3cret".into() },
            Failure::Other { code: 418, message: "s3cret".into() },
        ];
        for failure in failures {
            let shown = format!("{:?}", of_failure(failure, &id("Secret")));
            assert!(!shown.contains("s3cret"), "{shown}");
        }
    }
}
