//! Rollouts: where a trigger's policy says `maxUpdate`, another rendering is brought to so many clusters at a time, and
//! to no further one once it has failed somewhere.
//!
//! Nothing is stored for it. Which rendering a Work has in a cluster is told by the digest in its record, so a rollout
//! begins when a Work is met that has another than it should: then all Works of the trigger are surveyed, and clusters
//! are begun one after the other. After a restart the same is found again; those that were begun go on first.
//!
//! Where an event asks for something new, or nothing was there, nobody waits; and what drifted is put right with the
//! rendering of now, as no other is known. A cluster that cannot be reached is not begun; one that went away after it
//! was begun keeps its place among those in progress, because nobody knows how it does there.

mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use self::table::{Progress, Standing, Table};
use crate::cluster::ClusterId;
use crate::engine::Shared;
use crate::engine::definitions::Definitions;
use crate::engine::digest::digest;
use crate::engine::local::Part;
use crate::engine::triggers::Trigger;
use crate::store::StoreError;
use crate::work::{AppliedWork, Intent, Work, WorkId};

/// How many Works are read at a time.
const PAGE: usize = 256;
/// At least so long between two decisions.
const PAUSE: Duration = Duration::from_millis(100);
/// So often it is looked whether something became of what cannot tell.
const CHECK: Duration = Duration::from_secs(10);

/// All rollouts in progress.
#[derive(Debug, Default)]
pub(super) struct Rollouts {
    running: Mutex<BTreeMap<Arc<str>, Rollout>>,
    /// Whether there are any; as a rule there are none, and nobody has to wait for the lock.
    any: AtomicBool,
    wanted: Mutex<BTreeSet<Arc<str>>>,
    changed: Notify,
}

#[derive(Debug)]
struct Rollout {
    trigger: Arc<Trigger>,
    table: Table,
}

/// What a Work should have in a cluster.
pub(super) struct Wanted {
    pub(super) trigger: Arc<Trigger>,
    /// `None` if it cannot be rendered.
    pub(super) digest: Option<String>,
    pub(super) generation: u64,
}

impl Rollouts {
    /// Whether a Work that has another rendering than it should in a cluster has to wait there. If nothing is known of a
    /// rollout yet, one is prepared, and everything waits for it.
    pub(super) fn holds(
        &self,
        trigger: &Trigger,
        (work, cluster): (&WorkId, &ClusterId),
        now: &Definitions,
    ) -> bool {
        if let Some(rollout) = self.running.lock().get_mut(&trigger.def.name)
            && now.triggers.get(&trigger.def.name).is_some_and(|now| rollout.is_of(now))
        {
            let waits = !rollout.table.is_begun(cluster);
            if waits {
                // At once, so that it is not over before this is written down.
                rollout.table.note(cluster, work, Standing::Old);
            }
            return waits;
        }
        self.wanted.lock().insert(Arc::clone(&trigger.def.name));
        self.changed.notify_one();
        true
    }

    /// Takes note of a record, and of what it should say; nothing if the Work does not belong there.
    pub(super) fn note(&self, record: &AppliedWork, wanted: Option<&Wanted>) {
        if !self.any.load(Ordering::Acquire) {
            return;
        }
        let mut running = self.running.lock();
        match wanted {
            Some(wanted) => {
                if let Some(rollout) = running.get_mut(&wanted.trigger.def.name)
                    && rollout.is_of(&wanted.trigger)
                {
                    let standing = Standing::of(record, wanted.digest.as_deref(), wanted.generation);
                    rollout.table.note(record.for_cluster(), &record.work, standing);
                }
            }
            None => running.values_mut().for_each(|it| it.table.forget(record.for_cluster(), &record.work)),
        }
        drop(running);
        self.changed.notify_one();
    }

    /// A Work is not in a cluster any more, or does not belong there.
    pub(super) fn forget(&self, work: &WorkId, cluster: &ClusterId) {
        if self.any.load(Ordering::Acquire) {
            self.running.lock().values_mut().for_each(|rollout| rollout.table.forget(cluster, work));
            self.changed.notify_one();
        }
    }

    /// A cluster changed: it left, or can be reached again.
    pub(super) fn cluster_changed(&self, cluster: &ClusterId, is_there: bool) {
        if self.any.load(Ordering::Acquire) {
            if !is_there {
                self.running.lock().values_mut().for_each(|rollout| rollout.table.leave(cluster));
            }
            self.changed.notify_one();
        }
    }

    /// Follows definitions: what asks for something else now begins anew. Returns the triggers whose rollout has ended.
    pub(super) fn follow(&self, definitions: &Definitions, changed: &[Arc<str>]) -> Vec<Arc<str>> {
        let mut running = self.running.lock();
        let mut ended = Vec::new();
        running.retain(|name, rollout| match definitions.triggers.get(name) {
            Some(trigger) if !changed.contains(name) => {
                rollout.trigger = Arc::clone(trigger);
                true
            }
            _ => {
                ended.push(Arc::clone(name));
                false
            }
        });
        self.any.store(!running.is_empty(), Ordering::Release);
        ended
    }

    fn begin(&self, trigger: &Arc<Trigger>) {
        let rollout = Rollout { trigger: Arc::clone(trigger), table: Table::default() };
        self.running.lock().insert(Arc::clone(&trigger.def.name), rollout);
        self.any.store(true, Ordering::Release);
    }

    fn with<T>(&self, trigger: &Arc<Trigger>, act: impl FnOnce(&mut Rollout) -> T) -> Option<T> {
        let mut running = self.running.lock();
        let rollout = running.get_mut(&trigger.def.name)?;
        rollout.is_of(trigger).then(|| act(rollout))
    }
}

impl Rollout {
    fn is_of(&self, trigger: &Trigger) -> bool {
        std::ptr::eq(&*self.trigger, trigger) || self.trigger.asks_for_the_same_as(&trigger.def)
    }
}

/// Leads rollouts until it is dropped.
pub(super) async fn run(shared: &Arc<Shared>) {
    shared.wait_until_loaded().await;
    let rollouts = &shared.rollouts;
    let mut failures = 0;
    loop {
        let check = async {
            match rollouts.any.load(Ordering::Acquire) {
                true => tokio::time::sleep(CHECK).await,
                false => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = rollouts.changed.notified() => {}
            () = check => {}
        }
        let wanted = std::mem::take(&mut *rollouts.wanted.lock());
        for name in wanted {
            match survey(shared, &name).await {
                Ok(()) => failures = 0,
                Err(error) => {
                    tracing::warn!(trigger = %name, %error, "Works cannot be read for a rollout; trying again");
                    rollouts.wanted.lock().insert(name);
                    rollouts.changed.notify_one();
                    tokio::time::sleep(shared.pause(shared.config.retry, failures)).await;
                    failures += 1;
                }
            }
        }
        decide(shared);
        tokio::time::sleep(PAUSE).await;
    }
}

/// Looks through all Works of a trigger.
async fn survey(shared: &Arc<Shared>, name: &Arc<str>) -> Result<(), StoreError> {
    let Some(trigger) = shared.definitions.load().triggers.get(name).cloned() else { return Ok(()) };
    if trigger.def.policy.max_update.is_none() {
        return Ok(());
    }
    // What happens from now on is noted, and goes before what is read.
    shared.rollouts.begin(&trigger);
    let mut after: Option<WorkId> = None;
    loop {
        let page = shared.store.works(Some(name), after.as_ref(), PAGE).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.value.id.clone());
        for stored in page.iter().filter(|stored| stored.value.intent == Intent::Create) {
            survey_work(shared, &trigger, &stored.value).await?;
        }
    }
    shared.rollouts.with(&trigger, |rollout| rollout.table.surveyed = true);
    Ok(())
}

async fn survey_work(shared: &Arc<Shared>, trigger: &Arc<Trigger>, work: &Work) -> Result<(), StoreError> {
    let targets = trigger.targets(work.origin.as_ref(), &shared.clusters);
    let origin = work.origin.as_ref().and_then(|origin| shared.clusters.origin(origin));
    for applied in shared.applied_of(&work.id).await? {
        let record = applied.value;
        let Some(target) = targets.iter().find(|target| target.id == *record.for_cluster()) else { continue };
        if !shared.is_in_place(trigger, &record) {
            continue;
        }
        shared.pace.turn().await;
        let part = Part::of(record.local.as_ref());
        let mut look = shared.known_resources();
        let rendered = trigger.render(part, work, target, origin.as_deref(), &mut look);
        let wanted = rendered.ok().map(|rendered| digest(&rendered.manifests, trigger));
        let standing = Standing::of(&record, wanted.as_deref(), work.generation);
        shared
            .rollouts
            .with(trigger, |rollout| rollout.table.read(record.for_cluster(), &record.work, standing));
    }
    Ok(())
}

/// Begins further clusters where that may be, and says how it goes.
fn decide(shared: &Arc<Shared>) {
    let mut running = shared.rollouts.running.lock();
    running.retain(|name, rollout| {
        let Some(max) = rollout.trigger.def.policy.max_update.filter(|_| rollout.table.surveyed) else {
            return true;
        };
        let is_ready = |cluster: &ClusterId| shared.clusters.get(cluster).is_some_and(|it| it.ready);
        let Progress { begun, condition } = rollout.table.advance(max, is_ready);
        for cluster in &begun {
            tracing::info!(trigger = %name, %cluster, "the new rendering is brought there");
            shared.sweeps.in_cluster(cluster, [Arc::clone(name)]);
        }
        let goes_on = condition.is_some();
        shared.conditions.rolling_out(name, condition, &*shared.catalog);
        goes_on
    });
    shared.rollouts.any.store(!running.is_empty(), Ordering::Release);
}
