//! Objects by what they name: of each the version that counts, the last good one where what is there now cannot.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::object::{Fault, Kind, Location, ObjectId, Problem};
use super::parse::{Body, Parsed};
use super::{Definitions, MOST_SHOWN, order};
use crate::connection::ClusterDefinition;

/// Objects by what they name.
pub(super) struct Identified {
    /// Those that can be used, in their last good version.
    pub(super) objects: BTreeMap<ObjectId, Arc<Parsed>>,
    /// Those that cannot be used and have no good version, and why.
    pub(super) unusable: BTreeMap<ObjectId, &'static str>,
    /// Clusters among those.
    pub(super) stand_ins: BTreeMap<ObjectId, ClusterDefinition>,
    /// Triggers, profiles and clusters that are being deleted.
    pub(super) leaving: Vec<Arc<Parsed>>,
    /// Whether there was something that nobody can name.
    pub(super) unread: bool,
    pub(super) problems: Vec<Problem>,
}

pub(super) fn identify(
    parsed: impl Iterator<Item = Arc<Parsed>>,
    unread: Vec<Problem>,
    previous: Option<&Definitions>,
) -> Identified {
    let mut found = Identified {
        objects: BTreeMap::new(),
        unusable: BTreeMap::new(),
        stand_ins: BTreeMap::new(),
        leaving: Vec::new(),
        unread: !unread.is_empty(),
        problems: unread,
    };
    let lost: BTreeSet<Location> = found.problems.iter().map(|problem| problem.location.clone()).collect();
    let mut firsts: BTreeMap<ObjectId, Location> = BTreeMap::new();
    for object in parsed {
        let kind = object.place.id.as_ref().map(|id| id.kind);
        if object.leaving && matches!(kind, Some(Kind::EventTrigger | Kind::ClusterProfile | Kind::Cluster)) {
            found.leaving.push(object);
            continue;
        }
        if let Err(unusable) = &object.body {
            found.problems.extend(unusable.problems.iter().cloned());
        }
        let Some(id) = &object.place.id else {
            found.unread = true;
            continue;
        };
        if let Some(first) = firsts.get(id) {
            let reason = format!("is defined twice, first in {first}; remove one of them");
            found.problems.push(object.place.problem("", Fault::Duplicate, reason));
            found.objects.remove(id);
            found.stand_ins.remove(id);
            found.unusable.insert(id.clone(), "is defined twice");
            continue;
        }
        firsts.insert(id.clone(), object.place.location.clone());
        match &object.body {
            Ok(_) => {
                found.objects.insert(id.clone(), object);
            }
            Err(unusable) => {
                found.unusable.insert(id.clone(), "cannot be used");
                found
                    .stand_ins
                    .extend(unusable.stand_in.as_deref().map(|cluster| (id.clone(), cluster.clone())));
            }
        }
    }
    for (id, before) in previous.iter().flat_map(|previous| &previous.objects) {
        let hold = match found.objects.get(id) {
            Some(now) => match edit_of_immutable(before, now) {
                Some(problem) => {
                    found.problems.push(problem);
                    true
                }
                None => false,
            },
            None => {
                found.unusable.contains_key(id)
                    || lost.iter().any(|lost| before.place.location.is_within(lost))
            }
        };
        if hold {
            found.unusable.remove(id);
            found.stand_ins.remove(id);
            found.objects.insert(id.clone(), before.clone());
        }
    }
    found
}

/// Takes back, to what was in `previous`, triggers and profiles that wait for each other in a circle; says of those that have always
/// done so why nothing of theirs can be applied.
pub(super) fn open_circles(
    found: &mut Identified,
    previous: Option<&Definitions>,
) -> BTreeMap<Arc<str>, String> {
    let mut taken_back: BTreeSet<ObjectId> = BTreeSet::new();
    let mut told: BTreeSet<ObjectId> = BTreeSet::new();
    let mut circles: BTreeMap<Arc<str>, String> = BTreeMap::new();
    loop {
        let rules: Vec<(Arc<str>, &[Arc<str>])> = found
            .objects
            .iter()
            .filter_map(|(id, object)| {
                let depends_on = match &object.body {
                    Ok(Body::Trigger(draft)) => draft.depends_on(),
                    Ok(Body::Profile(draft)) => draft.depends_on(),
                    _ => return None,
                };
                let rule = id.rule();
                (!circles.contains_key(&rule)).then_some((rule, depends_on))
            })
            .collect();
        let waits_for = rules.iter().map(|(rule, others)| (&**rule, others.iter().map(|it| &**it).collect()));
        let Some(circle) = order::circle(&waits_for.collect()) else { return circles };
        let mut shown: Vec<&str> = circle.iter().take(MOST_SHOWN).copied().collect();
        shown.extend((circle.len() > MOST_SHOWN).then_some("…"));
        shown.extend(circle.first());
        let reason = format!(
            "these wait for each other, so that nothing of theirs could ever be applied: {}; remove one of \
             them from the dependsOn of another",
            shown.join(" → ")
        );
        let ids: Vec<ObjectId> = circle.into_iter().map(|rule| ObjectId::of_rule(&rule.into())).collect();
        let mut opened = false;
        for id in &ids {
            let Some(now) = found.objects.get(id) else { continue };
            if told.insert(id.clone()) {
                found.problems.push(now.place.problem("/spec/dependsOn", Fault::Invalid, reason.clone()));
            }
            let before = previous.and_then(|previous| previous.objects.get(id));
            if let Some(before) = before.filter(|_| taken_back.insert(id.clone())) {
                found.objects.insert(id.clone(), Arc::clone(before));
                opened = true;
            }
        }
        if !opened {
            circles.extend(ids.into_iter().map(|id| (id.rule(), reason.clone())));
        }
    }
}

/// What was edited that must not be, in a folder: there is no API server that refuses it.
fn edit_of_immutable(before: &Parsed, now: &Parsed) -> Option<Problem> {
    if now.place.location == Location::Api {
        return None;
    }
    match (before.body.as_ref().ok()?, now.body.as_ref().ok()?) {
        (Body::Trigger(before), Body::Trigger(edited)) => {
            let pointer = edited.edit_of_immutable(before)?;
            let reason = "is immutable; undo the edit, or give the trigger another name. Until then the trigger stays as it was";
            Some(now.place.problem(pointer, Fault::Immutable, reason))
        }
        (Body::Source(before), Body::Source(edited)) if edited.replay() < before.replay() => {
            let reason = format!(
                "may only grow, and was {}; undo the edit. Until then the EventSource stays as it was",
                before.replay()
            );
            Some(now.place.problem("/spec/replay", Fault::Immutable, reason))
        }
        _ => None,
    }
}
