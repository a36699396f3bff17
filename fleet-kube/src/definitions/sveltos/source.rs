//! Sveltos' `EventSource`, as far as it is about CloudEvents.

use std::collections::BTreeMap;

use fleet_core::filter::{Filter, Pattern};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::super::object::{Fault, Place, Problem};
use super::super::source::SourceDraft;
use super::{Unsupported, fields};

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Spec {
    #[serde(default)]
    messaging_match_criteria: Vec<Criteria>,
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

const UNSUPPORTED: [Unsupported; 3] = [
    ("resourceSelectors", "objects of clusters are not events here yet"),
    ("aggregatedSelection", "there is no Lua here"),
    ("collectResources", "objects of clusters are not events here yet"),
];

/// Reads an EventSource of theirs: its events come from the NATS that a Secret in each cluster names.
pub(in super::super) fn source(
    place: &Place,
    object: &Map<String, Value>,
) -> Result<SourceDraft, Vec<Problem>> {
    let spec: Spec = fields(place, "/spec", object.get("spec"), &UNSUPPORTED)?;
    if spec.messaging_match_criteria.is_empty() {
        let reason = "is missing; without it no message counts";
        return Err(vec![place.problem("/spec/messagingMatchCriteria", Fault::Invalid, reason)]);
    }
    let criteria = spec.messaging_match_criteria.into_iter().map(Criteria::filter).collect();
    Ok(SourceDraft::of_cluster_nats(Filter::Any(criteria)))
}

impl Criteria {
    fn filter(self) -> Filter {
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
        Filter::All(all)
    }
}
