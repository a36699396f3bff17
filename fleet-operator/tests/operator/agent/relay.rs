//! Triggers that put something into other clusters, with events that an agent reads.

use std::process::Command;

use async_nats::jetstream::{self, stream};
use serde_json::{Value, json};

use super::{Fleet, set};
use crate::process::{Operator, PROGRAM, event, eventually};

/// A cluster with an agent, whose events concern another one that the hub drives.
struct Across {
    fleet: Fleet,
    context: jetstream::Context,
}

const CONSUMER: &str = "fleet-users_prod1_cluster1_relay";

impl Across {
    /// The agent reads a stream.
    fn start() -> Self {
        Self::reading("jetstream", json!({"streams": [{"name": "users", "subjects": ["users.>"]}]}))
    }

    /// All is published to a stream, and read as told.
    fn reading(kind: &str, how: Value) -> Self {
        let fleet = Fleet::start();
        fleet.register(0, &[]);
        let second = fleet.rig.kubeconfig(fleet.cluster(1));
        let output = Command::new(PROGRAM)
            .args([
                "register",
                "cluster",
                "cluster2",
                "-n",
                "prod2",
                "--labels",
                "role=workload",
                "--kubeconfig",
            ])
            .arg(second)
            .env("KUBECONFIG", fleet.rig.management())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let note = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  namespace: default\n  \
                    name: {{ event.subject }}\ndata:\n  id: '{{ event.id }}'\n  of: '{{ origin.name }}'\n";
        fleet.at_hub(&json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"namespace": "default", "name": "across",
                "annotations": {"fleet-events.dev/template": "true"}},
            "data": {"note.yaml": note}}));
        fleet.at_hub(&json!({"apiVersion": "fleet-events.dev/v1alpha1", "kind": "EventTrigger",
            "metadata": {"name": "across"},
            "spec": {"eventSourceName": "users", "oneForEvent": true,
                "sourceClusterSelector": {"matchLabels": {"name": "cluster1"}},
                "destinationClusterSelector": {"matchLabels": {"role": "workload"}},
                "cloudEventAction":
                    "{% if event.type == \"auth.example.com.logout\" %}Delete{% else %}Create{% endif %}",
                "policyRefs": [{"kind": "ConfigMap", "namespace": "default", "name": "across"}]}}));
        let context = fleet.rig.runtime.block_on(async {
            let context = jetstream::new(fleet.client(0).await);
            let subjects = vec!["users.>".to_owned()];
            let users = stream::Config { name: "users".to_owned(), subjects, ..Default::default() };
            context.create_stream(users).await.unwrap();
            context
        });
        fleet.tell(0, kind, how);
        Self { fleet, context }
    }

    fn publish(&self, what: &str, user: &str, id: &str) {
        let mut event: Value = serde_json::from_str(&event(what, user)).unwrap();
        event["id"] = json!(id);
        self.fleet.rig.runtime.block_on(async {
            let sent = self.context.publish(format!("users.{user}"), event.to_string().into()).await;
            sent.unwrap().await.unwrap();
        });
    }

    /// How many messages the agent has not acknowledged for the hub; nothing while nobody can tell.
    fn unacknowledged(&self) -> Option<usize> {
        self.fleet.rig.runtime.block_on(async {
            let stream = self.context.get_stream("users").await.ok()?;
            let consumer = stream.consumer_info(CONSUMER).await.ok()?;
            Some(consumer.num_ack_pending + usize::try_from(consumer.num_pending).unwrap())
        })
    }

    /// The events that wait at the hub.
    fn waiting(&self) -> Vec<Value> {
        let args = ["get", "relayedevents", "-n", "prod1", "-o", "json"];
        let output = self.fleet.rig.kubectl(&self.fleet.rig.management(), &args, "");
        let list: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let items = list["items"].as_array().cloned().unwrap_or_default();
        items.into_iter().filter(|item| !item["spec"]["event"].is_null()).collect()
    }

    fn until_none_waits(&self) {
        eventually(&format!("none waits at the hub\n{}", self.fleet.logs()), || {
            (self.unacknowledged() == Some(0) && self.waiting().is_empty()).then_some(())
        });
    }

    /// The generation of the hub's Work about a user.
    fn generation(&self, user: &str) -> Option<i64> {
        let args = ["get", "works", "-n", "fleet-events", "-o", "json"];
        let output = self.fleet.rig.kubectl(&self.fleet.rig.management(), &args, "");
        let list: Value = serde_json::from_slice(&output.stdout).ok()?;
        let works = list["items"].as_array()?;
        let work = works.iter().find(|it| it["spec"]["key"]["about"]["subject"] == user)?;
        assert_eq!(work["spec"]["origin"], "prod1/cluster1");
        work["spec"]["generation"].as_i64()
    }

    fn hub_stops_answering(&self) {
        let management = self.fleet.rig.lab.management().unwrap();
        self.fleet.rig.runtime.block_on(management.api_server().kill()).unwrap();
    }

    fn hub_answers(&self) {
        let management = self.fleet.rig.lab.management().unwrap();
        self.fleet.rig.runtime.block_on(management.api_server().start()).unwrap();
    }

    fn hub(&self) -> Operator<'_> {
        self.fleet.hub("kubernetes")
    }
}

#[test]
fn events_of_an_agent_do_their_work_in_other_clusters() {
    let across = Across::start();
    let fleet = &across.fleet;
    let hub = across.hub();
    let agent = fleet.agent(0, &[]);
    fleet.reads(0);
    fleet.until_seen(0, "True", "AgentConnected");
    across.publish("login", "anna", "1");
    fleet.until_names(1, &["anna"]);
    // Here as well, by the trigger that is for the cluster alone; and the other one does nothing here.
    fleet.until_names(0, &["anna"]);
    let of = ["get", "configmap", "anna", "-o", "jsonpath={.data.of}"];
    assert_eq!(fleet.kubectl(1, &of, ""), "cluster1");
    across.until_none_waits();
    across.publish("login", "berta", "2");
    across.publish("logout", "anna", "1");
    fleet.until_names(1, &["berta"]);
    fleet.until_names(0, &["berta"]);
    // Once it is told that nothing older comes, what is gone is forgotten.
    eventually(&format!("the Work is forgotten\n{}", fleet.logs()), || {
        across.generation("anna").is_none().then_some(())
    });

    // The agent cannot speak for another cluster: where an event is from, its namespace says.
    let file = fleet.dir.path().join("agent-at-hub.kubeconfig");
    std::fs::write(&file, fleet.hub_kubeconfig(0)).unwrap();
    let forged = |namespace: &str, domain: &str| {
        use base64::Engine as _;
        let mut event: Value = serde_json::from_str(&event("logout", "berta")).unwrap();
        event["id"] = json!("forged");
        event["origin"] = json!("prod2/cluster2");
        let body = base64::engine::general_purpose::STANDARD.encode(event.to_string());
        json!({"apiVersion": "fleet-events.dev/v1alpha1", "kind": "RelayedEvent",
            "metadata": {"namespace": namespace, "name": "forged"},
            "spec": {"source": "users", "event": {
                "position": format!("{domain}@9000000000.1"), "published": "2026-01-01T00:00:00Z", "body": body}}})
        .to_string()
    };
    let create = ["create", "--validate=false", "-f", "-"];
    let elsewhere = fleet.rig.kubectl(&file, &create, &forged("prod2", "x"));
    assert!(String::from_utf8_lossy(&elsewhere.stderr).contains("orbidden"), "{elsewhere:?}");
    // As if it came from the other cluster, and after everything: it is its own, in an order of its own.
    fleet.rig.kubectl_ok(&file, &create, &forged("prod1", "fleet-users_prod2_cluster2"));
    fleet.until_names(1, &[]);
    across.until_none_waits();
    across.publish("login", "berta", "3");
    fleet.until_names(1, &["berta"]);
    assert!(agent.stop().success() && hub.stop().success());
}

#[test]
fn nothing_is_lost_while_the_hub_is_away_or_somebody_is_killed() {
    let across = Across::start();
    let fleet = &across.fleet;
    let hub = across.hub();
    let agent = fleet.agent(0, &[]);
    fleet.reads(0);
    across.publish("login", "anna", "1");
    fleet.until_names(1, &["anna"]);
    across.until_none_waits();

    // No operator at the hub: events wait there.
    assert!(hub.stop().success());
    across.publish("login", "berta", "2");
    across.publish("logout", "anna", "1");
    eventually(&format!("both wait\n{}", fleet.logs()), || {
        (across.waiting().len() == 2 && across.unacknowledged() == Some(0)).then_some(())
    });
    fleet.until_names(0, &["berta"]);
    assert_eq!(fleet.names(1), set(&["anna"]));
    let hub = across.hub();
    fleet.until_names(1, &["berta"]);
    across.until_none_waits();

    // The hub's API server is away: they stay where they are, and what this cluster alone needs goes on.
    across.hub_stops_answering();
    across.publish("login", "carla", "3");
    fleet.until_names(0, &["berta", "carla"]);
    assert_eq!(across.unacknowledged(), Some(1));

    // Handed on, but not acknowledged: NATS is gone before that, and then the agent.
    fleet.rig.runtime.block_on(fleet.nats[0].server().kill()).unwrap();
    across.hub_answers();
    fleet.until_names(1, &["berta", "carla"]);
    eventually("it has been taken in", || across.waiting().is_empty().then_some(()));
    agent.kill();
    fleet.rig.runtime.block_on(fleet.nats[0].server().start()).unwrap();
    let agent = fleet.agent(0, &[]);
    across.publish("login", "dora", "4");
    fleet.until_names(1, &["berta", "carla", "dora"]);
    across.until_none_waits();
    assert_eq!(across.generation("carla"), Some(1), "it came twice, and counts once");
    across.publish("logout", "carla", "5");
    fleet.until_names(1, &["berta", "dora"]);
    assert!(agent.stop().success() && hub.stop().success());
}

/// Over HTTP and core NATS, where nothing waits to be delivered again.
#[test]
fn what_cannot_be_delivered_again_is_handed_on_too_and_expires_at_the_hub() {
    let across = Across::reading("nats", json!({"subjects": ["users.>"]}));
    let fleet = &across.fleet;
    fleet.at_hub(&json!({"apiVersion": "fleet-events.dev/v1alpha1", "kind": "EventSource",
        "metadata": {"name": "posted"}, "spec": {"http": {}}}));
    let mut trigger: Value = serde_json::from_str(&fleet.rig.kubectl_ok(
        &fleet.rig.management(),
        &["get", "eventtrigger", "across", "-o", "json"],
        "",
    ))
    .unwrap();
    trigger["metadata"] = json!({"name": "across-posted"});
    trigger["spec"]["eventSourceName"] = json!("posted");
    fleet.at_hub(&trigger);
    let hub = across.hub();
    let agent = fleet.agent(0, &[]);
    let ready = || fleet.homes[0].show("sources").iter().filter(|row| row["ready"] == true).count();
    eventually(&format!("both are read\n{}", fleet.logs()), || (ready() == 2).then_some(()));
    let post = |what: &str, user: &str| {
        let headers = [("Content-Type", "application/cloudevents+json")];
        agent.request("POST", "events", &headers, event(what, user).as_bytes()).0
    };
    assert_eq!(post("login", "anna"), 202);
    // As far as the hub is concerned: it is there, or was.
    fleet.until_names(1, &["anna"]);
    eventually(&format!("core NATS is read for the hub, too\n{}", fleet.logs()), || {
        across.publish("login", "berta", "1");
        fleet.names(1).contains("berta").then_some(())
    });
    across.hub_stops_answering();
    assert_eq!(post("logout", "anna"), 503, "the sender is told to send it again");
    across.publish("login", "carla", "2");
    fleet.until_names(0, &["berta", "carla"]);
    assert_eq!(fleet.names(1), set(&["anna", "berta"]));
    across.hub_answers();
    eventually(&format!("it is taken\n{}", fleet.logs()), || (post("logout", "anna") == 202).then_some(()));
    fleet.until_names(1, &["berta", "carla"]);

    // Nothing renews them, as the agent tells.
    let ttl = json!({"spec": {"ttl": "1s"}}).to_string();
    let patch = ["patch", "eventtrigger", "across", "--type=merge", "-p", &ttl];
    fleet.rig.kubectl_ok(&fleet.rig.management(), &patch, "");
    fleet.until_names(1, &[]);
    assert!(agent.stop().success() && hub.stop().success());
}

#[test]
fn a_destination_with_an_agent_is_told_to_be_out_of_reach() {
    let across = Across::start();
    let fleet = &across.fleet;
    let hub = across.hub();
    let condition = || -> Value {
        let args = ["get", "eventtrigger", "across", "-o", "json"];
        let trigger = fleet.rig.kubectl(&fleet.rig.management(), &args, "");
        let trigger: Value = serde_json::from_slice(&trigger.stdout).unwrap_or_default();
        trigger["status"]["conditions"][0].clone()
    };
    eventually("the trigger is ready", || (condition()["status"] == "True").then_some(()));
    fleet.at_hub(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "prod3"}}));
    fleet.at_hub(&json!({"apiVersion": "fleet-events.dev/v1alpha1", "kind": "Cluster",
        "metadata": {"namespace": "prod3", "name": "cluster3", "labels": {"role": "workload"}},
        "spec": {"agent": {}}}));
    let told = eventually("the trigger says so", || Some(condition()).filter(|it| it["status"] == "False"));
    let message = told["message"].as_str().unwrap();
    assert_eq!(told["reason"], "NotSupported");
    assert!(message.contains("selects clusters that agents drive: prod3/cluster3"), "{message}");

    // In the other clusters it does its work.
    let agent = fleet.agent(0, &[]);
    fleet.reads(0);
    across.publish("login", "anna", "1");
    fleet.until_names(1, &["anna"]);
    assert!(agent.stop().success() && hub.stop().success());
}
