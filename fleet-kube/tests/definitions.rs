//! What users see when they write definitions: what comes out of good ones, and one clear problem for each mistake.

// Clippy takes only test functions for tests, not what they call.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use fleet_core::catalog::{OriginRule, Payload};
use fleet_core::cluster::ClusterId;
use fleet_core::render::TemplateKind;
use fleet_kube::api::DeliverFrom;
use fleet_kube::connection::Connection;
use fleet_kube::definitions::{
    DeadLetterStream, Definitions, Fault, NatsAuth, Problem, RawObject, Transport,
};
use secrecy::ExposeSecret;

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
    assert_eq!(&*trigger.source, "user-operation");
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

/// Each edit of the story, and the one problem that it gives.
#[test]
fn each_mistake_gives_one_clear_problem() {
    for (good, bad, expected) in [
        (
            "  syncMode: Continuous",
            "  syncMod: Continuous",
            "f.yaml:28: EventTrigger manage-namespace: spec.syncMod: unknown field `syncMod`, expected one of \
             `eventSourceName`, `sourceClusterSelector`, `destinationClusterSelector`, `oneForEvent`, \
             `cloudEventAction`, `key`, `filters`, `policyRefs`, `syncMode`, `serviceAccountName`, \
             `serviceAccountNamespace`",
        ),
        (
            "syncMode: Continuous",
            "syncMode: continuous",
            "f.yaml:28: EventTrigger manage-namespace: spec.syncMode: unknown variant `continuous`, expected one of \
             `Continuous`, `OneTime`, `ContinuousWithDriftDetection`, `DryRun`",
        ),
        (
            "syncMode: Continuous",
            "syncMode: ContinuousWithDriftDetection",
            "f.yaml:28: EventTrigger manage-namespace: spec.syncMode: ContinuousWithDriftDetection is not supported \
             yet; set syncMode: Continuous",
        ),
        (
            "  oneForEvent: true\n",
            "",
            "f.yaml:23: EventTrigger manage-namespace: spec: a trigger without oneForEvent is not supported yet; set \
             oneForEvent: true",
        ),
        (
            "oneForEvent: true",
            "oneForEvent: \"true\"",
            "f.yaml:27: EventTrigger manage-namespace: spec.oneForEvent: invalid type: string \"true\", expected a \
             boolean",
        ),
        (
            "  eventSourceName: user-operation\n",
            "",
            "f.yaml:23: EventTrigger manage-namespace: spec: missing field `eventSourceName`",
        ),
        (
            "eventSourceName: user-operation",
            "eventSourceName: user-operations",
            "f.yaml:24: EventTrigger manage-namespace: spec.eventSourceName: EventSource user-operations does not \
             exist; create it, or delete the trigger and name another source",
        ),
        (
            "matchLabels: {env: production}\n",
            "matchLabels: {env: -production}\n",
            "f.yaml:25: EventTrigger manage-namespace: spec.sourceClusterSelector: \"-production\" is no value of a \
             label (env): expected at most 63 letters, digits, '-', '_', '.', beginning and ending with a letter or \
             digit",
        ),
        (
            "matchLabels: {env: production}\n",
            "matchLabels: {replicas: 3}\n",
            "f.yaml:26: EventTrigger manage-namespace: spec.sourceClusterSelector.matchLabels.replicas: invalid type: \
             integer `3`, expected a string; quote it",
        ),
        (
            "    name: namespace\n",
            "    name: namespaces\n",
            "f.yaml:30: EventTrigger manage-namespace: spec.policyRefs[0]: ConfigMap default/namespaces does not \
             exist; create it, or correct the reference",
        ),
        (
            "    namespace: default\n",
            "",
            "f.yaml:30: EventTrigger manage-namespace: spec.policyRefs[0]: missing field `namespace`",
        ),
        (
            "  http: {}\n",
            "  http:\n",
            "f.yaml:15: EventSource user-operation: spec.http: is empty; write http: {} if there is nothing to set",
        ),
        (
            "  http: {}\n",
            "  http: {}\n  nats: {urls: [a], subjects: [b]}\n",
            "f.yaml:14: EventSource user-operation: spec: exactly one of http, nats must be set; found http and nats",
        ),
        (
            "  - exact: {source: auth.example.com}\n",
            "  - exact: {Source: auth.example.com}\n",
            "f.yaml:17: EventSource user-operation: spec.filters[0].exact.Source: is no attribute of an event: those \
             have lower case letters and digits only, as type, source, subject",
        ),
        (
            "  - exact: {source: auth.example.com}\n",
            "  - equals: {source: auth.example.com}\n",
            "f.yaml:16: EventSource user-operation: spec.filters[0]: unknown variant `equals`, expected one of `exact`, \
             `prefix`, `suffix`, `all`, `any`, `not`",
        ),
        (
            "  - exact: {source: auth.example.com}\n",
            "  - exact: {source: auth.example.com}\n    prefix: {type: auth}\n",
            "f.yaml:16: EventSource user-operation: spec.filters[0]: must be a mapping with exactly one key; write one \
             item of the list for each",
        ),
        (
            "    matchLabels: {env: production}\n",
            "    []\n",
            "f.yaml:25: EventTrigger manage-namespace: spec.sourceClusterSelector: is a list; a mapping was expected",
        ),
        (
            "  directory: {}\n",
            "  directory: {}\n  inCluster: {}\n",
            "f.yaml:7: Cluster civo/production1: spec: exactly one of kubeconfigSecretRef, kubeconfigFile, directory, \
             inCluster must be set; found directory and inCluster",
        ),
        (
            "  directory: {}\n",
            "  kubeconfigSecretRef: {name: production1-kubeconfig}\n",
            "f.yaml:8: Cluster civo/production1: spec.kubeconfigSecretRef: Secret civo/production1-kubeconfig does \
             not exist; create it, or correct the reference",
        ),
        (
            "  name: production1\n",
            "  name: Production 1\n",
            "f.yaml:4: metadata.name: \"Production 1\" must consist of lower case letters, digits, '-' and '.'",
        ),
        (
            "  labels: {env: production}\n",
            "  lables: {env: production}\n",
            "f.yaml:6: Cluster civo/production1: metadata.lables: unknown field `lables`, expected one of `name`, \
             `namespace`, `labels`, `annotations`",
        ),
        (
            "    fleet-events.dev/template: \"true\"\n",
            "    fleet-events.dev/template: true\n",
            "f.yaml:40: ConfigMap default/namespace: metadata.annotations[\"fleet-events.dev/template\"]: invalid \
             type: boolean `true`, expected a string; quote it",
        ),
        (
            "kind: EventSource\n",
            "kind: Eventsource\n",
            "f.yaml:11: kind: Eventsource \"user-operation\" has no meaning here; expected Cluster, EventSource or \
             EventTrigger of fleet-events.dev/v1alpha1, or ConfigMap or Secret of v1. What is to be applied to \
             clusters belongs into a ConfigMap that a trigger refers to",
        ),
    ] {
        assert!(STORY.contains(good), "{good}");
        let definitions = read(&STORY.replacen(good, bad, 1));
        let found = problems(&definitions);
        let (first, others): (Vec<&String>, Vec<&String>) =
            found.iter().partition(|one| one.starts_with(expected));
        assert_eq!(first.len(), 1, "{bad}\nexpected {expected}\nfound    {}", found.join("\n         "));
        // What cannot be used is missed by the trigger that refers to it; nothing else has a problem.
        assert!(
            others.iter().all(|one| one.contains(": EventTrigger manage-namespace: spec.")),
            "{others:?}"
        );
        assert!(others.len() <= 1, "{others:?}");
    }
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

    let definitions = read(&STORY.replace("oneForEvent: true", "oneForEvent: false"));
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

fn nats(secret: &str) -> Definitions {
    read(&format!(
        r#"apiVersion: fleet-events.dev/v1alpha1
kind: EventSource
metadata:
  name: orders
spec:
  nats:
    connectionSecretRef: {{namespace: nats, name: connection}}
    subjects: ["fleet.*.*.orders"]
    jetStream: {{stream: orders, durable: fleet, deliverFrom: new, ackWait: 1m30s, maxAckPending: 500}}
  origin:
    subjectTokens: {{namespace: 1, name: 2}}
---
apiVersion: v1
kind: Secret
metadata:
  name: connection
  namespace: nats
stringData:
{secret}
"#
    ))
}

#[test]
fn a_nats_connection_is_resolved() {
    let definitions = nats("  url: \"nats://a:4222\"\n  user: fleet\n  password: \"hunter2\\n\"");
    assert_eq!(problems(&definitions), Vec::<String>::new());
    assert_eq!(
        definitions.catalog.sources["orders"].origin,
        Some(OriginRule::SubjectTokens { namespace: 1, name: 2 })
    );
    let Transport::Nats(nats) = &definitions.transports["orders"] else { panic!() };
    assert_eq!(nats.servers, ["nats://a:4222"]);
    let NatsAuth::UserPassword { user, password } = &nats.auth else { panic!() };
    assert_eq!((user.as_str(), password.expose_secret()), ("fleet", "hunter2"));
    let stream = nats.jet_stream.as_ref().unwrap();
    assert_eq!(stream.deliver_from, DeliverFrom::New);
    assert_eq!(stream.ack_wait, Some(Duration::from_secs(90)));
    assert!(!format!("{definitions:?}").contains("hunter2"));
}

const STREAMED: &str = r#"apiVersion: fleet-events.dev/v1alpha1
kind: EventSource
metadata:
  name: orders
spec:
  nats:
    urls: ["nats://a:4222"]
    subjects: ["orders.>"]
    jetStream: {stream: orders, create: true}
  deadLetter:
    jetStream:
      stream: dead
      subject: dead.orders
      create: true
  dedupe:
    by: sourceId
    window: 10m
  replay: 2
"#;

#[test]
fn dead_letters_duplicates_and_replays_are_understood() {
    let definitions = read(STREAMED);
    assert_eq!(problems(&definitions), Vec::<String>::new());
    assert_eq!(definitions.catalog.sources["orders"].dedupe, Some(Duration::from_secs(600)));
    let Transport::Nats(nats) = &definitions.transports["orders"] else { panic!() };
    assert_eq!(nats.jet_stream.as_ref().unwrap().replay, 2);
    let letters =
        DeadLetterStream { stream: "dead".to_owned(), subject: "dead.orders".to_owned(), create: true };
    assert_eq!(nats.dead_letters, Some(letters));

    let plain = read(&STREAMED.replace("      subject: dead.orders\n      create: true\n", ""));
    let Transport::Nats(nats) = &plain.transports["orders"] else { panic!() };
    let letters = nats.dead_letters.as_ref().unwrap();
    assert_eq!((letters.subject.as_str(), letters.create), ("fleet.dead-letters", false));
}

/// Each edit of the source, and the one problem that it gives.
#[test]
fn each_mistake_about_dead_letters_duplicates_and_replays_gives_one_clear_problem() {
    for (good, bad, expected) in [
        (
            "      stream: dead\n",
            "      stream: orders\n",
            "f.yaml:12: EventSource orders: spec.deadLetter.jetStream.stream: orders is the stream that is read; name \
             another one",
        ),
        (
            "      stream: dead\n",
            "      stream: dead.orders\n",
            "f.yaml:12: EventSource orders: spec.deadLetter.jetStream.stream: must be a name: not empty, without \
             spaces and any of . * > / \\",
        ),
        (
            "      stream: dead\n",
            "",
            "f.yaml:9: EventSource orders: spec.deadLetter.jetStream: missing field `stream`",
        ),
        (
            "subject: dead.orders",
            "subject: orders.dead",
            "f.yaml:13: EventSource orders: spec.deadLetter.jetStream.subject: is read by this EventSource itself \
             (\"orders.>\" in spec.nats.subjects), so that each dead letter would come back as an event; choose \
             another subject",
        ),
        (
            "subject: dead.orders",
            "subject: dead.*",
            "f.yaml:13: EventSource orders: spec.deadLetter.jetStream.subject: \"dead.*\" is no beginning of a \
             subject: no * or >",
        ),
        (
            "subject: dead.orders",
            "subject: dead.",
            "f.yaml:13: EventSource orders: spec.deadLetter.jetStream.subject: \"dead.\" is no subject: between dots \
             there must be something",
        ),
        (
            "window: 10m",
            "window: 500ms",
            "f.yaml:17: EventSource orders: spec.dedupe.window: must be between 1s and 24h",
        ),
        (
            "window: 10m",
            "window: 25h",
            "f.yaml:17: EventSource orders: spec.dedupe.window: must be between 1s and 24h",
        ),
        (
            "window: 10m",
            "window: 1 day",
            "f.yaml:17: EventSource orders: spec.dedupe.window: \"1 day\" has an unknown unit; write a duration such \
             as 30s, 1m30s or 500ms",
        ),
        (
            "by: sourceId",
            "by: id",
            "f.yaml:16: EventSource orders: spec.dedupe.by: unknown variant `id`, expected `sourceId`",
        ),
        (
            "replay: 2",
            "replay: -1",
            "f.yaml:18: EventSource orders: spec.replay: invalid value: integer `-1`, expected u32",
        ),
        (
            "    jetStream: {stream: orders, create: true}\n",
            "",
            "f.yaml:17: EventSource orders: spec.replay: is for JetStream: nothing else keeps events to deliver again; \
             set nats.jetStream",
        ),
        (
            "{stream: orders, create: true}",
            "{stream: orders, deliverFrom: new}",
            "f.yaml:18: EventSource orders: spec.replay: with deliverFrom: new would skip what was not read yet; set \
             deliverFrom: all",
        ),
    ] {
        assert!(STREAMED.contains(good), "{good}");
        assert_eq!(problems(&read(&STREAMED.replacen(good, bad, 1))), [expected]);
    }
    let by_http = STREAMED.replace(
        "  nats:\n    urls: [\"nats://a:4222\"]\n    subjects: [\"orders.>\"]\n    jetStream: {stream: orders, create: true}\n",
        "  http: {}\n",
    );
    assert_eq!(
        problems(&read(&by_http)),
        [
            "f.yaml:7: EventSource orders: spec.deadLetter: is for NATS: what arrives by HTTP is answered with the \
             reason, and kept in the operator's store",
            "f.yaml:15: EventSource orders: spec.replay: is for JetStream: nothing else keeps events to deliver again",
        ]
    );
}

#[test]
fn a_replay_cannot_be_lowered_in_a_folder() {
    let good = read(STREAMED);
    let lowered =
        after(&good, &STREAMED.replace("replay: 2", "replay: 1").replace("window: 10m", "window: 1m"));
    assert_eq!(
        problems(&lowered),
        [
            "f.yaml:18: EventSource orders: spec.replay: may only grow, and was 2; undo the edit. Until then the \
             EventSource stays as it was"
        ]
    );
    assert_eq!(lowered.problems[0].fault, Fault::Immutable);
    assert_eq!(lowered.transports, good.transports);
    assert_eq!(lowered.catalog.sources, good.catalog.sources);
    let raised = after(&lowered, &STREAMED.replace("replay: 2", "replay: 3"));
    assert_eq!(problems(&raised), Vec::<String>::new());
    assert_ne!(raised.transports, good.transports);
}

#[test]
fn a_bad_connection_secret_names_the_key_and_never_the_value() {
    for (secret, expected) in [
        ("  user: hunter2", "has no key url, and spec.nats.urls is not set; name a server in one of them"),
        ("  url: a\n  user: hunter2", "has the key user without password; add password"),
        (
            "  url: a\n  token: hunter2\n  nkey: hunter2",
            "has the keys token and nkey; keep one way to log in",
        ),
        (
            "  url: a\n  username: hunter2",
            ", key username is unknown; a connection has the keys url, urls, user",
        ),
        (
            "  url: nats://fleet:hunter2@a",
            ", key url: holds credentials; put them under the keys user and password",
        ),
        ("  url: http://hunter2", ", key url: is no URL of a NATS server; write nats://host:4222"),
        ("  url: a\n  token: \"\"", ", key token is empty"),
        ("  url: a\n  tls.crt: hunter2", "has the key tls.crt without tls.key; add tls.key"),
        ("  url: a\n  ca.crt: hunter2", ", key ca.crt is no PEM text with a CERTIFICATE"),
    ] {
        let definitions = nats(secret);
        let found = problems(&definitions);
        assert_eq!(found.len(), 1, "{found:?}");
        let start = "f.yaml:7: EventSource orders: spec.nats.connectionSecretRef: Secret nats/connection";
        assert!(found[0].starts_with(start), "{}", found[0]);
        assert!(found[0].contains(expected), "{}", found[0]);
        assert!(!format!("{found:?} {definitions:?}").contains("hunter2"), "{found:?}");
        assert!(definitions.transports.is_empty() && definitions.catalog.sources.contains_key("orders"));
    }
    let number = nats("  url: a\n  token: 12345");
    assert!(number.problems.iter().any(|one| one.to_string()
        == "f.yaml:20: Secret nats/connection: stringData.token: must be a text; quote it"));
    assert!(!format!("{number:?}").contains("12345"));
}

#[test]
fn a_secret_of_the_api_is_decoded() {
    let secret = |data: serde_json::Value| {
        RawObject::in_api(serde_json::json!({"apiVersion": "v1", "kind": "Secret", "type": "Opaque",
            "metadata": {"name": "kc", "namespace": "civo", "uid": "u", "managedFields": []}, "data": data}))
    };
    let cluster = RawObject::in_api(
        serde_json::json!({"apiVersion": "fleet-events.dev/v1alpha1", "kind": "Cluster",
        "metadata": {"name": "c", "namespace": "civo", "generation": 1}, "spec": {"kubeconfigSecretRef": {"name": "kc"}},
        "status": {"conditions": []}}),
    );
    let kubeconfig = |data| {
        let definitions = Definitions::read([cluster.clone(), secret(data)], Vec::new(), None);
        let Connection::KubeconfigSecret { name, kubeconfig } = definitions.clusters[0].connection.clone()
        else {
            panic!()
        };
        assert_eq!(name, "Secret civo/kc, key kubeconfig");
        (kubeconfig.map(|text| text.expose_secret().to_owned()), problems(&definitions))
    };
    let (text, none) = kubeconfig(serde_json::json!({"kubeconfig": "YXBpVmVyc2lvbjog\ndjE="}));
    assert_eq!((text.as_deref(), none.len()), (Ok("apiVersion: v1"), 0));
    for (data, expected) in [
        (
            serde_json::json!({"kubeconfig": "hunter2!"}),
            "Secret civo/kc, key kubeconfig is no base64; use stringData for plain text",
        ),
        (serde_json::json!({"kubeconfig": "/w=="}), "Secret civo/kc, key kubeconfig is no UTF-8 text"),
        (serde_json::json!({"value": ""}), "Secret civo/kc has no key kubeconfig; it has value"),
        (serde_json::Value::Null, "Secret civo/kc has no key kubeconfig; it is empty"),
    ] {
        let (text, found) = kubeconfig(data);
        assert_eq!(text, Err(expected.to_owned()));
        assert_eq!(found, [format!("Cluster civo/c: spec.kubeconfigSecretRef: {expected}")]);
    }
}

#[test]
fn a_kubeconfig_file_is_found_beside_its_manifest_and_only_in_folders() {
    let yaml = STORY.replace("directory: {}", "kubeconfigFile: ../c.kubeconfig");
    let definitions = Definitions::read(objects("clusters/f.yaml", &yaml), Vec::new(), None);
    let Connection::KubeconfigFile(path) = &definitions.clusters[0].connection else { panic!() };
    assert_eq!(path, Path::new("clusters/../c.kubeconfig"));
    let cluster =
        RawObject::in_api(serde_json::json!({"apiVersion": "fleet-events.dev/v1alpha1", "kind": "Cluster",
        "metadata": {"name": "c", "namespace": "civo"}, "spec": {"kubeconfigFile": "/root/.kube/config"}}));
    let definitions = Definitions::read([cluster], Vec::new(), None);
    assert!(!matches!(definitions.clusters[0].connection, Connection::KubeconfigFile(_)));
    assert!(
        definitions.problems[0].to_string().contains("works only in a folder"),
        "{:?}",
        problems(&definitions)
    );
}
