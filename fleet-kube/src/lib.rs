//! Kubernetes parts of Fleet: custom resources, clusters, catalog, applier and store.
//!
//! An engine that is driven by a management cluster: definitions and clusters from there, applied to those clusters.
//!
//! ```no_run
//! # use std::error::Error;
//! use std::sync::Arc;
//!
//! use fleet_core::engine::{Config, Engine, Parts};
//! use fleet_core::memory::MemoryStore;
//! use fleet_core::minijinja::MinijinjaRenderer;
//! use fleet_kube::applier::KubeApplier;
//! use fleet_kube::catalog::KubeCatalog;
//! use fleet_kube::clusters::Clusters;
//! use tokio_util::sync::CancellationToken;
//!
//! # async fn run(management: kube::Client) -> Result<(), Box<dyn Error>> {
//! let catalog = Arc::new(KubeCatalog::start(management));
//! let clusters = Arc::new(Clusters::new());
//! let engine = Engine::new(
//!     Parts {
//!         store: Arc::new(MemoryStore::default()),
//!         catalog: Arc::clone(&catalog) as _,
//!         clusters: Arc::clone(&clusters) as _,
//!         renderer: Arc::new(MinijinjaRenderer),
//!         applier: Arc::new(KubeApplier::new(Arc::clone(&clusters))),
//!         environment: Default::default(),
//!     },
//!     Config::default(),
//! );
//! // Which clusters there are is in the definitions, too.
//! let mut definitions = catalog.definitions();
//! tokio::spawn(async move {
//!     while definitions.changed().await.is_ok() {
//!         let Some(now) = definitions.borrow_and_update().clone() else { continue };
//!         clusters.update_all(now.clusters.clone(), now.leaving.clone());
//!     }
//! });
//! engine.run(CancellationToken::new()).await;
//! # Ok(())
//! # }
//! ```
//!
//! | part | of which trait | needs |
//! |---|---|---|
//! | [`catalog::KubeCatalog`] | `Catalog` | the custom resources ([`api`]) in a management cluster |
//! | [`clusters::Clusters`] | `ClusterSelector` | kubeconfigs of the clusters |
//! | [`applier::KubeApplier`] | `Applier` | those clusters' API servers |
//! | [`helm::HelmApplier`] | `Applier`, for releases of charts | the program `helm` |
//! | [`objects::ObjectSource`] | `EventSource` | `list` and `watch` for kinds in those clusters |
//! | [`store::KubeStore`] | `WorkStore` | a namespace for Works |
//! | [`leader`] | | a Lease |
//!
//! [`definitions`] makes of the objects' texts what an engine needs, from wherever they come; [`register`] makes the objects
//! that a new cluster takes; [`agent`] is both sides of a cluster that is driven from within. The permissions that each part
//! needs stand in its documentation.
//!
//! This crate has no features: it takes 187 crates, most of them the Kubernetes client's.

pub mod agent;
pub mod api;
pub mod applier;
pub mod catalog;
pub mod client;
pub mod cluster_nats;
pub mod clusters;
pub mod connection;
pub mod definitions;
mod follow;
pub mod helm;
pub mod kubeconfig;
pub mod leader;
pub mod objects;
pub mod register;
pub mod store;
