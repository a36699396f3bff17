//! Kubernetes parts of Fleet: custom resources, clusters, catalog and applier.

pub mod client;
pub mod connection;
pub mod kubeconfig;
