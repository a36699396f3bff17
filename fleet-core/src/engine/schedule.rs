//! When which Work is looked at in which cluster: a lane for each cluster, so that none waits for another.
//!
//! A lane holds ids only. A Work is in a lane at most once: queued, running, or waiting for its time.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;

use crate::cluster::ClusterId;
use crate::engine::config::Backoff;
use crate::work::WorkId;

/// All lanes, and what waits for its time.
#[derive(Debug)]
pub(super) struct Schedule {
    most_calls: usize,
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
    /// The Work whose time has come; `None`: the lane's own.
    work: Option<WorkId>,
    number: u64,
}

/// The queue of one cluster.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) cluster: ClusterId,
    /// Bounds the calls to the cluster. There are more workers than that: while some write down what came of their
    /// calls, others call.
    pub(super) calls: Semaphore,
    state: Mutex<LaneState>,
}

#[derive(Debug)]
struct LaneState {
    queue: VecDeque<WorkId>,
    entries: HashMap<WorkId, Entry>,
    workers: usize,
    /// Whether the cluster is said to be reachable.
    ready: bool,
    /// Nothing is started while a pause after the cluster itself failed lasts; the number is the pause's timer.
    paused: Option<u64>,
    /// How often in a row the cluster itself failed. While it is not 0, one Work at a time is tried.
    failures: u32,
}

#[derive(Debug, Default)]
struct Entry {
    phase: Phase,
    /// Something changed while it ran: once more.
    again: bool,
    /// Its resources may be withdrawn though its last event said Create.
    withdraw: bool,
    /// See [`Job::uncertain_until`].
    uncertain_until: Option<Timestamp>,
    /// Failures in a row.
    failures: u32,
}

#[derive(Debug, Default, PartialEq)]
enum Phase {
    #[default]
    Queued,
    Running,
    /// Until the timer of this number.
    Delayed(u64),
}

/// One Work to look at.
pub(super) struct Job {
    pub(super) work: WorkId,
    /// See [`Schedule::withdraw`]. Used up once the Work belongs into the cluster again.
    pub(super) withdraw: bool,
    /// Until when a call that got no answer may still take effect. It stands in the record as well, unless that could not
    /// be written.
    pub(super) uncertain_until: Option<Timestamp>,
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
    /// A schedule that allows so many calls to a cluster at the same time.
    pub(super) fn new(most_calls: usize) -> Self {
        Self {
            most_calls: most_calls.max(1),
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
        Arc::clone(lanes.entry(cluster.clone()).or_insert_with(|| {
            // A cluster that is not known yet is not ready: what is queued waits until it joins.
            Arc::new(Lane {
                cluster: cluster.clone(),
                calls: Semaphore::new(self.most_calls),
                state: Mutex::new(LaneState::new()),
            })
        }))
    }

    /// Has a Work looked at in a cluster. Returns the lane if a worker is to be started on it.
    #[must_use]
    pub(super) fn enqueue(&self, work: &WorkId, cluster: &ClusterId) -> Option<Arc<Lane>> {
        let lane = self.lane(cluster);
        let start = lane.state.lock().enqueue(work, false, self.most_workers());
        start.then_some(lane)
    }

    /// The same, and allows that the Work's resources are taken out of the cluster though no event said so.
    #[must_use]
    pub(super) fn withdraw(&self, work: &WorkId, cluster: &ClusterId) -> Option<Arc<Lane>> {
        let lane = self.lane(cluster);
        let start = lane.state.lock().enqueue(work, true, self.most_workers());
        start.then_some(lane)
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
        }
        match verdict {
            Verdict::Done => {
                state.failures = 0;
                state.finish_done(work);
            }
            Verdict::Again => {
                state.failures = 0;
                state.requeue(work);
            }
            Verdict::Later { backoff, least } => {
                state.failures = 0;
                let Some(entry) = state.entries.get_mut(work) else {
                    return;
                };
                if entry.again {
                    // Something changed: no reason to wait.
                    state.requeue(work);
                } else {
                    let pause = backoff.pause(entry.failures, entropy).max(least);
                    entry.failures = entry.failures.saturating_add(1);
                    entry.phase = Phase::Delayed(self.set_timer(lane, Some(work.clone()), pause));
                }
            }
            Verdict::ClusterFailed { backoff, least } => {
                // What failed together is one failure.
                if state.paused.is_none() {
                    let pause = backoff.pause(state.failures, entropy).max(least);
                    state.failures = state.failures.saturating_add(1);
                    state.paused = Some(self.set_timer(lane, None, pause));
                }
                state.requeue(work);
            }
        }
    }

    fn set_timer(&self, lane: &Arc<Lane>, work: Option<WorkId>, pause: Duration) -> u64 {
        let mut timers = self.timers.lock();
        timers.last += 1;
        let number = timers.last;
        timers.due.insert((Instant::now() + pause, number), Due { lane: Arc::clone(lane), work, number });
        drop(timers);
        self.timer_added.notify_one();
        number
    }

    /// Waits until a timer is due, and returns the lanes on which a worker is to be started. Cancel safe.
    pub(super) async fn due(&self) -> Vec<Arc<Lane>> {
        loop {
            let next = self.timers.lock().due.first_key_value().map(|((at, _), _)| *at);
            match next {
                Some(at) if at <= Instant::now() => break,
                Some(at) => tokio::select! {
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
        let mut lanes = Vec::new();
        for due in due.into_values() {
            let start = due.lane.state.lock().timer_came(&due, self.most_workers());
            if start {
                lanes.push(due.lane);
            }
        }
        lanes
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

impl Lane {
    /// The next job for a worker; `None`: the worker is to end.
    pub(super) fn next(&self) -> Option<Job> {
        let mut state = self.state.lock();
        if state.may_run()
            && let Some(work) = state.queue.pop_front()
            && let Some(entry) = state.entries.get_mut(&work)
        {
            entry.phase = Phase::Running;
            entry.again = false;
            let withdraw = std::mem::take(&mut entry.withdraw);
            return Some(Job { work, withdraw, uncertain_until: entry.uncertain_until });
        }
        state.workers -= 1;
        None
    }
}

impl LaneState {
    fn new() -> Self {
        Self {
            queue: VecDeque::new(),
            entries: HashMap::new(),
            workers: 0,
            ready: false,
            paused: None,
            failures: 0,
        }
    }

    fn may_run(&self) -> bool {
        self.ready && self.paused.is_none() && (self.failures == 0 || self.workers <= 1)
    }

    fn start_worker(&mut self, most: usize) -> bool {
        let most = if self.failures == 0 { most } else { 1 };
        let start = self.ready && self.paused.is_none() && self.workers < most && !self.queue.is_empty();
        self.workers += usize::from(start);
        start
    }

    fn enqueue(&mut self, work: &WorkId, withdraw: bool, most: usize) -> bool {
        match self.entries.get_mut(work) {
            None => {
                self.entries.insert(work.clone(), Entry { withdraw, ..Entry::default() });
                self.queue.push_back(work.clone());
            }
            Some(entry) => {
                entry.withdraw |= withdraw;
                // What kept it from succeeding may have changed.
                entry.failures = 0;
                match entry.phase {
                    Phase::Queued => {}
                    Phase::Running => entry.again = true,
                    Phase::Delayed(_) => {
                        entry.phase = Phase::Queued;
                        self.queue.push_back(work.clone());
                    }
                }
            }
        }
        self.start_worker(most)
    }

    fn requeue(&mut self, work: &WorkId) {
        if let Some(entry) = self.entries.get_mut(work) {
            entry.phase = Phase::Queued;
            entry.again = false;
            self.queue.push_back(work.clone());
        }
    }

    fn finish_done(&mut self, work: &WorkId) {
        match self.entries.get(work) {
            Some(entry) if entry.again => self.requeue(work),
            _ => {
                self.entries.remove(work);
            }
        }
    }

    /// A timer that was overtaken (its number is not the one that is waited for) does nothing.
    fn timer_came(&mut self, due: &Due, most: usize) -> bool {
        match &due.work {
            Some(work) => {
                if let Some(entry) = self.entries.get_mut(work)
                    && entry.phase == Phase::Delayed(due.number)
                {
                    entry.phase = Phase::Queued;
                    self.queue.push_back(work.clone());
                }
            }
            None if self.paused == Some(due.number) => self.paused = None,
            None => {}
        }
        self.start_worker(most)
    }
}
