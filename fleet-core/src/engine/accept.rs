//! Accepting: what an event means for one trigger is stored as Work, unless something newer is there. Order is decided
//! here, by positions; once the Work is stored, the delivery may be acknowledged.

use std::collections::HashSet;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use parking_lot::{Mutex, RwLock};
use tokio::time::Instant;

use crate::catalog::{SourceDef, Tells};
use crate::cluster::{Cluster, ClusterId};
use crate::dead_letter::DeadLetter;
use crate::engine::Shared;
use crate::engine::judge::{Intention, Refusal};
use crate::engine::local::Part;
use crate::engine::triggers::Trigger;
use crate::event::Event;
use crate::policy::SyncMode;
use crate::position::{Domain, Position};
use crate::source::Message;
use crate::store::{Revision, StoreError};
use crate::work::{AppliedWork, Intent, RecentEvent, Work, WorkId};

/// For so many clusters the first plan is stored together with the Work; for more, each lane stores its own.
const PLANNED_AT_ONCE: usize = 8;
/// So many Works are known one by one whose last write got no answer; of more, each may be one.
const MOST_UNANSWERED: usize = 10_000;
/// So many events a key remembers by source and id, where duplicates are told by these.
const REMEMBERED: usize = 32;

/// The floors of a source, as this process knows them.
#[derive(Debug, Default)]
pub(super) struct Floors(RwLock<Vec<Position>>);

impl Floors {
    pub(super) fn of(floors: Vec<Position>) -> Self {
        Self(RwLock::new(floors))
    }

    /// Whether nothing at this position is to come any more.
    pub(super) fn cover(&self, position: &Position) -> bool {
        self.0.read().iter().any(|floor| !position.is_above(floor))
    }

    pub(super) fn raise(&self, floor: Position) {
        let mut floors = self.0.write();
        match floors.iter_mut().find(|there| there.domain == floor.domain) {
            Some(there) if floor.is_above(there) => *there = floor,
            Some(_) => {}
            None => floors.push(floor),
        }
    }
}

/// Works whose last write got no answer: one that is not there may be about to appear.
#[derive(Debug, Default)]
pub(super) struct Unanswered(Mutex<HashSet<WorkId>>);

impl Unanswered {
    fn add(&self, id: &WorkId) {
        let mut works = self.0.lock();
        if works.len() < MOST_UNANSWERED {
            works.insert(id.clone());
        }
    }

    fn remove(&self, id: &WorkId) {
        let mut works = self.0.lock();
        // Once there were too many, some are not among them.
        if works.len() < MOST_UNANSWERED {
            works.remove(id);
        }
    }

    fn may_hold(&self, id: &WorkId) -> bool {
        let works = self.0.lock();
        works.len() >= MOST_UNANSWERED || works.contains(id)
    }
}

/// An event that is taken: where it stands in the order, and when it came.
pub(super) struct Accepted {
    pub(super) source: Arc<SourceDef>,
    /// The cluster it came from.
    pub(super) origin: Option<ClusterId>,
    pub(super) position: Position,
    /// When the transport took it, or else when it was received.
    pub(super) published: Timestamp,
    pub(super) received: Timestamp,
    /// `None` for what somebody sends again by hand: there floors say nothing.
    pub(super) floors: Option<(Arc<str>, Arc<Floors>)>,
    /// If somebody sends it again at the place it had: when it was refused. It is older than whatever came since.
    pub(super) refused: Option<Timestamp>,
}

/// What an event came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It is Work now.
    Stored,
    /// Something newer of its key was processed, or itself, or what says the same of a state.
    Superseded,
    /// An event with its source and id was processed lately.
    Duplicate,
    /// It asks to remove what is not there.
    NothingThere,
}

impl Accepted {
    /// Stores one trigger's intent as Work, unless something newer is there, and has it looked at.
    pub(super) async fn store(
        &self,
        shared: &Arc<Shared>,
        intention: &Intention,
        event: &Arc<Event>,
        message: &Arc<Message>,
    ) -> Result<Outcome, StoreError> {
        let Intention { trigger, id, key, intent } = intention;
        loop {
            let stored = shared.store.work(id).await?;
            let (old, revision) = stored.map(|stored| (stored.value, stored.revision)).unzip();
            // It is Delete's time already; unless the key lives, and so waits for what else may renew it.
            let has_expired = *intent == Intent::Create
                && old.as_ref().is_none_or(|old| old.intent == Intent::Delete)
                && shared.has_expired(&trigger.def.name, self.published);
            let intent = if has_expired { Intent::Delete } else { *intent };
            if let Some(old) = &old
                && (self.came_before(old)
                    || !self.is_from_an_earlier_operator(old) && !old.positions.admits(&self.position))
            {
                shared.counters.superseded.add();
                if old.positions.in_domain(&self.position.domain) == Some(&self.position) {
                    // It may have been stored by an attempt that did not get to know, or that got no further.
                    shared.look_at(old, Some(old)).await;
                }
                return Ok(Outcome::Superseded);
            }
            if let Some(old) = old.as_ref().filter(|old| self.is_known(event, intent, old)) {
                shared.counters.superseded.add();
                shared.withdrawals.renewed(id);
                if shared.unanswered.may_hold(id) {
                    // It may have been stored by an attempt that did not get to know.
                    shared.look_at(old, Some(old)).await;
                }
                return Ok(Outcome::Superseded);
            }
            if self.is_duplicate(event, old.as_deref()) {
                shared.counters.duplicates.add();
                return Ok(Outcome::Duplicate);
            }
            let recent = self.recent(event, old.as_deref());
            if old.is_none()
                && intent == Intent::Delete
                && self.position.domain == Domain::operator()
                && recent.is_empty()
                && !shared.unanswered.may_hold(id)
            {
                // There is nothing to remove, and nothing older can come after it, unless somebody sends it by hand.
                shared.forget(&trigger.def.name, &self.position);
                if has_expired {
                    shared.counters.expired.add();
                }
                shared.counters.superseded.add();
                return Ok(Outcome::NothingThere);
            }
            let mut positions = old.as_ref().map(|old| old.positions.clone()).unwrap_or_default();
            positions.record(self.position.clone());
            let work = Arc::new(Work {
                id: id.clone(),
                trigger: Arc::clone(&trigger.def.name),
                source: Arc::clone(&self.source.name),
                key: key.clone(),
                origin: self.origin.clone(),
                generation: old.as_ref().map_or(0, |old| old.generation) + 1,
                intent,
                event: Arc::clone(event),
                message: Arc::clone(message),
                positions,
                received: self.received,
                published: Some(self.published),
                recent,
            });
            let is_new = old.as_ref().is_none_or(|old| old.intent == Intent::Delete);
            let plans = if is_new { plans(shared, trigger, &work) } else { Vec::new() };
            match shared.store.put_work(Arc::clone(&work), revision, plans).await {
                Ok(revision) => {
                    shared.unanswered.remove(id);
                    shared.withdrawals.renewed(id);
                    shared.counters.stored.add();
                    if has_expired {
                        shared.counters.expired.add();
                    }
                    let was_live = old.as_ref().is_some_and(|old| old.intent == Intent::Create);
                    shared.note_live(was_live, intent == Intent::Create);
                    shared.look_at(&work, old.as_deref()).await;
                    if old.is_none() && self.was_settled_elsewhere(shared).await {
                        self.retract(shared, &work, revision).await;
                        return Ok(Outcome::Superseded);
                    }
                    return Ok(Outcome::Stored);
                }
                Err(error) if error.is_conflict() => {}
                Err(error) => {
                    if error.is_retryable() {
                        shared.unanswered.add(id);
                    }
                    return Err(error);
                }
            }
        }
    }

    /// Whether it was refused before the key saw an event of another feed: between feeds acceptance decides.
    fn came_before(&self, old: &Work) -> bool {
        let elsewhere = |position: &Position| position.domain != self.position.domain;
        self.refused.is_some_and(|refused| old.received > refused && old.positions.iter().any(elsewhere))
    }

    /// Whether the key saw an event that an operator accepted which started later than this one (two by mistake). Their
    /// sequences tell nothing of the order, so that of acceptance counts; and what has no order of its own is never
    /// delivered again, so it is no duplicate.
    fn is_from_an_earlier_operator(&self, old: &Work) -> bool {
        let operator = Domain::operator();
        self.refused.is_none()
            && self.position.domain == operator
            && old.positions.in_domain(&operator).is_some_and(|seen| seen.epoch > self.position.epoch)
    }

    /// Whether it tells a state in which the key is known to be.
    fn is_known(&self, event: &Event, intent: Intent, old: &Work) -> bool {
        self.source.tells == Tells::States
            && old.intent == intent
            && old.source == self.source.name
            && old.origin == self.origin
            && old.event.says_the_same_as(event)
    }

    fn is_duplicate(&self, event: &Event, old: Option<&Work>) -> bool {
        let Some(window) = self.window() else { return false };
        let hash = hash(event);
        self.remembered(old)
            .iter()
            .any(|seen| seen.hash == hash && self.published.duration_since(seen.at).abs() < window)
    }

    /// What the key is to remember: this event, and those before it that are not too old.
    fn recent(&self, event: &Event, old: Option<&Work>) -> Vec<RecentEvent> {
        let Some(window) = self.window() else { return Vec::new() };
        let mut recent: Vec<_> = self
            .remembered(old)
            .iter()
            .filter(|seen| self.published.duration_since(seen.at).abs() < window)
            .cloned()
            .collect();
        recent.push(RecentEvent { hash: hash(event), at: self.published });
        let superfluous = recent.len().saturating_sub(REMEMBERED);
        recent.drain(..superfluous);
        recent
    }

    /// What the key remembers of its feed. A replay is another one: it brings all events again, on purpose.
    fn remembered<'a>(&self, old: Option<&'a Work>) -> &'a [RecentEvent] {
        let domain = &self.position.domain;
        let same = |old: &&Work| *domain == Domain::operator() || old.positions.in_domain(domain).is_some();
        old.filter(same).map(|old| old.recent.as_slice()).unwrap_or_default()
    }

    fn window(&self) -> Option<SignedDuration> {
        self.source.dedupe.map(|window| SignedDuration::try_from(window).unwrap_or(SignedDuration::MAX))
    }

    /// Whether another reader of the same feed (two operators by mistake) has settled this very delivery and raised a
    /// floor past it. Its key had no Work, so that reader has forgotten it since, and the newer event that ended it.
    async fn was_settled_elsewhere(&self, shared: &Shared) -> bool {
        let is_ordered = self.position.domain != Domain::operator();
        let Some((feed, floors)) = self.floors.as_ref().filter(|_| is_ordered) else {
            return false;
        };
        match shared.store.floors(feed).await {
            // A floor of our own never passes what is in flight here.
            Ok(stored) => {
                stored.iter().any(|floor| !self.position.is_above(floor)) && !floors.cover(&self.position)
            }
            Err(_) => false,
        }
    }

    /// Takes back a Work that was stored too late, as far as nobody else has written it since.
    async fn retract(&self, shared: &Arc<Shared>, work: &Arc<Work>, revision: Revision) {
        let gone =
            Arc::new(Work { intent: Intent::Delete, generation: work.generation + 1, ..(**work).clone() });
        match shared.store.put_work(Arc::clone(&gone), Some(revision), Vec::new()).await {
            Ok(_) => {
                shared.note_live(work.intent == Intent::Create, false);
                shared.look_at(&gone, Some(work)).await;
            }
            Err(error) if error.is_conflict() => {}
            Err(error) => tracing::warn!(work = %work.id, %error, "a Work that came too late stays"),
        }
    }

    /// What is kept of a delivery that was refused.
    pub(super) fn letter(
        &self,
        refusal: &Refusal,
        origin: Option<&ClusterId>,
        message: &Message,
        raw: &bytes::Bytes,
    ) -> Arc<DeadLetter> {
        // The same for a delivery that comes again, as far as its source gives it a place and a time.
        let of = [&*self.source.name, &self.position.to_string()];
        let hash = WorkId::of_parts(refusal.trigger.as_deref().unwrap_or_default(), &of);
        Arc::new(DeadLetter {
            id: format!("{:013}-{}", self.published.as_millisecond().max(0), hash.hash()),
            source: self.source.name.as_ref().to_owned(),
            trigger: refusal.trigger.as_deref().map(str::to_owned),
            reason: refusal.reason.to_owned(),
            detail: refusal.detail.clone(),
            time: self.received,
            position: Some(self.position.clone()),
            origin: origin.cloned(),
            message: message.clone(),
            raw: raw.clone(),
        })
    }
}

/// A hash over what makes an event the same for those who look at its source and id.
fn hash(event: &Event) -> String {
    WorkId::of_parts("", &[event.source(), event.id()]).hash().to_owned()
}

/// What the lanes would plan first anyway, so that it is durable in the same step as the Work. What cannot be rendered
/// is left to the lanes, which report it.
fn plans(shared: &Shared, trigger: &Trigger, work: &Work) -> Vec<AppliedWork> {
    let is_planned_there = !trigger.is_together() && trigger.has(Part::Remote);
    if work.intent == Intent::Delete || trigger.def.policy.sync == SyncMode::DryRun || !is_planned_there {
        return Vec::new();
    }
    let targets = trigger.targets(work.origin.as_ref(), &shared.clusters);
    if targets.iter().count() > PLANNED_AT_ONCE {
        return Vec::new();
    }
    let origin = work.origin.as_ref().and_then(|origin| shared.clusters.origin(origin));
    let plan = |cluster: &Arc<Cluster>| {
        let mut look = shared.known_resources();
        let manifests = trigger.render(Part::Remote, work, cluster, origin.as_deref(), &mut look);
        let manifests = manifests.ok()?.manifests;
        let mut applied = AppliedWork::pending(work, cluster.id.clone(), work.received);
        applied.plan(&manifests);
        Some(applied)
    };
    targets.iter().filter_map(plan).collect()
}

/// Tries until the store takes it, for as long as the store's patience lasts and the engine runs.
pub(super) async fn patiently<T, F: Future<Output = Result<T, StoreError>>>(
    shared: &Shared,
    attempt: impl Fn() -> F,
) -> Result<T, StoreError> {
    let until = Instant::now() + shared.config.store_patience;
    let mut failures = 0;
    loop {
        match attempt().await {
            Err(error) if error.is_retryable() && Instant::now() < until => {
                let pause = tokio::time::sleep(shared.pause(shared.config.retry, failures));
                if shared.stop.run_until_cancelled(pause).await.is_none() {
                    return Err(error);
                }
                failures += 1;
            }
            result => return result,
        }
    }
}
