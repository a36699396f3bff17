//! Selectors are Kubernetes' own: against its rules, transcribed (`kubernetes`), and its own tests (`tables`).

// A test that meets the unexpected says so loudly and stops, in its helpers too.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod kubernetes;
mod tables;

use std::sync::Arc;

use fleet_core::cluster::{Cluster, ClusterId};
use fleet_core::engine::clusters::ClusterIndex;
use fleet_core::selector::{LabelSelector, Operator, Requirement};
use kubernetes::{LabelSelectorRequirement, Set, label_selector_as_selector};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree;

const OPERATORS: [&str; 4] = ["In", "NotIn", "Exists", "DoesNotExist"];

fn text(of: &[&str]) -> impl Strategy<Value = String> + use<> {
    select(of.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>())
}

/// Few keys and values, so that selectors and labels meet.
fn key() -> impl Strategy<Value = String> {
    text(&["a", "b", "example.com/a", "A", "a.b"])
}

fn value() -> impl Strategy<Value = String> {
    text(&["", "x", "y", "X", "x.y"])
}

fn labels() -> impl Strategy<Value = Set> {
    btree_map(key(), value(), 0..5)
}

/// A requirement that is allowed.
fn requirement() -> impl Strategy<Value = LabelSelectorRequirement> {
    (key(), text(&OPERATORS), vec(value(), 1..4)).prop_map(|(key, operator, mut values)| {
        if operator.ends_with("Exists") || operator == "DoesNotExist" {
            values.clear();
        }
        LabelSelectorRequirement { key, operator, values }
    })
}

fn selector() -> impl Strategy<Value = kubernetes::LabelSelector> {
    (btree_map(key(), value(), 0..3), vec(requirement(), 0..4)).prop_map(
        |(match_labels, match_expressions)| kubernetes::LabelSelector { match_labels, match_expressions },
    )
}

/// Of every length around the limits, with everything that is allowed somewhere, and what never is.
fn doubtful() -> impl Strategy<Value = String> {
    let edge = |text: &'static str, at: usize| {
        (at - 1..=at + 1, text).prop_map(|(length, end)| "a".repeat(length - end.chars().count()) + &end)
    };
    let name = prop_oneof![
        4 => "[-_.aZ0]{0,4}",
        2 => "[a-z]",
        1 => edge("[-a_.]", 63),
        1 => "[-_. /aZ0é\n=,!]{0,4}",
    ];
    let prefix = prop_oneof![
        4 => "[-_.aZ0]{1,4}",
        2 => "[a-z]{1,2}([.][a-z]){0,2}",
        1 => edge("[-a.]", 253),
    ];
    let name = name.boxed();
    prop_oneof![2 => name.clone(), 1 => (prefix, name).prop_map(|(prefix, name)| format!("{prefix}/{name}"))]
}

/// A selector of which one thing may be wrong, or several.
fn doubtful_selector() -> impl Strategy<Value = kubernetes::LabelSelector> {
    let key = || prop_oneof![3 => key(), 2 => doubtful()];
    let value = || prop_oneof![3 => value(), 2 => doubtful()];
    let operator = prop_oneof![
        8 => text(&OPERATORS),
        1 => text(&["", "in", "notin", "exists", "Equals", "=", "Gt", "Lt", "In ", "DoesNotExists"]),
    ];
    let requirement = (key(), operator, vec(value(), 0..3))
        .prop_map(|(key, operator, values)| LabelSelectorRequirement { key, operator, values });
    (btree_map(key(), value(), 0..2), vec(requirement, 0..2)).prop_map(|(match_labels, match_expressions)| {
        kubernetes::LabelSelector { match_labels, match_expressions }
    })
}

fn ours(selector: &kubernetes::LabelSelector) -> LabelSelector {
    serde_json::from_value(serde_json::to_value(selector).unwrap()).unwrap()
}

/// The same, as a program makes it.
fn made(selector: &kubernetes::LabelSelector) -> Result<LabelSelector, String> {
    let operator = |name: &str| match name {
        "In" => Ok(Operator::In),
        "NotIn" => Ok(Operator::NotIn),
        "Exists" => Ok(Operator::Exists),
        "DoesNotExist" => Ok(Operator::DoesNotExist),
        other => Err(other.to_owned()),
    };
    let requirements = selector.match_expressions.iter().map(|it| {
        let operator = operator(&it.operator)?;
        Ok(Requirement { key: it.key.clone(), operator, values: it.values.clone() })
    });
    LabelSelector::new(selector.match_labels.clone(), requirements.collect::<Result<_, String>>()?)
        .map_err(|error| error.to_string())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn it_matches_what_kubernetes_matches(selector in selector(), labels in vec(labels(), 1..8)) {
        let theirs = label_selector_as_selector(&selector).unwrap();
        let ours = ours(&selector);
        for labels in &labels {
            prop_assert_eq!(ours.matches(labels), theirs.matches(labels), "{:?}", labels);
        }
        prop_assert_eq!(ours.is_everything(), theirs.string().is_empty());
    }

    /// One by one, or by the index that the engine asks: whom Kubernetes would select.
    #[test]
    fn the_index_selects_what_kubernetes_selects(selector in selector(), labels in vec(labels(), 0..80)) {
        let theirs = label_selector_as_selector(&selector).unwrap();
        let id = |number| ClusterId::new("fleet", &format!("c{number}")).unwrap();
        let clusters = labels.iter().enumerate().map(|(number, labels)| Cluster::new(id(number), labels.clone()));
        let index = ClusterIndex::new(clusters.map(Arc::new));
        let mut found: Vec<_> = index.select(&ours(&selector)).iter().map(|it| it.id.clone()).collect();
        let selected = labels.iter().enumerate().filter(|(_, labels)| theirs.matches(labels));
        let mut expected: Vec<_> = selected.map(|(number, _)| id(number)).collect();
        found.sort();
        expected.sort();
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn it_refuses_what_kubernetes_refuses(selector in doubtful_selector()) {
        let theirs = label_selector_as_selector(&selector);
        let json = serde_json::to_value(&selector).unwrap();
        let read = serde_json::from_value::<LabelSelector>(json);
        prop_assert_eq!(read.as_ref().err().map(|_| ()), theirs.as_ref().err().map(|_| ()), "{:?} {:?}", read, theirs);
        prop_assert_eq!(made(&selector).ok(), read.ok());
    }

    #[test]
    fn it_is_written_as_kubernetes_writes_it(selector in selector()) {
        // Go sorts requirements of one key in no order of its own, so there is one of each key.
        let mut selector = selector;
        selector.match_expressions.sort_by(|a, b| a.key.cmp(&b.key));
        selector.match_expressions.dedup_by(|a, b| a.key == b.key);
        selector.match_expressions.retain(|it| !selector.match_labels.contains_key(&it.key));
        let theirs = label_selector_as_selector(&selector).unwrap();
        let ours = ours(&selector);
        prop_assert_eq!(ours.to_string(), theirs.string());
        let again: LabelSelector = serde_json::from_value(serde_json::to_value(&ours).unwrap()).unwrap();
        prop_assert_eq!(again, ours);
    }
}

/// The doubtful selectors are allowed as well as refused: neither answer alone would pass.
#[test]
fn doubtful_selectors_are_of_both_kinds() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let strategy = doubtful_selector();
    let allowed = (0..1_000)
        .filter(|_| label_selector_as_selector(&strategy.new_tree(&mut runner).unwrap().current()).is_ok())
        .count();
    assert!((200..800).contains(&allowed), "{allowed} of 1000 are allowed");
}
