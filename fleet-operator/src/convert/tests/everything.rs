//! What is taken as it is and what is written anew are the same definitions: for manifests that use every field there is.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::Arc;

use fleet_core::catalog::{Composed, Payload, TriggerDef};
use fleet_core::render::{Language, TemplateSource};
use fleet_core::yaml;
use fleet_kube::connection::{ClusterDefinition, Connection};
use fleet_kube::definitions::{Definitions, RawObject};
use serde_json::{Value, json};

use crate::convert::{sveltos, template};

const EVERYTHING: &str = include_str!("everything.yaml");

fn documents(yaml: &str) -> Vec<Value> {
    yaml::documents(yaml).into_iter().map(|document| document.unwrap().value.clone()).collect()
}

/// Reads documents as a management cluster has them.
fn read(documents: impl IntoIterator<Item = Value>) -> Definitions {
    Definitions::read(documents.into_iter().map(RawObject::in_api), Vec::new(), None)
}

fn converted(yaml: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("t.yaml");
    fs::write(&file, yaml).unwrap();
    let converted = sveltos(std::slice::from_ref(&file));
    let told: Vec<String> = converted.untranslated.iter().map(ToString::to_string).collect();
    assert_eq!(told, [""; 0], "{}", converted.yaml);
    converted.yaml
}

#[test]
fn what_is_converted_defines_the_same() {
    let anew = converted(EVERYTHING);
    let (theirs, ours) = (read(documents(EVERYTHING)), read(documents(&anew)));
    for (definitions, of) in [(&theirs, "theirs"), (&ours, "ours")] {
        let problems: Vec<String> = definitions.problems.iter().map(ToString::to_string).collect();
        assert_eq!(problems, [""; 0], "{of}\n{anew}");
    }
    assert_eq!(theirs.catalog.sources, ours.catalog.sources);
    assert_eq!(theirs.transports, ours.transports);
    assert_eq!(clusters(&theirs), clusters(&ours));
    assert_eq!(theirs.references, ours.references);
    let translated: BTreeMap<_, _> =
        theirs.catalog.triggers.iter().map(|(name, it)| (name, translated(it))).collect();
    let ours: BTreeMap<_, _> =
        ours.catalog.triggers.iter().map(|(name, it)| (name, (**it).clone())).collect();
    assert_eq!(translated.keys().collect::<Vec<_>>(), ours.keys().collect::<Vec<_>>());
    for (name, expected) in &translated {
        assert_eq!(ours[name], *expected, "{name}");
    }
    assert!(!anew.contains("projectsveltos.io/v1beta1"), "{anew}");
}

/// Clusters with their kubeconfigs, comparable.
fn clusters(definitions: &Definitions) -> Vec<String> {
    use secrecy::ExposeSecret as _;
    let shown = |it: &ClusterDefinition| {
        let connection = match &it.connection {
            Connection::KubeconfigSecret { name, kubeconfig } => {
                let kubeconfig = kubeconfig.as_ref().map(|text| text.expose_secret().to_owned());
                format!("{name}: {kubeconfig:?}")
            }
            other => format!("{other:?}"),
        };
        format!("{} {:?} {:?} {:?} {connection}", it.id, it.labels, it.annotations, it.resolve)
    };
    definitions.clusters.iter().map(shown).collect()
}

/// A trigger whose templates are written in minijinja, and which is otherwise as it was.
fn translated(theirs: &TriggerDef) -> TriggerDef {
    let text = |text: &Arc<str>, language| match language {
        Language::Go(passes) => template::translate(text, passes).unwrap().into(),
        _ => Arc::clone(text),
    };
    let source = |source: &TemplateSource| TemplateSource {
        text: text(&source.text, source.language),
        language: Language::Minijinja,
        ..source.clone()
    };
    let payload = |payload: &Payload| match payload {
        Payload::Template(template) => Payload::Template(source(template)),
        Payload::Composed(composed) => {
            let Composed { name, object, texts, values, hidden } = &**composed;
            let all = |all: &[(_, TemplateSource)]| {
                all.iter()
                    .map(|(pointer, it): &(fleet_core::policy::JsonPointer, _)| (pointer.clone(), source(it)))
                    .collect()
            };
            let (texts, values) = (all(texts), all(values));
            Payload::Composed(Arc::new(Composed {
                name: name.clone(),
                object: object.clone(),
                texts,
                values,
                hidden: hidden.clone(),
            }))
        }
        other => other.clone(),
    };
    let mut ours = theirs.clone();
    ours.action = ours.action.map(|action| text(&action.as_str().into(), ours.language).to_string());
    ours.language = Language::Minijinja;
    ours.payload = ours.payload.iter().map(payload).collect();
    ours.local = ours.local.iter().map(payload).collect();
    for reference in &mut ours.resources {
        reference.name = text(&reference.name, reference.language);
        reference.namespace = reference.namespace.as_ref().map(|it| text(it, reference.language));
        reference.language = Language::Minijinja;
    }
    ours
}

/// So that a field which is taken as it is cannot be forgotten above: whoever reads a mapping tells, of one that it does not
/// know, which it does.
#[test]
fn these_manifests_use_every_field() {
    let (mut known, mut used) = (BTreeSet::new(), BTreeSet::new());
    for document in documents(EVERYTHING) {
        let kind = document["kind"].as_str().unwrap().to_owned();
        if !document["apiVersion"].as_str().unwrap().contains("projectsveltos.io") {
            continue;
        }
        let mut mappings = Vec::new();
        find_mappings(&document["spec"], "/spec".to_owned(), &mut mappings);
        for pointer in mappings {
            let mut segments: Vec<&str> = pointer.split('/').skip(1).collect();
            segments.retain(|segment| segment.parse::<usize>().is_err());
            // What is within a spec, triggers and profiles have in common.
            let kind = if segments.len() == 1 { format!("{kind} ") } else { String::new() };
            let at = |field: &str| format!("{kind}{}.{field}", segments.join("."));
            let fields = document.pointer(&pointer).and_then(Value::as_object).unwrap();
            used.extend(fields.keys().map(|field| at(field)));
            let mut strange = document.clone();
            strange.pointer_mut(&pointer).unwrap()["nobodyKnows"] = json!("x");
            let problems = read([strange]).problems;
            let told =
                problems.iter().find_map(|it| it.reason.split_once("unknown field `nobodyKnows`, expected "));
            let Some((_, expected)) = told else { continue };
            known.extend(expected.split('`').skip(1).step_by(2).map(at));
        }
    }
    let unused: Vec<_> = known.difference(&used).collect();
    assert!(unused.is_empty(), "everything.yaml does not use {unused:?}");
    // So that it is seen that this sees anything.
    for field in [
        "spec.resourceSelectors.labelFilters.operation",
        "EventTrigger spec.maxUpdate",
        "spec.helmCharts.options.upgradeOptions.maxHistory",
    ] {
        assert!(known.contains(field), "{known:?}");
    }
}

fn find_mappings(value: &Value, pointer: String, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                find_mappings(
                    value,
                    format!("{pointer}/{}", name.replace('~', "~0").replace('/', "~1")),
                    found,
                );
            }
            found.push(pointer);
        }
        Value::Array(items) => {
            for (index, value) in items.iter().enumerate() {
                find_mappings(value, format!("{pointer}/{index}"), found);
            }
        }
        _ => {}
    }
}

/// A cluster's version of Kubernetes stands in another label of a Cluster than of a SveltosCluster.
#[test]
fn what_selects_by_version_selects_by_the_label_of_ours() {
    let anew = converted(
        "apiVersion: config.projectsveltos.io/v1beta1\nkind: ClusterProfile\nmetadata: {name: p}\nspec:\n  clusterSelector:\n    \
         matchLabels: {projectsveltos.io/k8s-version: v1.30.0}\n    matchExpressions: [{key: projectsveltos.io/k8s-version, \
         operator: Exists}]\n  policyRefs: [{kind: ConfigMap, namespace: default, name: c}]\n---\napiVersion: v1\nkind: \
         ConfigMap\nmetadata: {name: c, annotations: {projectsveltos.io/template: ok}}\ndata:\n  a: 'name: {{ index \
         .Cluster.metadata.labels \"projectsveltos.io/k8s-version\" }}'\n---\napiVersion: \
         lib.projectsveltos.io/v1beta1\nkind: SveltosCluster\nmetadata: {name: c, namespace: civo, labels: \
         {projectsveltos.io/k8s-version: v1.30.0}}\n",
    );
    assert_eq!(anew.matches("fleet-events.dev/kubernetes-version").count(), 4, "{anew}");
    assert!(!anew.contains("projectsveltos.io/k8s-version"), "{anew}");
}
