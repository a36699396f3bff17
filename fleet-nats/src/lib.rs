//! NATS and JetStream event sources for Fleet.
//!
//! A stream as an EventSource of an engine, and a stream for what cannot be processed:
//!
//! ```no_run
//! # use std::error::Error;
//! use std::sync::Arc;
//!
//! use fleet_core::engine::Engine;
//! use fleet_nats::connection::{Auth, Connections, NatsConfig};
//! use fleet_nats::dead_letters::{Guarded, JetStreamLetters, LettersConfig, Reads};
//! use fleet_nats::jetstream::{JetStreamConfig, JetStreamSource};
//! use tokio_util::sync::CancellationToken;
//!
//! # async fn run(engine: Engine, stop: CancellationToken) -> Result<(), Box<dyn Error>> {
//! let creds = std::fs::read_to_string("fleet.creds")?;
//! let nats = NatsConfig::new(["nats://nats:4222"])?.auth(Auth::Creds(creds.into()));
//! let connections = Connections::new();
//! // Each event of the stream, in order, again until its intent is stored.
//! let users = JetStreamSource::new("users", &connections, nats.clone(), JetStreamConfig::new("USERS"));
//!
//! let reads = Reads::Stream { stream: "USERS".to_owned(), subjects: Vec::new() };
//! let letters = LettersConfig { create: true, reads, ..LettersConfig::new("users", "DEAD-LETTERS") };
//! let letters = Arc::new(JetStreamLetters::new(&connections, &nats, letters)?);
//! // Nothing is read before what is refused can be kept.
//! let users = Guarded::new(Arc::new(users), Arc::clone(&letters));
//!
//! engine.handle().attach_with_dead_letters(Arc::new(users), letters);
//! engine.run(stop).await;
//! // What was on its way goes back to the server at once.
//! connections.closed().await;
//! # Ok(())
//! # }
//! ```
//!
//! A source never fails because of NATS: it says in its [status](fleet_core::source::SourceStatus) what is the matter and what
//! to do, tries again, and goes on. What it is given wrongly, it refuses with a
//! [`ConfigError`](connection::ConfigError), which no second try heals.
//!
//! | part | of which trait | needs | promises |
//! |---|---|---|---|
//! | [`jetstream::JetStreamSource`] | `EventSource` | a stream, and a durable consumer, which it creates | nothing is lost: what is not settled comes again, over restarts of both sides; positions, floors, replays |
//! | [`core::CoreSource`] | `EventSource` | subjects | nothing: what nobody takes is lost; what was dropped here is counted |
//! | [`dead_letters::JetStreamLetters`] | `DeadLetterBox` | a stream, which it creates if asked to | what could not be processed is kept with its bytes, headers and reason |
//! | [`dead_letters::Guarded`] | `EventSource`, around another | the letters | it is not read while they cannot be kept |
//! | [`publish::publish`] | | a subject | says whether a stream has the event |
//!
//! All take their connections from [`connection::Connections`]: equal configurations share one, made in the background and
//! made again. Messages are CloudEvents by the [binding] for NATS, in binary or structured mode, and as they exist in the
//! wild. An EventSource that is read in many clusters has a source for each [`place`]. What comes of each way to settle a
//! delivery is a table of tests, `tests/nats/acks`.
//!
//! No type of this crate shows a credential in its `Debug`, and no error does.
//!
//! This crate has no features: it takes 138 crates, most of them the NATS client's and its TLS.

mod backoff;
pub mod binding;
pub mod connection;
pub mod core;
pub mod dead_letters;
pub mod jetstream;
pub mod place;
pub mod publish;
mod subject;
