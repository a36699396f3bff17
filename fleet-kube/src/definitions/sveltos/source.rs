//! Sveltos' `EventSource`: CloudEvents, or objects of clusters.

use std::borrow::Cow;
use std::collections::BTreeMap;

use fleet_core::filter::{Filter, Pattern};
use fleet_core::selector::LabelSelector;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::super::object::{Fault, Place, Problem};
use super::{Unsupported, fields};
use crate::api::{
    ClusterSecretRef, EventSourceSpec, KubernetesSpec, NatsSpec, ResourceRule, ResourceSelector,
};

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Spec {
    #[serde(default)]
    messaging_match_criteria: Vec<Criteria>,
    #[serde(default)]
    resource_selectors: Vec<Value>,
    #[serde(default)]
    collect_resources: bool,
}

/// Which objects of one kind.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Resources {
    #[serde(default)]
    group: String,
    version: String,
    kind: String,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    label_filters: Vec<LabelFilter>,
    selector: Option<Map<String, Value>>,
    #[serde(default, rename = "evaluateCEL")]
    evaluate_cel: Vec<ResourceRule>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct LabelFilter {
    key: String,
    operation: Operation,
    #[serde(default)]
    value: String,
}

#[derive(Clone, Copy, Deserialize, Serialize)]
enum Operation {
    Equal,
    Different,
    Has,
    DoesNotHave,
}

/// What a message has to be like: all that is given has to be found in it.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Criteria {
    /// In the subject that it was sent to. (There, in the subscription that it came by.)
    subject: Option<Pattern>,
    cloud_event_source: Option<Pattern>,
    cloud_event_type: Option<Pattern>,
    cloud_event_subject: Option<Pattern>,
}

const UNSUPPORTED: [Unsupported; 1] = [("aggregatedSelection", "there is no Lua here")];
const UNSUPPORTED_OF_RESOURCES: [Unsupported; 2] = [
    ("evaluate", "there is no Lua here; say it in CEL, in evaluateCEL"),
    ("includeDeletingResources", "what is being deleted is not there here"),
];

/// The spec of ours: events come from the NATS that a Secret in each cluster names, or are objects of each cluster.
pub(super) fn source(place: &Place, object: &Map<String, Value>) -> Result<EventSourceSpec, Vec<Problem>> {
    let spec: Spec = fields(place, "/spec", object.get("spec"), &UNSUPPORTED)?;
    if !spec.resource_selectors.is_empty() {
        if !spec.messaging_match_criteria.is_empty() {
            let reason = "stands beside resourceSelectors; an EventSource has one sort of events here: make two, and a trigger for each";
            return Err(vec![place.problem("/spec/messagingMatchCriteria", Fault::NotSupported, reason)]);
        }
        let kubernetes = objects(place, &spec.resource_selectors, spec.collect_resources)?;
        return Ok(EventSourceSpec { kubernetes: Some(kubernetes), ..EventSourceSpec::default() });
    }
    if spec.messaging_match_criteria.is_empty() {
        let reason = "is missing; without it no message counts, and without resourceSelectors no object";
        return Err(vec![place.problem("/spec/messagingMatchCriteria", Fault::Invalid, reason)]);
    }
    let nats = NatsSpec { cluster_secret_ref: Some(ClusterSecretRef::default()), ..NatsSpec::default() };
    let filters = any(spec.messaging_match_criteria.into_iter().map(Criteria::filters).collect());
    Ok(EventSourceSpec { nats: Some(nats), filters, ..EventSourceSpec::default() })
}

/// How a field of ours is called in it.
pub(super) fn called_there(ours: &str) -> Cow<'_, str> {
    match ours.strip_prefix("/spec/kubernetes") {
        Some(rest) => format!("/spec{rest}").into(),
        None => ours.into(),
    }
}

/// All of the filters of one of these.
fn any(mut criteria: Vec<Vec<Filter>>) -> Vec<Filter> {
    // Of one that lets everything pass, the others do not matter.
    if criteria.iter().any(Vec::is_empty) {
        return Vec::new();
    }
    if criteria.len() == 1 {
        return criteria.remove(0);
    }
    let all = |mut filters: Vec<Filter>| match filters.len() {
        1 => filters.remove(0),
        _ => Filter::All(filters),
    };
    vec![Filter::Any(criteria.into_iter().map(all).collect())]
}

fn objects(place: &Place, selectors: &[Value], content: bool) -> Result<KubernetesSpec, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut resource_selectors = Vec::new();
    for (index, value) in selectors.iter().enumerate() {
        let pointer = format!("/spec/resourceSelectors/{index}");
        let read = fields::<Resources>(place, &pointer, Some(value), &UNSUPPORTED_OF_RESOURCES);
        match read.and_then(|read| read.selector(place, &pointer)) {
            Ok(selector) => resource_selectors.push(selector),
            Err(more) => problems.extend(more),
        }
    }
    match problems.is_empty() {
        true => Ok(KubernetesSpec { resource_selectors, collect_resources: content }),
        false => Err(problems),
    }
}

impl Resources {
    fn selector(self, place: &Place, pointer: &str) -> Result<ResourceSelector, Vec<Problem>> {
        let given = |text: String| Some(text).filter(|text| !text.is_empty());
        let mut selector = self.selector.unwrap_or_default();
        let expressions: Vec<Value> = self.label_filters.into_iter().map(LabelFilter::expression).collect();
        let all = selector.entry("matchExpressions").or_insert_with(|| Value::Array(Vec::new()));
        if let Value::Array(all) = all {
            all.extend(expressions);
        }
        let selector = LabelSelector::deserialize(&Value::Object(selector)).map_err(|error| {
            let reason = format!("selector and labelFilters: {error}");
            vec![place.problem(pointer, Fault::Invalid, reason)]
        })?;
        Ok(ResourceSelector {
            group: self.group,
            version: self.version,
            kind: self.kind,
            namespace: given(self.namespace),
            name: given(self.name),
            selector: Some(selector).filter(|selector| !selector.is_everything()),
            evaluate_cel: self.evaluate_cel,
        })
    }
}

impl LabelFilter {
    fn expression(self) -> Value {
        let Self { key, operation, value } = self;
        match operation {
            Operation::Equal => json!({"key": key, "operator": "In", "values": [value]}),
            Operation::Different => json!({"key": key, "operator": "NotIn", "values": [value]}),
            Operation::Has => json!({"key": key, "operator": "Exists"}),
            Operation::DoesNotHave => json!({"key": key, "operator": "DoesNotExist"}),
        }
    }
}

impl Criteria {
    fn filters(self) -> Vec<Filter> {
        let given = |pattern: Option<Pattern>| pattern.filter(|pattern| !pattern.as_str().is_empty());
        let attributes = [
            ("source", self.cloud_event_source),
            ("type", self.cloud_event_type),
            ("subject", self.cloud_event_subject),
        ];
        let mut all: Vec<Filter> = given(self.subject).map(Filter::MessageSubject).into_iter().collect();
        let attributes: BTreeMap<String, Pattern> = attributes
            .into_iter()
            .filter_map(|(name, pattern)| Some((name.to_owned(), given(pattern)?)))
            .collect();
        all.extend((!attributes.is_empty()).then_some(Filter::Pattern(attributes)));
        all
    }
}
