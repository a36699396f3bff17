//! Keys that nothing renews: once the `ttl` of their trigger has passed since their last event, they are deleted as if a
//! Delete event had come.
//!
//! The ttl is a level: what is due follows from the Work and from the definitions as they are now. The queue only says
//! when to look; it holds an id and a time for each live Work of a trigger with a ttl (about 200 bytes each), and is
//! filled from the store at the start.
//!
//! What renews a key may be waiting to be read. So none expires before all feeds that may renew it have settled what was
//! published until then: after a long stop, or while the server is away, keys stay for longer and never for less. A feed
//! of one cluster renews no key of another, so a server that is away there keeps nothing here.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::engine::Shared;
use crate::store::StoreError;
use crate::work::{EventKey, Intent, Work, WorkId};

/// How long the clock is trusted to go on evenly.
const LOOK: Duration = Duration::from_secs(1);
/// So many expire at the same time.
const AT_ONCE: usize = 64;

/// When which Work is to be looked at because it may have expired.
#[derive(Debug, Default)]
pub(super) struct Expiries {
    queue: Mutex<Queue>,
    /// Told when something is due before everything else.
    sooner: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    due: BTreeSet<(Timestamp, WorkId)>,
    of: HashMap<WorkId, Timestamp>,
    /// What is due, and may be renewed by what this feed has not settled yet. Under the name of the EventSource, what no
    /// feed is there for.
    unread: HashMap<Arc<str>, BTreeSet<(Timestamp, WorkId)>>,
    /// Up to when each feed has settled what was published.
    settled: HashMap<Arc<str>, Timestamp>,
}

impl Queue {
    fn remove(&mut self, id: &WorkId) {
        if let Some((id, due)) = self.of.remove_entry(id) {
            self.due.remove(&(due, id));
        }
    }

    fn add(&mut self, due: Timestamp, id: WorkId) {
        self.remove(&id);
        self.of.insert(id.clone(), due);
        self.due.insert((due, id));
    }

    fn is_settled(&self, feed: &str, due: Timestamp) -> bool {
        self.settled.get(feed).is_some_and(|until| *until >= due)
    }
}

impl Expiries {
    /// Has a Work looked at then, and at no other time.
    fn set(&self, id: &WorkId, due: Option<Timestamp>) {
        let mut queue = self.queue.lock();
        if queue.of.get(id).copied() == due {
            return;
        }
        queue.remove(id);
        let Some(due) = due else { return };
        let is_first = queue.due.first().is_none_or(|(first, _)| due < *first);
        queue.add(due, id.clone());
        drop(queue);
        if is_first {
            self.sooner.notify_one();
        }
    }

    /// Takes out what is due.
    fn take(&self, now: Timestamp) -> Vec<WorkId> {
        let mut queue = self.queue.lock();
        let mut taken = Vec::new();
        while queue.due.first().is_some_and(|(due, _)| *due <= now) {
            let Some((_, id)) = queue.due.pop_first() else { break };
            queue.of.remove(&id);
            taken.push(id);
        }
        taken
    }

    /// When something is due, and whether something waits for a feed.
    fn next(&self) -> (Option<Timestamp>, bool) {
        let queue = self.queue.lock();
        (queue.due.first().map(|(due, _)| *due), !queue.unread.is_empty())
    }

    /// A feed has settled what was published until then.
    pub(super) fn settled(&self, feed: &Arc<str>, until: Timestamp) {
        let mut queue = self.queue.lock();
        queue.settled.insert(Arc::clone(feed), until);
        let Some(mut ready) = queue.unread.remove(feed) else { return };
        while let Some((due, id)) = ready.pop_first() {
            if due > until {
                ready.insert((due, id));
                queue.unread.insert(Arc::clone(feed), ready);
                break;
            }
            queue.add(due, id);
        }
        drop(queue);
        self.sooner.notify_one();
    }

    /// Another feed has taken the place of this one, or nothing.
    pub(super) fn forget_settled(&self, feed: &str) {
        self.queue.lock().settled.remove(feed);
    }

    /// Has looked at again what waits for a feed, as that is another one now, or gone.
    pub(super) fn look_again(&self, feed: &str) {
        let mut queue = self.queue.lock();
        let Some(waiting) = queue.unread.remove(feed) else { return };
        for (due, id) in waiting {
            queue.add(due, id);
        }
        drop(queue);
        self.sooner.notify_one();
    }

    fn is_settled(&self, feed: &str, due: Timestamp) -> bool {
        self.queue.lock().is_settled(feed, due)
    }

    /// Has what is due wait for a feed; `false` if that has just settled it.
    fn wait_for(&self, feed: &Arc<str>, due: Timestamp, id: &WorkId) -> bool {
        let mut queue = self.queue.lock();
        let waits = !queue.is_settled(feed, due);
        if waits {
            queue.unread.entry(Arc::clone(feed)).or_default().insert((due, id.clone()));
        }
        waits
    }

    fn waited_for(&self) -> Vec<Arc<str>> {
        self.queue.lock().unread.keys().cloned().collect()
    }
}

/// Deletes keys whose time has come, until it is dropped.
pub(super) async fn run(shared: &Arc<Shared>) {
    shared.wait_until_loaded().await;
    let mut failures = 0;
    let mut asked = Instant::now();
    loop {
        if asked.elapsed() >= LOOK {
            asked = Instant::now();
            shared.ask_feeds();
        }
        let taken = shared.expiries.take(shared.now());
        if taken.is_empty() {
            wait(shared).await;
            continue;
        }
        let expired = futures::stream::iter(taken).map(|id| async move {
            let result = shared.expire(&id).await;
            if let Err(error) = &result {
                tracing::warn!(work = %id, %error, "a key that has expired cannot be deleted; trying again");
                shared.expiries.set(&id, Some(shared.now()));
            }
            result.is_ok()
        });
        let all = expired.buffer_unordered(AT_ONCE).fold(true, async |all, done| all && done).await;
        failures = if all { 0 } else { failures + 1 };
        if failures > 0 {
            tokio::time::sleep(shared.pause(shared.config.retry, failures - 1)).await;
        }
    }
}

/// Waits until something may be due.
async fn wait(shared: &Shared) {
    let sooner = shared.expiries.sooner.notified();
    // The wall clock may be set meanwhile, timers do not follow it.
    let left = match shared.expiries.next() {
        (None, false) => return sooner.await,
        (None, true) => LOOK,
        (Some(due), _) => Duration::try_from(due.duration_since(shared.now())).unwrap_or_default().min(LOOK),
    };
    tokio::select! {
        () = sooner => {}
        () = tokio::time::sleep(left) => {}
    }
}

impl Shared {
    /// When an event of this trigger expires that came then, by the definitions as they are.
    fn expires(&self, trigger: &str, came: Timestamp) -> Option<Timestamp> {
        let ttl = self.definitions.load().triggers.get(trigger)?.def.ttl?;
        let ttl = SignedDuration::try_from(ttl).unwrap_or(SignedDuration::MAX);
        Some(came.checked_add(ttl).unwrap_or(Timestamp::MAX))
    }

    /// Whether an event has expired before it arrived.
    pub(super) fn has_expired(&self, trigger: &str, came: Timestamp) -> bool {
        self.expires(trigger, came).is_some_and(|due| due <= self.now())
    }

    fn due(&self, work: &Work) -> Option<Timestamp> {
        if work.intent == Intent::Delete || work.key == EventKey::All {
            return None;
        }
        self.expires(&work.trigger, work.published.unwrap_or(work.received))
    }

    /// Takes note of when a Work expires.
    pub(super) fn note_expiry(&self, work: &Work) {
        loop {
            let definitions = self.definitions.load();
            self.expiries.set(&work.id, self.due(work));
            // What changes later is followed by a sweep.
            if Arc::ptr_eq(&definitions, &self.definitions.load()) {
                return;
            }
        }
    }

    /// Asks the feeds again for which something waits. Of one that is not read nothing is known.
    fn ask_feeds(&self) {
        for feed in self.expiries.waited_for() {
            if self.feeds.get(&feed).is_some_and(|reading| !reading.report_settled()) {
                self.expiries.look_again(&feed);
            }
        }
    }

    /// Whether what is due waits because a feed may still deliver what renews it. Each is asked up to when all is settled.
    fn may_be_renewed(&self, work: &Work, due: Timestamp) -> bool {
        let definitions = self.definitions.load();
        let trigger = definitions.triggers.get(&work.trigger);
        let Some(source) = trigger.and_then(|trigger| trigger.def.source.as_ref()) else {
            return false;
        };
        let feeds = self.feeds.that_may_renew(source, &work.key);
        if feeds.is_empty() {
            return self.expiries.wait_for(source, due, &work.id);
        }
        feeds.iter().any(|(feed, reading)| {
            !self.expiries.is_settled(feed, due)
                && reading.report_settled()
                && self.expiries.wait_for(feed, due, &work.id)
        })
    }

    /// Deletes a key if its time has come. Whoever renews it at the same moment wins.
    async fn expire(self: &Arc<Self>, id: &WorkId) -> Result<(), StoreError> {
        loop {
            let Some(stored) = self.store.work(id).await? else { return Ok(()) };
            if stored.value.intent == Intent::Delete {
                // Perhaps by an attempt of ours that got no answer.
                self.look_at(&stored.value, Some(&stored.value)).await;
                return Ok(());
            }
            let due = self.due(&stored.value);
            let Some(due) = due.filter(|due| *due <= self.now()) else {
                self.expiries.set(id, due);
                return Ok(());
            };
            if self.may_be_renewed(&stored.value, due) {
                return Ok(());
            }
            if self.end(&stored).await? {
                self.counters.expired.add();
                return Ok(());
            }
        }
    }
}
