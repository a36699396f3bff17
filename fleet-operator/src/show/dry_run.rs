//! What Works would do whose triggers say DryRun.

use fleet_core::apply::Change;
use fleet_core::manifest::ObjectRef;
use fleet_core::store::{StoreError, WorkStore};
use fleet_core::work::{AppliedState, AppliedWork, Foreseen, Work};

use super::addons::{describe, each_applied, for_cluster, resource_type, rule};
use super::rows::DryRunRow;

/// A row for each object that is there or would be, by cluster and object. `is_dry_run` tells of a trigger whether its
/// mode is DryRun.
///
/// # Errors
/// When the store cannot be read.
pub async fn dry_run(
    store: &dyn WorkStore,
    is_dry_run: impl Fn(&str) -> bool,
) -> Result<Vec<DryRunRow>, StoreError> {
    let mut rows = Vec::new();
    each_applied(store, |work, applied| {
        if matches!(applied.state, AppliedState::Previewed { .. }) || is_dry_run(&work.trigger) {
            rows.extend(of_one(work, applied));
        }
    })
    .await?;
    let key = |row: &DryRunRow| {
        (row.cluster.clone(), row.resource_type.clone(), row.namespace.clone(), row.name.clone())
    };
    rows.sort_by_cached_key(key);
    Ok(rows)
}

fn of_one(work: &Work, applied: &AppliedWork) -> Vec<DryRunRow> {
    let without_object = |action: &str, message: String| DryRunRow {
        cluster: applied.cluster.to_string(),
        for_cluster: for_cluster(applied),
        resource_type: String::new(),
        namespace: String::new(),
        name: String::new(),
        action: action.to_owned(),
        message,
        rule: rule(&work.trigger),
        diff: None,
    };
    let of = |object: &ObjectRef, row: DryRunRow| DryRunRow {
        resource_type: resource_type(object),
        namespace: object.namespace.as_deref().unwrap_or_default().to_owned(),
        name: object.name.to_string(),
        ..row
    };
    let AppliedState::Previewed { changes } = &applied.state else {
        let (state, message) = describe(&applied.state);
        let row = match &applied.state {
            AppliedState::Stalled { .. } => without_object("Error", message),
            // It was not looked at yet in this mode.
            _ => without_object("Unknown", format!("{state} {message}").trim_end().to_owned()),
        };
        return vec![row];
    };
    let unchanged = applied.inventory.iter().filter(|item| {
        item.uid.is_some() && !changes.iter().any(|foreseen| foreseen.object.same_object(&item.object))
    });
    let unchanged = unchanged.map(|item| of(&item.object, without_object("No Action", String::new())));
    let changes = changes.iter().map(|foreseen| {
        let (action, message) = action(foreseen);
        let diff = match &foreseen.change {
            Some(Change::Update { diff }) => Some(diff.clone()),
            _ => None,
        };
        DryRunRow { diff, ..of(&foreseen.object, without_object(action, message)) }
    });
    unchanged.chain(changes).collect()
}

fn action(foreseen: &Foreseen) -> (&'static str, String) {
    let reason = || foreseen.reason.clone().unwrap_or_default();
    match &foreseen.change {
        None if foreseen.is_conflict() => ("Conflict", reason()),
        None => ("Error", reason()),
        Some(Change::Nothing) => ("No Action", reason()),
        Some(Change::Create) => ("Create", reason()),
        Some(Change::Update { .. }) => ("Update", reason()),
        Some(Change::Recreate { reason }) => ("Recreate", reason.clone()),
        Some(Change::Delete) => ("Delete", reason()),
        Some(Change::GiveBack) => ("Give Back", "whoever had it before has it again".to_owned()),
        Some(_) => ("Update", reason()),
    }
}
