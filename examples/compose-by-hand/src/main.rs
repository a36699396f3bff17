//! Composes the engine by hand: a source, a trigger, two clusters, all in memory.

use std::{error::Error, sync::Arc, time::Duration};

use fleet_core::catalog::{Payload, SourceDef, TriggerDef};
use fleet_core::cluster::{Cluster, ClusterId};
use fleet_core::engine::{Config, Engine, Parts};
use fleet_core::memory::{MemoryApplier, MemoryCatalog, MemoryClusters, MemorySource, MemoryStore};
use fleet_core::render::TemplateSource;
use fleet_core::{event::Event, minijinja::MinijinjaRenderer, selector::LabelSelector};
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let production = ClusterId::new("civo", "cluster1")?;
    let staging = ClusterId::new("civo", "staging1")?;
    let trigger = TriggerDef {
        action: Some("{% if event.type == 'logout' %}Delete{% else %}Create{% endif %}".into()),
        payload: vec![Payload::Template(TemplateSource::manifests(
            "namespace",
            "apiVersion: v1\nkind: Namespace\nmetadata: {name: '{{ event.subject }}'}\n",
        ))],
        ..TriggerDef::new("namespaces", "users", LabelSelector::labels([("env", "production")])?)
    };
    let applier = Arc::new(MemoryApplier::default());
    let engine = Engine::new(
        Parts {
            store: Arc::new(MemoryStore::default()),
            catalog: Arc::new(MemoryCatalog::new([SourceDef::new("users")], [trigger])),
            clusters: Arc::new(MemoryClusters::new([
                Cluster::new(production.clone(), [("env", "production")]),
                Cluster::new(staging.clone(), [("env", "staging")]),
            ])),
            renderer: Arc::new(MinijinjaRenderer),
            applier: Arc::clone(&applier) as _,
            environment: Default::default(),
        },
        Config::default(),
    );
    let users = Arc::new(MemorySource::new("users"));
    let handle = engine.handle();
    handle.attach(Arc::clone(&users) as _);
    let stop = CancellationToken::new();
    let running = tokio::spawn(engine.run(stop.clone()));

    for ty in ["login", "logout"] {
        let event = Event::builder("1", "auth.example.com", ty).subject("mgianluc").build()?;
        println!("{ty}: {:?}", users.send(event).await.await);
        // The acknowledgement says that it is durable; applying it follows.
        tokio::time::sleep(Duration::from_millis(50)).await;
        println!("  production holds {:?}", applier.objects(&production).keys());
        println!("  staging holds {:?}", applier.objects(&staging).keys());
    }
    stop.cancel();
    Ok(running.await?)
}
