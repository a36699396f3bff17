//! Settling JetStream messages, and which ones are outstanding.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::client::RequestErrorKind;
use async_nats::{Client, Request, Subject};
use async_trait::async_trait;
use bytes::Bytes;
use fleet_core::source::{SettleError, Settler};

use crate::connection::{Connection, nak};

/// How long the server may take to confirm.
const DEADLINE: Duration = Duration::from_secs(5);
/// A delivery that is dropped unsettled comes again not before this, so that a failing reader does not spin.
const AFTER_DROP: Duration = Duration::from_secs(1);
/// The server passes the reason of a termination on in an advisory.
const LONGEST_REASON: usize = 200;

/// What was delivered and is not settled yet, as (epoch, sequence).
#[derive(Clone, Debug, Default)]
pub(super) struct Outstanding {
    entries: Arc<Mutex<BTreeMap<(u64, u64), usize>>>,
    /// Counts the lives of the stream: in each, its sequences may be given to other messages.
    life: Arc<AtomicU64>,
}

impl Outstanding {
    pub(super) fn add(&self, epoch: u64, sequence: u64) -> Entry {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        *entries.entry((epoch, sequence)).or_default() += 1;
        let life = self.life.load(Ordering::Relaxed);
        Entry { outstanding: self.clone(), at: (epoch, sequence), life }
    }

    /// The stream gives sequences again. What is outstanding cannot be settled any more: the server would take it for
    /// the message that has the sequence now. What is still in the stream comes again.
    pub(super) fn begin_life(&self) {
        self.life.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether a message of this sequence was handed out and is not settled.
    pub(super) fn holds(&self, sequence: u64) -> bool {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.keys().any(|(_, held)| *held == sequence)
    }

    /// The highest sequence that a floor may have, of a stream whose epochs begin at `first`: below everything
    /// outstanding. `None` if something of an earlier stream is outstanding: no floor then, for it would be below.
    pub(super) fn ceiling(&self, first: u64) -> Option<u64> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.keys().next().is_some_and(|(epoch, _)| *epoch < first) {
            return None;
        }
        let lowest = entries.keys().map(|(_, sequence)| *sequence).min();
        Some(lowest.map_or(u64::MAX, |lowest| lowest.saturating_sub(1)))
    }
}

/// One delivery being outstanding; dropped, it is not any more.
#[derive(Debug)]
pub(super) struct Entry {
    outstanding: Outstanding,
    at: (u64, u64),
    life: u64,
}

impl Entry {
    /// Whether its sequence is still its own.
    fn is_current(&self) -> bool {
        self.outstanding.life.load(Ordering::Relaxed) == self.life
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut entries = self.outstanding.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = entries.get_mut(&self.at) {
            *count -= 1;
            if *count == 0 {
                entries.remove(&self.at);
            }
        }
    }
}

/// What settling needs. The connection stays open as long as a delivery from it is not settled.
pub(super) struct Wire {
    pub(super) connection: Arc<Connection>,
    pub(super) client: Client,
}

/// Settles one delivery. Each call waits for the server's confirmation.
pub(super) struct JetStreamSettler {
    wire: Arc<Wire>,
    /// Where acknowledgements go; empty once the delivery is settled.
    reply: Option<Subject>,
    entry: Entry,
}

impl JetStreamSettler {
    pub(super) fn new(wire: Arc<Wire>, reply: Option<Subject>, entry: Entry) -> Self {
        Self { wire, reply, entry }
    }

    /// Cancelled or failed, the delivery counts as dropped: giving back what was settled after all does no harm.
    async fn last(mut self: Box<Self>, payload: Bytes) -> Result<(), SettleError> {
        if let Some(reply) = self.reply.clone() {
            self.send(reply, payload).await?;
        }
        self.reply = None;
        Ok(())
    }

    async fn send(&self, reply: Subject, payload: Bytes) -> Result<(), SettleError> {
        if !self.entry.is_current() {
            return Err(SettleError("its stream lost it, or was made anew".to_owned()));
        }
        let request = Request::new().payload(payload).timeout(Some(DEADLINE));
        match self.wire.client.send_request(reply, request).await {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == RequestErrorKind::NoResponders => {
                Err(SettleError("its consumer is gone".to_owned()))
            }
            Err(error) if error.kind() == RequestErrorKind::TimedOut => {
                Err(SettleError(format!("NATS did not confirm it within {} s", DEADLINE.as_secs())))
            }
            Err(error) => Err(SettleError(error.to_string())),
        }
    }
}

#[async_trait]
impl Settler for JetStreamSettler {
    async fn ack(self: Box<Self>) -> Result<(), SettleError> {
        self.last(Bytes::from_static(b"+ACK")).await
    }

    async fn give_back(self: Box<Self>, delay: Duration) -> Result<(), SettleError> {
        self.last(nak(delay)).await
    }

    async fn terminate(self: Box<Self>, reason: &str) -> Result<(), SettleError> {
        let reason: String = reason.chars().filter(|char| !char.is_control()).take(LONGEST_REASON).collect();
        self.last(Bytes::from(format!("+TERM {reason}"))).await
    }

    async fn progress(&self) -> Result<(), SettleError> {
        match &self.reply {
            Some(reply) => self.send(reply.clone(), Bytes::from_static(b"+WPI")).await,
            None => Ok(()),
        }
    }
}

impl Drop for JetStreamSettler {
    fn drop(&mut self) {
        if let Some(reply) = self.reply.take().filter(|_| self.entry.is_current()) {
            self.wire.connection.give_back(self.wire.client.clone(), reply, AFTER_DROP);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floors_stay_below_what_is_outstanding() {
        let outstanding = Outstanding::default();
        assert_eq!(outstanding.ceiling(10), Some(u64::MAX));
        let seven = outstanding.add(10, 7);
        let again = outstanding.add(10, 7);
        let five = outstanding.add(11, 5);
        assert_eq!(outstanding.ceiling(10), Some(4));
        drop(five);
        drop(seven);
        assert_eq!(outstanding.ceiling(10), Some(6), "its redelivery is outstanding still");
        assert_eq!(outstanding.ceiling(11), None, "it is of an earlier stream");
        drop(again);
        assert_eq!(outstanding.ceiling(11), Some(u64::MAX));
    }

    #[test]
    fn what_was_delivered_before_sequences_are_given_again_is_not_current() {
        let outstanding = Outstanding::default();
        let before = outstanding.add(10, 7);
        assert!(before.is_current());
        outstanding.begin_life();
        assert!(!before.is_current());
        assert!(outstanding.add(11, 7).is_current());
    }
}
