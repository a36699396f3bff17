//! Our Appliers in memory and in folders keep the contract.

use std::path::PathBuf;
use std::sync::Arc;

use fleet_core::apply::Applier;
use fleet_core::cluster::{Cluster, ClusterId};
use fleet_core::directory::DirectoryApplier;
use fleet_core::manifest::{Manifest, ObjectRef};
use fleet_core::memory::MemoryApplier;
use fleet_core::testing::conformance::{NotChecked, applier};
use serde_json::Value;

fn cluster() -> Arc<Cluster> {
    Arc::new(Cluster::new(ClusterId::new("civo", "c1").unwrap(), [("env", "production")]))
}

fn id(object: &Value) -> ObjectRef {
    Manifest::new(object.clone()).unwrap().id().clone()
}

pub(crate) struct Memory(pub(crate) Arc<MemoryApplier>, Arc<Cluster>);

impl Memory {
    pub(crate) fn new() -> Self {
        Self(Arc::default(), cluster())
    }
}

impl applier::Fixture for Memory {
    async fn applier(&self) -> Arc<dyn Applier> {
        Arc::clone(&self.0) as _
    }

    fn cluster(&self) -> Arc<Cluster> {
        Arc::clone(&self.1)
    }

    fn refused(&self, _name: &str) -> Result<Value, NotChecked> {
        Err(NotChecked::because("memory refuses nothing"))
    }

    async fn read(&self, object: &ObjectRef) -> Option<Value> {
        self.0.object(&self.1.id, object).map(|it| Value::Object(it.object))
    }

    async fn put(&self, object: &Value) {
        let (id, fields) = (id(object), object.as_object().unwrap().clone());
        match self.0.object(&self.1.id, &id) {
            Some(_) => self.0.edit(&self.1.id, &id, |there| *there = fields),
            None => self.0.put_foreign(&self.1.id, id, fields),
        }
    }

    async fn delete(&self, object: &ObjectRef) {
        self.0.take_away(&self.1.id, object);
    }

    async fn break_off(&self) -> Result<(), NotChecked> {
        Err(NotChecked::because("memory is never out of reach"))
    }

    async fn mend(&self) {}

    fn abilities(&self) -> applier::Abilities {
        applier::Abilities::all()
    }
}

applier!(memory, Memory::new());

struct Folders {
    applier: Arc<DirectoryApplier>,
    root: tempfile::TempDir,
    cluster: Arc<Cluster>,
}

impl Folders {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let applier = Arc::new(DirectoryApplier::new(root.path()).unwrap());
        Self { applier, root, cluster: cluster() }
    }

    /// `<root>/<cluster namespace>/<cluster name>/<object namespace>/<kind>.<group or core>/<name>.yaml`
    fn path(&self, object: &ObjectRef) -> PathBuf {
        let folder = object.namespace.as_deref().unwrap_or("_cluster");
        let kind = format!("{}.core", object.gvk.kind.to_lowercase());
        self.root.path().join("civo/c1").join(folder).join(kind).join(format!("{}.yaml", object.name))
    }
}

impl applier::Fixture for Folders {
    async fn applier(&self) -> Arc<dyn Applier> {
        Arc::clone(&self.applier) as _
    }

    fn cluster(&self) -> Arc<Cluster> {
        Arc::clone(&self.cluster)
    }

    fn refused(&self, _name: &str) -> Result<Value, NotChecked> {
        Err(NotChecked::because("a folder takes any object"))
    }

    async fn read(&self, object: &ObjectRef) -> Option<Value> {
        let text = std::fs::read_to_string(self.path(object)).ok()?;
        let mut documents = fleet_core::yaml::documents(&text);
        documents.remove(0).ok().map(|document| document.value)
    }

    async fn put(&self, object: &Value) {
        let path = self.path(&id(object));
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

applier!(folders, Folders::new());
