//! A selector as JSON in the first line, and in each other line the labels of a cluster: `env=production,tier=a`.
//! Kubernetes' own rules, transcribed, say whether it is one and what it selects.

use std::sync::Arc;

use fleet_core::cluster::{Cluster, ClusterId};
use fleet_core::engine::clusters::ClusterIndex;
use fleet_core::selector::LabelSelector;
use serde_json::Value;

use crate::kubernetes::{self, LabelSelectorRequirement, Set};
use crate::{Outcome, halves};

/// The target.
pub fn run(input: &[u8]) -> Outcome {
    let Some((selector, labels)) = halves(input) else { return Outcome::Refused };
    let Ok(value) = serde_json::from_str::<Value>(selector) else {
        assert!(serde_json::from_str::<LabelSelector>(selector).is_err());
        return Outcome::Refused;
    };
    let theirs = unchecked(&value).and_then(|it| kubernetes::label_selector_as_selector(&it).ok());
    let ours = serde_json::from_value::<LabelSelector>(value);
    // Of two fields with the same name the last one counts in a value; as text both are refused.
    let of_text = serde_json::from_str::<LabelSelector>(selector).ok();
    assert!(of_text.is_none() || of_text.as_ref() == ours.as_ref().ok(), "{selector}");
    let (Ok(ours), Some(theirs)) = (&ours, &theirs) else {
        assert!(ours.is_err() && theirs.is_none(), "{selector}: {ours:?} here, {theirs:?} there");
        return Outcome::Refused;
    };
    let json = serde_json::to_string(ours).unwrap();
    assert_eq!(serde_json::from_str::<LabelSelector>(&json).as_ref().ok(), Some(ours), "{json}");
    let labels: Vec<Set> = labels.lines().take(70).map(set).collect();
    let id = |number: usize| ClusterId::new("fleet", &format!("c{number}")).unwrap();
    let clusters = labels.iter().enumerate().map(|(number, labels)| Cluster::new(id(number), labels.clone()));
    let index = ClusterIndex::new(clusters.map(Arc::new));
    let selected = index.select(ours);
    for (number, labels) in labels.iter().enumerate() {
        let expected = theirs.matches(labels);
        assert_eq!(ours.matches(labels), expected, "{selector} on {labels:?}");
        assert_eq!(selected.iter().any(|it| it.id == id(number)), expected, "{selector} on {labels:?}");
    }
    Outcome::Taken
}

fn set(line: &str) -> Set {
    let pairs = line.split(',').filter_map(|pair| pair.split_once('='));
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

/// As Go reads it: null is what is empty. Unlike there, unknown fields are refused.
fn unchecked(value: &Value) -> Option<kubernetes::LabelSelector> {
    let fields = |value: &Value, known: &[&str]| {
        let fields = value.as_object()?.clone();
        fields.keys().all(|key| known.contains(&&**key)).then_some(fields)
    };
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let list = |value: Option<&Value>| match value {
        None | Some(Value::Null) => Some(Vec::new()),
        Some(value) => value.as_array().cloned(),
    };
    let selector = fields(value, &["matchLabels", "matchExpressions"])?;
    let match_labels = match selector.get("matchLabels") {
        None | Some(Value::Null) => Some(Set::new()),
        Some(labels) => {
            labels.as_object()?.iter().map(|(key, value)| Some((key.clone(), text(value)?))).collect()
        }
    }?;
    let requirement = |value: &Value| {
        let fields = fields(value, &["key", "operator", "values"])?;
        let values = list(fields.get("values"))?.iter().map(text).collect::<Option<_>>()?;
        let (key, operator) = (text(fields.get("key")?)?, text(fields.get("operator")?)?);
        Some(LabelSelectorRequirement { key, operator, values })
    };
    let requirements = list(selector.get("matchExpressions"))?;
    let match_expressions = requirements.iter().map(requirement).collect::<Option<_>>()?;
    Some(kubernetes::LabelSelector { match_labels, match_expressions })
}
