//! The engine with templates in JSON: a login makes a namespace and an account for the user.

use std::{error::Error, sync::Arc};

use custom_renderer::JsonRenderer;
use fleet_core::catalog::{Payload, SourceDef, TriggerDef};
use fleet_core::cluster::{Cluster, ClusterId};
use fleet_core::engine::{Config, Engine, Parts};
use fleet_core::memory::{MemoryApplier, MemoryCatalog, MemoryClusters, MemorySource, MemoryStore};
use fleet_core::render::TemplateSource;
use fleet_core::{event::Event, selector::LabelSelector};
use tokio_util::sync::CancellationToken;

const TEMPLATE: &str = r#"[
  {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": {"$text": ["user-", {"$value": "event.subject"}]}}},
  {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {
    "name": "main", "namespace": {"$text": ["user-", {"$value": "event.subject"}]},
    "annotations": {"example.com/who": {"$value": "event.data.who"}}}}
]"#;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let cluster = ClusterId::new("civo", "cluster1")?;
    let trigger = TriggerDef {
        payload: vec![Payload::Template(TemplateSource::manifests("user", TEMPLATE))],
        ..TriggerDef::new("users", "users", LabelSelector::labels([("env", "production")])?)
    };
    let applier = Arc::new(MemoryApplier::default());
    let engine = Engine::new(
        Parts {
            store: Arc::new(MemoryStore::default()),
            catalog: Arc::new(MemoryCatalog::new([SourceDef::new("users")], [trigger])),
            clusters: Arc::new(MemoryClusters::new([Cluster::new(cluster.clone(), [("env", "production")])])),
            renderer: Arc::new(JsonRenderer),
            applier: Arc::clone(&applier) as _,
            environment: Default::default(),
        },
        Config::default(),
    );
    let users = Arc::new(MemorySource::new("users"));
    engine.handle().attach(Arc::clone(&users) as _);
    let stop = CancellationToken::new();
    let running = tokio::spawn(engine.run(stop.clone()));
    // Whatever a person calls herself: it is a text, and nothing else.
    let who = "Anna\"}}, {\"kind\": \"ClusterRoleBinding";
    let login = Event::builder("1", "auth.example.com", "login").subject("anna");
    users.send(login.json(serde_json::json!({ "who": who })).build()?).await.await;
    while applier.objects(&cluster).len() < 2 {
        tokio::task::yield_now().await;
    }
    for (object, found) in applier.objects(&cluster) {
        println!("{object}: {}", serde_json::to_string(&found.object)?);
    }
    stop.cancel();
    Ok(running.await?)
}
