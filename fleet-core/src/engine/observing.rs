//! Watching what becomes of objects: one stream for each cluster and kind of which any Work has something.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::cluster::ClusterId;
use crate::engine::Shared;
use crate::engine::definitions::Found;
use crate::engine::holdings::{Effects, Key, KindKey, Met};
use crate::health::{self, Health};
use crate::manifest::Gvk;
use crate::observe::{Depth, Observation, Seen};
use crate::store::StoreError;
use crate::work::{AppliedWork, WorkId};

/// How often it is checked whether there still is anything to watch.
const CHECK: Duration = Duration::from_secs(30);
/// How many records are read at a time.
const PAGE: usize = 256;

/// The streams that are open.
#[derive(Debug, Default)]
pub(super) struct Observers(Mutex<HashMap<(ClusterId, KindKey), Observer>>);

#[derive(Debug)]
struct Observer {
    depth: Depth,
    stop: CancellationToken,
}

/// Takes in all records that there are, then watches what they name. Before that nothing can be told from a stray.
pub(super) async fn load(shared: &Arc<Shared>) {
    let mut failures = 0;
    while let Err(error) = try_load(shared).await {
        tracing::warn!(%error, "what was applied cannot be read; trying again");
        tokio::time::sleep(shared.pause(shared.config.retry, failures)).await;
        failures += 1;
    }
    for (cluster, kind) in shared.holdings.end_of_load() {
        shared.observe(&cluster, &kind);
    }
}

async fn try_load(shared: &Shared) -> Result<(), StoreError> {
    let mut after: Option<(WorkId, ClusterId)> = None;
    let mut known: Option<(WorkId, Arc<str>)> = None;
    loop {
        let place = after.as_ref().map(|(work, cluster)| (work, cluster));
        let page = shared.store.all_applied(place, PAGE).await?;
        let Some(last) = page.last() else { return Ok(()) };
        after = Some((last.value.work.clone(), last.value.cluster.clone()));
        for applied in page {
            let id = applied.value.of();
            let trigger = match &known {
                Some((work, trigger)) if work == id => Arc::clone(trigger),
                _ => shared
                    .store
                    .work(id)
                    .await?
                    .map(|work| Arc::clone(&work.value.trigger))
                    .unwrap_or_default(),
            };
            known = Some((id.clone(), Arc::clone(&trigger)));
            shared.holdings.load(&applied.value, &trigger);
        }
    }
}

impl Shared {
    /// Takes note of a record as it is stored, or is about to be, and does what follows from it.
    pub(super) fn take_in(self: &Arc<Self>, record: &AppliedWork, trigger: Option<&Arc<str>>) {
        let nobody = Arc::default();
        let trigger = trigger.unwrap_or(&nobody);
        let effects = self.holdings.take_in(record, trigger);
        self.follow((&record.cluster, record.for_cluster()), trigger, effects);
    }

    /// Takes note that nothing of a Work is left in a cluster.
    pub(super) fn forget_held(
        self: &Arc<Self>,
        work: &WorkId,
        cluster: &ClusterId,
        trigger: Option<&Arc<str>>,
    ) {
        let local = self.holdings.local(work, cluster);
        let for_cluster = local.as_ref().map_or(cluster, |local| &local.cluster);
        self.rollouts.forget(work, for_cluster);
        self.rendered_from.forget(work, cluster);
        let effects = self.holdings.forget(work, cluster);
        self.follow((cluster, for_cluster), trigger.unwrap_or(&Arc::default()), effects);
        for cluster in BTreeSet::from([cluster, for_cluster]) {
            if self.clusters.get(cluster).is_none() && self.holdings.is_empty(cluster) {
                self.selector.withdrawn(cluster);
            }
        }
    }

    fn follow(
        self: &Arc<Self>,
        (cluster, for_cluster): (&ClusterId, &ClusterId),
        trigger: &Arc<str>,
        effects: Effects,
    ) {
        for kind in &effects.kinds {
            self.observe(cluster, kind);
        }
        for work in &effects.concerned {
            self.enqueue(work, cluster);
        }
        if effects.turned == Some(true) {
            let definitions = self.definitions.load();
            let waits = |name: &&Arc<str>| {
                definitions
                    .triggers
                    .get(*name)
                    .is_some_and(|other| other.def.policy.depends_on.contains(trigger))
            };
            let dependents: Vec<_> = definitions.triggers.keys().filter(waits).cloned().collect();
            if !dependents.is_empty() {
                self.sweeps.in_cluster(for_cluster, dependents);
            }
        }
        if effects.last_of_trigger
            && matches!(self.definitions.load().find(trigger), Found::Gone)
            && !self.holdings.has_trigger(trigger)
        {
            // It tells whoever waits for that.
            self.sweeps.triggers([Arc::clone(trigger)]);
        }
    }

    /// Watches a kind in a cluster from now on, if nobody does.
    pub(super) fn observe(self: &Arc<Self>, cluster: &ClusterId, kind: &Gvk) {
        if !self.holdings.is_loaded() || self.clusters.get(cluster).is_none() {
            return;
        }
        let depth = self.definitions.load().depth(kind);
        let key = (cluster.clone(), KindKey::of(kind));
        let mut observers = self.observers.0.lock();
        if let Some(there) = observers.get(&key) {
            if there.depth >= depth {
                return;
            }
            there.stop.cancel();
        }
        let stop = self.stop.child_token();
        observers.insert(key, Observer { depth, stop: stop.clone() });
        drop(observers);
        let (shared, cluster, kind) = (Arc::clone(self), cluster.clone(), kind.clone());
        self.spawn(async move {
            let watching = watch(&shared, &cluster, &kind, depth);
            // Whoever stops it has put another one into its place, or taken it out.
            if stop.run_until_cancelled(watching).await.is_some() {
                let mut observers = shared.observers.0.lock();
                let key = (cluster, KindKey::of(&kind));
                if observers.get(&key).is_some_and(|there| there.depth == depth && !there.stop.is_cancelled())
                {
                    observers.remove(&key);
                }
            }
        });
    }

    /// Watches everything that is in a cluster.
    pub(super) fn observe_cluster(self: &Arc<Self>, cluster: &ClusterId) {
        for kind in self.holdings.kinds(cluster) {
            self.observe(cluster, &kind);
        }
    }

    /// Watches nothing in a cluster any more.
    pub(super) fn ignore_cluster(&self, cluster: &ClusterId) {
        self.observers.0.lock().retain(|(there, _), observer| {
            if there == cluster {
                observer.stop.cancel();
            }
            there != cluster
        });
    }

    /// Looks anew at all objects: what counts as healthy has changed.
    pub(super) fn observe_anew(self: &Arc<Self>) {
        let clusters: HashSet<ClusterId> = {
            let mut observers = self.observers.0.lock();
            observers
                .drain()
                .map(|((cluster, _), observer)| {
                    observer.stop.cancel();
                    cluster
                })
                .collect()
        };
        clusters.iter().for_each(|cluster| self.observe_cluster(cluster));
    }

    fn look_again(self: &Arc<Self>, work: &WorkId, cluster: &ClusterId) {
        self.start(self.schedule.look(work, cluster));
    }

    /// What an object shows of what is ours, and how it is doing.
    fn judge(&self, trigger: &str, seen: &Seen) -> (Arc<str>, Health) {
        let definitions = self.definitions.load();
        let Some(trigger) = definitions.triggers.get(trigger) else {
            return (seen.owned.print([]), Health::Ready);
        };
        let print = seen.owned.print(trigger.def.policy.excluded(&seen.object));
        let health = seen.whole.as_ref().map_or(Health::Ready, |whole| {
            trigger
                .checks(&seen.object)
                .fold(health::of_object(whole), |health, check| health.and(check.evaluate(whole)))
        });
        (print, health)
    }
}

/// Follows one kind in one cluster, until there is nothing of it any more or it cannot be watched.
async fn watch(shared: &Arc<Shared>, cluster: &ClusterId, kind: &Gvk, depth: Depth) {
    let mut failures = 0;
    loop {
        let told_anything =
            match follow(shared, cluster, kind, shared.applier.observe(cluster, kind, depth)).await {
                Ended::NothingLeft => return,
                Ended::ByApplier { told_anything } => told_anything,
            };
        if !told_anything || shared.clusters.get(cluster).is_none() {
            return;
        }
        tokio::time::sleep(shared.pause(shared.config.retry, failures)).await;
        failures += 1;
    }
}

enum Ended {
    NothingLeft,
    ByApplier { told_anything: bool },
}

async fn follow(
    shared: &Arc<Shared>,
    cluster: &ClusterId,
    kind: &Gvk,
    mut observations: BoxStream<'static, Observation>,
) -> Ended {
    let key = KindKey::of(kind);
    let mut told_anything = false;
    let mut list: Option<(Instant, HashSet<Key>)> = None;
    let mut checks = tokio::time::interval_at(Instant::now() + CHECK, CHECK);
    loop {
        let observation = tokio::select! {
            biased;
            observation = observations.next() => observation,
            _ = checks.tick() => {
                let mut observers = shared.observers.0.lock();
                if !shared.holdings.has_kind(cluster, &key) {
                    observers.remove(&(cluster.clone(), key));
                    return Ended::NothingLeft;
                }
                continue;
            }
        };
        let Some(observation) = observation else { return Ended::ByApplier { told_anything } };
        told_anything = true;
        match observation {
            Observation::Listing => list = Some((Instant::now(), HashSet::new())),
            Observation::There(seen) => {
                if let Some((_, told)) = &mut list {
                    told.insert(Key(seen.object.clone()));
                }
                let met = shared.holdings.see(cluster, &seen, |trigger| shared.judge(trigger, &seen));
                take(shared, cluster, met, Some(&seen));
            }
            Observation::Listed { version } => {
                if let Some((began, told)) = list.take() {
                    for work in shared.holdings.listed(cluster, &key, &told, (began, version.as_ref())) {
                        shared.look_again(&work, cluster);
                    }
                }
            }
            Observation::Gone { object, uid, .. } => {
                let met = shared.holdings.see_gone(cluster, &object, uid.as_ref());
                take(shared, cluster, met, None);
            }
        }
    }
}

fn take(shared: &Arc<Shared>, cluster: &ClusterId, met: Met, seen: Option<&Seen>) {
    match (met, seen) {
        (Met::Look(work), _) => shared.look_again(&work, cluster),
        (Met::Stray { is_new: true }, Some(seen)) => {
            shared.counters.strays.add();
            if seen.written_by_us {
                shared.found.add(cluster, seen);
            }
            tracing::warn!(
                %cluster,
                object = %seen.object,
                mark = %seen.mark,
                "an object carries a mark, but no Work has it; it is left alone"
            );
        }
        (Met::Stray { .. } | Met::Expected, _) => {}
    }
}
