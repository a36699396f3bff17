//! Event-driven automation for fleets of Kubernetes clusters.
//!
//! An [event] arrives from an [`EventSource`](source::EventSource); triggers of the
//! [`Catalog`](catalog::Catalog) say what it means; the intent is stored as [`Work`](work::Work) in a
//! [`WorkStore`](store::WorkStore); templates are rendered by a [`Renderer`](render::Renderer) for every cluster that a
//! [`ClusterSelector`](cluster::ClusterSelector) knows and the trigger selects; an [`Applier`](apply::Applier) puts the
//! result into those clusters and takes it away again. The [engine] composes these parts and knows neither NATS nor a
//! Kubernetes client.
//!
//! # An engine in memory
//!
//! A login creates a namespace in the clusters labelled `env=production`, a logout takes it away:
//!
//! ```
//! # #[cfg(feature = "minijinja")]
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::sync::Arc;
//!
//! use fleet_core::catalog::{Payload, SourceDef, TriggerDef};
//! use fleet_core::cluster::{Cluster, ClusterId};
//! use fleet_core::engine::{Config, Engine, Parts};
//! use fleet_core::event::Event;
//! use fleet_core::memory::{
//!     MemoryApplier, MemoryCatalog, MemoryClusters, MemorySource, MemoryStore,
//! };
//! use fleet_core::minijinja::MinijinjaRenderer;
//! use fleet_core::render::TemplateSource;
//! use fleet_core::selector::LabelSelector;
//! use fleet_core::source::Settled;
//! use tokio_util::sync::CancellationToken;
//!
//! let trigger = TriggerDef {
//!     action: Some("{% if event.type == 'logout' %}Delete{% else %}Create{% endif %}".into()),
//!     payload: vec![Payload::Template(TemplateSource::manifests(
//!         "namespace",
//!         "{apiVersion: v1, kind: Namespace, metadata: {name: '{{ event.subject }}'}}",
//!     ))],
//!     ..TriggerDef::new("namespaces", "users", LabelSelector::labels([("env", "production")])?)
//! };
//! let cluster = ClusterId::new("civo", "cluster1")?;
//! let applier = Arc::new(MemoryApplier::default());
//! let engine = Engine::new(
//!     Parts {
//!         store: Arc::new(MemoryStore::default()),
//!         catalog: Arc::new(MemoryCatalog::new([SourceDef::new("users")], [trigger])),
//!         clusters: Arc::new(MemoryClusters::new([Cluster::new(cluster.clone(), [("env", "production")])])),
//!         renderer: Arc::new(MinijinjaRenderer),
//!         applier: Arc::clone(&applier) as _,
//!         environment: Default::default(),
//!     },
//!     Config::default(),
//! );
//! let users = Arc::new(MemorySource::new("users"));
//! let handle = engine.handle();
//! handle.attach(Arc::clone(&users) as _);
//! let stop = CancellationToken::new();
//! let running = tokio::spawn(engine.run(stop.clone()));
//!
//! let login = Event::builder("1", "auth.example.com", "login").subject("mgianluc").build()?;
//! // Acknowledged as soon as it is durable; it is applied after that, however long a cluster is away.
//! assert_eq!(users.send(login).await.await, Settled::Acked);
//! while applier.objects(&cluster).is_empty() {
//!     tokio::task::yield_now().await;
//! }
//! stop.cancel();
//! running.await?;
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "minijinja"))]
//! # fn main() {}
//! ```
//!
//! # What to read for what
//!
//! | you want to | read |
//! |---|---|
//! | take events from somewhere new | [`source`]: the trait, and how a delivery is settled; `examples/custom-source` |
//! | find clusters in an inventory of your own | [`cluster`]; matching labels is not your business ([`selector`]) |
//! | write templates in another language | [`render`]; `examples/custom-renderer` |
//! | put things elsewhere, or wrap an Applier with a policy | [`apply`], [`observe`] |
//! | keep Works in a database of yours | [`store`], [`work`] |
//! | bring definitions from elsewhere | [`catalog`] |
//! | know what an event would mean, without an engine | [`engine::Foresight`] |
//! | test your implementation | `testing::conformance` (feature `testing`): a suite for each trait |
//! | see the engine composed | `examples/compose-by-hand` |
//!
//! # Features
//!
//! None is needed for the engine. What each adds to the 54 crates that `default-features = false` takes:
//!
//! | feature | default | what it is | crates |
//! |---|---|---|---|
//! | `cloudevents` | yes | conversions to and from `cloudevents::Event` | +41 |
//! | `minijinja` | yes | the renderer of minijinja templates | +7 |
//! | `go-templates` | | the renderer of Go templates, with Sveltos' names | +4 |
//! | `cel` | | health checks and filters in CEL | +12 |
//! | `yaml` | | YAML as kubectl reads it | +3 |
//! | `redb` | | a WorkStore in one file | +1 |
//! | `directory` | | folders as clusters | +25 |
//! | `diff` | | what an update would change, as lines of YAML | +16 |
//! | `testing` | | mocks, and the conformance suites for implementations | +10 |

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
mod re2;
#[cfg(feature = "redb")]
pub mod redb;
pub mod render;
pub mod resolve;
pub mod resource;
pub mod selector;
pub mod source;
pub mod store;
#[cfg(feature = "testing")]
pub mod testing;
pub mod work;
#[cfg(feature = "yaml")]
pub mod yaml;
