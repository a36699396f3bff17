//! What the Applier does to real clusters, and what it leaves alone.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that meets the unexpected says so and stops; so do its helpers"
)]

#[path = "../lab/mod.rs"]
mod lab;

mod adopt;
mod contract;
mod exclusions;
mod immutable;
mod objects;
mod order;
mod ownership;
mod preview;
mod requests;
mod selector;

fn at(name: &str) -> String {
    format!("/api/v1/namespaces/default/configmaps/{name}")
}
