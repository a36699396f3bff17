//! Deliveries that never became Work.

use fleet_core::store::{StoreError, WorkStore};

use super::rows::DeadLetterRow;

/// How many are shown: the newest of them.
const SHOWN: usize = 1000;
const PAGE: usize = 256;

/// The newest dead letters, oldest first.
///
/// # Errors
/// When the store cannot be read.
pub async fn dead_letters(store: &dyn WorkStore) -> Result<Vec<DeadLetterRow>, StoreError> {
    let mut rows = std::collections::VecDeque::new();
    let mut after: Option<String> = None;
    loop {
        let page = store.dead_letters(after.as_deref(), PAGE).await?;
        for letter in &page {
            if rows.len() == SHOWN {
                rows.pop_front();
            }
            rows.push_back(DeadLetterRow {
                id: letter.id.clone(),
                time: letter.time,
                source: letter.source.clone(),
                trigger: letter.trigger.clone().unwrap_or_default(),
                reason: letter.reason.clone(),
                detail: letter.detail.clone(),
                bytes: letter.raw.len(),
            });
        }
        match page.last() {
            Some(last) if page.len() == PAGE => after = Some(last.id.clone()),
            _ => return Ok(rows.into()),
        }
    }
}
