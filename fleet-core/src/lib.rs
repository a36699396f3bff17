//! Event-driven automation for fleets of Kubernetes clusters.
//!
//! An [event] arrives from an [`EventSource`](source::EventSource); triggers of the
//! [`Catalog`](catalog::Catalog) say what it means; the intent is stored as [`Work`](work::Work) in a
//! [`WorkStore`](store::WorkStore); templates are rendered by a [`Renderer`](render::Renderer) for every cluster that a
//! [`ClusterSelector`](cluster::ClusterSelector) knows and the trigger selects; an [`Applier`](apply::Applier) puts the
//! result into those clusters and takes it away again. The engine composes these parts and knows neither NATS nor a
//! Kubernetes client.

pub mod apply;
pub mod catalog;
pub mod cluster;
pub mod dead_letter;
#[cfg(feature = "diff")]
pub mod diff;
#[cfg(feature = "directory")]
pub mod directory;
pub mod engine;
pub mod environment;
pub mod event;
#[cfg(feature = "cel")]
pub mod expression;
pub mod filter;
#[cfg(feature = "go-templates")]
pub mod gotemplate;
pub mod health;
pub mod keep;
#[cfg(all(feature = "go-templates", feature = "minijinja"))]
pub mod languages;
pub mod manifest;
pub mod memory;
#[cfg(feature = "minijinja")]
pub mod minijinja;
pub mod observe;
pub mod policy;
pub mod position;
#[cfg(any(feature = "minijinja", feature = "go-templates"))]
mod printed;
#[cfg(feature = "redb")]
pub mod redb;
pub mod render;
pub mod resolve;
pub mod selector;
pub mod source;
pub mod store;
#[cfg(feature = "testing")]
pub mod testing;
pub mod work;
#[cfg(feature = "yaml")]
pub mod yaml;
