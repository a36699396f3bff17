//! Filters on events, in the dialects of the [CloudEvents Subscriptions API] 1.0 and three of our own: regular expressions
//! over attributes, and over the subject that the message was sent to, and CEL over all of the event (feature `cel`).
//!
//! [CloudEvents Subscriptions API]: https://github.com/cloudevents/spec/blob/main/subscriptions/spec.md#324-filters

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use regex::Regex;
use serde::{Deserialize, Serialize};
#[cfg(feature = "cel")]
use serde_json::json;

use crate::event::Event;
#[cfg(feature = "cel")]
use crate::expression::{Expression, InvalidExpression, NoAnswer, Scope};
use crate::re2;
pub use crate::re2::InvalidPattern;
use crate::source::Message;

/// A filter on events. The default lets everything through.
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
    /// This is true of the event.
    #[cfg(feature = "cel")]
    Cel(EventExpression),
}

/// An event and how it arrived, as filters see it. What only some filters look at is made ready when the first of them
/// asks, for all that are asked about the same event.
#[derive(Debug)]
pub struct Facts<'a> {
    event: &'a Event,
    message: &'a Message,
    #[cfg(feature = "cel")]
    scope: std::cell::OnceCell<Scope>,
}

impl<'a> Facts<'a> {
    /// What is known of an event that arrived with this message.
    pub fn new(event: &'a Event, message: &'a Message) -> Self {
        #[cfg(feature = "cel")]
        return Self { event, message, scope: std::cell::OnceCell::new() };
        #[cfg(not(feature = "cel"))]
        Self { event, message }
    }

    #[cfg(feature = "cel")]
    fn scope(&self) -> &Scope {
        self.scope.get_or_init(|| {
            let tokens: Vec<&str> = self.message.tokens().collect();
            let message = json!({"subject": self.message.subject, "tokens": tokens});
            let mut event = self.event.to_json();
            // As in templates: bytes are their base64.
            if let Some(event) = event.as_object_mut()
                && let Some(bytes) = event.remove("data_base64")
            {
                event.insert("data".to_owned(), bytes);
            }
            let variables = [("event", &event), ("message", &message)];
            Scope::new(variables.into_iter().filter_map(|(name, value)| Some((name, value.as_object()?))))
        })
    }
}

/// An [expression](crate::expression) in CEL over `event` (attributes and extensions by their names, and `data`) and
/// `message` (`subject`, `tokens`). What is not there makes it false: an attribute that the event does not have, a field that
/// its data does not have.
#[cfg(feature = "cel")]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EventExpression(Expression);

#[cfg(feature = "cel")]
impl EventExpression {
    /// Compiles an expression.
    ///
    /// # Errors
    /// As of [`Expression::compile`]; the sentence says line and column.
    pub fn new(text: &str) -> Result<Self, InvalidExpression> {
        Expression::compile(text, &["event", "message"]).map(Self)
    }

    /// The text that it was compiled from.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    fn holds(&self, facts: &Facts<'_>) -> Result<bool, FilterError> {
        match self.0.holds(facts.scope()) {
            Err(NoAnswer::NoField | NoAnswer::NoItem) => Ok(false),
            answer => {
                answer.map_err(|why| FilterError { filter: self.as_str().to_owned(), why: why.to_string() })
            }
        }
    }
}

#[cfg(feature = "cel")]
impl TryFrom<String> for EventExpression {
    type Error = InvalidExpression;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::new(&text)
    }
}

#[cfg(feature = "cel")]
impl From<EventExpression> for String {
    fn from(expression: EventExpression) -> Self {
        expression.as_str().to_owned()
    }
}

/// A filter that cannot tell whether it lets an event through. Shows nothing of the event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the expression {filter:?} {why}")]
pub struct FilterError {
    filter: String,
    why: String,
}

/// A regular expression in RE2's syntax. It is found anywhere in a text: write `^` and `$` to mean all of it.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pattern {
    text: Arc<str>,
    compiled: Regex,
}

impl Pattern {
    /// How large a compiled pattern may be, in bytes.
    const LARGEST: usize = 1 << 20;

    /// Compiles a pattern.
    ///
    /// # Errors
    /// When the text is no regular expression, or one that is too large; the message says where.
    pub fn new(text: &str) -> Result<Self, InvalidPattern> {
        Ok(Self { text: text.into(), compiled: re2::compile(text, Self::LARGEST)? })
    }

    /// Whether it is found in a text.
    pub fn is_in(&self, text: &str) -> bool {
        self.compiled.is_match(text)
    }

    /// The text that it was compiled from.
    pub fn as_str(&self) -> &str {
        &self.text
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

impl Default for Filter {
    fn default() -> Self {
        Self::All(Vec::new())
    }
}

impl Filter {
    /// Whether an event passes. Filters in a list are asked in their order, until one settles it.
    ///
    /// # Errors
    /// When an expression cannot be evaluated for this event.
    pub fn matches(&self, facts: &Facts<'_>) -> Result<bool, FilterError> {
        let Facts { event, message, .. } = facts;
        let every = |wanted: &BTreeMap<String, String>, test: fn(&str, &str) -> bool| {
            wanted.iter().all(|(name, value)| event.attribute(name).is_some_and(|found| test(&found, value)))
        };
        Ok(match self {
            Self::Exact(wanted) => every(wanted, |found, value| found == value),
            Self::Prefix(wanted) => every(wanted, |found, value| found.starts_with(value)),
            Self::Suffix(wanted) => every(wanted, |found, value| found.ends_with(value)),
            Self::All(filters) => {
                for filter in filters {
                    if !filter.matches(facts)? {
                        return Ok(false);
                    }
                }
                true
            }
            Self::Any(filters) => {
                for filter in filters {
                    if filter.matches(facts)? {
                        return Ok(true);
                    }
                }
                false
            }
            Self::Not(filter) => !filter.matches(facts)?,
            Self::Pattern(wanted) => wanted
                .iter()
                .all(|(name, pattern)| event.attribute(name).is_some_and(|found| pattern.is_in(&found))),
            Self::MessageSubject(pattern) => pattern.is_in(&message.subject),
            #[cfg(feature = "cel")]
            Self::Cel(expression) => expression.holds(facts)?,
        })
    }

    /// Attributes of which each has to have one of the values named, or the filter lets nothing through: what to look an
    /// event's filters up by.
    pub(crate) fn needs(&self) -> BTreeMap<&str, BTreeSet<&str>> {
        match self {
            Self::Exact(wanted) => {
                wanted.iter().map(|(name, value)| (name.as_str(), BTreeSet::from([value.as_str()]))).collect()
            }
            Self::All(filters) => {
                let mut needs = BTreeMap::new();
                for (name, values) in filters.iter().flat_map(Self::needs) {
                    needs.entry(name).or_insert(values);
                }
                needs
            }
            Self::Any(filters) => {
                let mut each = filters.iter().map(Self::needs);
                let Some(mut needs) = each.next() else { return BTreeMap::new() };
                for other in each {
                    needs.retain(|name, values| {
                        let others = other.get(name);
                        values.extend(others.into_iter().flatten());
                        others.is_some()
                    });
                }
                needs
            }
            _ => BTreeMap::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passes(filter: &str) -> Result<bool, String> {
        let event = Event::builder("1", "auth.example.com", "auth.example.com.login").subject("mgianluc");
        let data = serde_json::json!({"plan": {"seats": 20}, "tags": ["new", "gold"], "secret": "hunter2"});
        let event = event.extension("region", "eu").json(data);
        let message = Message { subject: "user.operation".to_owned(), headers: Vec::new() };
        let filter: Filter = serde_json::from_str(filter).map_err(|error| error.to_string())?;
        filter.matches(&Facts::new(&event.build().unwrap(), &message)).map_err(|error| error.to_string())
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
    fn a_pattern_is_read_as_re2_reads_it() {
        for (pattern, text, expected) in
            [(r"^\d$", "٣", false), (r"\<a", "<a", true), ("^[a&&b]$", "&", true), ("^a{,2}$", "a{,2}", true)]
        {
            let pattern = Pattern::new(pattern).unwrap();
            assert_eq!(pattern.is_in(text), expected, "{pattern:?} in {text}");
        }
        // To others it is a possessive repetition, and not one of a repetition.
        let error = Pattern::new("a++").unwrap_err().to_string();
        assert!(error.ends_with("at character 3"), "{error}");
    }

    #[test]
    fn the_dialects_of_the_subscriptions_api() {
        for (filter, expected) in [
            (r#"{"exact": {"type": "auth.example.com.login", "subject": "mgianluc"}}"#, true),
            (r#"{"exact": {"type": "auth.example.com.login", "subject": "other"}}"#, false),
            (r#"{"exact": {"subject": "MGIANLUC"}}"#, false),
            (r#"{"exact": {"region": "eu"}}"#, true),
            (r#"{"exact": {"absent": ""}}"#, false),
            (r#"{"prefix": {"type": "auth.", "source": "auth."}}"#, true),
            (r#"{"prefix": {"type": "login"}}"#, false),
            (r#"{"prefix": {"absent": ""}}"#, false),
            (r#"{"suffix": {"type": ".login"}}"#, true),
            (r#"{"suffix": {"type": ".logout"}}"#, false),
            (r#"{"all": [{"prefix": {"type": "auth."}}, {"suffix": {"type": ".login"}}]}"#, true),
            (r#"{"all": [{"prefix": {"type": "auth."}}, {"suffix": {"type": ".logout"}}]}"#, false),
            (r#"{"all": []}"#, true),
            (r#"{"any": [{"suffix": {"type": ".logout"}}, {"suffix": {"type": ".login"}}]}"#, true),
            (r#"{"any": [{"suffix": {"type": ".logout"}}]}"#, false),
            (r#"{"any": []}"#, false),
            (r#"{"not": {"suffix": {"type": ".logout"}}}"#, true),
            (r#"{"not": {"any": [{"exact": {"absent": "x"}}, {"not": {"exact": {"id": "2"}}}]}}"#, false),
        ] {
            assert_eq!(passes(filter), Ok(expected), "{filter}");
        }
    }

    #[cfg(feature = "cel")]
    #[test]
    fn an_expression_sees_attributes_data_and_message() {
        for (expression, expected) in [
            ("event.type.endsWith('.login') && event.data.plan.seats > 10", true),
            ("event.data.plan.seats + 1 == 21 && event.region == 'eu'", true),
            ("event.data.tags.exists(t, t == 'gold')", true),
            ("message.tokens[1] == 'operation' && message.subject.startsWith('user.')", true),
            ("has(event.subject) && !has(event.time)", true),
            ("has(event.data.plan.name)", false),
            // What is not there is not as it should be.
            ("event.absent == 'x'", false),
            ("event.data.plan.absent > 1", false),
            ("event.data.tags[7] == 'x'", false),
        ] {
            let filter = serde_json::json!({"cel": expression}).to_string();
            assert_eq!(passes(&filter), Ok(expected), "{expression}");
        }
        // What cannot be told is told, without any value of the event.
        let why = passes(r#"{"cel": "event.data.secret > 3"}"#).unwrap_err();
        assert!(why.contains("event.data.secret > 3") && why.contains("string, int"), "{why}");
        assert!(!why.contains("hunter2"), "{why}");
        // Nobody asks it once another filter has settled the matter.
        let settled = r#"{"all": [{"exact": {"type": "x"}}, {"cel": "event.data.secret > 3"}]}"#;
        assert_eq!(passes(settled), Ok(false));
    }

    #[cfg(feature = "cel")]
    #[test]
    fn an_expression_that_is_none_is_refused_with_its_place() {
        for (bad, why) in [
            ("event.type ==", "line 1, column 14"),
            (
                "true &&\n evnt.type == 'x'",
                "line 2, column 2: evnt is not known; the expression sees event and message",
            ),
            ("event.type", "gives"),
            ("size(event.type)", "gives a number"),
        ] {
            let filter = serde_json::json!({"cel": bad}).to_string();
            match (bad, passes(&filter)) {
                // What a field holds is not known before there is an event.
                ("event.type", told) => assert!(told.unwrap_err().contains("neither true nor false")),
                (_, told) => assert!(told.as_ref().unwrap_err().contains(why), "{bad}: {told:?}"),
            }
        }
    }

    #[test]
    fn what_a_filter_needs_is_told_by_its_exact_parts() {
        let needs = |filter: &str| {
            let filter: Filter = serde_json::from_str(filter).unwrap();
            let needs = filter.needs().into_iter();
            needs
                .map(|(name, values)| format!("{name}={}", Vec::from_iter(values).join("|")))
                .collect::<Vec<_>>()
        };
        assert_eq!(needs(r#"{"exact": {"type": "a", "source": "b"}}"#), ["source=b", "type=a"]);
        assert_eq!(needs(r#"{"all": [{"prefix": {"id": "1"}}, {"exact": {"type": "a"}}]}"#), ["type=a"]);
        let any = r#"{"any": [{"exact": {"type": "a", "id": "1"}}, {"exact": {"type": "b"}}]}"#;
        assert_eq!(needs(any), ["type=a|b"]);
        for none in [
            r#"{"any": [{"exact": {"type": "a"}}, {"prefix": {"type": "b"}}]}"#,
            r#"{"any": []}"#,
            r#"{"not": {"exact": {"type": "a"}}}"#,
            r#"{"prefix": {"type": "a"}}"#,
        ] {
            assert!(needs(none).is_empty(), "{none}");
        }
    }

    #[test]
    fn a_pattern_that_is_none_is_refused_with_the_reason() {
        for (bad, why) in [
            ("a(b", "unclosed group, at character 2"),
            ("(?=a)", "look-around"),
            ("(a{999}){999}", "size limit"),
        ] {
            let error = Pattern::new(bad).unwrap_err().to_string();
            assert!(error.starts_with("is no regular expression") && error.contains(why), "{error}");
        }
    }
}
