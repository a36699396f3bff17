//! The triggers of a source, found by what their filters need: an event does not pay for those that want another one.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::engine::triggers::Trigger;
use crate::event::Event;

/// The triggers that listen to one source.
#[derive(Default)]
pub(super) struct Listening {
    /// In the order of their names.
    triggers: Vec<Arc<Trigger>>,
    /// By an attribute and a value of it that their filters need.
    by_value: BTreeMap<Box<str>, HashMap<Box<str>, Vec<usize>>>,
    /// Those whose filters need none.
    others: Vec<usize>,
}

impl Listening {
    pub(super) fn new(triggers: Vec<Arc<Trigger>>) -> Self {
        let needs: Vec<_> = triggers.iter().map(|trigger| trigger.def.filter.needs()).collect();
        let mut sharing: HashMap<(&str, &str), usize> = HashMap::new();
        for (name, values) in needs.iter().flatten() {
            values.iter().for_each(|value| *sharing.entry((name, value)).or_default() += 1);
        }
        let mut by_value: BTreeMap<_, HashMap<_, Vec<_>>> = BTreeMap::new();
        let mut others = Vec::new();
        for (place, needs) in needs.iter().enumerate() {
            // The attribute that tells it from most others: a hundred may need one type, each with a subject of its own.
            let with_others =
                |name: &str, value: &&str| sharing.get(&(name, *value)).copied().unwrap_or_default();
            let best = needs.iter().min_by_key(|(name, values)| {
                values.iter().map(|value| with_others(name, value)).max().unwrap_or_default()
            });
            match best {
                None => others.push(place),
                Some((name, values)) => {
                    let of_attribute = by_value.entry(Box::from(*name)).or_default();
                    values
                        .iter()
                        .for_each(|value| of_attribute.entry(Box::from(*value)).or_default().push(place));
                }
            }
        }
        Self { triggers, by_value, others }
    }

    /// All of them, in the order of their names.
    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<Trigger>> {
        self.triggers.iter()
    }

    /// Those that an event may concern, in the order of their names.
    pub(super) fn to(&self, event: &Event) -> Vec<&Arc<Trigger>> {
        let needing = self.by_value.iter().filter_map(|(name, values)| values.get(&*event.attribute(name)?));
        let mut places: Vec<usize> = needing.flatten().chain(&self.others).copied().collect();
        places.sort_unstable();
        places.into_iter().filter_map(|place| self.triggers.get(place)).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::catalog::TriggerDef;
    use crate::filter::{Facts, Filter};
    use crate::minijinja::MinijinjaRenderer;
    use crate::selector::LabelSelector;
    use crate::source::Message;

    fn filter() -> impl Strategy<Value = Filter> {
        let attributes = || {
            let name = prop::sample::select(vec!["type", "source", "subject", "region"]);
            let value = prop::sample::select(vec!["a", "b", "ab"]);
            prop::collection::btree_map(name.prop_map(str::to_owned), value.prop_map(str::to_owned), 0..3)
        };
        let leaf = prop_oneof![
            4 => attributes().prop_map(Filter::Exact),
            1 => attributes().prop_map(Filter::Prefix),
        ];
        leaf.prop_recursive(2, 8, 3, |inner| {
            let list = || prop::collection::vec(inner.clone(), 0..3);
            prop_oneof![
                list().prop_map(Filter::All),
                list().prop_map(Filter::Any),
                inner.clone().prop_map(|it| Filter::Not(Box::new(it))),
            ]
        })
    }

    proptest! {
        #[test]
        fn nobody_whose_filter_lets_an_event_through_is_left_out(
            filters in prop::collection::vec(filter(), 1..12),
            ty in "a|b|ab", source in "a|b", subject in prop::option::of("a|b|ab"),
        ) {
            let compile = |(place, filter): (usize, &Filter)| {
                let def = TriggerDef::new(format!("t{place:02}"), "s", LabelSelector::everything());
                let def = TriggerDef { filter: filter.clone(), ..def };
                Arc::new(Trigger::compile(Arc::new(def), &MinijinjaRenderer))
            };
            let triggers: Vec<_> = filters.iter().enumerate().map(compile).collect();
            let mut event = Event::builder("1", source, ty);
            if let Some(subject) = subject {
                event = event.subject(subject);
            }
            let (event, message) = (event.build().unwrap(), Message::default());
            let facts = Facts::new(&event, &message);
            let matching = |triggers: Vec<&Arc<Trigger>>| {
                let matching = triggers.into_iter().filter(|it| it.def.filter.matches(&facts) == Ok(true));
                matching.map(|it| Arc::clone(&it.def.name)).collect::<Vec<_>>()
            };
            let expected = matching(triggers.iter().collect());
            prop_assert_eq!(matching(Listening::new(triggers).to(&event)), expected);
        }
    }

    #[test]
    fn an_event_meets_only_those_that_want_its_subject() {
        let trigger = |number: usize| {
            let wanted = [("type", "login".to_owned()), ("subject", format!("u{number}"))];
            let filter = Filter::Exact(wanted.map(|(name, value)| (name.to_owned(), value)).into());
            let def = TriggerDef::new(format!("t{number:04}"), "s", LabelSelector::everything());
            Arc::new(Trigger::compile(Arc::new(TriggerDef { filter, ..def }), &MinijinjaRenderer))
        };
        let listening = Listening::new((0..1000).map(trigger).collect());
        let event = Event::builder("1", "auth", "login").subject("u7").build().unwrap();
        let names: Vec<_> = listening.to(&event).iter().map(|it| it.def.name.to_string()).collect();
        assert_eq!(names, ["t0007"]);
    }
}
