//! What an operator does while everything around it fails, or is too much: real servers, and the real program.
//!
//! `FLEET_FAULTS_SEED` repeats the choices of an earlier run, `FLEET_FAULTS_EVENTS` makes the faults last longer, and
//! `FLEET_FLOOD_EVENTS` makes the flood larger.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that meets the unexpected says so and stops; so do its helpers"
)]

mod bad_messages;
mod books;
mod disturbance;
mod events;
mod faults;
mod feed;
mod flood;
mod foreign;
mod objects;
mod poison;
#[allow(dead_code, reason = "the operator's other tests need more of it")]
#[path = "../operator/process.rs"]
mod process;
mod random;
mod service;
#[allow(dead_code, reason = "the stories need more of it")]
#[path = "../story/stage.rs"]
mod stage;
#[path = "../story/wait.rs"]
mod wait;
#[allow(dead_code, reason = "the stories need more of it")]
#[path = "../story/world.rs"]
mod world;

/// Managed clusters that the tests share; what is stopped or frozen belongs to a test alone.
const CLUSTERS: usize = 1;

/// A number from the environment.
fn number(variable: &str) -> Option<u64> {
    std::env::var(variable)
        .ok()
        .map(|text| text.parse().unwrap_or_else(|_| panic!("{variable}={text} is no number")))
}
