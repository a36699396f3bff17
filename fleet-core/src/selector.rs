//! Label selectors, with Kubernetes' semantics to the letter ([labels and selectors]).
//!
//! [labels and selectors]: https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/

use std::collections::BTreeMap;
use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::cluster::Labels;

/// A label selector as Kubernetes writes it. All of `matchLabels` and `matchExpressions` must hold; an empty selector
/// selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, try_from = "Unchecked")]
pub struct LabelSelector {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    match_labels: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    match_expressions: Vec<Requirement>,
}

/// One of a selector's `matchExpressions`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Requirement {
    /// The label.
    pub key: String,
    /// How the label's value relates to `values`.
    pub operator: Operator,
    /// The values: at least one for `In` and `NotIn`, none for `Exists` and `DoesNotExist`.
    #[serde(default, deserialize_with = "values_or_null", skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
}

/// As Kubernetes reads a list: null is an empty one.
fn values_or_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// How a label's value relates to the values of a [`Requirement`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Operator {
    /// The label is there, with one of the values.
    In,
    /// The label is not there, or has none of the values.
    NotIn,
    /// The label is there.
    Exists,
    /// The label is not there.
    DoesNotExist,
}

/// Why a selector is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidSelector(String);

impl LabelSelector {
    /// Selects everything.
    pub fn everything() -> Self {
        Self::default()
    }

    /// Selects nothing.
    pub fn nothing() -> Self {
        let requirement = |operator| Requirement {
            key: "fleet-events.dev/nothing".to_owned(),
            operator,
            values: Vec::new(),
        };
        let both = [Operator::Exists, Operator::DoesNotExist].map(requirement);
        Self { match_labels: BTreeMap::new(), match_expressions: both.into() }
    }

    /// Selects what has all of these labels.
    ///
    /// # Errors
    /// When a key or a value is not allowed in a label.
    pub fn labels<K: Into<String>, V: Into<String>>(
        labels: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Self, InvalidSelector> {
        let labels = labels.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
        Self::new(labels, Vec::new())
    }

    /// A selector of both kinds of conditions.
    ///
    /// # Errors
    /// When a key or value is not allowed in a label, or the number of values does not suit the operator.
    pub fn new(
        match_labels: BTreeMap<String, String>,
        match_expressions: Vec<Requirement>,
    ) -> Result<Self, InvalidSelector> {
        for (key, value) in &match_labels {
            check_key(key)?;
            check_value(key, value)?;
        }
        for Requirement { key, operator, values } in &match_expressions {
            check_key(key)?;
            match operator {
                Operator::In | Operator::NotIn if values.is_empty() => {
                    return Err(InvalidSelector(format!(
                        "{operator:?} on label {key:?} needs at least one value"
                    )));
                }
                Operator::Exists | Operator::DoesNotExist if !values.is_empty() => {
                    return Err(InvalidSelector(format!("{operator:?} on label {key:?} takes no values")));
                }
                _ => values.iter().try_for_each(|value| check_value(key, value))?,
            }
        }
        Ok(Self { match_labels, match_expressions })
    }

    /// Whether an object with these labels is selected.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.match_labels.iter().all(|(key, value)| labels.get(key) == Some(value))
            && self.match_expressions.iter().all(|requirement| requirement.matches(labels))
    }

    /// Whether there is no condition at all.
    pub fn is_everything(&self) -> bool {
        self.match_labels.is_empty() && self.match_expressions.is_empty()
    }

    /// All conditions as requirements, `matchLabels` among them.
    pub(crate) fn requirements(&self) -> impl Iterator<Item = (&str, Operator, &[String])> {
        let labels = self.match_labels.iter();
        let labels = labels.map(|(key, value)| (key.as_str(), Operator::In, std::slice::from_ref(value)));
        labels.chain(self.match_expressions.iter().map(|it| (it.key.as_str(), it.operator, &*it.values)))
    }
}

impl Requirement {
    fn matches(&self, labels: &Labels) -> bool {
        let value = labels.get(&self.key);
        match self.operator {
            Operator::In => value.is_some_and(|value| self.values.contains(value)),
            Operator::NotIn => value.is_none_or(|value| !self.values.contains(value)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
        }
    }
}

/// As `kubectl` prints selectors, in the order of keys and values: `env=production,!legacy,tier in (a,b)`.
impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let labels = self.match_labels.iter().map(|(key, value)| (key, format!("{key}={value}")));
        let expressions = self.match_expressions.iter().map(|it| (&it.key, it.to_string()));
        let mut all: Vec<_> = labels.chain(expressions).collect();
        all.sort_by_key(|(key, _)| *key);
        let all: Vec<_> = all.into_iter().map(|(_, text)| text).collect();
        f.write_str(&all.join(","))
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, operator, values } = self;
        let values = || {
            let mut values: Vec<_> = values.iter().map(String::as_str).collect();
            values.sort_unstable();
            values.join(",")
        };
        match operator {
            Operator::In => write!(f, "{key} in ({})", values()),
            Operator::NotIn => write!(f, "{key} notin ({})", values()),
            Operator::Exists => f.write_str(key),
            Operator::DoesNotExist => write!(f, "!{key}"),
        }
    }
}

/// What is read before it is checked. Only of a mapping: a derived reader takes a list, too, and of an empty one would make
/// a selector of everything.
struct Unchecked(Fields);

impl<'de> Deserialize<'de> for Unchecked {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Mapping)
    }
}

struct Mapping;

impl<'de> Visitor<'de> for Mapping {
    type Value = Unchecked;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("struct LabelSelector")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Unchecked, A::Error> {
        Fields::deserialize(MapAccessDeserializer::new(map)).map(Unchecked)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Fields {
    #[serde(default)]
    match_labels: Option<BTreeMap<String, String>>,
    #[serde(default)]
    match_expressions: Option<Vec<Requirement>>,
}

impl TryFrom<Unchecked> for LabelSelector {
    type Error = InvalidSelector;

    fn try_from(Unchecked(read): Unchecked) -> Result<Self, Self::Error> {
        Self::new(read.match_labels.unwrap_or_default(), read.match_expressions.unwrap_or_default())
    }
}

/// A label's key: a name of at most 63 characters, after an optional DNS subdomain and a slash.
fn check_key(key: &str) -> Result<(), InvalidSelector> {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    let prefix_ok = prefix.is_none_or(|prefix| crate::manifest::names::dns_subdomain(prefix).is_ok());
    if prefix_ok && !name.is_empty() && is_label_text(name) {
        Ok(())
    } else {
        Err(InvalidSelector(format!(
            "{key:?} is no label key: expected a name of at most 63 letters, digits, '-', '_', '.', after an optional DNS prefix and '/'"
        )))
    }
}

fn check_value(key: &str, value: &str) -> Result<(), InvalidSelector> {
    if is_label_text(value) {
        Ok(())
    } else {
        Err(InvalidSelector(format!(
            "{value:?} is no value of a label ({key}): expected at most 63 letters, digits, '-', '_', '.', beginning and ending with a letter or digit"
        )))
    }
}

fn is_label_text(text: &str) -> bool {
    let edge = |byte: Option<u8>| byte.is_none_or(|byte| byte.is_ascii_alphanumeric());
    text.len() <= 63
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
        && edge(text.bytes().next())
        && edge(text.bytes().next_back())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selector(json: &str) -> LabelSelector {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn a_list_is_no_selector_of_everything() {
        let error = serde_json::from_str::<LabelSelector>("[]").unwrap_err().to_string();
        assert!(error.contains("expected struct LabelSelector"), "{error}");
        assert!(serde_json::from_str::<LabelSelector>("{}").unwrap().is_everything());
    }

    #[test]
    fn unknown_fields_are_refused() {
        for json in [
            r#"{"matchLabel":{}}"#,
            r#"{"matchExpressions":[{"key":"env","operator":"Exists","value":"x"}]}"#,
        ] {
            assert!(serde_json::from_str::<LabelSelector>(json).is_err(), "{json}");
        }
    }

    #[test]
    fn reads_like_kubectl() {
        let all = selector(
            r#"{"matchLabels":{"env":"production"},"matchExpressions":[{"key":"tier","operator":"In","values":["a","b"]},{"key":"legacy","operator":"DoesNotExist"}]}"#,
        );
        assert_eq!(all.to_string(), "env=production,!legacy,tier in (a,b)");
    }
}
