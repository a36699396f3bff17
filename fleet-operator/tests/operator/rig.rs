//! Real NATS and real Kubernetes API servers, with the commands that users type.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use local_fleet::{Cluster, Lab, Nats, NatsAccess, NatsAuth, NatsOptions, Program, Progress, Route, install};
use serde_json::{Value, json};

use crate::process::{Home, PROGRAM, event, eventually, example};

/// The stream that `read_stream` has the EventSource read.
pub(crate) const STREAM: &str = "users";

/// Servers, and what is needed to talk to them.
pub(crate) struct Rig {
    // Dropped before the runtime that looks after its processes.
    pub(crate) lab: Lab,
    kubectl: PathBuf,
    pub(crate) home: Home,
    pub(crate) runtime: tokio::runtime::Runtime,
}

impl Rig {
    pub(crate) fn new(management: bool, clusters: usize) -> Self {
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

    pub(crate) fn kubeconfig(&self, cluster: &Cluster) -> PathBuf {
        self.home.folder().join(format!("{}.kubeconfig", cluster.name()))
    }

    pub(crate) fn management(&self) -> PathBuf {
        self.kubeconfig(self.lab.management().unwrap())
    }

    pub(crate) fn nats(&self) -> &Nats {
        self.lab.nats().unwrap()
    }

    pub(crate) fn login(&self) -> (String, String) {
        match self.nats().access() {
            NatsAccess::UserPassword { user, password } => (user.clone(), password.clone()),
            _ => panic!("a lab with user and password was asked for"),
        }
    }

    /// The Secret that says how NATS is reached.
    pub(crate) fn secret(&self, password: &str) -> Value {
        let (user, _) = self.login();
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"namespace": "default", "name": "nats"},
            "stringData": {"url": self.nats().url(Route::Direct), "user": user, "password": password}})
    }

    /// `fleet-operator send` to NATS.
    pub(crate) fn publish(&self, subject: &str, event: &str) {
        let (user, password) = self.login();
        let url = self.nats().url(Route::Direct).replace("://", &format!("://{user}:{password}@"));
        let command =
            Command::new(PROGRAM).args(["send", "-", "--to", &url, "--subject", subject]).input(event);
        assert!(command.status.success(), "{}", String::from_utf8_lossy(&command.stderr));
    }

    pub(crate) fn kubectl(&self, kubeconfig: &Path, args: &[&str], input: &str) -> Output {
        Command::new(&self.kubectl).args(args).env("KUBECONFIG", kubeconfig).input(input)
    }

    pub(crate) fn kubectl_ok(&self, kubeconfig: &Path, args: &[&str], input: &str) -> String {
        let output = self.kubectl(kubeconfig, args, input);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// A namespace's UID, while it is not being deleted.
    pub(crate) fn namespace(&self, cluster: &Cluster, name: &str) -> Option<String> {
        let output = self.kubectl(&self.kubeconfig(cluster), &["get", "namespace", name, "-o", "json"], "");
        let object: Value = serde_json::from_slice(&output.stdout).ok()?;
        let metadata = &object["metadata"];
        metadata["deletionTimestamp"].is_null().then(|| metadata["uid"].as_str().map(str::to_owned))?
    }

    pub(crate) fn arrives(&self, name: &str) {
        for cluster in self.lab.clusters() {
            eventually(&format!("{name} is made in {}\n{}", cluster.name(), self.home.log()), || {
                self.namespace(cluster, name)
            });
        }
    }

    pub(crate) fn goes(&self, name: &str) {
        for cluster in self.lab.clusters() {
            eventually(&format!("{name} goes from {}", cluster.name()), || {
                self.namespace(cluster, name).is_none().then_some(())
            });
        }
    }

    /// Installs the definitions of our kinds in the management cluster.
    pub(crate) fn install_crds(&self) {
        let management = self.management();
        let crds = Command::new(PROGRAM).arg("crds").output().unwrap();
        let crds = String::from_utf8(crds.stdout).unwrap();
        self.kubectl_ok(&management, &["apply", "--server-side", "-f", "-"], &crds);
        self.kubectl_ok(&management, &["wait", "--for=condition=Established", "crd", "--all"], "");
    }

    /// Prepares the management cluster as the README says, but for the definitions.
    pub(crate) fn prepare(&self) {
        let management = self.management();
        self.install_crds();
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

    /// All that a login puts somewhere, so that a test can count it quickly: a ConfigMap a user, with the event's id.
    pub(crate) fn notes_in(&self, cluster: &Cluster) -> BTreeMap<String, String> {
        let args = ["get", "configmaps", "-l", "fleet-events.dev/work", "-o", "json"];
        let output = self.kubectl(&self.kubeconfig(cluster), &args, "");
        let list: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let items = list["items"].as_array().cloned().unwrap_or_default();
        let note = |item: &Value| {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            (text(&item["metadata"]["name"]), text(&item["data"]["id"]))
        };
        items.iter().map(note).collect()
    }

    /// The definitions for `notes_in`, read from a stream, on the management cluster if there is one, else in the folder.
    pub(crate) fn define_notes(&self, ack_wait: &str) {
        let source = json!({"apiVersion": "fleet-events.dev/v1alpha1", "kind": "EventSource",
            "metadata": {"name": "users"},
            "spec": {"nats": {"connectionSecretRef": {"namespace": "default", "name": "nats"},
                "subjects": ["users.>"],
                "jetStream": {"stream": STREAM, "create": true, "ackWait": ack_wait}}}});
        let trigger = json!({"apiVersion": "fleet-events.dev/v1alpha1", "kind": "EventTrigger",
            "metadata": {"name": "notes"},
            "spec": {"eventSourceName": "users", "oneForEvent": true,
                "sourceClusterSelector": {"matchLabels": {"env": "production"}},
                "cloudEventAction":
                    "{% if event.type == \"auth.example.com.logout\" %}Delete{% else %}Create{% endif %}",
                "policyRefs": [{"kind": "ConfigMap", "namespace": "default", "name": "note"}]}});
        let note = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  namespace: default\n  \
                    name: {{ event.subject }}\ndata:\n  id: '{{ event.id }}'\n";
        let template = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": "default",
            "name": "note", "annotations": {"fleet-events.dev/template": "true"}}, "data": {"note.yaml": note}});
        let secret = self.secret(&self.login().1);
        for (name, object) in
            [("secret", secret), ("source", source), ("template", template), ("trigger", trigger)]
        {
            if self.lab.management().is_some() {
                self.kubectl_ok(&self.management(), &["apply", "-f", "-"], &object.to_string());
            } else {
                self.home.write(&format!("{name}.yaml"), &object.to_string());
            }
        }
        if self.lab.management().is_none() {
            for cluster in self.lab.clusters() {
                let name = cluster.name();
                let object = json!({"apiVersion": "fleet-events.dev/v1alpha1", "kind": "Cluster",
                    "metadata": {"namespace": "civo", "name": name, "labels": {"env": "production"}},
                    "spec": {"kubeconfigFile": format!("{name}.kubeconfig")}});
                self.home.write(&format!("{name}.yaml"), &object.to_string());
            }
        }
    }

    /// Publishes events to the stream as fast as it takes them.
    pub(crate) fn publish_all(&self, events: impl IntoIterator<Item = (&'static str, String, u64)>) {
        let (user, password) = self.login();
        let url = self.nats().url(Route::Direct);
        self.runtime.block_on(async {
            let options = async_nats::ConnectOptions::new().user_and_password(user, password);
            let stream = async_nats::jetstream::new(options.connect(url).await.unwrap());
            for (what, subject, id) in events {
                let mut event: Value = serde_json::from_str(&event(what, &subject)).unwrap();
                event["id"] = json!(id.to_string());
                let sent =
                    stream.publish(format!("users.{subject}"), event.to_string().into()).await.unwrap();
                sent.await.unwrap();
            }
        });
    }

    pub(crate) fn apply_example(&self, file: &str) {
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
