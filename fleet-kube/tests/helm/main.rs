//! Releases of charts on a real API server, by the real helm, version 4 and 3.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that meets the unexpected says so and stops; so do its helpers"
)]

#[path = "../lab/mod.rs"]
mod lab;

mod broken_off;
mod contract;
mod drift;
mod faults;
mod ownership;
mod preview;
mod releases;
mod repositories;
mod repository;
mod world;
