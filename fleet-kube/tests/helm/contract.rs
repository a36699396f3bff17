//! The Applier for releases keeps the contract, with the real helm on a real API server. A release holds its texts in a
//! ConfigMap, by a chart that does nothing else.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use fleet_core::apply::Applier;
use fleet_core::cluster::Cluster;
use fleet_core::manifest::{MARK, ObjectRef};
use fleet_core::testing::conformance::{NotChecked, applier};
use fleet_kube::clusters::Clusters;
use fleet_kube::connection::{ClusterDefinition, Connection};
use fleet_kube::helm::{HelmApplier, HelmSetup, KIND};
use local_fleet::{Network, Program, Progress, Proxy, Route, User, install};
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::lab::*;
use super::repository::{self, Repository};
use super::world::LONG;

/// The chart as it is pulled, packaged once for all tests.
struct Charts {
    program: PathBuf,
    dir: tempfile::TempDir,
}

impl Charts {
    async fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<Charts>> = Mutex::const_new(Weak::new());
        let mut shared = SHARED.lock().await;
        if let Some(charts) = shared.upgrade() {
            return charts;
        }
        let program = install::find(Program::Helm, &Progress::default()).await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/helm/texts");
        let (chart, folder) = (chart.to_str().unwrap(), dir.path().to_str().unwrap());
        repository::run(&program, &["package", chart, "-d", folder], dir.path()).await;
        repository::run(&program, &["repo", "index", folder], dir.path()).await;
        let charts = Arc::new(Self { program, dir });
        *shared = Arc::downgrade(&charts);
        charts
    }
}

struct Helm {
    charts: Arc<Charts>,
    repository: Repository,
    /// The network of this one alone.
    proxy: Proxy,
    clusters: Arc<Clusters>,
    target: Arc<Cluster>,
    admin: Other,
    /// The folder of the Applier, and the kubeconfig of somebody else.
    dir: tempfile::TempDir,
    _lab: Arc<Lab>,
}

impl Helm {
    async fn new() -> Self {
        let (lab, charts) = (Lab::shared().await, Charts::shared().await);
        let repository = Repository::open(charts.dir.path()).await;
        let proxy = lab.proxy().await;
        let clusters = Arc::new(Clusters::with_pace(pace()));
        let definition = lab.definition(User::Admin, Route::Direct);
        let target = Arc::new(Cluster::new(definition.id.clone(), definition.labels.clone()));
        let connection = Connection::KubeconfigSecret {
            name: "Secret civo/one-kubeconfig, key kubeconfig".to_owned(),
            kubeconfig: Ok(SecretString::from(lab.kubeconfig_over(&proxy))),
        };
        clusters.update(vec![ClusterDefinition { connection, ..definition }]);
        until_health(&clusters, true).await;
        let dir = tempfile::tempdir().unwrap();
        let kubeconfig = lab.kubeconfig(User::Admin, Route::Direct);
        std::fs::write(dir.path().join("admin.kubeconfig"), kubeconfig).unwrap();
        let admin = lab.admin().await;
        Self { charts, repository, proxy, clusters, target, admin, dir, _lab: lab }
    }

    fn release(&self, name: &str, values: Value) -> Value {
        let url = &self.repository.url;
        let spec =
            json!({"repositoryURL": url, "chartName": "texts", "chartVersion": "1.0.0", "values": values});
        json!({
            "apiVersion": "fleet-events.dev/v1alpha1", "kind": KIND,
            "metadata": {"name": name, "namespace": "default"}, "spec": spec,
        })
    }

    /// Somebody's helm.
    async fn by_hand(&self, args: &[&str]) {
        let kubeconfig = self.dir.path().join("admin.kubeconfig");
        let mut args = args.to_vec();
        args.extend(["-n", "default", "--kubeconfig", kubeconfig.to_str().unwrap()]);
        repository::run(&self.charts.program, &args, self.dir.path()).await;
    }

    /// The labels of the latest revision of a release, if there is one.
    async fn latest(&self, name: &str) -> Option<Value> {
        let path = format!("/api/v1/namespaces/default/secrets?labelSelector=owner%3Dhelm,name%3D{name}");
        let mut list = self.admin.get(&path).await.unwrap();
        let labels = list["items"].as_array_mut().unwrap().iter_mut();
        let number = |labels: &Value| labels["version"].as_str().unwrap().parse::<u32>().unwrap();
        labels.map(|item| item["metadata"]["labels"].take()).max_by_key(number)
    }
}

fn config_map_of(name: &str) -> String {
    format!("/api/v1/namespaces/default/configmaps/{name}")
}

impl applier::Fixture for Helm {
    async fn applier(&self) -> Arc<dyn Applier> {
        let folder = self.dir.path().join("helm");
        let setup = HelmSetup { program: self.charts.program.clone(), ..HelmSetup::new(folder) };
        Arc::new(HelmApplier::new(Arc::clone(&self.clusters), setup))
    }

    fn cluster(&self) -> Arc<Cluster> {
        Arc::clone(&self.target)
    }

    fn object(&self, name: &str, texts: &[(&str, &str)]) -> Value {
        let texts: serde_json::Map<_, _> =
            texts.iter().map(|(key, text)| ((*key).to_owned(), json!(text))).collect();
        self.release(name, json!({"texts": texts}))
    }

    fn refused(&self, name: &str) -> Result<Value, NotChecked> {
        Ok(self.release(name, json!({"fail": "it says so itself"})))
    }

    async fn read(&self, object: &ObjectRef) -> Option<Value> {
        let labels = self.latest(&object.name).await?;
        let mark = labels.get(MARK).map(|mark| json!({MARK: mark})).unwrap_or_default();
        let texts = self.admin.get(&config_map_of(&object.name)).await.unwrap_or_default();
        let metadata = json!({"name": *object.name, "labels": mark});
        Some(json!({"metadata": metadata, "revision": labels["version"], "data": texts["data"]}))
    }

    /// Who changes what is there does so without helm.
    async fn put(&self, object: &Value) {
        let name = object["metadata"]["name"].as_str().unwrap();
        if self.latest(name).await.is_some() {
            let change = json!({"data": object["data"]});
            self.admin.send("PATCH", &config_map_of(name), Some(&change)).await.unwrap();
            return;
        }
        let texts = object.pointer("/spec/values/texts").or(object.get("data")).unwrap();
        let chart = self.charts.dir.path().join("texts-1.0.0.tgz");
        let texts = format!("texts={texts}");
        self.by_hand(&["install", name, chart.to_str().unwrap(), "--set-json", &texts]).await;
    }

    async fn delete(&self, object: &ObjectRef) {
        self.by_hand(&["uninstall", &object.name]).await;
    }

    async fn break_off(&self) -> Result<(), NotChecked> {
        self.proxy.set(Network::Silent);
        Ok(())
    }

    async fn mend(&self) {
        self.proxy.heal();
    }

    fn abilities(&self) -> applier::Abilities {
        applier::Abilities {
            knows_by_uid: Err(NotChecked::because("a release is known by its mark alone")),
            excludes: Err(NotChecked::because("helm writes whatever the chart says")),
            keeps_uids: Err(NotChecked::because("each revision of a release has its own")),
            holds_up: Err(NotChecked::because("releases are worked on at the same time")),
            ..applier::Abilities::all()
        }
    }

    fn patience(&self) -> Duration {
        LONG
    }
}

applier!(by_helm, Helm::new().await);
