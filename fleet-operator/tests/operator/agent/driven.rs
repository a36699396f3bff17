//! What an agent does, and what it survives.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, Stdio};

use async_nats::jetstream::{self, stream};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::{Fleet, set};
use crate::process::{PROGRAM, event, eventually};

/// What a gzip holds.
fn unpacked(bytes: &[u8]) -> String {
    use std::io::Write as _;
    let mut gzip =
        Command::new("gzip").arg("-dc").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    gzip.stdin.take().unwrap().write_all(bytes).unwrap();
    String::from_utf8(gzip.wait_with_output().unwrap().stdout).unwrap()
}

#[test]
fn an_agent_does_in_its_cluster_what_the_hub_defines_and_may_do_no_more() {
    let fleet = Fleet::start();
    let hub = fleet.hub("file");
    let second = fleet.rig.kubeconfig(fleet.cluster(1)).display().to_string();
    fleet.register(0, &[]);
    fleet.register(1, &["--apply", "--kubeconfig", &second, "--token-lifetime", "10m"]);
    for index in [0, 1] {
        fleet.tell(index, "nats", json!({"subjects": ["users.>"]}));
    }
    let file = fleet.dir.path().join("second-at-hub.kubeconfig");
    fs::write(&file, fleet.hub_kubeconfig(1)).unwrap();
    let second_at_hub = ["--hub-kubeconfig", file.to_str().unwrap(), "--renew-token-at", "1%"];
    let agents = [fleet.agent(0, &[]), fleet.agent(1, &second_at_hub)];
    for index in [0, 1] {
        fleet.reads(index);
        let cluster = fleet.until_seen(index, "True", "AgentConnected");
        assert_eq!(cluster["status"]["drivenBy"], "agent");
        eventually("its version is known", || {
            fleet.seen(index)["status"]["version"].is_string().then_some(())
        });
    }
    let table = fleet.rig.kubectl_ok(&fleet.rig.management(), &["get", "fcl", "-A"], "");
    assert!(table.contains(" BY ") && table.contains(" agent "), "{table}");

    // An event stays in the cluster that it came from.
    fleet.publish(0, "login", "anna");
    fleet.until_names(0, &["anna"]);
    assert!(fleet.rig.namespace(fleet.cluster(0), "user-anna").is_some());
    assert!(fleet.names(1).is_empty());
    fleet.publish(1, "login", "anna");
    fleet.until_names(1, &["anna"]);
    fleet.publish(0, "logout", "anna");
    fleet.until_names(0, &[]);
    eventually("the namespace goes", || {
        fleet.rig.namespace(fleet.cluster(0), "user-anna").is_none().then_some(())
    });
    assert_eq!(fleet.names(1), set(&["anna"]));
    fleet.publish(0, "login", "berta");
    fleet.until_names(0, &["berta"]);

    // The hub shows it.
    fleet.until_mirrored(0, &set(&["berta"]));
    let addon = eventually("the hub shows it", || {
        let addons = fleet.rig.home.show("addons");
        addons.into_iter().find(|row| row["cluster"] == "prod1/cluster1" && row["name"] == "user-berta")
    });
    assert_eq!(
        (&addon["state"], &addon["profiles"][0]),
        (&json!("Applied"), &json!("EventTrigger/in-cluster1"))
    );
    let clusters = fleet.rig.home.show("clusters");
    assert!(clusters.iter().all(|row| row["connection"] == "agent" && row["ready"] == true), "{clusters:?}");
    let source = fleet.rig.home.show("sources").remove(0);
    assert_eq!((&source["ready"], &source["reason"]), (&json!(true), &json!("ReadByAgents")));

    // What is compiled for one holds nothing of the other.
    let args = ["get", "secret", "fleet-agent-cluster1", "-n", "prod1", "-o", "json"];
    let secret: Value =
        serde_json::from_str(&fleet.rig.kubectl_ok(&fleet.rig.management(), &args, "")).unwrap();
    let bundle = STANDARD.decode(secret["data"]["definitions.json.gz"].as_str().unwrap()).unwrap();
    let bundle = unpacked(&bundle);
    assert!(bundle.contains("in-cluster1") && bundle.contains("for-cluster1"), "{bundle}");
    assert!(!bundle.contains("cluster2"), "{bundle}");

    // What the agent may not do at the hub.
    let file = fleet.dir.path().join("agent-at-hub.kubeconfig");
    fs::write(&file, fleet.hub_kubeconfig(0)).unwrap();
    let other =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"namespace": "prod1", "name": "other"}});
    fleet.at_hub(&other);
    let may = |args: &[&str]| {
        let output = fleet.rig.kubectl(&file, args, "");
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() || told.contains("orbidden"), "{args:?}: {told}");
        output.status.success()
    };
    assert!(may(&["get", "secret", "fleet-agent-cluster1", "-n", "prod1"]));
    assert!(may(&["get", "appliedworks", "-n", "prod1"]));
    for args in [
        &["get", "secret", "other", "-n", "prod1"][..],
        &["get", "secrets", "-n", "prod1"],
        &["get", "secret", "fleet-agent-cluster2", "-n", "prod2"],
        &["get", "appliedworks", "-n", "prod2"],
        &["get", "appliedworks", "-A"],
        &["get", "clusters.fleet-events.dev", "-n", "prod1"],
        &["label", "secret", "fleet-agent-cluster1", "-n", "prod1", "a=b"],
        &["get", "eventtriggers"],
        &["get", "configmaps", "-n", "default"],
        &["create", "token", "default", "-n", "prod1"],
        &["get", "namespaces"],
    ] {
        assert!(!may(args), "{args:?}");
    }

    // One is silent: nothing is withdrawn, and nobody says that it is as it was.
    let states = || {
        let addons = fleet.rig.home.show("addons");
        let of = |cluster: &str| {
            addons
                .iter()
                .filter(|row| row["cluster"] == cluster)
                .map(|row| row["state"].clone())
                .collect::<Vec<_>>()
        };
        (of("prod1/cluster1"), of("prod2/cluster2"))
    };
    eventually("what is gone is shown no more", || {
        (states() == (vec![json!("Applied"); 2], vec![json!("Applied"); 2])).then_some(())
    });
    let [one, two] = agents;
    one.signal("-STOP");
    let cluster = fleet.until_seen(0, "False", "AgentSilent");
    let message = cluster["status"]["conditions"][0]["message"].as_str().unwrap();
    assert!(message.contains("nothing is withdrawn"), "{message}");
    assert_eq!(states(), (vec![json!("Unknown"); 2], vec![json!("Applied"); 2]));
    assert_eq!(fleet.names(0), set(&["berta"]));
    one.signal("-CONT");
    fleet.until_seen(0, "True", "AgentConnected");
    assert_eq!(states().0, vec![json!("Applied"); 2]);

    // A renewed token is kept beside a kubeconfig that was given as a file.
    let kept = fleet.homes[1].data().join("hub-kubeconfig.json");
    eventually("a renewed token is kept", || kept.is_file().then_some(()));

    // Another definition arrives at once; two in one namespace are refused.
    let second = json!({"apiVersion": "fleet-events.dev/v1alpha1", "kind": "Cluster",
        "metadata": {"namespace": "prod2", "name": "second"}, "spec": {"agent": {}}});
    fleet.at_hub(&second);
    fleet.until_seen(1, "False", "Invalid");
    fleet.rig.kubectl_ok(
        &fleet.rig.management(),
        &["delete", "fcl", "second", "-n", "prod2", "--wait=false"],
        "",
    );

    // Taken out: the agent withdraws what is there, and the Cluster goes with all that was its.
    let deregister = Command::new(PROGRAM)
        .args(["deregister", "cluster", "cluster1", "-n", "prod1"])
        .env("KUBECONFIG", fleet.rig.management())
        .output()
        .unwrap();
    assert!(deregister.status.success(), "{}", String::from_utf8_lossy(&deregister.stderr));
    fleet.until_names(0, &[]);
    eventually("all goes with the Cluster", || {
        let what = "secret,lease,role,rolebinding,serviceaccount,appliedwork";
        let output = fleet.rig.kubectl(
            &fleet.rig.management(),
            &["get", what, "-n", "prod1", "-o", "name", "-l", "fleet-events.dev/agent"],
            "",
        );
        output.stdout.is_empty().then_some(())
    });
    assert!(one.stop().success() && two.stop().success() && hub.stop().success());
}

#[test]
fn the_hub_may_be_away_and_an_agent_may_be_killed_and_nothing_is_lost() {
    let fleet = Fleet::start();
    let hub = fleet.hub("kubernetes");
    fleet.register(0, &["--token-lifetime", "10m"]);
    let users = fleet.rig.runtime.block_on(async {
        let context = jetstream::new(fleet.client(0).await);
        let subjects = vec!["users.>".to_owned()];
        let users = stream::Config { name: "users".to_owned(), subjects, ..Default::default() };
        context.create_stream(users).await.unwrap();
        context
    });
    let publish = |what: &str, user: &str, id: usize| {
        fleet.rig.runtime.block_on(async {
            let mut event: Value = serde_json::from_str(&event(what, user)).unwrap();
            event["id"] = json!(id.to_string());
            let sent = users.publish(format!("users.{user}"), event.to_string().into()).await;
            sent.unwrap().await.unwrap();
        });
    };
    fleet.tell(0, "jetstream", json!({"streams": [{"name": "users", "subjects": ["users.>"]}]}));
    let issued = |kubeconfig: &str| -> i64 {
        let (_, token) = kubeconfig.split_once("token").unwrap();
        let token = token.trim_start_matches(['"', ':', ' ']);
        let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
        serde_json::from_slice::<Value>(&claims).unwrap()["iat"].as_i64().unwrap()
    };
    let first = issued(&fleet.hub_kubeconfig(0));
    // One percent of ten minutes: the token is renewed after six seconds.
    let agent = fleet.agent(0, &["--renew-token-at", "1%"]);
    fleet.reads(0);
    publish("login", "anna", 0);
    fleet.until_names(0, &["anna"]);
    fleet.until_seen(0, "True", "AgentConnected");
    eventually(&format!("the token is renewed\n{}", fleet.logs()), || {
        (issued(&fleet.hub_kubeconfig(0)) > first).then_some(())
    });
    fleet.until_mirrored(0, &set(&["anna"]));

    // The hub is away; the agent is killed in the middle of many events, and starts without a hub.
    fleet.rig.runtime.block_on(fleet.rig.lab.management().unwrap().api_server().kill()).unwrap();
    for id in 0..60 {
        publish("login", &format!("user{id}"), id);
    }
    eventually("it is at it", || (fleet.names(0).len() > 5).then_some(()));
    agent.kill();
    for id in 60..80 {
        publish("login", &format!("user{id}"), id);
    }
    publish("logout", "anna", 0);
    let agent = fleet.agent(0, &["--renew-token-at", "1%"]);
    let all: BTreeSet<String> = (0..80).map(|id| format!("user{id}")).collect();
    eventually(&format!("all is there\n{}", fleet.logs()), || (fleet.names(0) == all).then_some(()));
    let ids: BTreeSet<String> = fleet.rig.notes_in(fleet.cluster(0)).into_values().collect();
    assert_eq!(ids.len(), 80);
    let works = fleet.kubectl(0, &["get", "works", "-n", "fleet-events", "-o", "name"], "");
    assert!(works.lines().count() <= 81, "one for each user, and perhaps a tombstone");

    // It comes back, and catches up.
    fleet.rig.runtime.block_on(fleet.rig.lab.management().unwrap().api_server().start()).unwrap();
    fleet.until_mirrored(0, &all);
    fleet.until_seen(0, "True", "AgentConnected");
    // What is mirrored is no record of the hub's own store.
    eventually(&format!("the hub shows each once\n{}", fleet.logs()), || {
        let addons = fleet.rig.home.show("addons");
        (addons.len() == 160 && addons.iter().all(|row| row["state"] == "Applied")).then_some(())
    });
    assert!(!fleet.rig.home.log().contains("AppliedWork prod1/"), "{}", fleet.rig.home.log());
    let consumer = fleet.rig.runtime.block_on(async {
        let stream = users.get_stream("users").await.unwrap();
        stream.consumer_info("fleet-users_prod1_cluster1").await.unwrap()
    });
    assert_eq!(consumer.num_pending, 0);

    // An edit at the hub reaches the agent.
    let no_note = json!({"data": {"note.yaml": "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: user-{{ event.subject }}\n"}});
    let patch =
        ["patch", "configmap", "for-cluster1", "-n", "default", "--type=merge", "-p", &no_note.to_string()];
    fleet.rig.kubectl_ok(&fleet.rig.management(), &patch, "");
    fleet.until_names(0, &[]);
    assert!(fleet.rig.namespace(fleet.cluster(0), "user-user79").is_some());
    assert!(agent.stop().success() && hub.stop().success());
}
