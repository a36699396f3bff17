//! `render`: what an event would put where, or ClusterProfiles do, without an operator, and what that would change.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::json;

use crate::process::{Home, PROGRAM, event, eventually, example};
use crate::rig::Rig;

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// `render` with an event in a file of the home.
fn render(home: &Home, event: &str, args: &[&str]) -> Output {
    fs::create_dir_all(home.data()).unwrap();
    let file = home.data().join("event");
    fs::write(&file, event).unwrap();
    let mut all = vec!["render", "--event", file.to_str().unwrap()];
    all.extend(args);
    home.cli(&all)
}

fn path(path: &Path) -> String {
    path.display().to_string()
}

#[test]
fn an_event_is_told_without_an_operator() {
    let home = Home::new();
    let folder = path(&example("quickstart"));
    let output = render(&home, &event("login", "mgianluc"), &[&folder]);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    let text = out(&output);
    let document = "---\napiVersion: v1\nkind: Namespace\nmetadata:\n  name: mgianluc\n";
    for cluster in ["cluster1", "cluster2"] {
        let expected = format!("# cluster civo/{cluster}, trigger manage-namespace, Create\n{document}");
        assert!((text.clone() + "\n").contains(&expected), "{expected} in {text}");
    }
    assert!(!text.contains("staging1") && !text.contains("hunter2"), "{text}");
    assert!(!home.data().join("clusters").exists(), "nothing is made");

    let output = render(&home, &event("logout", "mgianluc"), &[&folder]);
    let text = out(&output);
    assert!(text.starts_with("# trigger manage-namespace, Delete: removes what this key had"), "{text}");
    assert_eq!((output.status.code(), text.lines().count()), (Some(0), 1));

    let yaml = "specversion: '1.0'\nid: '1'\nsource: auth.example.com\ntype: auth.example.com.login\nsubject: yamla\n";
    let output = render(&home, yaml, &[&folder]);
    assert!(out(&output).contains("name: yamla"), "{}{}", out(&output), err(&output));
}

#[test]
fn why_a_trigger_makes_nothing_of_an_event_is_told() {
    let home = Home::with("quickstart");
    let folder = path(&home.folder());
    let told = |args: &[&str]| {
        let output = render(&home, &event("login", "mgianluc"), &[&[folder.as_str()], args].concat());
        (output.status.code().unwrap(), out(&output) + &err(&output))
    };
    home.write(
        "other.yaml",
        "apiVersion: fleet-events.dev/v1alpha1\nkind: EventTrigger\nmetadata: {name: other}\nspec:\n  \
         eventSourceName: user-operation\n  oneForEvent: true\n  sourceClusterSelector: {matchLabels: {env: nowhere}}\n  \
         policyRefs: [{kind: ConfigMap, namespace: default, name: namespace}]\n",
    );
    let (code, text) = told(&[]);
    assert!(
        text.contains(
            "# trigger other, Create, nowhere now: no cluster matches sourceClusterSelector: env=nowhere"
        ),
        "{text}"
    );
    assert_eq!(code, 0);
    let (code, text) = told(&["--source", "user-op"]);
    assert!(code == 2 && text.contains("there are: user-operation"), "{text}");
    let (_, text) = told(&["--origin", "civo/cluster1"]);
    assert!(
        text.contains("# cluster civo/cluster1,") && !text.contains("# cluster civo/cluster2,"),
        "{text}"
    );
    assert!(text.contains("does not match sourceClusterSelector: env=nowhere"), "{text}");
    let (_, text) = told(&["--origin", "civo/cluster9"]);
    assert!(text.contains("the cluster it comes from, civo/cluster9, is not known"), "{text}");

    home.edit("event-trigger.yaml", "{{ event.subject }}", "{{ event.nothing }}");
    let (code, text) = told(&[]);
    assert!(code == 2 && text.contains("stalled: TemplateError: ConfigMap default/namespace"), "{text}");
    home.edit("event-trigger.yaml", "%}Delete{%", "%}Remove{%");
    let output = render(&home, &event("logout", "mgianluc"), &[&folder]);
    assert!(out(&output).contains("refused as a dead letter: ActionInvalid"), "{}", out(&output));
    assert_eq!(output.status.code(), Some(2));
    let output = render(&home, "{}", &[&folder]);
    assert_eq!(output.status.code(), Some(2), "no event");
}

#[test]
fn folders_are_compared_with_what_an_event_would_make_of_them() {
    let home = Home::with("quickstart");
    let folder = path(&home.folder());
    let login = event("login", "mgianluc");
    let diff = |event: &str, args: &[&str]| {
        let output = render(&home, event, &[&[folder.as_str(), "--diff"], args].concat());
        assert_eq!(err(&output), "");
        (output.status.code().unwrap(), out(&output))
    };
    let (code, text) = diff(&login, &[]);
    assert!(
        code == 1 && text.contains("+++ civo/cluster1 Namespace mgianluc (trigger manage-namespace)"),
        "{text}"
    );
    assert!(text.contains("--- /dev/null") && text.contains("+  name: mgianluc"), "{text}");
    assert!(!text.contains('\u{1b}'), "no colours where nobody looks: {text}");
    assert!(diff(&login, &["--color", "always"]).1.contains("\u{1b}[32m+  name: mgianluc\u{1b}[0m"));
    assert!(!home.namespace_file("cluster1", "mgianluc").exists(), "nothing is written");

    let operator = home.start();
    operator.accepts(&login);
    eventually("both are shown", || {
        (home.show("addons").iter().filter(|row| row["health"]["status"] == "Ready").count() == 2)
            .then_some(())
    });
    assert_eq!(diff(&login, &[]), (0, "\n".trim_end().to_owned()), "nothing to do");
    let logout = event("logout", "mgianluc");
    let (code, text) = diff(&logout, &[]);
    assert!(code == 1 && text.contains("--- civo/cluster2 Namespace mgianluc\n+++ /dev/null"), "{text}");
    assert!(operator.stop().success());
    assert_eq!(diff(&logout, &[]), (1, text), "also while none runs");

    home.edit(
        "event-trigger.yaml",
        "name: {{ event.subject }}",
        "name: {{ event.subject }}\n      labels: {team: a}",
    );
    let (code, text) = diff(&login, &[]);
    assert!(code == 1 && text.contains("+    team: a") && !text.contains("/dev/null"), "{text}");
    let file = home.namespace_file("cluster1", "theirs");
    fs::write(file, "apiVersion: v1\nkind: Namespace\nmetadata: {name: theirs}\n").unwrap();
    let output = render(&home, &event("login", "theirs"), &[&folder, "--diff"]);
    assert!(
        output.status.code() == Some(2) && err(&output).contains("conflict: it belongs to"),
        "{}",
        err(&output)
    );
}

const PROFILES: &str = r#"
apiVersion: config.projectsveltos.io/v1beta1
kind: ClusterProfile
metadata: {name: base}
spec:
  clusterSelector: {matchLabels: {env: production}}
  clusterRefs: [{namespace: civo, name: staging1}]
  policyRefs: [{kind: ConfigMap, namespace: default, name: of-cluster}]
  helmCharts:
  - repositoryURL: https://charts.example.com
    repositoryName: nats
    chartName: nats/nats
    chartVersion: 1.2.9
    releaseName: nats-{{ .Cluster.metadata.name }}
    releaseNamespace: nats
    values: |
      cluster: {{ .Cluster.metadata.name }}
      replicas: 3
    registryCredentialsConfig: {credentials: {namespace: default, name: registry}}
  - repositoryURL: https://charts.example.com
    chartName: secretive
    releaseName: secretive
    releaseNamespace: nats
    valuesFrom: [{kind: Secret, namespace: default, name: values}]
  - {repositoryURL: https://charts.example.com, chartName: old, releaseName: old, releaseNamespace: a, helmChartAction: Uninstall}
---
apiVersion: config.projectsveltos.io/v1beta1
kind: ClusterProfile
metadata: {name: nowhere}
spec:
  clusterSelector: {matchLabels: {env: nowhere}}
  policyRefs: [{kind: ConfigMap, namespace: default, name: of-cluster}]
---
apiVersion: v1
kind: ConfigMap
metadata: {name: of-cluster, annotations: {projectsveltos.io/template: ok}}
data:
  a.yaml: |
    apiVersion: v1
    kind: Namespace
    metadata:
      name: of-{{ .Cluster.metadata.name }}
---
apiVersion: v1
kind: Secret
metadata: {name: registry}
stringData: {username: hunter, password: hunter2}
---
apiVersion: v1
kind: Secret
metadata: {name: values}
stringData: {values.yaml: 'auth: {password: hunter2}'}
"#;

/// Sveltos' and ours say the same.
#[test]
fn what_profiles_put_into_each_cluster_is_told_without_an_event() {
    let told = |home: &Home, args: &[&str]| {
        let folder = path(&home.folder());
        let output = home.cli(&[&["render", folder.as_str()], args].concat());
        assert_eq!(err(&output), "");
        (output.status.code().unwrap(), out(&output))
    };
    let theirs = Home::with("quickstart");
    theirs.write("profiles.yaml", PROFILES);
    let (code, text) = told(&theirs, &[]);
    assert_eq!(code, 0, "{text}");
    for cluster in ["cluster1", "cluster2", "staging1"] {
        let expected = format!(
            "# cluster civo/{cluster}, ClusterProfile base\n---\napiVersion: v1\nkind: Namespace\nmetadata:\n  name: \
             of-{cluster}\n# chart nats/nats 1.2.9 from https://charts.example.com, as release nats-{cluster} in namespace \
             nats, with the values\n#   cluster: {cluster}\n#   replicas: 3\n# chart secretive in its latest version from \
             https://charts.example.com, as release secretive in namespace nats, with the values\n#   auth:\n#     password: \
             \"***\"\n# chart old in its latest version from https://charts.example.com: release old in namespace a is \
             uninstalled\n"
        );
        assert!(text.contains(&expected), "{expected}\n in\n{text}");
    }
    assert!(
        text.ends_with(
            "# ClusterProfile nowhere, nowhere now: no cluster matches clusterSelector: env=nowhere\n"
        ),
        "{text}"
    );
    assert!(!text.contains("manage-namespace") && !text.contains("hunter"), "{text}");
    let file = theirs.folder().join("profiles.yaml");
    let ours = Home::with("quickstart");
    let converted = Command::new(PROGRAM).args(["convert", "sveltos"]).arg(&file).output().unwrap();
    assert!(converted.status.success(), "{}", err(&converted));
    ours.write("profiles.yaml", &out(&converted));
    assert_eq!(told(&ours, &[]), (0, text));

    // An event is asked after by itself.
    let output = render(&theirs, &event("login", "mgianluc"), &[&path(&theirs.folder())]);
    assert!(out(&output).contains("trigger manage-namespace") && !out(&output).contains("ClusterProfile"));
    let output = theirs.cli(&["render", "--source", "user-operation", &path(&theirs.folder())]);
    assert!(output.status.code() == Some(2) && err(&output).contains("--event"), "{}", err(&output));
    fs::remove_file(file).unwrap();
    let (code, text) = told(&theirs, &[]);
    assert!(code == 0 && text.starts_with("# there is no ClusterProfile"), "{text}");
}

#[test]
fn folders_are_compared_with_what_profiles_put_into_them() {
    let home = Home::with("quickstart");
    home.write(
        "profile.yaml",
        "apiVersion: fleet-events.dev/v1alpha1\nkind: ClusterProfile\nmetadata: {name: base}\nspec:\n  clusterSelector: \
         {matchLabels: {env: production}}\n  policyRefs: [{kind: ConfigMap, namespace: default, name: base}]\n---\napiVersion: \
         v1\nkind: ConfigMap\nmetadata: {name: base, annotations: {fleet-events.dev/template: 'true'}}\ndata:\n  a.yaml: \
         '{apiVersion: v1, kind: Namespace, metadata: {name: base-{{ cluster.name }}}}'\n",
    );
    let folder = path(&home.folder());
    let diff = || {
        let output = home.cli(&["render", &folder, "--diff"]);
        assert_eq!(err(&output), "");
        (output.status.code().unwrap(), out(&output))
    };
    let (code, text) = diff();
    assert!(
        code == 1 && text.contains("+++ civo/cluster1 Namespace base-cluster1 (ClusterProfile base)"),
        "{text}"
    );
    let operator = home.start();
    eventually("both are there", || {
        (home.show("addons").iter().filter(|row| row["health"]["status"] == "Ready").count() == 2)
            .then_some(())
    });
    assert_eq!(diff(), (0, String::new()));
    assert!(operator.stop().success());
    home.edit("profile.yaml", "name: base-{{", "name: other-{{");
    let (code, text) = diff();
    assert!(
        code == 1
            && text.contains("+++ civo/cluster2 Namespace other-cluster2 (ClusterProfile base)")
            && text.contains("--- civo/cluster2 Namespace base-cluster2\n+++ /dev/null"),
        "{text}"
    );
}

#[test]
fn a_real_cluster_is_compared_and_secrets_stay_secret() {
    let rig = Rig::new(false, 1);
    let cluster = &rig.lab.clusters()[0];
    let kubeconfig = rig.kubeconfig(cluster);
    let fleet = |kind: &str, metadata: serde_json::Value, spec: serde_json::Value| {
        json!({"apiVersion": "fleet-events.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec})
            .to_string()
    };
    let one = json!({"kubeconfigFile": kubeconfig.file_name().unwrap().to_str().unwrap()});
    rig.home.write("cluster.json", &fleet("Cluster", json!({"namespace": "civo", "name": "one"}), one));
    rig.home.write("source.json", &fleet("EventSource", json!({"name": "users"}), json!({"http": {}})));
    let spec = json!({"eventSourceName": "users", "oneForEvent": true, "sourceClusterSelector": {},
        "policyRefs": [{"kind": "ConfigMap", "namespace": "default", "name": "secret"}]});
    rig.home.write("trigger.json", &fleet("EventTrigger", json!({"name": "secrets"}), spec));
    let secret = "apiVersion: v1\nkind: Secret\nmetadata: {namespace: default, name: '{{ event.subject }}'}\n\
                  stringData: {password: '{{ event.data.secret }}'}\n";
    let template = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"secret.yaml": secret},
        "metadata": {"namespace": "default", "name": "secret", "annotations": {"fleet-events.dev/template": "true"}}});
    rig.home.write("template.json", &template.to_string());
    let folder = path(&rig.home.folder());
    let run = |event: &str, args: &[&str]| {
        let output = render(&rig.home, event, &[&[folder.as_str()], args].concat());
        let text = out(&output);
        assert!(!text.contains("hunter2") && !text.contains("aHVudGVyM"), "{text}");
        assert_eq!(err(&output), "");
        (output.status.code().unwrap(), text)
    };
    let login = event("login", "alice");
    let (code, text) = run(&login, &[]);
    assert!(code == 0 && text.contains("password: '***'") || text.contains("password: \"***\""), "{text}");
    let (code, text) = run(&login, &["--diff"]);
    assert!(code == 1 && text.contains("+++ civo/one Secret default/alice (trigger secrets)"), "{text}");

    let operator = rig.home.start();
    operator.accepts(&login);
    eventually("it is there", || {
        let row = rig.home.show("addons").into_iter().next()?;
        (row["health"]["status"] == "Ready").then_some(())
    });
    assert_eq!(run(&login, &["--diff"]), (0, String::new()));
    let (code, text) = run(&login.replace("hunter2", "hunter3"), &["--diff"]);
    assert!(code == 1 && text.contains("*** (changed)"), "{text}");
    drop(operator);
    let gone = Command::new(PROGRAM).args(["render", "--event", "/nonexistent", &folder]).output().unwrap();
    assert_eq!(gone.status.code(), Some(2));
}
