//! A cluster, a repository and an Applier whose helm is counted.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use fleet_core::apply::{
    Applier, ApplyRequest, Claim, Identity, InventoryItem, Mode, Outcome, RemoveRequest,
};
use fleet_core::cluster::{Cluster, ClusterId, Labels};
use fleet_core::manifest::{MARK, Manifest};
use fleet_core::policy::{Policy, SyncMode};
use fleet_core::work::WorkId;
use fleet_kube::clusters::Clusters;
use fleet_kube::helm::{HelmApplier, HelmSetup, KIND};
use local_fleet::{Program, Progress, Route, User, install};
use serde_json::{Value, json};

use super::lab::*;
use super::repository::{self, Repository};

/// Enough for a helm on a busy machine.
pub(crate) const LONG: Duration = Duration::from_secs(60);

pub(crate) struct World {
    pub(crate) lab: Arc<Lab>,
    pub(crate) clusters: Arc<Clusters>,
    pub(crate) target: Arc<Cluster>,
    pub(crate) admin: Other,
    pub(crate) repository: Repository,
    pub(crate) dir: tempfile::TempDir,
    pub(crate) helm: HelmApplier,
    /// The real program.
    pub(crate) program: PathBuf,
    pub(crate) namespace: String,
    pub(crate) work: WorkId,
}

impl World {
    pub(crate) async fn new(name: &str) -> Self {
        Self::with(name, Program::Helm).await
    }

    pub(crate) async fn with(name: &str, program: Program) -> Self {
        let lab = Lab::shared().await;
        let clusters = Arc::new(Clusters::with_pace(pace()));
        let definition = lab.definition(User::Admin, Route::Direct);
        let target = Arc::new(Cluster::new(definition.id.clone(), definition.labels.clone()));
        clusters.update(vec![definition]);
        until_health(&clusters, true).await;
        let program = install::find(program, &Progress::default()).await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        let charts = dir.path().join("charts");
        std::fs::create_dir(&charts).unwrap();
        repository::package(&program, &charts, &["1.0.0", "1.1.0"]).await;
        let admin = lab.admin().await;
        let repository = Repository::open(&charts).await;
        let helm = applier(&clusters, dir.path(), &program);
        let (namespace, work) = (name.to_owned(), work(name));
        Self { lab, clusters, target, admin, repository, dir, helm, program, namespace, work }
    }

    /// Another Applier on the same folder, as after a restart.
    pub(crate) fn restart(&mut self) {
        self.helm = applier(&self.clusters, self.dir.path(), &self.program);
    }

    /// How often helm was started to work on releases.
    pub(crate) fn runs(&self) -> usize {
        let log = std::fs::read_to_string(self.dir.path().join("runs")).unwrap_or_default();
        log.lines().filter(|line| !line.starts_with("version")).count()
    }

    /// The release `beacon`, with something changed.
    pub(crate) fn release(&self, change: Value) -> Value {
        let mut spec = json!({
            "repositoryURL": self.repository.url,
            "chartName": "beacon",
            "chartVersion": "1.0.0",
        });
        spec.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        json!({
            "apiVersion": "fleet-events.dev/v1alpha1", "kind": KIND,
            "metadata": {"name": "beacon", "namespace": self.namespace},
            "spec": spec,
        })
    }

    pub(crate) fn request(&self, release: &Value, inventory: &[InventoryItem]) -> ApplyRequest {
        ApplyRequest {
            cluster: Arc::clone(&self.target),
            work: self.work.clone(),
            manifests: vec![Manifest::new(release.clone()).unwrap()].into(),
            inventory: inventory.to_vec(),
            identity: None,
            claims: Vec::new(),
            policy: Arc::default(),
            mode: Mode::Write,
            deadline: LONG,
        }
    }

    pub(crate) async fn apply(&self, release: &Value, inventory: &[InventoryItem]) -> Outcome {
        self.helm.apply(self.request(release, inventory)).await.remove(0)
    }

    /// Applies what has to succeed, as soon as it need not wait; what is remembered of it.
    pub(crate) async fn applied(&self, release: &Value, inventory: &[InventoryItem]) -> InventoryItem {
        let applied = async {
            loop {
                match self.apply(release, inventory).await {
                    Outcome::Waiting { .. } => {}
                    outcome => return placed(release, &outcome),
                }
            }
        };
        tokio::time::timeout(LONG, applied).await.expect("it should not have to wait so long")
    }

    /// The same where drift is put right.
    pub(crate) async fn kept(&self, release: &Value, inventory: &[InventoryItem]) -> InventoryItem {
        let policy = Policy { sync: SyncMode::ContinuousWithDriftDetection, ..Policy::default() };
        let request = ApplyRequest { policy: Arc::new(policy), ..self.request(release, inventory) };
        placed(release, &self.helm.apply(request).await.remove(0))
    }

    pub(crate) async fn preview(&self, release: &Value) -> Outcome {
        let request = ApplyRequest { mode: Mode::Preview, ..self.request(release, &[]) };
        self.helm.apply(request).await.remove(0)
    }

    pub(crate) async fn remove(&self, item: &InventoryItem, mode: Mode) -> Outcome {
        let request = RemoveRequest {
            cluster: Arc::clone(&self.target),
            work: self.work.clone(),
            items: vec![item.clone()],
            mode,
            identity: None,
            deadline: LONG,
        };
        self.helm.remove(request).await.remove(0)
    }

    /// The data of one of the release's ConfigMaps, if it is there.
    pub(crate) async fn data(&self, name: &str) -> Option<Value> {
        let path = self.at("configmaps", name);
        Some(self.admin.get(&path).await?["data"].clone())
    }

    pub(crate) fn at(&self, kind: &str, name: &str) -> String {
        format!("/api/v1/namespaces/{}/{kind}/{name}", self.namespace)
    }

    /// What helm itself says of the release: revision, status and chart of each revision.
    pub(crate) async fn history(&self) -> Vec<(u64, String, String)> {
        let told = self.by_hand(&["history", "beacon", "-o", "json"]).await;
        let told: Vec<Value> = serde_json::from_str(&told).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        told.iter()
            .map(|one| (one["revision"].as_u64().unwrap(), text(&one["status"]), text(&one["chart"])))
            .collect()
    }

    /// Whose mark the latest revision has.
    pub(crate) async fn mark(&self) -> Option<String> {
        let path = format!("{}?labelSelector=owner%3Dhelm", self.at("secrets", "").trim_end_matches('/'));
        let list = self.admin.get(&path).await.unwrap();
        let number =
            |item: &Value| item["metadata"]["labels"]["version"].as_str().unwrap().parse::<u32>().unwrap();
        let latest = list["items"].as_array().unwrap().iter().max_by_key(|item| number(item))?;
        latest["metadata"]["labels"][MARK].as_str().map(str::to_owned)
    }

    /// Somebody's helm, in the namespace of the release.
    pub(crate) async fn by_hand(&self, args: &[&str]) -> String {
        self.by_hand_with(&self.program, args).await
    }

    pub(crate) async fn by_hand_with(&self, program: &Path, args: &[&str]) -> String {
        let kubeconfig = self.dir.path().join("admin.kubeconfig");
        std::fs::write(&kubeconfig, self.lab.kubeconfig(User::Admin, Route::Direct)).unwrap();
        let mut args = args.to_vec();
        args.extend(["-n", &self.namespace, "--kubeconfig", kubeconfig.to_str().unwrap()]);
        repository::run(program, &args, self.dir.path()).await
    }

    pub(crate) fn chart(&self, version: &str) -> String {
        self.dir.path().join(format!("charts/beacon-{version}.tgz")).display().to_string()
    }
}

/// An Applier that leaves a line for each helm that it starts.
pub(crate) fn applier(clusters: &Arc<Clusters>, dir: &Path, program: &Path) -> HelmApplier {
    let script = dir.join(format!("{}-counted", program.file_name().unwrap().to_str().unwrap()));
    let text = format!(
        "#!/bin/sh\necho \"$*\" >> '{}'\nexec '{}' \"$@\"\n",
        dir.join("runs").display(),
        program.display()
    );
    // Written elsewhere first: one that is being written cannot be run.
    let part = script.with_extension("part");
    std::fs::write(&part, text).unwrap();
    std::fs::set_permissions(&part, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::rename(part, &script).unwrap();
    let options = HelmSetup { program: script, ..HelmSetup::new(dir.join("helm")) };
    HelmApplier::new(Arc::clone(clusters), options)
}

pub(crate) fn claim(release: &Value, from: &WorkId) -> Claim {
    Claim { object: Manifest::new(release.clone()).unwrap().id().clone(), from: from.hash().into() }
}

pub(crate) fn nobody(namespace: &str) -> Identity {
    Identity { namespace: namespace.to_owned(), name: "nobody".to_owned() }
}

/// A cluster that is a folder.
pub(crate) fn a_folder() -> (ClusterId, Labels) {
    (ClusterId::new("civo", "folder").unwrap(), Labels::new())
}

pub(crate) fn reason(outcome: &Outcome) -> &str {
    match outcome {
        Outcome::Rejected { reason } | Outcome::Retry { reason, .. } | Outcome::Waiting { reason } => reason,
        other => panic!("{other:?}"),
    }
}
