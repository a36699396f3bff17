//! The handle to a running engine.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::catalog::Subject;
use crate::dead_letter::DeadLetterBox;
use crate::engine::deliver::Attached;
use crate::engine::withdrawals::{self, HeldWithdrawals};
use crate::engine::{Counters, RecentDelivery, Shared, Stray};
use crate::resource::Resources;
use crate::source::EventSource;

/// A handle to an engine: attaches sources and looks at what it does. Clones speak of the same engine.
#[derive(Clone)]
pub struct Handle {
    pub(super) shared: Arc<Shared>,
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle").field("attached", &self.shared.feeds.names()).finish_non_exhaustive()
    }
}

impl Handle {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Reads a source from now on, in place of the one whose [feed](EventSource::feed) had the same name. Reading begins
    /// once definitions and clusters have loaded.
    pub fn attach(&self, source: Arc<dyn EventSource>) {
        self.attach_with_dead_letters(source, Arc::clone(&self.shared.letters));
    }

    /// The same, and what the source delivers and is refused goes to `letters` instead of the store.
    pub fn attach_with_dead_letters(&self, source: Arc<dyn EventSource>, letters: Arc<dyn DeadLetterBox>) {
        let (feed, name): (Arc<str>, Arc<str>) = (source.feed().into(), source.name().into());
        let in_flight = self.shared.feeds.in_flight(&feed, self.shared.config.max_in_flight);
        let attached = Attached { source, letters, in_flight, stop: self.shared.stop.child_token() };
        // What another one has settled says nothing of this one.
        self.shared.expiries.forget_settled(&feed);
        if let Some(old) = self.shared.feeds.insert(&feed, attached.clone()) {
            old.stop.cancel();
        }
        // What waited for any feed to come has this one to ask.
        self.shared.expiries.look_again(&name);
        self.shared.attach(attached);
    }

    /// Stops reading a feed: by the name of the EventSource, if that is one feed. Deliveries that were read are finished.
    pub fn detach(&self, feed: &str) {
        let Some((removed, condition)) = self.shared.feeds.remove(feed) else { return };
        removed.stop.cancel();
        self.shared.expiries.forget_settled(feed);
        self.shared.expiries.look_again(feed);
        if let Some(condition) = condition {
            self.shared.catalog.report(&Subject::Source(removed.source.name().into()), condition);
        }
    }

    /// What the engine has counted.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.shared.counters)
    }

    /// How many events each source knows to be lost.
    pub fn lost(&self) -> BTreeMap<Arc<str>, u64> {
        self.shared.feeds.lost()
    }

    /// Whether definitions and clusters have loaded, so that sources are read.
    pub fn is_loaded(&self) -> bool {
        *self.shared.loaded.borrow()
    }

    /// Waits until definitions and clusters have loaded. Cancel safe.
    pub async fn wait_until_loaded(&self) {
        self.shared.wait_until_loaded().await;
    }

    /// How many Works wait in memory to be looked at, counted once for each cluster. At [`Config::max_queued`] more may
    /// wait in the store.
    ///
    /// [`Config::max_queued`]: crate::engine::Config::max_queued
    pub fn backlog(&self) -> usize {
        self.shared.schedule.backlog()
    }

    /// What is known of the objects of the management cluster that are referred to.
    pub fn resources(&self) -> Arc<Resources> {
        Arc::clone(&self.shared.definitions.load().resources)
    }

    /// How many Works are kept only because an older event may still come.
    pub fn tombstones(&self) -> usize {
        self.shared.tombstones.len()
    }

    /// Objects that carry a mark and are not known to belong to any Work.
    pub fn strays(&self) -> Vec<Stray> {
        self.shared.holdings.strays()
    }

    /// What came of the last deliveries, oldest first: as many as [`Config::recent_deliveries`] says. What is sent again by
    /// hand is not among them.
    ///
    /// [`Config::recent_deliveries`]: crate::engine::Config::recent_deliveries
    pub fn recent(&self) -> Vec<RecentDelivery> {
        self.shared.recent.all()
    }

    /// Withdrawals that wait to be confirmed, because they are too many at once.
    pub fn held_withdrawals(&self) -> Option<HeldWithdrawals> {
        withdrawals::held(&self.shared)
    }

    /// Lets held withdrawals go ahead. Returns how many Works that concerns.
    pub fn confirm_withdrawals(&self) -> usize {
        withdrawals::confirm(&self.shared)
    }

    /// Looks at every Work again now: what is stalled or waits for its next try is tried at once.
    pub fn retry_all(&self) {
        self.shared.sweeps.everything();
    }
}
