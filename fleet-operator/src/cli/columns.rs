//! What stands in which column of each table.

use fleet_core::apply::Change;
use fleet_core::health::Health;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Failure;
use super::table::{read, time};
use crate::control::Question;
use crate::show::{
    AddonRow, ClusterRow, DeadLetterKind, DeadLetterRow, DryRunRow, EventRow, HandledRow, SourceRow,
    StrayRow, TriggerRow, UsageRow,
};

/// A table without its frame.
#[derive(Default)]
pub(super) struct Columns {
    /// Empty if there is no table.
    pub(super) header: Vec<&'static str>,
    pub(super) lines: Vec<Vec<String>>,
}

/// The columns of an answer; with `wide`, all of them.
pub(super) fn columns(question: &Question, rows: &[Value], wide: bool) -> Result<Columns, Failure> {
    match question {
        Question::Addons => {
            let header = ["RESOURCE TYPE", "NAMESPACE", "NAME", "VERSION", "TIME", "PROFILES", "STATE"];
            let header = [clusters(rows), &header].concat();
            table(rows, &header, wide.then_some(&["REPAIRED", "WORK", "MESSAGE"]), |row| {
                addon(row, clusters(rows))
            })
        }
        Question::Clusters => table(
            rows,
            &["NAMESPACE", "NAME", "READY", "VERSION", "LABELS"],
            wide.then_some(&["CONNECTION", "MESSAGE"]),
            cluster,
        ),
        Question::Sources => {
            let line =
                |row: SourceRow| vec![row.name, row.transport, flag(row.ready), row.reason, row.message];
            table(rows, &["NAME", "TRANSPORT", "READY", "REASON", "MESSAGE"], None, line)
        }
        Question::Triggers => table(
            rows,
            &["NAME", "SOURCE", "READY", "WORKS", "APPLIED", "HEALTHY", "STALLED", "UNDER WAY", "REASON"],
            wide.then_some(&["PREVIEWED", "LEFT", "MESSAGE"]),
            trigger,
        ),
        Question::Events => table(
            rows,
            &["TIME", "SOURCE", "TYPE", "SUBJECT", "ORIGIN", "TRIGGERS", "OUTCOME", "LATENCY"],
            wide.then_some(&["ID", "EVENT SOURCE", "REASON"]),
            event,
        ),
        Question::DryRun => {
            let line = |row: DryRunRow| {
                let mut line = places(row.cluster, row.for_cluster, clusters(rows));
                line.extend([row.resource_type, row.namespace, row.name, row.action, row.message, row.rule]);
                line
            };
            let header = ["RESOURCE TYPE", "NAMESPACE", "NAME", "ACTION", "MESSAGE", "RULE"];
            table(rows, &[clusters(rows), &header].concat(), None, line)
        }
        Question::Usage => table(
            rows,
            &["RESOURCE KIND", "NAMESPACE", "NAME", "CLUSTERS"],
            wide.then_some(&["USED BY", "IN"]),
            usage,
        ),
        Question::Strays => {
            let line = |row: StrayRow| {
                vec![row.cluster, row.resource_type, row.namespace, row.name, row.mark, row.message]
            };
            table(rows, &["CLUSTER", "RESOURCE TYPE", "NAMESPACE", "NAME", "MARK", "MESSAGE"], None, line)
        }
        Question::DeadLetters => table(
            rows,
            &["ID", "TIME", "SOURCE", "TRIGGER", "CLUSTER", "REASON", "DETAIL"],
            wide.then_some(&["KIND", "BYTES"]),
            dead_letter,
        ),
        Question::Resend { .. } | Question::DropDeadLetter { .. } => {
            let line = |row: HandledRow| vec![row.id, row.result, row.detail];
            table(rows, &["ID", "RESULT", "DETAIL"], None, line)
        }
        Question::ConfirmWithdrawals
        | Question::DeadLetter { .. }
        | Question::Explain { .. }
        | Question::Applied { .. } => Ok(Columns::default()),
    }
}

/// A line for each row, which begins with the cells for `header`; those for `more` follow, and are left out without it.
fn table<T: DeserializeOwned>(
    rows: &[Value],
    header: &[&'static str],
    more: Option<&[&'static str]>,
    line: impl Fn(T) -> Vec<String>,
) -> Result<Columns, Failure> {
    let header: Vec<_> = header.iter().chain(more.into_iter().flatten()).copied().collect();
    let lines = read::<T>(rows)?.into_iter().map(|row| {
        let mut line = line(row);
        line.truncate(header.len());
        line
    });
    Ok(Columns { lines: lines.collect(), header })
}

/// The columns that say where something is, and for which cluster, where anything is in the management cluster for another
/// one.
fn clusters(rows: &[Value]) -> &'static [&'static str] {
    match rows.iter().any(|row| row.get("forCluster").is_some()) {
        true => &["CLUSTER", "FOR"],
        false => &["CLUSTER"],
    }
}

fn places(cluster: String, for_cluster: Option<String>, header: &[&str]) -> Vec<String> {
    let mut places = vec![cluster, for_cluster.unwrap_or_default()];
    places.truncate(header.len());
    places
}

fn addon(row: AddonRow, header: &[&str]) -> Vec<String> {
    let state = standing(&row);
    let mut line = places(row.cluster, row.for_cluster, header);
    line.extend([
        row.resource_type,
        row.namespace,
        row.name,
        row.version.unwrap_or_else(|| "N/A".to_owned()),
        row.time.map(time).unwrap_or_default(),
        row.profiles.join(", "),
        state,
        row.repaired.map(time).unwrap_or_default(),
        row.work,
        row.message,
    ]);
    line
}

/// How an object stands, in few words.
fn standing(row: &AddonRow) -> String {
    let text = match (&row.blocked_by, &row.would, &row.health, row.state.as_str()) {
        (Some(owner), ..) => format!("Blocked by {owner}"),
        (None, Some(Change::Nothing), ..) => "unchanged".to_owned(),
        (None, Some(change), ..) => format!("would {}", change.verb()),
        (None, None, _, "Previewed") if !row.name.is_empty() => "would fail".to_owned(),
        (None, None, Some(Health::Progressing { message }), "Applied") => format!("Progressing: {message}"),
        (None, None, Some(Health::Failed { message }), "Applied") => format!("Failed: {message}"),
        (None, None, Some(Health::Ready), "Applied") => "Ready".to_owned(),
        (.., state) => state.to_owned(),
    };
    if row.adopted { format!("{text} (adopted)") } else { text }
}

fn cluster(row: ClusterRow) -> Vec<String> {
    let labels: Vec<_> = row.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let version = row.version.unwrap_or_else(|| "N/A".to_owned());
    vec![row.namespace, row.name, flag(row.ready), version, labels.join(","), row.connection, row.message]
}

fn trigger(row: TriggerRow) -> Vec<String> {
    let tally = row.tally;
    let counts = [tally.works, tally.applied, tally.healthy, tally.stalled, tally.under_way];
    let mut line = vec![row.name, row.source, flag(row.ready)];
    line.extend(counts.map(|count| count.to_string()));
    line.extend([row.reason, tally.previewed.to_string(), tally.left.to_string(), row.message]);
    line
}

fn event(row: EventRow) -> Vec<String> {
    // Where there is more than one, what each made of it.
    let outcome = match (&row.triggers[..], row.reason.is_empty()) {
        ([_, _, ..], _) => {
            let each = row.triggers.iter().map(|trigger| format!("{}: {}", trigger.name, trigger.outcome));
            each.collect::<Vec<_>>().join(", ")
        }
        (_, false) if row.outcome == "DeadLetter" => format!("{}: {}", row.outcome, row.reason),
        _ => row.outcome,
    };
    let triggers: Vec<_> = row.triggers.iter().map(|trigger| &*trigger.name).collect();
    let (id, ty, source, subject) = match row.event {
        Some(event) => (event.id, event.ty, event.source, event.subject.unwrap_or_default()),
        None => Default::default(),
    };
    vec![
        time(row.time),
        row.event_source,
        ty,
        subject,
        row.origin.unwrap_or_default(),
        triggers.join(", "),
        outcome,
        row.latency_millis.map(span).unwrap_or_default(),
        id,
        source,
        row.reason,
    ]
}

/// A time in milliseconds as people read it.
fn span(millis: f64) -> String {
    match millis {
        ..10.0 => format!("{millis:.1} ms"),
        ..1_000.0 => format!("{millis:.0} ms"),
        ..60_000.0 => format!("{:.1} s", millis / 1_000.0),
        _ => format!("{:.1} min", millis / 60_000.0),
    }
}

fn usage(row: UsageRow) -> Vec<String> {
    let count = row.clusters.len().to_string();
    vec![row.kind, row.namespace, row.name, count, row.rules.join(", "), row.clusters.join(", ")]
}

fn dead_letter(row: DeadLetterRow) -> Vec<String> {
    let kind = match row.kind {
        DeadLetterKind::Event => "Event",
        DeadLetterKind::Work => "Work",
    };
    let (kind, bytes) = (kind.to_owned(), row.bytes.to_string());
    vec![row.id, time(row.time), row.source, row.trigger, row.cluster, row.reason, row.detail, kind, bytes]
}

fn flag(ready: Option<bool>) -> String {
    match ready {
        Some(true) => "true",
        Some(false) => "false",
        None => "unknown",
    }
    .to_owned()
}
