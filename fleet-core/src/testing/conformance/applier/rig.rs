//! What the checks do with an Applier.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::Fixture;
use crate::apply::{Applier, ApplyRequest, InventoryItem, Mode, Outcome, Placed, RemoveRequest};
use crate::cluster::Cluster;
use crate::manifest::{MARK, Manifest, ObjectRef};
use crate::testing::conformance::{Finding, OrBroken, holds, tag};
use crate::work::{EventKey, WorkId};

/// After something was not told for that long, it is taken not to be told.
pub(super) const QUIET: Duration = Duration::from_millis(500);
/// How soon something is asked again that was not finished.
const SOON: Duration = Duration::from_millis(50);

/// An Applier, and names that no other run of a check has.
pub(super) struct Rig {
    pub(super) applier: Arc<dyn Applier>,
    cluster: Arc<Cluster>,
    patience: Duration,
    tag: String,
}

impl Rig {
    pub(super) async fn new(fixture: &impl Fixture) -> Self {
        Self {
            applier: fixture.applier().await,
            cluster: fixture.cluster(),
            patience: fixture.patience(),
            tag: tag(),
        }
    }

    pub(super) fn name(&self, name: &str) -> String {
        format!("kit-{}-{name}", self.tag)
    }

    pub(super) fn work(&self, name: &str) -> WorkId {
        WorkId::new("kit", &EventKey::Text(self.name(name)))
    }

    /// A request to be changed, and then sent.
    pub(super) fn asks(&self, work: &WorkId, objects: &[Value]) -> Result<ApplyRequest, Finding> {
        let manifests = objects.iter().map(|object| Manifest::new(object.clone()));
        let manifests: Vec<_> = manifests.collect::<Result<_, _>>().or_broken("the fixture has no object")?;
        Ok(ApplyRequest {
            cluster: Arc::clone(&self.cluster),
            work: work.clone(),
            manifests: manifests.into(),
            inventory: Vec::new(),
            claims: Vec::new(),
            policy: Arc::default(),
            identity: None,
            mode: Mode::Write,
            deadline: self.patience,
        })
    }

    pub(super) async fn send(&self, request: ApplyRequest) -> Result<Vec<Outcome>, Finding> {
        let asked = request.manifests.len();
        let by = request.deadline + self.patience;
        let outcomes = tokio::time::timeout(by, self.applier.apply(request)).await;
        let outcomes = outcomes.or_broken(&format!("applying came to no end within {by:?}"))?;
        holds!(outcomes.len() == asked, "{asked} manifests have {} outcomes", outcomes.len());
        Ok(outcomes)
    }

    /// Applies one object, with what is known of it from before.
    pub(super) async fn apply(
        &self,
        work: &WorkId,
        object: &Value,
        inventory: &[InventoryItem],
    ) -> Result<Outcome, Finding> {
        let request = self.asks(work, std::slice::from_ref(object))?;
        let mut outcomes = self.send(ApplyRequest { inventory: inventory.to_vec(), ..request }).await?;
        Ok(outcomes.remove(0))
    }

    /// Applies one object that has to be there then, and gives what is remembered of it.
    pub(super) async fn place(
        &self,
        work: &WorkId,
        object: &Value,
        inventory: &[InventoryItem],
    ) -> Result<InventoryItem, Finding> {
        let outcome = self.apply(work, object, inventory).await?;
        remember(object, outcome)
    }

    /// The same, which may have to wait first.
    pub(super) async fn place_in_time(
        &self,
        work: &WorkId,
        object: &Value,
        inventory: &[InventoryItem],
    ) -> Result<InventoryItem, Finding> {
        let deadline = tokio::time::Instant::now() + self.patience;
        loop {
            let outcome = self.apply(work, object, inventory).await?;
            let waits =
                matches!(outcome, Outcome::Waiting { .. } | Outcome::Retry { .. } | Outcome::Unknown { .. });
            if !waits || tokio::time::Instant::now() > deadline {
                return remember(object, outcome);
            }
            tokio::time::sleep(SOON).await;
        }
    }

    pub(super) async fn take(
        &self,
        work: &WorkId,
        items: &[InventoryItem],
        mode: Mode,
    ) -> Result<Vec<Outcome>, Finding> {
        self.take_within(work, items, mode, self.patience).await
    }

    pub(super) async fn take_within(
        &self,
        work: &WorkId,
        items: &[InventoryItem],
        mode: Mode,
        deadline: Duration,
    ) -> Result<Vec<Outcome>, Finding> {
        let request = RemoveRequest {
            cluster: Arc::clone(&self.cluster),
            work: work.clone(),
            items: items.to_vec(),
            mode,
            identity: None,
            deadline,
        };
        let by = deadline + self.patience;
        let outcomes = tokio::time::timeout(by, self.applier.remove(request)).await;
        let outcomes = outcomes.or_broken(&format!("removing came to no end within {by:?}"))?;
        holds!(outcomes.len() == items.len(), "{} items have {} outcomes", items.len(), outcomes.len());
        Ok(outcomes)
    }

    /// Removes until nothing is waited for.
    pub(super) async fn remove(&self, work: &WorkId, item: &InventoryItem) -> Result<Outcome, Finding> {
        let deadline = tokio::time::Instant::now() + self.patience;
        loop {
            let outcome = self.take(work, std::slice::from_ref(item), Mode::Write).await?.remove(0);
            if !matches!(outcome, Outcome::Waiting { .. }) || tokio::time::Instant::now() > deadline {
                return Ok(outcome);
            }
            tokio::time::sleep(SOON).await;
        }
    }
}

/// Which object it is.
pub(super) fn id(object: &Value) -> Result<ObjectRef, Finding> {
    let manifest = Manifest::new(object.clone()).or_broken("the fixture has no object")?;
    Ok(manifest.id().clone())
}

/// An inventory item of an object that was only planned.
pub(super) fn planned(object: &Value) -> Result<InventoryItem, Finding> {
    Ok(InventoryItem::planned(id(object)?))
}

/// What is remembered of an object that was applied.
pub(super) fn remember(object: &Value, outcome: Outcome) -> Result<InventoryItem, Finding> {
    let Outcome::Applied(Placed { uid, print, version, adopted, chart }) = outcome else {
        return Err(Finding::Broken(format!("applying came to {outcome:?}, not to Applied")));
    };
    Ok(InventoryItem { uid: Some(uid), print, version, adopted, chart, ..planned(object)? })
}

/// The mark on an object.
pub(super) fn mark(object: &Value) -> Option<&str> {
    object.get("metadata")?.get("labels")?.get(MARK)?.as_str()
}

/// A text in an object.
pub(super) fn text<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object.get("data")?.get(key)?.as_str()
}

/// The object with this text instead, as somebody else changes it.
pub(super) fn with_text(object: &Value, key: &str, text: &str) -> Value {
    let mut object = object.clone();
    if let Some(data) = object.get_mut("data").and_then(Value::as_object_mut) {
        data.insert(key.to_owned(), text.into());
    }
    object
}

/// The object without its mark, as somebody else changes it.
pub(super) fn without_mark(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(labels) = object.pointer_mut("/metadata/labels").and_then(Value::as_object_mut) {
        labels.remove(MARK);
    }
    object
}
