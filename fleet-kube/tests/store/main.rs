//! The WorkStore of Kubernetes objects, on real API servers.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that meets the unexpected says so and stops; so do its helpers"
)]

#[path = "../lab/mod.rs"]
mod lab;

mod contract;
mod faults;
mod letters;
mod plans;
mod rig;
mod shown;
mod two;
