//! NATS is away, does not take the password, or lacks the stream: each is told, and heals by itself.

use crate::process::event;
use crate::stage::{cluster, wait_for};
use crate::world::{World, nats_secret};

/// A second source with a trigger, which must not notice anything.
const OVER_HTTP: &str = r#"kubectl apply -f - <<'END'
apiVersion: fleet-events.dev/v1alpha1
kind: EventSource
metadata: {name: over-http}
spec: {http: {}}
---
apiVersion: fleet-events.dev/v1alpha1
kind: EventTrigger
metadata: {name: over-http}
spec:
  eventSourceName: over-http
  sourceClusterSelector: {matchLabels: {env: production}}
  oneForEvent: true
  cloudEventAction: Create
  policyRefs: [{kind: ConfigMap, namespace: default, name: namespace}]
END"#;

#[test]
fn trouble_with_nats_is_told_and_heals() {
    let world = World::with_management("nats-trouble");
    world.register("cluster1", "env=production");
    world.apply_example();
    world.sh(OVER_HTTP);
    let (url, _, password) = world.access();
    let address = url.trim_start_matches("nats://");
    let log = || world.log();
    let says = |source: &str, parts: &[&str]| {
        let object = format!("eventsource/{source}");
        let condition = world.condition(&object, |ready| {
            ready["status"] == "False"
                && parts.iter().all(|part| ready["message"].as_str().unwrap_or_default().contains(part))
        });
        let message = condition["message"].as_str().unwrap();
        println!("{}: {message}", condition["reason"]);
        assert!(world.log().contains(message), "{message}\nis not in the log:\n{}", world.log());
        assert!(world.log().contains(&format!("source={source}")), "{}", world.log());
    };

    wait_for(world.nats().server().stop()).unwrap();
    let operator = world.start();
    world.ready("clusters.fleet-events.dev/cluster1 -n civo");
    says("user-operation", &[address, "refused"]);
    operator.accepts(&event("login", "nats-down"));
    cluster(1).gets("nats-down", log);
    wait_for(world.nats().server().start()).unwrap();
    world.ready("eventsource/user-operation");
    world.publish("user-operation", &event("login", "nats-up"));
    cluster(1).gets("nats-up", log);

    world.sh(&nats_secret("wrong-password"));
    says("user-operation", &["password"]);
    operator.accepts(&event("login", "wrong-password"));
    cluster(1).gets("wrong-password", log);
    world.sh(&nats_secret("\"$NATS_PASSWORD\""));
    world.ready("eventsource/user-operation");
    world.publish("user-operation", &event("login", "right-password"));
    cluster(1).gets("right-password", log);

    world.sh(
        r#"kubectl patch eventsource user-operation --type merge -p '{"spec":{"nats":{"jetStream":{"stream":"users"}}}}'"#,
    );
    says("user-operation", &["users", "create"]);
    operator.accepts(&event("login", "no-stream"));
    cluster(1).gets("no-stream", log);
    world.sh("nats stream add users --subjects user-operation --defaults");
    world.ready("eventsource/user-operation");
    world.publish("user-operation", &event("login", "with-stream"));
    cluster(1).gets("with-stream", log);

    let log = world.log();
    assert!(!log.contains(&password) && !log.contains("wrong-password") && !log.contains("hunter2"), "{log}");
    println!("{log}");
    assert!(operator.stop().success());
}
