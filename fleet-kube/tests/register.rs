//! Registering real clusters with a real management cluster. One cluster plays both parts.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that meets the unexpected says so and stops; so do its helpers"
)]

mod lab;

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use fleet_core::cluster::{ClusterId, Labels};
use fleet_kube::client::ClusterClient;
use fleet_kube::kubeconfig::from_secret;
use fleet_kube::register::{
    Access, Deregistered, LEAVE_ANNOTATION, RegisterError, Registered, Registration, Wait, deregister,
    register,
};
use jiff::Timestamp;
use lab::*;
use local_fleet::{ClusterOptions, Route, User};
use secrecy::SecretString;
use serde_json::{Value, json};

struct Rig {
    lab: Lab,
    admin: Other,
    management: ClusterClient,
    folder: tempfile::TempDir,
}

impl Rig {
    async fn new() -> Self {
        let lab = Lab::start(&ClusterOptions::default().controller_manager(false)).await;
        let text = SecretString::from(lab.kubeconfig(User::Admin, Route::Direct));
        let management = ClusterClient::new(from_secret("lab", &text, Timestamp::now()).unwrap()).unwrap();
        Self { admin: lab.admin().await, lab, management, folder: tempfile::tempdir().unwrap() }
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    async fn register(&self, registration: &Registration) -> Result<Registered, RegisterError> {
        register(&self.management, registration).await
    }

    /// As `fleet-operator crds` does.
    async fn install(&self) {
        let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
        for definition in fleet_kube::api::crds() {
            let definition = serde_json::to_value(definition).unwrap();
            self.admin.send("POST", path, Some(&definition)).await.unwrap();
        }
        let served = async {
            while self.admin.send("GET", "/apis/fleet-events.dev/v1alpha1/clusters", None).await.is_err() {}
        };
        tokio::time::timeout(SOON, served).await.unwrap();
    }

    async fn kubeconfig_of(&self, name: &str) -> Option<SecretString> {
        let secret = self.admin.get(&format!("/api/v1/namespaces/civo/secrets/{name}-kubeconfig")).await?;
        let text = STANDARD.decode(secret["data"]["kubeconfig"].as_str().unwrap()).unwrap();
        Some(SecretString::from(String::from_utf8(text).unwrap()))
    }
}

fn id(name: &str) -> ClusterId {
    ClusterId::new("civo", name).unwrap()
}

fn by_file(name: &str, file: &Path, create_service_account: bool) -> Registration {
    Registration {
        id: id(name),
        labels: Labels::from([("env".to_owned(), "production".to_owned())]),
        access: Access::Kubeconfig { file: file.to_owned(), context: None, create_service_account },
        force: false,
        dry_run: false,
    }
}

const CLUSTERS: &str = "/apis/fleet-events.dev/v1alpha1/namespaces/civo/clusters";

#[tokio::test]
async fn a_cluster_is_registered_changed_and_taken_out_again() {
    let rig = Rig::new().await;
    let file = rig.write("good", &rig.lab.kubeconfig(User::Writer, Route::Direct));
    let registration = by_file("one", &file, false);

    let dry = Registration { dry_run: true, ..registration.clone() };
    let planned = rig.register(&dry).await.unwrap();
    assert_eq!(planned.objects.len(), 3);
    assert!(planned.version.unwrap().starts_with("v1."));
    assert!(rig.admin.get("/api/v1/namespaces/civo").await.is_none(), "a dry run writes nothing");

    let error = rig.register(&registration).await.unwrap_err().to_string();
    assert!(error.contains("fleet-operator crds | kubectl apply"), "{error}");
    rig.install().await;
    let done = rig.register(&registration).await.unwrap();
    assert!(done.notes.is_empty(), "{:?}", done.notes);
    let cluster = rig.admin.get(&format!("{CLUSTERS}/one")).await.unwrap();
    assert_eq!(cluster["spec"], json!({"kubeconfigSecretRef": {"name": "one-kubeconfig"}}));
    let stored = rig.kubeconfig_of("one").await.unwrap();
    let config = from_secret("stored", &stored, Timestamp::now()).unwrap();
    assert_eq!(config.cluster_url.to_string(), format!("{}/", rig.lab.cluster.url(Route::Direct)));

    // Again, with other labels.
    let changed =
        Registration { labels: Labels::from([("tier".to_owned(), "a".to_owned())]), ..registration };
    rig.register(&changed).await.unwrap();
    let cluster = rig.admin.get(&format!("{CLUSTERS}/one")).await.unwrap();
    assert_eq!(cluster["metadata"]["labels"], json!({"tier": "a"}));

    let out = deregister(&rig.management, &id("one"), false, Wait::No).await.unwrap();
    assert_eq!(out, Deregistered { cluster: true, held_back: false, secret: true });
    assert!(rig.admin.get(&format!("{CLUSTERS}/one")).await.is_none());
    assert!(rig.kubeconfig_of("one").await.is_none());
    let out = deregister(&rig.management, &id("one"), false, Wait::No).await.unwrap();
    assert_eq!(out, Deregistered { cluster: false, held_back: false, secret: false });
}

#[tokio::test]
async fn leaving_is_written_down_and_a_foreign_secret_stays() {
    let rig = Rig::new().await;
    rig.install().await;
    let registration = Registration { access: Access::InCluster, ..by_file("self", Path::new("/"), false) };
    rig.register(&registration).await.unwrap();
    let path = format!("{CLUSTERS}/self");
    let cluster = rig.admin.get(&path).await.unwrap();
    assert_eq!(cluster["spec"], json!({"inCluster": {}}));
    // What holds it back lets us see it as it leaves.
    let hold = json!({"metadata": {"finalizers": ["example.com/hold"]}});
    rig.admin.send("PATCH", &path, Some(&hold)).await.unwrap();
    let foreign = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "self-kubeconfig"}});
    rig.admin.send("POST", "/api/v1/namespaces/civo/secrets", Some(&foreign)).await.unwrap();

    let out = deregister(&rig.management, &id("self"), true, Wait::No).await.unwrap();
    assert_eq!(out, Deregistered { cluster: true, held_back: true, secret: false });
    let leaving = rig.admin.get(&path).await.unwrap();
    assert_eq!(leaving["metadata"]["annotations"][LEAVE_ANNOTATION], "true");
    assert_ne!(leaving["metadata"]["deletionTimestamp"], Value::Null);
    assert!(rig.admin.get("/api/v1/namespaces/civo/secrets/self-kubeconfig").await.is_some());
}

#[tokio::test]
async fn the_secret_stays_as_long_as_the_cluster_is_held_back() {
    let rig = Rig::new().await;
    rig.install().await;
    let file = rig.write("good", &rig.lab.kubeconfig(User::Writer, Route::Direct));
    rig.register(&by_file("one", &file, false)).await.unwrap();
    let path = format!("{CLUSTERS}/one");
    let hold = json!({"metadata": {"finalizers": ["example.com/hold"]}});
    rig.admin.send("PATCH", &path, Some(&hold)).await.unwrap();

    let waits = tokio::sync::Notify::new();
    let mut tell = |_| waits.notify_one();
    let leaving =
        async { deregister(&rig.management, &id("one"), false, Wait::UntilGone(&mut tell)).await.unwrap() };
    let letting_go = async {
        let deleted =
            async { while rig.admin.get(&path).await.unwrap()["metadata"]["deletionTimestamp"].is_null() {} };
        tokio::time::timeout(SOON, deleted).await.unwrap();
        assert!(rig.kubeconfig_of("one").await.is_some(), "the operator needs it");
        let secret = rig.admin.get("/api/v1/namespaces/civo/secrets/one-kubeconfig").await.unwrap();
        let owner = &secret["metadata"]["ownerReferences"][0];
        assert_eq!((&owner["kind"], &owner["name"]), (&json!("Cluster"), &json!("one")));
        let release = json!({"metadata": {"finalizers": null}});
        rig.admin.send("PATCH", &path, Some(&release)).await.unwrap();
    };
    let (out, ()) = tokio::join!(leaving, letting_go);
    assert_eq!(out, Deregistered { cluster: true, held_back: false, secret: true });
    assert!(rig.kubeconfig_of("one").await.is_none());
}

#[tokio::test]
async fn a_cluster_out_of_reach_is_refused_unless_forced() {
    let rig = Rig::new().await;
    rig.install().await;
    let good = rig.lab.kubeconfig(User::Writer, Route::Direct);
    let address = rig.lab.cluster.api_server().address().to_string();
    let nowhere = by_file("nowhere", &rig.write("nowhere", &good.replace(&address, "127.0.0.1:1")), false);
    let error = rig.register(&nowhere).await.unwrap_err().to_string();
    assert!(error.contains("civo/nowhere cannot be reached") && error.contains("--force"), "{error}");
    assert!(rig.kubeconfig_of("nowhere").await.is_none());
    let forced = rig.register(&Registration { force: true, ..nowhere }).await.unwrap();
    assert!(forced.notes[0].contains("cannot be reached now"), "{:?}", forced.notes);
    assert!(rig.kubeconfig_of("nowhere").await.is_some());

    let token = good.lines().find_map(|line| line.trim().strip_prefix("token: ")).unwrap();
    let stranger = by_file("stranger", &rig.write("stranger", &good.replace(token, "s3cret")), false);
    let error = rig.register(&stranger).await.unwrap_err().to_string();
    assert!(error.contains("does not accept the credentials") && !error.contains("s3cret"), "{error}");

    let missing = rig.register(&by_file("x", Path::new("/nowhere/kubeconfig"), false)).await.unwrap_err();
    assert!(
        missing.to_string().starts_with("/nowhere/kubeconfig: the kubeconfig cannot be read"),
        "{missing}"
    );
}

#[tokio::test]
async fn a_kubeconfig_with_a_plugin_needs_a_service_account() {
    let rig = Rig::new().await;
    rig.install().await;
    let good = rig.lab.kubeconfig(User::Writer, Route::Direct);
    let token = good.lines().find_map(|line| line.trim().strip_prefix("token: ")).unwrap();
    let credential = json!({"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential",
        "status": {"token": token}});
    let plugin = rig.write("credential.json", &credential.to_string());
    let exec = format!(
        "exec: {{apiVersion: client.authentication.k8s.io/v1, command: cat, args: [{:?}], interactiveMode: Never}}",
        plugin.display().to_string()
    );
    let file = rig.write("exec", &good.replace(&format!("token: {token}"), &exec));
    let error = rig.register(&by_file("exec", &file, false)).await.unwrap_err().to_string();
    assert!(error.contains("runs \"cat\"") && error.contains("--create-service-account"), "{error}");

    let dry = Registration { dry_run: true, ..by_file("exec", &file, true) };
    rig.register(&dry).await.unwrap();
    assert!(rig.admin.get("/api/v1/namespaces/fleet-system").await.is_none());

    let done = rig.register(&by_file("exec", &file, true)).await.unwrap();
    // This cluster has no controller that fills in lasting tokens.
    assert!(done.notes[0].contains("expires at"), "{:?}", done.notes);
    let stored = rig.kubeconfig_of("exec").await.unwrap();
    let client = ClusterClient::new(from_secret("stored", &stored, Timestamp::now()).unwrap()).unwrap();
    let allowed = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {"verb": "create", "resource": "namespaces"}}});
    let as_account = Other(client.api());
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let review = as_account.send("POST", path, Some(&allowed)).await.unwrap();
    assert_eq!(review["status"]["allowed"], true, "{review}");
}
