//! A JetStream server: one stream, and one durable consumer on it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fleet_core::environment::Clock;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::ledger::Ledger;
use crate::world::World;

/// What is not acknowledged comes again after so long.
const ACK_WAIT: Duration = Duration::from_secs(10);
/// So many deliveries may be unsettled at a time.
const MAX_ACK_PENDING: usize = 64;

/// One message of the stream.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) sequence: u64,
    /// Nanoseconds since 1970.
    pub(crate) published: u64,
    /// Its number in the ledger.
    pub(crate) number: usize,
    pub(crate) raw: Bytes,
}

/// What the server tells of stream and consumer.
pub(crate) struct Info {
    pub(crate) created: u64,
    pub(crate) last_sequence: u64,
    pub(crate) delivered: u64,
    pub(crate) ack_floor: u64,
}

struct Consumer {
    delivered: u64,
    floor: u64,
    /// What is outstanding, and when it comes again.
    pending: BTreeMap<u64, Instant>,
}

impl Consumer {
    fn raise(&mut self) {
        let below_pending = self.pending.keys().next().map_or(self.delivered, |first| first - 1);
        self.floor = self.floor.max(below_pending);
    }
}

struct State {
    up: bool,
    /// Which life of the server this is: connections do not outlive it.
    life: u64,
    created: u64,
    messages: Vec<Message>,
    last: u64,
    consumer: Option<Consumer>,
}

/// The server.
pub(crate) struct Server {
    world: Arc<World>,
    ledger: Arc<Ledger>,
    state: Mutex<State>,
    changed: Notify,
}

/// The server is down, or not the one that the connection was made to.
#[derive(Debug)]
pub(crate) struct Disconnected;

impl Server {
    pub(crate) fn new(world: &Arc<World>, ledger: &Arc<Ledger>) -> Arc<Self> {
        let state =
            State { up: true, life: 1, created: nanos(world), messages: Vec::new(), last: 0, consumer: None };
        let (world, ledger) = (Arc::clone(world), Arc::clone(ledger));
        Arc::new(Self { world, ledger, state: Mutex::new(state), changed: Notify::new() })
    }

    /// Waits until something may have changed.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Publishes an entry of the ledger; whether the server took it.
    pub(crate) fn publish(&self, number: usize, raw: Bytes) -> bool {
        let mut state = self.state.lock();
        if !state.up {
            return false;
        }
        let newest = state.messages.last().map_or(0, |message| message.published);
        let published = nanos(&self.world).max(newest + 1);
        state.last += 1;
        let sequence = state.last;
        self.world.trace(|| format!("published {} as {sequence}", self.ledger.name(number)));
        state.messages.push(Message { sequence, published, number, raw });
        drop(state);
        self.changed.notify_waiters();
        true
    }

    /// Connects; which life of the server it is.
    pub(crate) fn connect(&self) -> Result<u64, Disconnected> {
        let state = self.state.lock();
        if state.up { Ok(state.life) } else { Err(Disconnected) }
    }

    fn connected<T>(&self, life: u64, call: impl FnOnce(&mut State) -> T) -> Result<T, Disconnected> {
        let mut state = self.state.lock();
        if !state.up || state.life != life {
            return Err(Disconnected);
        }
        Ok(call(&mut state))
    }

    /// Finds the consumer, or makes one that begins at a sequence; whether it made one.
    pub(crate) fn bind(&self, life: u64, start: u64) -> Result<bool, Disconnected> {
        self.connected(life, |state| {
            let is_new = state.consumer.is_none();
            state.consumer.get_or_insert_with(|| {
                self.world.trace(|| format!("a consumer is made that begins at {start}"));
                Consumer { delivered: start - 1, floor: start - 1, pending: BTreeMap::new() }
            });
            is_new
        })
    }

    /// What is known of stream and consumer; `None` if there is no consumer.
    pub(crate) fn info(&self, life: u64) -> Result<Option<Info>, Disconnected> {
        self.connected(life, |state| {
            let consumer = state.consumer.as_ref()?;
            Some(Info {
                created: state.created,
                last_sequence: state.last,
                delivered: consumer.delivered,
                ack_floor: consumer.floor,
            })
        })
    }

    pub(crate) fn stream(&self, life: u64) -> Result<(u64, u64), Disconnected> {
        self.connected(life, |state| (state.created, state.last))
    }

    /// When the message that has a sequence now was published.
    pub(crate) fn published(&self, life: u64, sequence: u64) -> Result<Option<u64>, Disconnected> {
        self.connected(life, |state| {
            let message = state.messages.iter().find(|message| message.sequence == sequence);
            message.map(|message| message.published)
        })
    }

    /// Hands out messages: those that are due again, then new ones. `None`: the consumer is gone.
    pub(crate) fn pull(&self, life: u64, most: usize) -> Result<Option<Vec<Message>>, Disconnected> {
        let world = &self.world;
        self.connected(life, |state| {
            let State { messages, consumer, .. } = state;
            let consumer = consumer.as_mut()?;
            let now = Instant::now();
            let mut out = Vec::new();
            let due: Vec<_> = consumer
                .pending
                .iter()
                .filter(|(_, due)| **due <= now)
                .map(|(sequence, _)| *sequence)
                .collect();
            for sequence in due.into_iter().take(most) {
                out.extend(messages.iter().find(|message| message.sequence == sequence).cloned());
            }
            for message in messages.iter() {
                let is_new = message.sequence > consumer.delivered;
                if !is_new || out.len() >= most || consumer.pending.len() >= MAX_ACK_PENDING {
                    continue;
                }
                consumer.delivered = message.sequence;
                out.push(message.clone());
                consumer.pending.insert(message.sequence, now);
            }
            for message in &out {
                consumer.pending.insert(message.sequence, now + ACK_WAIT);
                self.ledger.handed_out(message.number);
            }
            // Those that come again come in any order.
            for last in (1..out.len()).rev() {
                if out[last].sequence <= out[last - 1].sequence || world.fault(world.faults.network, 100) {
                    out.swap(last, last - 1);
                }
            }
            Some(out)
        })
    }

    /// When something comes again by itself.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.state.lock().consumer.as_ref()?.pending.values().min().copied()
    }

    /// An acknowledgement or a termination. What is said of a sequence is said of the message that has it now; it may come
    /// over a new connection.
    pub(crate) fn ack(&self, sequence: u64) -> Result<(), Disconnected> {
        self.settle(|consumer| {
            if consumer.pending.remove(&sequence).is_some() {
                consumer.raise();
            }
        })
    }

    pub(crate) fn nak(&self, sequence: u64, delay: Duration) -> Result<(), Disconnected> {
        self.settle(|consumer| consumer.comes_again(sequence, delay))
    }

    pub(crate) fn progress(&self, sequence: u64) -> Result<(), Disconnected> {
        self.settle(|consumer| consumer.comes_again(sequence, ACK_WAIT))
    }

    fn settle(&self, settle: impl FnOnce(&mut Consumer)) -> Result<(), Disconnected> {
        let life = self.connect()?;
        self.connected(life, |state| state.consumer.as_mut().map(settle).unwrap_or_default())?;
        self.changed.notify_waiters();
        Ok(())
    }

    /// Whether everything that is in the stream was settled.
    pub(crate) fn is_settled(&self) -> bool {
        let state = self.state.lock();
        state.last == 0 || state.consumer.as_ref().is_some_and(|consumer| consumer.floor == state.last)
    }

    pub(crate) fn created(&self) -> u64 {
        self.state.lock().created
    }

    /// The highest sequence that was ever handed out of this stream.
    pub(crate) fn handed_out(&self) -> u64 {
        let state = self.state.lock();
        let entries = self.ledger.entries();
        let handed_out = state.messages.iter().filter(|message| entries[message.number].handed_out);
        handed_out.map(|message| message.sequence).max().unwrap_or(0)
    }

    pub(crate) fn stop(&self) {
        self.world.trace(|| "the server stops".to_owned());
        self.state.lock().up = false;
        self.changed.notify_waiters();
    }

    pub(crate) fn start(&self) {
        let mut state = self.state.lock();
        if !state.up {
            self.world.trace(|| "the server starts".to_owned());
            state.up = true;
            state.life += 1;
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// The server forgets acknowledgements: its floor is a lower one, and all above it comes again.
    pub(crate) fn reset_floor(&self) {
        let mut state = self.state.lock();
        if let Some(consumer) = &mut state.consumer {
            let floor = self.world.dice.roll(0..consumer.floor + 1);
            self.world.trace(|| format!("the server's floor falls from {} to {floor}", consumer.floor));
            *consumer = Consumer { delivered: floor, floor, pending: BTreeMap::new() };
        }
    }

    /// Somebody deletes the consumer.
    pub(crate) fn delete_consumer(&self) {
        self.world.trace(|| "the consumer is deleted".to_owned());
        self.state.lock().consumer = None;
        self.changed.notify_waiters();
    }

    /// The newest messages were not on the disk yet; only such as come after a sequence.
    pub(crate) fn lose_tail(&self, after: u64) {
        let mut state = self.state.lock();
        let most = state.last.saturating_sub(after);
        let lost = self.world.dice.roll(0..most.min(5) + 1);
        let last = state.last - lost;
        self.world.trace(|| format!("the server loses {lost} messages, and is at {last}"));
        for message in state.messages.iter().filter(|message| message.sequence > last) {
            self.ledger.lost(message.number);
        }
        state.messages.retain(|message| message.sequence <= last);
        state.last = last;
        if let Some(consumer) = &mut state.consumer {
            consumer.delivered = consumer.delivered.min(last);
            consumer.floor = consumer.floor.min(last);
            consumer.pending.retain(|sequence, _| *sequence <= last);
        }
    }

    /// Somebody deletes the stream and makes another of its name.
    pub(crate) fn recreate(&self) {
        self.world.trace(|| "the stream is made anew".to_owned());
        let mut state = self.state.lock();
        for message in &state.messages {
            self.ledger.lost(message.number);
        }
        state.messages.clear();
        state.last = 0;
        state.created = nanos(&self.world);
        state.consumer = None;
        drop(state);
        self.changed.notify_waiters();
    }
}

impl Consumer {
    fn comes_again(&mut self, sequence: u64, delay: Duration) {
        if let Some(due) = self.pending.get_mut(&sequence) {
            *due = Instant::now() + delay;
        }
    }
}

fn nanos(clock: &World) -> u64 {
    u64::try_from(clock.now().as_nanosecond()).unwrap()
}
