//! The story of logins and logouts on real NATS and real Kubernetes API servers, with the commands that users type.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use local_fleet::{Cluster, Lab, Nats, NatsAccess, NatsAuth, NatsOptions, Program, Progress, Route, install};
use serde_json::{Value, json};

use crate::process::{Home, PROGRAM, event, eventually, example};

/// Servers, and what is needed to talk to them.
struct Rig {
    // Dropped before the runtime that looks after its processes.
    lab: Lab,
    kubectl: PathBuf,
    home: Home,
    runtime: tokio::runtime::Runtime,
}

impl Rig {
    fn new(management: bool, clusters: usize) -> Self {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let nats = NatsOptions::default().jetstream(true).auth(NatsAuth::UserPassword);
        let builder = Lab::builder().management(management).clusters(clusters).nats(nats);
        let lab = runtime.block_on(builder.start_scratch()).unwrap();
        let kubectl = runtime.block_on(install::find(Program::Kubectl, &Progress::default())).unwrap();
        let rig = Self { lab, kubectl, home: Home::new(), runtime };
        fs::create_dir(rig.home.folder()).unwrap();
        for cluster in rig.lab.clusters().iter().chain(rig.lab.management()) {
            fs::write(rig.kubeconfig(cluster), cluster.kubeconfig().unwrap()).unwrap();
        }
        rig
    }

    fn kubeconfig(&self, cluster: &Cluster) -> PathBuf {
        self.home.folder().join(format!("{}.kubeconfig", cluster.name()))
    }

    fn management(&self) -> PathBuf {
        self.kubeconfig(self.lab.management().unwrap())
    }

    fn nats(&self) -> &Nats {
        self.lab.nats().unwrap()
    }

    fn login(&self) -> (String, String) {
        match self.nats().access() {
            NatsAccess::UserPassword { user, password } => (user.clone(), password.clone()),
            _ => panic!("a lab with user and password was asked for"),
        }
    }

    /// The Secret that says how NATS is reached.
    fn secret(&self, password: &str) -> Value {
        let (user, _) = self.login();
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"namespace": "default", "name": "nats"},
            "stringData": {"url": self.nats().url(Route::Direct), "user": user, "password": password}})
    }

    /// `fleet-operator send` to NATS.
    fn publish(&self, subject: &str, event: &str) {
        let (user, password) = self.login();
        let url = self.nats().url(Route::Direct).replace("://", &format!("://{user}:{password}@"));
        let command =
            Command::new(PROGRAM).args(["send", "-", "--to", &url, "--subject", subject]).input(event);
        assert!(command.status.success(), "{}", String::from_utf8_lossy(&command.stderr));
    }

    fn kubectl(&self, kubeconfig: &Path, args: &[&str], input: &str) -> Output {
        Command::new(&self.kubectl).args(args).env("KUBECONFIG", kubeconfig).input(input)
    }

    fn kubectl_ok(&self, kubeconfig: &Path, args: &[&str], input: &str) -> String {
        let output = self.kubectl(kubeconfig, args, input);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// A namespace's UID, while it is not being deleted.
    fn namespace(&self, cluster: &Cluster, name: &str) -> Option<String> {
        let output = self.kubectl(&self.kubeconfig(cluster), &["get", "namespace", name, "-o", "json"], "");
        let object: Value = serde_json::from_slice(&output.stdout).ok()?;
        let metadata = &object["metadata"];
        metadata["deletionTimestamp"].is_null().then(|| metadata["uid"].as_str().map(str::to_owned))?
    }

    fn arrives(&self, name: &str) {
        for cluster in self.lab.clusters() {
            eventually(&format!("{name} is made in {}\n{}", cluster.name(), self.home.log()), || {
                self.namespace(cluster, name)
            });
        }
    }

    fn goes(&self, name: &str) {
        for cluster in self.lab.clusters() {
            eventually(&format!("{name} goes from {}", cluster.name()), || {
                self.namespace(cluster, name).is_none().then_some(())
            });
        }
    }

    /// Prepares the management cluster as the README says, but for the definitions.
    fn prepare(&self) {
        let management = self.management();
        let crds = Command::new(PROGRAM).arg("crds").output().unwrap();
        let crds = String::from_utf8(crds.stdout).unwrap();
        self.kubectl_ok(&management, &["apply", "--server-side", "-f", "-"], &crds);
        self.kubectl_ok(&management, &["wait", "--for=condition=Established", "crd", "--all"], "");
        for cluster in self.lab.clusters() {
            let output = Command::new(PROGRAM)
                .args([
                    "register",
                    "cluster",
                    cluster.name(),
                    "--namespace",
                    "civo",
                    "--labels",
                    "env=production",
                ])
                .arg("--kubeconfig")
                .arg(self.kubeconfig(cluster))
                .env("KUBECONFIG", &management)
                .output()
                .unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        self.kubectl_ok(&management, &["apply", "-f", "-"], &self.secret(&self.login().1).to_string());
    }

    fn apply_example(&self, file: &str) {
        let file = example("user-namespaces").join(file);
        self.kubectl_ok(&self.management(), &["apply", "-f", &file.display().to_string()], "");
    }
}

trait Input {
    /// Runs a command to its end with a text on its stdin.
    fn input(&mut self, text: &str) -> Output;
}

impl Input for Command {
    fn input(&mut self, text: &str) -> Output {
        use std::io::Write;
        let command = self.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // A command that does not read it may be gone already.
        let _ = child.stdin.take().unwrap().write_all(text.as_bytes());
        child.wait_with_output().unwrap()
    }
}

#[test]
fn logins_over_nats_reach_registered_clusters() {
    let rig = Rig::new(true, 2);
    rig.prepare();
    for file in ["event-source.yaml", "event-trigger.yaml"] {
        rig.apply_example(file);
    }
    let management = rig.management();
    let operator = rig.home.start_managed(&management);
    let wait = ["wait", "--for=condition=Ready", "--timeout=30s"];
    for what in ["clusters.fleet-events.dev", "eventsources", "eventtriggers"] {
        let all: &[&str] =
            if what.starts_with("clusters") { &[what, "--all", "-n", "civo"] } else { &[what, "--all"] };
        eventually(&format!("{what} become ready\n{}", rig.home.log()), || {
            rig.kubectl(&management, &[&wait[..], all].concat(), "").status.success().then_some(())
        });
    }
    let shown = rig.kubectl_ok(&management, &["get", "clusters.fleet-events.dev", "-A", "--show-labels"], "");
    assert!(shown.contains("fleet-events.dev/kubernetes-version=v1."), "{shown}");

    rig.publish("user-operation", &event("login", "mgianluc"));
    rig.arrives("mgianluc");
    let table = String::from_utf8(rig.home.cli(&["show", "addons"]).stdout).unwrap();
    assert!(table.contains("| civo/cluster1 | :Namespace    |           | mgianluc |"), "{table}");
    let before: Vec<_> =
        rig.lab.clusters().iter().map(|cluster| rig.namespace(cluster, "mgianluc").unwrap()).collect();
    rig.publish("user-operation", &event("logout", "mgianluc"));
    rig.publish("user-operation", &event("login", "mgianluc"));
    for (cluster, before) in rig.lab.clusters().iter().zip(before) {
        eventually("a namespace of a new life", || {
            rig.namespace(cluster, "mgianluc").filter(|uid| *uid != before)
        });
    }
    rig.publish("user-operation", &event("logout", "mgianluc"));
    rig.goes("mgianluc");

    rig.publish("user-operation", &event("login", "kube-system"));
    eventually("the conflict is shown", || {
        rig.home
            .show("addons")
            .iter()
            .any(|row| row["state"] == "Stalled" && row["name"] == "kube-system")
            .then_some(())
    });
    rig.publish("user-operation", &event("logout", "kube-system"));
    eventually("nothing is left of it", || rig.home.show("addons").is_empty().then_some(()));
    for cluster in rig.lab.clusters() {
        assert!(rig.namespace(cluster, "kube-system").is_some(), "a logout for kube-system deletes nothing");
    }

    // The same over a stream: what is published while no operator runs is not lost.
    let stream = json!({"spec": {"nats": {"jetStream": {"stream": "users", "create": true}}}}).to_string();
    rig.kubectl_ok(
        &management,
        &["patch", "eventsource", "user-operation", "--type=merge", "-p", &stream],
        "",
    );
    eventually(&format!("the stream is read\n{}", rig.home.log()), || {
        let row = rig.home.show("sources").remove(0);
        (row["transport"] == "jetStream" && row["ready"] == true).then_some(())
    });
    rig.publish("user-operation", &event("login", "anna"));
    rig.arrives("anna");
    operator.kill();
    rig.publish("user-operation", &event("login", "berta"));
    rig.publish("user-operation", &event("logout", "anna"));
    let operator = rig.home.start_managed(&management);
    rig.arrives("berta");
    rig.goes("anna");
    assert!(operator.stop().success());
}

#[test]
fn a_folder_needs_no_management_cluster() {
    let rig = Rig::new(false, 2);
    for cluster in rig.lab.clusters() {
        let name = cluster.name();
        let object = json!({"apiVersion": "fleet-events.dev/v1alpha1", "kind": "Cluster",
            "metadata": {"namespace": "civo", "name": name, "labels": {"env": "production"}},
            "spec": {"kubeconfigFile": format!("{name}.kubeconfig")}});
        rig.home.write(&format!("{name}.yaml"), &object.to_string());
    }
    for file in ["event-source.yaml", "event-trigger.yaml"] {
        fs::copy(example("user-namespaces").join(file), rig.home.folder().join(file)).unwrap();
    }
    // NATS is down at first, and the password wrong.
    rig.runtime.block_on(rig.nats().server().stop()).unwrap();
    rig.home.write("secret.yaml", &rig.secret("wrong").to_string());
    let operator = rig.home.start();
    let source = |ready: bool| {
        eventually(&format!("the source's readiness is {ready}\n{}", rig.home.log()), || {
            Some(rig.home.show("sources").remove(0)).filter(|row| row["ready"] == ready)
        })
    };
    let down = source(false);
    rig.runtime.block_on(rig.nats().server().start()).unwrap();
    eventually("a wrong password is told", || {
        let row = rig.home.show("sources").remove(0);
        (row["ready"] == false && row["reason"] != down["reason"]).then_some(())
    });
    rig.home.write("secret.yaml", &rig.secret(&rig.login().1).to_string());
    source(true);
    eventually("the clusters are ready", || {
        rig.home.show("clusters").iter().all(|cluster| cluster["ready"] == true).then_some(())
    });
    rig.publish("user-operation", &event("login", "mgianluc"));
    rig.arrives("mgianluc");
    rig.publish("user-operation", &event("logout", "mgianluc"));
    rig.goes("mgianluc");
    let log = rig.home.log();
    assert!(!log.contains(&rig.login().1) && !log.contains("hunter2"), "{log}");
    assert!(operator.stop().success());
}
