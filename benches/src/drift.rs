//! How long until drift is repaired, from the moment the watch event can be had until the write that repairs is done:
//! Fleet, next to a bare loop of one watch and one write. They take turns.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fleet_core::catalog::TriggerDef;
use fleet_core::memory::MemoryStore;
use fleet_core::policy::{Policy, SyncMode};
use fleet_core::redb::RedbStore;
use fleet_core::store::WorkStore;
use futures::TryStreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use kube::{Api, ResourceExt};
use local_fleet::{ClusterOptions, Lab, NatsOptions, Route};
use tokio::sync::mpsc;

use crate::Failure;
use crate::bare;
use crate::fleet::Fleet;
use crate::parts::trigger;
use crate::table::{line, millis, percentile};

/// What is there, and what somebody makes of it.
const OURS: &str = "ours";
const THEIRS: &str = "theirs";
/// What the bare loop keeps.
const FLOOR: &str = "floor";
const FLEET: &str = "fleet";
/// How long it is quiet between two changes.
const QUIET: Duration = Duration::from_millis(10);
/// Longer than that nothing takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// What somebody does to an object.
#[derive(Clone, Copy, PartialEq)]
enum Drift {
    Edit,
    Delete,
}

pub(crate) async fn measure(objects: usize) -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let stores: [(&str, Arc<dyn WorkStore>); 2] = [
        ("memory", Arc::new(MemoryStore::default())),
        ("file", Arc::new(RedbStore::open(&folder.path().join("fleet.redb"))?)),
    ];
    // Each has one of its own: the objects of the one would be strays to the other.
    let lab = Lab::builder()
        .clusters(stores.len())
        .cluster_options(ClusterOptions::default().controller_manager(false))
        .nats(NatsOptions::default())
        .start_scratch()
        .await?;
    let nats = lab.nats().ok_or("the lab has no NATS")?.url(Route::Direct);
    for ((name, store), cluster) in stores.into_iter().zip(lab.clusters()) {
        let policy = Policy { sync: SyncMode::ContinuousWithDriftDetection, ..Policy::default() };
        let trigger = TriggerDef { policy: Arc::new(policy), ..trigger(&bare::template(OURS)) };
        let fleet = Fleet::start(&nats, name, std::slice::from_ref(cluster), store, trigger).await?;
        with(name, fleet, &cluster.kubeconfig()?, objects).await?;
    }
    lab.stop().await?;
    Ok(())
}

/// Measures with one kind of store.
async fn with(store: &str, mut fleet: Fleet, kubeconfig: &str, objects: usize) -> Result<(), Failure> {
    let api = bare::config_maps(kubeconfig).await?;
    let warm = objects / 10;
    let all = objects + warm;
    fleet.burst(FLEET, all).await?;
    for number in 0..all {
        bare::apply(&api, &format!("{FLOOR}-{number}"), OURS).await?;
    }
    let mut watcher = Watcher::start(&api).await?;
    let somebody = bare::config_maps(kubeconfig).await?;
    for drift in [Drift::Edit, Drift::Delete] {
        let (mut floor, mut whole) = (Vec::new(), Vec::new());
        for number in 0..all {
            for turn in 0..2 {
                tokio::time::sleep(QUIET).await;
                // None always follows the other.
                let is_floor = (number + turn) % 2 == 0;
                let name = format!("{}-{number}", if is_floor { FLOOR } else { FLEET });
                drift.happen(&somebody, &name).await?;
                let noticed = watcher.next(&name).await?;
                let repaired = match noticed.repaired {
                    Some(at) => at,
                    None => fleet.applied(&name).await?,
                };
                // The first ones open connections.
                if number >= warm {
                    let took = repaired.saturating_duration_since(noticed.at);
                    if is_floor { floor.push(took) } else { whole.push(took) }
                }
            }
        }
        for percent in [50, 99] {
            let (bare, whole) = (percentile(&mut floor, percent), percentile(&mut whole, percent));
            let ratio = whole.as_secs_f64() / bare.as_secs_f64();
            line(
                &format!("{}, p{percent}: bare loop / fleet with {store} store / ratio", drift.name()),
                format!("{} / {} / {ratio:.2}", millis(bare), millis(whole)),
            );
        }
    }
    check(&api, all, &fleet).await?;
    fleet.stop().await;
    Ok(())
}

/// Everything is as it was, and was repaired as often as somebody changed it.
async fn check(api: &Api<ConfigMap>, objects: usize, fleet: &Fleet) -> Result<(), Failure> {
    let is_ours =
        |it: &ConfigMap| it.data.as_ref().is_some_and(|data| data.get("value").is_some_and(|it| it == OURS));
    let there = api.list(&ListParams::default()).await?;
    let ours =
        |prefix: &str| there.iter().filter(|it| it.name_any().starts_with(prefix) && is_ours(it)).count();
    let repaired = fleet.counters().repaired.get();
    if ours(FLOOR) != objects || ours(FLEET) != objects || repaired != 2 * objects as u64 {
        return Err(
            format!("{} and {} are as they were; {repaired} repairs", ours(FLOOR), ours(FLEET)).into()
        );
    }
    Ok(())
}

impl Drift {
    fn name(self) -> &'static str {
        match self {
            Self::Edit => "a field is changed",
            Self::Delete => "an object is deleted",
        }
    }

    async fn happen(self, api: &Api<ConfigMap>, name: &str) -> Result<(), Failure> {
        match self {
            Self::Edit => {
                let params =
                    PatchParams { field_manager: Some("somebody".to_owned()), ..PatchParams::default() };
                let change = serde_json::json!({"data": {"value": THEIRS}});
                api.patch(name, &params, &Patch::Merge(change)).await?;
            }
            Self::Delete => _ = api.delete(name, &DeleteParams::default()).await?,
        }
        Ok(())
    }
}

/// A change of somebody's, as the bare watch tells of it.
struct Noticed {
    name: String,
    at: Instant,
    /// When the bare loop had repaired it, if that is its business.
    repaired: Option<Instant>,
}

/// One watch of all ConfigMaps. What is the floor's is repaired upon its events, by the task that reads them.
struct Watcher(mpsc::UnboundedReceiver<Result<Noticed, Failure>>);

impl Watcher {
    async fn start(api: &Api<ConfigMap>) -> Result<Self, Failure> {
        let version = api.list(&ListParams::default().limit(1)).await?.metadata.resource_version;
        let (told, noticed) = mpsc::unbounded_channel();
        let (api, mut version) = (api.clone(), version.unwrap_or_default());
        tokio::spawn(async move {
            loop {
                if let Err(error) = watch(&api, &mut version, &told).await {
                    // Whoever measures may have gone.
                    let _ = told.send(Err(error));
                    return;
                }
            }
        });
        Ok(Self(noticed))
    }

    /// The change of this object that comes next.
    async fn next(&mut self, name: &str) -> Result<Noticed, Failure> {
        let next = tokio::time::timeout(PATIENCE, self.0.recv());
        let noticed =
            next.await.map_err(|_| "a change was not told in time")?.ok_or("the watch is gone")??;
        if noticed.name != name {
            return Err(format!("{} changed instead of {name}", noticed.name).into());
        }
        Ok(noticed)
    }
}

/// One watch, until the server ends it.
async fn watch(
    api: &Api<ConfigMap>,
    version: &mut String,
    told: &mpsc::UnboundedSender<Result<Noticed, Failure>>,
) -> Result<(), Failure> {
    let events = api.watch(&WatchParams::default(), version).await?;
    futures::pin_mut!(events);
    while let Some(event) = events.try_next().await? {
        let at = Instant::now();
        let is_theirs = |it: &ConfigMap| {
            it.data.as_ref().is_some_and(|data| data.get("value").is_some_and(|it| it == THEIRS))
        };
        let (object, is_gone) = match event {
            WatchEvent::Modified(object) if is_theirs(&object) => (object, false),
            WatchEvent::Deleted(object) => (object, true),
            WatchEvent::Bookmark(bookmark) => {
                *version = bookmark.metadata.resource_version;
                continue;
            }
            WatchEvent::Error(error) => return Err(error.to_string().into()),
            WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                *version = object.resource_version().unwrap_or_default();
                continue;
            }
        };
        *version = object.resource_version().unwrap_or_default();
        let name = object.name_any();
        let mut repaired = None;
        if name.starts_with(FLOOR) {
            if is_gone {
                api.create(&PostParams::default(), &bare::config_map(&name, OURS)).await?;
            } else {
                bare::apply(api, &name, OURS).await?;
            }
            repaired = Some(Instant::now());
        }
        if told.send(Ok(Noticed { name, at, repaired })).is_err() {
            return Ok(());
        }
    }
    Ok(())
}
