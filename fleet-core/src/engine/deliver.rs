//! From a source to the store: deliveries are read, judged, stored as Work, and then acknowledged; in this order.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::catalog::{SourceDef, Subject};
use crate::dead_letter::DeadLetterBox;
use crate::engine::Shared;
use crate::engine::accept::{Accepted, Floors, patiently};
use crate::engine::judge::{Intention, Refusal, Verdict, judge};
use crate::engine::recent::{Arrival, DeliveryFate, Number};
use crate::engine::snapshots;
use crate::engine::turns::Turn;
use crate::position::Position;
use crate::source::{Delivery, EventSource, Settle, SourceItem, SourceStatus};
use crate::store::StoreError;

/// How often a source is told that a delivery is still worked on.
const PROGRESS: Duration = Duration::from_secs(2);
/// When a delivery that could not be stored is to come again.
const GIVE_BACK: Duration = Duration::from_secs(2);

/// A source that is read, and where its dead letters go.
#[derive(Clone)]
pub(super) struct Attached {
    pub(super) source: Arc<dyn EventSource>,
    pub(super) letters: Arc<dyn DeadLetterBox>,
    /// Bounds the deliveries in flight.
    pub(super) in_flight: Arc<Semaphore>,
    /// Ends the reading.
    pub(super) stop: CancellationToken,
}

/// Reads a source until it ends or is stopped.
pub(super) async fn read(shared: Arc<Shared>, attached: Attached) {
    let Attached { source, letters, in_flight, stop } = attached;
    let feed: Arc<str> = source.feed().into();
    let opened = stop.run_until_cancelled(open(&shared, &*source, &feed)).await;
    let Some(Some((mut items, floors))) = opened else {
        return;
    };
    let mut reader = Reader {
        shared,
        letters,
        known: Arc::new(SourceDef::new(source.name())),
        feed: Arc::clone(&feed),
        floors: Arc::new(Floors::of(floors)),
        is_unknown: false,
        is_full: false,
    };
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
            SourceItem::Delivery(delivery) => reader.take(delivery, permit),
            SourceItem::Floor(floor) => {
                if stop.run_until_cancelled(raise(&reader.shared, &feed, &floor)).await.is_none() {
                    return;
                }
                reader.floors.raise(floor);
            }
            SourceItem::Settled(until) => reader.shared.expiries.settled(&feed, until),
            SourceItem::Status(status) => report(&reader.shared, &*source, status),
            SourceItem::Snapshot(snapshot) => {
                drop(permit);
                let most = reader.shared.config.max_in_flight;
                let source = Arc::clone(reader.definition());
                let taken = snapshots::take(&reader.shared, &source, &in_flight, most, snapshot);
                if stop.run_until_cancelled(taken).await.is_none() {
                    return;
                }
            }
        }
    }
}

type Items = BoxStream<'static, SourceItem>;

async fn open(shared: &Shared, source: &dyn EventSource, feed: &Arc<str>) -> Option<(Items, Vec<Position>)> {
    let mut failures = 0;
    let floors = loop {
        match shared.store.floors(feed).await {
            Ok(floors) => break floors,
            Err(error) => {
                tracing::warn!(source = %feed, %error, "floors cannot be read; trying again");
                tokio::time::sleep(shared.pause(shared.config.retry, failures)).await;
                failures += 1;
            }
        }
    };
    for floor in &floors {
        shared.drop_tombstones(feed, floor).await;
    }
    match source.open(floors.clone()).await {
        Ok(items) => Some((items, floors)),
        Err(error) => {
            tracing::error!(source = %feed, %error, "the source cannot be opened");
            let reason = "ConfigurationInvalid".to_owned();
            let status = SourceStatus { ready: false, reason, message: error.reason, lost: 0 };
            shared.report_source(source, status);
            None
        }
    }
}

/// Stores a floor before anything else is read: the source does not tell it again.
async fn raise(shared: &Shared, feed: &Arc<str>, floor: &Position) {
    let mut failures = 0;
    loop {
        match shared.store.raise_floor(feed, floor).await {
            Ok(()) => return shared.drop_tombstones(feed, floor).await,
            Err(error) if error.is_retryable() => {
                tracing::warn!(source = %feed, %error, "a floor cannot be written; trying again");
                tokio::time::sleep(shared.pause(shared.config.retry, failures)).await;
                failures += 1;
            }
            // Not known, it is only later clean-up.
            Err(error) => return tracing::warn!(source = %feed, %error, "a floor cannot be written"),
        }
    }
}

fn report(shared: &Shared, source: &dyn EventSource, status: SourceStatus) {
    let feed = source.feed();
    if status.ready {
        tracing::info!(source = %feed, reason = status.reason, "{}", status.message);
    } else {
        tracing::warn!(source = %feed, reason = status.reason, "{}", status.message);
    }
    shared.report_source(source, status);
}

impl Shared {
    fn report_source(&self, source: &dyn EventSource, status: SourceStatus) {
        if let Some(condition) = self.feeds.report(source.feed(), status) {
            self.catalog.report(&Subject::Source(source.name().into()), condition);
        }
    }
}

/// What reading a source needs from one delivery to the next.
struct Reader {
    shared: Arc<Shared>,
    letters: Arc<dyn DeadLetterBox>,
    /// The source's definition, as last known.
    known: Arc<SourceDef>,
    /// The feed of it that is read.
    feed: Arc<str>,
    floors: Arc<Floors>,
    /// Whether it was said that there is no such definition.
    is_unknown: bool,
    /// Whether deliveries are held back because there are as many tombstones as there may be.
    is_full: bool,
}

impl Reader {
    /// The source's definition. While the last deliveries of a source come whose definition is gone, its origin rule still
    /// holds: without it they would go to every cluster.
    fn definition(&mut self) -> &Arc<SourceDef> {
        match self.shared.definitions.load().sources.get(&self.known.name) {
            Some(now) => self.known.clone_from(now),
            None if !self.is_unknown => {
                self.is_unknown = true;
                let name = &self.known.name;
                tracing::warn!(source = %name, "no EventSource of that name is defined: what comes from it is acknowledged, \
                    and nothing is made of it; define it, or give the source that is attached its name");
            }
            None => {}
        }
        &self.known
    }

    /// Judges a delivery and takes its place in the queues of its keys, in the order of arrival; the rest is a task's.
    fn take(&mut self, delivery: Delivery, permit: OwnedSemaphorePermit) {
        let began = Instant::now();
        let shared = &self.shared;
        shared.counters.received.add();
        if self.is_too_full(&delivery) {
            let shared = Arc::clone(&self.shared);
            self.shared.spawn(async move {
                shared.counters.given_back.add();
                // At worst it comes again by itself.
                let _ = delivery.settle.give_back(GIVE_BACK).await;
                drop(permit);
            });
            return;
        }
        self.definition();
        let shared = &self.shared;
        let definitions = shared.definitions.load();
        let mut fate = DeliveryFate::UnderWay;
        let verdict = if delivery.position.as_ref().is_some_and(|position| self.floors.cover(position)) {
            shared.counters.superseded.add();
            fate = DeliveryFate::Superseded;
            Verdict::Unwanted
        } else {
            let verdict = judge(&self.known, &delivery, None, &definitions, &shared.clusters);
            if matches!(verdict, Verdict::Unwanted) {
                shared.counters.unmatched.add();
                fate = DeliveryFate::Unwanted;
            }
            verdict
        };
        let position = delivery.position.clone().unwrap_or_else(|| shared.next_position());
        let (origin, intentions, refusals) = match verdict {
            Verdict::Unwanted => (None, Vec::new(), Vec::new()),
            Verdict::Refused(refusal) => {
                fate = DeliveryFate::Refused(refusal.reason);
                (None, Vec::new(), vec![refusal])
            }
            Verdict::Wanted { origin, intentions } => {
                let mut refusals = Vec::new();
                let intentions =
                    intentions.into_iter().filter_map(|it| it.map_err(|refusal| refusals.push(refusal)).ok());
                let turns: Vec<_> =
                    intentions.map(|intention| (shared.turns.queue(&intention.id), intention)).collect();
                (origin, turns, refusals)
            }
        };
        let received = shared.now();
        let arrival = Arrival {
            received,
            published: delivery.published,
            source: &self.known.name,
            event: delivery.event.as_ref().ok(),
            origin: origin.as_ref().or(delivery.origin.as_ref()),
            fate,
        };
        let works = intentions.iter().map(|(_, it)| (&it.trigger.def.name, it.doer(), it.intent));
        let refused = refusals.iter().filter_map(|it| Some((it.trigger.as_ref()?, it.reason)));
        let number = shared.recent.arrive(&arrival, works, refused);
        let published = delivery.published.unwrap_or(received);
        let source = Arc::clone(&self.known);
        let floors = Some((Arc::clone(&self.feed), Arc::clone(&self.floors)));
        let accepted = Accepted { source, origin, position, published, received, floors, refused: None };
        let taken = Taken { accepted, letters: Arc::clone(&self.letters), began, number, permit };
        let shared_by_task = Arc::clone(shared);
        shared.spawn(async move { taken.settle(&shared_by_task, delivery, intentions, refusals).await });
    }

    /// Whether a delivery has to wait until floors have made tombstones superfluous. What lies below a tombstone is
    /// taken all the same: the floor cannot pass before that is settled.
    fn is_too_full(&mut self, delivery: &Delivery) -> bool {
        let tombstones = &self.shared.tombstones;
        let full = tombstones.len() >= self.shared.config.max_tombstones;
        if full != self.is_full {
            self.is_full = full;
            let (source, most) = (&self.known.name, self.shared.config.max_tombstones);
            if full {
                tracing::warn!(%source, most, "as many tombstones as there may be: reading pauses until older messages are settled");
            } else {
                tracing::info!(%source, "reading goes on");
            }
        }
        full && delivery.position.as_ref().is_some_and(|position| tombstones.wait_below(position))
    }
}

/// A delivery that was judged.
struct Taken {
    accepted: Accepted,
    letters: Arc<dyn DeadLetterBox>,
    began: Instant,
    number: Number,
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
        let Delivery { event, origin, message, raw, settle, .. } = delivery;
        let wanted = !intentions.is_empty();
        let source = &self.accepted.source.name;
        let store = async {
            for refusal in &refusals {
                let letter = self.accepted.letter(refusal, origin.as_ref(), &message, &raw);
                patiently(shared, || self.letters.add(Arc::clone(&letter))).await?;
                shared.counters.dead_letters.add();
                tracing::warn!(%source, trigger = refusal.trigger.as_deref(), reason = refusal.reason,
                    letter = letter.id, "{}", refusal.detail);
            }
            if let Ok(event) = event {
                let event = Arc::new(event);
                for (place, (mut turn, intention)) in intentions.into_iter().enumerate() {
                    turn.come().await;
                    let outcome =
                        patiently(shared, || self.accepted.store(shared, &intention, &event, &message))
                            .await?;
                    shared.recent.stored(self.number, place, outcome);
                }
            }
            Ok::<_, StoreError>(())
        };
        // Moved around, it would be copied, and kept more than once.
        let store = std::pin::pin!(store);
        let stored = shared.cut.run_until_cancelled(with_progress(&settle, store)).await;
        let stored = stored.unwrap_or_else(|| Err(StoreError::Unavailable("the engine stops".to_owned())));
        shared.counters.durable_latency.record(self.began.elapsed());
        let fate = if stored.is_ok() { DeliveryFate::Settled } else { DeliveryFate::GivenBack };
        shared.recent.settled(self.number, fate);
        let settled = match (stored, refusals.first()) {
            (Ok(()), Some(refusal)) if !wanted => settle.terminate(&refusal.detail).await,
            (Ok(()), _) => settle.ack().await,
            (Err(error), _) => {
                tracing::warn!(%source, %error, "a delivery could not be stored; given back");
                shared.counters.given_back.add();
                // Whoever reads next need not wait.
                let delay = if shared.stop.is_cancelled() { Duration::ZERO } else { GIVE_BACK };
                settle.give_back(delay).await
            }
        };
        if let Err(error) = settled {
            tracing::debug!(%source, %error, "the delivery may come again");
        }
        drop(self.permit);
    }
}

/// Tells the source again and again that the delivery is worked on, while it is.
async fn with_progress<T>(settle: &Settle, mut work: Pin<&mut impl Future<Output = T>>) -> T {
    loop {
        match tokio::time::timeout(PROGRESS, work.as_mut()).await {
            Ok(done) => return done,
            Err(_) => {
                // At worst it is delivered again, and seen to be a duplicate.
                let _ = settle.progress().await;
            }
        }
    }
}
