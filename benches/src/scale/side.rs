//! Fleet's side of the measurement at scale: a process of its own, so that its memory is Fleet's alone. It does what it is
//! told on its standard input, and says on its standard output when that is done.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use fleet_core::catalog::TriggerDef;
use fleet_core::cluster::ClusterId;
use fleet_core::engine::Parts;
use fleet_core::environment::Environment;
use fleet_core::memory::{MemoryCatalog, MemorySource};
use fleet_core::policy::{Policy, SyncMode};
use fleet_core::redb::RedbStore;
use fleet_core::source::Settled;
use fleet_kube::applier::KubeApplier;
use fleet_kube::clusters::Clusters;
use futures::TryStreamExt;
use tokio::io::{AsyncBufReadExt, BufReader};

use super::counted::{CountedApplier, CountedRenderer, user};
use super::kubeconfig;
use crate::Failure;
use crate::bare::template;
use crate::fleet::{Running, definition};
use crate::parts::{login, source, trigger};

/// How many events are under way at a time.
const EVENTS: usize = 512;
/// How often it is looked whether something is done, and for how long.
const LOOK: Duration = Duration::from_millis(1);
const PATIENCE: Duration = Duration::from_secs(300);

/// Fleet with its parts, as far as they are looked at from outside.
struct Side {
    clusters: Vec<ClusterId>,
    users: usize,
    catalog: Arc<MemoryCatalog>,
    source: Arc<MemorySource>,
    applier: Arc<CountedApplier>,
    renderer: Arc<CountedRenderer>,
    running: Running,
}

pub(crate) async fn run(folder: &Path, clusters: usize, users: usize, value: &str) -> Result<(), Failure> {
    let side = Side::start(folder, clusters, users, value)?;
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        let (order, value) = line.split_once(' ').unwrap_or((&line, ""));
        let began = Instant::now();
        match order {
            "load" => side.load().await?,
            "edit" => side.edit(value).await?,
            "steady" => side.steady().await?,
            "stop" => break,
            _ => return Err(format!("{order} is no order").into()),
        }
        let (took, calls) = (began.elapsed().as_secs_f64(), side.applier.calls.load(Ordering::Relaxed));
        let (resident, peak) = (status("VmRSS:")?, status("VmHWM:")?);
        println!("{took} {calls} {resident} {peak}");
    }
    side.running.stop().await;
    Ok(())
}

/// A trigger whose objects live where their events come from.
fn kept(value: &str) -> TriggerDef {
    let policy = Policy { sync: SyncMode::ContinuousWithDriftDetection, ..Policy::default() };
    TriggerDef { policy: Arc::new(policy), ..trigger(&template(value)) }
}

impl Side {
    fn start(folder: &Path, clusters: usize, users: usize, value: &str) -> Result<Self, Failure> {
        let registry = Arc::new(Clusters::new());
        let definitions = (0..clusters).map(|number| {
            let kubeconfig = std::fs::read_to_string(kubeconfig(folder, number))?;
            definition(&format!("cluster{number}"), kubeconfig)
        });
        let definitions = definitions.collect::<Result<Vec<_>, Failure>>()?;
        let clusters = definitions.iter().map(|it| it.id.clone()).collect();
        registry.update(definitions);
        let catalog = Arc::new(MemoryCatalog::new([source()], [kept(value)]));
        let applier = Arc::new(CountedApplier::new(KubeApplier::new(Arc::clone(&registry))));
        let renderer = Arc::new(CountedRenderer::new(users));
        let running = Running::start(Parts {
            store: Arc::new(RedbStore::open(&folder.join("fleet.redb"))?),
            catalog: Arc::clone(&catalog) as _,
            clusters: registry,
            renderer: Arc::clone(&renderer) as _,
            applier: Arc::clone(&applier) as _,
            environment: Environment::default(),
        });
        let source = Arc::new(MemorySource::new("user-operation"));
        running.handle.attach(Arc::clone(&source) as _);
        Ok(Self { clusters, users, catalog, source, applier, renderer, running })
    }

    /// One event for each user, from the clusters in turn; done once all objects are there, and recorded.
    async fn load(&self) -> Result<(), Failure> {
        let before = self.running.handle.counters().applied.get();
        let events = (0..self.users).zip(self.clusters.iter().cycle()).map(Ok);
        let events = futures::stream::iter(events);
        events
            .try_for_each_concurrent(EVENTS, async |(number, cluster)| {
                let event = login(&user(number));
                match self.source.send_from(event, Some(cluster.clone())).await.await {
                    Settled::Acked => Ok::<_, Failure>(()),
                    other => Err(format!("an event was not taken: {other:?}").into()),
                }
            })
            .await?;
        self.until_applied(before).await
    }

    /// Changes the template; done once all objects are as it says now, and recorded.
    async fn edit(&self, value: &str) -> Result<(), Failure> {
        let before = self.running.handle.counters().applied.get();
        self.catalog.edit(|snapshot| {
            let trigger = kept(value);
            snapshot.triggers.insert(Arc::clone(&trigger.name), Arc::new(trigger));
        });
        self.until_applied(before).await
    }

    async fn until_applied(&self, before: u64) -> Result<(), Failure> {
        let handle = &self.running.handle;
        let wanted = before + self.users as u64;
        until(|| handle.counters().applied.get() >= wanted && handle.backlog() == 0).await
    }

    /// Everything was rendered, and so compared with what is recorded, since the start; every watch has listed what there is, no call is under way, and nothing
    /// waits.
    async fn steady(&self) -> Result<(), Failure> {
        let handle = &self.running.handle;
        until(|| {
            self.renderer.is_complete()
                && self.applier.listed.load(Ordering::Relaxed) >= self.clusters.len()
                && self.applier.under_way.load(Ordering::Relaxed) == 0
                && handle.backlog() == 0
        })
        .await
    }
}

/// A line of what the kernel tells of this process, in KiB.
pub(crate) fn status(name: &str) -> Result<u64, Failure> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)).ok_or("the kernel does not tell")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

pub(crate) async fn until(is_so: impl Fn() -> bool) -> Result<(), Failure> {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        if Instant::now() > deadline {
            return Err("it is not done in time".into());
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}
