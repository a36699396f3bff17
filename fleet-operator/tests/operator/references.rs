//! What templates see of the management cluster, with the real program: what is rendered from it follows it.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use crate::process::{Home, PROGRAM, event, eventually, example};
use crate::rig::Rig;

/// A plan of a tenant; its value is nobody's business.
fn plan(name: &str, value: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"namespace": "default", "name": format!("plan-{name}")},
        "stringData": {"plan": value}})
}

/// Has the trigger of `define_notes` write down a tenant's plan, and how many it may have in its cluster.
fn refer(rig: &Rig) {
    let note = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  namespace: default\n  name: {{ event.subject }}\ndata:\n  \
                id: {{ resources.plan.data.plan | b64decode }}-{{ resources.limits.data.most if resources.limits is defined else 0 }}\n";
    let patch = json!({"data": {"note.yaml": note}}).to_string();
    rig.kubectl_ok(&rig.management(), &["patch", "configmap", "note", "--type=merge", "-p", &patch], "");
    let refs = json!({"spec": {"templateResourceRefs": [
        {"identifier": "plan",
            "resource": {"apiVersion": "v1", "kind": "Secret", "namespace": "default", "name": "plan-{{ event.subject }}"}},
        // In the Cluster's own namespace.
        {"identifier": "limits", "optional": true,
            "resource": {"apiVersion": "v1", "kind": "ConfigMap", "name": "{{ cluster.name }}-limits"}},
    ]}});
    let patch = ["patch", "eventtrigger", "notes", "--type=merge", "-p"];
    rig.kubectl_ok(&rig.management(), &[&patch[..], &[&refs.to_string()]].concat(), "");
}

fn has(rig: &Rig, name: &str, value: &str) {
    eventually(&format!("{name} has {value}\n{}", rig.home.log()), || {
        let notes = rig.notes_in(&rig.lab.clusters()[0]);
        (notes.get(name).map(String::as_str) == Some(value)).then_some(())
    });
}

fn condition(rig: &Rig) -> Value {
    let get = ["get", "eventtrigger", "notes", "-o", "json"];
    let trigger: Value = serde_json::from_str(&rig.kubectl_ok(&rig.management(), &get, "")).unwrap();
    let conditions = trigger["status"]["conditions"].as_array().cloned().unwrap_or_default();
    conditions.into_iter().find(|it| it["type"] == "Ready").unwrap_or_default()
}

fn apply(rig: &Rig, object: &Value) {
    rig.kubectl_ok(&rig.management(), &["apply", "-f", "-"], &object.to_string());
}

#[test]
fn a_managed_cluster_follows_objects_of_the_management_cluster() {
    let rig = Rig::new(true, 1);
    rig.prepare();
    rig.define_notes("2s");
    refer(&rig);
    apply(&rig, &plan("anna", "free"));

    // A look before anything runs.
    let file = rig.home.folder().join("event.json");
    fs::write(&file, event("login", "anna")).unwrap();
    let render = |event: &str| {
        let output = Command::new(PROGRAM)
            .args(["render", "--event", event])
            .env("KUBECONFIG", rig.management())
            .output();
        let output = output.unwrap();
        String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap()
    };
    let told = render(file.to_str().unwrap());
    assert!(told.contains("id: free-0"), "{told}");

    let operator = rig.home.start_managed(&rig.management());
    eventually(&format!("the stream is read\n{}", rig.home.log()), || {
        (rig.home.show("sources").first()?["ready"] == true).then_some(())
    });
    rig.publish_all([("login", "anna".to_owned(), 1), ("login", "bert".to_owned(), 2)]);
    has(&rig, "anna", "free-0");
    eventually("the condition says what is missing", || {
        let condition = condition(&rig);
        let message = condition["message"].as_str().unwrap_or_default();
        (condition["reason"] == "WorksStalled"
            && message.contains("Secret default/plan-bert, does not exist"))
        .then_some(())
    });
    apply(&rig, &plan("bert", "gold"));
    has(&rig, "bert", "gold-0");
    apply(&rig, &plan("anna", "paid"));
    has(&rig, "anna", "paid-0");
    apply(
        &rig,
        &json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": "civo", "name": "cluster1-limits"},
        "data": {"most": "7"}}),
    );
    has(&rig, "anna", "paid-7");
    has(&rig, "bert", "gold-7");
    eventually("all is well", || (condition(&rig)["reason"] == "Ready").then_some(()));
    // What is gone takes nothing with it.
    rig.kubectl_ok(&rig.management(), &["delete", "secret", "plan-anna"], "");
    eventually("it is stalled", || (condition(&rig)["reason"] == "WorksStalled").then_some(()));
    has(&rig, "anna", "paid-7");
    let log = rig.home.log();
    for secret in ["paid", "gold", "free", "cGFpZA"] {
        assert!(!log.contains(secret), "{secret} in {log}");
    }
    assert!(operator.stop().success());
}

#[test]
fn a_folder_is_referred_to_as_well() {
    let home = Home::new();
    fs::create_dir(home.folder()).unwrap();
    for file in ["clusters.yaml", "event-source.yaml", "event-trigger.yaml"] {
        let text = fs::read_to_string(example("quickstart").join(file)).unwrap();
        let refs = "  templateResourceRefs:\n  - identifier: tenant\n    resource: {apiVersion: v1, kind: ConfigMap, namespace: default, \
                    name: 'tenant-{{ event.subject }}'}\n  policyRefs:\n";
        let text = text.replace("  policyRefs:\n", refs);
        home.write(
            file,
            &text.replace(
                "name: {{ event.subject }}",
                "name: {{ event.subject }}-{{ resources.tenant.data.plan }}",
            ),
        );
    }
    home.write(
        "tenant.yaml",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: tenant-anna}\ndata: {plan: gold}\n",
    );
    let folder = home.folder().display().to_string();
    let render = |subject: &str| {
        fs::create_dir_all(home.data()).unwrap();
        let file = home.data().join("event");
        fs::write(&file, event("login", subject)).unwrap();
        let output = home.cli(&["render", "--event", file.to_str().unwrap(), &folder]);
        String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap()
    };
    let told = render("anna");
    assert!(told.contains("name: anna-gold"), "{told}");
    let told = render("bert");
    assert!(
        told.contains("stalled: ReferenceMissing: what templateResourceRefs calls tenant, ConfigMap default/tenant-bert, does not exist"),
        "{told}"
    );
}
