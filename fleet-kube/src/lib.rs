//! Kubernetes parts of Fleet: custom resources, clusters, catalog and applier.

pub mod api;
pub mod connection;
pub mod definitions;
