//! `EventSource` objects.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use fleet_core::catalog::{OriginRule, SourceDef, Tells};
use fleet_core::cluster::ClusterId;
use fleet_core::filter::Filter;
use serde_json::{Map, Value};

use super::nats::NatsDraft;
use super::object::{Fault, ObjectId, Place, Problem, join};
use super::references::References;
use super::strict::exactly_one;
use super::transport::{ClusterNats, Transport};
use super::{filter, kubernetes};
use crate::api::{
    ClusterSecretRef, DedupeBy, DedupeSpec, EventSourceSpec, NatsSpec, OriginSpec, parse_duration,
};
use crate::objects::Selection;

/// An EventSource, read as far as that goes without looking at Secrets.
#[derive(Debug)]
pub(crate) struct SourceDraft {
    filter: Filter,
    origin: Option<OriginRule>,
    max_event_bytes: usize,
    dedupe: Option<Duration>,
    replay: u32,
    transport: Draft,
}

#[derive(Debug)]
enum Draft {
    Http,
    Nats(Box<NatsDraft>),
    ClusterNats(ClusterNats),
    Objects(Arc<Selection>),
}

impl SourceDraft {
    pub(super) fn new(
        place: &Place,
        spec: EventSourceSpec,
        object: &Map<String, Value>,
    ) -> Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        problems.extend(exactly_one(place, object, "/spec", &["http", "nats", "kubernetes"]).err());
        let filter = filter::all(place, "/spec/filters", spec.filters, &mut problems);
        let http = spec.http.is_some();
        if spec.kubernetes.is_some() {
            for (field, is_set, why) in [
                ("origin", spec.origin.is_some(), "the origin of an event is the cluster that it comes from"),
                ("dedupe", spec.dedupe.is_some(), "what is told twice changes nothing"),
                ("deadLetter", spec.dead_letter.is_some(), "dead letters are kept in the operator's store"),
                ("replay", spec.replay > 0, "all that is there is told anyway"),
            ] {
                if is_set {
                    let reason = format!("with kubernetes {why}; leave it out");
                    problems.push(place.problem(&join("/spec", field), Fault::Invalid, reason));
                }
            }
        }
        let in_clusters = spec.nats.as_ref().is_some_and(|nats| nats.cluster_secret_ref.is_some());
        if in_clusters && spec.origin.is_some() {
            let reason = "with nats.clusterSecretRef the origin of an event is the cluster that it comes from; leave it out";
            problems.push(place.problem("/spec/origin", Fault::Invalid, reason));
        }
        let origin = spec.origin.and_then(|origin| origin_rule(place, origin, http, object, &mut problems));
        if !(1..=1_048_576).contains(&spec.max_event_bytes) {
            let reason = "must be between 1 and 1048576 (1 MiB)";
            problems.push(place.problem("/spec/maxEventBytes", Fault::Invalid, reason));
        }
        let dedupe = spec.dedupe.and_then(|dedupe| dedupe_window(place, &dedupe, &mut problems));
        let (replay, dead_letter) = (spec.replay, spec.dead_letter);
        let transport = match spec.nats {
            _ if spec.kubernetes.is_some() => {
                let selection = spec
                    .kubernetes
                    .map(|it| kubernetes::selection(place, "/spec/kubernetes", it, &mut problems));
                selection.map_or(Draft::Http, |selection| Draft::Objects(Arc::new(selection)))
            }
            Some(NatsSpec { cluster_secret_ref: Some(secret), .. }) => {
                if dead_letter.is_some() {
                    let reason = "with nats.clusterSecretRef dead letters are kept in the operator's store; leave it out";
                    problems.push(place.problem("/spec/deadLetter", Fault::Invalid, reason));
                }
                problems.extend(nothing_beside(place, object));
                Draft::ClusterNats(cluster_nats(place, secret, replay, &mut problems))
            }
            Some(nats) => {
                Draft::Nats(Box::new(NatsDraft::new(place, nats, dead_letter, replay, &mut problems)))
            }
            None => {
                let mut only_nats = |pointer: &str, reason: &str| {
                    problems.push(place.problem(pointer, Fault::Invalid, reason));
                };
                if dead_letter.is_some() {
                    only_nats(
                        "/spec/deadLetter",
                        "is for NATS: what arrives by HTTP is answered with the reason, and kept in the operator's store",
                    );
                }
                if replay > 0 {
                    only_nats("/spec/replay", "is for JetStream: nothing else keeps events to deliver again");
                }
                Draft::Http
            }
        };
        if !problems.is_empty() {
            return Err(problems);
        }
        let max_event_bytes = spec.max_event_bytes as usize;
        Ok(Self { filter, origin, max_event_bytes, dedupe, replay, transport })
    }

    /// Which replay it asks for.
    pub(super) fn replay(&self) -> u32 {
        self.replay
    }

    /// The Secret it refers to.
    pub(super) fn references(&self) -> Option<ObjectId> {
        match &self.transport {
            Draft::Http | Draft::ClusterNats(_) | Draft::Objects(_) => None,
            Draft::Nats(nats) => nats.references(),
        }
    }

    pub(super) fn definition(&self, name: &str) -> SourceDef {
        SourceDef {
            name: name.into(),
            filter: self.filter.clone(),
            origin: self.origin.clone(),
            max_event_bytes: self.max_event_bytes,
            dedupe: self.dedupe,
            tells: match self.transport {
                Draft::Objects(_) => Tells::States,
                _ => Tells::Events,
            },
            only_here: matches!(self.transport, Draft::Http),
        }
    }

    /// How events arrive; nothing if that cannot be said, and then a problem is added.
    pub(super) fn transport(
        &self,
        place: &Place,
        references: &References<'_>,
        problems: &mut Vec<Problem>,
    ) -> Option<Transport> {
        match &self.transport {
            Draft::Http => Some(Transport::Http),
            Draft::ClusterNats(nats) => Some(Transport::ClusterNats(nats.clone())),
            Draft::Objects(selection) => Some(Transport::Objects(Arc::clone(selection))),
            Draft::Nats(nats) => {
                nats.resolve(place, references, problems).map(|nats| Transport::Nats(Box::new(nats)))
            }
        }
    }
}

/// What is said of NATS beside the Secret that says it all.
fn nothing_beside(place: &Place, object: &Map<String, Value>) -> Option<Problem> {
    let nats = object.get("spec")?.get("nats")?.as_object()?;
    let field = nats.keys().find(|field| *field != "clusterSecretRef")?;
    let reason =
        "is set beside clusterSecretRef; the Secret in each cluster says all that is to be said of NATS";
    Some(place.problem(&format!("/spec/nats/{field}"), Fault::Invalid, reason))
}

fn cluster_nats(
    place: &Place,
    secret: ClusterSecretRef,
    replay: u32,
    problems: &mut Vec<Problem>,
) -> ClusterNats {
    let is_name = |name: &str| {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
        !name.is_empty() && name.chars().all(allowed)
    };
    for (field, text) in [("namespace", &secret.namespace), ("name", &secret.name)] {
        if !is_name(text) {
            let pointer = format!("/spec/nats/clusterSecretRef/{field}");
            let reason = format!("{text:?} is no name of an object in Kubernetes");
            problems.push(place.problem(&pointer, Fault::Invalid, reason));
        }
    }
    ClusterNats { secret: secret.into(), replay }
}

fn dedupe_window(place: &Place, dedupe: &DedupeSpec, problems: &mut Vec<Problem>) -> Option<Duration> {
    const WITHIN: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(24 * 3600);
    let DedupeSpec { by: DedupeBy::SourceId, window } = dedupe;
    let reason = match parse_duration(window) {
        Ok(window) if WITHIN.contains(&window) => return Some(window),
        Ok(_) => "must be between 1s and 24h".to_owned(),
        Err(error) => error.to_string(),
    };
    problems.push(place.problem("/spec/dedupe/window", Fault::Invalid, reason));
    None
}

fn origin_rule(
    place: &Place,
    origin: OriginSpec,
    http: bool,
    object: &Map<String, Value>,
    problems: &mut Vec<Problem>,
) -> Option<OriginRule> {
    let mut invalid = |pointer: &str, reason: String| {
        problems.push(place.problem(pointer, Fault::Invalid, reason));
        None
    };
    if let Err(problem) = exactly_one(place, object, "/spec/origin", &["fixed", "subjectTokens", "extension"])
    {
        problems.push(problem);
        return None;
    }
    match origin {
        OriginSpec { fixed: Some(cluster), .. } => match ClusterId::new(&cluster.namespace, &cluster.name) {
            Ok(id) => Some(OriginRule::Fixed(id)),
            Err(error) => invalid("/spec/origin/fixed", error.to_string()),
        },
        OriginSpec { subject_tokens: Some(_), .. } if http => {
            let reason = "is for NATS: an HTTP request has no subject; use extension or fixed";
            invalid("/spec/origin/subjectTokens", reason.to_owned())
        }
        OriginSpec { subject_tokens: Some(tokens), .. } if tokens.namespace == tokens.name => {
            invalid("/spec/origin/subjectTokens", "namespace and name must be different tokens".to_owned())
        }
        OriginSpec { subject_tokens: Some(tokens), .. } => Some(OriginRule::SubjectTokens {
            namespace: tokens.namespace as usize,
            name: tokens.name as usize,
        }),
        OriginSpec { extension: Some(name), .. } => {
            if !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()) {
                Some(OriginRule::Extension(name))
            } else {
                let reason =
                    format!("{name:?} is no name of an attribute: lower case letters and digits only");
                invalid("/spec/origin/extension", reason)
            }
        }
        OriginSpec { .. } => None,
    }
}
