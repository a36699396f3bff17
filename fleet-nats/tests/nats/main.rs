//! The sources against a real nats-server.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod access;
mod acks;
mod conformance;
mod core;
mod jetstream;
mod letters;
mod positions;
mod publish;
mod reader;
mod replay;
mod unreadable;
