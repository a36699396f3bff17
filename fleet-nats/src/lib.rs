//! NATS and JetStream event sources for Fleet.

pub mod binding;
