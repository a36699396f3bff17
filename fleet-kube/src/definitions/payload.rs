//! What triggers and profiles have in common: what they put into clusters, and whom they act as there.

use std::sync::Arc;

use fleet_core::apply::Identity;
use fleet_core::catalog::Payload;
use fleet_core::manifest::names;
use fleet_core::render::{Language, TemplateKind, TemplateSource};

use super::helm;
use super::object::{Fault, Kind, ObjectId, Place, Problem, join};
use super::references::{Lookup, References};
use crate::api::{DeploymentType, HelmChart, PolicyKind, PolicyRef};

const POLICY_REFS: &str = "/spec/policyRefs";

/// Finds what is wrong with references and charts by themselves.
pub(super) fn check(place: &Place, refs: &[PolicyRef], charts: &[HelmChart], problems: &mut Vec<Problem>) {
    check_policy_refs(place, refs, problems);
    helm::check(place, charts, problems);
}

/// The ConfigMaps and Secrets that are referred to.
pub(super) fn references(refs: &[PolicyRef], charts: &[HelmChart]) -> impl Iterator<Item = ObjectId> {
    refs.iter().map(id).chain(helm::references(charts))
}

/// What goes into clusters, and what is local; `language` is what the texts of charts are written in. What is missing is
/// told as a problem, too.
pub(super) fn payload(
    place: &Place,
    (refs, charts): (&[PolicyRef], &[HelmChart]),
    language: Language,
    references: &References<'_>,
    problems: &mut Vec<Problem>,
) -> (Vec<Payload>, Vec<Payload>) {
    let (mut remote, local) = policies(place, refs, references, problems);
    remote.extend(helm::releases(place, charts, language, references, problems));
    (remote, local)
}

fn check_policy_refs(place: &Place, refs: &[PolicyRef], problems: &mut Vec<Problem>) {
    let mut invalid =
        |pointer: &str, reason: String| problems.push(place.problem(pointer, Fault::Invalid, reason));
    for (index, policy) in refs.iter().enumerate() {
        let pointer = join(POLICY_REFS, &index.to_string());
        if let Err(why) = names::dns_label(&policy.namespace) {
            invalid(&join(&pointer, "namespace"), format!("{:?} {why}", policy.namespace));
        }
        if let Err(why) = names::dns_subdomain(&policy.name) {
            invalid(&join(&pointer, "name"), format!("{:?} {why}", policy.name));
        }
        let is_same =
            |one: &PolicyRef| id(one) == id(policy) && one.deployment_type == policy.deployment_type;
        if refs.iter().take(index).any(is_same) {
            invalid(&pointer, format!("{} is named twice", id(policy)));
        }
    }
}

/// Whom to act as.
pub(super) fn identity(
    place: &Place,
    namespace: Option<&String>,
    name: Option<&String>,
    problems: &mut Vec<Problem>,
) -> Option<Identity> {
    let mut invalid = |field: &str, reason: String| {
        problems.push(place.problem(&join("/spec", field), Fault::Invalid, reason));
    };
    match (namespace, name) {
        (Some(namespace), Some(name)) => {
            if let Err(why) = names::dns_label(namespace) {
                invalid("serviceAccountNamespace", format!("{namespace:?} {why}"));
            }
            if let Err(why) = names::dns_subdomain(name) {
                invalid("serviceAccountName", format!("{name:?} {why}"));
            }
            return Some(Identity { namespace: namespace.clone(), name: name.clone() });
        }
        (None, None) => {}
        (None, Some(_)) => {
            invalid("serviceAccountName", "needs serviceAccountNamespace beside it".to_owned());
        }
        (Some(_), None) => {
            invalid("serviceAccountNamespace", "needs serviceAccountName beside it".to_owned());
        }
    }
    None
}

/// What references to ConfigMaps and Secrets add to a payload, and what of it is local.
fn policies(
    place: &Place,
    refs: &[PolicyRef],
    references: &References<'_>,
    problems: &mut Vec<Problem>,
) -> (Vec<Payload>, Vec<Payload>) {
    let (mut remote, mut local) = (Vec::new(), Vec::new());
    for (index, policy) in refs.iter().enumerate() {
        let payload = match policy.deployment_type {
            DeploymentType::Remote => &mut remote,
            DeploymentType::Local => &mut local,
        };
        for piece in pieces(policy, references) {
            if let Payload::Missing { reason } = &piece {
                let pointer = join(POLICY_REFS, &index.to_string());
                problems.push(place.problem(&pointer, Fault::MissingReference, reason.clone()));
            }
            payload.push(piece);
        }
    }
    (remote, local)
}

/// What a reference names.
fn id(policy: &PolicyRef) -> ObjectId {
    object_id(policy.kind, &policy.namespace, &policy.name)
}

/// The ConfigMap or Secret of a name.
pub(super) fn object_id(kind: PolicyKind, namespace: &str, name: &str) -> ObjectId {
    let kind = match kind {
        PolicyKind::ConfigMap => Kind::ConfigMap,
        PolicyKind::Secret => Kind::Secret,
    };
    ObjectId::namespaced(kind, namespace, name)
}

/// What one reference adds to the payload.
fn pieces(policy: &PolicyRef, references: &References<'_>) -> Vec<Payload> {
    let id = id(policy);
    let missing = |reason| vec![Payload::Missing { reason }];
    let contents = match references.look_up(&id) {
        Lookup::Found(contents) => contents,
        Lookup::Absent(_) if policy.optional => return Vec::new(),
        Lookup::Absent(reason) | Lookup::Unusable(reason) => return missing(reason),
    };
    if contents.entries.is_empty() && !policy.optional {
        return missing(format!("{id} holds nothing; put manifests under its data, or remove the reference"));
    }
    let source = |name: String, text| match contents.template {
        None => TemplateSource::new(name, text, TemplateKind::Literal),
        Some(language) => TemplateSource::manifests(name, text).in_language(language),
    };
    let pieces = contents.entries.iter().map(|(key, text)| match text {
        Ok(text) => Payload::Template(source(format!("{id}, key {key}"), Arc::clone(text))),
        Err(why) => Payload::Missing { reason: format!("{id}, key {key} {why}") },
    });
    pieces.collect()
}
