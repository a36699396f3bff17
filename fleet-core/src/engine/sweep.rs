//! Sweeps: after a change of definitions or clusters, the Works it concerns are looked at again.

use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::catalog::Subject;
use crate::cluster::ClusterId;
use crate::engine::Shared;
use crate::engine::definitions::{Definitions, Found};
use crate::engine::local::Part;
use crate::engine::queue::Cause;
use crate::engine::together::{Place, Sets};
use crate::engine::triggers::Targets;
use crate::engine::withdrawals::{self, Withdrawals};
use crate::policy::{StopMatching, SyncMode};
use crate::store::StoreError;
use crate::work::{AppliedState, AppliedWork, EventKey, Intent, Work, WorkId};

/// How many Works are read at a time.
const PAGE: usize = 256;

/// A Work in a cluster, or what one has there for another cluster.
pub(super) type WorkIn = (WorkId, ClusterId);

/// What is to be swept.
#[derive(Debug, Default)]
pub(super) struct Sweeps {
    wanted: Mutex<Wanted>,
    added: Notify,
}

#[derive(Debug, Default)]
struct Wanted {
    everything: bool,
    triggers: BTreeSet<Arc<str>>,
    /// The Works of this trigger, as far as they concern this cluster.
    in_clusters: BTreeSet<(Arc<str>, ClusterId)>,
    /// The Works of this trigger whose events came from this cluster.
    from_clusters: BTreeSet<(Arc<str>, ClusterId)>,
    /// All Works, as far as they concern this cluster.
    clusters: BTreeSet<ClusterId>,
    /// These Works in these clusters, which belong there.
    places: BTreeSet<(WorkId, ClusterId)>,
}

impl Wanted {
    fn is_empty(&self) -> bool {
        self.places.is_empty() && self.is_only_places()
    }

    /// Whether it is all said which Works are meant, so that none has to be looked for.
    fn is_only_places(&self) -> bool {
        let Self { everything, triggers, in_clusters, from_clusters, clusters, places: _ } = self;
        !everything
            && triggers.is_empty()
            && in_clusters.is_empty()
            && from_clusters.is_empty()
            && clusters.is_empty()
    }

    /// Whether a Work that `came_from` somewhere is to be looked at in a cluster.
    fn covers(
        &self,
        trigger: &Arc<str>,
        came_from: impl Fn(&ClusterId) -> bool,
        cluster: &ClusterId,
    ) -> bool {
        self.everything
            || self.triggers.contains(trigger)
            || self.clusters.contains(cluster)
            || self.in_clusters.iter().any(|(one, there)| one == trigger && there == cluster)
            || self.from_clusters.iter().any(|(one, from)| one == trigger && came_from(from))
    }

    fn only_trigger(&self) -> Option<Arc<str>> {
        let by_cluster = self.in_clusters.iter().chain(&self.from_clusters).map(|(trigger, _)| trigger);
        let mut triggers = self.triggers.iter().chain(by_cluster);
        let first = triggers.next()?;
        let only = !self.everything && self.clusters.is_empty() && triggers.all(|trigger| trigger == first);
        only.then(|| Arc::clone(first))
    }
}

impl Sweeps {
    pub(super) fn everything(&self) {
        self.wanted.lock().everything = true;
        self.added.notify_one();
    }

    pub(super) fn triggers(&self, triggers: impl IntoIterator<Item = Arc<str>>) {
        self.wanted.lock().triggers.extend(triggers);
        self.added.notify_one();
    }

    pub(super) fn in_cluster(&self, cluster: &ClusterId, triggers: impl IntoIterator<Item = Arc<str>>) {
        let triggers = triggers.into_iter().map(|trigger| (trigger, cluster.clone()));
        self.wanted.lock().in_clusters.extend(triggers);
        self.added.notify_one();
    }

    /// What these Works show in these clusters changed.
    pub(super) fn places(&self, places: impl IntoIterator<Item = (WorkId, ClusterId)>) {
        self.wanted.lock().places.extend(places);
        self.added.notify_one();
    }

    /// The origin of these triggers' Works changed.
    pub(super) fn of_origin(&self, origin: &ClusterId, triggers: impl IntoIterator<Item = Arc<str>>) {
        let triggers = triggers.into_iter().map(|trigger| (trigger, origin.clone()));
        self.wanted.lock().from_clusters.extend(triggers);
        self.added.notify_one();
    }

    /// A cluster came (back): something of any Work may be there, whose trigger may be gone or look elsewhere now.
    pub(super) fn cluster(&self, cluster: &ClusterId) {
        self.wanted.lock().clusters.insert(cluster.clone());
        self.added.notify_one();
    }

    /// Takes out what is wanted so far; `None` if that is nothing.
    fn take(&self, held: &Withdrawals) -> Option<Wanted> {
        let mut wanted = std::mem::take(&mut *self.wanted.lock());
        if wanted.is_empty() {
            return None;
        }
        // What is held may not be wanted any more.
        wanted.everything |= held.holds_in_clusters();
        Some(wanted)
    }
}

/// Sweeps whatever is asked for, one sweep after the other, until it is dropped.
pub(super) async fn run(shared: &Arc<Shared>) {
    let mut failures = 0;
    loop {
        let Some(wanted) = shared.sweeps.take(&shared.withdrawals) else {
            shared.sweeps.added.notified().await;
            continue;
        };
        match sweep(shared, &wanted).await {
            Ok(()) => failures = 0,
            Err(error) => {
                tracing::warn!(%error, "Works cannot be read; trying again");
                shared.sweeps.everything();
                tokio::time::sleep(shared.pause(shared.config.retry, failures)).await;
                failures += 1;
            }
        }
    }
}

impl Shared {
    /// A Work has something in a cluster where it does not belong: whether that may be withdrawn is decided together
    /// with everything else, unless it is already.
    pub(super) fn left_behind(&self, work: &Work, place: WorkIn, for_cluster: &ClusterId) {
        if !self.withdrawals.holds(&work.id, place) {
            self.sweeps.in_cluster(for_cluster, [Arc::clone(&work.trigger)]);
        }
    }
}

async fn sweep(shared: &Arc<Shared>, wanted: &Wanted) -> Result<(), StoreError> {
    for (work, cluster) in &wanted.places {
        shared.look_again_at(work, cluster).await;
    }
    if wanted.is_only_places() {
        return Ok(());
    }
    let only = wanted.only_trigger();
    let definitions = shared.definitions.load_full();
    let mut withdrawals = BTreeSet::new();
    // Triggers that are gone, and of which something is left.
    let mut unfinished = BTreeSet::new();
    let mut after: Option<WorkId> = None;
    let mut live = 0;
    let mut sets = Sets::default();
    for (name, trigger) in &definitions.triggers {
        if trigger.is_always_on() && (wanted.everything || wanted.triggers.contains(name)) {
            shared.set_standing(trigger, EventKey::Always).await?;
        }
    }
    loop {
        let page = shared.store.works(only.as_deref(), after.as_ref(), PAGE).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.value.id.clone());
        live += page.iter().filter(|stored| stored.value.intent == Intent::Create).count();
        for stored in page {
            let work = stored.value;
            shared.note_expiry(&work);
            let came_from = |from: &ClusterId| work.origin.as_ref() == Some(from);
            let targets = match definitions.find(&work.trigger) {
                _ if work.intent == Intent::Delete => None,
                Found::Trigger(trigger) => Some(trigger.targets(work.origin.as_ref(), &shared.clusters)),
                Found::Leaves => Some(Targets::None),
                Found::Gone => None,
                Found::Unknown => continue,
            };
            let applied = shared.applied_of(&work.id).await?;
            // What has nothing of its own belongs nowhere.
            let targets = match sets.take(&work, &applied, &definitions, &shared.clusters) {
                false => targets,
                true if work.key == EventKey::All => continue,
                true => targets.map(|_| Targets::None),
            };
            let trigger = definitions.triggers.get(&work.trigger);
            for cluster in targets.iter().flat_map(Targets::iter) {
                if let Some(trigger) =
                    trigger.filter(|_| wanted.covers(&work.trigger, came_from, &cluster.id))
                {
                    shared.look_again_at_parts(trigger, &work.id, &cluster.id).await;
                }
            }
            for applied in applied.iter().map(|applied| &*applied.value) {
                let covers = |cluster| wanted.covers(&work.trigger, came_from, cluster);
                if !covers(&applied.cluster) && !covers(applied.for_cluster()) {
                    continue;
                }
                let is_target = targets.as_ref().is_some_and(|it| it.contains(applied.for_cluster()));
                match trigger {
                    Some(trigger) if is_target && shared.is_in_place(trigger, applied) => {}
                    // It goes somewhere else, or there is no such part any more.
                    Some(trigger) if is_target || !trigger.has(Part::of(applied.local.as_ref())) => {
                        shared.look_again_at(&applied.work, &applied.cluster).await;
                    }
                    _ => {
                        let of = (&work.trigger, work.intent);
                        out_of_place(shared, &definitions, of, applied, &mut withdrawals).await;
                    }
                }
            }
            if targets.is_none() && applied.is_empty() {
                // It is to be gone, or its trigger is, and so is everything that it made.
                shared.finish_removal(&work.id).await?;
                if work.key == EventKey::All {
                    // Its keys follow.
                    unfinished.insert(Arc::clone(&work.trigger));
                }
            } else if matches!(definitions.find(&work.trigger), Found::Gone)
                && applied.iter().any(|applied| !applied.value.is_left())
            {
                unfinished.insert(Arc::clone(&work.trigger));
            }
        }
    }
    // Any of the keys that are rendered together may have come from there.
    let from_anywhere = |_: &ClusterId| true;
    for (trigger, place) in sets.places(shared, &definitions).await? {
        let covers = |cluster: &ClusterId| wanted.covers(&trigger.def.name, from_anywhere, cluster);
        let covers_record = |applied: &AppliedWork| covers(&applied.cluster) || covers(applied.for_cluster());
        match place {
            Place::Belongs(cluster) if covers(&cluster) => {
                shared.look_again_at_parts(&trigger, &trigger.aggregate(), &cluster).await;
            }
            Place::Displaced(applied) if covers_record(&applied) => {
                shared.look_again_at(&applied.work, &applied.cluster).await;
            }
            Place::Elsewhere(applied) if covers_record(&applied) => {
                let of = (&trigger.def.name, Intent::Create);
                out_of_place(shared, &definitions, of, &applied, &mut withdrawals).await;
            }
            Place::Belongs(_) | Place::Displaced(_) | Place::Elsewhere(_) => {}
        }
    }
    if wanted.everything {
        shared.set_total(live);
        let mut after = None;
        while let Some((orphans, last)) = orphans(shared, after.as_ref()).await? {
            after = Some(last);
            for (work, cluster) in &orphans {
                shared.look_again_at(work, cluster).await;
            }
        }
        // What a crash left between a floor and the tombstones below it.
        let feeds = shared.feeds.names();
        for feed in definitions.sources.keys().chain(&feeds).collect::<BTreeSet<_>>() {
            for floor in shared.store.floors(feed).await? {
                shared.drop_tombstones(feed, &floor).await;
            }
        }
    }
    withdrawals::from_clusters(shared, withdrawals, wanted.everything);
    tell_of_withdrawn(shared, wanted, &unfinished);
    Ok(())
}

/// What is to become of what a Work has in a cluster where it does not belong.
async fn out_of_place(
    shared: &Arc<Shared>,
    definitions: &Definitions,
    (trigger, intent): (&Arc<str>, Intent),
    applied: &AppliedWork,
    withdrawals: &mut BTreeSet<(WorkId, WorkIn)>,
) {
    let AppliedWork { work, cluster, .. } = applied;
    match shared.reachable(cluster) {
        // Nobody knows it since the start: what is there is left to whoever brings it back.
        None => {}
        Some(_) if intent == Intent::Delete => shared.look_again_at(work, cluster).await,
        Some(there) if there.keeps_resources() && shared.clusters.get(cluster).is_none() => {
            shared.withdraw(work, cluster, Cause::Sweep);
        }
        // Nothing is taken away there.
        Some(_) if stays(definitions, trigger, applied) => shared.look_again_at(work, cluster).await,
        Some(_) => {
            withdrawals.insert((applied.of().clone(), (work.clone(), cluster.clone())));
        }
    }
}

/// Whether what a Work has in a cluster stays there though it does not belong there.
fn stays(definitions: &Definitions, trigger: &str, applied: &AppliedWork) -> bool {
    match definitions.find(trigger) {
        Found::Trigger(trigger) => {
            let policy = &trigger.def.policy;
            policy.stop_matching == StopMatching::LeavePolicies || policy.sync == SyncMode::DryRun
        }
        Found::Gone => {
            matches!(applied.state, AppliedState::Left { .. } | AppliedState::Previewed { .. })
        }
        Found::Leaves | Found::Unknown => true,
    }
}

/// Tells whoever holds back a trigger that is gone that nothing is left of it.
fn tell_of_withdrawn(shared: &Shared, wanted: &Wanted, unfinished: &BTreeSet<Arc<str>>) {
    let definitions = shared.definitions.load();
    let swept = wanted.triggers.iter().chain(definitions.leaving().filter(|_| wanted.everything));
    for trigger in swept {
        if matches!(definitions.find(trigger), Found::Gone) && !unfinished.contains(trigger) {
            shared.catalog.withdrawn(&Subject::of_trigger(trigger));
        }
    }
}

/// What was applied for Works that are not there any more (a crash came in between, or a second operator): the places of
/// a page of records, and the place after which the next page begins.
pub(super) async fn orphans(
    shared: &Shared,
    after: Option<&WorkIn>,
) -> Result<Option<(Vec<WorkIn>, WorkIn)>, StoreError> {
    let page = shared.store.all_applied(after.map(|(work, cluster)| (work, cluster)), PAGE).await?;
    let Some(last) = page.last() else { return Ok(None) };
    let last = (last.value.work.clone(), last.value.cluster.clone());
    let mut found = Vec::new();
    let mut known: Option<(WorkId, bool)> = None;
    for applied in page {
        let AppliedWork { work, cluster, .. } = &*applied.value;
        let of = applied.value.of();
        let is_there = match &known {
            Some((id, is_there)) if id == of => *is_there,
            _ => shared.store.work(of).await?.is_some(),
        };
        known = Some((of.clone(), is_there));
        if !is_there {
            found.push((work.clone(), cluster.clone()));
        }
    }
    Ok(Some((found, last)))
}
