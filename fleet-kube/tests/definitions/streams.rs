//! Dead letters, duplicates and replays.

use fleet_kube::definitions::DeadLetterStream;

use super::*;

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
