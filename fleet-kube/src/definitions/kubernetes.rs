//! Which objects of clusters are events.

use std::sync::Arc;

use fleet_core::manifest::Gvk;
use fleet_core::manifest::names::dns_subdomain;
use fleet_core::selector::LabelSelector;

use super::object::{Fault, Place, Problem, join};
use crate::api::{KubernetesSpec, ResourceRule, ResourceSelector};
use crate::objects::{Rule, Selection, Selector};

/// Reads which objects are events.
pub(super) fn selection(
    place: &Place,
    pointer: &str,
    spec: KubernetesSpec,
    problems: &mut Vec<Problem>,
) -> Selection {
    let pointer = join(pointer, "resourceSelectors");
    if spec.resource_selectors.is_empty() {
        let reason = "names no objects; say at least of which kind they are";
        problems.push(place.problem(&pointer, Fault::Invalid, reason));
    }
    let selectors = spec.resource_selectors.into_iter().enumerate();
    let selectors =
        selectors.map(|(index, it)| selector(place, &join(&pointer, &index.to_string()), it, problems));
    Selection { selectors: selectors.collect(), content: spec.collect_resources }
}

fn selector(place: &Place, pointer: &str, spec: ResourceSelector, problems: &mut Vec<Problem>) -> Selector {
    let ResourceSelector { group, version, kind, namespace, name, selector, evaluate_cel } = spec;
    let optional = [("namespace", namespace.as_ref()), ("group", Some(&group).filter(|it| !it.is_empty()))];
    for (field, text) in optional.into_iter().chain([("version", Some(&version))]) {
        if text.is_some_and(|text| dns_subdomain(text).is_err()) {
            let reason = "is no name in Kubernetes: lower case letters, digits, hyphens and dots only";
            problems.push(place.problem(&join(pointer, field), Fault::Invalid, reason));
        }
    }
    for (field, text) in [("kind", Some(&kind)), ("name", name.as_ref())] {
        if text.is_some_and(String::is_empty) {
            problems.push(place.problem(&join(pointer, field), Fault::Invalid, "must not be empty"));
        }
    }
    let rules = evaluate_cel.into_iter().enumerate().filter_map(|(index, ResourceRule { name, rule })| {
        Rule::new(name, &rule)
            .map_err(|reason| {
                let pointer = format!("{pointer}/evaluateCEL/{index}/rule");
                problems.push(place.problem(&pointer, Fault::Invalid, reason));
            })
            .ok()
    });
    let rules = rules.collect();
    Selector {
        kind: Gvk { group: group.into(), version: version.into(), kind: kind.into() },
        namespace: namespace.map(Arc::from),
        name: name.map(Arc::from),
        labels: selector.unwrap_or_else(LabelSelector::everything),
        rules,
    }
}
