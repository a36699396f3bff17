//! ClusterProfiles.

use fleet_core::catalog::{Payload, profile_name};
use fleet_core::cluster::ClusterId;

use crate::{after, problems, read};

const MANIFESTS: &str = "apiVersion: v1\nkind: Secret\nmetadata: {name: nats, namespace: default}\nstringData:\n  \
                         nats.yaml: |\n    apiVersion: v1\n    kind: Secret\n    metadata: {name: sveltos-nats, \
                         namespace: projectsveltos}\n---\n";

fn profile(name: &str, rest: &str) -> String {
    format!(
        "apiVersion: fleet-events.dev/v1alpha1\nkind: ClusterProfile\nmetadata: {{name: {name}}}\nspec:\n  \
         policyRefs:\n  - {{kind: Secret, namespace: default, name: nats}}\n{rest}---\n"
    )
}

const EVERYWHERE: &str = "  clusterSelector: {}\n";

#[test]
fn a_profile_says_which_clusters_get_what() {
    let rest = "  clusterSelector: {matchLabels: {env: production}}\n  clusterRefs:\n  - {namespace: civo, name: one}\n  \
                dependsOn: [base, EventTrigger/t]\n";
    let trigger = "apiVersion: fleet-events.dev/v1alpha1\nkind: EventTrigger\nmetadata: {name: t}\nspec:\n  \
                   eventSourceName: s\n  sourceClusterSelector: {}\n  oneForEvent: true\n  policyRefs:\n  - {kind: \
                   Secret, namespace: default, name: nats}\n  dependsOn: [ClusterProfile/base]\n---\n\
                   apiVersion: fleet-events.dev/v1alpha1\nkind: EventSource\nmetadata: {name: s}\nspec: {http: {}}\n---\n";
    let text = format!("{MANIFESTS}{}{}{trigger}", profile("nats", rest), profile("base", EVERYWHERE));
    let definitions = read(&text);
    assert_eq!(problems(&definitions), [""; 0]);
    assert!(definitions.catalog.complete);
    let nats = &definitions.catalog.triggers[&profile_name("nats")];
    assert_eq!(nats.source, None);
    assert_eq!(nats.source_clusters.to_string(), "env=production");
    assert_eq!(nats.cluster_refs, [ClusterId::new("civo", "one").unwrap()].into());
    assert_eq!(nats.policy.depends_on, [profile_name("base"), "t".into()]);
    let [Payload::Template(template)] = &nats.payload[..] else { panic!("{:?}", nats.payload) };
    assert!(template.text.contains("sveltos-nats"));
    assert_eq!(definitions.catalog.triggers["t"].policy.depends_on, [profile_name("base")]);
}

#[test]
fn what_is_wrong_with_a_profile_is_told() {
    for (rest, expected) in [
        (
            "",
            "f.yaml:13: ClusterProfile p: spec: says of no cluster that it gets this; set clusterSelector, clusterRefs or both",
        ),
        (
            "  clusterSelector: {}\n  clusterRefs: [{namespace: A, name: b}]\n",
            "spec.clusterRefs[0]: cluster namespace \"A\"",
        ),
        (
            "  clusterSelector: {}\n  eventSourceName: x\n",
            "spec.eventSourceName: unknown field `eventSourceName`, expected one of",
        ),
        ("  clusterSelector: {}\n  dependsOn: [p]\n", "spec.dependsOn[0]: is its own name"),
        ("  clusterSelector: {}\n  dependsOn: [ClusterProfile/p]\n", "spec.dependsOn[0]: is its own name"),
        ("  clusterSelector: {}\n  dependsOn: [x/y]\n", "spec.dependsOn[0]: \"x/y\""),
        (
            "  clusterSelector: {}\n  dependsOn: [nobody]\n",
            "spec.dependsOn[0]: ClusterProfile nobody does not exist",
        ),
        ("  clusterSelector: {}\n  dependsOn: [EventTrigger/nobody]\n", "EventTrigger nobody does not exist"),
    ] {
        let found = problems(&read(&format!("{MANIFESTS}{}", profile("p", rest))));
        assert!(found.len() == 1 && found[0].contains(expected), "{rest}: {found:?}");
    }
}

#[test]
fn profiles_that_wait_for_each_other_are_named_and_the_last_good_ones_stay() {
    let rest = |others: &str| format!("{EVERYWHERE}  dependsOn: [{others}]\n");
    let text = |b: &str| format!("{MANIFESTS}{}{}", profile("a", &rest("b")), profile("b", &rest(b)));
    let circle = read(&text("a"));
    let found = problems(&circle);
    let expected = "ClusterProfile/a → ClusterProfile/b → ClusterProfile/a";
    assert!(found.len() == 2 && found.iter().all(|problem| problem.contains(expected)), "{found:?}");
    assert!(matches!(circle.catalog.triggers[&profile_name("a")].payload[..], [Payload::Missing { .. }]));
    let good = read(&text(""));
    assert_eq!(problems(&good), [""; 0]);
    let edited = after(&good, &text("a"));
    assert_eq!(problems(&edited).len(), 2);
    assert!(
        edited.catalog.triggers[&profile_name("b")].policy.depends_on.is_empty(),
        "the edit is taken back"
    );
}
