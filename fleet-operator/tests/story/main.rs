//! The story of logins and logouts on real NATS and real Kubernetes API servers, with the commands that users type.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that meets the unexpected says so and stops; so do its helpers"
)]

mod bad_clusters;
mod bad_nats;
mod bad_templates;
mod core_nats;
mod desired;
mod folder;
mod jetstream;
#[allow(dead_code, reason = "the operator's other tests need more of it")]
#[path = "../operator/process.rs"]
mod process;
mod stage;
mod wait;
#[allow(dead_code, reason = "the tests of faults need more of it")]
mod world;

/// Managed clusters that the stories share: two for production, one for staging.
const CLUSTERS: usize = 3;
