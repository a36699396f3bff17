//! Deliveries that came lately, and what came of each.

use std::time::Duration;

use fleet_core::engine::{DeliveryFate, RecentDelivery, RecentWork, WorkFate};
use fleet_core::work::Intent;

use super::rows::{EventRow, EventTriggerRow, ExplainedEvent};

/// A row for each delivery, in the same order.
pub fn events(recent: Vec<RecentDelivery>) -> Vec<EventRow> {
    recent.into_iter().map(row).collect()
}

fn row(delivery: RecentDelivery) -> EventRow {
    let triggers: Vec<_> = delivery.triggers.iter().map(trigger).collect();
    let (outcome, reason) = match delivery.fate {
        DeliveryFate::UnderWay => (UNDER_WAY, ""),
        DeliveryFate::Unwanted => ("Unwanted", "no trigger wants it"),
        DeliveryFate::Superseded => (SUPERSEDED, ""),
        DeliveryFate::Refused(reason) => (DEAD_LETTER, reason),
        DeliveryFate::GivenBack => ("GivenBack", "it could not be stored"),
        _ => {
            let least =
                triggers.iter().min_by_key(|trigger| ORDER.iter().position(|it| *it == trigger.outcome));
            least.map_or((STORED, ""), |trigger| (&*trigger.outcome, &*trigger.reason))
        }
    };
    let (outcome, reason) = (outcome.to_owned(), reason.to_owned());
    let took = delivery.triggers.iter().filter_map(|trigger| trigger.took).max();
    EventRow {
        time: delivery.received,
        published: delivery.published,
        event_source: delivery.source.to_string(),
        event: delivery.event.map(|names| ExplainedEvent {
            id: names.id,
            ty: names.ty,
            source: names.source,
            subject: names.subject,
        }),
        origin: delivery.origin.map(|origin| origin.to_string()),
        triggers,
        outcome,
        reason,
        latency_millis: took.as_ref().map(Duration::as_secs_f64).map(|seconds| seconds * 1000.0),
    }
}

const DEAD_LETTER: &str = "DeadLetter";
const STALLED: &str = "Stalled";
const WAITING: &str = "Waiting";
const UNDER_WAY: &str = "UnderWay";
const STORED: &str = "Stored";
const PREVIEWED: &str = "Previewed";
const APPLIED: &str = "Applied";
const REMOVED: &str = "Removed";
const DUPLICATE: &str = "Duplicate";
const SUPERSEDED: &str = "Superseded";
const NOTHING_THERE: &str = "NothingThere";

/// What needs a person first, what is done last.
const ORDER: [&str; 11] = [
    DEAD_LETTER,
    STALLED,
    WAITING,
    UNDER_WAY,
    STORED,
    PREVIEWED,
    APPLIED,
    REMOVED,
    DUPLICATE,
    SUPERSEDED,
    NOTHING_THERE,
];

fn trigger(work: &RecentWork) -> EventTriggerRow {
    let (outcome, reason) = match work.fate {
        WorkFate::UnderWay => (UNDER_WAY, ""),
        WorkFate::Superseded => (SUPERSEDED, ""),
        WorkFate::Duplicate => (DUPLICATE, ""),
        WorkFate::NothingThere => (NOTHING_THERE, ""),
        WorkFate::Refused(reason) => (DEAD_LETTER, reason),
        _ if work.stalled > 0 => (STALLED, ""),
        _ if work.waiting > 0 => (WAITING, ""),
        _ if work.done > 0 && work.intent == Some(Intent::Delete) => (REMOVED, ""),
        _ if work.done > 0 => (APPLIED, ""),
        _ if work.previewed > 0 => (PREVIEWED, ""),
        _ => (STORED, ""),
    };
    EventTriggerRow {
        name: work.trigger.to_string(),
        intent: work.intent,
        outcome: outcome.to_owned(),
        reason: reason.to_owned(),
        done: work.done,
        previewed: work.previewed,
        stalled: work.stalled,
        waiting: work.waiting,
    }
}
