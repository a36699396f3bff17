//! Kubernetes parts of Fleet: custom resources, clusters, catalog, applier and store.

pub mod agent;
pub mod api;
pub mod applier;
pub mod catalog;
pub mod client;
pub mod cluster_nats;
pub mod clusters;
pub mod connection;
pub mod definitions;
pub mod helm;
pub mod kubeconfig;
pub mod leader;
pub mod register;
pub mod store;
