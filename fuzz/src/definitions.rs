//! A text of definitions, of either family: EventSources, triggers, profiles, Clusters, and what they refer to. Read again, it
//! means the same; what is wrong is told with its place, and without anything that a Secret holds.

use std::path::Path;
use std::sync::Arc;

use fleet_core::yaml;
use fleet_kube::definitions::{Definitions, RawObject};
use fleet_operator::folder::Folder;
use serde_json::Value;

use crate::{Outcome, SECRET};

/// The target.
pub fn run(input: &[u8]) -> Outcome {
    let Ok(text) = std::str::from_utf8(input) else { return Outcome::Refused };
    let lines = u32::try_from(text.split(['\n', '\r']).count()).unwrap();
    let name = Path::new("definitions.yaml");
    let first = Folder::look_at_text(name, text.to_owned());
    let again = Folder::look_at_text(name, text.to_owned());
    assert!(first.same(&again), "read again, it is something else");
    for problem in &first.problems {
        assert!(
            problem.line.is_none_or(|line| (1..=lines + 1).contains(&line)),
            "{problem}, of {lines} lines"
        );
    }
    let documents: Vec<_> = yaml::documents(text).into_iter().flatten().collect();
    let api = |previous: Option<&Definitions>| {
        let objects = documents.iter().map(|it| RawObject::in_api(it.value.clone()));
        Definitions::read(objects, Vec::new(), previous)
    };
    let from_the_api = api(None);
    assert!(api(Some(&from_the_api)).same(&api(Some(&from_the_api))), "read again, it is something else");
    let held: usize = documents.iter().map(|it| held_in_secrets(&it.value)).sum();
    if text.matches(SECRET).count() == held {
        for problem in first.problems.iter().chain(&from_the_api.problems) {
            assert!(!problem.to_string().contains(SECRET), "{problem} shows what a Secret holds");
        }
        assert!(!format!("{first:?}").contains(SECRET), "Debug shows what a Secret holds");
    }
    if nothing_is_forgotten(&first) { Outcome::Taken } else { Outcome::Refused }
}

/// A text that is broken later changes nothing of what was good. Says whether there is anything good.
fn nothing_is_forgotten(first: &Definitions) -> bool {
    let file: Arc<Path> = Path::new("definitions.yaml").into();
    let broken = vec![fleet_kube::definitions::Problem::unreadable(file, None, "cannot be read")];
    let held = Definitions::read(Vec::new(), broken, Some(first));
    let names = |it: &Definitions| it.catalog.triggers.keys().cloned().collect::<Vec<_>>();
    assert_eq!(held.catalog.sources, first.catalog.sources);
    assert_eq!(names(&held), names(first));
    assert!(!held.catalog.complete, "what is missing would be withdrawn");
    !(first.catalog.sources.is_empty() && first.catalog.triggers.is_empty() && first.clusters.is_empty())
}

/// How often the secret word is in the values of a Secret.
fn held_in_secrets(object: &Value) -> usize {
    let fields = ["data", "stringData"].iter().filter_map(|field| object.get(field)?.as_object());
    let count = || {
        fields.flat_map(|it| it.values()).filter_map(Value::as_str).map(|it| it.matches(SECRET).count()).sum()
    };
    if object.get("kind").and_then(Value::as_str) == Some("Secret") { count() } else { 0 }
}
