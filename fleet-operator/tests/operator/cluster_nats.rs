//! EventSources that read the NATS in each source cluster: real API servers, each with a real NATS server of its own, whose
//! name only the cluster knows.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use async_nats::ConnectOptions;
use async_nats::jetstream::{self, stream};
use local_fleet::{Cluster, Nats, NatsOptions, NatsTls, Route};
use serde_json::{Value, json};

use crate::process::{event, eventually};
use crate::rig::Rig;

const INSIDE: &str = "nats.nats.svc.cluster.local:4222";
const USERS: &str =
    "authorization { users: [{user: admin, password: my-password}, {user: next, password: hunter2}] }";

/// Two production clusters and the NATS in each.
struct Fleet {
    // Dropped before the runtime that looks after their processes.
    nats: [Nats; 2],
    _dir: tempfile::TempDir,
    rig: Rig,
}

impl Fleet {
    /// The second NATS speaks TLS.
    fn start() -> Self {
        let rig = Rig::new(false, 2);
        let dir = tempfile::tempdir().unwrap();
        let options = NatsOptions::default().jetstream(true).config(USERS);
        let with_tls = options.clone().tls(NatsTls::Server).tls_name("nats.nats.svc.cluster.local");
        let nats = rig.runtime.block_on(async {
            [
                Nats::start_named(dir.path(), "one", &options).await.unwrap(),
                Nats::start_named(dir.path(), "two", &with_tls).await.unwrap(),
            ]
        });
        let fleet = Self { nats, _dir: dir, rig };
        fleet.rig.define_notes("2s");
        fleet.write("source.yaml", &fleet.source(json!({"clusterSecretRef": {}})));
        for (index, cluster) in fleet.rig.lab.clusters().iter().enumerate() {
            fleet.define_cluster(index, &[&format!("{INSIDE}={}", fleet.address(index))]);
            let namespace =
                json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "projectsveltos"}});
            fleet.apply(cluster, &namespace);
        }
        fleet
    }

    fn write(&self, file: &str, object: &Value) {
        self.rig.home.write(file, &object.to_string());
    }

    fn source(&self, nats: Value) -> Value {
        json!({"apiVersion": "fleet-events.dev/v1alpha1", "kind": "EventSource", "metadata": {"name": "users"},
            "spec": {"nats": nats}})
    }

    fn cluster(&self, index: usize) -> &Cluster {
        &self.rig.lab.clusters()[index]
    }

    /// Where a NATS listens, as HOST:PORT.
    fn address(&self, index: usize) -> String {
        self.nats[index].url(Route::Direct).split_once("://").unwrap().1.to_owned()
    }

    fn define_cluster(&self, index: usize, resolve: &[&str]) {
        self.define_cluster_in(index, "production", resolve);
    }

    fn define_cluster_in(&self, index: usize, env: &str, resolve: &[&str]) {
        let name = self.cluster(index).name();
        let object = json!({"apiVersion": "fleet-events.dev/v1alpha1", "kind": "Cluster",
            "metadata": {"namespace": "civo", "name": name, "labels": {"env": env}},
            "spec": {"kubeconfigFile": format!("{name}.kubeconfig"), "resolve": resolve}});
        self.write(&format!("{name}.yaml"), &object);
    }

    fn apply(&self, cluster: &Cluster, object: &Value) {
        let kubeconfig = self.rig.kubeconfig(cluster);
        self.rig.kubectl_ok(&kubeconfig, &["apply", "-f", "-"], &object.to_string());
    }

    /// Writes the Secret of a cluster.
    fn tell(&self, index: usize, text: &str) {
        let secret = json!({"apiVersion": "v1", "kind": "Secret",
            "metadata": {"namespace": "projectsveltos", "name": "sveltos-nats"},
            "stringData": {"sveltos-nats": text}});
        self.apply(self.cluster(index), &secret);
    }

    /// How a NATS is reached and read, as Sveltos has it.
    fn connection(&self, index: usize, (user, password): (&str, &str), read: Value) -> Value {
        let mut connection = json!({"url": format!("nats://{INSIDE}"),
            "authorization": {"user": {"user": user, "password": password}}});
        if index == 1 {
            let authority = std::fs::read_to_string(self.nats[1].authority_file()).unwrap();
            connection["authorization"]["rootCA"] = json!(authority);
        }
        let fields = read.as_object().unwrap().clone();
        connection.as_object_mut().unwrap().extend(fields);
        json!({"configuration": connection})
    }

    fn tell_subject(&self, index: usize, login: (&str, &str)) {
        let nats = self.connection(index, login, json!({"subjects": ["users.>"]}));
        self.tell(index, &json!({"nats": nats}).to_string());
    }

    async fn client(&self, index: usize) -> async_nats::Client {
        let mut options =
            ConnectOptions::new().user_and_password("admin".to_owned(), "my-password".to_owned());
        if index == 1 {
            options = options.add_root_certificates(self.nats[1].authority_file());
        }
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

    fn until_names(&self, index: usize, expected: &[&str]) {
        let expected: BTreeSet<String> = expected.iter().map(|name| (*name).to_owned()).collect();
        let what = format!("{} holds {expected:?}\n{}", self.cluster(index).name(), self.rig.home.log());
        eventually(&what, || (self.names(index) == expected).then_some(()));
    }

    /// The message of the source's condition, once it is as asked for.
    fn said(&self, reason: &str, part: &str) -> String {
        eventually(&format!("the source says {reason}, {part}\n{}", self.rig.home.log()), || {
            let row = self.rig.home.show("sources").remove(0);
            let message = row["message"].as_str()?.to_owned();
            (row["reason"] == reason && message.contains(part)).then_some(message)
        })
    }
}

#[test]
fn each_cluster_has_its_own_nats_and_its_events_stay_there() {
    let fleet = Fleet::start();
    let login = ("admin", "my-password");
    fleet.tell_subject(0, login);
    fleet.define_cluster(0, &[]);
    let operator = fleet.rig.home.start();

    // Nothing is known of the second, and the name of the first does not resolve here.
    let message =
        fleet.said("FeedsNotReady", "Secret projectsveltos/sveltos-nats does not exist in the cluster");
    let advice = "Cluster civo/cluster1: map the name in spec.resolve, or run an agent in the cluster";
    let message = if message.contains(advice) { message } else { fleet.said("FeedsNotReady", advice) };
    assert!(message.contains("nats://nats.nats.svc.cluster.local:4222 does not resolve here"), "{message}");
    assert!(message.contains("fleet-operator register cluster --agent"), "{message}");

    fleet.define_cluster(0, &[&format!("{INSIDE}={}", fleet.address(0))]);
    fleet.tell_subject(1, login);
    fleet.said("Connected", "all 2 feeds are read");

    // The same subject in both: two lifecycles, each where it came from.
    fleet.publish(0, "login", "anna");
    fleet.until_names(0, &["anna"]);
    assert!(fleet.names(1).is_empty());
    fleet.publish(1, "login", "anna");
    fleet.until_names(1, &["anna"]);
    fleet.publish(1, "logout", "anna");
    fleet.until_names(1, &[]);
    assert!(fleet.names(0).contains("anna"));

    // One NATS is down: the other goes on, and it is said which.
    fleet.rig.runtime.block_on(fleet.nats[0].server().stop()).unwrap();
    let message = fleet.said("ConnectionFailed", "1 of 2 feeds are not ready: civo/cluster1: ");
    assert!(!message.contains("cluster2"), "{message}");
    fleet.publish(1, "login", "berta");
    fleet.until_names(1, &["berta"]);
    fleet.rig.runtime.block_on(fleet.nats[0].server().start()).unwrap();
    fleet.said("Connected", "all 2 feeds are read");
    fleet.publish(0, "login", "clara");
    fleet.until_names(0, &["anna", "clara"]);

    // A cluster that no trigger selects is not read any more; what is nobody's now is withdrawn as ever.
    fleet.define_cluster_in(0, "staging", &[&format!("{INSIDE}={}", fleet.address(0))]);
    fleet.said("Connected", "civo/cluster2: ");
    fleet.until_names(0, &[]);
    assert!(operator.stop().success());
}

#[test]
fn a_secret_that_changes_takes_effect_at_once_and_a_bad_one_cuts_nothing() {
    let fleet = Fleet::start();
    fleet.define_cluster_in(1, "staging", &[]);
    fleet.tell_subject(0, ("admin", "wrong"));
    let operator = fleet.rig.home.start();
    let message = fleet.said("AuthorizationViolation", "civo/cluster1: ");
    assert!(!message.contains("wrong"), "{message}");
    fleet.tell_subject(0, ("admin", "my-password"));
    fleet.said("Connected", "civo/cluster1: reading users.>");

    let connected_as = |user: &str| {
        fleet.rig.runtime.block_on(async {
            let page = format!("{}/connz?auth=1", fleet.nats[0].monitor_url());
            let told = local_fleet_get(&page).await;
            told["connections"].as_array().unwrap().iter().filter(|it| it["authorized_user"] == user).count()
        })
    };
    assert_eq!((connected_as("admin"), connected_as("next")), (1, 0));
    fleet.tell_subject(0, ("next", "hunter2"));
    let told = Instant::now();
    eventually("connected as the other", || (connected_as("next") == 1).then_some(()));
    assert!(told.elapsed() < Duration::from_secs(1), "{:?}", told.elapsed());
    eventually("the first connection is closed", || (connected_as("admin") == 0).then_some(()));
    fleet.publish(0, "login", "anna");
    fleet.until_names(0, &["anna"]);

    let nats = fleet.connection(0, ("next", "hunter2"), json!({"subjects": ["users.>"], "subject": "x"}));
    fleet.tell(0, &json!({"nats": nats}).to_string());
    let message =
        fleet.said("SecretInvalid", "civo/cluster1: Secret projectsveltos/sveltos-nats, key sveltos-nats: ");
    assert!(message.contains("nats.configuration.subject: is unknown"), "{message}");
    assert!(message.contains("until then what it said before is used"), "{message}");
    assert!(!message.contains("hunter2") && !fleet.rig.home.log().contains("hunter2"));
    fleet.publish(0, "login", "berta");
    fleet.until_names(0, &["anna", "berta"]);
    let kubeconfig = fleet.rig.kubeconfig(fleet.cluster(0));
    let delete = ["delete", "secret", "-n", "projectsveltos", "sveltos-nats"];
    fleet.rig.kubectl_ok(&kubeconfig, &delete, "");
    fleet.said("SecretMissing", "Secret projectsveltos/sveltos-nats does not exist");
    fleet.publish(0, "logout", "berta");
    fleet.until_names(0, &["anna"]);
    fleet.tell_subject(0, ("next", "hunter2"));
    fleet.said("Connected", "civo/cluster1: reading users.>");

    fleet.define_cluster_in(0, "staging", &[]);
    fleet.said("NoClusters", "no trigger of it selects a cluster");
    assert!(operator.stop().success());
}

/// What a monitoring page says.
async fn local_fleet_get(url: &str) -> Value {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let (address, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("GET /{path} HTTP/1.0\r\nHost: x\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
}

#[test]
fn streams_of_one_name_in_two_clusters_are_two_feeds_and_nothing_is_lost() {
    let fleet = Fleet::start();
    let streams = [0, 1].map(|index| {
        fleet.rig.runtime.block_on(async {
            let context = jetstream::new(fleet.client(index).await);
            let subjects = vec!["users.>".to_owned()];
            let users = stream::Config { name: "users".to_owned(), subjects, ..Default::default() };
            context.create_stream(users).await.unwrap();
            context
        })
    });
    let publish = |index: usize, what: &str, user: &str| {
        fleet.rig.runtime.block_on(async {
            let sent = streams[index].publish(format!("users.{user}"), event(what, user).into()).await;
            sent.unwrap().await.unwrap();
        });
    };
    for index in [0, 1] {
        let read = match index {
            0 => json!({"subjects": ["users"]}),
            _ => json!({"streams": [{"name": "users", "subjects": ["users.>"]}]}),
        };
        let jetstream = fleet.connection(index, ("admin", "my-password"), read);
        fleet.tell(index, &json!({"jetstream": jetstream}).to_string());
    }
    // Sequences go far ahead in one of them.
    for _ in 0..20 {
        publish(0, "login", "anna");
    }
    let operator = fleet.rig.home.start();
    fleet.until_names(0, &["anna"]);
    publish(1, "login", "anna");
    publish(1, "login", "berta");
    fleet.until_names(1, &["anna", "berta"]);
    publish(0, "logout", "anna");
    fleet.until_names(0, &[]);
    operator.kill();

    publish(1, "logout", "anna");
    publish(0, "login", "berta");
    publish(0, "login", "clara");
    let operator = fleet.rig.home.start();
    fleet.until_names(0, &["berta", "clara"]);
    fleet.until_names(1, &["berta"]);
    let consumers = [0, 1].map(|index| {
        fleet.rig.runtime.block_on(async {
            let stream = streams[index].get_stream("users").await.unwrap();
            let name = format!("fleet-users_civo_cluster{}", index + 1);
            stream.consumer_info(&name).await.unwrap().delivered.stream_sequence
        })
    });
    assert_eq!(consumers, [23, 3]);
    assert!(operator.stop().success());

    // Stopped in an orderly way, nothing is read twice; and a server that is away keeps nothing of the other's.
    fleet.rig.runtime.block_on(fleet.nats[0].server().stop()).unwrap();
    publish(1, "login", "dora");
    let operator = fleet.rig.home.start();
    fleet.until_names(1, &["berta", "dora"]);
    fleet.rig.runtime.block_on(fleet.nats[0].server().start()).unwrap();
    publish(0, "logout", "clara");
    fleet.until_names(0, &["berta"]);
    fleet.said("Connected", "all 2 feeds are read");
    assert!(operator.stop().success());
}
