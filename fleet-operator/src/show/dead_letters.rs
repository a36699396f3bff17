//! What needs a person: deliveries that never became Work, and Works that are stalled.

use std::collections::VecDeque;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fleet_core::dead_letter::{DeadLetter, DeadLetterBox};
use fleet_core::store::{StoreError, WorkStore};
use fleet_core::work::{AppliedState, AppliedWork, WorkId};

use super::addons::{applied_of, each_applied};
use super::rows::{DeadLetterDetail, DeadLetterKind, DeadLetterRow, Original, StalledIn};

/// How many are shown: the newest of them.
const SHOWN: usize = 1000;
const PAGE: usize = 256;

/// The newest dead letters of all boxes, oldest first. What cannot be read is said in `notes`.
pub async fn dead_letters(boxes: &[Arc<dyn DeadLetterBox>], notes: &mut Vec<String>) -> Vec<DeadLetterRow> {
    let mut rows = Vec::new();
    for letters in boxes {
        match newest(&**letters).await {
            Ok(found) => rows.extend(found),
            Err(error) => notes.push(format!("some dead letters cannot be listed now: {error}")),
        }
    }
    rows.sort_by(|a, b| a.id.cmp(&b.id));
    let superfluous = rows.len().saturating_sub(SHOWN);
    if superfluous > 0 {
        notes.push(format!("only the newest {SHOWN} dead letters are listed"));
        rows.drain(..superfluous);
    }
    rows
}

async fn newest(letters: &dyn DeadLetterBox) -> Result<VecDeque<DeadLetterRow>, StoreError> {
    let mut rows = VecDeque::new();
    let mut after: Option<String> = None;
    loop {
        let page = letters.list(after.as_deref(), PAGE).await?;
        for letter in &page {
            // One more than is shown, so that it is known that there are more.
            if rows.len() > SHOWN {
                rows.pop_front();
            }
            rows.push_back(row(letter));
        }
        match page.last() {
            Some(last) if page.len() == PAGE => after = Some(last.id.clone()),
            _ => return Ok(rows),
        }
    }
}

fn row(letter: &DeadLetter) -> DeadLetterRow {
    DeadLetterRow {
        id: letter.id.clone(),
        kind: DeadLetterKind::Event,
        time: letter.time,
        source: letter.source.clone(),
        trigger: letter.trigger.clone().unwrap_or_default(),
        cluster: String::new(),
        reason: letter.reason.clone(),
        detail: letter.detail.clone(),
        bytes: letter.raw.len(),
    }
}

/// The Works that are stalled, once for each cluster.
///
/// # Errors
/// When the store cannot be read.
pub async fn stalled(store: &dyn WorkStore) -> Result<Vec<DeadLetterRow>, StoreError> {
    let mut rows = Vec::new();
    each_applied(store, |work, applied| {
        if let AppliedState::Stalled { reason, message } = &applied.state {
            rows.push(DeadLetterRow {
                id: work.id.to_string(),
                kind: DeadLetterKind::Work,
                time: applied.updated,
                source: work.source.to_string(),
                trigger: work.trigger.to_string(),
                cluster: applied.for_cluster().to_string(),
                reason: reason.clone(),
                detail: detail(applied, message),
                bytes: 0,
            });
        }
    })
    .await?;
    Ok(rows)
}

/// All of one dead letter, the event's data included, or of one Work that is stalled; `None` if there is neither.
///
/// # Errors
/// When it cannot be read.
pub async fn dead_letter(
    id: &str,
    boxes: &[Arc<dyn DeadLetterBox>],
    store: &dyn WorkStore,
) -> Result<Option<DeadLetterDetail>, StoreError> {
    if let Some(work) = WorkId::from_stored(id)
        && let Some(detail) = stalled_work(&work, store).await?
    {
        return Ok(Some(detail));
    }
    for letters in boxes {
        if let Some(letter) = letters.get(id).await? {
            return Ok(Some(DeadLetterDetail {
                position: letter.position.as_ref().map(ToString::to_string),
                subject: letter.message.subject.clone(),
                headers: letter.message.headers.clone(),
                original: Some(match std::str::from_utf8(&letter.raw) {
                    Ok(text) => Original::Text(text.to_owned()),
                    Err(_) => Original::Base64(STANDARD.encode(&letter.raw)),
                }),
                stalled: Vec::new(),
                row: row(&letter),
            }));
        }
    }
    Ok(None)
}

/// Why a Work is stalled, and where, if that is not in the cluster that it is for.
fn detail(applied: &AppliedWork, message: &str) -> String {
    match &applied.local {
        None => message.to_owned(),
        Some(_) => format!("what is local for it, in {}: {message}", applied.cluster),
    }
}

async fn stalled_work(id: &WorkId, store: &dyn WorkStore) -> Result<Option<DeadLetterDetail>, StoreError> {
    let Some(work) = store.work(id).await?.map(|stored| stored.value) else { return Ok(None) };
    let mut stalled = Vec::new();
    for applied in applied_of(store, id).await? {
        if let AppliedState::Stalled { reason, message } = &applied.state {
            stalled.push(StalledIn {
                cluster: applied.for_cluster().to_string(),
                since: applied.updated,
                reason: reason.clone(),
                detail: detail(&applied, message),
            });
        }
    }
    let Some(first) = stalled.first() else { return Ok(None) };
    let positions: Vec<_> = work.positions.iter().map(ToString::to_string).collect();
    let event = work.event.to_json().to_string();
    Ok(Some(DeadLetterDetail {
        row: DeadLetterRow {
            id: id.to_string(),
            kind: DeadLetterKind::Work,
            time: first.since,
            source: work.source.to_string(),
            trigger: work.trigger.to_string(),
            cluster: String::new(),
            reason: first.reason.clone(),
            detail: first.detail.clone(),
            bytes: event.len(),
        },
        position: Some(positions.join(" ")).filter(|text| !text.is_empty()),
        subject: work.message.subject.clone(),
        headers: work.message.headers.clone(),
        original: Some(Original::Text(event)),
        stalled,
    }))
}
