//! Filters on events, in the dialects of the [CloudEvents Subscriptions API] 1.0 and two of our own: regular expressions
//! over attributes, and over the subject that the message was sent to.
//!
//! [CloudEvents Subscriptions API]: https://github.com/cloudevents/spec/blob/main/subscriptions/spec.md#324-filters

use std::collections::BTreeMap;
use std::fmt;

use regex::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};

use crate::event::Event;
use crate::source::Message;

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
    /// In every named attribute the pattern is found.
    Pattern(BTreeMap<String, Pattern>),
    /// In the subject (NATS) or path (HTTP) that the message was sent to the pattern is found.
    MessageSubject(Pattern),
}

/// A regular expression in RE2's syntax. It is found anywhere in a text: write `^` and `$` to mean all of it.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pattern(Regex);

impl Pattern {
    /// How large a compiled pattern may be, in bytes.
    const LARGEST: usize = 1 << 20;

    /// Compiles a pattern.
    ///
    /// # Errors
    /// When the text is no regular expression, or one that is too large; the message shows where.
    pub fn new(text: &str) -> Result<Self, InvalidPattern> {
        let compiled = RegexBuilder::new(text).size_limit(Self::LARGEST).build();
        compiled.map(Self).map_err(|error| {
            // The first line says what it is about, the last what is wrong.
            let text = error.to_string();
            let why = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
            InvalidPattern(format!("is no regular expression (RE2): {why}"))
        })
    }

    /// Whether it is found in a text.
    pub fn is_in(&self, text: &str) -> bool {
        self.0.is_match(text)
    }

    /// The text that it was compiled from.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Pattern {}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl TryFrom<String> for Pattern {
    type Error = InvalidPattern;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::new(&text)
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> Self {
        pattern.as_str().to_owned()
    }
}

/// Why a text is no [`Pattern`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidPattern(String);

impl Default for Filter {
    fn default() -> Self {
        Self::All(Vec::new())
    }
}

impl Filter {
    /// Whether an event passes that arrived with this message.
    pub fn matches(&self, event: &Event, message: &Message) -> bool {
        let every = |wanted: &BTreeMap<String, String>, test: fn(&str, &str) -> bool| {
            wanted.iter().all(|(name, value)| event.attribute(name).is_some_and(|found| test(&found, value)))
        };
        match self {
            Self::Exact(wanted) => every(wanted, |found, value| found == value),
            Self::Prefix(wanted) => every(wanted, |found, value| found.starts_with(value)),
            Self::Suffix(wanted) => every(wanted, |found, value| found.ends_with(value)),
            Self::All(filters) => filters.iter().all(|filter| filter.matches(event, message)),
            Self::Any(filters) => filters.iter().any(|filter| filter.matches(event, message)),
            Self::Not(filter) => !filter.matches(event, message),
            Self::Pattern(wanted) => wanted
                .iter()
                .all(|(name, pattern)| event.attribute(name).is_some_and(|found| pattern.is_in(&found))),
            Self::MessageSubject(pattern) => pattern.is_in(&message.subject),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passes(filter: &str) -> Result<bool, String> {
        let event = Event::builder("1", "auth.example.com", "auth.example.com.login").subject("mgianluc");
        let message = Message { subject: "user.operation".to_owned(), headers: Vec::new() };
        let filter: Filter = serde_json::from_str(filter).map_err(|error| error.to_string())?;
        Ok(filter.matches(&event.build().unwrap(), &message))
    }

    #[test]
    fn a_pattern_is_found_anywhere_unless_it_says_otherwise() {
        for (filter, expected) in [
            (r#"{"pattern": {"type": "login"}}"#, true),
            (r#"{"pattern": {"type": "^login"}}"#, false),
            (r#"{"pattern": {"type": "(?i)LOGIN$", "source": "^auth\\."}}"#, true),
            (r#"{"pattern": {"type": "login", "source": "other"}}"#, false),
            (r#"{"pattern": {"absent": ""}}"#, false),
            (r#"{"pattern": {}}"#, true),
            (r#"{"messageSubject": "user.oper"}"#, true),
            (r#"{"messageSubject": "^operation"}"#, false),
            (r#"{"not": {"messageSubject": "x"}}"#, true),
        ] {
            assert_eq!(passes(filter), Ok(expected), "{filter}");
        }
    }

    #[test]
    fn a_pattern_that_is_none_is_refused_with_the_reason() {
        for (bad, why) in
            [("a(b", "unclosed group"), ("(?=a)", "look-around"), ("a{9999}{9999}", "size limit")]
        {
            let error = Pattern::new(bad).unwrap_err().to_string();
            assert!(error.starts_with("is no regular expression") && error.contains(why), "{error}");
        }
    }
}
