//! YAML text, and Kubernetes objects in it. What is read and written is read again as the same, and an object that is accepted
//! stays one.

use fleet_core::manifest::Manifest;
use fleet_core::work::{EventKey, WorkId};
use fleet_core::yaml;
use serde_json::Value;

use crate::Outcome;

/// The target.
pub fn run(input: &[u8]) -> Outcome {
    let Ok(text) = std::str::from_utf8(input) else { return Outcome::Refused };
    let lines = u32::try_from(text.split(['\n', '\r']).count()).unwrap();
    let mut taken = Outcome::Refused;
    for document in yaml::documents(text) {
        let document = match document {
            Ok(document) => document,
            Err(error) => {
                assert!((1..=lines + 1).contains(&error.line), "{error}, of {lines} lines");
                continue;
            }
        };
        assert!((1..=lines).contains(&document.line), "line {} of {lines}", document.line);
        for pointer in ["", "/metadata/name", "/spec/0", "/~0~1"] {
            assert!((1..=lines).contains(&document.line_of(pointer)), "{pointer}");
        }
        comes_back(&document.value);
        if let Ok(manifest) = Manifest::new(document.value) {
            taken = Outcome::Taken;
            keeps_its_rules(&manifest);
        }
    }
    taken
}

fn comes_back(value: &Value) {
    let written = yaml::to_string(value).expect("what was read can be written");
    let read: Vec<_> = yaml::documents(&written).into_iter().map(|it| it.map(|it| it.value)).collect();
    assert_eq!(read.as_slice(), [Ok(value.clone())], "{written}");
}

fn keeps_its_rules(manifest: &Manifest) {
    let object = Value::Object(manifest.object().clone());
    assert_eq!(Manifest::new(object).as_ref(), Ok(manifest));
    let id = manifest.id();
    let path =
        [&*id.gvk.group, &id.gvk.version, &id.gvk.kind, id.namespace.as_deref().unwrap_or("a"), &id.name];
    for segment in path {
        assert!(!segment.contains(['/', '%', '\\', '\n']) && !matches!(segment, "." | ".."), "{id:?}");
    }
    let work = WorkId::new("trigger", &EventKey::Always);
    let marked = Manifest::new(Value::Object(manifest.marked(&work))).expect("a mark changes nothing else");
    assert_eq!(marked.id(), id);
}
