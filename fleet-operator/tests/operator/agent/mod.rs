//! Agents: a hub and two managed clusters, each with a NATS that only it knows. The agents are processes that have no more
//! than the tokens of the accounts that `register cluster --agent` made for them.

mod accounts;
mod driven;
mod objects;
mod references;
mod relay;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use async_nats::ConnectOptions;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use local_fleet::{Cluster, Nats, NatsOptions, Route};
use serde_json::{Value, json};

use crate::process::{Home, Operator, PROGRAM, event, eventually};
use crate::rig::Rig;

const INSIDE: &str = "nats.nats.svc.cluster.local:4222";
const USERS: &str = "authorization { users: [{user: admin, password: my-password}] }";

/// A kubeconfig with the token of the account that the agent has in its cluster.
pub(crate) fn own_kubeconfig(rig: &Rig, dir: &Path, index: usize) -> PathBuf {
    let cluster = &rig.lab.clusters()[index];
    let create = ["create", "token", "fleet-agent", "-n", "fleet-events"];
    let token = rig.kubectl_ok(&rig.kubeconfig(cluster), &create, "");
    let admin = cluster.kubeconfig().unwrap();
    let (server, _) = admin.split_once("users:").unwrap();
    let name = cluster.name();
    let file = dir.join(format!("{name}-own.kubeconfig"));
    let user = format!("users:\n- name: {name}\n  user:\n    token: {}\n", token.trim());
    fs::write(&file, format!("{server}{user}")).unwrap();
    file
}

/// A hub and two clusters with agents.
struct Fleet {
    // Dropped before the runtime that looks after their processes.
    nats: [Nats; 2],
    homes: [Home; 2],
    dir: tempfile::TempDir,
    rig: Rig,
}

impl Fleet {
    fn start() -> Self {
        let rig = Rig::new(true, 2);
        let dir = tempfile::tempdir().unwrap();
        let options = NatsOptions::default().jetstream(true).config(USERS);
        let nats = rig.runtime.block_on(async {
            [
                Nats::start_named(dir.path(), "one", &options).await.unwrap(),
                Nats::start_named(dir.path(), "two", &options).await.unwrap(),
            ]
        });
        let fleet = Self { nats, homes: [Home::new(), Home::new()], dir, rig };
        fleet.rig.install_crds();
        let source = json!({"apiVersion": "fleet-events.dev/v1alpha1", "kind": "EventSource",
            "metadata": {"name": "users"}, "spec": {"nats": {"clusterSecretRef": {}}}});
        fleet.at_hub(&source);
        for name in ["cluster1", "cluster2"] {
            fleet.define(name);
        }
        fleet
    }

    /// What a login does in a cluster, which only that one needs to know.
    fn define(&self, cluster: &str) {
        let trigger = json!({"apiVersion": "fleet-events.dev/v1alpha1", "kind": "EventTrigger",
            "metadata": {"name": format!("in-{cluster}")},
            "spec": {"eventSourceName": "users", "oneForEvent": true,
                "sourceClusterSelector": {"matchLabels": {"name": cluster}},
                "cloudEventAction":
                    "{% if event.type == \"auth.example.com.logout\" %}Delete{% else %}Create{% endif %}",
                "policyRefs": [{"kind": "ConfigMap", "namespace": "default", "name": format!("for-{cluster}")}]}});
        let note = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  namespace: default\n  \
                    name: {{ event.subject }}\ndata:\n  id: '{{ event.id }}'\n  of: '{{ origin.name }}'\n---\n\
                    apiVersion: v1\nkind: Namespace\nmetadata:\n  name: user-{{ event.subject }}\n";
        let template = json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"namespace": "default", "name": format!("for-{cluster}"),
                "annotations": {"fleet-events.dev/template": "true"}},
            "data": {"note.yaml": note}});
        self.at_hub(&template);
        self.at_hub(&trigger);
    }

    fn at_hub(&self, object: &Value) {
        self.rig.kubectl_ok(&self.rig.management(), &["apply", "-f", "-"], &object.to_string());
    }

    fn cluster(&self, index: usize) -> &Cluster {
        &self.rig.lab.clusters()[index]
    }

    fn kubectl(&self, index: usize, args: &[&str], input: &str) -> String {
        self.rig.kubectl_ok(&self.rig.kubeconfig(self.cluster(index)), args, input)
    }

    fn address(&self, index: usize) -> String {
        self.nats[index].url(Route::Direct).split_once("://").unwrap().1.to_owned()
    }

    /// Registers a cluster, and installs in it what that prints.
    fn register(&self, index: usize, further: &[&str]) {
        let (name, namespace) = (format!("cluster{}", index + 1), format!("prod{}", index + 1));
        let labels = format!("env=production,name={name}");
        // What the templates need, and the Secret of NATS.
        let payload = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": {"name": "payload"},
        "rules": [
            {"apiGroups": [""], "resources": ["namespaces", "configmaps"],
             "verbs": ["get", "list", "watch", "create", "patch", "delete"]},
            {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["sveltos-nats"],
             "verbs": ["get", "list", "watch"]},
        ]});
        let nats = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "projectsveltos"}});
        for object in [payload, nats] {
            self.kubectl(index, &["apply", "-f", "-"], &object.to_string());
        }
        let output = Command::new(PROGRAM)
            .args(["register", "cluster", &name, "-n", &namespace, "--agent", "--labels", &labels])
            .args(["--image", "fleet-operator:test", "--cluster-role", "payload"])
            .args(further)
            .env("KUBECONFIG", self.rig.management())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let printed = String::from_utf8(output.stdout).unwrap();
        if !further.contains(&"--apply") {
            self.kubectl(index, &["apply", "-f", "-"], &printed);
        }
        self.kubectl(index, &["wait", "--for=condition=Established", "crd", "--all"], "");
    }

    /// Says in a cluster how its NATS is reached and read.
    fn tell(&self, index: usize, kind: &str, read: Value) {
        let mut connection = json!({"url": format!("nats://{INSIDE}"),
            "authorization": {"user": {"user": "admin", "password": "my-password"}}});
        connection.as_object_mut().unwrap().extend(read.as_object().unwrap().clone());
        let text = json!({(kind): {"configuration": connection}}).to_string();
        let secret = json!({"apiVersion": "v1", "kind": "Secret",
            "metadata": {"namespace": "projectsveltos", "name": "sveltos-nats"},
            "stringData": {"sveltos-nats": text}});
        self.kubectl(index, &["apply", "-f", "-"], &secret.to_string());
    }

    fn hub(&self, store: &str) -> Operator<'_> {
        let management = self.rig.management();
        let args = ["--agent-silent-after", "4s", "--store", store];
        self.rig.home.run(|run| run.env("KUBECONFIG", management).args(args))
    }

    fn agent(&self, index: usize, further: &[&str]) -> Operator<'_> {
        let own = own_kubeconfig(&self.rig, self.dir.path(), index);
        let (id, resolve) =
            (format!("prod{0}/cluster{0}", index + 1), format!("{INSIDE}={}", self.address(index)));
        self.homes[index].launch_agent(|agent| {
            agent
                .env("KUBECONFIG", own)
                .args(["--cluster", &id, "--heartbeat", "1s", "--resolve", &resolve])
                .args(further)
        })
    }

    async fn client(&self, index: usize) -> async_nats::Client {
        let options = ConnectOptions::new().user_and_password("admin".to_owned(), "my-password".to_owned());
        options.connect(self.nats[index].url(Route::Direct)).await.unwrap()
    }

    fn publish(&self, index: usize, what: &str, user: &str) {
        self.rig.runtime.block_on(async {
            let client = self.client(index).await;
            client.publish(format!("users.{user}"), event(what, user).into()).await.unwrap();
            client.flush().await.unwrap();
        });
    }

    fn names(&self, index: usize) -> BTreeSet<String> {
        self.rig.notes_in(self.cluster(index)).into_keys().collect()
    }

    fn logs(&self) -> String {
        format!("hub:\n{}\none:\n{}\ntwo:\n{}", self.rig.home.log(), self.homes[0].log(), self.homes[1].log())
    }

    fn until_names(&self, index: usize, expected: &[&str]) {
        let expected: BTreeSet<String> = expected.iter().map(|name| (*name).to_owned()).collect();
        eventually(&format!("cluster{} holds {expected:?}\n{}", index + 1, self.logs()), || {
            (self.names(index) == expected).then_some(())
        });
    }

    /// A Cluster at the hub.
    fn seen(&self, index: usize) -> Value {
        let (name, namespace) = (format!("cluster{}", index + 1), format!("prod{}", index + 1));
        let args = ["get", "clusters.fleet-events.dev", &name, "-n", &namespace, "-o", "json"];
        serde_json::from_slice(&self.rig.kubectl(&self.rig.management(), &args, "").stdout)
            .unwrap_or_default()
    }

    /// Waits until a Cluster is, or is not, ready for a reason.
    fn until_seen(&self, index: usize, status: &str, reason: &str) -> Value {
        eventually(&format!("cluster{} is {reason}\n{}", index + 1, self.logs()), || {
            let cluster = self.seen(index);
            let conditions = cluster["status"]["conditions"].as_array()?;
            let ready = conditions.iter().find(|it| it["type"] == "Ready")?;
            (ready["status"] == status && ready["reason"] == reason).then(|| cluster.clone())
        })
    }

    /// The sources of an agent are read.
    fn reads(&self, index: usize) {
        eventually(&format!("NATS is read\n{}", self.logs()), || {
            (self.homes[index].show("sources").first()?["ready"] == true).then_some(())
        });
    }

    /// What is mirrored of a cluster: phases by the names of the ConfigMaps.
    fn mirrored(&self, index: usize) -> BTreeSet<String> {
        let namespace = format!("prod{}", index + 1);
        let args = ["get", "appliedworks", "-n", &namespace, "-o", "json"];
        let output = self.rig.kubectl(&self.rig.management(), &args, "");
        let list: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let items = list["items"].as_array().cloned().unwrap_or_default();
        let of_one = |item: &Value| {
            let objects = item["spec"]["inventory"].as_array().cloned().unwrap_or_default();
            let note = objects.iter().find(|it| it["object"]["kind"] == "ConfigMap")?;
            let name = note["object"]["name"].as_str()?.to_owned();
            (item["spec"]["state"]["phase"] == "Applied").then_some(name)
        };
        items.iter().filter_map(of_one).collect()
    }

    fn until_mirrored(&self, index: usize, expected: &BTreeSet<String>) {
        eventually(&format!("cluster{} is mirrored\n{}", index + 1, self.logs()), || {
            (self.mirrored(index) == *expected).then_some(())
        });
    }

    /// The kubeconfig that an agent has for the hub.
    fn hub_kubeconfig(&self, index: usize) -> String {
        let args = ["get", "secret", "fleet-agent-hub", "-n", "fleet-events", "-o", "json"];
        let secret: Value = serde_json::from_str(&self.kubectl(index, &args, "")).unwrap();
        let text = STANDARD.decode(secret["data"]["kubeconfig"].as_str().unwrap()).unwrap();
        String::from_utf8(text).unwrap()
    }
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}
