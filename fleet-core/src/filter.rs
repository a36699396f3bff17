//! Filters on events, in the dialects of the [CloudEvents Subscriptions API] 1.0.
//!
//! [CloudEvents Subscriptions API]: https://github.com/cloudevents/spec/blob/main/subscriptions/spec.md#324-filters

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::event::Event;

/// A filter expression over an event's attributes. The default lets everything through.
///
/// An attribute that the event does not have equals nothing; an empty map or list of attributes is no condition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum Filter {
    /// Every named attribute equals the value.
    Exact(BTreeMap<String, String>),
    /// Every named attribute begins with the value.
    Prefix(BTreeMap<String, String>),
    /// Every named attribute ends with the value.
    Suffix(BTreeMap<String, String>),
    /// All of these hold.
    All(Vec<Filter>),
    /// At least one of these holds.
    Any(Vec<Filter>),
    /// This does not hold.
    Not(Box<Filter>),
}

impl Default for Filter {
    fn default() -> Self {
        Self::All(Vec::new())
    }
}

impl Filter {
    /// Whether the event passes.
    pub fn matches(&self, event: &Event) -> bool {
        let every = |wanted: &BTreeMap<String, String>, test: fn(&str, &str) -> bool| {
            wanted.iter().all(|(name, value)| event.attribute(name).is_some_and(|found| test(&found, value)))
        };
        match self {
            Self::Exact(wanted) => every(wanted, |found, value| found == value),
            Self::Prefix(wanted) => every(wanted, |found, value| found.starts_with(value)),
            Self::Suffix(wanted) => every(wanted, |found, value| found.ends_with(value)),
            Self::All(filters) => filters.iter().all(|filter| filter.matches(event)),
            Self::Any(filters) => filters.iter().any(|filter| filter.matches(event)),
            Self::Not(filter) => !filter.matches(event),
        }
    }
}
