//! A controller that was there before, and now hosts the engine: they share the client, the runtime, the registry of
//! metrics, and the end. The controller looks after teams (ConfigMaps labelled `example.dev/team`); what a team means in which
//! cluster say the definitions in the management cluster, see `definitions.yaml`.

mod controller;
mod metrics;
mod policy;

use std::path::Path;
use std::sync::Arc;

use fleet_core::engine::{Config, Engine, Parts};
use fleet_core::memory::MemorySource;
use fleet_core::minijinja::MinijinjaRenderer;
use fleet_core::redb::{OpenError, RedbStore};
use fleet_kube::applier::KubeApplier;
use fleet_kube::catalog::KubeCatalog;
use fleet_kube::clusters::Clusters;
use kube::Client;
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;

pub use policy::NoClusterWideRights;

/// Prepares controller and engine, and registers the metrics of both; the future that is returned runs them until `stop`. Works
/// are kept in the file `works`.
///
/// # Errors
/// When the file cannot be opened.
pub fn run(
    client: Client,
    works: &Path,
    registry: &mut Registry,
    stop: CancellationToken,
) -> Result<impl Future<Output = ()> + Send + use<>, OpenError> {
    let catalog = Arc::new(KubeCatalog::start(client.clone()));
    let clusters = Arc::new(Clusters::new());
    let engine = Engine::new(
        Parts {
            store: Arc::new(RedbStore::open(works)?),
            catalog: Arc::clone(&catalog) as _,
            clusters: Arc::clone(&clusters) as _,
            renderer: Arc::new(MinijinjaRenderer),
            applier: Arc::new(NoClusterWideRights(KubeApplier::new(Arc::clone(&clusters)))),
            environment: Default::default(),
        },
        Config::default(),
    );
    let teams = Arc::new(MemorySource::new("teams"));
    engine.handle().attach(Arc::clone(&teams) as _);
    metrics::register(engine.handle(), registry);
    let controller = controller::run(client, teams, registry, stop.clone());

    Ok(async move {
        // Which clusters there are is in the definitions, too.
        let mut definitions = catalog.definitions();
        let follow = async {
            while definitions.changed().await.is_ok() {
                let Some(now) = definitions.borrow_and_update().clone() else { continue };
                clusters.update_all(now.clusters.clone(), now.leaving.clone());
            }
        };
        // The engine ends last: what the controller still has to tell it is taken.
        let stop_engine = CancellationToken::new();
        let controller = async {
            controller.await;
            stop_engine.cancel();
        };
        tokio::select! {
            _ = async { tokio::join!(controller, engine.run(stop_engine.clone())) } => {}
            () = follow => {}
        }
    })
}
