//! A lane: whatever changes is looked at after it changed, one look at a time, with as many workers as may be.

use shuttle::future::block_on;
use shuttle::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use shuttle::sync::{Arc, Mutex};
use shuttle::thread::{self, JoinHandle};

use super::lane::Lane;
use super::queue::Cause;
use super::schedule::{Schedule, Start, Verdict};
use crate::cluster::ClusterId;
use crate::work::WorkId;

/// A cluster and what is wanted there; the part of the engine that the schedule is for.
struct Engine {
    schedule: Schedule,
    cluster: ClusterId,
    works: Vec<State>,
    busy: AtomicUsize,
    most_busy: usize,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

#[derive(Default)]
struct State {
    /// How often it changed, as the store knows it.
    wanted: AtomicUsize,
    /// Which of these changes is in the cluster.
    applied: AtomicUsize,
    running: AtomicBool,
}

impl Engine {
    fn new(calls: usize, queued: usize, works: usize) -> Arc<Self> {
        let cluster = ClusterId::new("fleet", "c").unwrap();
        let schedule = Schedule::new(calls, queued);
        let start = schedule.set_ready(&cluster, true);
        assert!(start.is_none(), "nothing is to be done yet");
        let works = (0..works).map(|_| State::default()).collect();
        let (busy, tasks) = (AtomicUsize::new(0), Mutex::default());
        Arc::new(Self { schedule, cluster, works, busy, most_busy: calls * 2, tasks })
    }

    /// A change is stored, then the Work is to be looked at.
    fn change(self: &Arc<Self>, work: usize, cause: Cause) {
        self.works[work].wanted.fetch_add(1, SeqCst);
        self.start(self.schedule.enqueue(&WorkId(work), &self.cluster, cause));
    }

    fn start(self: &Arc<Self>, start: Start) {
        if let Some(lane) = start.worker {
            self.spawn(move |engine| engine.work(&lane));
        }
        if let Some(lane) = start.refill {
            self.spawn(move |engine| engine.refill(&lane));
        }
    }

    fn spawn(self: &Arc<Self>, task: impl FnOnce(&Arc<Self>) + Send + 'static) {
        let engine = Arc::clone(self);
        let task = thread::spawn(move || task(&engine));
        self.tasks.lock().unwrap().push(task);
    }

    /// As `Shared::start_worker` has it.
    fn work(self: &Arc<Self>, lane: &std::sync::Arc<Lane>) {
        while let Some(job) = lane.next() {
            assert!(self.busy.fetch_add(1, SeqCst) < self.most_busy, "there are too many workers");
            let state = &self.works[job.work.0];
            assert!(!state.running.swap(true, SeqCst), "a Work is looked at twice at the same time");
            let wanted = state.wanted.load(SeqCst);
            thread::yield_now();
            state.applied.store(wanted, SeqCst);
            state.running.store(false, SeqCst);
            self.busy.fetch_sub(1, SeqCst);
            lane.has_looked(&job.work, false);
            self.schedule.finish(lane, &job, Verdict::Done, 0);
            if self.schedule.wants_more(lane) {
                let lane = std::sync::Arc::clone(lane);
                self.spawn(move |engine| engine.work(&lane));
            }
        }
    }

    /// As `refill::run` has it: in the store is what was wanted and is not applied.
    fn refill(self: &Arc<Self>, lane: &std::sync::Arc<Lane>) {
        loop {
            block_on(self.schedule.room(lane));
            lane.begin_refill();
            for (number, state) in self.works.iter().enumerate() {
                if state.wanted.load(SeqCst) != state.applied.load(SeqCst) {
                    block_on(self.schedule.room(lane));
                    self.start(self.schedule.enqueue(&WorkId(number), &self.cluster, Cause::Sweep));
                }
            }
            if lane.end_refill() {
                return;
            }
        }
    }

    /// When nothing is under way any more, everything is as it should be.
    fn settle(&self) {
        loop {
            let Some(task) = self.tasks.lock().unwrap().pop() else { break };
            task.join().unwrap();
        }
        for (number, state) in self.works.iter().enumerate() {
            let (wanted, applied) = (state.wanted.load(SeqCst), state.applied.load(SeqCst));
            assert_eq!(applied, wanted, "a change of Work {number} was never looked at");
        }
        assert_eq!(self.schedule.backlog(), 0);
    }
}

fn from_all_sides<const N: usize>(engine: &Arc<Engine>, sides: [(&'static [usize], Cause); N]) {
    let sides = sides.map(|(works, cause)| {
        let engine = Arc::clone(engine);
        thread::spawn(move || works.iter().for_each(|work| engine.change(*work, cause)))
    });
    for side in sides {
        side.join().unwrap();
    }
    engine.settle();
}

/// Events and sweeps want the same Works looked at while workers run out of work.
pub fn no_change_is_missed() {
    let engine = Engine::new(1, 100, 2);
    from_all_sides(&engine, [(&[0, 0], Cause::Event), (&[0], Cause::Sweep), (&[1], Cause::Sweep)]);
}

/// One worker may run. It ends when it finds nothing to do, just when there is something again.
pub fn the_last_worker_misses_nothing() {
    struct Last {
        lane: Lane,
        state: State,
    }
    fn change(last: &Arc<Last>) {
        last.state.wanted.fetch_add(1, SeqCst);
        let start = last.lane.state.lock().enqueue(&(&WorkId(0)).into(), Cause::Event, false, 1);
        if start {
            let last = Arc::clone(last);
            thread::spawn(move || work(&last));
        }
    }
    fn work(last: &Last) {
        while let Some(job) = last.lane.next() {
            last.state.applied.store(last.state.wanted.load(SeqCst), SeqCst);
            last.lane.state.lock().finish_done(&job.work);
        }
    }
    let lane = Lane::new(ClusterId::new("fleet", "c").unwrap(), 1);
    lane.state.lock().ready = true;
    let last = Arc::new(Last { lane, state: State::default() });
    let other = {
        let last = Arc::clone(&last);
        thread::spawn(move || change(&last))
    };
    change(&last);
    other.join().unwrap();
    while last.state.applied.load(SeqCst) < last.state.wanted.load(SeqCst) {
        // With nobody at it, this waits for good; Shuttle bounds the steps.
        thread::yield_now();
    }
}

/// More than the lane holds: what finds no room is brought in from the store.
pub fn what_finds_no_room_is_brought_in() {
    let engine = Engine::new(1, 2, 5);
    from_all_sides(&engine, [(&[0, 1, 2], Cause::Event), (&[3, 4, 0], Cause::Event)]);
}

/// A cluster is found ready and not ready while there is work: all of it is done once it is ready for good.
pub fn a_cluster_that_comes_back_is_caught_up_with() {
    let engine = Engine::new(1, 100, 2);
    let ready = {
        let engine = Arc::clone(&engine);
        thread::spawn(move || {
            for ready in [false, true, false, true] {
                let worker = engine.schedule.set_ready(&engine.cluster, ready);
                engine.start(Start { worker, refill: None });
            }
        })
    };
    engine.change(0, Cause::Event);
    engine.change(1, Cause::Sweep);
    engine.change(0, Cause::Event);
    ready.join().unwrap();
    engine.settle();
}
