//! Templates that are missing, or use what is not there: what they concern waits, and is done once they are mended.

use crate::process::event;
use crate::stage::cluster;
use crate::world::World;

#[test]
fn a_mended_template_does_what_waited_for_it() {
    let world = World::with_management("templates");
    world.register("cluster1", "env=production");
    world.apply_example();
    world.sh("kubectl delete configmap namespace");
    // The same events through another trigger with a template of its own, which must not notice anything.
    world.sh(r#"kubectl apply -f - <<'END'
apiVersion: fleet-events.dev/v1alpha1
kind: EventTrigger
metadata: {name: other}
spec:
  eventSourceName: user-operation
  sourceClusterSelector: {matchLabels: {env: production}}
  oneForEvent: true
  cloudEventAction: Create
  policyRefs: [{kind: ConfigMap, namespace: default, name: other}]
---
apiVersion: v1
kind: ConfigMap
metadata: {namespace: default, name: other, annotations: {fleet-events.dev/template: "true"}}
data:
  it.yaml: |
    apiVersion: v1
    kind: Namespace
    metadata:
      name: other-{{ event.subject }}
END"#);
    let says = |parts: &[&str]| {
        let condition = world.condition("eventtrigger/manage-namespace", |ready| {
            parts.iter().all(|part| ready["message"].as_str().unwrap_or_default().contains(part))
        });
        let message = condition["message"].as_str().unwrap();
        println!("{}: {}: {message}", condition["status"], condition["reason"]);
        assert!(parts.iter().all(|part| world.log().contains(part)), "{}", world.log());
    };
    let operator = world.start();
    world.ready("eventsource/user-operation");
    world.ready("eventtrigger/other");
    let log = || world.log();
    says(&["ConfigMap default/namespace", "does not exist"]);
    world.publish("user-operation", &event("login", "no-template"));
    cluster(1).gets("other-no-template", log);
    assert!(cluster(1).namespace("no-template").is_none());
    world.sh("kubectl apply -f examples/user-namespaces/event-trigger.yaml");
    cluster(1).gets("no-template", log);
    world.ready("eventtrigger/manage-namespace");

    world.sh("sed 's/event.subject/event.sbject/' examples/user-namespaces/event-trigger.yaml | kubectl apply -f -");
    // Only an event shows that there is no such thing.
    world.publish("user-operation", &event("login", "bad-template"));
    cluster(1).gets("other-bad-template", log);
    says(&["ConfigMap default/namespace", "namespace.yaml", "line 4", "event.sbject"]);
    assert!(cluster(1).namespace("bad-template").is_none());
    assert!(cluster(1).uid("no-template").is_some(), "what was rendered last stays");
    world.sh("kubectl apply -f examples/user-namespaces/event-trigger.yaml");
    cluster(1).gets("bad-template", log);
    world.condition("eventtrigger/manage-namespace", |ready| ready["message"] == "listening");
    assert!(world.log().contains("nothing is stalled any more"), "{}", world.log());
    let log = world.log();
    assert!(!log.contains("hunter2"), "{log}");
    println!("{log}");
    assert!(operator.stop().success());
}
