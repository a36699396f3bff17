//! The operator from outside: a process, its command line, its files and its port.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that meets the unexpected says so and stops; so do its helpers"
)]

mod agent;
mod article;
mod bad_input;
mod charts;
mod cluster_nats;
mod dead_letters;
mod drift;
mod explain;
mod idle;
mod leading;
mod managed;
mod process;
mod quickstart;
mod render;
mod rig;
mod shown;
mod stopping;
mod streams;
