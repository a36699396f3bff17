//! The engine: turns each event (an edge) into Work (a level), and keeps the level true.
//!
//! Data flows one way. `deliver` reads sources, `judge` decides what a delivery means, the store keeps it, and
//! only then is it acknowledged. From there on only levels count: `schedule` holds a lane for each cluster, and
//! `reconcile` brings one Work up to date in one cluster. A change of definitions or clusters makes `sweep` look at
//! what it concerns again.

mod accept;
pub mod clusters;
mod conditions;
mod config;
mod counters;
mod definitions;
mod deliver;
mod digest;
mod dispatch;
mod expiry;
mod feeds;
mod foretell;
mod found;
mod handle;
mod holdings;
mod judge;
mod lane;
mod listening;
mod local;
mod observing;
mod others;
mod payload;
mod queue;
mod reads;
mod recent;
mod reconcile;
mod record;
mod references;
mod refill;
mod resend;
mod rollout;
mod schedule;
mod snapshots;
mod standing;
mod summary;
mod sweep;
mod together;
mod tombstones;
mod triggers;
mod turns;
mod withdrawals;
mod world;

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures::FutureExt;
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use self::config::{Backoff, Config};
pub use self::counters::{BUCKETS, Counter, Counters, Histogram};
pub use self::foretell::{CannotRender, Fate, Foresight, Foretold, Meaning, Piece, Place};
pub use self::handle::Handle;
pub use self::holdings::Stray;
pub use self::recent::{DeliveryFate, EventNames, RecentDelivery, RecentWork, WorkFate};
pub use self::references::ResourcesOfCluster;
pub use self::resend::{ResendError, Resent};
pub use self::withdrawals::HeldWithdrawals;

use self::accept::Unanswered;
use self::clusters::ClusterIndex;
use self::conditions::Conditions;
use self::definitions::Definitions;
use self::deliver::Attached;
use self::expiry::Expiries;
use self::feeds::Feeds;
use self::found::FoundObjects;
use self::holdings::Holdings;
use self::lane::Lane;
use self::observing::Observers;
use self::queue::Pace;
use self::recent::Recent;
use self::references::RenderedFrom;
use self::rollout::Rollouts;
use self::schedule::{Schedule, Verdict};
use self::snapshots::Snapshots;
use self::sweep::Sweeps;
use self::together::Together;
use self::tombstones::Tombstones;
use self::turns::Turns;
use self::withdrawals::Withdrawals;
use crate::apply::{Applier, Outcome};
use crate::catalog::Catalog;
use crate::cluster::{Cluster, ClusterId, ClusterSelector};
use crate::dead_letter::{DeadLetterBox, InStore};
use crate::environment::Environment;
use crate::position::{Domain, Position};
use crate::render::Renderer;
use crate::store::WorkStore;

/// What an engine is composed of.
#[derive(Clone)]
pub struct Parts {
    /// Keeps Works.
    pub store: Arc<dyn WorkStore>,
    /// Gives definitions.
    pub catalog: Arc<dyn Catalog>,
    /// Gives clusters.
    pub clusters: Arc<dyn ClusterSelector>,
    /// Renders templates.
    pub renderer: Arc<dyn Renderer>,
    /// Applies manifests.
    pub applier: Arc<dyn Applier>,
    /// Clock, randomness, tasks.
    pub environment: Environment,
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Parts")
    }
}

/// The engine. See the [module](self).
pub struct Engine {
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Engine")
    }
}

/// What all tasks of an engine share.
struct Shared {
    store: Arc<dyn WorkStore>,
    catalog: Arc<dyn Catalog>,
    selector: Arc<dyn ClusterSelector>,
    renderer: Arc<dyn Renderer>,
    applier: Arc<dyn Applier>,
    environment: Environment,
    config: Config,
    counters: Arc<Counters>,
    /// The sources that are read.
    feeds: Feeds,
    /// Where dead letters go, unless their source says otherwise.
    letters: Arc<dyn DeadLetterBox>,
    definitions: ArcSwap<Definitions>,
    clusters: ClusterIndex,
    /// Clusters that left since the start, as they were last: what was put there is to be withdrawn.
    left: Mutex<BTreeMap<ClusterId, Arc<Cluster>>>,
    turns: Arc<Turns>,
    schedule: Schedule,
    sweeps: Sweeps,
    withdrawals: Withdrawals,
    snapshots: Snapshots,
    /// How fast sweeps bring in Works.
    pace: Pace,
    rollouts: Rollouts,
    /// Which Works were rendered from which objects of the management cluster.
    rendered_from: RenderedFrom,
    departed: Mutex<reconcile::depend::Departed>,
    tombstones: Tombstones,
    together: Together,
    expiries: Expiries,
    unanswered: Unanswered,
    holdings: Holdings,
    observers: Observers,
    found: FoundObjects,
    conditions: Conditions,
    /// What came of the last deliveries, for people.
    recent: Recent,
    /// How many Works are to be somewhere, roughly between sweeps: what is only remembered does not count.
    live: AtomicUsize,
    /// The operator's own domain: for events whose source has no order.
    epoch: AtomicU64,
    sequence: AtomicU64,
    /// When this process began to run: nothing that it did is older.
    started: OnceLock<Timestamp>,
    loaded: tokio::sync::watch::Sender<bool>,
    tasks: TaskTracker,
    stop: CancellationToken,
    /// Has what is not stored yet given back: the time to stop is nearly over.
    cut: CancellationToken,
}

/// What was made of a failed or unanswered call of the Applier.
const NO_ANSWER: &str = "no answer by the deadline";
const PANICKED: &str = "the applier failed; this is a bug, please report it";
/// How much of the time to stop is for giving back what could not be stored.
const GIVING_BACK: Duration = Duration::from_secs(1);
/// How long past its deadline an Applier is waited for, that keeps to its contract a little late.
const GRACE: Duration = Duration::from_secs(1);

impl Engine {
    /// Composes an engine. Nothing happens before [`run`](Self::run).
    pub fn new(parts: Parts, config: Config) -> Self {
        let Parts { store, catalog, clusters, renderer, applier, environment } = parts;
        let shared = Shared {
            letters: Arc::new(InStore::of(Arc::clone(&store))),
            store,
            catalog,
            selector: clusters,
            renderer,
            applier,
            counters: Arc::default(),
            feeds: Feeds::default(),
            definitions: ArcSwap::default(),
            clusters: ClusterIndex::default(),
            left: Mutex::default(),
            turns: Arc::default(),
            schedule: Schedule::new(config.cluster_concurrency, config.max_queued),
            sweeps: Sweeps::default(),
            withdrawals: Withdrawals::default(),
            snapshots: Snapshots::default(),
            pace: Pace::new(config.rerenders_per_second),
            rollouts: Rollouts::default(),
            rendered_from: RenderedFrom::default(),
            departed: Mutex::default(),
            tombstones: Tombstones::default(),
            together: Together::default(),
            expiries: Expiries::default(),
            unanswered: Unanswered::default(),
            holdings: Holdings::default(),
            observers: Observers::default(),
            found: FoundObjects::default(),
            conditions: Conditions::default(),
            recent: Recent::new(config.recent_deliveries),
            live: AtomicUsize::new(0),
            epoch: AtomicU64::new(0),
            sequence: AtomicU64::new(0),
            started: OnceLock::new(),
            environment,
            config,
            loaded: tokio::sync::watch::Sender::new(false),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            cut: CancellationToken::new(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// A handle to it, to attach sources and to look at it.
    pub fn handle(&self) -> Handle {
        Handle::new(Arc::clone(&self.shared))
    }

    /// Runs until `stop` is cancelled; then stops reading, lets what is in flight finish, and returns. What is not done
    /// by the drain deadline is given up: what is stored is done after the next start, what is not is given back.
    pub async fn run(self, stop: CancellationToken) {
        let Self { shared } = self;
        shared.started();
        let world = world::follow(&shared);
        let sweeps = async {
            shared.wait_until_loaded().await;
            observing::load(&shared).await;
            sweep::run(&shared).await;
        };
        let timers = async {
            loop {
                for start in shared.schedule.due().await {
                    shared.start(start);
                }
            }
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = world => tracing::error!("definitions and clusters have ended; stopping"),
            () = sweeps => {}
            () = timers => {}
            () = tombstones::expire(&shared) => {}
            () = expiry::run(&shared) => {}
            () = snapshots::run(&shared) => {}
            () = others::follow(&shared) => {}
            () = found::run(&shared) => {}
            () = rollout::run(&shared) => {}
            () = references::tell(&shared) => {}
        }
        shared.stop.cancel();
        shared.tasks.close();
        let drain = shared.config.drain_deadline;
        let giving_back = GIVING_BACK.min(drain / 4);
        if tokio::time::timeout(drain.saturating_sub(giving_back), shared.tasks.wait()).await.is_ok() {
            return;
        }
        shared.cut.cancel();
        if tokio::time::timeout(giving_back, shared.tasks.wait()).await.is_err() {
            tracing::warn!(
                tasks = shared.tasks.len(),
                "the drain deadline passed; the rest is done after the next start"
            );
        }
    }
}

impl Shared {
    fn now(&self) -> Timestamp {
        self.environment.clock.now()
    }

    /// The epoch of the operator's own domain in this process.
    fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Relaxed)
    }

    fn started(&self) -> Timestamp {
        *self.started.get_or_init(|| self.now())
    }

    fn entropy(&self) -> u64 {
        self.environment.entropy.next()
    }

    fn pause(&self, backoff: Backoff, failures: u32) -> Duration {
        backoff.pause(failures, self.entropy())
    }

    fn later(&self, backoff: Backoff) -> Verdict {
        Verdict::Later { backoff, least: Duration::ZERO }
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.environment.spawner.spawn(self.tasks.track_future(task).boxed());
    }

    async fn wait_until_loaded(&self) {
        // The sender lives as long as self.
        let _ = self.loaded.subscribe().wait_for(|loaded| *loaded).await;
    }

    /// The position of an event whose source has no order of its own: that of its acceptance.
    fn next_position(&self) -> Position {
        Position {
            domain: Domain::operator(),
            epoch: self.epoch(),
            sequence: self.sequence.fetch_add(1, Ordering::Relaxed) + 1,
        }
    }

    /// Until when a call made now may still take effect without an answer; `None` where that cannot be.
    fn uncertain_until(&self) -> Option<Timestamp> {
        self.uncertain_since(self.now())
    }

    /// Until when a call that this process does not know of, made before it started, may still take effect.
    fn uncertain_since_start(&self) -> Option<Timestamp> {
        self.uncertain_since(self.started())
    }

    fn uncertain_since(&self, time: Timestamp) -> Option<Timestamp> {
        let settle = self.applier.settle_time();
        if settle.is_zero() {
            return None;
        }
        let span =
            SignedDuration::try_from(settle + self.config.apply_deadline).unwrap_or(SignedDuration::MAX);
        Some(time.checked_add(span).unwrap_or(Timestamp::MAX))
    }

    /// Calls the Applier with a bound on time, and on how many do so; an answer that is late, missing or short is no
    /// answer.
    async fn bounded(
        &self,
        lane: &Lane,
        call: impl Future<Output = Vec<Outcome>>,
        expected: usize,
    ) -> Vec<Outcome> {
        // Never closed.
        let _permit = lane.calls.acquire().await;
        let call = AssertUnwindSafe(call).catch_unwind();
        let no_answer = |reason: &str| Outcome::Unknown { reason: reason.to_owned() };
        match tokio::time::timeout(self.config.apply_deadline + GRACE, call).await {
            Ok(Ok(mut outcomes)) => {
                outcomes.resize_with(expected, || no_answer(PANICKED));
                outcomes
            }
            Ok(Err(_)) => vec![no_answer(PANICKED); expected],
            Err(_) => vec![no_answer(NO_ANSWER); expected],
        }
    }

    /// A cluster where something may be: one that is managed, or that was.
    fn reachable(&self, id: &ClusterId) -> Option<Arc<Cluster>> {
        self.clusters.get(id).or_else(|| self.left.lock().get(id).cloned())
    }

    /// Counts a Work that is to be somewhere from now on, or not any more.
    fn note_live(&self, was: bool, is: bool) {
        let count = |live: usize| live.saturating_add(usize::from(is)).saturating_sub(usize::from(was));
        let _ = self.live.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |live| Some(count(live)));
    }

    fn total(&self) -> usize {
        self.live.load(Ordering::Relaxed)
    }

    fn set_total(&self, total: usize) {
        self.live.store(total, Ordering::Relaxed);
    }

    /// Reads a source in a task of its own, once everything is loaded.
    fn attach(self: &Arc<Self>, attached: Attached) {
        let shared = Arc::clone(self);
        self.spawn(async move {
            let ready = attached.stop.run_until_cancelled(shared.wait_until_loaded()).await;
            if ready.is_some() {
                deliver::read(shared, attached).await;
            }
        });
    }
}
