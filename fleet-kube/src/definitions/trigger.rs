//! `EventTrigger` objects.

use std::sync::Arc;
use std::time::Duration;

use fleet_core::apply::Identity;
use fleet_core::catalog::{Payload, TriggerDef};
use fleet_core::filter::Filter;
use fleet_core::manifest::names;
use fleet_core::policy::Policy;
use fleet_core::render::{TemplateKind, TemplateSource};

use super::object::{Fault, Kind, ObjectId, Place, Problem, join};
use super::references::{Lookup, References};
use super::{filter, policy};
use crate::api::{EventTriggerSpec, PolicyKind, PolicyRef, parse_duration};

/// An EventTrigger, read as far as that goes without looking at what it refers to.
#[derive(Debug)]
pub(crate) struct TriggerDraft {
    spec: EventTriggerSpec,
    filter: Filter,
    identity: Option<Identity>,
    policy: Arc<Policy>,
    one_for_event: bool,
    ttl: Option<Duration>,
}

impl TriggerDraft {
    pub(super) fn new(place: &Place, mut spec: EventTriggerSpec) -> Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut invalid =
            |pointer: &str, reason: String| problems.push(place.problem(pointer, Fault::Invalid, reason));

        if let Err(why) = names::dns_subdomain(&spec.event_source_name) {
            invalid("/spec/eventSourceName", format!("{:?} {why}", spec.event_source_name));
        }
        for (field, template) in [("cloudEventAction", &spec.cloud_event_action), ("key", &spec.key)] {
            if template.as_ref().is_some_and(|template| template.trim().is_empty()) {
                invalid(
                    &join("/spec", field),
                    "is empty; write a template, or leave the field out".to_owned(),
                );
            }
        }
        if spec.policy_refs.is_empty() {
            invalid("/spec/policyRefs", "names nothing; name at least one ConfigMap or Secret".to_owned());
        }
        for (index, policy) in spec.policy_refs.iter().enumerate() {
            let pointer = join("/spec/policyRefs", &index.to_string());
            if let Err(why) = names::dns_label(&policy.namespace) {
                invalid(&join(&pointer, "namespace"), format!("{:?} {why}", policy.namespace));
            }
            if let Err(why) = names::dns_subdomain(&policy.name) {
                invalid(&join(&pointer, "name"), format!("{:?} {why}", policy.name));
            }
            let again = spec.policy_refs.iter().take(index).any(|one| id(one) == id(policy));
            if again {
                invalid(&pointer, format!("{} is named twice", id(policy)));
            }
        }
        let identity = match (spec.service_account_namespace.clone(), spec.service_account_name.clone()) {
            (Some(namespace), Some(name)) => {
                if let Err(why) = names::dns_label(&namespace) {
                    invalid("/spec/serviceAccountNamespace", format!("{namespace:?} {why}"));
                }
                if let Err(why) = names::dns_subdomain(&name) {
                    invalid("/spec/serviceAccountName", format!("{name:?} {why}"));
                }
                Some(Identity { namespace, name })
            }
            (None, None) => None,
            (None, Some(_)) => {
                invalid("/spec/serviceAccountName", "needs serviceAccountNamespace beside it".to_owned());
                None
            }
            (Some(_), None) => {
                invalid("/spec/serviceAccountNamespace", "needs serviceAccountName beside it".to_owned());
                None
            }
        };
        if spec.one_for_event.is_none() {
            let reason = "oneForEvent is missing; write true for resources of its own for each key, or false for one \
                          rendering of all keys together";
            invalid("/spec", reason.to_owned());
        }
        let ttl = spec.ttl.as_deref().and_then(|ttl| match time_to_live(ttl) {
            Ok(ttl) => Some(ttl),
            Err(reason) => {
                invalid("/spec/ttl", reason);
                None
            }
        });
        let policy = Arc::new(policy::policy(place, &spec.policy, &mut problems));
        let filter = filter::all(place, "/spec/filters", std::mem::take(&mut spec.filters), &mut problems);
        match spec.one_for_event {
            Some(one_for_event) if problems.is_empty() => {
                Ok(Self { spec, filter, identity, policy, one_for_event, ttl })
            }
            _ => Err(problems),
        }
    }

    /// The ConfigMaps and Secrets it refers to.
    pub(super) fn references(&self) -> impl Iterator<Item = ObjectId> {
        self.spec.policy_refs.iter().map(id)
    }

    /// The EventSource it listens to.
    pub(super) fn source(&self) -> &str {
        &self.spec.event_source_name
    }

    /// The triggers that it waits for.
    pub(super) fn depends_on(&self) -> impl Iterator<Item = &str> {
        self.policy.depends_on.iter().map(|name| &**name)
    }

    /// Which field differs from `before` that must not.
    pub(super) fn edit_of_immutable(&self, before: &Self) -> Option<&'static str> {
        if self.spec.event_source_name != before.spec.event_source_name {
            Some("/spec/eventSourceName")
        } else if self.spec.key != before.spec.key {
            Some("/spec/key")
        } else if self.spec.one_for_event != before.spec.one_for_event {
            Some("/spec/oneForEvent")
        } else {
            None
        }
    }

    /// The definition, with a payload that is complete or says what is missing.
    pub(super) fn resolve(
        &self,
        name: &str,
        place: &Place,
        references: &References<'_>,
        problems: &mut Vec<Problem>,
    ) -> TriggerDef {
        let mut payload = Vec::new();
        for (index, policy) in self.spec.policy_refs.iter().enumerate() {
            let pointer = join("/spec/policyRefs", &index.to_string());
            for piece in pieces(policy, references) {
                if let Payload::Missing { reason } = &piece {
                    problems.push(place.problem(&pointer, Fault::MissingReference, reason.clone()));
                }
                payload.push(piece);
            }
        }
        TriggerDef {
            name: name.into(),
            source: self.spec.event_source_name.as_str().into(),
            filter: self.filter.clone(),
            source_clusters: self.spec.source_cluster_selector.clone(),
            destination_clusters: self.spec.destination_cluster_selector.clone(),
            action: self.spec.cloud_event_action.clone(),
            key: self.spec.key.clone(),
            payload,
            identity: self.identity.clone(),
            policy: Arc::clone(&self.policy),
            one_for_event: self.one_for_event,
            ttl: self.ttl,
        }
    }
}

fn time_to_live(text: &str) -> Result<Duration, String> {
    const SHORTEST: Duration = Duration::from_secs(1);
    match parse_duration(text) {
        Ok(ttl) if ttl >= SHORTEST => Ok(ttl),
        Ok(_) => Err("must be at least 1s".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

fn id(policy: &PolicyRef) -> ObjectId {
    let kind = match policy.kind {
        PolicyKind::ConfigMap => Kind::ConfigMap,
        PolicyKind::Secret => Kind::Secret,
    };
    ObjectId::namespaced(kind, &policy.namespace, &policy.name)
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
    let kind = if contents.template { TemplateKind::Manifests } else { TemplateKind::Literal };
    let pieces = contents.entries.iter().map(|(key, text)| match text {
        Ok(text) => {
            Payload::Template(TemplateSource::new(format!("{id}, key {key}"), Arc::clone(text), kind))
        }
        Err(why) => Payload::Missing { reason: format!("{id}, key {key} {why}") },
    });
    pieces.collect()
}
