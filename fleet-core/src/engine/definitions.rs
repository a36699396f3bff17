//! All definitions in use, and what a new snapshot of the catalog changes in them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::catalog::{CatalogSnapshot, Condition, SourceDef, Tells, Withheld};
use crate::engine::listening::Listening;
use crate::engine::triggers::Trigger;
use crate::event::Event;
use crate::health;
use crate::manifest::Gvk;
use crate::observe::Depth;
use crate::policy::Target;
use crate::render::Renderer;
use crate::resource::Resources;
use crate::selector::LabelSelector;

/// All definitions in use.
#[derive(Default)]
pub(super) struct Definitions {
    pub(super) sources: BTreeMap<Arc<str>, Arc<SourceDef>>,
    pub(super) triggers: BTreeMap<Arc<str>, Arc<Trigger>>,
    by_source: BTreeMap<Arc<str>, Listening>,
    /// Whether a trigger that is not among them is known to be gone.
    complete: bool,
    /// Triggers that are about to go: gone for us, and held back until nothing is left of them.
    leaving: BTreeSet<Arc<str>>,
    /// Triggers that are somewhere, and not known here.
    withheld: BTreeMap<Arc<str>, Withheld>,
    /// What is known of what triggers refer to.
    pub(super) resources: Arc<Resources>,
}

/// What a trigger's name stands for.
pub(super) enum Found<'a> {
    Trigger(&'a Arc<Trigger>),
    /// It is for no cluster that is known here, and leaves what it made.
    Leaves,
    /// It is gone for certain.
    Gone,
    /// It was not read; nothing is known of it.
    Unknown,
}

/// What a new snapshot changed.
pub(super) struct Changed {
    pub(super) definitions: Definitions,
    /// Triggers that are new, gone, or ask for something else: their Works are to be looked at.
    pub(super) triggers: Vec<Arc<str>>,
    /// What was unknown so far is known to be gone: all Works are to be looked at.
    pub(super) everything: bool,
    /// Sources of states that are to tell all again.
    pub(super) told_again: BTreeSet<Arc<str>>,
}

impl Definitions {
    /// Triggers that are held back until nothing is left of them.
    pub(super) fn leaving(&self) -> impl Iterator<Item = &Arc<str>> {
        self.leaving.iter()
    }

    /// Triggers that listen to a source, those left out whose filter needs another attribute than the event's; or the one
    /// that is named, if it listens. What is a state concerns them all.
    pub(super) fn listening(
        &self,
        source: &SourceDef,
        event: &Event,
        only: Option<&str>,
    ) -> Vec<&Arc<Trigger>> {
        if let Some(only) = only {
            let trigger = self.triggers.get(only);
            return trigger.filter(|it| it.def.source.as_ref() == Some(&source.name)).into_iter().collect();
        }
        let Some(listening) = self.by_source.get(&source.name) else { return Vec::new() };
        match source.tells {
            Tells::Events => listening.to(event),
            Tells::States => listening.all().collect(),
        }
    }

    /// The names of all triggers that listen to a source.
    pub(super) fn of_source(&self, source: &str) -> impl Iterator<Item = &Arc<str>> {
        self.by_source.get(source).into_iter().flat_map(Listening::all).map(|trigger| &trigger.def.name)
    }

    /// Sources of states that have to tell all again, as somebody hears otherwise of them than before.
    fn to_be_told_again(&self, before: &Self) -> BTreeSet<Arc<str>> {
        let states = self.sources.values().filter(|source| source.tells == Tells::States);
        let told = states.filter(|source| {
            let heard = |trigger: &Arc<str>| {
                let now = self.triggers.get(trigger)?;
                Some(before.triggers.get(trigger).is_some_and(|old| old.hears_as(now)))
            };
            before.sources.get(&source.name) != Some(source)
                || self.of_source(&source.name).any(|trigger| heard(trigger) == Some(false))
        });
        told.map(|source| Arc::clone(&source.name)).collect()
    }

    /// A trigger by its name.
    pub(super) fn find(&self, trigger: &str) -> Found<'_> {
        match (self.triggers.get(trigger), self.withheld.get(trigger)) {
            (Some(trigger), _) => Found::Trigger(trigger),
            (None, _) if self.leaving.contains(trigger) => Found::Gone,
            (None, Some(Withheld::Leaves)) => Found::Leaves,
            (None, Some(Withheld::Unread)) => Found::Unknown,
            (None, None) if self.complete => Found::Gone,
            (None, None) => Found::Unknown,
        }
    }

    /// The definitions after a snapshot. What did not change is not compiled again; what is missing from a snapshot
    /// that is not complete stays as it was, and so does what is withheld because it cannot be done.
    pub(super) fn follow(&self, snapshot: &CatalogSnapshot, renderer: &dyn Renderer) -> Changed {
        let mut changed = Vec::new();
        let mut triggers = BTreeMap::new();
        for (name, def) in &snapshot.triggers {
            let trigger = match self.triggers.get(name) {
                Some(old) if old.def == *def => Arc::clone(old),
                old => {
                    if !old.is_some_and(|old| old.asks_for_the_same_as(def)) {
                        changed.push(Arc::clone(name));
                    }
                    Arc::new(Trigger::compile(Arc::clone(def), renderer))
                }
            };
            triggers.insert(Arc::clone(name), trigger);
        }
        let mut sources = snapshot.sources.clone();
        for (name, trigger) in &self.triggers {
            if !triggers.contains_key(name) {
                let stays = match snapshot.withheld.get(name) {
                    _ if snapshot.leaving.contains(name) => false,
                    Some(withheld) => *withheld == Withheld::Unread,
                    None => !snapshot.complete,
                };
                if stays {
                    triggers.insert(Arc::clone(name), Arc::clone(trigger));
                } else {
                    changed.push(Arc::clone(name));
                }
            }
        }
        let withheld = self.withheld.keys().chain(snapshot.withheld.keys()).collect::<BTreeSet<_>>();
        let is_other = |name: &&&Arc<str>| self.withheld.get(**name) != snapshot.withheld.get(**name);
        changed.extend(withheld.iter().filter(is_other).map(|name| Arc::clone(name)));
        if !snapshot.complete {
            for (name, source) in &self.sources {
                sources.entry(Arc::clone(name)).or_insert_with(|| Arc::clone(source));
            }
        }
        let mut by_source: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for trigger in triggers.values() {
            if let Some(source) = &trigger.def.source {
                by_source.entry(Arc::clone(source)).or_default().push(Arc::clone(trigger));
            }
        }
        let by_source = by_source.into_iter().map(|(source, it)| (source, Listening::new(it))).collect();
        let complete = snapshot.complete;
        let definitions = Self {
            sources,
            triggers,
            by_source,
            complete,
            leaving: snapshot.leaving.clone(),
            withheld: snapshot.withheld.clone(),
            resources: Arc::clone(&snapshot.resources),
        };
        Changed {
            told_again: definitions.to_be_told_again(self),
            definitions,
            triggers: changed,
            everything: complete && !self.complete,
        }
    }

    /// Whether each trigger can be used, where there is a management cluster or none.
    pub(super) fn conditions(&self, is_managed: bool) -> BTreeMap<Arc<str>, Condition> {
        let condition = |(name, trigger): (&Arc<str>, &Arc<Trigger>)| {
            (Arc::clone(name), trigger.condition(&self.sources, is_managed))
        };
        self.triggers.iter().map(condition).collect()
    }

    /// Whether any trigger that was there before judges objects otherwise now.
    pub(super) fn judges_otherwise(&self, before: &Self) -> bool {
        self.triggers.iter().any(|(name, trigger)| {
            before.triggers.get(name).is_some_and(|before| {
                let (now, before) = (&trigger.def.policy, &before.def.policy);
                now.health_checks != before.health_checks || now.drift_exclusions != before.drift_exclusions
            })
        })
    }

    /// How much of a kind has to be seen to tell how it is doing.
    pub(super) fn depth(&self, kind: &Gvk) -> Depth {
        let is_about = |target: &Target| {
            target.group.as_ref().is_none_or(|group| *group == kind.group)
                && target.kind.as_ref().is_none_or(|it| *it == kind.kind)
        };
        let mut checks = self.triggers.values().flat_map(|trigger| &trigger.def.policy.health_checks);
        if checks.any(|check| is_about(&check.target)) { Depth::Whole } else { health::depth(kind) }
    }

    /// The selectors that any trigger uses.
    pub(super) fn uses(&self, selector: &LabelSelector) -> bool {
        self.triggers.values().any(|trigger| {
            trigger.def.source_clusters == *selector
                || trigger.def.destination_clusters.as_ref() == Some(selector)
        })
    }
}
