//! Objects of a real API server as events: how long it takes until all are known, and what memory that takes; next to a bare
//! client that lists the same and begins a watch. Each runs in a process of its own, so that its memory is its alone.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use fleet_core::catalog::{SourceDef, Tells, TriggerDef};
use fleet_core::engine::Parts;
use fleet_core::environment::Environment;
use fleet_core::manifest::Gvk;
use fleet_core::memory::{MemoryApplier, MemoryCatalog};
use fleet_core::minijinja::MinijinjaRenderer;
use fleet_core::redb::RedbStore;
use fleet_core::selector::LabelSelector;
use fleet_kube::clusters::Clusters;
use fleet_kube::objects::{KindWatches, ObjectSource, Selection, Selector};
use futures::TryStreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{ListParams, PostParams, WatchParams};
use local_fleet::{ClusterOptions, Lab};
use tokio::process::Command;

use crate::Failure;
use crate::bare;
use crate::fleet::{IN_FLIGHT, Running, definition};
use crate::scale::side::{status, until};
use crate::table::{line, median};

/// How many objects a page has, as Fleet asks for them: of metadata, and whole.
const PAGES: [u32; 2] = [500, 100];

pub(crate) async fn measure(objects: usize, rounds: usize) -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let lab = Lab::builder()
        .clusters(1)
        .cluster_options(ClusterOptions::default().controller_manager(false))
        .start_scratch()
        .await?;
    let cluster = lab.clusters().first().ok_or("the lab has no cluster")?;
    std::fs::write(folder.path().join("kubeconfig"), cluster.kubeconfig()?)?;
    fill(&bare::config_maps(&cluster.kubeconfig()?).await?, objects).await?;
    for (content, what) in [(false, "metadata"), (true, "whole")] {
        let (mut floors, mut firsts, mut agains) = (Vec::new(), Vec::new(), Vec::new());
        let mut memory = (0, 0, 0);
        for _ in 0..rounds {
            let store = tempfile::tempdir_in(folder.path())?;
            let side = |who| Side {
                who,
                folder: folder.path().into(),
                store: store.path().into(),
                objects,
                content,
            };
            let floor = side(Who::Floor).elsewhere().await?;
            let first = side(Who::Fleet).elsewhere().await?;
            // What is known already is told again, and changes nothing.
            let again = side(Who::Fleet).elsewhere().await?;
            memory = (floor.peak.max(memory.0), first.peak.max(memory.1), first.resident.max(memory.2));
            floors.push(floor.took.as_secs_f64());
            firsts.push(first.took.as_secs_f64());
            agains.push(again.took.as_secs_f64());
        }
        let (floor, first, again) = (median(floors), median(firsts), median(agains));
        line(
            &format!("{what}: bare list and watch / until all are Works / ratio"),
            format!("{floor:.2} / {first:.2} s / {:.1}", first / floor),
        );
        line(
            &format!("{what}, after a restart: until all are known again / ratio"),
            format!("{again:.2} s / {:.1}", again / floor),
        );
        line(
            &format!("{what}, memory: peak of the bare client / fleet's peak / fleet's at the end"),
            format!("{} / {} / {} MiB", memory.0 / 1024, memory.1 / 1024, memory.2 / 1024),
        );
    }
    lab.stop().await?;
    Ok(())
}

async fn fill(api: &Api<ConfigMap>, objects: usize) -> Result<(), Failure> {
    let numbers = futures::stream::iter((0..objects).map(Ok::<_, Failure>));
    let create = async |number| {
        let mut object = bare::config_map(&format!("object-{number}"), &"v".repeat(512));
        object.metadata.labels = Some([("team".to_owned(), format!("team-{}", number % 10))].into());
        api.create(&PostParams::default(), &object).await?;
        Ok(())
    };
    numbers.try_for_each_concurrent(IN_FLIGHT, create).await
}

struct Done {
    took: Duration,
    resident: u64,
    peak: u64,
}

#[derive(Clone, Copy, ValueEnum)]
enum Who {
    Floor,
    Fleet,
}

/// What one process does.
#[derive(Args)]
pub(crate) struct Side {
    who: Who,
    folder: PathBuf,
    store: PathBuf,
    objects: usize,
    /// Whether objects are read whole, or only their metadata.
    #[arg(long)]
    content: bool,
}

impl Side {
    /// In a process of its own.
    async fn elsewhere(self) -> Result<Done, Failure> {
        let who = self.who.to_possible_value().ok_or("a side has no name")?;
        let output = Command::new(std::env::current_exe()?)
            .args(["objects-side", who.get_name()])
            .arg(self.folder)
            .arg(self.store)
            .arg(self.objects.to_string())
            .args(self.content.then_some("--content"))
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .output()
            .await?;
        let answer = String::from_utf8(output.stdout)?;
        let mut words = answer.split_whitespace();
        let mut next = || words.next().ok_or("a side failed");
        let took = Duration::from_secs_f64(next()?.parse()?);
        Ok(Done { took, resident: next()?.parse()?, peak: next()?.parse()? })
    }

    pub(crate) async fn run(self) -> Result<(), Failure> {
        let Self { who, folder, store, objects, content } = self;
        let kubeconfig = std::fs::read_to_string(folder.join("kubeconfig"))?;
        let began = Instant::now();
        match who {
            Who::Floor => floor(&kubeconfig, objects, content).await?,
            Who::Fleet => fleet(kubeconfig, &store, objects, content).await?,
        }
        println!("{} {} {}", began.elapsed().as_secs_f64(), status("VmRSS:")?, status("VmHWM:")?);
        Ok(())
    }
}

/// Lists all, in pages, keeps their names, and begins a watch.
async fn floor(kubeconfig: &str, objects: usize, content: bool) -> Result<(), Failure> {
    let api = bare::config_maps(kubeconfig).await?;
    let [metadata, whole] = PAGES;
    let mut params = ListParams::default().limit(if content { whole } else { metadata });
    let mut names = std::collections::HashSet::new();
    let version = loop {
        let (list, items): (_, Vec<_>) = if content {
            let page = api.list(&params).await?;
            (page.metadata, page.items.into_iter().filter_map(|it| it.metadata.name).collect())
        } else {
            let page = api.list_metadata(&params).await?;
            (page.metadata, page.items.into_iter().filter_map(|it| it.metadata.name).collect())
        };
        names.extend(items);
        match list.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params.continue_token = Some(token),
            None => break list.resource_version.unwrap_or_default(),
        }
    };
    if content {
        drop(api.watch(&WatchParams::default(), &version).await?);
    } else {
        drop(api.watch_metadata(&WatchParams::default(), &version).await?);
    }
    if names.len() == objects { Ok(()) } else { Err(format!("{} objects are there", names.len()).into()) }
}

/// Until every object is a Work, or known to be one as it was. Nothing is applied: that is measured elsewhere.
async fn fleet(kubeconfig: String, store: &Path, objects: usize, content: bool) -> Result<(), Failure> {
    let registry = Arc::new(Clusters::new());
    let cluster = definition("cluster0", kubeconfig)?;
    let id = cluster.id.clone();
    registry.update(vec![cluster]);
    let source = SourceDef { tells: Tells::States, ..SourceDef::new("objects") };
    let trigger = TriggerDef {
        destination_clusters: Some(LabelSelector::nothing()),
        ..TriggerDef::new("objects", "objects", LabelSelector::everything())
    };
    let running = Running::start(Parts {
        store: Arc::new(RedbStore::open(&store.join("fleet.redb"))?),
        catalog: Arc::new(MemoryCatalog::new([source], [trigger])),
        clusters: Arc::clone(&registry) as _,
        renderer: Arc::new(MinijinjaRenderer),
        applier: Arc::new(MemoryApplier::default()),
        environment: Environment::default(),
    });
    let selector = Selector {
        kind: Gvk { group: "".into(), version: "v1".into(), kind: "ConfigMap".into() },
        namespace: Some(bare::NAMESPACE.into()),
        name: None,
        labels: LabelSelector::everything(),
        rules: Vec::new(),
    };
    let selection = Arc::new(Selection { selectors: vec![selector], content });
    let watches = Arc::new(KindWatches::new(registry));
    running.handle.attach(Arc::new(ObjectSource::new("objects", id, selection, watches)));
    let counters = running.handle.counters();
    let known = || counters.stored.get() + counters.superseded.get();
    let all = u64::try_from(objects)?;
    until(|| known() >= all).await?;
    // The process ends with this: nothing is left to be given back.
    drop(running);
    Ok(())
}
