//! Recent deliveries, and what came of each: for people who look. Nothing in the engine reads them, and nothing of them is
//! stored.
//!
//! A ring of so many deliveries. When it is full, the oldest makes room and its memory is used again, so that what is kept
//! costs a few copied names a delivery. Of an event its names are kept, cut to [`LONGEST`], and never its data.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;

use crate::cluster::ClusterId;
use crate::engine::accept::Outcome;
use crate::event::Event;
use crate::work::{Intent, WorkId};

/// So many characters of each name of an event are kept.
const LONGEST: usize = 256;
/// Of so many triggers it is told what came of a delivery.
const TRIGGERS: usize = 16;
/// In so many clusters it is told one by one how far an event is; of a Work that has more, only of so many.
const CLUSTERS: usize = 1024;

/// A delivery, and what came of it.
#[derive(Clone, Debug, PartialEq)]
pub struct RecentDelivery {
    /// When it was received.
    pub received: Timestamp,
    /// When it was published, if its transport tells.
    pub published: Option<Timestamp>,
    /// The EventSource.
    pub source: Arc<str>,
    /// Which event it was; `None` if it is no event.
    pub event: Option<EventNames>,
    /// The cluster that it came from, if that is known.
    pub origin: Option<ClusterId>,
    /// What was made of it as a whole.
    pub fate: DeliveryFate,
    /// What each trigger that wanted it made of it, at most 16 of them.
    pub triggers: Vec<RecentWork>,
}

/// What names an event. Long names are cut.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventNames {
    /// Its id.
    pub id: String,
    /// Its type.
    pub ty: String,
    /// Its source.
    pub source: String,
    /// Its subject.
    pub subject: Option<String>,
}

/// What was made of a delivery as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeliveryFate {
    /// It is being worked on: nothing is durable yet.
    UnderWay,
    /// It is settled; triggers say what came of it.
    Settled,
    /// No trigger wanted it.
    Unwanted,
    /// It lies at or below a floor: it was settled before.
    Superseded,
    /// It was refused before any trigger saw it, for this reason.
    Refused(&'static str),
    /// It could not be stored, and was given back.
    GivenBack,
}

/// What a trigger made of a delivery.
#[derive(Clone, Debug, PartialEq)]
pub struct RecentWork {
    /// The trigger.
    pub trigger: Arc<str>,
    /// What the event asks for; `None` if it was refused.
    pub intent: Option<Intent>,
    /// How far it came.
    pub fate: WorkFate,
    /// In how many clusters it is done: applied, or removed.
    pub done: usize,
    /// In how many it would be done if it were not for mode DryRun.
    pub previewed: usize,
    /// In how many it cannot be done until something changes.
    pub stalled: usize,
    /// In how many it is tried again, or waits for something.
    pub waiting: usize,
    /// From being received to being done in the last of these clusters.
    pub took: Option<Duration>,
}

/// How far a delivery came with one trigger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WorkFate {
    /// It is not durable yet.
    UnderWay,
    /// It is Work.
    Stored,
    /// Something newer of its key was processed, or itself, or what says the same of a state.
    Superseded,
    /// An event with its source and id was processed lately.
    Duplicate,
    /// It asks to remove what is not there.
    NothingThere,
    /// It is a dead letter, for this reason.
    Refused(&'static str),
}

/// How far an event is in a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Done,
    Previewed,
    Stalled,
    Waiting,
}

/// What is known of a delivery when it is taken.
pub(super) struct Arrival<'a> {
    pub(super) received: Timestamp,
    pub(super) published: Option<Timestamp>,
    pub(super) source: &'a Arc<str>,
    pub(super) event: Option<&'a Event>,
    pub(super) origin: Option<&'a ClusterId>,
    pub(super) fate: DeliveryFate,
}

/// The ring.
#[derive(Debug)]
pub(super) struct Recent {
    ring: Mutex<Ring>,
    most: usize,
    /// Clusters are told apart by their hashes.
    hashes: RandomState,
}

/// Which delivery: its number since the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Number(u64);

#[derive(Debug, Default)]
struct Ring {
    entries: VecDeque<Entry>,
    /// The number of the first of them.
    first: u64,
    /// By the Work and when the event that it is made of was received.
    by_work: HashMap<(u64, Timestamp), (u64, usize)>,
}

#[derive(Debug)]
struct Entry {
    delivery: RecentDelivery,
    /// One for each of the delivery's triggers.
    places: Vec<Place>,
}

#[derive(Debug, Default)]
struct Place {
    /// What the ring is looked up by.
    key: Option<(u64, Timestamp)>,
    clusters: Vec<(u32, Phase)>,
}

impl Recent {
    pub(super) fn new(most: usize) -> Self {
        Self { ring: Mutex::default(), most, hashes: RandomState::new() }
    }

    /// Takes in a delivery, and what triggers make of it: by the number of the Work that will have it in clusters, or why
    /// they refuse it.
    pub(super) fn arrive<'a>(
        &self,
        arrival: &Arrival<'_>,
        works: impl Iterator<Item = (&'a Arc<str>, u64, Intent)>,
        refused: impl Iterator<Item = (&'a Arc<str>, &'static str)>,
    ) -> Number {
        if self.most == 0 {
            return Number(0);
        }
        let mut guard = self.ring.lock();
        let ring = &mut *guard;
        let Entry { mut delivery, mut places } =
            ring.make_room(self.most).unwrap_or_else(|| Entry::blank(arrival));
        let number = ring.first + u64::try_from(ring.entries.len()).unwrap_or(u64::MAX);
        delivery.received = arrival.received;
        delivery.published = arrival.published;
        delivery.source.clone_from(arrival.source);
        delivery.origin = arrival.origin.cloned();
        delivery.fate = arrival.fate;
        match arrival.event {
            Some(event) => delivery.event.get_or_insert_default().take(event),
            None => delivery.event = None,
        }
        delivery.triggers.clear();
        for (trigger, work, intent) in works.take(TRIGGERS) {
            let place = delivery.triggers.len();
            let key = (work, arrival.received);
            ring.by_work.insert(key, (number, place));
            match places.get_mut(place) {
                Some(place) => place.key = Some(key),
                None => places.push(Place { key: Some(key), clusters: Vec::new() }),
            }
            delivery.triggers.push(RecentWork::new(trigger, Some(intent), WorkFate::UnderWay));
        }
        let room = TRIGGERS.saturating_sub(delivery.triggers.len());
        let refused =
            refused.take(room).map(|(trigger, why)| RecentWork::new(trigger, None, WorkFate::Refused(why)));
        delivery.triggers.extend(refused);
        ring.entries.push_back(Entry { delivery, places });
        Number(number)
    }

    /// Notes what became of the intention of one trigger, by its place among the works that arrived.
    pub(super) fn stored(&self, number: Number, place: usize, outcome: Outcome) {
        self.change(number, |delivery| {
            if let Some(work) =
                delivery.triggers.get_mut(place).filter(|work| work.fate == WorkFate::UnderWay)
            {
                work.fate = match outcome {
                    Outcome::Stored => WorkFate::Stored,
                    Outcome::Superseded => WorkFate::Superseded,
                    Outcome::Duplicate => WorkFate::Duplicate,
                    Outcome::NothingThere => WorkFate::NothingThere,
                };
            }
        });
    }

    /// Notes that a delivery is settled.
    pub(super) fn settled(&self, number: Number, fate: DeliveryFate) {
        self.change(number, |delivery| {
            if delivery.fate == DeliveryFate::UnderWay {
                delivery.fate = fate;
            }
        });
    }

    /// Notes how far the event that a Work is made of is in a cluster, and for which that is; it was received then. Where it is done, it stays so:
    /// what happens there later is not about the event.
    pub(super) fn note(
        &self,
        work: &WorkId,
        received: Timestamp,
        place: (&ClusterId, &ClusterId),
        phase: Phase,
        now: Timestamp,
    ) {
        let mut ring = self.ring.lock();
        let mut hasher = self.hashes.build_hasher();
        std::hash::Hash::hash(&place, &mut hasher);
        let Some((told, place)) = ring.find(work, received) else { return };
        let cluster = u32::try_from(hasher.finish() >> 32).unwrap_or_default();
        let is_full = place.clusters.len() >= CLUSTERS;
        let before = match place.clusters.iter_mut().find(|(known, _)| *known == cluster) {
            Some((_, known)) if *known == Phase::Done || *known == phase => return,
            Some((_, known)) => Some(std::mem::replace(known, phase)),
            None if is_full => return,
            None => {
                place.clusters.push((cluster, phase));
                None
            }
        };
        if let Some(before) = before {
            let count = told.count(before);
            *count = count.saturating_sub(1);
        }
        *told.count(phase) += 1;
        if phase == Phase::Done {
            told.took = told.took.max(Duration::try_from(now.duration_since(received)).ok());
        }
    }

    /// Notes that there is nothing to remove for the event that a Work is made of.
    pub(super) fn note_nothing(&self, work: &WorkId, received: Timestamp) {
        if let Some((told, place)) = self.ring.lock().find(work, received)
            && place.clusters.is_empty()
        {
            told.fate = WorkFate::NothingThere;
        }
    }

    /// All of them, oldest first.
    pub(super) fn all(&self) -> Vec<RecentDelivery> {
        self.ring.lock().entries.iter().map(|entry| entry.delivery.clone()).collect()
    }

    fn change(&self, number: Number, change: impl FnOnce(&mut RecentDelivery)) {
        let mut ring = self.ring.lock();
        let place = number.0.checked_sub(ring.first).and_then(|place| usize::try_from(place).ok());
        if let Some(entry) = place.and_then(|place| ring.entries.get_mut(place)) {
            change(&mut entry.delivery);
        }
    }
}

impl Ring {
    /// What is told of the event that a Work is made of, if it came lately.
    fn find(&mut self, work: &WorkId, received: Timestamp) -> Option<(&mut RecentWork, &mut Place)> {
        let (number, place) = self.by_work.get(&(work.number(), received))?;
        let entry = usize::try_from(number.checked_sub(self.first)?).ok()?;
        let Entry { delivery, places } = self.entries.get_mut(entry)?;
        Some((delivery.triggers.get_mut(*place)?, places.get_mut(*place)?))
    }

    /// The oldest entry, to be used again, if there are as many as there may be.
    fn make_room(&mut self, most: usize) -> Option<Entry> {
        if self.entries.len() < most {
            return None;
        }
        let mut entry = self.entries.pop_front()?;
        for place in &mut entry.places {
            if let Some(key) = place.key.take()
                && self.by_work.get(&key).is_some_and(|(number, _)| *number == self.first)
            {
                self.by_work.remove(&key);
            }
            place.clusters.clear();
        }
        self.first += 1;
        Some(entry)
    }
}

impl Entry {
    fn blank(arrival: &Arrival<'_>) -> Self {
        Self {
            delivery: RecentDelivery {
                received: arrival.received,
                published: None,
                source: Arc::clone(arrival.source),
                event: None,
                origin: None,
                fate: arrival.fate,
                triggers: Vec::new(),
            },
            places: Vec::new(),
        }
    }
}

impl EventNames {
    fn take(&mut self, event: &Event) {
        let put = |to: &mut String, from: &str| {
            to.clear();
            to.push_str(
                from.char_indices().nth(LONGEST).map_or(from, |(end, _)| from.get(..end).unwrap_or(from)),
            );
        };
        put(&mut self.id, event.id());
        put(&mut self.ty, event.ty());
        put(&mut self.source, event.source());
        match event.subject() {
            Some(subject) => put(self.subject.get_or_insert_default(), subject),
            None => self.subject = None,
        }
    }
}

impl RecentWork {
    fn new(trigger: &Arc<str>, intent: Option<Intent>, fate: WorkFate) -> Self {
        let trigger = Arc::clone(trigger);
        Self { trigger, intent, fate, done: 0, previewed: 0, stalled: 0, waiting: 0, took: None }
    }

    fn count(&mut self, phase: Phase) -> &mut usize {
        match phase {
            Phase::Done => &mut self.done,
            Phase::Previewed => &mut self.previewed,
            Phase::Stalled => &mut self.stalled,
            Phase::Waiting => &mut self.waiting,
        }
    }
}
