//! Users who log in, as lines of `events.jsonl` in a folder, get a namespace in a folder that stands for a cluster. What is
//! done is kept in `fleet.redb`: killed and started again, it goes on where it was.

use std::{error::Error, path::PathBuf, sync::Arc};

use custom_source::FileTail;
use fleet_core::catalog::{Payload, SourceDef, TriggerDef};
use fleet_core::cluster::{Cluster, ClusterId};
use fleet_core::directory::DirectoryApplier;
use fleet_core::engine::{Config, Engine, Parts};
use fleet_core::memory::{MemoryCatalog, MemoryClusters};
use fleet_core::render::TemplateSource;
use fleet_core::{minijinja::MinijinjaRenderer, redb::RedbStore, selector::LabelSelector};
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let folder: PathBuf = std::env::args_os().nth(1).ok_or("which folder? custom-source FOLDER")?.into();
    let trigger = TriggerDef {
        action: Some("{% if event.type == 'logout' %}Delete{% else %}Create{% endif %}".into()),
        payload: vec![Payload::Template(TemplateSource::manifests(
            "namespace",
            "apiVersion: v1\nkind: Namespace\nmetadata: {name: '{{ event.subject }}'}\n",
        ))],
        ..TriggerDef::new("namespaces", "users", LabelSelector::labels([("env", "production")])?)
    };
    let cluster = Cluster::new(ClusterId::new("civo", "cluster1")?, [("env", "production")]);
    let engine = Engine::new(
        Parts {
            store: Arc::new(RedbStore::open(&folder.join("fleet.redb"))?),
            catalog: Arc::new(MemoryCatalog::new([SourceDef::new("users")], [trigger])),
            clusters: Arc::new(MemoryClusters::new([cluster])),
            renderer: Arc::new(MinijinjaRenderer),
            applier: Arc::new(DirectoryApplier::new(folder.join("clusters"))?),
            environment: Default::default(),
        },
        Config::default(),
    );
    let path = folder.join("events.jsonl");
    let source = FileTail { name: "users".to_owned(), path, lines: Arc::default() };
    engine.handle().attach(Arc::new(source));
    let stop = CancellationToken::new();
    let running = tokio::spawn(engine.run(stop.clone()));
    tokio::signal::ctrl_c().await?;
    stop.cancel();
    Ok(running.await?)
}
