//! Reading one feed for the hub.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fleet_core::dead_letter::DeadLetter;
use fleet_core::position::{Domain, Position};
use fleet_core::source::{Delivery, EventSource, SourceItem, SourceStatus};
use fleet_core::store::StoreError;
use futures::StreamExt as _;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::outbox::{Letter, Never, name};
use super::{ON_THEIR_WAY, Shared};
use crate::client::Patience;

/// How often a feed is asked how far it is settled, where keys expire.
const ASK: Duration = Duration::from_secs(5);
/// How often a source is told that a delivery is still worked on.
const PROGRESS: Duration = Duration::from_secs(2);
/// When what a sender was not rid of in time is to be sent again.
const GIVE_BACK: Duration = Duration::from_secs(2);

/// Reads a feed until it ends.
pub(super) async fn read(shared: Arc<Shared>, source: Arc<dyn EventSource>, patience: Option<Duration>) {
    // Floors of what is handed on, beside those of what is done here.
    let ledger = format!("{}{}", source.feed(), super::RELAY_SUFFIX);
    let floors = patiently(|| shared.store.floors(&ledger)).await;
    // Of this reading: what the next one counts is above all of this, in the same process, too.
    let domain = Domain::new("relay");
    let epoch = patiently(|| shared.store.next_epoch(&domain)).await;
    shared.note(&*source, true, |feed| {
        feed.floors = floors.iter().map(|floor| (floor.domain.clone(), floor.clone())).collect();
    });
    let mut items = match source.open(floors).await {
        Ok(items) => items,
        Err(error) => {
            tracing::error!(source = source.feed(), "it cannot be opened for the hub: {error}");
            let reason = "ConfigurationInvalid".to_owned();
            let status = SourceStatus { ready: false, reason, message: error.reason, lost: 0 };
            return shared.note(&*source, false, |feed| feed.status = Some(status));
        }
    };
    let mut reading = Reading {
        shared,
        source,
        patience,
        permits: Arc::new(Semaphore::new(ON_THEIR_WAY)),
        tasks: JoinSet::new(),
        under_way: Arc::default(),
        epoch,
        sequence: 0,
    };
    let mut ask = interval(ASK);
    ask.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let next = async {
            let permit = Arc::clone(&reading.permits).acquire_owned().await.ok()?;
            Some((permit, items.next().await?))
        };
        tokio::select! {
            item = next => match item {
                Some((permit, SourceItem::Delivery(delivery))) => reading.take(delivery, permit),
                Some((_, SourceItem::Floor(floor))) => {
                    patiently(|| reading.shared.store.raise_floor(&ledger, &floor)).await;
                    reading.shared.note(&*reading.source, true, |feed| {
                        feed.floors.insert(floor.domain.clone(), floor);
                    });
                }
                Some((_, SourceItem::Settled(until))) => {
                    reading.shared.note(&*reading.source, true, |feed| feed.settled = Some(until));
                }
                Some((_, SourceItem::Status(status))) => {
                    reading.shared.note(&*reading.source, false, |feed| feed.status = Some(status));
                }
                Some(_) => {}
                None => break,
            },
            Some(_) = reading.tasks.join_next() => {}
            _ = ask.tick() => reading.ask(),
        }
    }
    // What was read is still handed on.
    while reading.tasks.join_next().await.is_some() {}
}

struct Reading {
    shared: Arc<Shared>,
    source: Arc<dyn EventSource>,
    patience: Option<Duration>,
    permits: Arc<Semaphore>,
    /// Deliveries on their way.
    tasks: JoinSet<()>,
    /// When those of these were published that the hub is to have.
    under_way: Arc<UnderWay>,
    epoch: u64,
    sequence: u64,
}

/// When events were published that are on their way to the hub, by a number of each.
#[derive(Default)]
struct UnderWay(Mutex<BTreeMap<u64, Timestamp>>);

impl UnderWay {
    fn begins(&self, number: u64, published: Timestamp) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(number, published);
    }

    fn ends(&self, number: u64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
    }

    /// Up to when everything that was published before `now` is handed on; what was published with the first that is not may
    /// be under way as well.
    fn settled(&self, now: Timestamp) -> Option<Timestamp> {
        let first = self.0.lock().unwrap_or_else(PoisonError::into_inner).values().min().copied();
        first.map_or(Some(now), |first| first.checked_sub(SignedDuration::from_millis(1)).ok())
    }
}

impl Reading {
    fn take(&mut self, delivery: Delivery, permit: OwnedSemaphorePermit) {
        if !self.shared.wants(self.source.name(), &delivery) {
            self.tasks.spawn(async move {
                // At worst it comes again.
                let _ = delivery.settle.ack().await;
                drop(permit);
            });
            return;
        }
        self.sequence += 1;
        let position = delivery.position.clone().unwrap_or_else(|| Position {
            domain: Domain::new(format!("{} by its agent", self.source.feed())),
            epoch: self.epoch,
            sequence: self.sequence,
        });
        // What says nothing of it came just now.
        let published = delivery.published.unwrap_or_else(Timestamp::now);
        let (shared, source, patience) = (Arc::clone(&self.shared), Arc::clone(&self.source), self.patience);
        let (under_way, number) = (Arc::clone(&self.under_way), self.sequence);
        under_way.begins(number, published);
        self.tasks.spawn(async move {
            hand_on(&shared, source.name(), delivery, (&position, published), patience).await;
            under_way.ends(number);
            drop(permit);
        });
    }

    /// Where keys expire, the hub has to know what may still come.
    fn ask(&self) {
        if self.shared.has_ttl(self.source.name())
            && !self.source.report_settled()
            // Nothing waits in the transport, and this is what waits here.
            && let Some(until) = self.under_way.settled(Timestamp::now())
        {
            self.shared.note(&*self.source, true, |feed| feed.settled = Some(until));
        }
    }
}

/// Hands a delivery on, and settles it.
async fn hand_on(
    shared: &Shared,
    source: &str,
    delivery: Delivery,
    (position, published): (&Position, Timestamp),
    patience: Option<Duration>,
) {
    let Delivery { message, raw, settle, .. } = delivery;
    let letter = Letter { source, position, published, message: &message, body: &raw };
    let sent = {
        let mut send = pin!(async {
            let send = shared.outbox.send(&letter);
            match patience {
                Some(patience) => timeout(patience, send).await.ok(),
                None => Some(send.await),
            }
        });
        loop {
            match timeout(PROGRESS, send.as_mut()).await {
                Ok(sent) => break sent,
                // At worst it is delivered again, and is there already.
                Err(_) => _ = settle.progress().await,
            }
        }
    };
    let settled = match sent {
        Some(Ok(())) => settle.ack().await,
        Some(Err(Never(why))) => {
            let detail = format!("the hub will never take it: {why}");
            tracing::warn!(source, "an event for other clusters is refused: {detail}");
            let letter = Arc::new(DeadLetter {
                id: format!(
                    "{:013}-{}",
                    published.as_millisecond().max(0),
                    name(&[source, &position.to_string()])
                ),
                source: source.to_owned(),
                trigger: None,
                reason: "NotRelayed".to_owned(),
                detail: detail.clone(),
                time: Timestamp::now(),
                position: Some(position.clone()),
                origin: None,
                message: (*message).clone(),
                raw: raw.clone(),
            });
            patiently(|| shared.store.add_dead_letter(Arc::clone(&letter))).await;
            settle.terminate(&detail).await
        }
        None => settle.give_back(GIVE_BACK).await,
    };
    if let Err(error) = settled {
        tracing::debug!(source, %error, "the delivery may come again");
    }
}

/// Tries until the agent's own store does it.
async fn patiently<T, F: Future<Output = Result<T, StoreError>>>(attempt: impl Fn() -> F) -> T {
    let mut patience = Patience::default();
    loop {
        match attempt().await {
            Ok(done) => return done,
            Err(error) => {
                tracing::warn!(%error, "the agent's store cannot be used; trying again");
                sleep(patience.next().unwrap_or(PROGRESS)).await;
            }
        }
    }
}
