//! `fleet-bench` prints what Fleet costs, as a table, each figure next to a floor taken in the same run.

mod engine;
mod fleet;
mod parts;
mod path;
mod selector;
mod slow;
mod table;

use std::time::Duration;

use clap::{Parser, Subcommand};

/// Whatever keeps a measurement from its end.
type Failure = Box<dyn std::error::Error + Send + Sync>;

#[derive(Parser)]
#[command(
    about = "Measures Fleet and prints a table; ratios are what counts, absolute times drift with the machine"
)]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// The engine alone: memory store, memory applier; with a renderer that does nothing, and with the quickstart's template.
    Engine {
        /// How many events.
        #[arg(long, default_value_t = 300_000)]
        events: usize,
        /// Of how many users, in turn.
        #[arg(long, default_value_t = 10_000)]
        users: usize,
    },
    /// From a NATS message to an object on a real API server, with each kind of store, next to a bare loop.
    Path {
        /// How many events one after the other.
        #[arg(long, default_value_t = 300)]
        events: usize,
        /// How many events at once, five times.
        #[arg(long, default_value_t = 2_000)]
        burst: usize,
    },
    /// What one of five clusters that hangs costs the others, next to the same events when none does.
    Slow {
        /// How many events a second.
        #[arg(long, default_value_t = 100)]
        rate: u32,
        /// How long the cluster hangs, in seconds.
        #[arg(long, default_value_t = 30)]
        seconds: u64,
        /// How often.
        #[arg(long, default_value_t = 3)]
        rounds: usize,
    },
    /// One selector against many clusters.
    Selector {
        /// How many clusters.
        #[arg(long, default_value_t = 10_000)]
        clusters: usize,
    },
}

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<(), Failure> {
    // A second provider is never compiled in; installed twice is as good as once.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match Arguments::parse().what {
        What::Engine { events, users } => engine::measure(events, users).await,
        What::Path { events, burst } => path::measure(events, burst).await?,
        What::Slow { rate, seconds, rounds } => {
            slow::measure(rate.max(1), Duration::from_secs(seconds), rounds).await?;
        }
        What::Selector { clusters } => selector::measure(clusters),
    }
    Ok(())
}
