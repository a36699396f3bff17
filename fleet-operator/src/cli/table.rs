//! Rows as tables, JSON and YAML.

use comfy_table::{ContentArrangement, Table, presets};
use fleet_core::apply::Change;
use fleet_core::health::Health;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Failure, Output};
use crate::control::{Answer, Question};
use crate::show::{
    AddonRow, ClusterRow, DeadLetterKind, DeadLetterRow, HandledRow, SourceRow, StrayRow, TriggerRow,
};

/// The rows of an answer as text.
pub(super) fn text(question: &Question, answer: &Answer, output: Output) -> Result<String, Failure> {
    match output {
        Output::Json => {
            serde_json::to_string_pretty(&answer.rows).map_err(|error| Failure::new(error.to_string()))
        }
        Output::Yaml => yaml(&answer.rows),
        // There is one, and its parts do not fit into lines.
        Output::Table | Output::Wide if matches!(question, Question::DeadLetter { .. }) => {
            yaml(answer.rows.first().unwrap_or(&Value::Null))
        }
        Output::Table | Output::Wide => table(question, &answer.rows, output == Output::Wide),
    }
}

fn yaml(value: &impl serde::Serialize) -> Result<String, Failure> {
    match serde_saphyr::to_string(value) {
        Ok(yaml) => Ok(yaml.trim_end().to_owned()),
        Err(error) => Err(Failure::new(error.to_string())),
    }
}

fn table(question: &Question, rows: &[Value], wide: bool) -> Result<String, Failure> {
    let (mut header, mut lines): (Vec<&str>, Vec<Vec<String>>) = match question {
        Question::Addons => {
            let rows: Vec<AddonRow> = read(rows)?;
            (
                vec!["CLUSTER", "RESOURCE TYPE", "NAMESPACE", "NAME", "VERSION", "TIME", "PROFILES", "STATE"],
                rows.iter().map(|row| addon(row, wide)).collect(),
            )
        }
        Question::Clusters => {
            let rows: Vec<ClusterRow> = read(rows)?;
            (
                vec!["NAMESPACE", "NAME", "READY", "VERSION", "LABELS"],
                rows.into_iter().map(|row| cluster(row, wide)).collect(),
            )
        }
        Question::Sources => {
            let rows: Vec<SourceRow> = read(rows)?;
            let line =
                |row: SourceRow| vec![row.name, row.transport, flag(row.ready), row.reason, row.message];
            (vec!["NAME", "TRANSPORT", "READY", "REASON", "MESSAGE"], rows.into_iter().map(line).collect())
        }
        Question::Triggers => {
            let rows: Vec<TriggerRow> = read(rows)?;
            (
                vec![
                    "NAME",
                    "SOURCE",
                    "READY",
                    "WORKS",
                    "APPLIED",
                    "HEALTHY",
                    "STALLED",
                    "UNDER WAY",
                    "REASON",
                ],
                rows.into_iter().map(|row| trigger(row, wide)).collect(),
            )
        }
        Question::Strays => {
            let rows: Vec<StrayRow> = read(rows)?;
            let line = |row: StrayRow| {
                vec![row.cluster, row.resource_type, row.namespace, row.name, row.mark, row.message]
            };
            (
                vec!["CLUSTER", "RESOURCE TYPE", "NAMESPACE", "NAME", "MARK", "MESSAGE"],
                rows.into_iter().map(line).collect(),
            )
        }
        Question::DeadLetters => {
            let rows: Vec<DeadLetterRow> = read(rows)?;
            (
                vec!["ID", "TIME", "SOURCE", "TRIGGER", "CLUSTER", "REASON", "DETAIL"],
                rows.into_iter().map(|row| dead_letter(row, wide)).collect(),
            )
        }
        Question::Resend { .. } | Question::DropDeadLetter { .. } => {
            let rows: Vec<HandledRow> = read(rows)?;
            let line = |row: HandledRow| vec![row.id, row.result, row.detail];
            (vec!["ID", "RESULT", "DETAIL"], rows.into_iter().map(line).collect())
        }
        Question::ConfirmWithdrawals
        | Question::DeadLetter { .. }
        | Question::Explain { .. }
        | Question::Applied { .. } => return Ok(String::new()),
    };
    if wide {
        header.extend(match question {
            Question::Addons => &["REPAIRED", "WORK", "MESSAGE"][..],
            Question::Clusters => &["CONNECTION", "MESSAGE"],
            Question::Triggers => &["PREVIEWED", "LEFT", "MESSAGE"],
            Question::DeadLetters => &["KIND", "BYTES"],
            _ => &[],
        });
    }
    let mut table = Table::new();
    table.load_style(presets::ASCII_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header);
    for line in &mut lines {
        for cell in line.iter_mut() {
            // A message must not break the table, nor reach the terminal as anything but text.
            *cell = cell.replace(|char: char| char.is_control(), " ");
        }
    }
    table.add_rows(lines);
    Ok(table.to_string())
}

fn addon(row: &AddonRow, wide: bool) -> Vec<String> {
    let mut line = vec![
        row.cluster.clone(),
        row.resource_type.clone(),
        row.namespace.clone(),
        row.name.clone(),
        row.version.clone().unwrap_or_else(|| "N/A".to_owned()),
        row.time.map(time).unwrap_or_default(),
        row.profiles.join(", "),
        standing(row),
    ];
    if wide {
        let repaired = row.repaired.map(time).unwrap_or_default();
        line.extend([repaired, row.work.clone(), row.message.clone()]);
    }
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

fn cluster(row: ClusterRow, wide: bool) -> Vec<String> {
    let labels: Vec<_> = row.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let version = row.version.unwrap_or_else(|| "N/A".to_owned());
    let mut line = vec![row.namespace, row.name, flag(row.ready), version, labels.join(",")];
    if wide {
        line.extend([row.connection, row.message]);
    }
    line
}

fn trigger(row: TriggerRow, wide: bool) -> Vec<String> {
    let tally = row.tally;
    let counts = [tally.works, tally.applied, tally.healthy, tally.stalled, tally.under_way];
    let mut line = vec![row.name, row.source, flag(row.ready)];
    line.extend(counts.map(|count| count.to_string()));
    line.push(row.reason);
    if wide {
        line.extend([tally.previewed.to_string(), tally.left.to_string(), row.message]);
    }
    line
}

fn dead_letter(row: DeadLetterRow, wide: bool) -> Vec<String> {
    let kind = match row.kind {
        DeadLetterKind::Event => "Event",
        DeadLetterKind::Work => "Work",
    };
    let mut line = vec![row.id, time(row.time), row.source, row.trigger, row.cluster, row.reason, row.detail];
    if wide {
        line.extend([kind.to_owned(), row.bytes.to_string()]);
    }
    line
}

fn flag(ready: Option<bool>) -> String {
    match ready {
        Some(true) => "true",
        Some(false) => "false",
        None => "unknown",
    }
    .to_owned()
}

/// In the reader's own time zone.
pub(super) fn time(time: Timestamp) -> String {
    time.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S %z %Z").to_string()
}

pub(super) fn read<T: DeserializeOwned>(rows: &[Value]) -> Result<Vec<T>, Failure> {
    let rows = rows.iter().map(|row| serde_json::from_value(row.clone()));
    rows.collect::<Result<_, _>>().map_err(|_| {
        Failure::new("the operator's answer is not understood; is this program as new as the operator?")
    })
}
