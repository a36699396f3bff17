//! `fleet-bench` prints what Fleet costs, as a table, each figure next to a floor taken in the same run.

mod bare;
mod drift;
mod engine;
mod fleet;
mod objects;
mod parts;
mod path;
mod scale;
mod selector;
mod slow;
mod table;
mod triggers;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};

/// As in the operator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

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
    /// How long until a field that somebody changed, or an object that somebody deleted, is as it was, next to a bare loop.
    Drift {
        /// How many objects.
        #[arg(long, default_value_t = 300)]
        objects: usize,
    },
    /// Objects of a cluster as events: until all are known, and the memory of that, next to a bare client that lists them.
    Objects {
        /// How many.
        #[arg(long, default_value_t = 10_000)]
        objects: usize,
        /// How often.
        #[arg(long, default_value_t = 5)]
        rounds: usize,
    },
    /// One process of that.
    #[command(hide = true)]
    ObjectsSide(objects::Side),
    /// Many live keys over real API servers: template edits next to a bare client, requests in peace, restart, memory.
    Scale {
        /// How many keys, each with one object in one cluster.
        #[arg(long, default_value_t = 5_000)]
        users: usize,
        /// How many clusters.
        #[arg(long, default_value_t = 10)]
        clusters: usize,
        /// How long requests are counted while nothing happens, in seconds.
        #[arg(long, default_value_t = 60)]
        idle: u64,
    },
    /// Fleet's own process of that.
    #[command(hide = true)]
    ScaleSide { folder: PathBuf, clusters: usize, users: usize, value: String },
    /// What an event costs that one of many triggers of a source wants, next to the same event with that one alone.
    Triggers {
        /// How many triggers.
        #[arg(long, default_value_t = 1_000)]
        triggers: usize,
        /// How many events.
        #[arg(long, default_value_t = 20_000)]
        events: usize,
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
        What::Drift { objects } => drift::measure(objects).await?,
        What::Objects { objects, rounds } => objects::measure(objects, rounds.max(1)).await?,
        What::ObjectsSide(side) => side.run().await?,
        What::Scale { users, clusters, idle } => {
            let idle = Duration::from_secs(idle);
            scale::measure(&scale::Scale { users, clusters: clusters.max(1), idle }).await?;
        }
        What::ScaleSide { folder, clusters, users, value } => {
            scale::side::run(&folder, clusters, users, &value).await?;
        }
        What::Triggers { triggers, events } => triggers::measure(triggers, events).await?,
        What::Selector { clusters } => selector::measure(clusters),
    }
    Ok(())
}
