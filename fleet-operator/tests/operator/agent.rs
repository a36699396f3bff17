//! Agents: a hub and two managed clusters, each with a NATS that only it knows. The agents are processes that have no more
//! than the tokens of the accounts that `register cluster --agent` made for them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use async_nats::ConnectOptions;
use async_nats::jetstream::{self, stream};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
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

/// What a gzip holds.
fn unpacked(bytes: &[u8]) -> String {
    use std::io::Write as _;
    let mut gzip =
        Command::new("gzip").arg("-dc").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    gzip.stdin.take().unwrap().write_all(bytes).unwrap();
    String::from_utf8(gzip.wait_with_output().unwrap().stdout).unwrap()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
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
