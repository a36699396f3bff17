//! Objects in clusters, from the records of what was applied.

use std::collections::BTreeMap;
use std::sync::Arc;

use fleet_core::cluster::ClusterId;
use fleet_core::manifest::ObjectRef;
use fleet_core::store::{StoreError, WorkStore};
use fleet_core::work::{AppliedState, AppliedWork, Work};

use super::rows::{AddonRow, Tally};

/// How many Works are read at a time.
const PAGE: usize = 256;

/// Everything that is in a cluster because of an event, and what is on its way there.
///
/// # Errors
/// When the store cannot be read.
pub async fn addons(store: &dyn WorkStore) -> Result<Vec<AddonRow>, StoreError> {
    let mut rows = Vec::new();
    each_applied(store, |work, applied| {
        let (state, message) = describe(&applied.state);
        let row = |resource_type: String, namespace: &str, name: &str, time| AddonRow {
            cluster: applied.cluster.to_string(),
            resource_type,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            version: None,
            time,
            profiles: vec![format!("EventTrigger/{}", work.trigger)],
            work: work.id.to_string(),
            state: state.to_owned(),
            message: message.clone(),
        };
        let of = |object: &ObjectRef, time| {
            let namespace = object.namespace.as_deref().unwrap_or_default();
            row(format!("{}:{}", object.gvk.group, object.gvk.kind), namespace, &object.name, time)
        };
        for item in &applied.inventory {
            let time = item.uid.as_ref().and(Some(item.applied_at.unwrap_or(applied.updated)));
            rows.push(of(&item.object, time));
        }
        // What others have is not in the inventory, and the very thing to look for.
        let blocked = applied.blocked.iter().map(|blocked| &blocked.object);
        let planned =
            |object: &ObjectRef| applied.inventory.iter().any(|item| item.object.same_object(object));
        rows.extend(blocked.filter(|object| !planned(object)).map(|object| of(object, None)));
        if applied.inventory.is_empty()
            && applied.blocked.is_empty()
            && applied.state != AppliedState::Applied
        {
            rows.push(row(String::new(), "", "", None));
        }
    })
    .await?;
    rows.sort_by(|a, b| key(a).cmp(&key(b)));
    Ok(rows)
}

/// How many objects are named of what is left in a cluster.
const MOST_NAMED: usize = 10;

/// What is left in a cluster that goes, in one sentence.
pub async fn remains(store: &dyn WorkStore, cluster: &ClusterId) -> String {
    let (mut objects, mut named) = (0_usize, Vec::new());
    let read = each_applied(store, |_, applied| {
        for item in applied.inventory.iter().filter(|item| item.uid.is_some() && applied.cluster == *cluster)
        {
            objects += 1;
            if named.len() < MOST_NAMED {
                named.push(item.object.to_string());
            }
        }
    });
    match (read.await, objects) {
        (Err(error), _) => format!("What stays there could not be found out: {error}"),
        (Ok(()), 0) => "As far as is known, nothing stays there".to_owned(),
        (Ok(()), _) => {
            let more = objects.saturating_sub(named.len());
            let more = if more > 0 { format!(", and {more} more") } else { String::new() };
            format!("It stays there: {}{more}", named.join(", "))
        }
    }
}

fn key(row: &AddonRow) -> (&str, &str, &str, &str) {
    (&row.cluster, &row.resource_type, &row.namespace, &row.name)
}

/// How the Works of each trigger are doing.
///
/// # Errors
/// When the store cannot be read.
pub async fn tallies(store: &dyn WorkStore) -> Result<BTreeMap<Arc<str>, Tally>, StoreError> {
    let mut tallies: BTreeMap<Arc<str>, Tally> = BTreeMap::new();
    let mut last = None;
    each_applied(store, |work, applied| {
        let tally = tallies.entry(Arc::clone(&work.trigger)).or_default();
        if last.as_ref() != Some(&work.id) {
            tally.works += 1;
            last = Some(work.id.clone());
        }
        match applied.state {
            AppliedState::Applied => tally.applied += 1,
            AppliedState::Stalled { .. } => tally.stalled += 1,
            _ => tally.under_way += 1,
        }
    })
    .await?;
    Ok(tallies)
}

pub(super) async fn each_applied(
    store: &dyn WorkStore,
    mut each: impl FnMut(&Work, &AppliedWork),
) -> Result<(), StoreError> {
    let mut after = None;
    loop {
        let page = store.works(None, after.as_ref(), PAGE).await?;
        for stored in &page {
            for applied in store.applied(&stored.value.id).await? {
                each(&stored.value, &applied.value);
            }
        }
        match page.last() {
            Some(last) if page.len() == PAGE => after = Some(last.value.id.clone()),
            _ => return Ok(()),
        }
    }
}

fn describe(state: &AppliedState) -> (&'static str, String) {
    match state {
        AppliedState::Pending => ("Pending", String::new()),
        AppliedState::Applied => ("Applied", String::new()),
        AppliedState::Waiting { reason } => ("Waiting", reason.clone()),
        AppliedState::Stalled { reason, message } => ("Stalled", format!("{reason}: {message}")),
        AppliedState::Retrying { reason } => ("Retrying", reason.clone()),
        AppliedState::Left { reason } => ("Left", reason.clone()),
        _ => ("Unknown", String::new()),
    }
}
