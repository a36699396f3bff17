//! A feed in memory that can do everything a source can do, and break every rule.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use fleet_core::event::{DecodeError, Event};
use fleet_core::position::{Domain, Position};
use fleet_core::source::{
    Delivery, EventSource, Live, Message, Settle, SettleError, Settler, Snapshot, SourceError, SourceItem,
    SourceStatus,
};
use futures::StreamExt;
use futures::stream::BoxStream;
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

/// After that long, whoever holds a message has to have said something.
pub(crate) const DEADLINE: Duration = Duration::from_millis(200);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    DeliversOneTwice,
    ForgetsExtensions,
    SkipsWhatIsNone,
    CannotDecode,
    EndsAfterTheFirst,
    NeverHeals,
    OpensOnlyConnected,
    LosesDropped,
    IgnoresDelays,
    RepeatsAcknowledged,
    RepeatsTerminated,
    IgnoresProgress,
    LosesHeldAtTheEnd,
    CountsDeliveries,
    CountsOnAnew,
    CountsAnewInTheNextProcess,
    HasPositionsNonetheless,
    RaisesFloorsEarly,
    ForgetsFloors,
    SettledIsDelivered,
    ListsOnlyOne,
    ListsOnce,
    ListsNothingWhenDown,
    TellsNothingAgain,
    ListsNothingAgain,
    ReadsAhead,
    SettlesByStream,
    ReadsOn,
}

/// What all sources on it share.
pub(crate) struct Transport {
    pub(crate) fault: Fault,
    state: Mutex<State>,
    changed: watch::Sender<()>,
}

struct State {
    log: Vec<Entry>,
    epoch: u64,
    up: bool,
    was_down: bool,
    deliveries: u64,
    read_on: bool,
    listed: bool,
}

struct Entry {
    raw: Bytes,
    published: Timestamp,
    settled: bool,
    out: Option<Instant>,
    due: Instant,
    times: u64,
}

impl Transport {
    pub(crate) fn new(fault: Fault) -> Arc<Self> {
        let state = State {
            log: Vec::new(),
            epoch: 1,
            up: true,
            was_down: false,
            deliveries: 0,
            read_on: false,
            listed: false,
        };
        Arc::new(Self { fault, state: Mutex::new(state), changed: watch::Sender::new(()) })
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let changed = change(&mut self.state.lock());
        self.changed.send_replace(());
        changed
    }

    pub(crate) fn publish(&self, raw: Bytes) {
        self.change(|state| {
            let (published, due) = (Timestamp::now(), Instant::now());
            let out = state.read_on.then(Instant::now);
            state.log.push(Entry { raw, published, settled: false, out, due, times: 0 });
        });
    }

    /// Everything that was ever published is gone, and settled.
    pub(crate) fn begin_anew(&self) {
        self.change(|state| {
            state.log.clear();
            state.epoch += u64::from(self.fault != Fault::CountsOnAnew);
        });
    }

    pub(crate) fn set_up(&self, up: bool) {
        self.change(|state| {
            state.up = up;
            state.was_down |= !up;
        });
    }

    pub(crate) fn taken(&self) -> u64 {
        self.state.lock().log.iter().filter(|entry| entry.out.is_some()).count() as u64
    }

    pub(crate) fn live(&self) -> BTreeSet<(String, String)> {
        let state = self.state.lock();
        let event = |entry: &Entry| Event::from_json(&entry.raw).ok();
        let pair = |it: Event| Some((it.source().to_owned(), it.subject()?.to_owned()));
        state.log.iter().filter_map(event).filter_map(pair).collect()
    }
}

pub(crate) struct Feed {
    transport: Arc<Transport>,
    asked: Arc<AtomicBool>,
    again: Arc<AtomicBool>,
}

impl Feed {
    pub(crate) fn new(transport: &Arc<Transport>) -> Self {
        // The next process: what nobody holds any more is there again.
        let mut state = transport.state.lock();
        match transport.fault {
            Fault::ForgetsFloors => state.log.iter_mut().for_each(|entry| entry.settled = false),
            // It hears of a new log only while it reads.
            Fault::CountsAnewInTheNextProcess if state.epoch > 2 => state.epoch = 2,
            _ => {}
        }
        drop(state);
        Self { transport: Arc::clone(transport), asked: Arc::default(), again: Arc::default() }
    }
}

#[async_trait]
impl EventSource for Feed {
    fn name(&self) -> &str {
        "feed"
    }

    async fn open(&self, _floors: Vec<Position>) -> Result<BoxStream<'static, SourceItem>, SourceError> {
        let fault = self.transport.fault;
        if fault == Fault::OpensOnlyConnected && !self.transport.state.lock().up {
            return Err(SourceError { reason: "the transport cannot be reached".to_owned() });
        }
        let reading = Reading {
            transport: Arc::clone(&self.transport),
            asked: Arc::clone(&self.asked),
            again: Arc::clone(&self.again),
            open: Arc::new(()),
            up: None,
            floor: at(1, 0),
            listed: false,
            opened: Instant::now(),
        };
        let items =
            futures::stream::unfold(
                reading,
                |mut reading| async move { Some((reading.next().await?, reading)) },
            );
        if fault == Fault::ReadsAhead {
            let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
            tokio::spawn(async move {
                let mut items = std::pin::pin!(items);
                while let Some(item) = items.next().await {
                    if sender.send(item).is_err() {
                        break;
                    }
                }
            });
            let receive = async |mut receiver: tokio::sync::mpsc::UnboundedReceiver<_>| {
                Some((receiver.recv().await?, receiver))
            };
            return Ok(futures::stream::unfold(receiver, receive).boxed());
        }
        Ok(items.boxed())
    }

    fn report_settled(&self) -> bool {
        self.asked.store(true, Ordering::Relaxed);
        self.transport.changed.send_replace(());
        true
    }

    /// What is told again has a place of its own.
    fn tell_again(&self) {
        let fault = self.transport.fault;
        if fault == Fault::TellsNothingAgain {
            return;
        }
        let live: Vec<_> = self.transport.state.lock().log.iter().map(|entry| entry.raw.clone()).collect();
        live.into_iter().for_each(|raw| self.transport.publish(raw));
        self.again.store(fault != Fault::ListsNothingAgain, Ordering::Relaxed);
    }

    fn decode(&self, _message: &Message, raw: &Bytes) -> Result<Event, DecodeError> {
        let raw: &[u8] = if self.transport.fault == Fault::CannotDecode { b"" } else { raw };
        Event::from_json(raw)
    }
}

/// An open stream.
struct Reading {
    transport: Arc<Transport>,
    asked: Arc<AtomicBool>,
    again: Arc<AtomicBool>,
    open: Arc<()>,
    up: Option<bool>,
    floor: Position,
    listed: bool,
    opened: Instant,
}

impl Reading {
    async fn next(&mut self) -> Option<SourceItem> {
        let mut changed = self.transport.changed.subscribe();
        loop {
            if let Some(item) = self.look() {
                return Some(item);
            }
            if self.transport.fault == Fault::EndsAfterTheFirst && self.opened.elapsed() > DEADLINE {
                let state = self.transport.state.lock();
                if state.log.len() == 1 && state.log[0].settled {
                    return None;
                }
            }
            tokio::select! {
                _ = changed.changed() => {}
                () = tokio::time::sleep(Duration::from_millis(10)) => {}
            }
        }
    }

    fn look(&mut self) -> Option<SourceItem> {
        let fault = self.transport.fault;
        let state = &mut *self.transport.state.lock();
        let up = state.up && !(fault == Fault::NeverHeals && state.was_down && state.deliveries > 0);
        if self.up.replace(up) != Some(up) {
            return Some(SourceItem::Status(if up {
                SourceStatus::ready("Connected", "reading")
            } else {
                SourceStatus::trouble("Unreachable", "the transport cannot be reached")
            }));
        }
        if !up && (self.listed || fault != Fault::ListsNothingWhenDown) {
            return None;
        }
        self.listed &= !self.again.swap(false, Ordering::Relaxed);
        if !std::mem::replace(&mut self.listed, true) {
            let events = state.log.iter().filter_map(|entry| Event::from_json(&entry.raw).ok());
            let mut subjects: BTreeSet<_> = events.filter_map(|it| it.subject().map(str::to_owned)).collect();
            match fault {
                Fault::ListsOnlyOne => subjects = subjects.into_iter().take(1).collect(),
                Fault::ListsNothingWhenDown if !up => subjects.clear(),
                _ => {}
            }
            if fault == Fault::ListsOnce && std::mem::replace(&mut state.listed, true) {
                return None;
            }
            let live = Live::Subjects { source: "kit".to_owned(), subjects };
            return Some(SourceItem::Snapshot(Snapshot { origin: None, live, position: None }));
        }
        let over =
            |entry: &&Entry| entry.settled || (fault == Fault::RaisesFloorsEarly && entry.out.is_some());
        let floor = at(state.epoch, state.log.iter().take_while(over).count() as u64);
        if floor.is_above(&self.floor) && floor.sequence > 0 {
            self.floor = floor.clone();
            return Some(SourceItem::Floor(floor));
        }
        if self.asked.swap(false, Ordering::Relaxed) {
            let open = |entry: &&Entry| {
                !entry.settled && (fault != Fault::SettledIsDelivered || entry.out.is_none())
            };
            let oldest = state.log.iter().find(open).map(|entry| entry.published);
            return Some(SourceItem::Settled(oldest.unwrap_or_else(Timestamp::now)));
        }
        let free = |entry: &Entry| match entry.out {
            None => !entry.settled && entry.due <= Instant::now(),
            Some(since) => fault == Fault::IgnoresProgress && !entry.settled && since.elapsed() > DEADLINE,
        };
        let index = state.log.iter().position(free)?;
        if fault == Fault::DeliversOneTwice && index == 6 {
            let Entry { ref raw, published, due, .. } = state.log[index];
            let again = Entry { raw: raw.clone(), published, settled: false, out: None, due, times: 0 };
            state.log.push(again);
        }
        let entry = &mut state.log[index];
        entry.out = Some(Instant::now());
        entry.times += 1;
        state.deliveries += 1;
        let mut event = Event::from_json(&entry.raw);
        if fault == Fault::SkipsWhatIsNone && event.is_err() {
            entry.settled = true;
            return None;
        }
        if let (Fault::ForgetsExtensions, Ok(whole)) = (fault, &event) {
            let mut less = whole.to_json();
            less.as_object_mut().unwrap().remove("traceparent");
            event = Event::from_json(less.to_string().as_bytes());
        }
        let sequence = if fault == Fault::CountsDeliveries { state.deliveries } else { index as u64 + 1 };
        let (transport, open) = (Arc::clone(&self.transport), Arc::downgrade(&self.open));
        let held = Held { transport, index, open, settled: false };
        Some(SourceItem::Delivery(Delivery {
            position: Some(at(state.epoch, sequence)),
            published: Some(entry.published),
            ..Delivery::new(event, entry.raw.clone(), Settle::new(held))
        }))
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        let mut state = self.transport.state.lock();
        // Somebody still takes what comes, and nobody hears of it.
        state.read_on = self.transport.fault == Fault::ReadsOn && state.deliveries == 0;
    }
}

fn at(epoch: u64, sequence: u64) -> Position {
    Position { domain: Domain::new("feed"), epoch, sequence }
}

struct Held {
    transport: Arc<Transport>,
    index: usize,
    open: std::sync::Weak<()>,
    settled: bool,
}

impl Held {
    fn settle(&mut self, settle: impl FnOnce(&mut Entry)) -> Result<(), SettleError> {
        self.settled = true;
        if self.transport.fault == Fault::SettlesByStream && self.open.strong_count() == 0 {
            return Err(SettleError("the stream is closed".to_owned()));
        }
        self.transport.change(|state| settle(&mut state.log[self.index]));
        Ok(())
    }

    fn over(entry: &mut Entry) {
        entry.out = None;
        entry.settled = true;
    }

    fn again(entry: &mut Entry, delay: Duration) {
        entry.out = None;
        entry.due = Instant::now() + delay;
    }
}

#[async_trait]
impl Settler for Held {
    async fn ack(mut self: Box<Self>) -> Result<(), SettleError> {
        let repeat = self.transport.fault == Fault::RepeatsAcknowledged;
        self.settle(|entry| match repeat && entry.times == 1 {
            true => Self::again(entry, DEADLINE),
            false => Self::over(entry),
        })
    }

    async fn give_back(mut self: Box<Self>, delay: Duration) -> Result<(), SettleError> {
        let delay = if self.transport.fault == Fault::IgnoresDelays { Duration::ZERO } else { delay };
        self.settle(|entry| Self::again(entry, delay))
    }

    async fn terminate(mut self: Box<Self>, _reason: &str) -> Result<(), SettleError> {
        let repeat = self.transport.fault == Fault::RepeatsTerminated;
        self.settle(|entry| match repeat {
            true => Self::again(entry, DEADLINE),
            false => Self::over(entry),
        })
    }

    async fn progress(&self) -> Result<(), SettleError> {
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.settled {
            return;
        }
        let fault = self.transport.fault;
        let alone = self.transport.state.lock().log.len() == 1;
        let lost = match self.open.strong_count() {
            0 => fault == Fault::LosesHeldAtTheEnd,
            _ => fault == Fault::LosesDropped && alone,
        };
        self.transport.change(|state| match lost {
            true => state.log[self.index].settled = true,
            false => Self::again(&mut state.log[self.index], Duration::ZERO),
        });
    }
}
