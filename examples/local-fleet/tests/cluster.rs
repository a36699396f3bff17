//! A cluster of the lab does what clusters do, and suffers what is done to it.

// Clippy lets tests panic, but does not see that their helpers are parts of tests.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;
use std::process::Output;
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::{Api, DeleteParams, ListParams, ObjectMeta, PostParams, WatchEvent, WatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use local_fleet::{Cluster, ClusterOptions, Etcd, Lab, Network, Program, Progress, Route, User, install};
use tempfile::TempDir;
use tokio::process::Command;
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(30);

/// A client that gives up after ten seconds and never tries twice.
async fn client(cluster: &Cluster, user: User, route: Route) -> Client {
    let _installed_before = rustls::crypto::ring::default_provider().install_default();
    let kubeconfig = Kubeconfig::from_yaml(&cluster.kubeconfig_for(user, route).unwrap()).unwrap();
    let options = KubeConfigOptions::default();
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &options).await.unwrap();
    config.read_timeout = Some(Duration::from_secs(10));
    config.default_retry = false;
    Client::try_from(config).unwrap()
}

/// A cluster with an etcd of its own, for tests that stop or freeze it.
async fn own_cluster(options: &ClusterOptions) -> (Cluster, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let etcd = Etcd::start(dir.path()).await.unwrap();
    (Cluster::start(&etcd, dir.path(), "own", options).await.unwrap(), dir)
}

fn named<K: Default>(name: &str, set: impl FnOnce(&mut K) -> &mut ObjectMeta) -> K {
    let mut object = K::default();
    set(&mut object).name = Some(name.to_owned());
    object
}

fn namespace(name: &str) -> Namespace {
    named(name, |namespace: &mut Namespace| &mut namespace.metadata)
}

fn config_map(name: &str) -> ConfigMap {
    named(name, |config_map: &mut ConfigMap| &mut config_map.metadata)
}

#[tokio::test]
async fn a_deleted_namespace_goes_with_what_is_in_it() {
    let cluster = Lab::shared_cluster().await.unwrap();
    let client = client(cluster, User::Admin, Route::Direct).await;
    let namespaces = Api::<Namespace>::all(client.clone());
    namespaces.create(&PostParams::default(), &namespace("goes")).await.unwrap();
    let inside = Api::<ConfigMap>::namespaced(client, "goes");
    inside.create(&PostParams::default(), &config_map("inside")).await.unwrap();

    let only = WatchParams::default().fields("metadata.name=goes").timeout(120);
    let mut watch = namespaces.watch(&only, "0").await.unwrap().boxed();
    namespaces.delete("goes", &DeleteParams::default()).await.unwrap();
    let gone = async { while !matches!(watch.next().await.unwrap().unwrap(), WatchEvent::Deleted(_)) {} };
    timeout(Duration::from_secs(60), gone).await.unwrap();
    assert!(inside.get_opt("inside").await.unwrap().is_none());
}

#[tokio::test]
async fn each_user_may_do_what_it_should() {
    let cluster = Lab::shared_cluster().await.unwrap();
    for (user, may) in [(User::Admin, true), (User::Writer, true), (User::Guest, false)] {
        let config_maps = Api::<ConfigMap>::default_namespaced(client(cluster, user, Route::Direct).await);
        let name = format!("{user:?}").to_lowercase();
        match config_maps.create(&PostParams::default(), &config_map(&name)).await {
            Ok(_) => assert!(may, "{user:?} may too much"),
            Err(kube::Error::Api(status)) => assert!(!may && status.is_forbidden(), "{user:?}: {status:?}"),
            Err(error) => panic!("{user:?}: {error}"),
        }
    }
}

#[tokio::test]
async fn the_limits_on_requests_meet_the_writer_but_not_the_admin() {
    let limits = ClusterOptions::default()
        .controller_manager(false)
        .api_server_flag("--enable-priority-and-fairness=false")
        .api_server_flag("--max-requests-inflight=4")
        .api_server_flag("--max-mutating-requests-inflight=1");
    let (cluster, _dir) = own_cluster(&limits).await;
    let mut refused = BTreeMap::new();
    for user in [User::Admin, User::Writer] {
        let config_maps = Api::<ConfigMap>::default_namespaced(client(&cluster, user, Route::Direct).await);
        let writes = (0..200).map(|number| {
            let config_map = config_map(&format!("{user:?}-{number}").to_lowercase());
            let config_maps = config_maps.clone();
            async move { config_maps.create(&PostParams::default(), &config_map).await }
        });
        let too_many = |answer: &Result<_, _>| matches!(answer, Err(kube::Error::Api(s)) if s.code == 429);
        let answers: Vec<_> = futures::stream::iter(writes).buffer_unordered(40).collect().await;
        refused.insert(format!("{user:?}"), answers.iter().filter(|answer| too_many(answer)).count());
    }
    assert_eq!(refused.get("Admin"), Some(&0));
    assert!(refused.get("Writer").is_some_and(|refused| *refused > 0), "{refused:?}");
}

#[tokio::test]
async fn kubectl_works_with_a_kubeconfig_file() {
    let cluster = Lab::shared_cluster().await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("kubeconfig");
    cluster.write_kubeconfig(&file, User::Admin, Route::Direct).unwrap();
    let kubectl = install::find(Program::Kubectl, &Progress::default()).await.unwrap();
    let run = async |arguments: &[&str]| -> Output {
        let command = Command::new(&kubectl).arg("--kubeconfig").arg(&file).args(arguments).output();
        timeout(SOON, command).await.unwrap().unwrap()
    };
    let output = run(&["get", "namespaces", "-o", "name"]).await;
    assert!(String::from_utf8_lossy(&output.stdout).contains("namespace/default"), "{output:?}");
    // Unstamped, kubectl cannot tell how far the two versions are apart.
    let output = run(&["version"]).await;
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains(&format!("Server Version: v{}", Program::KubeApiserver.version())), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
}

#[tokio::test]
async fn a_restart_keeps_address_and_data() {
    let (cluster, _dir) = own_cluster(&ClusterOptions::default().controller_manager(false)).await;
    let client = client(&cluster, User::Admin, Route::Direct).await;
    let config_maps = Api::<ConfigMap>::default_namespaced(client);
    config_maps.create(&PostParams::default(), &config_map("kept")).await.unwrap();
    let url = cluster.url(Route::Direct);

    cluster.api_server().stop().await.unwrap();
    assert!(cluster.api_server().pid().await.is_none());
    assert!(config_maps.get("kept").await.is_err());
    // etcd without a chance to tidy up, under it.
    cluster.etcd().server().kill().await.unwrap();
    cluster.etcd().server().start().await.unwrap();
    cluster.api_server().start().await.unwrap();
    assert_eq!(cluster.url(Route::Direct), url);
    config_maps.get("kept").await.unwrap();
}

#[tokio::test]
async fn a_paused_server_answers_when_it_is_resumed() {
    let (cluster, _dir) = own_cluster(&ClusterOptions::default().controller_manager(false)).await;
    let namespaces = Api::<Namespace>::all(client(&cluster, User::Admin, Route::Direct).await);
    for server in [cluster.api_server(), cluster.etcd().server()] {
        server.pause().await.unwrap();
        // A write: reads may come from the API server's memory.
        let (namespace, how) = (namespace("late"), PostParams { dry_run: true, ..Default::default() });
        let mut answer = Box::pin(namespaces.create(&how, &namespace));
        assert!(timeout(Duration::from_millis(500), &mut answer).await.is_err(), "{} answers", server.name());
        server.resume().await.unwrap();
        let answer = timeout(SOON, answer).await.unwrap();
        assert!(answer.is_ok(), "{}: {answer:?}", server.name());
        namespaces.list(&ListParams::default()).await.unwrap();
    }
}

#[tokio::test]
async fn a_stopped_server_stops_also_while_paused() {
    let (cluster, _dir) = own_cluster(&ClusterOptions::default().controller_manager(false)).await;
    let server = cluster.api_server();
    server.pause().await.unwrap();
    timeout(SOON, server.stop()).await.unwrap().unwrap();
    assert!(server.pid().await.is_none());
}

#[tokio::test]
async fn the_network_to_a_cluster_can_be_cut_and_made_silent() {
    let (cluster, _dir) = own_cluster(&ClusterOptions::default().controller_manager(false)).await;
    let proxied = Api::<Namespace>::all(client(&cluster, User::Admin, Route::Proxied).await);
    let direct = Api::<Namespace>::all(client(&cluster, User::Admin, Route::Direct).await);
    proxied.get("default").await.unwrap();

    cluster.proxy().cut();
    assert!(proxied.get("default").await.is_err());
    direct.get("default").await.unwrap();
    cluster.proxy().heal();
    proxied.get("default").await.unwrap();

    cluster.proxy().set(Network::Silent);
    let mut answer = Box::pin(proxied.get("default"));
    assert!(timeout(Duration::from_millis(300), &mut answer).await.is_err());
    cluster.proxy().heal();
    timeout(SOON, answer).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_server_that_does_not_start_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let etcd = Etcd::start(dir.path()).await.unwrap();
    let options = ClusterOptions::default().api_server_flag("--no-such-flag");
    let error = Cluster::start(&etcd, dir.path(), "broken", &options).await.unwrap_err().to_string();
    assert!(error.contains("broken/kube-apiserver"), "{error}");
    assert!(error.contains("unknown flag: --no-such-flag"), "{error}");
}
