//! Taking away what no event of its key asks to be taken away: a definition or a cluster changed, or a snapshot of what is
//! live lacks a key.
//!
//! Absence is not an order: what would take away more than a share of all Works at once is held until it is confirmed, or
//! until what it follows from says otherwise.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::engine::queue::Cause;
use crate::engine::sweep::WorkIn;
use crate::engine::{Shared, snapshots};
use crate::position::Position;
use crate::work::WorkId;

/// Withdrawals within such a time count together: many small changes in a row are one large one.
const AT_ONCE: Duration = Duration::from_secs(60);

/// A Work to be taken out of a cluster, itself or what is local; or, without a place, a key that is to be deleted.
type Withdrawal = (WorkId, Option<WorkIn>);

/// What went ahead lately, and what waits to be confirmed.
#[derive(Debug, Default)]
pub(super) struct Withdrawals {
    held: Mutex<Held>,
    /// Went ahead lately, and when.
    allowed: Mutex<BTreeMap<Withdrawal, Instant>>,
}

#[derive(Debug, Default)]
struct Held {
    in_clusters: BTreeSet<(WorkId, WorkIn)>,
    /// Keys that a snapshot lacks, and its place.
    keys: BTreeMap<WorkId, Position>,
}

impl Held {
    /// How many Works these are.
    fn works(&self) -> usize {
        let works: BTreeSet<_> =
            self.in_clusters.iter().map(|(work, _)| work).chain(self.keys.keys()).collect();
        works.len()
    }
}

/// Withdrawals that wait to be confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldWithdrawals {
    /// How many Works would lose their resources in some cluster.
    pub works: usize,
    /// How many Works are to be somewhere at all.
    pub total: usize,
}

impl Withdrawals {
    /// Whether anything to be taken out of a cluster is held.
    pub(super) fn holds_in_clusters(&self) -> bool {
        !self.held.lock().in_clusters.is_empty()
    }

    /// Whether this is held.
    pub(super) fn holds(&self, work: &WorkId, place: WorkIn) -> bool {
        self.held.lock().in_clusters.contains(&(work.clone(), place))
    }

    /// A key is live.
    pub(super) fn renewed(&self, work: &WorkId) {
        self.held.lock().keys.remove(work);
    }
}

/// Takes Works out of clusters, or holds that if they are too many. `everything`: nothing else is to be taken out of any.
pub(super) fn from_clusters(shared: &Arc<Shared>, wanted: BTreeSet<(WorkId, WorkIn)>, everything: bool) {
    let wanted = wanted.into_iter().map(|(work, place)| (work, Some(place)));
    let (ahead, too_many) = bound(shared, wanted.collect());
    let in_cluster = |(work, place): Withdrawal| Some((work, place?));
    let mut held = shared.withdrawals.held.lock();
    if everything {
        held.in_clusters.clear();
    }
    held.in_clusters.extend(too_many.into_iter().filter_map(in_cluster));
    drop(held);
    for (_, (work, cluster)) in ahead.into_iter().filter_map(in_cluster) {
        shared.withdraw(&work, &cluster, Cause::Sweep);
    }
}

/// Says which of these keys may be deleted now; the others are held if they are too many.
pub(super) fn of_keys(shared: &Shared, wanted: BTreeMap<WorkId, Position>) -> BTreeMap<WorkId, Position> {
    let (ahead, too_many) = bound(shared, wanted.keys().map(|work| (work.clone(), None)).collect());
    let mut keys = wanted;
    let too_many: BTreeMap<_, _> = too_many.iter().filter_map(|(work, _)| keys.remove_entry(work)).collect();
    let mut held = shared.withdrawals.held.lock();
    ahead.iter().for_each(|(work, _)| drop(held.keys.remove(work)));
    held.keys.extend(too_many);
    keys
}

/// What may go ahead, and what is too much at once.
fn bound(shared: &Shared, wanted: BTreeSet<Withdrawal>) -> (Vec<Withdrawal>, Vec<Withdrawal>) {
    let config = &shared.config;
    let mut allowed = shared.withdrawals.allowed.lock();
    allowed.retain(|_, since| since.elapsed() < AT_ONCE);
    // Those that went ahead are not among the live ones any more.
    let total = shared.total() + distinct(allowed.keys());
    let most = (total * config.max_withdraw_percent / 100).max(config.max_withdraw_floor);
    let works = distinct(wanted.iter().chain(allowed.keys()).collect::<BTreeSet<_>>());
    let (ahead, too_many): (Vec<_>, Vec<_>) =
        wanted.into_iter().partition(|one| works <= most || allowed.contains_key(one));
    let now = Instant::now();
    allowed.extend(ahead.iter().cloned().map(|one| (one, now)));
    drop(allowed);
    if !too_many.is_empty() {
        tracing::error!(
            works,
            total,
            most,
            "withdrawing so many Works at once has to be confirmed; they stay as they are"
        );
    }
    (ahead, too_many)
}

/// How many Works these are.
fn distinct<'a>(withdrawals: impl IntoIterator<Item = &'a Withdrawal>) -> usize {
    let mut last = None;
    withdrawals.into_iter().filter(|(work, _)| last.replace(work) != Some(work)).count()
}

/// What waits to be confirmed.
pub(super) fn held(shared: &Shared) -> Option<HeldWithdrawals> {
    let works = shared.withdrawals.held.lock().works();
    (works > 0).then(|| HeldWithdrawals { works, total: shared.total() })
}

/// Lets go ahead what is held. Returns how many Works that concerns.
pub(super) fn confirm(shared: &Arc<Shared>) -> usize {
    let held = std::mem::take(&mut *shared.withdrawals.held.lock());
    let works = held.works();
    for (_, (work, cluster)) in held.in_clusters {
        shared.withdraw(&work, &cluster, Cause::Sweep);
    }
    if !held.keys.is_empty() {
        let shared_by_task = Arc::clone(shared);
        shared.spawn(async move { snapshots::delete_confirmed(&shared_by_task, held.keys).await });
    }
    works
}
