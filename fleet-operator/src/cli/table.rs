//! Rows as tables, JSON and YAML.

use comfy_table::{ContentArrangement, Table, presets};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::columns::{Columns, columns};
use super::{Failure, Output};
use crate::control::{Answer, Question};

/// The rows of an answer as text.
pub(super) fn text(question: &Question, answer: &Answer, output: Output) -> Result<String, Failure> {
    match output {
        Output::Json => {
            serde_json::to_string_pretty(&answer.rows).map_err(|error| Failure::new(error.to_string()))
        }
        Output::Yaml => yaml(&answer.rows),
        Output::Name => Ok(names(question, &answer.rows)),
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
    let Columns { header, mut lines } = columns(question, rows, wide)?;
    if header.is_empty() {
        return Ok(String::new());
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

/// A name for each row, as other commands take it.
fn names(question: &Question, rows: &[Value]) -> String {
    let text =
        |row: &Value, field: &str| row.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    let place = |kind: String, row: &Value| {
        let namespace = Some(text(row, "namespace")).filter(|namespace| !namespace.is_empty());
        let name = Some(text(row, "name")).filter(|name| !name.is_empty())?;
        Some([Some(kind), namespace, Some(name)].into_iter().flatten().collect::<Vec<_>>().join("/"))
    };
    let name = |row: &Value| match question {
        // As `explain` takes it.
        Question::Addons | Question::DryRun | Question::Strays => {
            let resource = text(row, "resourceType");
            let (group, kind) = resource.split_once(':')?;
            let group = if group.is_empty() { String::new() } else { format!(".{group}") };
            place(format!("{}{group}", kind.to_lowercase()), row)
        }
        Question::Usage => place(text(row, "kind").to_lowercase(), row),
        Question::Clusters => Some(format!("{}/{}", text(row, "namespace"), text(row, "name"))),
        Question::Events => row.get("event").map(|event| text(event, "id")),
        Question::Sources | Question::Triggers => Some(text(row, "name")),
        _ => Some(text(row, "id")),
    };
    let names = rows.iter().filter_map(name);
    // What an event holds must not reach the terminal as anything but text.
    names.map(|name| name.replace(|char: char| char.is_control(), " ")).collect::<Vec<_>>().join("\n")
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
