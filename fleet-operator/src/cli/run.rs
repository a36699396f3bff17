//! `run`: starts an operator and waits for the signal to stop.

use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use fleet_kube::api::parse_duration;
use fleet_kube::leader::Timing;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing_subscriber::EnvFilter;

use super::{Failure, KeptArgs, print};
use crate::run::{LeaderElection, Operator, Options};

#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// A folder of manifests: Cluster, EventSource, EventTrigger, ConfigMap and Secret, in YAML or JSON. It is watched;
    /// nothing is written into it. Without it, definitions come from the management cluster that KUBECONFIG names, or
    /// that the operator runs in.
    folder: Option<PathBuf>,
    /// Where events are taken over HTTP; beside it are /healthz, /readyz and /metrics.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    #[command(flatten)]
    kept: KeptArgs,
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
    /// A Cluster that is deleted stays until what was put there is withdrawn, and so do its Secret's credentials in the
    /// operator's memory; but no longer than this after its deletion. Then an Event and the log say what is left behind.
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = parse_duration)]
    withdraw_timeout: Duration,
    /// The helm program that installs charts, version 4 or 3: its path, or a name that is looked for in PATH. Charts are
    /// kept in the data folder.
    #[arg(long, value_name = "PATH", default_value = "helm")]
    helm: PathBuf,
    /// How log lines on stderr look. What is logged: RUST_LOG, by default `info,async_nats=off`.
    #[arg(long, default_value = "text")]
    log_format: LogFormat,
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

fn seconds(text: &str) -> Result<Duration, String> {
    match text.trim_end_matches('s').parse() {
        Ok(seconds) if seconds <= 3600 => Ok(Duration::from_secs(seconds)),
        _ => Err("expected whole seconds, at most 3600".to_owned()),
    }
}

fn lease(text: &str) -> Result<Timing, String> {
    Timing::for_lease(seconds(text)?).map_err(|error| error.to_string())
}

pub(super) async fn run(args: RunArgs) -> Result<(), Failure> {
    log(args.log_format);
    // Before anything else, so that a signal during the start is not lost.
    let signals = (watch(SignalKind::terminate())?, watch(SignalKind::interrupt())?);
    let options = Options {
        folder: args.folder,
        api: args.kept.api.into(),
        listen: args.listen,
        data: args.kept.data.data,
        store: args.kept.store,
        namespace: args.kept.namespace,
        leader_election: args
            .leader_elect
            .then_some(LeaderElection { lease: args.lease_name, timing: args.lease_duration }),
        drain: args.drain_timeout,
        max_withdraw_percent: args.max_withdraw,
        protect_namespaces: args.protect_namespace,
        helm: args.helm,
        withdraw_timeout: args.withdraw_timeout,
    };
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
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Text => builder.with_target(false).init(),
        LogFormat::Json => builder.json().init(),
    }
}

/// A few lines on what to do next, in the words of this very start.
fn greet(options: &Options, address: SocketAddr) {
    let data = options.data.display();
    let (runs_on, event) = match &options.folder {
        Some(folder) => (folder.display().to_string(), folder.join("login.json")),
        None => ("the management cluster's definitions".to_owned(), PathBuf::new()),
    };
    let event = if event.is_file() { event.display().to_string() } else { "EVENT.json".to_owned() };
    let usual_port = address.port() == 8080 && address.ip().is_loopback();
    let to = if usual_port { String::new() } else { format!(" --to http://{address}/events") };
    let usual_data = options.data == Path::new("./fleet-data");
    let of = if usual_data { String::new() } else { format!(" --data {data}") };
    let runs = match &options.leader_election {
        Some(LeaderElection { lease, .. }) => {
            format!("Fleet waits until it holds Lease {}/{lease}, then runs", options.namespace)
        }
        None => "Fleet runs".to_owned(),
    };
    print(&format!(
        "{runs} on {runs_on}; its data is in {data}.\n\
         Events are taken at http://{address}/events (metrics at /metrics). Try, in another terminal:\n  \
         fleet-operator send {event}{to}\n  \
         fleet-operator show addons{of}"
    ));
}
