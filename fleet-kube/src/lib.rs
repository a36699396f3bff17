//! Kubernetes parts of Fleet: custom resources, clusters, catalog and applier.

pub mod connection;
