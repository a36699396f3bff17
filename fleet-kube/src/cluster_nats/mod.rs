//! NATS inside managed clusters: what a Secret there says of it.
//!
//! The Secret is the one that Sveltos knows, `projectsveltos/sveltos-nats`: its key holds JSON with what to connect to and
//! what to read, for core NATS (`nats`), JetStream (`jetstream`), or both. Beside what Sveltos knows there may be several
//! `urls`, an `nkey` or `creds` to log in with, `tls`, and how a stream is read.

mod authorization;
mod follow;
mod node;
mod read;

pub use follow::{Told, follow};
pub use node::Mistake;
pub use read::read;

use crate::definitions::NatsTransport;

/// One thing to read in a cluster's NATS.
#[derive(Clone, Debug, PartialEq)]
pub struct ClusterFeed {
    /// What tells it from the others of the same Secret: `nats`, or `jetstream/` and the name of the stream.
    pub name: String,
    /// How it is reached, and what of it is read.
    pub transport: NatsTransport,
}
