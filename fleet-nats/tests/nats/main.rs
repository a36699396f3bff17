//! The sources against a real nats-server.

mod access;
mod core;
mod jetstream;
mod positions;
mod publish;
mod reader;
