//! NATS and JetStream event sources for Fleet.
