//! Whichever Applier an object goes through, together they keep the contract: here for a cluster that is a folder.

use std::path::PathBuf;

use fleet_core::cluster::{Cluster, Labels};
use fleet_core::manifest::{Manifest, ObjectRef};
use fleet_core::testing::conformance::{NotChecked, applier};
use serde_json::{Value, json};

use super::*;

struct Folder {
    root: tempfile::TempDir,
    routed: Arc<Routed>,
    cluster: Arc<Cluster>,
}

impl Folder {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let id = ClusterId::new("civo", "one").unwrap();
        let clusters = Arc::new(Clusters::new());
        clusters.update(vec![ClusterDefinition {
            id: id.clone(),
            labels: Labels::new(),
            annotations: Labels::new(),
            resolve: Vec::new(),
            connection: Connection::Directory,
        }]);
        let folders = DirectoryApplier::new(root.path()).unwrap();
        let helm = HelmSetup::new(root.path().join("helm"));
        let routed = Arc::new(Routed::new(clusters, folders, helm, Vec::new(), Arc::new(|| true)));
        Self { root, routed, cluster: Arc::new(Cluster::new(id, Labels::new())) }
    }

    fn path(&self, object: &ObjectRef) -> PathBuf {
        let folder = object.namespace.as_deref().unwrap_or("_cluster");
        let kind = format!("{}.core", object.gvk.kind.to_lowercase());
        self.root.path().join("civo/one").join(folder).join(kind).join(format!("{}.yaml", object.name))
    }
}

impl applier::Fixture for Folder {
    async fn applier(&self) -> Arc<dyn Applier> {
        Arc::clone(&self.routed) as _
    }

    fn cluster(&self) -> Arc<Cluster> {
        Arc::clone(&self.cluster)
    }

    /// Charts need an API server.
    fn refused(&self, name: &str) -> Result<Value, NotChecked> {
        let metadata = json!({"name": name, "namespace": "default"});
        let api = "fleet-events.dev/v1alpha1";
        Ok(json!({"apiVersion": api, "kind": helm::KIND, "metadata": metadata, "spec": {}}))
    }

    async fn read(&self, object: &ObjectRef) -> Option<Value> {
        let text = std::fs::read_to_string(self.path(object)).ok()?;
        fleet_core::yaml::documents(&text).remove(0).ok().map(|document| document.value)
    }

    async fn put(&self, object: &Value) {
        let path = self.path(Manifest::new(object.clone()).unwrap().id());
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, object.to_string()).unwrap();
    }

    async fn delete(&self, object: &ObjectRef) {
        std::fs::remove_file(self.path(object)).unwrap();
    }

    async fn break_off(&self) -> Result<(), NotChecked> {
        Err(NotChecked::because("a folder is never out of reach"))
    }

    async fn mend(&self) {}

    fn abilities(&self) -> applier::Abilities {
        applier::Abilities::all()
    }
}

applier!(routed, Folder::new());
