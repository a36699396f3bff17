//! How a payload is kept: the fields that triggers and profiles have in common.

use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};

use fleet_core::health::Check;
use fleet_core::manifest::names;
use fleet_core::policy::{
    DriftExclusion, HealthCheck, JsonPointer, MaxUpdate, Policy, StopMatching, SyncMode, Target,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use schemars::JsonSchema;
use serde_json::{Map, Value};

use super::object::{Fault, Kind, ObjectId, Place, Problem, join};
use super::strict::strict;
use crate::api::{
    self, PayloadPolicy, ResourceTarget, StopMatchingBehavior, SyncMode as Mode, ValidateHealth,
};

/// Finds what is wrong with a spec that flattens a [`PayloadPolicy`]: fields that neither has, and policy fields that
/// cannot be read. Reading the spec itself would tell of these only that they are somewhere in it.
pub(super) fn check_fields<T: JsonSchema>(place: &Place, spec: &Map<String, Value>) -> Result<(), Problem> {
    static POLICY: LazyLock<BTreeSet<String>> = LazyLock::new(fields::<PayloadPolicy>);
    let known = |field: &str| POLICY.contains(field);
    if spec.keys().any(|field| !known(field)) {
        let all = fields::<T>();
        if let Some(unknown) = spec.keys().find(|field| !all.contains(*field)) {
            let all: Vec<String> = all.iter().map(|field| format!("`{field}`")).collect();
            let reason = format!("unknown field `{unknown}`, expected one of {}", all.join(", "));
            return Err(place.problem(&join("/spec", unknown), Fault::Invalid, reason));
        }
    }
    let policy = spec.iter().filter(|(field, _)| known(field));
    let policy = policy.map(|(field, value)| (field.clone(), value.clone())).collect();
    strict::<PayloadPolicy>(place, "/spec", &Value::Object(policy)).map(drop)
}

fn fields<T: JsonSchema>() -> BTreeSet<String> {
    let schema = schemars::schema_for!(T);
    let properties = schema.get("properties").and_then(Value::as_object);
    properties.into_iter().flat_map(|properties| properties.keys().cloned()).collect()
}

/// The policy that a spec asks for. What is wrong with it is added to the problems.
pub(super) fn policy(place: &Place, spec: &PayloadPolicy, problems: &mut Vec<Problem>) -> Policy {
    let mut reader = Reader { place, problems };
    Policy {
        sync: match spec.sync_mode {
            Mode::OneTime => SyncMode::OneTime,
            Mode::Continuous => SyncMode::Continuous,
            Mode::ContinuousWithDriftDetection => SyncMode::ContinuousWithDriftDetection,
            Mode::DryRun => SyncMode::DryRun,
        },
        drift_exclusions: each("/spec/driftExclusions", &spec.drift_exclusions)
            .map(|(pointer, exclusion)| reader.drift_exclusion(&pointer, exclusion))
            .collect(),
        continue_on_conflict: spec.continue_on_conflict,
        adopt: spec.adopt,
        tier: reader.tier(spec.tier),
        skip_namespace_creation: spec.skip_namespace_creation,
        max_update: spec.max_update.as_ref().and_then(|update| reader.max_update(update)),
        stop_matching: match spec.stop_matching_behavior {
            StopMatchingBehavior::WithdrawPolicies => StopMatching::WithdrawPolicies,
            StopMatchingBehavior::LeavePolicies => StopMatching::LeavePolicies,
        },
        health_checks: each("/spec/validateHealths", &spec.validate_healths)
            .flat_map(|(pointer, health)| reader.health_checks(&pointer, health))
            .collect(),
        depends_on: reader.depends_on(&spec.depends_on),
    }
}

/// The items of a list, and where each is.
fn each<'a, T>(pointer: &'a str, items: &'a [T]) -> impl Iterator<Item = (String, &'a T)> {
    items.iter().enumerate().map(move |(index, item)| (join(pointer, &index.to_string()), item))
}

struct Reader<'a> {
    place: &'a Place,
    problems: &'a mut Vec<Problem>,
}

impl Reader<'_> {
    fn invalid(&mut self, pointer: &str, reason: impl Into<String>) {
        self.problems.push(self.place.problem(pointer, Fault::Invalid, reason));
    }

    fn drift_exclusion(&mut self, pointer: &str, exclusion: &api::DriftExclusion) -> DriftExclusion {
        let paths = join(pointer, "paths");
        if exclusion.paths.is_empty() {
            self.invalid(&paths, "names no field; name at least one, as /spec/replicas");
        }
        let mut read = Vec::new();
        for (pointer, path) in each(&paths, &exclusion.paths) {
            match JsonPointer::parse(path) {
                Ok(path) => read.push(path),
                Err(why) => self.invalid(&pointer, format!("{path:?} {why}")),
            }
        }
        let target = exclusion.target.as_ref();
        DriftExclusion {
            paths: read,
            target: target.map(|target| self.target(&join(pointer, "target"), target)),
        }
    }

    fn target(&mut self, pointer: &str, target: &ResourceTarget) -> Target {
        let ResourceTarget { group, version, kind, namespace, name } = target;
        for (field, value) in [("version", version), ("kind", kind), ("namespace", namespace), ("name", name)]
        {
            if value.as_deref() == Some("") {
                self.invalid(&join(pointer, field), "is empty; leave the field out to mean any");
            }
        }
        let shared = |text: &Option<String>| text.as_deref().map(Arc::from);
        Target {
            group: shared(group),
            version: shared(version),
            kind: shared(kind),
            namespace: shared(namespace),
            name: shared(name),
        }
    }

    fn tier(&mut self, tier: u32) -> u32 {
        if tier == 0 {
            self.invalid("/spec/tier", "must be at least 1; the lowest tier wins");
        }
        tier
    }

    fn max_update(&mut self, update: &IntOrString) -> Option<MaxUpdate> {
        let read = match update {
            IntOrString::Int(number) => {
                u32::try_from(*number).ok().filter(|number| *number > 0).map(MaxUpdate::Clusters)
            }
            IntOrString::String(text) => text
                .strip_suffix('%')
                .filter(|digits| digits.starts_with(|digit: char| digit.is_ascii_digit()))
                .and_then(|digits| digits.parse().ok())
                .filter(|percent| (1..=100).contains(percent))
                .map(MaxUpdate::Percent),
        };
        if read.is_none() {
            let written = match update {
                IntOrString::Int(number) => number.to_string(),
                IntOrString::String(text) => format!("{text:?}"),
            };
            let reason = format!(
                "{written} is neither a number of clusters, from 1, nor a share, from \"1%\" to \"100%\""
            );
            self.invalid("/spec/maxUpdate", reason);
        }
        read
    }

    /// One for each rule.
    fn health_checks(&mut self, pointer: &str, health: &ValidateHealth) -> Vec<HealthCheck> {
        let ValidateHealth { name, group, version, kind, namespace, evaluate_cel } = health;
        for (field, value) in [("name", name), ("version", version), ("kind", kind)] {
            if value.is_empty() {
                self.invalid(&join(pointer, field), "is empty");
            }
        }
        if namespace.as_deref() == Some("") {
            self.invalid(&join(pointer, "namespace"), "is empty; leave the field out to mean any");
        }
        let rules = join(pointer, "evaluateCEL");
        if evaluate_cel.is_empty() {
            self.invalid(&rules, "has no rule; write at least one");
        }
        let target = Target {
            group: Some(group.as_str().into()),
            version: Some(version.as_str().into()),
            kind: Some(kind.as_str().into()),
            namespace: namespace.as_deref().map(Arc::from),
            name: None,
        };
        let mut checks = Vec::new();
        for (pointer, rule) in each(&rules, evaluate_cel) {
            let check = HealthCheck {
                name: format!("{name}/{}", rule.name).into(),
                target: target.clone(),
                expression: rule.rule.as_str().into(),
            };
            if rule.rule.trim().is_empty() {
                self.invalid(&join(&pointer, "rule"), "is empty; write a CEL expression over object");
            } else if let Err(why) = Check::compile(&check) {
                self.invalid(&join(&pointer, "rule"), why);
            }
            checks.push(check);
        }
        checks
    }

    /// A name alone is one of the same kind.
    fn depends_on(&mut self, names: &[String]) -> Vec<Arc<str>> {
        let own = self.place.id.as_ref();
        let mut rules: Vec<Arc<str>> = Vec::new();
        for (pointer, text) in each("/spec/dependsOn", names) {
            let (kind, name) = match text.split_once('/') {
                Some(("ClusterProfile", name)) => (Kind::ClusterProfile, name),
                Some(("EventTrigger", name)) => (Kind::EventTrigger, name),
                _ => (own.map_or(Kind::EventTrigger, |own| own.kind), text.as_str()),
            };
            let id = ObjectId::cluster_scoped(kind, name);
            let rule = id.rule();
            if own == Some(&id) {
                self.invalid(&pointer, "is its own name: it would wait for itself for ever; remove it");
            } else if let Err(why) = names::dns_subdomain(name) {
                self.invalid(&pointer, format!("{name:?} {why}"));
            } else if rules.contains(&rule) {
                self.invalid(&pointer, format!("{text} is named twice"));
            }
            rules.push(rule);
        }
        rules
    }
}
