//! The article that this project starts from, as a whole: NATS in every production cluster from a chart, the Secret that
//! says how it is reached, and logins in one cluster. On real API servers, by the real helm, with a real NATS server for
//! each cluster (the chart's own would need nodes); once with our kinds, once with Sveltos' manifests byte for byte, and
//! with both once more where nobody reaches the clusters from outside.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use async_nats::ConnectOptions;
use local_fleet::{Nats, NatsOptions, Program, Progress, Route, install};
use serde_json::{Value, json};

use crate::agent::own_kubeconfig;
use crate::charts::{helm, serve};
use crate::manifests::{account, manifests};
use crate::process::{Home, Operator, PROGRAM, eventually, example};
use crate::rig::Rig;

const INSIDE: &str = "nats.nats.svc.cluster.local:4222";
const USERS: &str = "authorization { users: [{user: admin, password: my-password}] }";

/// The article's events.
fn event(what: &str) -> String {
    json!({
        "specversion": "1.0",
        "type": format!("auth.example.com.{what}"),
        "source": "auth.example.com",
        "id": "10001",
        "subject": "mgianluc",
        "datacontenttype": "application/json",
        "data": {"message": format!("User mgianluc {what}")},
    })
    .to_string()
}

/// A management cluster, two production clusters with a NATS in each, and a repository of charts.
struct Story {
    // Dropped before the runtime that looks after their processes.
    nats: [Nats; 2],
    rig: Rig,
    program: PathBuf,
    charts: String,
    folders: [tempfile::TempDir; 2],
    /// What the clusters are called.
    ids: [&'static str; 2],
    /// Where agents run, if they do.
    agents: Option<[Home; 2]>,
}

impl Story {
    fn new() -> Self {
        let rig = Rig::new(true, 2);
        let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let options = NatsOptions::default().config(USERS);
        let dir = folders[0].path();
        let nats = rig.runtime.block_on(async {
            [
                Nats::start_named(dir, "one", &options).await.unwrap(),
                Nats::start_named(dir, "two", &options).await.unwrap(),
            ]
        });
        let program = rig.runtime.block_on(install::find(Program::Helm, &Progress::default())).unwrap();
        let chart = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/operator/nats-chart");
        let to = folders[1].path().to_str().unwrap();
        helm(&program, &["package", chart.to_str().unwrap(), "-d", to]);
        helm(&program, &["repo", "index", to]);
        let charts = serve(folders[1].path().to_owned());
        let ids = ["civo/cluster1", "civo/cluster2"];
        Self { nats, rig, program, charts, folders, ids, agents: None }
    }

    /// Where the NATS of a cluster is reached from outside.
    fn mapping(&self, index: usize) -> String {
        format!("{INSIDE}={}", self.nats[index].url(Route::Direct).split_once("://").unwrap().1)
    }

    /// How charts are installed.
    fn helm(&self) -> [String; 4] {
        let mirror = format!("https://nats-io.github.io/k8s/helm/charts/={}", self.charts);
        ["--helm".to_owned(), self.program.display().to_string(), "--chart-mirror".to_owned(), mirror]
    }

    fn run(&self, args: &[&str]) -> Operator<'_> {
        let management = self.rig.management();
        self.rig.home.run(|run| run.env("KUBECONFIG", management).args(args).args(self.helm()))
    }

    /// An agent in each cluster, which are called otherwise: each in a namespace of its own.
    fn with_agents(mut self, api: &str) -> Self {
        self.ids = ["prod1/cluster1", "prod2/cluster2"];
        self.agents = Some([Home::new(), Home::new()]);
        for (id, cluster) in self.ids.iter().zip(self.rig.lab.clusters()) {
            let (namespace, name) = id.split_once('/').unwrap();
            let output = Command::new(PROGRAM)
                .args(["register", "cluster", name, "-n", namespace, "--labels", "env=production"])
                .args(["--agent", "--image", "fleet-operator:test", "--api", api])
                .env("KUBECONFIG", self.rig.management())
                .output()
                .unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            let kubeconfig = self.rig.kubeconfig(cluster);
            let printed = String::from_utf8(output.stdout).unwrap();
            self.rig.kubectl_ok(&kubeconfig, &["apply", "-f", "-"], &printed);
            self.rig.kubectl_ok(&kubeconfig, &["wait", "--for=condition=Established", "crd", "--all"], "");
        }
        self
    }

    fn launch_agents(&self) -> Vec<Operator<'_>> {
        let agents = self.agents.iter().flatten().enumerate().map(|(index, home)| {
            let own = own_kubeconfig(&self.rig, self.folders[0].path(), index);
            home.launch_agent(|agent| {
                let agent = agent.env("KUBECONFIG", own).args(self.helm());
                agent.args(["--cluster", self.ids[index], "--resolve", &self.mapping(index)])
            })
        });
        agents.collect()
    }

    /// What everybody logged.
    fn log(&self) -> String {
        let agents = self.agents.iter().flatten().map(Home::log);
        std::iter::once(self.rig.home.log()).chain(agents).collect::<Vec<_>>().join("\nagent:\n")
    }

    /// Waits until events are read in both clusters.
    fn until_read(&self) {
        eventually(&format!("both are read\n{}", self.log()), || match &self.agents {
            None => {
                let row = self.rig.home.show("sources").pop()?;
                row["message"].as_str()?.contains("all 2 feeds are read").then_some(())
            }
            Some(homes) => {
                let is_read =
                    |home: &Home| home.show("sources").pop().is_some_and(|row| row["ready"] == true);
                homes.iter().all(is_read).then_some(())
            }
        });
    }

    fn apply(&self, object: &Value) {
        let args = ["apply", "--server-side", "-f", "-"];
        self.rig.kubectl_ok(&self.rig.management(), &args, &object.to_string());
    }

    fn apply_file(&self, folder: &str, file: &str) {
        let text = fs::read_to_string(example(folder).join(file)).unwrap();
        self.rig.kubectl_ok(&self.rig.management(), &["apply", "--server-side", "-f", "-"], &text);
    }

    fn publish(&self, index: usize, event: &str) {
        self.rig.runtime.block_on(async {
            let options =
                ConnectOptions::new().user_and_password("admin".to_owned(), "my-password".to_owned());
            let client = options.connect(self.nats[index].url(Route::Direct)).await.unwrap();
            client.publish("user-operation", event.to_owned().into()).await.unwrap();
            client.flush().await.unwrap();
        });
    }

    /// What `show addons` lists of a cluster: type, namespace, name and version.
    fn shown(&self, cluster: &str) -> Vec<String> {
        let rows = self.rig.home.show("addons");
        let of = rows.iter().filter(|row| row["cluster"] == cluster && row["state"] == "Applied");
        let text = |row: &Value, field: &str| row[field].as_str().unwrap_or("-").to_owned();
        let mut shown: Vec<String> = of
            .map(|row| {
                ["resourceType", "namespace", "name", "version"].map(|field| text(row, field)).join(" ")
            })
            .collect();
        shown.sort();
        shown
    }

    fn until_shown(&self, cluster: &str, expected: &[&str]) {
        eventually(&format!("{cluster} shows {expected:?}\n{}", self.log()), || {
            let shown = self.shown(cluster);
            expected.iter().all(|it| shown.iter().any(|row| row.starts_with(it))).then_some(())
        });
    }

    /// Tells the story from the third step on.
    fn tell(&self, folder: &str) {
        let [one, two] = self.ids;
        const CHART: &str = "helm chart nats nats 1.2.9";
        const SECRET: &str = ":Secret projectsveltos sveltos-nats";
        // The Secret's profile first: it waits for the chart's.
        self.apply_file(folder, "nats-secret.yaml");
        self.apply_file(folder, "nats.yaml");
        for cluster in [one, two] {
            self.until_shown(cluster, &[CHART, SECRET]);
        }
        for cluster in self.rig.lab.clusters() {
            let kubeconfig = self.rig.kubeconfig(cluster);
            let released = ["ls", "-n", "nats", "-o", "json", "--kubeconfig", kubeconfig.to_str().unwrap()];
            let released: Value = serde_json::from_str(&helm(&self.program, &released)).unwrap();
            assert_eq!(
                (&released[0]["chart"], &released[0]["status"]),
                (&json!("nats-1.2.9"), &json!("deployed"))
            );
            let config = ["get", "configmap", "nats-config", "-n", "nats", "-o", "jsonpath={.data}"];
            let config = self.rig.kubectl_ok(&kubeconfig, &config, "");
            assert!(config.contains("my-password"), "the chart has its values: {config}");
        }
        self.apply_file(folder, "user-operation.yaml");
        self.until_read();

        let [first, second] = self.rig.lab.clusters() else { panic!("two clusters were asked for") };
        self.publish(0, &event("login"));
        eventually(&format!("the namespace is there\n{}", self.log()), || {
            self.rig.namespace(first, "mgianluc")
        });
        self.until_shown(one, &[CHART, SECRET, ":Namespace"]);
        let table = String::from_utf8(self.rig.home.cli(&["show", "addons"]).stdout).unwrap();
        for expected in [
            " | helm chart    | nats           | nats         | 1.2.9   |",
            " | :Secret       | projectsveltos | sveltos-nats | N/A     |",
            " | :Namespace    |                | mgianluc     | N/A     |",
        ] {
            assert!(table.contains(&format!("| {one}{expected}")), "{expected}\n{table}");
        }
        assert!(self.rig.namespace(second, "mgianluc").is_none(), "the event was not of the other cluster");

        // The same user in the other cluster is another life.
        self.publish(1, &event("login"));
        eventually("the namespace is there, too", || self.rig.namespace(second, "mgianluc"));
        self.publish(0, &event("logout"));
        eventually(&format!("the namespace is gone\n{}", self.log()), || {
            self.rig.namespace(first, "mgianluc").is_none().then_some(())
        });
        assert!(self.rig.namespace(second, "mgianluc").is_some());
        eventually("only chart and Secret are shown", || {
            let shown = self.shown(one);
            (shown.len() == 2 && shown[0].starts_with(SECRET) && shown[1].starts_with(CHART)).then_some(())
        });

        // Both profiles go at once: the Secret first, for it depends on the chart.
        for file in ["user-operation.yaml", "nats-secret.yaml", "nats.yaml"] {
            let path = example(folder).join(file);
            let args = ["delete", "--wait=false", "-f", path.to_str().unwrap()];
            self.rig.kubectl_ok(&self.rig.management(), &args, "");
        }
        eventually(&format!("nothing is left\n{}", self.log()), || {
            self.rig.home.show("addons").is_empty().then_some(())
        });
        assert!(self.rig.namespace(second, "mgianluc").is_none());
    }
}

#[test]
fn with_our_kinds() {
    let story = Story::new();
    story.rig.prepare();
    for (index, cluster) in story.rig.lab.clusters().iter().enumerate() {
        let patch = json!({"spec": {"resolve": [story.mapping(index)]}}).to_string();
        let args = [
            "patch",
            "clusters.fleet-events.dev",
            cluster.name(),
            "-n",
            "civo",
            "--type=merge",
            "-p",
            &patch,
        ];
        story.rig.kubectl_ok(&story.rig.management(), &args, "");
    }
    let operator = story.run(&[]);
    story.tell("article");
    assert!(operator.stop().success());
}

#[test]
fn with_our_kinds_and_agents() {
    let story = Story::new();
    story.rig.install_crds();
    let story = story.with_agents("fleet");
    let operator = story.run(&[]);
    let agents = story.launch_agents();
    story.tell("article");
    assert!(agents.into_iter().all(|agent| agent.stop().success()));
    assert!(operator.stop().success());
}

/// A definition that lets everything through, as Sveltos' own would what the article has.
fn definition(group: &str, kind: &str, plural: &str, scope: &str) -> Value {
    let anything = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{group}"), "annotations": {
            "api-approved.kubernetes.io": "unapproved, for a test"}},
        "spec": {
            "group": group,
            "names": {"kind": kind, "plural": plural, "singular": kind.to_lowercase()},
            "scope": scope,
            "versions": [{
                "name": "v1beta1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": anything, "status": anything}}},
                "subresources": {"status": {}},
            }],
        },
    })
}

/// Installs what Sveltos' own kinds need.
fn install_sveltos(story: &Story) {
    let definitions = [
        definition("lib.projectsveltos.io", "EventSource", "eventsources", "Cluster"),
        definition("lib.projectsveltos.io", "EventTrigger", "eventtriggers", "Cluster"),
        definition("lib.projectsveltos.io", "SveltosCluster", "sveltosclusters", "Namespaced"),
        definition("config.projectsveltos.io", "ClusterProfile", "clusterprofiles", "Cluster"),
    ];
    for object in &definitions {
        story.apply(object);
        let name = object["metadata"]["name"].as_str().unwrap();
        let args = ["wait", "--for=condition=Established", "--timeout=30s", &format!("crd/{name}")];
        story.rig.kubectl_ok(&story.rig.management(), &args, "");
    }
}

#[test]
fn with_the_manifests_of_sveltos() {
    let story = Story::new();
    let management = story.rig.management();
    install_sveltos(&story);
    story.rig.kubectl_ok(&management, &["create", "namespace", "civo"], "");
    for (index, cluster) in story.rig.lab.clusters().iter().enumerate() {
        let kubeconfig = fs::read_to_string(story.rig.kubeconfig(cluster)).unwrap();
        let name = cluster.name();
        story.apply(&json!({"apiVersion": "v1", "kind": "Secret",
            "metadata": {"namespace": "civo", "name": format!("{name}-sveltos-kubeconfig")},
            "stringData": {"kubeconfig": kubeconfig}}));
        story.apply(&json!({"apiVersion": "lib.projectsveltos.io/v1beta1", "kind": "SveltosCluster",
            "metadata": {"namespace": "civo", "name": name, "labels": {"env": "production"},
                "annotations": {"fleet-events.dev/resolve": story.mapping(index)}},
            "spec": {}}));
    }

    // Beside Sveltos' own controllers it does not start.
    let controller = json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"namespace": "civo", "name": "event-manager"},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "x"}}, "template": {
            "metadata": {"labels": {"app": "x"}},
            "spec": {"containers": [{"name": "x", "image": "x"}]}}}});
    story.apply(&controller);
    let refused = story
        .rig
        .home
        .command()
        .args(["--api", "sveltos"])
        .stderr(std::process::Stdio::piped())
        .env("KUBECONFIG", &management)
        .output()
        .unwrap();
    let words = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success() && words.contains("civo/event-manager; scale them to 0"), "{words}");
    story.rig.kubectl_ok(
        &management,
        &["scale", "deployment/event-manager", "-n", "civo", "--replicas=0"],
        "",
    );

    let operator = story.run(&["--api", "sveltos"]);
    eventually(&format!("the clusters are ready\n{}", story.rig.home.log()), || {
        let clusters = story.rig.kubectl_ok(
            &management,
            &["get", "sveltosclusters.lib.projectsveltos.io", "-A", "-o",
                "jsonpath={range .items[*]}{.status.ready} {.status.version} {.metadata.labels}{\"\\n\"}{end}"],
            "",
        );
        let is_ready = |line: &str| {
            line.starts_with("true v1.") && line.contains("\"projectsveltos.io/k8s-version\":\"v1.")
        };
        (clusters.lines().count() == 2 && clusters.lines().all(is_ready)).then_some(())
    });
    story.tell("sveltos");
    assert!(operator.stop().success());
}

#[test]
fn with_the_manifests_of_sveltos_and_agents() {
    let story = Story::new();
    install_sveltos(&story);
    let story = story.with_agents("sveltos");
    // The hub may do what is printed for it, and no more; the agents do so anyway.
    let grants = ["--api", "sveltos", "--agent-namespace", "prod1,prod2", "--read-namespace", "default"];
    let management = story.rig.management();
    story.rig.kubectl_ok(&management, &["apply", "--server-side", "-f", "-"], &manifests(&grants));
    let account = account(&story.rig, "fleet-events");
    let operator = story.rig.home.run(|run| {
        run.env("KUBECONFIG", account).args(["--api", "sveltos", "--store", "kubernetes"]).args(story.helm())
    });
    let agents = story.launch_agents();
    story.tell("sveltos");
    let log = story.log();
    assert!(!log.contains("orbidden"), "{log}");
    assert!(agents.into_iter().all(|agent| agent.stop().success()));
    assert!(operator.stop().success());
}
