//! What users see when they write definitions: what comes out of good ones, and one clear problem for each mistake.

// Clippy takes only test functions for tests, not what they call.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod connections;
mod helm;
mod mistakes;
mod policy;
mod profiles;
mod references;
mod streams;
mod sveltos;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use fleet_core::catalog::Payload;
use fleet_core::cluster::ClusterId;
use fleet_core::render::TemplateKind;
use fleet_kube::connection::Connection;
use fleet_kube::definitions::{Definitions, Fault, Problem, RawObject, Transport};

/// Reads documents as a folder does. The line of a field is the first, from its document on, that begins with its name.
fn objects(file: &str, yaml: &str) -> Vec<RawObject> {
    let mut objects = Vec::new();
    let mut line = 1;
    for text in yaml.split("---\n") {
        let begin = line;
        line += u32::try_from(text.lines().count()).unwrap() + 1;
        if text.trim().is_empty() {
            continue;
        }
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let line_of = move |pointer: &str| {
            let field = format!("{}:", pointer.rsplit('/').next()?.replace("~1", "/"));
            let at = lines.iter().position(|line| line.trim_start_matches([' ', '-']).starts_with(&field))?;
            Some(begin + u32::try_from(at).unwrap())
        };
        let value = serde_saphyr::from_str(text).unwrap();
        objects.push(RawObject::in_file(Path::new(file), begin, value, Arc::new(line_of)));
    }
    objects
}

fn read(yaml: &str) -> Definitions {
    Definitions::read(objects("f.yaml", yaml), Vec::new(), None)
}

fn after(previous: &Definitions, yaml: &str) -> Definitions {
    Definitions::read(objects("f.yaml", yaml), Vec::new(), Some(previous))
}

fn problems(definitions: &Definitions) -> Vec<String> {
    definitions.problems.iter().map(ToString::to_string).collect()
}

const STORY: &str = r#"apiVersion: fleet-events.dev/v1alpha1
kind: Cluster
metadata:
  name: production1
  namespace: civo
  labels: {env: production}
spec:
  directory: {}
---
apiVersion: fleet-events.dev/v1alpha1
kind: EventSource
metadata:
  name: user-operation
spec:
  http: {}
  filters:
  - exact: {source: auth.example.com}
---
apiVersion: fleet-events.dev/v1alpha1
kind: EventTrigger
metadata:
  name: manage-namespace
spec:
  eventSourceName: user-operation
  sourceClusterSelector:
    matchLabels: {env: production}
  oneForEvent: true
  syncMode: Continuous
  cloudEventAction: "{% if event.type == 'auth.example.com.logout' %}Delete{% else %}Create{% endif %}"
  policyRefs:
  - kind: ConfigMap
    namespace: default
    name: namespace
---
apiVersion: v1
kind: ConfigMap
metadata:
  name: namespace
  annotations:
    fleet-events.dev/template: "true"
data:
  namespace.yaml: |
    kind: Namespace
    apiVersion: v1
    metadata:
      name: "{{ event.subject }}"
"#;

#[test]
fn the_story_is_understood() {
    let definitions = read(STORY);
    assert_eq!(problems(&definitions), Vec::<String>::new());
    assert!(definitions.catalog.complete);
    assert_eq!(definitions.transports["user-operation"], Transport::Http);
    let source = &definitions.catalog.sources["user-operation"];
    assert_eq!(source.max_event_bytes, 256 * 1024);
    assert_eq!(source.origin, None);
    let trigger = &definitions.catalog.triggers["manage-namespace"];
    assert_eq!(trigger.source.as_deref(), Some("user-operation"));
    assert_eq!(trigger.source_clusters.to_string(), "env=production");
    let [Payload::Template(template)] = trigger.payload.as_slice() else { panic!("{:?}", trigger.payload) };
    assert_eq!(template.name, "ConfigMap default/namespace, key namespace.yaml");
    assert_eq!(template.kind, TemplateKind::Manifests);
    assert!(template.text.contains("{{ event.subject }}"));
    let [cluster] = definitions.clusters.as_slice() else { panic!("{:?}", definitions.clusters) };
    assert_eq!(cluster.id, ClusterId::new("civo", "production1").unwrap());
    assert_eq!(cluster.labels["env"], "production");
    assert!(matches!(cluster.connection, Connection::Directory));
}

#[test]
fn without_the_annotation_contents_are_applied_as_they_stand() {
    let definitions = read(&STORY.replace("    fleet-events.dev/template: \"true\"", "    a: b"));
    let [Payload::Template(template)] = definitions.catalog.triggers["manage-namespace"].payload.as_slice()
    else {
        panic!()
    };
    assert_eq!(template.kind, TemplateKind::Literal);
}

#[test]
fn one_bad_object_does_not_hide_the_others() {
    let definitions = read(&STORY.replace("  directory: {}", "  directory: []"));
    assert_eq!(definitions.problems.len(), 1);
    assert_eq!(definitions.catalog.triggers.len(), 1);
    // The cluster is still one, with its labels; it cannot be reached.
    assert!(definitions.catalog.complete);
    let [cluster] = definitions.clusters.as_slice() else { panic!() };
    assert_eq!(cluster.labels["env"], "production");
    let Connection::KubeconfigSecret { kubeconfig: Err(reason), .. } = &cluster.connection else { panic!() };
    assert_eq!(
        reason,
        "f.yaml:8: Cluster civo/production1: spec.directory: is a list; a mapping was expected"
    );

    let definitions = read(&STORY.replace("oneForEvent: true", "oneForEvent: 1"));
    assert_eq!(definitions.clusters.len(), 1);
    assert!(!definitions.catalog.complete, "the trigger is there, so nothing may count as gone");
}

#[test]
fn an_object_that_goes_bad_stays_as_it_was() {
    let good = read(STORY);
    let now = after(
        &good,
        &STORY.replace("oneForEvent: true", "oneForEvent: maybe").replace("directory: {}", "x: 1"),
    );
    assert_eq!(now.problems.len(), 2, "{:?}", problems(&now));
    assert_eq!(now.catalog.triggers, good.catalog.triggers);
    assert_eq!(now.clusters.len(), 1);
    assert!(now.catalog.complete);
    let template_broken = after(&now, &STORY.replace("\ndata:", "\ndota:"));
    assert_eq!(template_broken.catalog.triggers, good.catalog.triggers, "the template too stays as it was");
    let healed = after(&template_broken, STORY);
    assert!(healed.same(&good));
}

#[test]
fn a_file_that_cannot_be_read_takes_nothing_away() {
    let good = read(STORY);
    let broken = vec![Problem::unreadable(Path::new("f.yaml"), Some(3), "is no YAML: …")];
    let now = Definitions::read(Vec::new(), broken.clone(), Some(&good));
    assert_eq!(now.catalog.triggers, good.catalog.triggers);
    assert_eq!(now.catalog.sources, good.catalog.sources);
    assert_eq!(now.clusters.len(), 1);
    assert!(!now.catalog.complete);
    assert_eq!(problems(&now), ["f.yaml:3: is no YAML: …"]);

    let folder = vec![Problem::unreadable(Path::new(""), None, "cannot be read: …")];
    assert_eq!(Definitions::read(Vec::new(), folder, Some(&good)).catalog.triggers, good.catalog.triggers);

    let fresh = Definitions::read(Vec::new(), broken, None);
    assert!(!fresh.catalog.complete);
    let gone = Definitions::read(Vec::new(), Vec::new(), Some(&good));
    assert!(gone.catalog.triggers.is_empty() && gone.catalog.complete);
}

#[test]
fn what_is_immutable_cannot_be_edited_in_a_folder() {
    let good = read(&STORY.replace("  oneForEvent", "  key: \"{{ event.subject }}\"\n  oneForEvent"));
    let edited = after(&good, STORY);
    assert_eq!(
        problems(&edited),
        [
            "f.yaml:23: EventTrigger manage-namespace: spec.key: is immutable; undo the edit, or give the trigger \
             another name. Until then the trigger stays as it was"
        ]
    );
    assert_eq!(edited.problems[0].fault, Fault::Immutable);
    assert_eq!(edited.catalog.triggers, good.catalog.triggers);
    // Nor with a second edit on top of it.
    let again = after(&edited, &STORY.replace("cloudEventAction: ", "cloudEventAction: Create #"));
    assert_eq!(again.catalog.triggers, good.catalog.triggers);
}

#[test]
fn the_same_object_twice_names_both_places() {
    let good = read(STORY);
    let copy = "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: namespace}\ndata: {a: b}\n";
    let twice = format!("{STORY}{copy}");
    let definitions = read(&twice);
    let found = problems(&definitions);
    assert!(
        found.contains(&"f.yaml:48: ConfigMap default/namespace: is defined twice, first in f.yaml:35; remove one of them".to_owned()),
        "{found:?}"
    );
    let payload = &definitions.catalog.triggers["manage-namespace"].payload;
    assert!(matches!(payload.as_slice(), [Payload::Missing { reason }] if reason.contains("defined twice")));
    assert_eq!(after(&good, &twice).catalog.triggers, good.catalog.triggers);
}

#[test]
fn an_optional_reference_may_be_absent_but_not_broken() {
    let optional = STORY.replace("    name: namespace\n", "    name: namespace\n    optional: true\n");
    let absent = read(optional.rsplit_once("---\n").unwrap().0);
    assert_eq!(problems(&absent), Vec::<String>::new());
    assert_eq!(absent.catalog.triggers["manage-namespace"].payload, []);
    let broken = read(&optional.replace("\ndata:", "\ndota:"));
    let payload = &broken.catalog.triggers["manage-namespace"].payload;
    assert!(matches!(payload.as_slice(), [Payload::Missing { .. }]), "{payload:?}");
}
