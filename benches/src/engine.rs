//! The engine alone: what it adds to the parts that it composes.

use std::sync::Arc;
use std::time::Instant;

use fleet_core::catalog::TriggerDef;
use fleet_core::cluster::{Cluster, ClusterId};
use fleet_core::engine::{Config, Engine, Parts};
use fleet_core::environment::Environment;
use fleet_core::memory::{MemoryApplier, MemoryCatalog, MemoryClusters, MemoryStore};
use fleet_core::minijinja::MinijinjaRenderer;
use fleet_core::render::Renderer;
use tokio_util::sync::CancellationToken;

use crate::parts::{Logins, Nothing, source, trigger};
use crate::table::{line, rate};

/// The quickstart's template.
pub(crate) const NAMESPACE: &str =
    "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {{ event.subject }}\n";

pub(crate) async fn measure(events: usize, users: usize) {
    let nothing = run(events, users, 1, Arc::new(Nothing::default()), [trigger("x")]).await;
    line("engine alone, renderer that does nothing, 1 cluster", format!("{nothing:.0} events/s"));
    for clusters in [1, 2] {
        let template = run(events, users, clusters, Arc::new(MinijinjaRenderer), [trigger(NAMESPACE)]).await;
        line(
            &format!("engine with the quickstart's template, {clusters} cluster(s)"),
            format!("{template:.0} events/s"),
        );
    }
}

/// Events a second, from the first delivery to the last Work applied in every cluster.
pub(crate) async fn run(
    events: usize,
    users: usize,
    clusters: usize,
    renderer: Arc<dyn Renderer>,
    triggers: impl IntoIterator<Item = TriggerDef>,
) -> f64 {
    let cluster = |number| {
        // Constants that are valid.
        #[allow(clippy::unwrap_used)]
        Cluster::new(ClusterId::new("civo", &format!("cluster{number}")).unwrap(), [("env", "production")])
    };
    let parts = Parts {
        store: Arc::new(MemoryStore::default()),
        catalog: Arc::new(MemoryCatalog::new([source()], triggers)),
        clusters: Arc::new(MemoryClusters::new((0..clusters).map(cluster))),
        renderer,
        applier: Arc::new(MemoryApplier::default()),
        environment: Environment::default(),
    };
    let engine = Engine::new(parts, Config::default());
    let handle = engine.handle();
    let counters = handle.counters();
    let stop = CancellationToken::new();
    let running = tokio::spawn(engine.run(stop.clone()));
    handle.wait_until_loaded().await;
    let began = Instant::now();
    handle.attach(Arc::new(Logins { count: events, users }));
    // All are durable, and nothing is left to be done anywhere.
    while counters.stored.get() < events as u64 || handle.backlog() > 0 {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    let took = began.elapsed();
    stop.cancel();
    // It has stopped, or panicked and said so.
    let _ = running.await;
    rate(events, took)
}
