//! Judging a delivery, once, when it arrives: its origin, and for each trigger whether it is wanted, for which key and
//! to what end. Nothing here waits or writes.

use std::str::FromStr;
use std::sync::Arc;

use crate::catalog::{OriginRule, SourceDef, Tells};
use crate::cluster::{Cluster, ClusterId};
use crate::engine::clusters::ClusterIndex;
use crate::engine::definitions::Definitions;
use crate::engine::triggers::{Trigger, guarded};
use crate::event::Event;
use crate::filter::Facts;
use crate::render::{Context, Template, TemplateError};
use crate::source::{Delivery, GONE, Message};
use crate::work::{EventKey, Intent, WorkId};

/// What becomes of a delivery.
pub(super) enum Verdict {
    /// No trigger wants it.
    Unwanted,
    /// It is refused before any trigger sees it.
    Refused(Refusal),
    /// What each trigger that wants it makes of it.
    Wanted { origin: Option<ClusterId>, intentions: Vec<Result<Intention, Refusal>> },
}

/// What a trigger makes of an event.
pub(super) struct Intention {
    pub(super) trigger: Arc<Trigger>,
    pub(super) id: WorkId,
    pub(super) key: EventKey,
    pub(super) intent: Intent,
}

impl Intention {
    /// The number of the Work that has in clusters what the event asks for.
    pub(super) fn doer(&self) -> u64 {
        if self.trigger.is_together() { self.trigger.aggregate().number() } else { self.id.number() }
    }
}

/// Why a delivery never becomes Work.
#[derive(Debug, PartialEq)]
pub(super) struct Refusal {
    pub(super) trigger: Option<Arc<str>>,
    /// One CamelCase word.
    pub(super) reason: &'static str,
    pub(super) detail: String,
}

/// Judges a delivery, for one trigger or for all that listen to its source.
pub(super) fn judge(
    source: &SourceDef,
    delivery: &Delivery,
    only: Option<&str>,
    definitions: &Definitions,
    clusters: &ClusterIndex,
) -> Verdict {
    let refused = |reason, detail| Verdict::Refused(Refusal { trigger: None, reason, detail });
    if delivery.raw.len() > source.max_event_bytes {
        let (size, most) = (delivery.raw.len(), source.max_event_bytes);
        return refused(
            "TooLarge",
            format!("it has {size} bytes; maxEventBytes of EventSource {} is {most}", source.name),
        );
    }
    let event = match &delivery.event {
        Ok(event) => event,
        Err(error) => return refused("NotACloudEvent", error.to_string()),
    };
    let facts = Facts::new(event, &delivery.message);
    let is_state = source.tells == Tells::States;
    let mut gone = is_state && event.ty().ends_with(GONE);
    if !gone {
        match source.filter.matches(&facts) {
            Ok(true) => {}
            Ok(false) if is_state => gone = true,
            Ok(false) => return Verdict::Unwanted,
            Err(error) => {
                return refused(
                    "FilterFailed",
                    format!("the filter of EventSource {}: {error}", source.name),
                );
            }
        }
    }
    let candidates = definitions.listening(source, event, only);
    let wants = |trigger: &Trigger| if gone { Ok(false) } else { trigger.def.filter.matches(&facts) };
    // Where another operator drives the cluster that it came from, what is for that cluster alone is that one's.
    let from_elsewhere = match origin(source, delivery, event) {
        Ok(Some(origin)) if clusters.is_elsewhere(&origin) => Some(origin),
        _ => None,
    };
    let theirs = |trigger: &Trigger| from_elsewhere.is_some() && trigger.def.destination_clusters.is_none();
    // That one hears it by itself; unless it was said to nobody but us.
    let unheard = from_elsewhere.as_ref().filter(|_| delivery.origin.is_none() && source.only_here);
    let mut wanting = candidates
        .into_iter()
        .filter(|trigger| !theirs(trigger) || unheard.is_some())
        .filter_map(|trigger| match wants(trigger) {
            Ok(true) => Some(match unheard.filter(|_| theirs(trigger)) {
                Some(origin) => Err(driven_elsewhere(trigger, origin)),
                None => Ok((trigger, false)),
            }),
            Ok(false) => is_state.then_some(Ok((trigger, true))),
            Err(error) => {
                let name = &trigger.def.name;
                let detail = format!("the filter of EventTrigger {name}: {error}");
                Some(Err(Refusal { trigger: Some(Arc::clone(name)), reason: "FilterFailed", detail }))
            }
        })
        .peekable();
    if wanting.peek().is_none() {
        return Verdict::Unwanted;
    }
    let origin = match origin(source, delivery, event) {
        Ok(origin) => origin,
        Err(detail) => return refused("OriginMissing", detail),
    };
    let origin_cluster = origin.as_ref().and_then(|origin| clusters.origin(origin));
    let arrived = Arrived {
        event,
        message: &delivery.message,
        origin: origin.as_ref(),
        origin_cluster: origin_cluster.as_deref(),
    };
    let intentions = wanting.filter_map(|wanting| {
        let (trigger, gone) = match wanting {
            Ok(wanting) => wanting,
            Err(refusal) => return Some(Err(refusal)),
        };
        match intention(trigger, &arrived, gone.then_some(Intent::Delete)) {
            Ok(intention) => Some(Ok(intention)),
            // What no key can be made of was never anything to the trigger.
            Err(_) if gone => None,
            Err((reason, detail)) => {
                Some(Err(Refusal { trigger: Some(Arc::clone(&trigger.def.name)), reason, detail }))
            }
        }
    });
    let intentions = intentions.collect();
    Verdict::Wanted { origin, intentions }
}

fn driven_elsewhere(trigger: &Trigger, origin: &ClusterId) -> Refusal {
    let detail = format!(
        "cluster {origin} is driven by its agent, which does not hear what is sent here; send the event to that agent's own port"
    );
    Refusal { trigger: Some(Arc::clone(&trigger.def.name)), reason: "DrivenElsewhere", detail }
}

/// The cluster that an event came from. Configured but missing is an error, never "every cluster".
fn origin(source: &SourceDef, delivery: &Delivery, event: &Event) -> Result<Option<ClusterId>, String> {
    if let Some(origin) = &delivery.origin {
        return Ok(Some(origin.clone()));
    }
    let name = &source.name;
    match &source.origin {
        None => Ok(None),
        Some(OriginRule::Fixed(origin)) => Ok(Some(origin.clone())),
        Some(OriginRule::SubjectTokens { namespace, name: cluster }) => {
            let token = |place: usize| {
                delivery.message.tokens().nth(place).ok_or_else(|| {
                    format!("EventSource {name} takes the origin from token {place} of the subject (counted from 0), and there is none")
                })
            };
            ClusterId::new(token(*namespace)?, token(*cluster)?)
                .map(Some)
                .map_err(|error| format!("EventSource {name} takes the origin from the subject: {error}"))
        }
        Some(OriginRule::Extension(attribute)) => {
            let Some(text) = event.attribute(attribute) else {
                return Err(format!(
                    "EventSource {name} takes the origin from extension {attribute}, and the event has none"
                ));
            };
            ClusterId::from_str(&text).map(Some).map_err(|error| {
                format!("EventSource {name} takes the origin from extension {attribute}: {error}")
            })
        }
    }
}

/// An event, how it came, and from where.
struct Arrived<'a> {
    event: &'a Event,
    message: &'a Message,
    origin: Option<&'a ClusterId>,
    origin_cluster: Option<&'a Cluster>,
}

/// What a trigger makes of an event, if not something else is known.
fn intention(
    trigger: &Arc<Trigger>,
    arrived: &Arrived<'_>,
    known: Option<Intent>,
) -> Result<Intention, (&'static str, String)> {
    let Arrived { event, message, origin, origin_cluster } = *arrived;
    let context = Context {
        event: Some(event),
        message: Some(message),
        events: None,
        cluster: None,
        origin: origin_cluster,
        resources: None,
        trigger: &trigger.def.name,
    };
    let text = |part: &str, template: &Result<Arc<dyn Template>, TemplateError>| {
        let template = template.as_ref().map_err(ToString::to_string)?;
        let name = || format!("EventTrigger {}, {part}", trigger.def.name);
        guarded(name, || template.text(&context)).map_err(|error| error.to_string())
    };
    let key = match &trigger.key {
        None => EventKey::About {
            origin: origin.cloned(),
            source: event.source().to_owned(),
            subject: event.subject().map(str::to_owned),
        },
        Some(template) => {
            let key = text("key", template).map_err(|error| ("KeyInvalid", error))?;
            if key.trim().is_empty() {
                return Err((
                    "KeyEmpty",
                    format!("the key template of EventTrigger {} gave nothing", trigger.def.name),
                ));
            }
            EventKey::Text(key.trim().to_owned())
        }
    };
    let intent = match (known, &trigger.action) {
        (Some(known), _) => known,
        (None, None) => Intent::Create,
        (None, Some(template)) => {
            let action = text("cloudEventAction", template).map_err(|error| ("ActionInvalid", error))?;
            match action.trim() {
                "Create" => Intent::Create,
                "Delete" => Intent::Delete,
                _ => {
                    let detail = format!(
                        "cloudEventAction of EventTrigger {} must give Create or Delete, and gave something else of {} characters",
                        trigger.def.name,
                        action.trim().chars().count()
                    );
                    return Err(("ActionInvalid", detail));
                }
            }
        }
    };
    let id = WorkId::new(&trigger.def.name, &key);
    Ok(Intention { trigger: Arc::clone(trigger), id, key, intent })
}
