//! When which Work is looked at in which cluster: a lane for each cluster, so that none waits for another.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::cluster::ClusterId;
use crate::engine::config::Backoff;
use crate::engine::lane::{Job, Lane, Phase};
use crate::engine::queue::Cause;
use crate::work::{Local, WorkId};

/// All lanes, and what waits for its time.
#[derive(Debug)]
pub(super) struct Schedule {
    most_calls: usize,
    most_queued: usize,
    lanes: RwLock<HashMap<ClusterId, Arc<Lane>>>,
    timers: Mutex<Timers>,
    timer_added: Notify,
}

#[derive(Debug, Default)]
struct Timers {
    due: BTreeMap<(Instant, u64), Due>,
    last: u64,
}

#[derive(Debug)]
struct Due {
    lane: Arc<Lane>,
    what: What,
    number: u64,
}

/// What a timer is for.
#[derive(Debug)]
pub(super) enum What {
    /// The Work is to be looked at.
    Work(WorkId),
    /// The lane's pause is over.
    Pause,
    /// Works that wait for their time found no room: all are to be looked at.
    Refill,
}

/// What is looked at in a cluster: a Work, or what one has there for another cluster. Once there is a record of that, the
/// name tells.
#[derive(Clone, Debug)]
pub(super) struct Item<'a> {
    pub(super) id: Cow<'a, WorkId>,
    pub(super) local: Option<Arc<Local>>,
}

impl<'a> From<&'a WorkId> for Item<'a> {
    fn from(work: &'a WorkId) -> Self {
        Self { id: Cow::Borrowed(work), local: None }
    }
}

impl From<Local> for Item<'_> {
    fn from(local: Local) -> Self {
        Self { id: Cow::Owned(local.id()), local: Some(Arc::new(local)) }
    }
}

/// What is to be started on a lane.
#[derive(Debug, Default)]
#[must_use]
pub(super) struct Start {
    /// A worker.
    pub(super) worker: Option<Arc<Lane>>,
    /// A task that brings in what found no room, once there is some.
    pub(super) refill: Option<Arc<Lane>>,
}

/// What looking at a Work came to.
#[derive(Debug, PartialEq)]
pub(super) enum Verdict {
    /// Nothing more to do until something changes.
    Done,
    /// The Work moved on meanwhile: look again now.
    Again,
    /// Look again after a pause of this kind, not before `least`.
    Later { backoff: Backoff, least: Duration },
    /// The cluster itself failed: the Work, and all others there, after a pause.
    ClusterFailed { backoff: Backoff, least: Duration },
}

impl Schedule {
    /// A schedule that allows so many calls to a cluster at the same time, and so many Works to wait there.
    pub(super) fn new(most_calls: usize, most_queued: usize) -> Self {
        Self {
            most_calls: most_calls.max(1),
            most_queued: most_queued.max(2),
            lanes: RwLock::default(),
            timers: Mutex::default(),
            timer_added: Notify::new(),
        }
    }

    /// How many workers a lane has at most.
    fn most_workers(&self) -> usize {
        self.most_calls * 2
    }

    /// The lane of a cluster.
    fn lane(&self, cluster: &ClusterId) -> Arc<Lane> {
        if let Some(lane) = self.lanes.read().get(cluster) {
            return Arc::clone(lane);
        }
        let mut lanes = self.lanes.write();
        Arc::clone(
            lanes
                .entry(cluster.clone())
                .or_insert_with(|| Arc::new(Lane::new(cluster.clone(), self.most_calls))),
        )
    }

    /// Has a Work looked at in a cluster. Where too many wait already it is left out, and brought in from the store when
    /// there is room.
    pub(super) fn enqueue<'a>(&self, what: impl Into<Item<'a>>, cluster: &ClusterId, cause: Cause) -> Start {
        let item = what.into();
        let lane = self.lane(cluster);
        let mut state = lane.state.lock();
        if !state.has_room(cause, self.most_queued) && !state.entries.contains_key(&*item.id) {
            let begin = state.overflow();
            drop(state);
            return Start { worker: None, refill: begin.then_some(lane) };
        }
        let start = state.enqueue(&item, cause, false, self.most_workers());
        drop(state);
        Start { worker: start.then_some(lane), refill: None }
    }

    /// The same because something of it was seen in the cluster: while it runs, or waits for its time, that is not another
    /// reason to look.
    pub(super) fn look(&self, work: &WorkId, cluster: &ClusterId) -> Start {
        let lane = self.lane(cluster);
        let mut state = lane.state.lock();
        if !state.has_room(Cause::Event, self.most_queued) && !state.entries.contains_key(work) {
            let begin = state.overflow();
            drop(state);
            return Start { worker: None, refill: begin.then_some(lane) };
        }
        let start = state.look(work, self.most_workers());
        drop(state);
        Start { worker: start.then_some(lane), refill: None }
    }

    /// The same, and allows that the Work's resources are taken out of the cluster though no event said so.
    pub(super) fn withdraw(&self, work: &WorkId, cluster: &ClusterId, cause: Cause) -> Start {
        let lane = self.lane(cluster);
        let start = lane.state.lock().enqueue(&work.into(), cause, true, self.most_workers());
        Start { worker: start.then_some(lane), refill: None }
    }

    /// The same as [`enqueue`](Self::enqueue), after somebody else has worked on it too: calls of theirs may take effect
    /// until then. What finds no room is looked at without that doubt.
    pub(super) fn doubt<'a>(
        &self,
        what: impl Into<Item<'a>>,
        cluster: &ClusterId,
        until: Option<Timestamp>,
    ) -> Start {
        let item = what.into();
        let start = self.enqueue(item.clone(), cluster, Cause::Event);
        if let Some(entry) = self.lane(cluster).state.lock().entries.get_mut(&*item.id) {
            entry.uncertain_until = entry.uncertain_until.max(until);
        }
        start
    }

    /// Waits until a good part of a lane is empty. Cancel safe.
    pub(super) async fn room(&self, lane: &Lane) {
        loop {
            // Asked for first, so that what happens in between is not missed.
            let room = lane.room.notified();
            if lane.state.lock().has_much_room(self.most_queued) {
                return;
            }
            room.await;
        }
    }

    /// Tells whether a cluster can be reached. Returns the lane if workers are to be started on it.
    #[must_use]
    pub(super) fn set_ready(&self, cluster: &ClusterId, ready: bool) -> Option<Arc<Lane>> {
        let lane = self.lane(cluster);
        let mut state = lane.state.lock();
        state.ready = ready;
        if ready {
            state.paused = None;
        }
        let start = ready && state.start_worker(1);
        drop(state);
        start.then_some(lane)
    }

    /// Takes the outcome of a job, and sets a timer where one is needed.
    pub(super) fn finish(&self, lane: &Arc<Lane>, job: &Job, verdict: Verdict, entropy: u64) {
        let work = &job.work;
        let mut state = lane.state.lock();
        if verdict != Verdict::Done
            && let Some(entry) = state.entries.get_mut(work)
        {
            entry.withdraw |= job.withdraw;
            entry.uncertain_until = entry.uncertain_until.max(job.uncertain_until);
            entry.unheard |= job.unheard;
        }
        match verdict {
            Verdict::Done => {
                state.failures = 0;
                state.finish_done(work);
            }
            Verdict::Again => {
                state.failures = 0;
                if let Some(entry) = state.entries.get_mut(work) {
                    entry.only_seen = false;
                }
                state.requeue(work);
            }
            Verdict::Later { backoff, least } => {
                state.failures = 0;
                let has_room = state.delayed < self.most_queued;
                let Some(entry) = state.entries.get_mut(work) else {
                    return;
                };
                // What only the entry knows must not be forgotten.
                let keep = has_room || entry.withdraw || entry.unheard || entry.uncertain_until.is_some();
                if entry.again {
                    // Something changed: no reason to wait.
                    state.requeue(work);
                } else if keep {
                    let pause = backoff.pause(entry.failures, entropy).max(least);
                    entry.failures = entry.failures.saturating_add(1);
                    entry.phase = Phase::Delayed(self.set_timer(lane, What::Work(work.clone()), pause));
                    state.delayed += 1;
                } else {
                    // Too many wait for their time: this one is found in the store when the longest pause is over.
                    state.entries.remove(work);
                    if !std::mem::replace(&mut state.refill_set, true) {
                        self.set_timer(lane, What::Refill, backoff.longest.max(least));
                    }
                }
            }
            Verdict::ClusterFailed { backoff, least } => {
                // What failed together is one failure.
                if state.paused.is_none() {
                    let pause = backoff.pause(state.failures, entropy).max(least);
                    state.failures = state.failures.saturating_add(1);
                    state.paused = Some(self.set_timer(lane, What::Pause, pause));
                }
                state.requeue(work);
            }
        }
        if state.refilling && state.has_much_room(self.most_queued) {
            lane.room.notify_one();
        }
    }

    fn set_timer(&self, lane: &Arc<Lane>, what: What, pause: Duration) -> u64 {
        let mut timers = self.timers.lock();
        timers.last += 1;
        let number = timers.last;
        timers.due.insert((Instant::now() + pause, number), Due { lane: Arc::clone(lane), what, number });
        drop(timers);
        self.timer_added.notify_one();
        number
    }

    /// Waits until a timer is due, and returns what is to be started. Cancel safe.
    pub(super) async fn due(&self) -> Vec<Start> {
        loop {
            let next = self.timers.lock().due.first_key_value().map(|((at, _), _)| *at);
            match next {
                Some(at) if at <= Instant::now() => break,
                Some(at) => tokio::select! {
                    biased;
                    () = tokio::time::sleep_until(at) => {}
                    () = self.timer_added.notified() => {}
                },
                None => self.timer_added.notified().await,
            }
        }
        let now = Instant::now();
        let due = {
            let mut timers = self.timers.lock();
            let later = timers.due.split_off(&(now, u64::MAX));
            std::mem::replace(&mut timers.due, later)
        };
        let mut starts = Vec::new();
        for due in due.into_values() {
            let mut state = due.lane.state.lock();
            let worker = state.timer_came(&due.what, due.number, self.most_workers());
            let refill = matches!(due.what, What::Refill) && {
                state.refill_set = false;
                state.overflow()
            };
            drop(state);
            let lane = |wanted: bool| wanted.then(|| Arc::clone(&due.lane));
            starts.push(Start { worker: lane(worker), refill: lane(refill) });
        }
        starts
    }

    /// Whether one more worker should be started, now that this one has work: after a pause one probes, and when that
    /// went well the others follow.
    pub(super) fn wants_more(&self, lane: &Lane) -> bool {
        let mut state = lane.state.lock();
        state.failures == 0 && state.start_worker(self.most_workers())
    }

    /// How many Works wait or run, over all lanes.
    pub(super) fn backlog(&self) -> usize {
        self.lanes.read().values().map(|lane| lane.state.lock().entries.len()).sum()
    }
}
