//! The policy around an Applier is an Applier: it keeps the contract of the one within, here one in memory.
#![allow(clippy::expect_used, reason = "a test that meets the unexpected says so and stops")]

use std::sync::Arc;

use embed_in_controller::NoClusterWideRights;
use fleet_core::apply::Applier;
use fleet_core::cluster::{Cluster, ClusterId};
use fleet_core::manifest::{Manifest, ObjectRef};
use fleet_core::memory::MemoryApplier;
use fleet_core::testing::conformance::{NotChecked, applier};
use serde_json::{Value, json};

struct Within {
    policy: Arc<NoClusterWideRights<MemoryApplier>>,
    cluster: Arc<Cluster>,
}

impl Within {
    fn new() -> Self {
        let cluster = Cluster::new(ClusterId::new("civo", "c1").expect("a name"), [("env", "production")]);
        Self { policy: Arc::new(NoClusterWideRights(MemoryApplier::default())), cluster: Arc::new(cluster) }
    }

    fn memory(&self) -> &MemoryApplier {
        &self.policy.0
    }
}

impl applier::Fixture for Within {
    async fn applier(&self) -> Arc<dyn Applier> {
        Arc::clone(&self.policy) as _
    }

    fn cluster(&self) -> Arc<Cluster> {
        Arc::clone(&self.cluster)
    }

    fn refused(&self, name: &str) -> Result<Value, NotChecked> {
        let api = "rbac.authorization.k8s.io/v1";
        Ok(json!({"apiVersion": api, "kind": "ClusterRole", "metadata": {"name": name}, "rules": []}))
    }

    async fn read(&self, object: &ObjectRef) -> Option<Value> {
        self.memory().object(&self.cluster.id, object).map(|it| Value::Object(it.object))
    }

    async fn put(&self, object: &Value) {
        let id = Manifest::new(object.clone()).expect("an object").id().clone();
        let fields = object.as_object().expect("an object").clone();
        match self.memory().object(&self.cluster.id, &id) {
            Some(_) => self.memory().edit(&self.cluster.id, &id, |there| *there = fields),
            None => self.memory().put_foreign(&self.cluster.id, id, fields),
        }
    }

    async fn delete(&self, object: &ObjectRef) {
        self.memory().take_away(&self.cluster.id, object);
    }

    async fn break_off(&self) -> Result<(), NotChecked> {
        Err(NotChecked::because("memory is never out of reach"))
    }

    async fn mend(&self) {}

    fn abilities(&self) -> applier::Abilities {
        applier::Abilities::all()
    }
}

applier!(no_cluster_wide_rights, Within::new());
