//! The command line.

mod access;
mod ask;
mod called;
mod columns;
mod completion;
mod convert;
mod explain;
mod manifests;
mod progress;
mod register;
mod render;
mod run;
mod send;
mod show;
mod table;
mod terminal;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, FromArgMatches as _, Parser, Subcommand, ValueEnum};
use fleet_kube::definitions::Family;

use self::terminal::print;
use crate::run::StoreKind;

/// Event-driven automation for fleets of Kubernetes clusters.
///
/// An event puts the right resources into the right clusters, keeps them there, and takes them away again. Begin with
/// `fleet-operator run examples/quickstart`.
#[derive(Debug, Parser)]
#[command(name = "fleet-operator", version, max_term_width = 110)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

impl Cli {
    /// Reads a command line, whose first word says how the program is called: as itself, or as `kubectl fleet` where the
    /// file is called `kubectl-fleet`. Ends the process where it asks for help, or for something that there is not.
    pub fn read(line: impl IntoIterator<Item = OsString>) -> Self {
        let line: Vec<_> = line.into_iter().collect();
        let mut command = called::command(line.first().map(Path::new));
        let read = command.try_get_matches_from_mut(line).and_then(|found| Self::from_arg_matches(&found));
        read.unwrap_or_else(|error| error.format(&mut command).exit())
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the operator, on a folder of manifests or on a management cluster.
    ///
    /// SIGTERM or SIGINT stops it in an orderly way. A second signal, of either kind, stops it at once; nothing is lost
    /// by that, but what was under way is done again after the next start, and a Lease runs out before another operator
    /// leads.
    ///
    /// Exit codes: 0 after an orderly stop, also when the drain timeout passed; 1 when it cannot start, or does not lead
    /// any more (start it again); 2 for a wrong command line; 143 or 130 after a second signal, as if that signal (SIGTERM,
    /// SIGINT) had ended it.
    Run(run::RunArgs),
    /// Run an agent: an operator in a managed cluster, for that cluster alone, where nobody reaches it from outside.
    ///
    /// Its definitions are those of the management cluster, the hub, as far as they concern the cluster. Events are read
    /// in the cluster, and what they ask for is done there, whether the hub can be reached or not; the hub is shown what was
    /// done. `fleet-operator register cluster --agent` prints all that is to be installed for it. Its own cluster is the one
    /// that it runs in, or that KUBECONFIG names.
    ///
    /// Signals and exit codes are those of `run`.
    Agent(run::AgentArgs),
    /// Send a CloudEvent from a file, over HTTP or NATS.
    Send(send::SendArgs),
    /// Show what is in the clusters, what came, the clusters, the definitions, and how all that is doing.
    Show(show::ShowArgs),
    /// Tell why an object is in a cluster, or is not: which event of which source made it, when, by which trigger and
    /// template.
    ///
    /// It is told from what the operator has stored, whether one runs or not, and from what the definitions say.
    Explain(explain::ExplainArgs),
    /// Print what an event would put where, or with --diff what it would change. No operator is needed, nothing is written.
    ///
    /// Without an event it is what ClusterProfiles put into each cluster. Charts are named, with their values, in comments.
    /// Values of Secrets are masked.
    ///
    /// Exit codes: 0, with --diff only if there is no difference; 1 if there are differences; 2 if something cannot be
    /// told, or would fail: the event would become a dead letter, a Work would be stalled, an object is in conflict.
    Render(render::RenderArgs),
    /// Deliveries that never became Work, and Works that are stalled: list them, send them again, drop them.
    DeadLetters(DeadLettersArgs),
    /// Withdrawals that wait for a confirmation, because they are too many at once (see `run --max-withdraw`).
    Withdrawals(WithdrawalsArgs),
    /// Rewrite manifests of another system as manifests of ours.
    Convert(convert::ConvertArgs),
    /// Print what runs an operator in a management cluster, to be applied there:
    /// `fleet-operator manifests --image IMAGE | kubectl apply --server-side -f -`.
    ///
    /// CustomResourceDefinitions, Namespace, ServiceAccount with what it has to be allowed and nothing else, Deployment and
    /// Service. What a Cluster with `inCluster` gets, and what is local (`deploymentType: Local`), is applied by that account,
    /// too: grant it that yourself.
    Manifests(manifests::ManifestsArgs),
    /// Print the CustomResourceDefinitions alone: `fleet-operator crds | kubectl apply --server-side -f -`.
    Crds,
    /// Register a cluster with the management cluster.
    Register(Box<register::RegisterArgs>),
    /// Take a cluster out of the management cluster.
    Deregister(register::DeregisterArgs),
    /// Print what a shell needs to complete command lines: in bash, source what `fleet-operator completion bash` prints.
    Completion(completion::CompletionArgs),
}

#[derive(Debug, Args)]
struct AskArgs {
    #[command(flatten)]
    kept: KeptArgs,
    /// How to print it.
    #[arg(short, long, default_value = "table", value_name = "FORMAT")]
    output: Output,
}

/// The data folder, the same for all commands.
#[derive(Clone, Debug, Args)]
pub(crate) struct DataArg {
    /// The folder that holds the database and the cluster folders.
    #[arg(long, value_name = "DIR", default_value = "./fleet-data", env = "FLEET_DATA")]
    pub(crate) data: PathBuf,
}

/// Where an operator keeps what it knows.
#[derive(Clone, Debug, Args)]
pub(crate) struct StoreArg {
    /// Where Works, what was applied for them, floors and dead letters are kept. `kubernetes` needs a management cluster
    /// with the definitions that `fleet-operator crds` prints.
    #[arg(long, value_name = "STORE", default_value = "file", env = "FLEET_STORE")]
    pub(crate) store: StoreKind,
}

/// Whose kinds definitions in a management cluster are.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct ApiArg {
    /// Whose kinds in the management cluster the definitions are. A folder may hold both.
    #[arg(long, value_name = "API", default_value = "fleet", env = "FLEET_API")]
    pub(crate) api: ApiFamily,
}

/// Whose kinds definitions are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ApiFamily {
    /// EventSource, EventTrigger, ClusterProfile and Cluster of `fleet-events.dev`.
    Fleet,
    /// EventSource, EventTrigger, ClusterProfile and SveltosCluster of `projectsveltos.io`, as they are. Sveltos' own
    /// controllers must not run.
    Sveltos,
}

impl From<ApiFamily> for Family {
    fn from(api: ApiFamily) -> Self {
        match api {
            ApiFamily::Fleet => Self::Fleet,
            ApiFamily::Sveltos => Self::Sveltos,
        }
    }
}

/// The operator's own namespace, unless something else is said.
const OWN_NAMESPACE: &str = "fleet-events";

/// What an operator that runs, or ran, keeps: for commands that look at it.
#[derive(Clone, Debug, Args)]
pub(crate) struct KeptArgs {
    #[command(flatten)]
    pub(crate) data: DataArg,
    #[command(flatten)]
    pub(crate) store: StoreArg,
    #[command(flatten)]
    pub(crate) api: ApiArg,
    /// The operator's own namespace in the management cluster (its `--namespace`).
    #[arg(long = "operator-namespace", value_name = "NAMESPACE", default_value = OWN_NAMESPACE, env = "POD_NAMESPACE")]
    pub(crate) operator_namespace: String,
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
enum Output {
    /// A table.
    Table,
    /// A table with all columns.
    Wide,
    /// A list of objects in JSON.
    Json,
    /// A list of objects in YAML.
    Yaml,
    /// One name a line, as other commands take it.
    Name,
}

#[derive(Debug, Args)]
struct DeadLettersArgs {
    #[command(subcommand)]
    command: DeadLettersCommand,
}

#[derive(Debug, Subcommand)]
enum DeadLettersCommand {
    /// List the newest, oldest first: deliveries, then Works that are stalled.
    List(AskArgs),
    /// Show all of one, also what its event holds.
    Show {
        /// Its ID in the list.
        id: String,
        #[command(flatten)]
        ask: AskArgs,
    },
    /// Send deliveries again, and try stalled Works again now.
    ///
    /// A delivery goes only to the EventSource and the trigger that refused it, and takes the place that it had: where
    /// something newer of its key was processed meanwhile, that stays.
    Resend {
        #[command(flatten)]
        which: Which,
        /// Make it the newest of its key, whatever came since.
        #[arg(long)]
        as_new: bool,
        #[command(flatten)]
        ask: AskArgs,
    },
    /// Drop deliveries for good; give stalled Works up, as if a Delete event had come.
    Drop {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        ask: AskArgs,
    },
}

/// Which dead letters and stalled Works.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
struct Which {
    /// Their IDs in the list.
    ids: Vec<String>,
    /// All that are listed.
    #[arg(long, conflicts_with = "ids")]
    all: bool,
    /// Those of this EventSource.
    #[arg(long, value_name = "NAME", conflicts_with = "ids")]
    source: Option<String>,
    /// Those of this trigger.
    #[arg(long, value_name = "NAME", conflicts_with = "ids")]
    trigger: Option<String>,
    /// Those with this reason, as `KeyEmpty`.
    #[arg(long, value_name = "REASON", conflicts_with = "ids")]
    reason: Option<String>,
}

#[derive(Debug, Args)]
struct WithdrawalsArgs {
    #[command(subcommand)]
    command: WithdrawalsCommand,
}

#[derive(Debug, Subcommand)]
enum WithdrawalsCommand {
    /// Let the withdrawals that wait go ahead.
    Confirm(DataArg),
}

/// Why a command failed: one message for a person.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Failure(String);

impl Failure {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }

    /// An error and what caused it, in one line.
    pub(crate) fn because(error: &dyn std::error::Error) -> Self {
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            message.push_str(": ");
            message.push_str(&error.to_string());
            cause = error.source();
        }
        Self(message)
    }
}

/// Does what the command line says. Errors go to stderr; the exit code is 0, 1 (it failed) or 2 (it was asked wrongly);
/// `render` has its own. `run` that is told to stop twice ends the process itself, as its help says.
pub async fn main(cli: Cli) -> ExitCode {
    let done = match cli.command {
        Command::Run(args) => run::run(args).await,
        Command::Agent(args) => run::agent(args).await,
        Command::Send(args) => send::send(args).await,
        Command::Show(args) => show::show(args).await,
        Command::Explain(args) => explain::explain(args).await,
        Command::Render(args) => return render::render(args).await,
        Command::DeadLetters(args) => ask::dead_letters(args).await,
        Command::Withdrawals(WithdrawalsArgs { command: WithdrawalsCommand::Confirm(data) }) => {
            ask::confirm_withdrawals(&data.data).await
        }
        Command::Convert(args) => convert::convert(args).await,
        Command::Manifests(args) => manifests::manifests(args),
        Command::Crds => register::crds(),
        Command::Register(args) => register::register(*args).await,
        Command::Deregister(args) => register::deregister(args).await,
        Command::Completion(args) => completion::completion(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure(message)) => {
            terminal::error(&message);
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        super::Cli::command().debug_assert();
    }
}
