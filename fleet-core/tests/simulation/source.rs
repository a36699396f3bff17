//! Event sources: one that reads the stream as fleet-nats' does, and one without any order, as core NATS.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use fleet_core::event::Event;
use fleet_core::position::{Domain, Position};
use fleet_core::source::{
    Delivery, EventSource, Message, Settle, SettleError, Settler, SourceError, SourceItem,
};
use futures::StreamExt;
use futures::stream::BoxStream;
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::epoch::{Epochs, Met, Seen};
use crate::ledger::Ledger;
use crate::process::Process;
use crate::stream::{Disconnected, Message as StreamMessage, Server};
use crate::world::{Lie, World};

pub(crate) const SOURCE: &str = "users";

/// How often floors are raised while messages arrive, and otherwise.
const WHILE_BUSY: Duration = Duration::from_secs(1);
const WHILE_OUTSTANDING: Duration = Duration::from_secs(3);
const WHILE_IDLE: Duration = Duration::from_secs(30);
/// How long the server may take to confirm.
const DEADLINE: Duration = Duration::from_secs(5);
/// A delivery that is dropped unsettled comes again not before this.
const AFTER_DROP: Duration = Duration::from_secs(1);

/// What every source needs of its history.
#[derive(Clone)]
pub(crate) struct Here {
    pub(crate) world: Arc<World>,
    pub(crate) process: Arc<Process>,
    pub(crate) ledger: Arc<Ledger>,
}

impl Here {
    fn delivery(
        &self,
        number: usize,
        raw: bytes::Bytes,
        position: Option<Position>,
        published: Option<Timestamp>,
        settler: impl Settler,
    ) -> SourceItem {
        self.world.trace(|| {
            let position = position.as_ref().map(ToString::to_string).unwrap_or_default();
            format!("{} is given {} {position}", self.process.name, self.ledger.name(number))
        });
        let message = Arc::new(Message { subject: "auth.events".to_owned(), headers: Vec::new() });
        let event = Event::from_json(&raw);
        let settle = Settle::new(settler);
        SourceItem::Delivery(Delivery { event, origin: None, message, raw, position, published, settle })
    }
}

/// Reads the stream through its durable consumer.
pub(crate) struct StreamSource {
    pub(crate) here: Here,
    pub(crate) server: Arc<Server>,
}

#[async_trait]
impl EventSource for StreamSource {
    fn name(&self) -> &str {
        SOURCE
    }

    async fn open(&self, floors: Vec<Position>) -> Result<BoxStream<'static, SourceItem>, SourceError> {
        let feed = Feed {
            here: self.here.clone(),
            server: Arc::clone(&self.server),
            epochs: Epochs::restore(Domain::new("events"), Domain::new("events/newest"), &floors),
            life: None,
            arrived: VecDeque::new(),
            items: VecDeque::new(),
            outstanding: Outstanding::default(),
            inspect_at: Instant::now(),
            witness: None,
            handed_out: 0,
            lives: Arc::default(),
        };
        Ok(futures::stream::unfold(feed, async |mut feed| Some((feed.next().await, feed))).boxed())
    }
}

/// The open source: fleet-nats' `feed.rs`, without what is not about order.
struct Feed {
    here: Here,
    server: Arc<Server>,
    epochs: Epochs,
    /// Which life of the server it is connected to.
    life: Option<u64>,
    arrived: VecDeque<StreamMessage>,
    items: VecDeque<SourceItem>,
    outstanding: Outstanding,
    inspect_at: Instant,
    witness: Option<Position>,
    handed_out: u64,
    /// Counts the lives of the stream.
    lives: Arc<AtomicU64>,
}

impl Feed {
    async fn next(&mut self) -> SourceItem {
        loop {
            if let Some(item) = self.items.pop_front() {
                return item;
            }
            let done = match self.life {
                None => self.attach().await,
                Some(life) => self.go_on(life).await,
            };
            if done.is_err() {
                self.life = None;
                let pause = self.here.world.dice.millis(50..2000);
                let _ = tokio::time::timeout(pause, self.server.changed()).await;
            }
        }
    }

    async fn attach(&mut self) -> Result<(), Disconnected> {
        let life = self.server.connect()?;
        self.here.world.latency().await;
        let (created, last) = self.server.stream(life)?;
        // What had arrived is of the stream that was.
        while let Some(message) = self.arrived.pop_front() {
            self.hand_out(message);
        }
        if self.epochs.meet(created) == Met::Recreated {
            self.lives.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(newest) = self.epochs.newest() {
            let published = self.server.published(life, newest.sequence)?;
            if self.epochs.check_tail(last, published) {
                self.tail_was_lost();
            }
        }
        self.here.world.latency().await;
        let is_new = self.server.bind(life, self.epochs.floor_sequence().unwrap_or(0) + 1)?;
        self.here.world.latency().await;
        if is_new && self.server.stream(life)?.0 != created {
            // Made anew in between: there the consumer would begin too late.
            self.server.delete_consumer();
            return Err(Disconnected);
        }
        self.life = Some(life);
        self.inspect_at = Instant::now();
        self.here.world.trace(|| format!("{} has attached: {:?}", self.here.process.name, self.epochs));
        Ok(())
    }

    async fn go_on(&mut self, life: u64) -> Result<(), Disconnected> {
        let world = &self.here.world;
        if Instant::now() >= self.inspect_at {
            return self.inspect(life).await;
        }
        if let Some(message) = self.arrived.pop_front() {
            self.hand_out(message);
            return Ok(());
        }
        let most = usize::try_from(world.dice.roll(1..9)).unwrap();
        let Some(messages) = self.server.pull(life, most)? else {
            return Err(Disconnected);
        };
        if messages.is_empty() {
            let until = self.server.next_due().unwrap_or(self.inspect_at).min(self.inspect_at);
            let _ = tokio::time::timeout_at(until, self.server.changed()).await;
            return Ok(());
        }
        world.latency().await;
        // Not all arrive.
        self.arrived.extend(messages.into_iter().filter(|_| !world.fault(world.faults.network, 20)));
        Ok(())
    }

    fn hand_out(&mut self, message: StreamMessage) {
        let StreamMessage { sequence, published, number, raw } = message;
        let (epoch, lost) = self.epochs.see(Seen { sequence, published });
        if lost {
            self.tail_was_lost();
        }
        self.inspect_at = self.inspect_at.min(Instant::now() + WHILE_BUSY);
        let mut position = self.epochs.position(epoch, sequence);
        self.handed_out += 1;
        match self.here.world.lie {
            Lie::AckBeforeStore => {
                self.here.ledger.settled(number);
                let _ = self.server.ack(sequence);
            }
            Lie::NothingIsSuperseded => {
                position.epoch = u64::try_from(self.here.world.elapsed().as_nanos()).unwrap() + (1 << 62);
                position.sequence = self.handed_out;
            }
            _ => {}
        }
        let settler = StreamSettler {
            here: self.here.clone(),
            server: Arc::clone(&self.server),
            of_life: self.lives.load(Ordering::Relaxed),
            lives: Arc::clone(&self.lives),
            sequence,
            number,
            open: true,
            _outstanding: self.outstanding.add(epoch, sequence),
        };
        let published = Timestamp::from_nanosecond(published.into()).ok();
        self.items.push_back(self.here.delivery(number, raw, Some(position), published, settler));
    }

    /// Raises floors.
    async fn inspect(&mut self, life: u64) -> Result<(), Disconnected> {
        self.inspect_at = Instant::now() + WHILE_IDLE;
        self.here.world.latency().await;
        let info = self.server.info(life)?.ok_or(Disconnected)?;
        let is_shorter = self.epochs.newest().is_some_and(|newest| info.last_sequence < newest.sequence);
        if is_shorter || !self.epochs.is_present(info.created) {
            return Err(Disconnected);
        }
        self.keep_witness();
        let ceiling = match self.here.world.lie {
            Lie::FloorFromServer => u64::MAX,
            _ => self.outstanding.ceiling(self.epochs.first()).unwrap_or(0),
        };
        let settled = info.ack_floor.min(ceiling);
        if let Some(floor) = self.epochs.raise(settled, info.last_sequence) {
            self.items.push_back(SourceItem::Floor(floor));
        }
        self.keep_witness();
        if settled < info.delivered {
            self.inspect_at = Instant::now() + WHILE_OUTSTANDING;
        }
        Ok(())
    }

    fn tail_was_lost(&mut self) {
        self.here.world.trace(|| format!("{} sees that the tail was lost", self.here.process.name));
        self.lives.fetch_add(1, Ordering::Relaxed);
        self.keep_witness();
    }

    fn keep_witness(&mut self) {
        let witness = self.epochs.witness();
        if self.witness != witness {
            self.items.extend(witness.clone().map(SourceItem::Floor));
            self.witness = witness;
        }
    }
}

/// What was delivered and is not settled yet, as (epoch, sequence).
#[derive(Clone, Default)]
struct Outstanding(Arc<Mutex<BTreeMap<(u64, u64), usize>>>);

struct OutstandingEntry(Outstanding, (u64, u64));

impl Outstanding {
    fn add(&self, epoch: u64, sequence: u64) -> OutstandingEntry {
        *self.0.lock().entry((epoch, sequence)).or_default() += 1;
        OutstandingEntry(self.clone(), (epoch, sequence))
    }

    /// The highest sequence that a floor may have; `None` if something of an earlier stream is outstanding.
    fn ceiling(&self, first_epoch: u64) -> Option<u64> {
        let entries = self.0.lock();
        if entries.keys().any(|(epoch, _)| *epoch < first_epoch) {
            return None;
        }
        Some(entries.keys().map(|(_, sequence)| sequence - 1).min().unwrap_or(u64::MAX))
    }
}

impl Drop for OutstandingEntry {
    fn drop(&mut self) {
        let mut entries = self.0.0.lock();
        if let Some(count) = entries.get_mut(&self.1) {
            *count -= 1;
            if *count == 0 {
                entries.remove(&self.1);
            }
        }
    }
}

struct StreamSettler {
    here: Here,
    server: Arc<Server>,
    /// The life of the stream that the message is of, and which it is in now. In another, another message may have its
    /// sequence, and an acknowledgement would be taken for that one's.
    of_life: u64,
    lives: Arc<AtomicU64>,
    sequence: u64,
    number: usize,
    open: bool,
    _outstanding: OutstandingEntry,
}

impl StreamSettler {
    /// Says something and waits for the confirmation. Either may be lost on the way.
    async fn say(
        &self,
        what: &str,
        say: impl FnOnce(&Server) -> Result<(), Disconnected>,
    ) -> Result<(), SettleError> {
        let Here { world, process, ledger } = &self.here;
        let line = || format!("{} {what} {} ({})", process.name, self.sequence, ledger.name(self.number));
        let failed = |why: &str| {
            world.trace(|| format!("{}: {why}", line()));
            Err(SettleError(why.to_owned()))
        };
        world.latency().await;
        process.may_die(|| format!("before {what} of {}", self.sequence)).await;
        if world.fault(world.faults.network, 50) {
            tokio::time::sleep(DEADLINE).await;
            return failed("lost on the way");
        }
        if self.of_life != self.lives.load(Ordering::Relaxed) {
            return failed("its stream is another one now");
        }
        if say(&self.server).is_err() {
            return failed("disconnected");
        }
        process.may_die(|| format!("after {what} of {}", self.sequence)).await;
        if world.fault(world.faults.network, 50) {
            tokio::time::sleep(DEADLINE).await;
            return failed("not confirmed");
        }
        world.latency().await;
        world.trace(line);
        Ok(())
    }
}

#[async_trait]
impl Settler for StreamSettler {
    async fn ack(mut self: Box<Self>) -> Result<(), SettleError> {
        self.here.ledger.settled(self.number);
        self.say("acks", |server| server.ack(self.sequence)).await?;
        self.open = false;
        Ok(())
    }

    async fn give_back(mut self: Box<Self>, delay: Duration) -> Result<(), SettleError> {
        self.say("gives back", |server| server.nak(self.sequence, delay)).await?;
        self.open = false;
        Ok(())
    }

    async fn terminate(mut self: Box<Self>, _reason: &str) -> Result<(), SettleError> {
        self.here.ledger.settled(self.number);
        self.say("terminates", |server| server.ack(self.sequence)).await?;
        self.open = false;
        Ok(())
    }

    async fn progress(&self) -> Result<(), SettleError> {
        self.say("works on", |server| server.progress(self.sequence)).await
    }
}

impl Drop for StreamSettler {
    fn drop(&mut self) {
        let is_same = self.of_life == self.lives.load(Ordering::Relaxed);
        if self.open && is_same && self.here.process.is_alive() {
            let _ = self.server.nak(self.sequence, AFTER_DROP);
        }
    }
}

/// Where messages without any order are sent to: who does not listen does not get them.
#[derive(Default)]
pub(crate) struct Subject {
    listening: Mutex<Vec<mpsc::UnboundedSender<(usize, bytes::Bytes)>>>,
}

impl Subject {
    pub(crate) fn publish(&self, number: usize, raw: &bytes::Bytes) {
        self.listening.lock().retain(|sender| sender.send((number, raw.clone())).is_ok());
    }
}

/// Reads a subject.
pub(crate) struct SubjectSource {
    pub(crate) here: Here,
    pub(crate) subject: Arc<Subject>,
}

#[async_trait]
impl EventSource for SubjectSource {
    fn name(&self) -> &str {
        SOURCE
    }

    async fn open(&self, _floors: Vec<Position>) -> Result<BoxStream<'static, SourceItem>, SourceError> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.subject.listening.lock().push(sender);
        let here = self.here.clone();
        Ok(futures::stream::unfold((receiver, here), |(mut receiver, here)| async move {
            let (number, raw) = receiver.recv().await?;
            here.world.latency().await;
            here.ledger.handed_out(number);
            let settler = SubjectSettler { here: here.clone(), number };
            Some((here.delivery(number, raw, None, None, settler), (receiver, here)))
        })
        .boxed())
    }
}

/// Only notes what became of the event.
struct SubjectSettler {
    here: Here,
    number: usize,
}

#[async_trait]
impl Settler for SubjectSettler {
    async fn ack(self: Box<Self>) -> Result<(), SettleError> {
        self.here.ledger.settled(self.number);
        Ok(())
    }

    async fn give_back(self: Box<Self>, _delay: Duration) -> Result<(), SettleError> {
        Ok(())
    }

    async fn terminate(self: Box<Self>, _reason: &str) -> Result<(), SettleError> {
        self.here.ledger.settled(self.number);
        Ok(())
    }

    async fn progress(&self) -> Result<(), SettleError> {
        Ok(())
    }
}
