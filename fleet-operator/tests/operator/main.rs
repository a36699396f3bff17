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
mod asked;
mod bad_input;
mod called;
mod charts;
mod cluster_nats;
mod dead_letters;
mod drift;
mod explain;
mod http;
mod idle;
mod leading;
mod local;
mod managed;
mod manifests;
mod objects;
mod process;
mod quickstart;
mod references;
mod render;
mod rig;
mod shown;
mod stopping;
mod streams;
mod whole_article;
