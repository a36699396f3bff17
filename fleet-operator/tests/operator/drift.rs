//! What somebody does to what was applied, and what the operator does about it, on a real API server.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use serde_json::{Value, json};

use crate::process::{Home, event, eventually};
use crate::rig::Rig;

/// So many ConfigMaps a login makes.
const NOTES: usize = 200;

/// The ConfigMaps with our mark in the user's namespace: name, and UID and resourceVersion.
fn notes(rig: &Rig, kubeconfig: &Path) -> BTreeMap<String, (String, String)> {
    let args = ["get", "configmaps", "-n", "mgianluc", "-l", "fleet-events.dev/work", "-o", "json"];
    let output = rig.kubectl(kubeconfig, &args, "");
    let list: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let note = |item: &Value| {
        let metadata = &item["metadata"];
        (text(&metadata["name"]), (text(&metadata["uid"]), text(&metadata["resourceVersion"])))
    };
    list["items"].as_array().into_iter().flatten().map(note).collect()
}

fn data(rig: &Rig, kubeconfig: &Path, name: &str) -> Value {
    let output = rig.kubectl(kubeconfig, &["get", "configmap", name, "-n", "mgianluc", "-o", "json"], "");
    let object: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    object["data"].clone()
}

/// How many requests for namespaces and ConfigMaps a server has answered, other than by watches.
fn requests(rig: &Rig, kubeconfig: &Path) -> f64 {
    let metrics = rig.kubectl_ok(kubeconfig, &["get", "--raw", "/metrics"], "");
    let counts = |line: &&str| {
        line.starts_with("apiserver_request_total{")
            && !line.contains("verb=\"WATCH\"")
            && (line.contains("resource=\"configmaps\"") || line.contains("resource=\"namespaces\""))
    };
    let lines = metrics.lines().filter(counts);
    lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
}

#[test]
fn what_somebody_does_in_a_cluster_is_undone_and_what_is_theirs_stays() {
    let rig = Rig::new(true, 1);
    rig.prepare();
    for file in ["event-source.yaml", "event-trigger.yaml"] {
        rig.apply_example(file);
    }
    let template = format!(
        "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {{{{ event.subject }}}}\n  labels: {{tier: gold}}\n\
         {{% for n in range({NOTES}) %}}\n---\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  namespace: {{{{ event.subject }}}}\n  \
         name: n{{{{ n }}}}\ndata:\n  v: ours\n{{% endfor %}}\n"
    );
    let patch = json!({"data": {"namespace.yaml": template}}).to_string();
    let management = rig.management();
    rig.kubectl_ok(
        &management,
        &["patch", "configmap", "namespace", "-n", "default", "--type=merge", "-p", &patch],
        "",
    );
    let operator = rig.home.start_managed(&management);
    let cluster = rig.kubeconfig(&rig.lab.clusters()[0]);
    let wait = ["wait", "--for=condition=Ready", "--timeout=30s", "--all"];
    rig.kubectl_ok(&management, &[&wait[..], &["eventsources"]].concat(), "");
    rig.kubectl_ok(&management, &[&wait[..], &["clusters.fleet-events.dev", "-n", "civo"]].concat(), "");
    rig.publish("user-operation", &event("login", "mgianluc"));
    let log = || rig.home.log();
    eventually(&format!("all are made\n{}", log()), || (notes(&rig, &cluster).len() == NOTES).then_some(()));
    let state = || rig.home.show("addons").iter().all(|row| row["state"] == "Applied").then_some(());
    eventually("and told", state);
    let made = notes(&rig, &cluster);

    let in_namespace = |args: &[&str]| rig.kubectl_ok(&cluster, &[args, &["-n", "mgianluc"]].concat(), "");
    let set = |name: &str, what: &str| {
        in_namespace(&["patch", "configmap", name, "--type=merge", "-p", what]);
    };
    // A field of ours, beside one that is theirs.
    set("n1", r#"{"data": {"v": "theirs", "w": "theirs"}}"#);
    eventually(&format!("the field is ours again\n{}", log()), || {
        (data(&rig, &cluster, "n1") == json!({"v": "ours", "w": "theirs"})).then_some(())
    });
    // Our mark.
    in_namespace(&["label", "configmap", "n2", "fleet-events.dev/work-"]);
    eventually("the mark is back", || notes(&rig, &cluster).contains_key("n2").then_some(()));
    // A field that is nobody's business.
    set("n3", r#"{"data": {"w": "theirs"}}"#);
    rig.kubectl_ok(
        &cluster,
        &["label", "namespace", "mgianluc", "tier=lead", "team=theirs", "--overwrite"],
        "",
    );
    eventually("the label is ours again", || {
        let labels = rig.kubectl_ok(&cluster, &["get", "namespace", "mgianluc", "--show-labels"], "");
        (labels.contains("tier=gold") && labels.contains("team=theirs")).then_some(())
    });
    // All of them at once.
    in_namespace(&["delete", "configmaps", "-l", "fleet-events.dev/work", "--wait=false"]);
    eventually(&format!("all come back\n{}", log()), || {
        let now = notes(&rig, &cluster);
        let is_new = |(name, (uid, _)): (&String, &(String, String))| made[name].0 != *uid;
        (now.len() == NOTES && now.iter().all(is_new)).then_some(())
    });
    // The namespace, and all that is in it.
    let before = rig.namespace(&rig.lab.clusters()[0], "mgianluc").unwrap();
    rig.kubectl_ok(&cluster, &["delete", "namespace", "mgianluc", "--wait=false"], "");
    eventually(&format!("it is there again\n{}", log()), || {
        rig.namespace(&rig.lab.clusters()[0], "mgianluc").filter(|uid| *uid != before)
    });
    eventually(&format!("with all that was in it\n{}", log()), || {
        (notes(&rig, &cluster).len() == NOTES).then_some(())
    });
    eventually("and told", state);

    // Nothing is written any more, and nothing is asked: what others own is not looked at again and again.
    set("n3", r#"{"data": {"w": "theirs"}}"#);
    let (quiet, asked) = (notes(&rig, &cluster), requests(&rig, &cluster));
    sleep(Duration::from_secs(30));
    let asked_since = requests(&rig, &cluster) - asked;
    assert_eq!(notes(&rig, &cluster), quiet, "nothing was written in 30 s");
    // Of these, one is our own look just before.
    assert!(asked_since <= 1.0, "{asked_since} requests in 30 idle seconds\n{}", log());
    assert_eq!(data(&rig, &cluster, "n3"), json!({"v": "ours", "w": "theirs"}));

    rig.publish("user-operation", &event("logout", "mgianluc"));
    rig.goes("mgianluc");
    assert!(operator.stop().success());
}

#[test]
fn what_somebody_does_to_the_files_of_a_folder_is_undone() {
    let home = Home::with("quickstart");
    let name = "      name: {{ event.subject }}";
    home.edit("event-trigger.yaml", name, &format!("{name}\n      labels: {{tier: gold}}"));
    let operator = home.start();
    operator.send_example("login.json");
    let file = home.namespace_file("cluster1", "mgianluc");
    let read = || fs::read_to_string(&file).ok();
    // Without a pause: the file may go before anybody looked at it.
    let made = eventually("the file is there", read);
    fs::remove_file(&file).unwrap();
    let back = eventually(&format!("it is back\n{}", home.log()), read);
    assert_ne!(made, back, "it is another object");

    for (from, to) in [("fleet-events.dev/work", "example.com/work"), ("tier: gold", "tier: lead")] {
        let theirs = back.replace(from, to);
        assert_ne!(theirs, back, "{from} is not in\n{back}");
        fs::write(&file, &theirs).unwrap();
        eventually(&format!("{from} is there again\n{}", home.log()), || {
            read().filter(|text| text.contains(from) && !text.contains(to))
        });
    }
    operator.send_example("logout.json");
    eventually("it is gone", || (!file.exists()).then_some(()));
    assert!(operator.stop().success());
}
