//! Definitions in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::catalog::{Catalog, CatalogError, CatalogSnapshot, Condition, SourceDef, Subject, TriggerDef};
use crate::resource::{Others, ResourceId, Resources};

/// Definitions that the program itself changes.
#[derive(Debug)]
pub struct MemoryCatalog {
    snapshot: watch::Sender<Arc<CatalogSnapshot>>,
    conditions: Mutex<BTreeMap<Subject, Condition>>,
    referred: Mutex<BTreeSet<ResourceId>>,
}

impl Default for MemoryCatalog {
    fn default() -> Self {
        Self::new([], [])
    }
}

impl MemoryCatalog {
    /// A catalog of these definitions.
    pub fn new(
        sources: impl IntoIterator<Item = SourceDef>,
        triggers: impl IntoIterator<Item = TriggerDef>,
    ) -> Self {
        let snapshot = CatalogSnapshot {
            sources: sources.into_iter().map(|source| (Arc::clone(&source.name), Arc::new(source))).collect(),
            triggers: triggers.into_iter().map(|it| (Arc::clone(&it.name), Arc::new(it))).collect(),
            complete: true,
            leaving: BTreeSet::new(),
            withheld: BTreeMap::new(),
            resources: Arc::new(Resources { others: Others::Absent, ..Resources::default() }),
        };
        Self {
            snapshot: watch::Sender::new(Arc::new(snapshot)),
            conditions: Mutex::default(),
            referred: Mutex::default(),
        }
    }

    /// Changes the definitions.
    pub fn edit(&self, edit: impl FnOnce(&mut CatalogSnapshot)) {
        self.snapshot.send_modify(|snapshot| edit(Arc::make_mut(snapshot)));
    }

    /// What the engine last said about a definition.
    pub fn condition(&self, subject: &Subject) -> Option<Condition> {
        self.conditions.lock().get(subject).cloned()
    }

    /// What the engine refers to now.
    pub fn referred(&self) -> BTreeSet<ResourceId> {
        self.referred.lock().clone()
    }
}

#[async_trait]
impl Catalog for MemoryCatalog {
    async fn subscribe(&self) -> Result<BoxStream<'static, Arc<CatalogSnapshot>>, CatalogError> {
        let mut receiver = self.snapshot.subscribe();
        receiver.mark_changed();
        let snapshots = futures::stream::unfold(receiver, |mut receiver| async move {
            receiver.changed().await.ok()?;
            let snapshot = Arc::clone(&receiver.borrow_and_update());
            Some((snapshot, receiver))
        });
        Ok(snapshots.boxed())
    }

    fn report(&self, subject: &Subject, condition: Condition) {
        self.conditions.lock().insert(subject.clone(), condition);
    }

    fn refer(&self, resources: BTreeSet<ResourceId>) {
        *self.referred.lock() = resources;
    }
}
