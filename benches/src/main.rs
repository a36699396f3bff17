//! `fleet-bench` prints what Fleet costs, as a table, each figure next to a floor taken in the same run.

mod engine;
mod parts;
mod selector;
mod table;

use clap::{Parser, Subcommand};

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
    /// One selector against many clusters.
    Selector {
        /// How many clusters.
        #[arg(long, default_value_t = 10_000)]
        clusters: usize,
    },
}

#[tokio::main(worker_threads = 2)]
async fn main() {
    // A second provider is never compiled in; installed twice is as good as once.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match Arguments::parse().what {
        What::Engine { events, users } => engine::measure(events, users).await,
        What::Selector { clusters } => selector::measure(clusters),
    }
}
