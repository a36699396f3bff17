//! `show`: what is asked, which rows of the answer count, and looking again.

use std::path::Path;
use std::time::Duration;

use clap::{Args, Subcommand};
use fleet_core::cluster::ClusterId;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::terminal::{Colour, is_printed, note};
use super::{AskArgs, Failure, KeptArgs, ask, print, table};
use crate::control::{Answer, CallError, Question, call};
use crate::render::Unified;
use crate::show::DryRunRow;

#[derive(Debug, Args)]
#[command(subcommand_value_name = KINDS)]
pub(super) struct ShowArgs {
    #[command(subcommand)]
    what: What,
}

/// What usage says, so that whoever asks for something else sees what there is.
const KINDS: &str = "addons|clusters|sources|triggers|events|dryrun|usage|strays";

#[derive(Debug, Subcommand)]
enum What {
    /// What events and ClusterProfiles have put into clusters.
    Addons(InClusters),
    /// The managed clusters.
    Clusters(InClusters),
    /// The EventSources, and whether events can arrive.
    Sources(Whole),
    /// The EventTriggers and ClusterProfiles, and how their Works are doing.
    Triggers(Whole),
    /// The last events that came, what became of each, and how long that took. Nothing of what they hold.
    ///
    /// OUTCOME is the least that any trigger made of it: DeadLetter (see `fleet-operator dead-letters list`), Stalled,
    /// Waiting (for something, or for the next try), UnderWay, Stored, Previewed, Applied, Removed, Duplicate, Superseded (by
    /// something newer of its key, or seen before) or NothingThere (to remove); Unwanted if no trigger wants it, GivenBack
    /// if it could not be stored. LATENCY is the time from receiving it to the last cluster where it is done.
    ///
    /// A running operator keeps the last 1000 in memory. `--cluster` and `--namespace` are about where events come from.
    Events(InClusters),
    /// What the triggers in mode DryRun would do.
    #[command(name = "dryrun", visible_alias = "dry-run")]
    DryRun {
        /// Print what updates would change, as unified diffs.
        #[arg(long)]
        raw_diff: bool,
        /// Whether the diffs are coloured.
        #[arg(long, value_name = "WHEN", default_value = "auto", requires = "raw_diff")]
        color: Colour,
        #[command(flatten)]
        places: InClusters,
    },
    /// The ConfigMaps and Secrets that triggers render from, and in how many clusters there is something because of them.
    Usage(InClusters),
    /// Objects that carry the mark of a Work which does not know them: copies, and what was lost sight of.
    Strays(InClusters),
}

/// What is shown as a whole.
#[derive(Debug, Args)]
struct Whole {
    #[command(flatten)]
    ask: AskArgs,
    /// Print it again whenever it has changed, until the operator ends.
    #[arg(short, long)]
    watch: bool,
}

/// What is shown of all clusters, or of some.
#[derive(Debug, Args)]
struct InClusters {
    #[command(flatten)]
    places: Places,
    #[command(flatten)]
    whole: Whole,
}

/// Which clusters.
#[derive(Debug, Default, Args)]
struct Places {
    /// Clusters of all namespaces; as it is if nothing is said.
    #[arg(short = 'A', long, conflicts_with_all = ["namespace", "cluster"])]
    all_namespaces: bool,
    /// Only clusters of this namespace of the management cluster.
    #[arg(short, long, value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// Only this cluster.
    #[arg(long, value_name = "NAMESPACE/NAME", conflicts_with = "namespace")]
    cluster: Option<ClusterId>,
}

impl Places {
    fn keep(&self, question: &Question, answer: &mut Answer) {
        if self.namespace.is_some() || self.cluster.is_some() {
            answer.rows.retain(|row| clusters(question, row).iter().any(|cluster| self.has(cluster)));
        }
    }

    fn has(&self, cluster: &str) -> bool {
        let namespace = cluster.split_once('/').map(|(namespace, _)| namespace);
        self.namespace.as_deref().is_none_or(|wanted| namespace == Some(wanted))
            && self.cluster.as_ref().is_none_or(|wanted| cluster == wanted.to_string())
    }
}

/// The clusters that a row is about, as `namespace/name`.
fn clusters(question: &Question, row: &Value) -> Vec<String> {
    let text = |field: &str| row.get(field).and_then(Value::as_str).map(str::to_owned);
    match question {
        Question::Clusters => text("namespace")
            .zip(text("name"))
            .map(|(namespace, name)| format!("{namespace}/{name}"))
            .into_iter()
            .collect(),
        Question::Usage => {
            let all = row.get("clusters").and_then(Value::as_array).into_iter().flatten();
            all.filter_map(Value::as_str).map(str::to_owned).collect()
        }
        Question::Events => text("origin").into_iter().collect(),
        _ => text("cluster").into_iter().chain(text("forCluster")).collect(),
    }
}

/// How an answer is told.
enum Form {
    Rows,
    Diffs { colour: bool },
}

pub(super) async fn show(args: ShowArgs) -> Result<(), Failure> {
    let in_clusters = |question, args: InClusters| (question, args.places, args.whole, Form::Rows);
    let (question, places, Whole { ask, watch }, form) = match args.what {
        What::Addons(args) => in_clusters(Question::Addons, args),
        What::Clusters(args) => in_clusters(Question::Clusters, args),
        What::Sources(whole) => (Question::Sources, Places::default(), whole, Form::Rows),
        What::Triggers(whole) => (Question::Triggers, Places::default(), whole, Form::Rows),
        What::Events(args) => in_clusters(Question::Events, args),
        What::DryRun { raw_diff: true, color, places: InClusters { places, whole } } => {
            (Question::DryRun, places, whole, Form::Diffs { colour: color.is_wanted() })
        }
        What::DryRun { places: args, .. } => in_clusters(Question::DryRun, args),
        What::Usage(args) => in_clusters(Question::Usage, args),
        What::Strays(args) => in_clusters(Question::Strays, args),
    };
    let told = |mut answer: Answer| {
        places.keep(&question, &mut answer);
        let text = match form {
            Form::Rows => table::text(&question, &answer, ask.output)?,
            Form::Diffs { colour } => diffs(&table::read(&answer.rows)?, colour),
        };
        Ok::<_, Failure>((text, answer.notes))
    };
    if watch {
        let KeptArgs { data, .. } = &ask.kept;
        return again(&question, &data.data, told).await;
    }
    let (text, notes) = told(ask::answer(question.clone(), &ask.kept).await?)?;
    print(&text);
    notes.iter().for_each(|text| note(text));
    Ok(())
}

/// How often is looked at the least; an answer that takes long is asked for less often.
const PACE: Duration = Duration::from_millis(500);
const SHARE: u32 = 10;

/// Tells it again whenever it has changed, until the operator ends.
async fn again(
    question: &Question,
    data: &Path,
    told: impl Fn(Answer) -> Result<(String, Vec<String>), Failure>,
) -> Result<(), Failure> {
    let mut last: Option<(String, Vec<String>)> = None;
    let mut failures = 0;
    loop {
        let began = Instant::now();
        match (call(data, question).await, &last) {
            (Ok(answer), _) => {
                failures = 0;
                let (text, notes) = told(answer)?;
                let is_new = last.as_ref().is_none_or(|(before, _)| *before != text);
                if is_new && !is_printed(&text) {
                    return Ok(());
                }
                if last.as_ref().is_none_or(|(_, before)| *before != notes) {
                    notes.iter().for_each(|text| note(text));
                }
                last = Some((text, notes));
            }
            (Err(CallError::NobodyRuns), Some(_)) => {
                note("the operator has ended");
                return Ok(());
            }
            (Err(CallError::NobodyRuns), None) => {
                return Err(Failure::new(
                    "no operator runs on this data folder, so nothing changes; leave --watch out",
                ));
            }
            // As one does that is about to end.
            (Err(CallError::NoAnswer(_)), Some(_)) if failures == 0 => failures += 1,
            (Err(error), _) => return Err(Failure::new(error.to_string())),
        }
        sleep(PACE.max(began.elapsed() * SHARE)).await;
    }
}

fn diffs(rows: &[DryRunRow], colour: bool) -> String {
    let mut text = Unified::new(colour);
    for row in rows.iter().filter(|row| row.action != "No Action") {
        let namespace = if row.namespace.is_empty() { String::new() } else { format!("{}/", row.namespace) };
        let whose = row.for_cluster.as_ref().map(|cluster| format!(" for {cluster}")).unwrap_or_default();
        let object = format!("{}{whose} {} {namespace}{}", row.cluster, row.resource_type, row.name);
        let would = format!("{object} ({}, {})", row.action, row.rule);
        match (&*row.action, &row.diff) {
            (_, Some(diff)) => text.difference(&object, &would, diff),
            ("Create", _) => text.difference("/dev/null", &would, "@@ would be created"),
            ("Delete", _) => text.difference(&object, "/dev/null", "@@ would be deleted"),
            _ => text.difference(&object, &would, &format!("@@ {}", row.message)),
        }
    }
    text.into_text().trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn usage_names_what_can_be_shown() {
        let command = super::super::Cli::command();
        let show = command.find_subcommand("show").unwrap();
        let names: Vec<_> = show.get_subcommands().map(clap::Command::get_name).collect();
        assert_eq!(super::KINDS, names.join("|"));
    }
}
