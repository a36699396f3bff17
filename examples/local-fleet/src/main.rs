//! The `local-fleet` program.

mod folder;

use std::error::Error;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Parser, Subcommand};
use local_fleet::{Lab, NatsAuth, NatsOptions, Program, Progress, Result, install};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// A fleet of real Kubernetes API servers and a real NATS server on this machine, without containers and without root.
///
/// The programs (etcd, kube-apiserver, kube-controller-manager, kubectl, nats-server, nats, helm) are taken from
/// KUBEBUILDER_ASSETS, PATH or a cache folder (FLEET_LAB_CACHE, by default ~/.cache/fleet-lab). What is in none of
/// them is built once with `go`, which takes some minutes.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Starts a management cluster, managed clusters and NATS, and runs until Ctrl-C or SIGTERM
    ///
    /// When all is ready the last line printed is `ready`, and DIR holds management.kubeconfig, cluster1.kubeconfig
    /// and so on, nats.env (NATS_URL, NATS_USER and NATS_PASSWORD, to be sourced), and bin with the programs.
    /// Started again with the same DIR, it goes on with the same data.
    Up {
        /// How many managed clusters; one takes about 210 MB of memory
        #[arg(long, value_name = "N", default_value_t = 3)]
        clusters: usize,
        /// The folder for everything: keys, data, logs
        #[arg(long)]
        dir: PathBuf,
        /// Clusters without controller manager: smaller, but deleted namespaces stay in Terminating
        #[arg(long)]
        no_controllers: bool,
    },
    /// Gets the programs, building those that are missing, and prints where they are
    Install {
        /// Only these
        #[arg(long, value_name = "NAME", num_args = 1.., value_delimiter = ',', value_parser = program())]
        only: Vec<Program>,
    },
}

/// Takes the name of a program, and offers all names in the help.
fn program() -> impl TypedValueParser<Value = Program> {
    PossibleValuesParser::new(Program::ALL.map(Program::name)).try_map(|name| name.parse())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    // Ignored if somebody has chosen already.
    let _chosen = rustls::crypto::ring::default_provider().install_default();
    let arguments = Arguments::parse();
    match run(arguments.command).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let mut error: Option<&dyn Error> = Some(error.as_ref());
            let mut lines = Vec::new();
            while let Some(cause) = error {
                lines.push(cause.to_string());
                error = cause.source();
            }
            // Nothing can be done if standard error is closed.
            let _closed = writeln!(io::stderr(), "error: {}", lines.join(": "));
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> Result<(), Box<dyn Error>> {
    let mut stop = Stop::new()?;
    let work = async {
        match command {
            Command::Install { only } => install_programs(&only).await.map(|()| None),
            Command::Up { clusters, dir, no_controllers } => {
                up(clusters, dir, no_controllers).await.map(Some)
            }
        }
    };
    // Asked to stop while it starts: what has been started is killed by being dropped.
    let lab = tokio::select! {
        done = work => done?,
        () = stop.asked() => return Ok(()),
    };
    if let Some(lab) = lab {
        stop.asked().await;
        Progress::default().say("stopping");
        lab.stop().await?;
    }
    Ok(())
}

async fn install_programs(only: &[Program]) -> Result<(), Box<dyn Error>> {
    let progress = Progress::default();
    for program in Program::ALL {
        if only.is_empty() || only.contains(&program) {
            let path = install::find(program, &progress).await?;
            writeln!(io::stdout(), "{}", path.display())?;
        }
    }
    Ok(())
}

async fn up(clusters: usize, dir: PathBuf, no_controllers: bool) -> Result<Lab, Box<dyn Error>> {
    let progress = Progress::default();
    // All before the first server starts: a build may take minutes, or fail.
    let mut programs = Vec::new();
    for program in Program::ALL {
        programs.push((program, install::find(program, &progress).await?));
    }
    let lab = Lab::builder()
        .management(true)
        .clusters(clusters)
        .cluster_options(local_fleet::ClusterOptions::default().controller_manager(!no_controllers))
        .nats(NatsOptions::default().jetstream(true).auth(NatsAuth::UserPassword))
        .start(&dir)
        .await?;
    folder::fill(&lab, &programs)?;
    write!(io::stdout(), "{}", folder::summary(&lab))?;
    writeln!(io::stdout(), "ready")?;
    Ok(lab)
}

/// Ctrl-C, SIGTERM, or the terminal being closed.
struct Stop([Signal; 3]);

impl Stop {
    fn new() -> io::Result<Self> {
        Ok(Stop([
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
            signal(SignalKind::hangup())?,
        ]))
    }

    async fn asked(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}
