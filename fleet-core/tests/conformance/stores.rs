//! Our WorkStores keep the contract.

use std::sync::Arc;

use fleet_core::memory::MemoryStore;
use fleet_core::redb::RedbStore;
use fleet_core::store::WorkStore;
use fleet_core::testing::conformance::{NotChecked, work_store};
use tempfile::TempDir;

struct Memory(MemoryStore);

impl work_store::Fixture for Memory {
    async fn store(&self) -> Arc<dyn WorkStore> {
        Arc::new(self.0.another_handle())
    }

    async fn another(&self) -> Result<Arc<dyn WorkStore>, NotChecked> {
        Ok(Arc::new(self.0.another_handle()))
    }

    async fn after_a_crash(&self) -> Result<Arc<dyn WorkStore>, NotChecked> {
        Err(NotChecked::because("nothing in memory survives the process"))
    }
}

work_store!(memory, Memory(MemoryStore::default()));

struct Redb(TempDir);

impl work_store::Fixture for Redb {
    async fn store(&self) -> Arc<dyn WorkStore> {
        Arc::new(RedbStore::open(&self.0.path().join("fleet.redb")).unwrap())
    }

    async fn another(&self) -> Result<Arc<dyn WorkStore>, NotChecked> {
        Err(NotChecked::because("the file is for one operator at a time"))
    }

    /// What is in the file while it is open is what a kill leaves.
    async fn after_a_crash(&self) -> Result<Arc<dyn WorkStore>, NotChecked> {
        let left = self.0.path().join("left.redb");
        std::fs::copy(self.0.path().join("fleet.redb"), &left).unwrap();
        Ok(Arc::new(RedbStore::open(&left).unwrap()))
    }
}

work_store!(redb, Redb(tempfile::tempdir().unwrap()));
