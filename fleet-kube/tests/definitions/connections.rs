//! How sources and clusters are reached, and what is told of their Secrets.

use fleet_core::catalog::OriginRule;
use fleet_kube::api::DeliverFrom;
use fleet_kube::definitions::{ClusterNats, NatsAuth};
use secrecy::ExposeSecret;

use super::*;

fn nats(secret: &str) -> Definitions {
    read(&format!(
        r#"apiVersion: fleet-events.dev/v1alpha1
kind: EventSource
metadata:
  name: orders
spec:
  nats:
    connectionSecretRef: {{namespace: nats, name: connection}}
    subjects: ["fleet.*.*.orders"]
    jetStream: {{stream: orders, durable: fleet, deliverFrom: new, ackWait: 1m30s, maxAckPending: 500}}
  origin:
    subjectTokens: {{namespace: 1, name: 2}}
---
apiVersion: v1
kind: Secret
metadata:
  name: connection
  namespace: nats
stringData:
{secret}
"#
    ))
}

#[test]
fn a_nats_connection_is_resolved() {
    let definitions = nats("  url: \"nats://a:4222\"\n  user: fleet\n  password: \"hunter2\\n\"");
    assert_eq!(problems(&definitions), Vec::<String>::new());
    assert_eq!(
        definitions.catalog.sources["orders"].origin,
        Some(OriginRule::SubjectTokens { namespace: 1, name: 2 })
    );
    let Transport::Nats(nats) = &definitions.transports["orders"] else { panic!() };
    assert_eq!(nats.servers, ["nats://a:4222"]);
    let NatsAuth::UserPassword { user, password } = &nats.auth else { panic!() };
    assert_eq!((user.as_str(), password.expose_secret()), ("fleet", "hunter2"));
    let stream = nats.jet_stream.as_ref().unwrap();
    assert_eq!(stream.deliver_from, DeliverFrom::New);
    assert_eq!(stream.ack_wait, Some(Duration::from_secs(90)));
    assert!(!format!("{definitions:?}").contains("hunter2"));
}

#[test]
fn a_bad_connection_secret_names_the_key_and_never_the_value() {
    for (secret, expected) in [
        ("  user: hunter2", "has no key url, and spec.nats.urls is not set; name a server in one of them"),
        ("  url: a\n  user: hunter2", "has the key user without password; add password"),
        (
            "  url: a\n  token: hunter2\n  nkey: hunter2",
            "has the keys token and nkey; keep one way to log in",
        ),
        (
            "  url: a\n  username: hunter2",
            ", key username is unknown; a connection has the keys url, urls, user",
        ),
        (
            "  url: nats://fleet:hunter2@a",
            ", key url: holds credentials; put them under the keys user and password",
        ),
        ("  url: http://hunter2", ", key url: is no URL of a NATS server; write nats://host:4222"),
        ("  url: a\n  token: \"\"", ", key token is empty"),
        ("  url: a\n  tls.crt: hunter2", "has the key tls.crt without tls.key; add tls.key"),
        ("  url: a\n  ca.crt: hunter2", ", key ca.crt is no PEM text with a CERTIFICATE"),
    ] {
        let definitions = nats(secret);
        let found = problems(&definitions);
        assert_eq!(found.len(), 1, "{found:?}");
        let start = "f.yaml:7: EventSource orders: spec.nats.connectionSecretRef: Secret nats/connection";
        assert!(found[0].starts_with(start), "{}", found[0]);
        assert!(found[0].contains(expected), "{}", found[0]);
        assert!(!format!("{found:?} {definitions:?}").contains("hunter2"), "{found:?}");
        assert!(definitions.transports.is_empty() && definitions.catalog.sources.contains_key("orders"));
    }
    let number = nats("  url: a\n  token: 12345");
    assert!(number.problems.iter().any(|one| one.to_string()
        == "f.yaml:20: Secret nats/connection: stringData.token: must be a text; quote it"));
    assert!(!format!("{number:?}").contains("12345"));
}

#[test]
fn a_secret_of_the_api_is_decoded() {
    let secret = |data: serde_json::Value| {
        RawObject::in_api(serde_json::json!({"apiVersion": "v1", "kind": "Secret", "type": "Opaque",
            "metadata": {"name": "kc", "namespace": "civo", "uid": "u", "managedFields": []}, "data": data}))
    };
    let cluster = RawObject::in_api(
        serde_json::json!({"apiVersion": "fleet-events.dev/v1alpha1", "kind": "Cluster",
        "metadata": {"name": "c", "namespace": "civo", "generation": 1}, "spec": {"kubeconfigSecretRef": {"name": "kc"}},
        "status": {"conditions": []}}),
    );
    let kubeconfig = |data| {
        let definitions = Definitions::read([cluster.clone(), secret(data)], Vec::new(), None);
        let Connection::KubeconfigSecret { name, kubeconfig } = definitions.clusters[0].connection.clone()
        else {
            panic!()
        };
        assert_eq!(name, "Secret civo/kc, key kubeconfig");
        (kubeconfig.map(|text| text.expose_secret().to_owned()), problems(&definitions))
    };
    let (text, none) = kubeconfig(serde_json::json!({"kubeconfig": "YXBpVmVyc2lvbjog\ndjE="}));
    assert_eq!((text.as_deref(), none.len()), (Ok("apiVersion: v1"), 0));
    for (data, expected) in [
        (
            serde_json::json!({"kubeconfig": "hunter2!"}),
            "Secret civo/kc, key kubeconfig is no base64; use stringData for plain text",
        ),
        (serde_json::json!({"kubeconfig": "/w=="}), "Secret civo/kc, key kubeconfig is no UTF-8 text"),
        (
            serde_json::json!({"other": "", "value": ""}),
            "Secret civo/kc has no key kubeconfig; it has other, value",
        ),
        (serde_json::Value::Null, "Secret civo/kc has no key kubeconfig; it is empty"),
    ] {
        let (text, found) = kubeconfig(data);
        assert_eq!(text, Err(expected.to_owned()));
        assert_eq!(found, [format!("Cluster civo/c: spec.kubeconfigSecretRef: {expected}")]);
    }
}

#[test]
fn a_kubeconfig_file_is_found_beside_its_manifest_and_only_in_folders() {
    let yaml = STORY.replace("directory: {}", "kubeconfigFile: ../c.kubeconfig");
    let definitions = Definitions::read(objects("clusters/f.yaml", &yaml), Vec::new(), None);
    let Connection::KubeconfigFile(path) = &definitions.clusters[0].connection else { panic!() };
    assert_eq!(path, Path::new("clusters/../c.kubeconfig"));
    let cluster =
        RawObject::in_api(serde_json::json!({"apiVersion": "fleet-events.dev/v1alpha1", "kind": "Cluster",
        "metadata": {"name": "c", "namespace": "civo"}, "spec": {"kubeconfigFile": "/root/.kube/config"}}));
    let definitions = Definitions::read([cluster], Vec::new(), None);
    assert!(!matches!(definitions.clusters[0].connection, Connection::KubeconfigFile(_)));
    assert!(
        definitions.problems[0].to_string().contains("works only in a folder"),
        "{:?}",
        problems(&definitions)
    );
}

const IN_CLUSTERS: &str = r#"apiVersion: fleet-events.dev/v1alpha1
kind: EventSource
metadata:
  name: users
spec:
  nats:
    clusterSecretRef: {}
  replay: 2
---
apiVersion: fleet-events.dev/v1alpha1
kind: Cluster
metadata:
  name: one
  namespace: civo
spec:
  directory: {}
  resolve:
  - nats.nats.svc.cluster.local:4222=10.1.2.3:30422
"#;

#[test]
fn nats_in_clusters_is_understood() {
    let definitions = read(IN_CLUSTERS);
    assert_eq!(problems(&definitions), Vec::<String>::new());
    let Transport::ClusterNats(nats) = &definitions.transports["users"] else { panic!() };
    let ClusterNats { secret, replay } = nats;
    assert_eq!(
        (secret.to_string().as_str(), secret.key.as_str()),
        ("Secret projectsveltos/sveltos-nats", "sveltos-nats")
    );
    assert_eq!(*replay, 2);
    let mapped = &definitions.clusters[0].resolve[0];
    assert_eq!(mapped.to_string(), "nats.nats.svc.cluster.local:4222=10.1.2.3:30422");
    let other = read(&IN_CLUSTERS.replace("10.1.2.3", "10.1.2.4"));
    assert!(!other.same(&definitions), "another address is another definition");
}

#[test]
fn each_mistake_about_nats_in_clusters_gives_one_clear_problem() {
    for (good, bad, expected) in [
        (
            "clusterSecretRef: {}\n",
            "clusterSecretRef: {}\n    subjects: [a]\n",
            "f.yaml:8: EventSource users: spec.nats.subjects: is set beside clusterSecretRef; the Secret in each \
             cluster says all that is to be said of NATS",
        ),
        (
            "clusterSecretRef: {}\n",
            "clusterSecretRef: {namespace: A b}\n",
            "f.yaml:7: EventSource users: spec.nats.clusterSecretRef.namespace: \"A b\" is no name of an object in Kubernetes",
        ),
        (
            "  replay: 2\n",
            "  origin: {extension: cluster}\n",
            "f.yaml:8: EventSource users: spec.origin: with nats.clusterSecretRef the origin of an event is the \
             cluster that it comes from; leave it out",
        ),
        (
            "  replay: 2\n",
            "  deadLetter: {jetStream: {stream: dead}}\n",
            "f.yaml:8: EventSource users: spec.deadLetter: with nats.clusterSecretRef dead letters are kept in the \
             operator's store; leave it out",
        ),
        (
            "local:4222=",
            "local=",
            "f.yaml:17: Cluster civo/one: spec.resolve[0]: \"nats.nats.svc.cluster.local=10.1.2.3:30422\" names no \
             port before the =; write HOST:PORT=ADDRESS or HOST:PORT=ADDRESS:PORT",
        ),
        (
            "30422\n",
            "30422\n  - NATS.nats.svc.cluster.local:4222=a\n",
            "f.yaml:17: Cluster civo/one: spec.resolve[1]: nats.nats.svc.cluster.local:4222 is mapped twice; keep one",
        ),
    ] {
        assert!(IN_CLUSTERS.contains(good), "{good}");
        let found = problems(&read(&IN_CLUSTERS.replacen(good, bad, 1)));
        assert!(
            found.len() == 1 && found[0].starts_with(expected),
            "expected {expected}\nfound    {found:?}"
        );
    }
}
