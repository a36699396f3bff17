//! `run` and `agent`: start an operator and wait for the signal to stop.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use fleet_core::cluster::ClusterId;
use fleet_core::resolve::Resolve;
use fleet_kube::agent::Renewal;
use fleet_kube::api::parse_duration;
use fleet_kube::definitions::Family;
use fleet_kube::helm::Mirror;
use fleet_kube::leader::Timing;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing_subscriber::EnvFilter;

use super::access::AccessArgs;
use super::{ApiArg, DataArg, Failure, OWN_NAMESPACE, StoreArg, called, print, terminal};
use crate::run::{AgentOptions, LeaderElection, Operator, Options, RunsOn, StoreKind};

#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// A folder of manifests, in YAML or JSON: Cluster, EventSource, EventTrigger, ClusterProfile, ConfigMap and Secret,
    /// also Sveltos' own. It is watched; nothing is written into it. Without it, definitions come from the management cluster that KUBECONFIG names, or
    /// that the operator runs in.
    folder: Option<PathBuf>,
    #[command(flatten)]
    data: DataArg,
    #[command(flatten)]
    store: StoreArg,
    #[command(flatten)]
    api: ApiArg,
    /// The operator's own namespace in the management cluster, for Works (`--store kubernetes`) and the Lease
    /// (`--leader-elect`).
    #[arg(long, value_name = "NAMESPACE", default_value = OWN_NAMESPACE, env = "POD_NAMESPACE")]
    namespace: String,
    #[command(flatten)]
    process: ProcessArgs,
    /// Run only while holding a Lease, so that of several operators on one management cluster one runs and the others
    /// wait: they are alive (/healthz) and not ready (/readyz says who leads). Needs `--store kubernetes`.
    #[arg(long)]
    leader_elect: bool,
    /// The Lease's name, the same for all that may lead.
    #[arg(long, value_name = "NAME", default_value = "fleet-operator", requires = "leader_elect")]
    lease_name: String,
    /// So long after its last sign of life a leader counts as dead. One that cannot renew its Lease stops after two
    /// thirds of that.
    #[arg(long, value_name = "SECONDS", default_value = "15s", value_parser = lease, requires = "leader_elect")]
    lease_duration: Timing,
    /// A Cluster that is deleted stays until what was put there is withdrawn, and so do its Secret's credentials in the
    /// operator's memory; but no longer than this after its deletion. Then an Event and the log say what is left behind.
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = parse_duration)]
    withdraw_timeout: Duration,
    /// An agent (`register cluster --agent`) that has not been heard of for so long counts as silent: its Cluster is not
    /// ready, and what is known of its Works is shown as unknown. Nothing is withdrawn because of that.
    #[arg(long, value_name = "DURATION", default_value = "40s", value_parser = parse_duration)]
    agent_silent_after: Duration,
}

/// What every process that runs an engine is started with.
#[derive(Debug, Args)]
pub(super) struct ProcessArgs {
    /// Where events are taken over HTTP; beside it are /healthz, /readyz and /metrics.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    #[command(flatten)]
    access: AccessArgs,
    /// How long SIGTERM or SIGINT lets what is under way take to end. What is not done then is given back, or done after
    /// the next start. Give the process 5 s more (terminationGracePeriodSeconds, TimeoutStopSec).
    #[arg(long, value_name = "SECONDS", default_value = "20s", value_parser = seconds)]
    drain_timeout: Duration,
    /// A change of definitions that would withdraw more than this share of all Works at once (and more than 10) waits
    /// for `fleet-operator withdrawals confirm`.
    #[arg(long, value_name = "PERCENT", default_value = "20%", value_parser = percent)]
    max_withdraw: usize,
    /// A namespace that is never deleted in any cluster, whoever made it; may be given many times. Always protected are
    /// kube-system, kube-public, kube-node-lease, default, and the operator's own (`--namespace`).
    #[arg(long, value_name = "NAMESPACE")]
    protect_namespace: Vec<String>,
    /// The helm program that installs charts, version 4 or 3: its path, or a name that is looked for in PATH. Charts are
    /// kept in the data folder.
    #[arg(long, value_name = "PATH", default_value = "helm")]
    helm: PathBuf,
    /// Pull the charts of a repository from elsewhere: `https://charts.example.com=https://mirror.local/charts`. May be
    /// given many times.
    #[arg(long, value_name = "URL=URL")]
    chart_mirror: Vec<Mirror>,
    /// How log lines on stderr look. What is logged: RUST_LOG, by default `info,async_nats=off`.
    #[arg(long, default_value = "text")]
    log_format: LogFormat,
}

/// What an agent is started with.
#[derive(Debug, Args)]
pub(super) struct AgentArgs {
    /// The agent's cluster, as its Cluster is called at the hub.
    #[arg(long, value_name = "NAMESPACE/NAME")]
    cluster: ClusterId,
    /// The kubeconfig for the hub; it is read again when it changes, and a renewed token is kept in the data folder. Without
    /// it, it is in the Secret fleet-agent-hub of the agent's namespace, where a renewed token is kept too.
    #[arg(long, value_name = "FILE")]
    hub_kubeconfig: Option<PathBuf>,
    #[command(flatten)]
    data: DataArg,
    /// The agent's own namespace in its cluster, for its Works.
    #[arg(long, value_name = "NAMESPACE", default_value = "fleet-events", env = "POD_NAMESPACE")]
    namespace: String,
    /// Where to reach what a name stands for that does not resolve here; may be given many times. Certificates are still
    /// checked against the name.
    #[arg(long, value_name = "HOST:PORT=ADDRESS")]
    resolve: Vec<Resolve>,
    /// How often the hub is given a sign of life.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = parse_duration)]
    heartbeat: Duration,
    /// After which share of its life the token for the hub is renewed.
    #[arg(long, value_name = "PERCENT", default_value = "50%", value_parser = share)]
    renew_token_at: u8,
    #[command(flatten)]
    process: ProcessArgs,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

fn percent(text: &str) -> Result<usize, String> {
    match text.trim_end_matches('%').parse() {
        Ok(percent) if percent <= 100 => Ok(percent),
        _ => Err("expected a share from 0% to 100%".to_owned()),
    }
}

fn share(text: &str) -> Result<u8, String> {
    match text.trim_end_matches('%').parse() {
        Ok(percent @ 1..=95) => Ok(percent),
        _ => Err("expected a share from 1% to 95%".to_owned()),
    }
}

pub(super) fn seconds(text: &str) -> Result<Duration, String> {
    match text.trim_end_matches('s').parse() {
        Ok(seconds) if seconds <= 3600 => Ok(Duration::from_secs(seconds)),
        _ => Err("expected whole seconds, at most 3600".to_owned()),
    }
}

fn lease(text: &str) -> Result<Timing, String> {
    Timing::for_lease(seconds(text)?).map_err(|error| error.to_string())
}

pub(super) async fn run(args: RunArgs) -> Result<(), Failure> {
    let RunArgs {
        folder,
        data,
        store,
        api,
        namespace,
        process,
        leader_elect,
        lease_name,
        lease_duration,
        ..
    } = args;
    let options = Options {
        on: folder.map_or(RunsOn::Management, RunsOn::Folder),
        api: api.api.into(),
        store: store.store,
        leader_election: leader_elect.then_some(LeaderElection { lease: lease_name, timing: lease_duration }),
        withdraw_timeout: args.withdraw_timeout,
        agent_silent_after: args.agent_silent_after,
        ..process.options(data.data, namespace)
    };
    serve(options, process.log_format).await
}

pub(super) async fn agent(args: AgentArgs) -> Result<(), Failure> {
    let AgentArgs { cluster, hub_kubeconfig, data, namespace, resolve, heartbeat, renew_token_at, process } =
        args;
    let renewal = Renewal { after_percent: renew_token_at, ..Renewal::default() };
    let agent = AgentOptions { cluster, hub_kubeconfig, resolve, heartbeat, renewal };
    let options = Options { on: RunsOn::Agent(agent), ..process.options(data.data, namespace) };
    serve(options, process.log_format).await
}

impl ProcessArgs {
    fn options(&self, data: PathBuf, namespace: String) -> Options {
        Options {
            on: RunsOn::Management,
            api: Family::Fleet,
            listen: self.listen,
            access: self.access.options(),
            data,
            store: StoreKind::Kubernetes,
            namespace,
            leader_election: None,
            drain: self.drain_timeout,
            max_withdraw_percent: self.max_withdraw,
            protect_namespaces: self.protect_namespace.clone(),
            helm: self.helm.clone(),
            chart_mirrors: self.chart_mirror.clone(),
            withdraw_timeout: Duration::MAX,
            agent_silent_after: Duration::MAX,
        }
    }
}

/// Runs what the options say until a signal comes.
async fn serve(options: Options, log_format: LogFormat) -> Result<(), Failure> {
    log(log_format);
    // Before anything else, so that a signal during the start is not lost.
    let signals = (watch(SignalKind::terminate())?, watch(SignalKind::interrupt())?);
    let shutdown = CancellationToken::new();
    let stopper = AbortOnDropHandle::new(tokio::spawn(stop_on(signals, shutdown.clone())));
    let Some(operator) = shutdown.run_until_cancelled(Operator::start(&options)).await else {
        return Ok(());
    };
    let operator = operator.map_err(|error| Failure::because(&error))?;
    let address = operator.address().map_err(|error| Failure::because(&error))?;
    greet(&options, address);
    let ended = operator.run(shutdown).await;
    drop(stopper);
    ended.map_err(|error| Failure::because(&error))
}

fn watch(kind: SignalKind) -> Result<Signal, Failure> {
    signal(kind).map_err(|error| Failure::because(&error))
}

/// The first signal stops in an orderly way, the second at once: nothing is lost by that but time.
async fn stop_on((mut terminate, mut interrupt): (Signal, Signal), shutdown: CancellationToken) {
    // What a shell says of a process that the signal ended.
    let mut signalled = async || {
        tokio::select! {
            _ = terminate.recv() => 128 + SignalKind::terminate().as_raw_value(),
            _ = interrupt.recv() => 128 + SignalKind::interrupt().as_raw_value(),
        }
    };
    signalled().await;
    tracing::info!("stopping; a second signal stops at once");
    shutdown.cancel();
    let code = signalled().await;
    tracing::warn!("stopped at once; what was under way is done after the next start");
    std::process::exit(code);
}

fn log(format: LogFormat) {
    // What the NATS library has to say, the sources say with their names and what to do.
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,async_nats=off"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(terminal::colours_errors())
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Text => builder.with_target(false).init(),
        LogFormat::Json => builder.json().init(),
    }
}

/// A few lines on what to do next, in the words of this very start.
fn greet(options: &Options, address: SocketAddr) {
    let data = options.data.display();
    let (runs_on, event) = match &options.on {
        RunsOn::Folder(folder) => (folder.display().to_string(), folder.join("login.json")),
        RunsOn::Management => ("the management cluster's definitions".to_owned(), PathBuf::new()),
        RunsOn::Agent(agent) => {
            (format!("what the hub defines for cluster {}", agent.cluster), PathBuf::new())
        }
    };
    let event = if event.is_file() { event.display().to_string() } else { "EVENT.json".to_owned() };
    let scheme = if options.access.tls.is_some() { "https" } else { "http" };
    let usual = address.port() == 8080 && address.ip().is_loopback() && scheme == "http";
    let mut to = if usual { String::new() } else { format!(" --to {scheme}://{address}/events") };
    if let Some(tokens) = &options.access.tokens {
        to.push_str(&format!(" --token-file {}", tokens.display()));
    }
    let usual_data = options.data == Path::new("./fleet-data");
    let of = if usual_data { String::new() } else { format!(" --data {data}") };
    let runs = match &options.leader_election {
        Some(LeaderElection { lease, .. }) => {
            format!("Fleet waits until it holds Lease {}/{lease}, then runs", options.namespace)
        }
        None => "Fleet runs".to_owned(),
    };
    let program = called::name();
    print(&format!(
        "{runs} on {runs_on}; its data is in {data}.\n\
         Events are taken at {scheme}://{address}/events (metrics at /metrics). Try, in another terminal:\n  \
         {program} send {event}{to}\n  \
         {program} show addons{of}"
    ));
}
