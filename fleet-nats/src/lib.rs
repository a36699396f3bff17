//! NATS and JetStream event sources for Fleet.
//!
//! [`CoreSource`](core::CoreSource) reads subjects of core NATS, which redelivers nothing;
//! [`JetStreamSource`](jetstream::JetStreamSource) reads a stream through a durable consumer and loses nothing. Both
//! speak the CloudEvents [binding] for NATS and share [`Connections`](connection::Connections).
//! [`JetStreamLetters`](dead_letters::JetStreamLetters) keeps in a stream what could not be processed.

mod backoff;
pub mod binding;
pub mod connection;
pub mod core;
pub mod dead_letters;
pub mod jetstream;
pub mod place;
pub mod publish;
mod subject;
