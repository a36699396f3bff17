//! `explain`: why an object is in a cluster, or is not.

use std::fmt::Write as _;

use clap::{Args, ValueEnum};
use fleet_core::cluster::ClusterId;
use fleet_core::health::Health;
use jiff::Timestamp;

use super::{Failure, KeptArgs, ask, print, table};
use crate::control::Question;
use crate::show::{ExplainedWork, Explanation, Sought};

#[derive(Debug, Args)]
pub(super) struct ExplainArgs {
    /// The object: KIND/NAME, KIND/NAMESPACE/NAME or KIND.GROUP/…, such as namespace/mgianluc or
    /// deployment.apps/web/front.
    object: Sought,
    /// The cluster where it is, or should be.
    #[arg(long, value_name = "NAMESPACE/NAME")]
    cluster: ClusterId,
    /// How to print it.
    #[arg(short, long, default_value = "text", value_name = "FORMAT")]
    output: Output,
    #[command(flatten)]
    kept: KeptArgs,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Output {
    /// For people.
    Text,
    /// An object in JSON.
    Json,
}

pub(super) async fn explain(args: ExplainArgs) -> Result<(), Failure> {
    let ExplainArgs { object, cluster, output, kept } = args;
    let answer = ask::answer(Question::Explain { object, cluster }, &kept).await?;
    let explanations: Vec<Explanation> = table::read(&answer.rows)?;
    for explanation in &explanations {
        match output {
            Output::Json => {
                let json = serde_json::to_string_pretty(explanation);
                print(&json.map_err(|error| Failure::new(error.to_string()))?);
            }
            Output::Text => print(text(explanation).trim_end()),
        }
    }
    ask::notes(&answer);
    Ok(())
}

fn text(explanation: &Explanation) -> String {
    let Explanation { object, cluster, there, works, reasons } = explanation;
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = match there {
        true => writeln!(text, "{object} is in {cluster}."),
        false => writeln!(text, "{object} is not in {cluster}, as far as Fleet has to do with it."),
    };
    for reason in reasons {
        let _ = writeln!(text, "- {}", clean(reason));
    }
    for work in works {
        let _ = writeln!(text, "\n{}", work.object);
        for (name, value) in facts(work) {
            let _ = writeln!(text, "  {:<11}{}", format!("{name}:"), clean(&value));
        }
    }
    text
}

fn facts(work: &ExplainedWork) -> Vec<(&'static str, String)> {
    let event = &work.event;
    let subject = event.subject.as_ref().map(|it| format!(", subject {it}")).unwrap_or_default();
    let mut facts = vec![
        ("Event", format!("{}, type {}, source {}{subject}", event.id, event.ty, event.source)),
        ("From", format!("EventSource {}, position {}", work.source, work.positions.join(" "))),
        ("Asks for", format!("{:?}", work.intent)),
    ];
    if let Some(origin) = &work.origin {
        facts.push(("Origin", origin.clone()));
    }
    facts.push(("Trigger", work.trigger.clone()));
    if let Some(cluster) = &work.for_cluster {
        facts.push(("For", format!("cluster {cluster} (deploymentType: Local)")));
    }
    if let Some(template) = &work.template {
        facts.push(("Template", template.clone()));
    }
    facts.push(("Work", format!("{} (mark {})", work.work, work.mark)));
    if let Some(published) = work.published {
        facts.push(("Published", time(published)));
    }
    facts.push(("Received", time(work.received)));
    if let Some(uid) = &work.uid {
        let adopted = if work.adopted { "; it was there before, and was adopted" } else { "" };
        let applied = work.applied.map(time).unwrap_or_else(|| "at a time that is not known".to_owned());
        facts.push(("Applied", format!("{applied}{adopted}")));
        facts.push(("Repaired", work.repaired.map(time).unwrap_or_else(|| "never".to_owned())));
        facts.push(("UID", uid.clone()));
    }
    if !work.state.is_empty() {
        let because = if work.message.is_empty() { String::new() } else { format!(": {}", work.message) };
        facts.push(("State", format!("{}{because}", work.state)));
    }
    match &work.health {
        None => {}
        Some(Health::Ready) => facts.push(("Health", "Ready".to_owned())),
        Some(Health::Progressing { message }) => facts.push(("Health", format!("Progressing: {message}"))),
        Some(Health::Failed { message }) => facts.push(("Health", format!("Failed: {message}"))),
    }
    facts
}

fn time(time: Timestamp) -> String {
    table::time(time)
}

/// What events hold must not reach the terminal as anything but text.
fn clean(text: &str) -> String {
    text.replace(|char: char| char.is_control(), " ")
}
