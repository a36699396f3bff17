//! Which ConfigMaps and Secrets triggers render from, and where what comes of them is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fleet_core::store::{StoreError, WorkStore};
use fleet_kube::definitions::{Definitions, ObjectId};

use super::addons::{each_applied, rule};
use super::rows::UsageRow;

/// A row for each ConfigMap and Secret that a trigger names, there or not.
///
/// # Errors
/// When the store cannot be read.
pub async fn usage(store: &dyn WorkStore, definitions: &Definitions) -> Result<Vec<UsageRow>, StoreError> {
    let mut used: BTreeMap<ObjectId, BTreeSet<Arc<str>>> = BTreeMap::new();
    for (id, trigger) in definitions.rendered_from() {
        used.entry(id).or_default().insert(trigger);
    }
    let mut clusters: BTreeMap<Arc<str>, BTreeSet<String>> = BTreeMap::new();
    each_applied(store, |work, applied| {
        if applied.inventory.iter().any(|item| item.uid.is_some()) {
            clusters.entry(Arc::clone(&work.trigger)).or_default().insert(applied.cluster.to_string());
        }
    })
    .await?;
    let row = |(id, triggers): (ObjectId, BTreeSet<Arc<str>>)| {
        let of_all: BTreeSet<&String> =
            triggers.iter().filter_map(|trigger| clusters.get(trigger)).flatten().collect();
        UsageRow {
            kind: id.kind.to_string(),
            namespace: id.namespace.as_deref().unwrap_or_default().to_owned(),
            name: id.name.to_string(),
            rules: triggers.iter().map(rule).collect(),
            clusters: of_all.into_iter().cloned().collect(),
        }
    };
    Ok(used.into_iter().map(row).collect())
}
