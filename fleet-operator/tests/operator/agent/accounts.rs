//! The accounts that are printed, and nothing else.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::{Fleet, set};
use crate::manifests::{account, manifests, may};

/// What an account may do in a namespace: each verb on each resource, by name where it is one.
fn rules(fleet: &Fleet, kubeconfig: &Path, namespace: &str) -> BTreeSet<String> {
    let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview",
        "spec": {"namespace": namespace}});
    let create = ["create", "--raw", "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", "-f", "-"];
    let review = fleet.rig.kubectl_ok(kubeconfig, &create, &review.to_string());
    let status = serde_json::from_str::<Value>(&review).unwrap()["status"].take();
    assert_eq!(status["incomplete"], false);
    let texts = |value: &Value| -> Vec<String> {
        let all = value.as_array().into_iter().flatten();
        all.map(|text| text.as_str().unwrap().to_owned()).collect()
    };
    let mut all = BTreeSet::new();
    for rule in status["resourceRules"].as_array().unwrap() {
        let mut names = texts(&rule["resourceNames"]);
        if names.is_empty() {
            names.push("*".to_owned());
        }
        for verb in texts(&rule["verbs"]) {
            for resource in texts(&rule["resources"]) {
                all.extend(names.iter().map(|name| format!("{verb} {resource} {name}")));
            }
        }
    }
    all
}

#[test]
fn hub_and_agent_do_their_work_with_exactly_the_accounts_that_are_printed() {
    let fleet = Fleet::start();
    let management = fleet.rig.management();
    fleet.register(0, &[]);
    let printed = manifests(&["--agent-namespace", "prod1", "--read-namespace", "default"]);
    fleet.rig.kubectl_ok(&management, &["apply", "--server-side", "-f", "-"], &printed);
    let of_hub = account(&fleet.rig, "fleet-events");
    let hub = fleet.rig.home.run(|run| {
        run.env("KUBECONFIG", &of_hub).args(["--agent-silent-after", "4s", "--store", "kubernetes"])
    });
    fleet.tell(0, "nats", json!({"subjects": ["users.>"]}));
    let agent = fleet.agent(0, &[]);
    fleet.reads(0);
    fleet.until_seen(0, "True", "AgentConnected");
    fleet.publish(0, "login", "anna");
    fleet.until_names(0, &["anna"]);
    fleet.until_mirrored(0, &set(&["anna"]));
    fleet.publish(0, "login", "berta");
    fleet.publish(0, "logout", "anna");
    fleet.until_names(0, &["berta"]);
    fleet.until_mirrored(0, &set(&["berta"]));
    // Both are refused nothing of what they ask for.
    for log in [fleet.rig.home.log(), fleet.homes[0].log()] {
        assert!(!log.contains("orbidden"), "{log}");
    }

    // All that the agent may do at the hub, beside what anybody may who has an account there.
    let of_agent = fleet.dir.path().join("agent-at-hub.kubeconfig");
    let text = fleet.hub_kubeconfig(0);
    assert!(text.contains("token") && !text.contains("client-key"), "a token is all that it has");
    fs::write(&of_agent, text).unwrap();
    let nobody = fleet.dir.path().join("nobody.kubeconfig");
    fs::copy(&management, &nobody).unwrap();
    fleet.rig.kubectl_ok(&management, &["create", "serviceaccount", "nobody", "-n", "prod1"], "");
    let token = fleet.rig.kubectl_ok(&management, &["create", "token", "nobody", "-n", "prod1"], "");
    fleet.rig.kubectl_ok(&nobody, &["config", "set-credentials", "nobody", "--token", token.trim()], "");
    fleet.rig.kubectl_ok(&nobody, &["config", "set-context", "--current", "--user", "nobody"], "");
    let own = |namespace: &str| -> BTreeSet<String> {
        let anybody = rules(&fleet, &nobody, namespace);
        rules(&fleet, &of_agent, namespace).difference(&anybody).cloned().collect()
    };
    let name = "fleet-agent-cluster1";
    let mut expected: BTreeSet<String> = BTreeSet::new();
    expected.extend(["get", "list", "watch"].map(|verb| format!("{verb} secrets {name}")));
    expected.extend(["get", "patch"].map(|verb| format!("{verb} leases {name}")));
    expected
        .extend(["get", "list", "create", "patch", "delete"].map(|verb| format!("{verb} appliedworks *")));
    expected.extend(["list", "create", "patch"].map(|verb| format!("{verb} relayedevents *")));
    expected.insert(format!("create serviceaccounts/token {name}"));
    assert_eq!(own("prod1"), expected);
    for namespace in ["default", "fleet-events", "kube-system", "prod2"] {
        assert_eq!(own(namespace), BTreeSet::new(), "{namespace}");
    }
    // What holds in all namespaces would show in each of them; asked for as such, too.
    for what in [
        &["list", "secrets", "-A"][..],
        &["list", "appliedworks.fleet-events.dev", "-A"],
        &["list", "clusters.fleet-events.dev", "-A"],
        &["get", "nodes"],
        &["create", "namespaces"],
        &["impersonate", "users"],
    ] {
        assert!(!may(&fleet.rig, &of_agent, what), "{what:?}");
    }

    // And for the hub: only where an agent is does it write Secrets and Leases.
    assert!(may(&fleet.rig, &of_hub, &["patch", "secrets", "-n", "prod1"]));
    for what in [
        &["get", "secrets", "-n", "prod1"][..],
        &["list", "secrets", "-n", "prod1"],
        &["delete", "secrets", "-n", "prod1"],
        &["create", "secrets", "-n", "prod2"],
        &["patch", "leases.coordination.k8s.io", "-n", "prod2"],
    ] {
        assert!(!may(&fleet.rig, &of_hub, what), "{what:?}");
    }
    assert!(agent.stop().success() && hub.stop().success());
}
