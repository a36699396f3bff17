//! Objects in clusters, from the records of what was applied.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use fleet_core::apply::{Change, Owner};
use fleet_core::catalog::Subject;
use fleet_core::cluster::ClusterId;
use fleet_core::health::Health;
use fleet_core::manifest::ObjectRef;
use fleet_core::store::{StoreError, WorkStore};
use fleet_core::work::{AppliedState, AppliedWork, Work, WorkId};
use fleet_kube::agent::MirroredWork;
use fleet_kube::helm::is_release;

use super::rows::{AddonRow, Tally};

/// How many Works are read at a time.
pub(super) const PAGE: usize = 256;

/// Everything that is in a cluster because of an event, what is on its way there, and what would be.
///
/// # Errors
/// When the store cannot be read.
pub async fn addons(store: &dyn WorkStore) -> Result<Vec<AddonRow>, StoreError> {
    let mut rows = Vec::new();
    let mut owners = Owners::default();
    each_applied(store, |work, applied| {
        owners.know(work, applied);
        rows.extend(of_one(&work.trigger, applied));
    })
    .await?;
    for row in &mut rows {
        if let Some(owner) = &mut row.blocked_by {
            owners.name(owner);
        }
    }
    rows.sort_by(|a, b| key(a).cmp(&key(b)));
    Ok(rows)
}

/// Adds what agents have done, as far as they told. Of one that is silent, nobody knows whether it is so still.
pub fn add_mirrored(
    rows: &mut Vec<AddonRow>,
    works: &[MirroredWork],
    is_silent: impl Fn(&ClusterId) -> bool,
) {
    for MirroredWork { trigger, applied } in works {
        let mut added = of_one(&trigger.as_str().into(), applied);
        if is_silent(&applied.cluster) {
            for row in &mut added {
                row.message = format!("its agent is silent; {} when it was last heard of", row.state);
                row.state = "Unknown".to_owned();
                row.health = None;
            }
        }
        rows.extend(added);
    }
    rows.sort_by(|a, b| key(a).cmp(&key(b)));
}

/// What one Work has, wants or would do in one cluster: a row for each object, or one if there is none.
fn of_one(trigger: &Arc<str>, applied: &AppliedWork) -> Vec<AddonRow> {
    let (state, message) = describe(&applied.state);
    let without_object = AddonRow {
        cluster: applied.cluster.to_string(),
        for_cluster: for_cluster(applied),
        resource_type: String::new(),
        namespace: String::new(),
        name: String::new(),
        // An object has none; a release has its chart's.
        version: None,
        time: None,
        profiles: vec![rule(trigger)],
        work: applied.of().to_string(),
        state: state.to_owned(),
        message,
        health: applied.health.clone(),
        repaired: None,
        adopted: false,
        blocked_by: None,
        would: None,
    };
    let row = |object: &ObjectRef| AddonRow {
        resource_type: resource_type(object),
        namespace: object.namespace.as_deref().unwrap_or_default().to_owned(),
        name: object.name.to_string(),
        ..without_object.clone()
    };
    let mut rows: Vec<(&ObjectRef, AddonRow)> = Vec::new();
    for item in &applied.inventory {
        let time = item.uid.as_ref().and(Some(item.applied_at.unwrap_or(applied.updated)));
        let is_previewed = matches!(applied.state, AppliedState::Previewed { .. });
        let there = AddonRow {
            time,
            would: is_previewed.then_some(Change::Nothing),
            version: item.chart.as_ref().map(|chart| chart.version.to_string()),
            repaired: item.repaired_at,
            adopted: item.adopted,
            ..row(&item.object)
        };
        rows.push((&item.object, there));
    }
    let mut of_object = |object, change: &dyn Fn(&mut AddonRow)| {
        let place = rows.iter().position(|(known, _)| known.same_object(object)).unwrap_or_else(|| {
            rows.push((object, row(object)));
            rows.len() - 1
        });
        if let Some((_, row)) = rows.get_mut(place) {
            change(row);
        }
    };
    for blocked in &applied.blocked {
        of_object(&blocked.object, &|row| {
            row.blocked_by = Some(match &blocked.owner {
                Owner::Work(mark) => format!("{MARKED}{mark}"),
                Owner::Other(who) => who.clone(),
            });
        });
    }
    if let AppliedState::Previewed { changes } = &applied.state {
        for foreseen in changes {
            of_object(&foreseen.object, &|row| {
                row.would.clone_from(&foreseen.change);
                row.message = match (&foreseen.change, &foreseen.reason) {
                    (Some(Change::Recreate { reason }), _) | (_, Some(reason)) => reason.clone(),
                    _ => String::new(),
                };
            });
        }
    }
    match rows.is_empty() {
        true if applied.state == AppliedState::Applied => Vec::new(),
        true => vec![without_object],
        false => rows.into_iter().map(|(_, row)| row).collect(),
    }
}

/// The cluster that something in the management cluster is for.
pub(super) fn for_cluster(applied: &AppliedWork) -> Option<String> {
    applied.local.as_ref().map(|local| local.cluster.to_string())
}

/// What wants something somewhere, as people name it.
pub(super) fn rule(trigger: &Arc<str>) -> String {
    Subject::of_trigger(trigger).to_string().replacen(' ', "/", 1)
}

pub(super) fn resource_type(object: &ObjectRef) -> String {
    if is_release(&object.gvk) {
        return "helm chart".to_owned();
    }
    format!("{}:{}", object.gvk.group, object.gvk.kind)
}

/// What stands before a mark until it is known whose it is.
const MARKED: &str = "Work with mark ";

/// Whose marks are whose.
#[derive(Default)]
struct Owners(HashMap<String, String>);

impl Owners {
    fn know(&mut self, work: &Work, applied: &AppliedWork) {
        let mark = applied.work.hash();
        if !self.0.contains_key(mark) {
            let local = for_cluster(applied).map(|cluster| format!(", for {cluster}"));
            let subject = Subject::of_trigger(&work.trigger);
            self.0.insert(
                mark.to_owned(),
                format!("Work {} of {subject}{}", work.id, local.unwrap_or_default()),
            );
        }
    }

    fn name(&self, owner: &mut String) {
        if let Some(work) = owner.strip_prefix(MARKED).and_then(|mark| self.0.get(mark)) {
            owner.clone_from(work);
        }
    }
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
    let mut works = HashSet::new();
    each_applied(store, |work, applied| {
        let tally = tallies.entry(Arc::clone(&work.trigger)).or_default();
        tally.works += usize::from(works.insert(work.id.clone()));
        match applied.state {
            AppliedState::Applied => {
                tally.applied += 1;
                tally.healthy += usize::from(applied.health == Some(Health::Ready));
            }
            AppliedState::Stalled { .. } => tally.stalled += 1,
            AppliedState::Previewed { .. } => tally.previewed += 1,
            AppliedState::Left { .. } => tally.left += 1,
            _ => tally.under_way += 1,
        }
    })
    .await?;
    Ok(tallies)
}

/// Everything that was done for a Work that is there, whatever cluster it is for.
pub(super) async fn each_applied(
    store: &dyn WorkStore,
    mut each: impl FnMut(&Work, &AppliedWork),
) -> Result<(), StoreError> {
    let mut after: Option<Arc<AppliedWork>> = None;
    let mut known: Option<Arc<Work>> = None;
    loop {
        let place = after.as_ref().map(|last| (&last.work, &last.cluster));
        let page = store.all_applied(place, PAGE).await?;
        for applied in &page {
            let applied = &applied.value;
            if known.as_ref().is_none_or(|work| work.id != *applied.of()) {
                known = store.work(applied.of()).await?.map(|stored| stored.value);
            }
            if let Some(work) = &known {
                each(work, applied);
            }
        }
        match page.last() {
            Some(last) if page.len() == PAGE => after = Some(Arc::clone(&last.value)),
            _ => return Ok(()),
        }
    }
}

/// What was done for one Work.
///
/// # Errors
/// When the store cannot be read.
pub async fn applied_of(store: &dyn WorkStore, work: &WorkId) -> Result<Vec<AppliedWork>, StoreError> {
    let mut all = Vec::new();
    each_applied(store, |of, applied| {
        if of.id == *work {
            all.push(applied.clone());
        }
    })
    .await?;
    Ok(all)
}

/// A state in one word, and why it is so.
pub(super) fn describe(state: &AppliedState) -> (&'static str, String) {
    match state {
        AppliedState::Pending => ("Pending", String::new()),
        AppliedState::Applied => ("Applied", String::new()),
        AppliedState::Waiting { reason } => ("Waiting", reason.clone()),
        AppliedState::Stalled { reason, message } => ("Stalled", format!("{reason}: {message}")),
        AppliedState::Retrying { reason } => ("Retrying", reason.clone()),
        AppliedState::Previewed { .. } => ("Previewed", "nothing is written in mode DryRun".to_owned()),
        AppliedState::Left { reason } => ("Left", reason.clone()),
        _ => ("Unknown", String::new()),
    }
}
