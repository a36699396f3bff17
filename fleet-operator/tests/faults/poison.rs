//! Bad messages among good ones: each is put aside with its reason, and none stops another.

use std::collections::BTreeMap;

use async_nats::HeaderMap;
use serde_json::Value;

use crate::bad_messages::{Bad, bad_messages, good};
use crate::books::Books;
use crate::feed::Feed;
use crate::objects::Objects;
use crate::service::Service;
use crate::stage::{stage, wait_for};
use crate::wait::until;
use crate::world::World;

const GOOD: usize = 1_000;
const BAD: usize = 100;
/// Every so many-th good event lacks what the template asks for.
const LACKS_QUOTA: usize = 10;

const DEFINITIONS: &str = r#"kubectl apply -f - <<'END'
apiVersion: fleet-events.dev/v1alpha1
kind: EventSource
metadata: {name: users}
spec:
  nats:
    connectionSecretRef: {namespace: default, name: nats}
    jetStream: {stream: users}
  origin: {extension: origin}
  maxEventBytes: 4096
---
apiVersion: fleet-events.dev/v1alpha1
kind: EventTrigger
metadata: {name: poison}
spec:
  eventSourceName: users
  sourceClusterSelector: {matchLabels: {env: production}}
  oneForEvent: true
  key: '{{ event.data.key }}'
  cloudEventAction: '{{ event.data.action }}'
  policyRefs: [{kind: ConfigMap, namespace: default, name: poison}]
END"#;

/// The template, which asks for the quota in this way.
fn template(world: &World, quota: &str) {
    let template = r#"kubectl apply -f - <<'END'
apiVersion: v1
kind: ConfigMap
metadata: {namespace: default, name: poison, annotations: {fleet-events.dev/template: "true"}}
data:
  it.yaml: |
    apiVersion: v1
    kind: ConfigMap
    metadata:
      namespace: default
      name: {{ event.subject }}
      annotations: {login: "{{ event.id }}"}
    data:
      quota: "{{ QUOTA }}"
END"#;
    world.sh(&template.replace("QUOTA", quota));
}

#[test]
fn bad_messages_are_put_aside_and_stop_nothing() {
    let world = World::with_management("poison");
    world.register("cluster1", "env=production");
    world.sh(&crate::world::nats_secret("\"$NATS_PASSWORD\""));
    world.sh(DEFINITIONS);
    template(&world, "event.data.quota");
    let feed = Feed::create(&world);
    let service = Service::start(&world);
    world.ready("eventsource/users");

    let mut bad: BTreeMap<u64, Bad> = BTreeMap::new();
    let mut waiting = bad_messages(BAD).into_iter();
    for number in 0..GOOD {
        let payload = good(number, number % LACKS_QUOTA != 0).to_string().into();
        wait_for(feed.publish(&format!("good-{number}"), &HeaderMap::new(), &payload));
        if number % (GOOD / BAD) == 0 {
            let message = waiting.next().unwrap();
            bad.insert(message.publish(&format!("bad-{number}"), &world, &feed), message);
        }
    }
    assert_eq!(bad.len(), BAD);

    until("all is read and settled", || match feed.progress()? {
        progress if progress.is_complete() => Ok(()),
        progress => Err(format!("{progress:?}\n{}", world.log())),
    });
    let letters = |kind: &str| {
        let rows = world.home.dead_letters();
        rows.into_iter().filter(|row| row["kind"] == kind).collect::<Vec<Value>>()
    };
    let refused = letters("Event");
    assert_eq!(refused.len(), BAD, "each once");
    assert!(refused.iter().all(|row| !row["detail"].as_str().unwrap().is_empty()), "{refused:#?}");

    let objects = Objects::of(&stage().lab().clusters()[0]);
    let count = GOOD - GOOD / LACKS_QUOTA;
    let names = || objects.marked().map(|marked| marked.into_keys().collect::<Vec<String>>());
    let stalled = until("what can be applied is applied, and the rest is stalled", || {
        let (there, stalled) = (names()?.len(), letters("Work"));
        if (there, stalled.len()) == (count, GOOD / LACKS_QUOTA) {
            return Ok(stalled);
        }
        Err(format!("{there} applied, {} stalled\n{}", stalled.len(), world.log()))
    });
    for row in &stalled {
        let detail = row["detail"].as_str().unwrap();
        let parts = ["ConfigMap default/poison", "it.yaml", "line 8", "event.data.quota"];
        assert!(
            row["reason"] == "TemplateError" && parts.iter().all(|part| detail.contains(part)),
            "{row:#?}"
        );
    }
    template(&world, "event.data.quota | default(0)");
    until("the mended template has applied what it stalled", || {
        let (there, stalled) = (names()?, letters("Work"));
        match there.len() {
            GOOD if stalled.is_empty() => Ok(()),
            there => Err(format!("{there} applied, {} stalled\n{}", stalled.len(), world.log())),
        }
    });

    assert!(service.stop().success());
    let books = Books::of(&world.home);
    let letters = books.letters.iter().map(|letter| (letter.position.as_ref().unwrap().sequence, letter));
    let letters: BTreeMap<u64, _> = letters.collect();
    assert_eq!(letters.len(), books.letters.len(), "each once");
    assert!(letters.keys().eq(bad.keys()), "{:?}", letters.keys());
    for (sequence, letter) in letters {
        let expected = &bad[&sequence];
        assert_eq!(letter.reason, expected.reason, "{}", letter.detail);
        assert!(letter.detail.contains(expected.detail), "{:?} in {:?}", expected.detail, letter.detail);
        assert!(letter.raw == expected.payload, "the original bytes of {}", letter.detail);
    }
    assert_eq!(books.works.len(), GOOD);
    assert!(!world.log().contains("hunter2") && !world.log().contains("panicked"), "{}", world.log());
}
