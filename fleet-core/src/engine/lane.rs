//! The lane of one cluster: which Works wait there, run, or wait for their time. It holds ids only, so many of each, and
//! a Work at most once.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};

use crate::cluster::ClusterId;
use crate::engine::queue::{Cause, Queue};
use crate::engine::schedule::{Item, What};
use crate::work::{Local, WorkId};

/// The queue of one cluster.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) cluster: ClusterId,
    /// Bounds the calls to the cluster. There are more workers than that: while some write down what came of their
    /// calls, others call.
    pub(super) calls: Semaphore,
    pub(super) state: Mutex<LaneState>,
    /// Told when there is room again.
    pub(super) room: Notify,
}

#[derive(Debug, Default)]
pub(super) struct LaneState {
    queue: Queue,
    pub(super) entries: HashMap<WorkId, Entry>,
    workers: usize,
    /// Whether the cluster is said to be reachable.
    pub(super) ready: bool,
    /// Nothing is started while a pause after the cluster itself failed lasts; the number is the pause's timer.
    pub(super) paused: Option<u64>,
    /// How often in a row the cluster itself failed. While it is not 0, one Work at a time is tried.
    pub(super) failures: u32,
    /// How many of the entries wait for their time: they take no room from the others, and have a bound of their own.
    pub(super) delayed: usize,
    /// Whether a Work found no room since the last look at all of them.
    overflowed: bool,
    /// Whether a timer is set for what found no room to wait for its time.
    pub(super) refill_set: bool,
    /// Whether somebody brings in what found no room.
    pub(super) refilling: bool,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) phase: Phase,
    /// Why it is looked at; an event outweighs a sweep.
    cause: Cause,
    /// Something changed while it ran: once more.
    pub(super) again: bool,
    /// Something of it was seen in the cluster while it ran, which may be its own doing.
    pub(super) sighted: bool,
    /// Nothing else was a reason to look.
    pub(super) only_seen: bool,
    /// Its resources may be withdrawn though its last event said Create.
    pub(super) withdraw: bool,
    /// See [`Job::uncertain_until`].
    pub(super) uncertain_until: Option<Timestamp>,
    /// See [`Job::unheard`].
    pub(super) unheard: bool,
    /// Failures in a row.
    pub(super) failures: u32,
    /// See [`Job::local`].
    local: Option<Arc<Local>>,
}

#[derive(Debug, PartialEq)]
pub(super) enum Phase {
    /// Under this number.
    Queued(u64),
    Running,
    /// Until the timer of this number.
    Delayed(u64),
}

/// One Work to look at.
pub(super) struct Job {
    pub(super) work: WorkId,
    /// See [`Schedule::withdraw`]. Used up once the Work belongs into the cluster again.
    pub(super) withdraw: bool,
    /// It is looked at because something of it was seen in the cluster, and for no other reason.
    pub(super) only_seen: bool,
    /// Until when a call that got no answer may still take effect. It stands in the record as well, unless that could not
    /// be written.
    pub(super) uncertain_until: Option<Timestamp>,
    /// A write of its record may have got no answer: a store that reads from a cache may not show yet what it wrote.
    pub(super) unheard: bool,
    /// What it is, if it is local and whoever asked for it knew. A record of it says so, too.
    pub(super) local: Option<Arc<Local>>,
}

impl Lane {
    /// The lane of a cluster. Not ready at first: for one that is not known yet, what is queued waits until it joins.
    pub(super) fn new(cluster: ClusterId, most_calls: usize) -> Self {
        Self { cluster, calls: Semaphore::new(most_calls), state: Mutex::default(), room: Notify::new() }
    }

    /// Begins a look at all Works: what finds no room from now on needs another.
    pub(super) fn begin_refill(&self) {
        self.state.lock().overflowed = false;
    }

    /// Ends it; `false` if another is needed.
    pub(super) fn end_refill(&self) -> bool {
        let mut state = self.state.lock();
        state.refilling = state.overflowed;
        !state.refilling
    }

    /// What was seen of a Work so far is taken into account, or something is `left`.
    pub(super) fn has_looked(&self, work: &WorkId, left: bool) {
        if let Some(entry) = self.state.lock().entries.get_mut(work) {
            entry.sighted = left;
        }
    }

    /// The next job for a worker; `None`: the worker is to end.
    pub(super) fn next(&self) -> Option<Job> {
        let mut state = self.state.lock();
        if state.may_run()
            && let Some(work) = state.queue.pop()
            && let Some(entry) = state.entries.get_mut(&work)
        {
            entry.phase = Phase::Running;
            entry.again = false;
            entry.sighted = false;
            let withdraw = std::mem::take(&mut entry.withdraw);
            let unheard = std::mem::take(&mut entry.unheard);
            let (only_seen, uncertain_until, local) =
                (entry.only_seen, entry.uncertain_until, entry.local.clone());
            return Some(Job { work, withdraw, only_seen, uncertain_until, unheard, local });
        }
        state.workers -= 1;
        None
    }
}

impl LaneState {
    /// How many are queued or running.
    pub(super) fn waiting(&self) -> usize {
        self.entries.len().saturating_sub(self.delayed)
    }

    /// Notes that something found no room; whether somebody is to bring it in.
    pub(super) fn overflow(&mut self) -> bool {
        self.overflowed = true;
        !std::mem::replace(&mut self.refilling, true)
    }

    fn may_run(&self) -> bool {
        self.ready && self.paused.is_none() && (self.failures == 0 || self.workers <= 1)
    }

    pub(super) fn start_worker(&mut self, most: usize) -> bool {
        let most = if self.failures == 0 { most } else { 1 };
        let start = self.ready && self.paused.is_none() && self.workers < most && !self.queue.is_empty();
        self.workers += usize::from(start);
        start
    }

    /// Whether one more Work may wait. Sweeps leave half of the room to events.
    pub(super) fn has_room(&self, cause: Cause, most: usize) -> bool {
        self.waiting() < most && (cause == Cause::Event || self.queue.swept() < most / 2)
    }

    /// Whether a good part of the room is empty.
    pub(super) fn has_much_room(&self, most: usize) -> bool {
        self.waiting() <= most / 2 && self.queue.swept() <= most / 4
    }

    pub(super) fn enqueue(&mut self, item: &Item<'_>, cause: Cause, withdraw: bool, most: usize) -> bool {
        let Item { id: work, local } = item;
        match self.entries.get_mut(&**work) {
            None => {
                let entry = self.add(work, cause);
                entry.withdraw = withdraw;
                entry.local.clone_from(local);
            }
            Some(entry) => {
                if entry.local.is_none() {
                    entry.local.clone_from(local);
                }
                entry.withdraw |= withdraw;
                entry.only_seen = false;
                // What kept it from succeeding may have changed.
                entry.failures = 0;
                let is_first = cause == Cause::Event && entry.cause == Cause::Sweep;
                if is_first {
                    entry.cause = Cause::Event;
                }
                match entry.phase {
                    Phase::Queued(number) if is_first => {
                        entry.phase = Phase::Queued(self.queue.promote(number).unwrap_or(number));
                    }
                    Phase::Queued(_) => {}
                    Phase::Running => entry.again = true,
                    Phase::Delayed(_) => {
                        entry.phase = Phase::Queued(self.queue.push(work.as_ref().clone(), entry.cause));
                        self.delayed = self.delayed.saturating_sub(1);
                    }
                }
            }
        }
        self.start_worker(most)
    }

    fn add(&mut self, work: &WorkId, cause: Cause) -> &mut Entry {
        let number = self.queue.push(work.clone(), cause);
        self.entries.entry(work.clone()).or_insert(Entry {
            phase: Phase::Queued(number),
            cause,
            again: false,
            sighted: false,
            only_seen: false,
            withdraw: false,
            uncertain_until: None,
            unheard: false,
            failures: 0,
            local: None,
        })
    }

    /// Has a Work looked at because something of it was seen. One that waits for its time goes on waiting.
    pub(super) fn look(&mut self, work: &WorkId, most: usize) -> bool {
        match self.entries.get_mut(work) {
            None => self.add(work, Cause::Event).only_seen = true,
            Some(entry) => entry.sighted |= entry.phase == Phase::Running,
        }
        self.start_worker(most)
    }

    pub(super) fn requeue(&mut self, work: &WorkId) {
        if let Some(entry) = self.entries.get_mut(work) {
            entry.phase = Phase::Queued(self.queue.push(work.clone(), entry.cause));
            entry.again = false;
            entry.sighted = false;
        }
    }

    pub(super) fn finish_done(&mut self, work: &WorkId) {
        match self.entries.get(work) {
            Some(entry) if entry.again || entry.sighted => self.requeue(work),
            _ => {
                self.entries.remove(work);
            }
        }
    }

    /// A timer that was overtaken (its number is not the one that is waited for) does nothing.
    pub(super) fn timer_came(&mut self, what: &What, number: u64, most: usize) -> bool {
        match what {
            What::Work(work) => {
                if let Some(entry) = self.entries.get_mut(work)
                    && entry.phase == Phase::Delayed(number)
                {
                    entry.phase = Phase::Queued(self.queue.push(work.clone(), entry.cause));
                    self.delayed = self.delayed.saturating_sub(1);
                }
            }
            What::Pause if self.paused == Some(number) => self.paused = None,
            What::Pause | What::Refill => {}
        }
        self.start_worker(most)
    }
}
