//! A cluster of the lab does what clusters do.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::{Api, DeleteParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use local_fleet::{Cluster, ClusterOptions, Etcd, Route, User};

async fn client(cluster: &Cluster, user: User, route: Route) -> Client {
    let _installed_before = rustls::crypto::ring::default_provider().install_default();
    let text = cluster.kubeconfig_for(user, route).unwrap();
    let kubeconfig = Kubeconfig::from_yaml(&text).unwrap();
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .unwrap();
    config.read_timeout = Some(Duration::from_secs(10));
    config.default_retry = false;
    Client::try_from(config).unwrap()
}

#[tokio::test]
async fn a_cluster_starts() {
    let dir = tempfile::tempdir().unwrap();
    let begun = Instant::now();
    let etcd = Etcd::start(dir.path()).await.unwrap();
    eprintln!("etcd {:?}", begun.elapsed());
    let cluster = Cluster::start(&etcd, dir.path(), "one", &ClusterOptions::default())
        .await
        .unwrap();
    eprintln!("cluster {:?}", begun.elapsed());
    let api = Api::<Namespace>::all(client(&cluster, User::Admin, Route::Direct).await);
    let all = api.list(&Default::default()).await.unwrap();
    eprintln!(
        "{:?} {:?}",
        all.items
            .iter()
            .map(|n| n.metadata.name.clone())
            .collect::<Vec<_>>(),
        begun.elapsed()
    );
    eprintln!(
        "{} MB etcd, {} MB api {} MB all",
        etcd.server().resident_bytes().await.unwrap() >> 20,
        cluster.api_server().resident_bytes().await.unwrap() >> 20,
        cluster.resident_bytes().await.unwrap() >> 20
    );
    cluster.stop().await.unwrap();
    eprintln!("stopped {:?}", begun.elapsed());
}
