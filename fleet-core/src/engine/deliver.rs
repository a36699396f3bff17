//! From a source to the store: deliveries are read, judged, stored as Work, and then acknowledged; in this order.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use jiff::Timestamp;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::catalog::{Condition, SourceDef, Subject};
use crate::cluster::ClusterId;
use crate::dead_letter::DeadLetter;
use crate::engine::Shared;
use crate::engine::judge::{Intention, Refusal, Verdict, judge};
use crate::engine::turns::Turn;
use crate::event::Event;
use crate::position::{Domain, Position};
use crate::source::{Delivery, EventSource, Message, Settle, SourceItem, SourceStatus};
use crate::store::StoreError;
use crate::work::{AppliedWork, Intent, Work, WorkId};

/// How often a source is told that a delivery is still worked on.
const PROGRESS: Duration = Duration::from_secs(2);
/// When a delivery that could not be stored is to come again.
const GIVE_BACK: Duration = Duration::from_secs(2);
/// For so many clusters the first plan is stored together with the Work; for more, each lane stores its own.
const PLANNED_AT_ONCE: usize = 8;

/// Reads a source until it ends or is stopped.
pub(super) async fn read(shared: Arc<Shared>, source: Arc<dyn EventSource>, stop: CancellationToken) {
    let name: Arc<str> = source.name().into();
    let opened = stop.run_until_cancelled(open(&shared, &*source, &name)).await;
    let Some(Some((mut items, mut floors))) = opened else {
        return;
    };
    let in_flight = Arc::new(Semaphore::new(shared.config.max_in_flight));
    let mut known = Arc::new(SourceDef::new(Arc::clone(&name)));
    loop {
        // The permit first: a delivery that is read is taken at once.
        let next = async {
            let permit = Arc::clone(&in_flight).acquire_owned().await.ok()?;
            Some((permit, items.next().await?))
        };
        let Some(Some((permit, item))) = stop.run_until_cancelled(next).await else {
            return;
        };
        match item {
            SourceItem::Delivery(delivery) => take(&shared, &mut known, &floors, delivery, permit),
            SourceItem::Floor(floor) => {
                raise(&shared, &name, &floor).await;
                match floors.iter_mut().find(|there| there.domain == floor.domain) {
                    Some(there) if floor.is_above(there) => *there = floor,
                    Some(_) => {}
                    None => floors.push(floor),
                }
            }
            SourceItem::Status(status) => report(&shared, &name, status),
            SourceItem::Snapshot(_) => {
                tracing::warn!(source = %name, "snapshots of keys are not supported yet; ignored");
            }
        }
    }
}

type Items = BoxStream<'static, SourceItem>;

async fn open(shared: &Shared, source: &dyn EventSource, name: &Arc<str>) -> Option<(Items, Vec<Position>)> {
    let mut failures = 0;
    let floors = loop {
        match shared.store.floors(name).await {
            Ok(floors) => break floors,
            Err(error) => {
                tracing::warn!(source = %name, %error, "floors cannot be read; trying again");
                tokio::time::sleep(shared.pause(shared.config.retry, failures)).await;
                failures += 1;
            }
        }
    };
    match source.open(floors.clone()).await {
        Ok(items) => Some((items, floors)),
        Err(error) => {
            tracing::error!(source = %name, %error, "the source cannot be opened");
            let condition =
                Condition { ready: false, reason: "ConfigurationInvalid".to_owned(), message: error.reason };
            shared.catalog.report(&Subject::Source(Arc::clone(name)), condition);
            None
        }
    }
}

async fn raise(shared: &Shared, name: &str, floor: &Position) {
    // A floor that could not be written is a floor that is not known: only later clean-up, never a wrong state.
    match shared.store.raise_floor(name, floor).await {
        Ok(()) => shared.drop_tombstones(floor).await,
        Err(error) => tracing::warn!(source = %name, %error, "a floor cannot be written"),
    }
}

fn report(shared: &Shared, name: &Arc<str>, status: SourceStatus) {
    if status.ready {
        tracing::info!(source = %name, reason = status.reason, "{}", status.message);
    } else {
        tracing::warn!(source = %name, reason = status.reason, "{}", status.message);
    }
    shared.lost.lock().insert(Arc::clone(name), status.lost);
    let condition = Condition { ready: status.ready, reason: status.reason, message: status.message };
    shared.catalog.report(&Subject::Source(Arc::clone(name)), condition);
}

/// Judges a delivery and takes its place in the queues of its keys, in the order of arrival; the rest is a task's.
fn take(
    shared: &Arc<Shared>,
    known: &mut Arc<SourceDef>,
    floors: &[Position],
    delivery: Delivery,
    permit: OwnedSemaphorePermit,
) {
    let began = Instant::now();
    shared.counters.received.add();
    let definitions = shared.definitions.load();
    // While the last deliveries of a source come whose definition is gone, its origin rule still holds: without it they
    // would go to every cluster.
    if let Some(now) = definitions.sources.get(&known.name) {
        known.clone_from(now);
    }
    let source = Arc::clone(known);
    let below_floor = delivery
        .position
        .as_ref()
        .is_some_and(|position| floors.iter().any(|floor| !position.is_above(floor)));
    let verdict = if below_floor {
        shared.counters.superseded.add();
        Verdict::Unwanted
    } else {
        let verdict = judge(&source, &delivery, &definitions, &shared.clusters);
        if matches!(verdict, Verdict::Unwanted) {
            shared.counters.unmatched.add();
        }
        verdict
    };
    let position = delivery.position.clone().unwrap_or_else(|| shared.next_position());
    let (origin, intentions, refusals) = match verdict {
        Verdict::Unwanted => (None, Vec::new(), Vec::new()),
        Verdict::Refused(refusal) => (None, Vec::new(), vec![refusal]),
        Verdict::Wanted { origin, intentions } => {
            let mut refusals = Vec::new();
            let intentions =
                intentions.into_iter().filter_map(|it| it.map_err(|refusal| refusals.push(refusal)).ok());
            let turns = intentions.map(|intention| (shared.turns.queue(&intention.id), intention)).collect();
            (origin, turns, refusals)
        }
    };
    let received = shared.now();
    let published = delivery.published.unwrap_or(received);
    let taken = Taken { source, origin, position, published, received, began, permit };
    let shared_by_task = Arc::clone(shared);
    shared.spawn(async move { taken.settle(&shared_by_task, delivery, intentions, refusals).await });
}

/// A delivery that was judged.
struct Taken {
    source: Arc<SourceDef>,
    origin: Option<ClusterId>,
    position: Position,
    /// When the transport took it, or else when it was received.
    published: Timestamp,
    received: Timestamp,
    began: Instant,
    /// Counts it among the deliveries in flight until it is settled.
    permit: OwnedSemaphorePermit,
}

impl Taken {
    /// Stores what the delivery means, then settles it.
    async fn settle(
        self,
        shared: &Arc<Shared>,
        delivery: Delivery,
        intentions: Vec<(Turn, Intention)>,
        refusals: Vec<Refusal>,
    ) {
        let Delivery { event, message, raw, settle, .. } = delivery;
        let wanted = !intentions.is_empty();
        let store = async {
            for refusal in &refusals {
                let letter = self.letter(refusal, &message, &raw);
                patiently(shared, || shared.store.add_dead_letter(Arc::clone(&letter))).await?;
                shared.counters.dead_letters.add();
                tracing::warn!(source = %self.source.name, trigger = refusal.trigger.as_deref(), reason = refusal.reason,
                    letter = letter.id, "{}", refusal.detail);
            }
            if let Ok(event) = event {
                let event = Arc::new(event);
                for (mut turn, intention) in intentions {
                    turn.come().await;
                    patiently(shared, || self.store(shared, &intention, &event, &message)).await?;
                }
            }
            Ok::<_, StoreError>(())
        };
        let stored = with_progress(&settle, store).await;
        shared.counters.durable_latency.record(self.began.elapsed());
        let settled = match (stored, refusals.first()) {
            (Ok(()), Some(refusal)) if !wanted => settle.terminate(&refusal.detail).await,
            (Ok(()), _) => settle.ack().await,
            (Err(error), _) => {
                tracing::warn!(source = %self.source.name, %error, "a delivery could not be stored; given back");
                shared.counters.given_back.add();
                settle.give_back(GIVE_BACK).await
            }
        };
        if let Err(error) = settled {
            tracing::debug!(source = %self.source.name, %error, "the delivery may come again");
        }
        drop(self.permit);
    }

    /// Stores one trigger's intent as Work, unless something newer is there, and has it looked at.
    async fn store(
        &self,
        shared: &Arc<Shared>,
        intention: &Intention,
        event: &Arc<Event>,
        message: &Arc<Message>,
    ) -> Result<(), StoreError> {
        let Intention { trigger, id, key, intent } = intention;
        loop {
            let stored = shared.store.work(id).await?;
            let (old, revision) = stored.map(|stored| (stored.value, stored.revision)).unzip();
            if let Some(old) = &old
                && !self.is_from_an_earlier_operator(old)
                && !old.positions.admits(&self.position)
            {
                shared.counters.superseded.add();
                if old.positions.in_domain(&self.position.domain) == Some(&self.position) {
                    // It may have been stored by an attempt that did not get to know, or that got no further.
                    shared.look_at(old, Some(old)).await;
                }
                return Ok(());
            }
            if old.is_none() && *intent == Intent::Delete && self.position.domain == Domain::operator() {
                // There is nothing to remove, and nothing older can come after it.
                shared.counters.superseded.add();
                return Ok(());
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
                intent: *intent,
                event: Arc::clone(event),
                message: Arc::clone(message),
                positions,
                received: self.received,
                recent: Vec::new(),
            });
            let is_new = old.as_ref().is_none_or(|old| old.intent == Intent::Delete);
            let plans = if is_new { plans(shared, trigger, &work) } else { Vec::new() };
            match shared.store.put_work(Arc::clone(&work), revision, plans).await {
                Ok(_) => {
                    shared.counters.stored.add();
                    let was_live = old.as_ref().is_some_and(|old| old.intent == Intent::Create);
                    shared.note_live(was_live, *intent == Intent::Create);
                    shared.look_at(&work, old.as_deref()).await;
                    return Ok(());
                }
                Err(error) if error.is_conflict() => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Whether the key saw an event that an operator accepted which started later than this one (two by mistake). Their
    /// sequences tell nothing of the order, so that of acceptance counts; and what has no order of its own is never
    /// delivered again, so it is no duplicate.
    fn is_from_an_earlier_operator(&self, old: &Work) -> bool {
        let operator = Domain::operator();
        self.position.domain == operator
            && old.positions.in_domain(&operator).is_some_and(|seen| seen.epoch > self.position.epoch)
    }

    fn letter(&self, refusal: &Refusal, message: &Message, raw: &bytes::Bytes) -> Arc<DeadLetter> {
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
            origin: None,
            message: message.clone(),
            raw: raw.clone(),
        })
    }
}

/// What the lanes would plan first anyway, so that it is durable in the same step as the Work. What cannot be rendered
/// is left to the lanes, which report it.
fn plans(shared: &Shared, trigger: &crate::engine::triggers::Trigger, work: &Work) -> Vec<AppliedWork> {
    if work.intent == Intent::Delete {
        return Vec::new();
    }
    let targets = trigger.targets(work.origin.as_ref(), &shared.clusters);
    if targets.iter().count() > PLANNED_AT_ONCE {
        return Vec::new();
    }
    let origin = work.origin.as_ref().and_then(|origin| shared.clusters.get(origin));
    let plan = |cluster: &Arc<crate::cluster::Cluster>| {
        let manifests = trigger.render(work, cluster, origin.as_deref()).ok()?;
        let mut applied = AppliedWork::pending(work, cluster.id.clone(), work.received);
        applied.plan(&manifests);
        Some(applied)
    };
    targets.iter().filter_map(plan).collect()
}

/// Tries until the store takes it, for as long as the store's patience lasts and the engine runs.
async fn patiently<T, F: Future<Output = Result<T, StoreError>>>(
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

/// Tells the source again and again that the delivery is worked on, while it is.
async fn with_progress<T>(settle: &Settle, work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    loop {
        match tokio::time::timeout(PROGRESS, &mut work).await {
            Ok(done) => return done,
            Err(_) => {
                // At worst it is delivered again, and seen to be a duplicate.
                let _ = settle.progress().await;
            }
        }
    }
}
