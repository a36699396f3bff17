//! Tombstones: Works that are gone, kept because an older event of their key may still come again, or an equal one. A
//! floor that passes the last position of a key ends the first, time the second.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;

use crate::engine::Shared;
use crate::engine::definitions::Found;
use crate::position::{Domain, Position, Positions};
use crate::store::{StoreError, Stored};
use crate::work::{EventKey, Intent, Work, WorkId};

/// How often it is looked whether the time of a tombstone has come.
const LOOK: Duration = Duration::from_secs(5);

/// Epoch, sequence, and whose.
type Place = (u64, u64, WorkId);

/// Which tombstones may go, once a domain's floor passes a place or a time has come.
#[derive(Debug, Default)]
pub(super) struct Tombstones {
    waiting: Mutex<BTreeMap<Domain, Waiting>>,
    expiring: Mutex<BTreeSet<(Timestamp, WorkId)>>,
    /// Up to which sequence of the operator's own domain each trigger has forgotten keys, in this process.
    forgotten: Mutex<BTreeMap<Arc<str>, u64>>,
}

/// What waits for the floor of one domain.
#[derive(Debug, Default)]
struct Waiting {
    /// The floor as it is: what would be below it does not wait.
    floor: (u64, u64),
    /// Whose floor it is, once it was told.
    feed: Option<Arc<str>>,
    places: BTreeSet<Place>,
}

impl Tombstones {
    /// Remembers a tombstone, by its first position that a floor has to pass and has not, as far as `passed` knows;
    /// whether there is one.
    fn add(&self, work: &Work, passed: impl Fn(&Position) -> bool) -> bool {
        let operator = Domain::operator();
        let mut waiting = self.waiting.lock();
        for position in work.positions.iter().filter(|it| it.domain != operator && !passed(it)) {
            let in_domain = waiting.entry(position.domain.clone()).or_default();
            if (position.epoch, position.sequence) > in_domain.floor {
                in_domain.places.insert((position.epoch, position.sequence, work.id.clone()));
                return true;
            }
        }
        false
    }

    /// Takes out those whose place is at or below a floor of a feed.
    fn take_below(&self, feed: &Arc<str>, floor: &Position) -> Vec<WorkId> {
        let mut waiting = self.waiting.lock();
        let Waiting { floor: highest, feed: whose, places } =
            waiting.entry(floor.domain.clone()).or_default();
        whose.get_or_insert_with(|| Arc::clone(feed));
        *highest = (floor.epoch, floor.sequence).max(*highest);
        let mut passed = Vec::new();
        while let Some((epoch, sequence, _)) = places.first() {
            if (*epoch, *sequence) > *highest {
                break;
            }
            passed.extend(places.pop_first().map(|(_, _, id)| id));
        }
        passed
    }

    /// The feed that has told a floor of this domain.
    fn feed_of(&self, domain: &Domain) -> Option<Arc<str>> {
        self.waiting.lock().get(domain)?.feed.clone()
    }

    /// Whether one waits for a floor that would have to pass a place below this position. An earlier epoch is not below:
    /// its places are passed when the first of a later epoch are settled, and only then.
    pub(super) fn wait_below(&self, position: &Position) -> bool {
        let waiting = self.waiting.lock();
        let Some(in_domain) = waiting.get(&position.domain) else { return false };
        let in_epoch = in_domain.places.iter().find(|(epoch, ..)| *epoch == position.epoch);
        in_epoch.is_some_and(|(_, sequence, _)| *sequence < position.sequence)
    }

    /// Whether a trigger has forgotten keys whose last event lay at or above a position of the operator's own domain.
    pub(super) fn has_forgotten(&self, trigger: &str, position: &Position) -> bool {
        self.forgotten.lock().get(trigger).is_some_and(|sequence| position.sequence <= *sequence)
    }

    fn take_expired(&self, now: Timestamp) -> Vec<WorkId> {
        let mut expiring = self.expiring.lock();
        let mut expired = Vec::new();
        while expiring.first().is_some_and(|(until, _)| *until <= now) {
            expired.extend(expiring.pop_first().map(|(_, id)| id));
        }
        expired
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        let waiting: usize = self.waiting.lock().values().map(|waiting| waiting.places.len()).sum();
        waiting + self.expiring.lock().len()
    }
}

/// Under this name the floor of a domain is kept below which a trigger has forgotten keys: what is sent again by hand
/// from below cannot be put in order any more. No feed has such a name.
pub(super) fn forgotten_by(trigger: &str, domain: &Domain) -> String {
    format!("trigger/{trigger}/{}", domain.as_str())
}

/// Drops tombstones whose time has come, until it is dropped itself.
pub(super) async fn expire(shared: &Shared) {
    loop {
        tokio::time::sleep(LOOK).await;
        shared.drop_all(shared.tombstones.take_expired(shared.now())).await;
    }
}

impl Shared {
    /// If nothing is left anywhere of a Work that is to be gone: keeps it as a tombstone for as long as something older
    /// or equal may still come, else drops it.
    pub(super) async fn finish_removal(&self, id: &WorkId) -> Result<(), StoreError> {
        let Some(stored) = self.store.work(id).await? else {
            return Ok(());
        };
        let orphaned = matches!(self.definitions.load().find(&stored.value.trigger), Found::Gone);
        let is_over = stored.value.intent == Intent::Delete || orphaned || self.is_left_over(&stored.value);
        if !is_over || self.is_anywhere(id).await? {
            return Ok(());
        }
        if !orphaned && self.must_remember(&stored.value, |_| false) {
            return Ok(());
        }
        if orphaned && self.waits_for_aggregate(&stored.value).await? {
            return Ok(());
        }
        if !orphaned && stored.value.positions.iter().any(|position| position.domain != Domain::operator()) {
            // A floor has passed it before it was gone everywhere.
            return self.try_drop_all(std::slice::from_ref(id)).await;
        }
        match self.store.delete_work(id, stored.revision).await {
            Ok(()) => {
                for position in stored.value.positions.iter() {
                    self.forget(&stored.value.trigger, position);
                }
                self.note_live(stored.value.intent == Intent::Create, false);
                if stored.value.key == EventKey::All {
                    // Its keys were kept so long.
                    self.sweeps.triggers([Arc::clone(&stored.value.trigger)]);
                }
                Ok(())
            }
            // Somebody wrote it meanwhile: then it is not over.
            Err(error) if error.is_conflict() => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Keeps a Work that is gone as a tombstone, if something older or equal may still come.
    pub(super) fn must_remember(&self, work: &Work, passed: impl Fn(&Position) -> bool) -> bool {
        if self.tombstones.add(work, passed) {
            return true;
        }
        let window = self.definitions.load().sources.get(&work.source).and_then(|source| source.dedupe);
        let window = window.map(|window| SignedDuration::try_from(window).unwrap_or(SignedDuration::MAX));
        let last = work.recent.iter().map(|seen| seen.at).max();
        if let (Some(window), Some(last)) = (window, last) {
            let until = last.checked_add(window).unwrap_or(Timestamp::MAX);
            if until > self.now() {
                self.tombstones.expiring.lock().insert((until, work.id.clone()));
                return true;
            }
        }
        false
    }

    /// Remembers that a key is forgotten whose last event was at this position, as far as nothing else remembers it.
    pub(super) fn forget(&self, trigger: &Arc<str>, position: &Position) {
        if position.domain == Domain::operator() && position.epoch == self.epoch() {
            let mut forgotten = self.tombstones.forgotten.lock();
            let sequence = forgotten.entry(Arc::clone(trigger)).or_default();
            *sequence = position.sequence.max(*sequence);
        }
    }

    /// Drops the tombstones that a floor has made superfluous.
    pub(super) async fn drop_tombstones(&self, feed: &Arc<str>, floor: &Position) {
        self.drop_all(self.tombstones.take_below(feed, floor)).await;
    }

    async fn drop_all(&self, ids: Vec<WorkId>) {
        if ids.is_empty() {
            return;
        }
        if let Err(error) = self.try_drop_all(&ids).await {
            tracing::warn!(%error, "tombstones cannot be dropped; they stay until the next start");
        }
    }

    async fn try_drop_all(&self, ids: &[WorkId]) -> Result<(), StoreError> {
        let mut superfluous: Vec<Stored<Arc<Work>>> = Vec::new();
        let mut forgotten: BTreeMap<Arc<str>, Positions> = BTreeMap::new();
        // Floors only rise: those of a moment ago say nothing wrong.
        let mut floors: BTreeMap<Arc<str>, Vec<Position>> = BTreeMap::new();
        for id in ids {
            let Some(stored) = self.store.work(id).await? else { continue };
            if stored.value.intent != Intent::Delete || self.is_anywhere(id).await? {
                continue;
            }
            for position in stored.value.positions.iter() {
                let feed = self.tombstones.feed_of(&position.domain);
                let feed = feed.unwrap_or_else(|| Arc::clone(&stored.value.source));
                if let Entry::Vacant(place) = floors.entry(feed) {
                    let of_feed = self.store.floors(place.key()).await?;
                    place.insert(of_feed);
                }
            }
            let passed =
                |position: &Position| floors.values().flatten().any(|floor| !position.is_above(floor));
            if self.must_remember(&stored.value, passed) {
                continue;
            }
            let below = forgotten.entry(Arc::clone(&stored.value.trigger)).or_default();
            stored.value.positions.iter().for_each(|position| below.record(position.clone()));
            superfluous.push(stored);
        }
        // Before anything is forgotten.
        for (trigger, positions) in &forgotten {
            for position in positions.iter() {
                self.store.raise_floor(&forgotten_by(trigger, &position.domain), position).await?;
            }
        }
        for Stored { value, revision } in superfluous {
            match self.store.delete_work(&value.id, revision).await {
                Err(error) if !error.is_conflict() => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}
