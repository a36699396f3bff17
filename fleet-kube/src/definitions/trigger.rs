//! `EventTrigger` objects.

use std::sync::Arc;
use std::time::Duration;

use fleet_core::apply::Identity;
use fleet_core::catalog::TriggerDef;
use fleet_core::filter::Filter;
use fleet_core::manifest::names;
use fleet_core::policy::Policy;
use fleet_core::resource::ResourceRef;

use super::object::{Fault, ObjectId, Place, Problem, join};
use super::parse::WrittenIn;
use super::references::References;
use super::{filter, payload, policy, resources};
use crate::api::{EventTriggerSpec, parse_duration};

/// An EventTrigger, read as far as that goes without looking at what it refers to.
#[derive(Debug)]
pub(crate) struct TriggerDraft {
    spec: EventTriggerSpec,
    written_in: WrittenIn,
    filter: Filter,
    identity: Option<Identity>,
    resources: Vec<ResourceRef>,
    policy: Arc<Policy>,
    one_for_event: bool,
    ttl: Option<Duration>,
}

impl TriggerDraft {
    pub(super) fn new(
        place: &Place,
        mut spec: EventTriggerSpec,
        written_in: WrittenIn,
    ) -> Result<Self, Vec<Problem>> {
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
        if spec.policy_refs.is_empty() && spec.helm_charts.is_empty() {
            let reason = "names nothing; name at least one ConfigMap or Secret, or a chart in helmCharts";
            invalid("/spec/policyRefs", reason.to_owned());
        }
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
        payload::check(place, &spec.policy_refs, &spec.helm_charts, &mut problems);
        let resources = resources::read(place, &spec.template_resource_refs, written_in.texts, &mut problems);
        let account = (spec.service_account_namespace.as_ref(), spec.service_account_name.as_ref());
        let identity = payload::identity(place, account.0, account.1, &mut problems);
        let policy = Arc::new(policy::policy(place, &spec.policy, &mut problems));
        let filter = filter::all(place, "/spec/filters", std::mem::take(&mut spec.filters), &mut problems);
        match spec.one_for_event {
            Some(one_for_event) if problems.is_empty() => {
                Ok(Self { spec, written_in, filter, identity, resources, policy, one_for_event, ttl })
            }
            _ => Err(problems),
        }
    }

    /// The ConfigMaps and Secrets it refers to.
    pub(super) fn references(&self) -> impl Iterator<Item = ObjectId> {
        payload::references(&self.spec.policy_refs, &self.spec.helm_charts)
    }

    /// The EventSource it listens to.
    pub(super) fn source(&self) -> &str {
        &self.spec.event_source_name
    }

    /// Whether its templates see anything of the management cluster.
    pub(super) fn refers(&self) -> bool {
        !self.resources.is_empty()
    }

    /// What it waits for, by the names that rules have.
    pub(super) fn depends_on(&self) -> &[Arc<str>] {
        &self.policy.depends_on
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
        let (payload, local) = payload::payload(
            place,
            (&self.spec.policy_refs, &self.spec.helm_charts),
            self.written_in.texts,
            references,
            problems,
        );
        TriggerDef {
            filter: self.filter.clone(),
            destination_clusters: self.spec.destination_cluster_selector.clone(),
            action: self.spec.cloud_event_action.clone(),
            key: self.spec.key.clone(),
            language: self.written_in.action,
            payload,
            local,
            resources: self.resources.clone(),
            identity: self.identity.clone(),
            policy: Arc::clone(&self.policy),
            one_for_event: self.one_for_event,
            ttl: self.ttl,
            ..TriggerDef::new(
                name,
                self.spec.event_source_name.as_str(),
                self.spec.source_cluster_selector.clone(),
            )
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
