//! How what a trigger renders is kept, which triggers wait for which, and when keys expire.

use fleet_core::policy::{JsonPointer, MaxUpdate, Policy, StopMatching, SyncMode, Target};

use super::*;

/// The story, and these fields in the trigger's spec. They begin at line 29.
fn with(fields: &str) -> String {
    STORY.replacen("  syncMode: Continuous\n", &format!("  syncMode: Continuous\n{fields}"), 1)
}

fn policy(yaml: &str) -> Arc<Policy> {
    let definitions = read(yaml);
    assert_eq!(problems(&definitions), Vec::<String>::new());
    definitions.catalog.triggers["manage-namespace"].policy.clone()
}

#[test]
fn what_is_not_said_is_as_in_sveltos() {
    assert_eq!(*policy(&STORY.replace("  syncMode: Continuous\n", "")), Policy::default());
    let trigger = &read(STORY).catalog.triggers["manage-namespace"];
    assert!(trigger.one_for_event);
    assert_eq!(trigger.ttl, None);
}

#[test]
fn everything_that_is_said_is_handed_over() {
    for (written, mode) in [
        ("OneTime", SyncMode::OneTime),
        ("Continuous", SyncMode::Continuous),
        ("ContinuousWithDriftDetection", SyncMode::ContinuousWithDriftDetection),
        ("DryRun", SyncMode::DryRun),
    ] {
        let yaml = STORY.replace("syncMode: Continuous", &format!("syncMode: {written}"));
        assert_eq!(policy(&yaml).sync, mode);
    }
    let policy = policy(&with(
        r#"  driftExclusions:
  - paths: [/spec/replicas, /metadata/annotations/a~1b]
    target: {group: apps, version: v1, kind: Deployment, namespace: web, name: front}
  - paths: [/data]
    target: {group: "", kind: ConfigMap}
  continueOnConflict: true
  adopt: true
  tier: 7
  skipNamespaceCreation: true
  maxUpdate: 30%
  stopMatchingBehavior: LeavePolicies
  validateHealths:
  - name: storage
    group: storage.k8s.io
    version: v1
    kind: StorageClass
    evaluateCEL:
    - {name: bound, rule: 'object.status.phase == "Bound"'}
    - {name: named, rule: 'object.metadata.name != ""'}
  - name: pods
    version: v1
    kind: Pod
    namespace: web
    evaluateCEL: [{name: ip, rule: has(object.status.podIP)}]
"#,
    ));
    let [first, second] = &policy.drift_exclusions[..] else { panic!("{policy:?}") };
    let pointer = |text| JsonPointer::parse(text).unwrap();
    assert_eq!(first.paths, [pointer("/spec/replicas"), pointer("/metadata/annotations/a~1b")]);
    let target =
        |group: &str, version: Option<&str>, kind: &str, namespace: Option<&str>, name: Option<&str>| {
            Target {
                group: Some(group.into()),
                version: version.map(Into::into),
                kind: Some(kind.into()),
                namespace: namespace.map(Into::into),
                name: name.map(Into::into),
            }
        };
    assert_eq!(first.target, Some(target("apps", Some("v1"), "Deployment", Some("web"), Some("front"))));
    assert_eq!(second.target, Some(target("", None, "ConfigMap", None, None)));
    assert!(policy.continue_on_conflict && policy.adopt && policy.skip_namespace_creation);
    assert_eq!((policy.tier, policy.max_update), (7, Some(MaxUpdate::Percent(30))));
    assert_eq!(policy.stop_matching, StopMatching::LeavePolicies);
    let checks: Vec<_> =
        policy.health_checks.iter().map(|check| (&*check.name, &*check.expression)).collect();
    assert_eq!(
        checks,
        [
            ("storage/bound", r#"object.status.phase == "Bound""#),
            ("storage/named", r#"object.metadata.name != """#),
            ("pods/ip", "has(object.status.podIP)"),
        ]
    );
    assert_eq!(
        policy.health_checks[1].target,
        target("storage.k8s.io", Some("v1"), "StorageClass", None, None)
    );
    assert_eq!(policy.health_checks[2].target, target("", Some("v1"), "Pod", Some("web"), None));

    let number =
        read(&with("  maxUpdate: 3\n  ttl: 1h30m\n").replace("oneForEvent: true", "oneForEvent: false"));
    assert_eq!(problems(&number), Vec::<String>::new());
    let trigger = &number.catalog.triggers["manage-namespace"];
    assert_eq!(trigger.policy.max_update, Some(MaxUpdate::Clusters(3)));
    assert_eq!(trigger.ttl, Some(Duration::from_secs(5400)));
    assert!(!trigger.one_for_event);
}

/// Each value, and the one problem that it gives.
#[test]
fn each_mistake_about_keeping_gives_one_clear_problem() {
    for (fields, expected) in [
        ("  tier: 0\n", "29: …: spec.tier: must be at least 1; the lowest tier wins"),
        ("  tier: high\n", "29: …: spec.tier: invalid type: string \"high\", expected u32"),
        ("  adopt: 1\n", "29: …: spec.adopt: invalid type: integer `1`, expected a boolean"),
        (
            "  maxUpdate: 0\n",
            "29: …: spec.maxUpdate: 0 is neither a number of clusters, from 1, nor a share, from \"1%\" to \"100%\"",
        ),
        (
            "  maxUpdate: 101%\n",
            "29: …: spec.maxUpdate: \"101%\" is neither a number of clusters, from 1, nor a share, from \"1%\" to \"100%\"",
        ),
        (
            "  maxUpdate: \"30\"\n",
            "29: …: spec.maxUpdate: \"30\" is neither a number of clusters, from 1, nor a share, from \"1%\" to \"100%\"",
        ),
        (
            "  stopMatchingBehavior: Leave\n",
            "29: …: spec.stopMatchingBehavior: unknown variant `Leave`, expected `WithdrawPolicies` or `LeavePolicies`",
        ),
        (
            "  driftExclusions:\n  - paths:\n    - spec.replicas\n",
            "30: …: spec.driftExclusions[0].paths[0]: \"spec.replicas\" must begin with /, as in /spec/replicas",
        ),
        (
            "  driftExclusions:\n  - paths: []\n",
            "30: …: spec.driftExclusions[0].paths: names no field; name at least one, as /spec/replicas",
        ),
        (
            "  driftExclusions:\n  - paths: [/a]\n    target: {kinds: Pod}\n",
            "31: …: spec.driftExclusions[0].target.kinds: unknown field `kinds`, expected one of `group`, `version`, \
             `kind`, `namespace`, `name`",
        ),
        (
            "  driftExclusions:\n  - paths: [/a]\n    target:\n      version: \"\"\n",
            "32: …: spec.driftExclusions[0].target.version: is empty; leave the field out to mean any",
        ),
        (
            "  driftExclusions: {paths: [/a]}\n",
            "29: …: spec.driftExclusions: invalid type: map, expected a sequence",
        ),
        (
            "  validateHealths:\n  - name: a\n    version: v1\n    kind: Pod\n",
            "29: …: spec.validateHealths[0]: missing field `evaluateCEL`",
        ),
        (
            "  validateHealths:\n  - name: a\n    version: v1\n    kind: Pod\n    evaluateCEL: []\n",
            "33: …: spec.validateHealths[0].evaluateCEL: has no rule; write at least one",
        ),
        (
            "  validateHealths:\n  - name: a\n    version: v1\n    kind: Pod\n    evaluateCEL:\n    - name: b\n      \
             rule: \" \"\n",
            "35: …: spec.validateHealths[0].evaluateCEL[0].rule: is empty; write a CEL expression over object",
        ),
        (
            "  validateHealths:\n  - name: a\n    version: v1\n    kind: Pod\n    evaluateCEL:\n    - name: b\n      \
             rule: object.a ==\n",
            "35: …: spec.validateHealths[0].evaluateCEL[0].rule: check a/b: line 1, column 12: mismatched input '<EOF>'",
        ),
        (
            "  dependsOn: [manage-namespace]\n",
            "29: …: spec.dependsOn[0]: is its own name: it would wait for itself for ever; remove it",
        ),
        (
            "  dependsOn: [No_Name]\n",
            "29: …: spec.dependsOn[0]: \"No_Name\" must consist of lower case letters, digits, '-' and '.'",
        ),
        ("  dependsOn: [base, base]\n", "29: …: spec.dependsOn[1]: base is named twice"),
        ("  ttl: 30\n", "29: …: spec.ttl: invalid type: integer `30`, expected a string; quote it"),
        (
            "  ttl: 1d\n",
            "29: …: spec.ttl: \"1d\" has an unknown unit; write a duration such as 30s, 1m30s or 500ms",
        ),
        ("  ttl: 500ms\n", "29: …: spec.ttl: must be at least 1s"),
    ] {
        let expected = format!("f.yaml:{}", expected.replace('…', "EventTrigger manage-namespace"));
        assert_eq!(problems(&read(&with(fields))), [expected], "{fields}");
    }
}

const OTHERS: &str = r#"---
apiVersion: fleet-events.dev/v1alpha1
kind: EventTrigger
metadata:
  name: base
spec:
  eventSourceName: user-operation
  sourceClusterSelector: {}
  oneForEvent: true
  policyRefs: [{kind: ConfigMap, namespace: default, name: namespace}]
"#;

#[test]
fn a_trigger_waits_for_others_that_exist() {
    let waiting = with("  dependsOn: [base]\n");
    let unknown = read(&waiting);
    assert_eq!(
        problems(&unknown),
        [
            "f.yaml:29: EventTrigger manage-namespace: spec.dependsOn[0]: EventTrigger base does not exist; create it, or \
          correct the name; until then nothing more is applied"
        ]
    );
    assert_eq!(unknown.problems[0].fault, Fault::MissingReference);
    let depends_on = |definitions: &Definitions, name: &str| -> Vec<String> {
        let policy = &definitions.catalog.triggers[name].policy;
        policy.depends_on.iter().map(ToString::to_string).collect()
    };
    assert_eq!(depends_on(&unknown, "manage-namespace"), ["base"], "it waits all the same");
    assert!(unknown.catalog.complete);

    let known = read(&format!("{waiting}{OTHERS}"));
    assert_eq!(problems(&known), Vec::<String>::new());
    assert_eq!(depends_on(&known, "manage-namespace"), ["base"]);
    let broken = read(&format!("{waiting}{}", OTHERS.replace("oneForEvent: true", "oneForEvent: 1")));
    assert!(
        problems(&broken)
            .iter()
            .any(|one| one.ends_with("EventTrigger base cannot be used; correct it first")),
        "{:?}",
        problems(&broken)
    );
}

#[test]
fn triggers_that_wait_for_each_other_are_refused_and_named() {
    let waiting = with("  dependsOn: [base]\n");
    let good = read(&format!("{waiting}{OTHERS}"));
    let circle = format!(
        "{waiting}{}",
        OTHERS.replace("  oneForEvent", "  dependsOn: [manage-namespace]\n  oneForEvent")
    );
    let refused = "these wait for each other, so that nothing of theirs could ever be applied: base → \
                   manage-namespace → base; remove one of them from the dependsOn of another";
    let expected = [
        format!("f.yaml:29: EventTrigger manage-namespace: spec.dependsOn: {refused}"),
        format!("f.yaml:56: EventTrigger base: spec.dependsOn: {refused}"),
    ];

    // The edit that makes it is as good as not made.
    let mut edited = after(&good, &circle);
    for _ in 0..2 {
        assert_eq!(problems(&edited), expected);
        assert_eq!(edited.catalog.triggers, good.catalog.triggers);
        edited = after(&edited, &circle);
    }
    // From the start: events become Work, which stalls and says why.
    let mut fresh = read(&circle);
    for _ in 0..2 {
        assert_eq!(problems(&fresh), expected);
        for name in ["base", "manage-namespace"] {
            let payload = &fresh.catalog.triggers[name].payload;
            assert!(
                matches!(&payload[..], [Payload::Missing { reason }] if reason == refused),
                "{payload:?}"
            );
        }
        assert!(fresh.catalog.complete);
        fresh = after(&fresh, &circle);
    }
    let mended = after(&fresh, &format!("{waiting}{OTHERS}"));
    assert_eq!(problems(&mended), Vec::<String>::new());
    assert_eq!(mended.catalog.triggers, good.catalog.triggers);
}

/// Either way, or both.
#[test]
fn what_is_local_is_told_apart() {
    let refs = "  policyRefs:\n  - kind: ConfigMap\n    namespace: default\n    name: namespace\n";
    assert!(STORY.contains(refs), "the story has changed");
    let with_type =
        |more: &str| read(&STORY.replacen(refs, &format!("{refs}    deploymentType: Local\n{more}"), 1));
    let definitions = with_type("");
    assert_eq!(problems(&definitions), Vec::<String>::new());
    let trigger = &definitions.catalog.triggers["manage-namespace"];
    assert_eq!((trigger.payload.len(), trigger.local.len()), (0, 1));
    let Payload::Template(template) = &trigger.local[0] else { panic!("{:?}", trigger.local) };
    assert!(template.name.starts_with("ConfigMap default/namespace"), "{template:?}");
    let both = with_type("  - {kind: ConfigMap, namespace: default, name: namespace}\n");
    assert_eq!(problems(&both), Vec::<String>::new());
    let trigger = &both.catalog.triggers["manage-namespace"];
    assert_eq!((trigger.payload.len(), trigger.local.len()), (1, 1));
    let twice =
        with_type("  - {kind: ConfigMap, namespace: default, name: namespace, deploymentType: Local}\n");
    let found = problems(&twice);
    assert!(found.len() == 1 && found[0].contains("is named twice"), "{found:?}");
    let wrong = problems(&read(&STORY.replacen(refs, &format!("{refs}    deploymentType: local\n"), 1)));
    assert!(
        wrong.len() == 1 && wrong[0].contains("spec.policyRefs[0].deploymentType: unknown variant `local`"),
        "{wrong:?}"
    );
}
