//! What `manifests` prints: an API server takes it, the pod is what Pod Security calls restricted, and its account is
//! allowed what an operator needs, and no more.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::process::{Home, PROGRAM, event, eventually};
use crate::rig::Rig;

pub(crate) fn manifests(args: &[&str]) -> String {
    let output =
        Command::new(PROGRAM).args(["manifests", "--image", "fleet:test"]).args(args).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A kubeconfig with the token of the account that the manifests make.
pub(crate) fn account(rig: &Rig, namespace: &str) -> PathBuf {
    let token =
        rig.kubectl_ok(&rig.management(), &["create", "token", "fleet-operator", "-n", namespace], "");
    let kubeconfig = rig.home.folder().join(format!("{namespace}.account"));
    std::fs::copy(rig.management(), &kubeconfig).unwrap();
    rig.kubectl_ok(&kubeconfig, &["config", "set-credentials", "account", "--token", token.trim()], "");
    rig.kubectl_ok(&kubeconfig, &["config", "set-context", "--current", "--user", "account"], "");
    kubeconfig
}

/// Whether the account may do that, by its own token.
pub(crate) fn may(rig: &Rig, account: &Path, what: &[&str]) -> bool {
    let output = rig.kubectl(account, &[&["auth", "can-i"], what].concat(), "");
    match String::from_utf8_lossy(&output.stdout).trim() {
        "yes" => true,
        "no" => false,
        other => panic!("{what:?}: {other} {}", String::from_utf8_lossy(&output.stderr)),
    }
}

/// What an operator has no business with, wherever it keeps Works.
const NEVER: [&[&str]; 14] = [
    &["get", "secrets", "-n", "kube-system"],
    &["list", "secrets", "-n", "kube-system"],
    &["list", "secrets", "-A"],
    &["get", "secrets", "-n", "default"],
    &["create", "secrets", "-n", "default"],
    &["delete", "secrets", "-n", "civo"],
    &["list", "configmaps", "-A"],
    &["create", "namespaces"],
    &["delete", "namespaces"],
    &["delete", "clusters.fleet-events.dev", "-n", "civo"],
    &["create", "eventtriggers.fleet-events.dev"],
    &["create", "pods", "-n", "fleet-events"],
    &["create", "clusterrolebindings"],
    &["impersonate", "users"],
];

#[test]
fn an_api_server_takes_them_and_the_pod_is_restricted() {
    let rig = Rig::new(true, 0);
    let management = rig.management();
    for namespace in ["civo", "fleet-events", "fleet-file"] {
        rig.kubectl_ok(&management, &["create", "namespace", namespace], "");
    }
    for args in [
        &["--leader-elect", "--replicas", "2", "--read-namespace", "default,civo"][..],
        &[
            "--store=file",
            "--namespace=fleet-file",
            "--tls-secret=events-tls",
            "--client-ca-secret=senders",
            "--token-secret=tokens",
        ],
    ] {
        let yaml = manifests(args);
        // For kubectl's own apply too: nothing is too large for its annotation.
        for apply in [&["apply", "--dry-run=server", "-f", "-"][..], &["apply", "--server-side", "-f", "-"]] {
            let output = rig.kubectl(&management, apply, &yaml);
            let warnings = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{args:?}: {warnings}");
            assert!(!warnings.to_lowercase().contains("podsecurity"), "{warnings}");
        }
    }
    for namespace in ["fleet-events", "fleet-file"] {
        let deployment = rig.kubectl_ok(
            &management,
            &["get", "deployment", "fleet-operator", "-n", namespace, "-o", "json"],
            "",
        );
        let deployment: Value = serde_json::from_str(&deployment).unwrap();
        let pod = |spec: Value| json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod", "namespace": namespace}, "spec": spec});
        let create = ["create", "--dry-run=server", "-f", "-"];
        let spec = deployment["spec"]["template"]["spec"].clone();
        rig.kubectl_ok(&management, &create, &pod(spec.clone()).to_string());
        let mut loose = spec;
        loose["containers"][0]["securityContext"]["capabilities"] = json!({});
        let refused = rig.kubectl(&management, &create, &pod(loose).to_string());
        assert!(String::from_utf8_lossy(&refused.stderr).contains("violates PodSecurity \"restricted"));
    }
}

/// The pod reads what says who may send, is asked how it is over TLS, and is reached at the port of HTTPS.
#[test]
fn who_may_send_is_said_by_secrets() {
    let yaml = manifests(&["--tls-secret=events-tls", "--client-ca-secret=senders", "--token-secret=t"]);
    for expected in [
        "--tls-cert=/access/tls/tls.crt",
        "--tls-key=/access/tls/tls.key",
        "--client-ca=/access/client-ca/ca.crt",
        "--token-file=/access/tokens/tokens",
        "secretName: events-tls",
        "scheme: HTTPS",
        "port: 443",
    ] {
        assert!(yaml.contains(expected), "{expected} is missing in\n{yaml}");
    }
    assert!(!manifests(&[]).contains("/access"));
    for refused in [&["--client-ca-secret=senders"][..], &["--token-secret=not a name"]] {
        let output = Command::new(PROGRAM).args(["manifests", "--image=x"]).args(refused).output().unwrap();
        assert!(!output.status.success(), "{refused:?}");
    }
}

#[test]
fn an_operator_with_exactly_that_account_does_its_work() {
    let rig = Rig::new(true, 1);
    rig.prepare();
    let management = rig.management();
    rig.kubectl_ok(
        &management,
        &["apply", "--server-side", "-f", "-"],
        &manifests(&["--leader-elect", "--read-namespace", "default", "--read-namespace", "civo"]),
    );
    let account = account(&rig, "fleet-events");
    for file in ["event-source.yaml", "event-trigger.yaml"] {
        rig.apply_example(file);
    }
    let operator = rig.home.run(|run| {
        run.env("KUBECONFIG", &account).args([
            "--store",
            "kubernetes",
            "--leader-elect",
            "--lease-duration",
            "6s",
        ])
    });
    let lease =
        ["get", "lease", "fleet-operator", "-n", "fleet-events", "-o", "jsonpath={.spec.holderIdentity}"];
    assert!(!rig.kubectl_ok(&management, &lease, "").is_empty(), "it leads");
    for what in [
        &["clusters.fleet-events.dev", "--all", "-n", "civo"][..],
        &["eventsources", "--all"],
        &["eventtriggers", "--all"],
    ] {
        let wait = [&["wait", "--for=condition=Ready", "--timeout=30s"], what].concat();
        eventually(&format!("{what:?} are ready\n{}", rig.home.log()), || {
            rig.kubectl(&management, &wait, "").status.success().then_some(())
        });
    }
    rig.publish("user-operation", &event("login", "mgianluc"));
    rig.arrives("mgianluc");
    let works = rig.kubectl_ok(&management, &["get", "works", "-n", "fleet-events", "-o", "name"], "");
    assert_eq!(works.lines().count(), 1, "{works}");
    eventually("what is in the cluster is recorded", || {
        let applied = rig.kubectl_ok(&management, &["get", "appliedworks", "-n", "civo", "-o", "name"], "");
        (applied.lines().count() == 1).then_some(())
    });
    // A dead letter is a Secret in its own namespace.
    rig.publish("user-operation", &event("login", "large").replace("hunter2", &"x".repeat(300_000)));
    let letter = eventually(&format!("it is refused\n{}", rig.home.log()), || rig.home.dead_letters().pop());
    assert_eq!(letter["reason"], "TooLarge", "{letter}");
    let dropped = rig.home.cli(&["dead-letters", "drop", letter["id"].as_str().unwrap()]);
    assert!(dropped.status.success(), "{}", String::from_utf8_lossy(&dropped.stderr));
    rig.publish("user-operation", &event("login", "last"));
    rig.arrives("last");
    rig.publish("user-operation", &event("logout", "mgianluc"));
    eventually("it goes", || rig.namespace(&rig.lab.clusters()[0], "mgianluc").is_none().then_some(()));
    // Finalizers are its own business.
    let taken_out = Command::new(PROGRAM)
        .args(["deregister", "cluster", "cluster1", "--namespace", "civo"])
        .env("KUBECONFIG", &management)
        .output()
        .unwrap();
    assert!(taken_out.status.success(), "{taken_out:?}\n{}", rig.home.log());
    assert!(rig.namespace(&rig.lab.clusters()[0], "last").is_none());
    let log = rig.home.log();
    assert!(!log.contains("forbidden") && !log.contains("cannot"), "{log}");
    assert_eq!(operator.stop().code(), Some(0));
    assert_eq!(rig.kubectl_ok(&management, &lease, ""), "", "the Lease was given up");

    for what in NEVER {
        assert!(!may(&rig, &account, what), "{what:?}");
    }
    assert!(!may(&rig, &account, &["create", "works.fleet-events.dev", "-n", "civo"]));
    assert!(!may(&rig, &account, &["update", "leases.coordination.k8s.io/other", "-n", "fleet-events"]));
    assert!(may(&rig, &account, &["list", "secrets", "-n", "default"]), "the question is understood");
}

#[test]
fn with_a_file_for_a_store_the_account_may_do_less() {
    let rig = Rig::new(true, 1);
    rig.prepare();
    let management = rig.management();
    let yaml =
        manifests(&["--store", "file", "--namespace", "fleet-file", "--read-namespace", "default,civo"]);
    rig.kubectl_ok(&management, &["apply", "--server-side", "-f", "-"], &yaml);
    let account = account(&rig, "fleet-file");
    for file in ["event-source.yaml", "event-trigger.yaml"] {
        rig.apply_example(file);
    }
    let home = Home::new();
    let operator = home.run(|run| run.env("KUBECONFIG", &account).args(["--namespace", "fleet-file"]));
    eventually(&format!("the source is ready\n{}", home.log()), || {
        (home.show("sources").first()?["ready"] == true).then_some(())
    });
    rig.publish("user-operation", &event("login", "mgianluc"));
    rig.arrives("mgianluc");
    assert!(!home.log().contains("forbidden"), "{}", home.log());
    assert!(operator.stop().success());
    for what in NEVER {
        assert!(!may(&rig, &account, what), "{what:?}");
    }
    for what in [
        &["create", "works.fleet-events.dev", "-n", "fleet-file"][..],
        &["create", "appliedworks.fleet-events.dev", "-n", "civo"],
        &["create", "leases.coordination.k8s.io", "-n", "fleet-file"],
        &["get", "secrets", "-n", "fleet-file"],
    ] {
        assert!(!may(&rig, &account, what), "{what:?}");
    }
}
