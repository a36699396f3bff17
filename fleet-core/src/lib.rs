//! Event-driven automation for fleets of Kubernetes clusters: the traits, the engine that composes them, and in-memory parts.
