//! Objects that carry a mark without being any Work's.

use std::collections::BTreeMap;

use fleet_core::engine::Stray;
use fleet_core::store::{StoreError, WorkStore};
use fleet_core::work::WorkId;

use super::addons::{PAGE, resource_type};
use super::rows::StrayRow;

/// What is known of strays, by cluster and object.
///
/// # Errors
/// When the store cannot be read.
pub async fn strays(store: &dyn WorkStore, strays: &[Stray]) -> Result<Vec<StrayRow>, StoreError> {
    let mut works: BTreeMap<&str, Option<WorkId>> = strays.iter().map(|stray| (&*stray.mark, None)).collect();
    let mut after: Option<WorkId> = None;
    while !works.is_empty() {
        let page = store.works(None, after.as_ref(), PAGE).await?;
        for work in &page {
            if let Some(found) = works.get_mut(work.value.id.hash()) {
                *found = Some(work.value.id.clone());
            }
        }
        match page.last() {
            Some(last) if page.len() == PAGE => after = Some(last.value.id.clone()),
            _ => break,
        }
    }
    let row = |stray: &Stray| {
        let work = works.get(&*stray.mark).and_then(|work| work.as_ref().map(ToString::to_string));
        let message = match &work {
            Some(work) => format!(
                "a copy: it carries the mark of Work {work}, which did not make it; remove its label \
                 fleet-events.dev/work, or delete it"
            ),
            None => "no Work here has this mark; if no other operator made it, remove its label \
                     fleet-events.dev/work, or delete it"
                .to_owned(),
        };
        StrayRow {
            cluster: stray.cluster.to_string(),
            resource_type: resource_type(&stray.object),
            namespace: stray.object.namespace.as_deref().unwrap_or_default().to_owned(),
            name: stray.object.name.to_string(),
            mark: stray.mark.to_string(),
            work,
            message,
        }
    };
    let mut rows: Vec<StrayRow> = strays.iter().map(row).collect();
    let key = |row: &StrayRow| {
        (row.cluster.clone(), row.resource_type.clone(), row.namespace.clone(), row.name.clone())
    };
    rows.sort_by_cached_key(key);
    Ok(rows)
}
