//! The feeds that are read, by their names, and what is said of the EventSources that they belong to.
//!
//! As a rule an EventSource is one feed. Where it is read in many places, such as the NATS inside each cluster, each of
//! them is a feed of its own, read independently of the others; the EventSource's condition sums them up.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::catalog::Condition;
use crate::dead_letter::DeadLetterBox;
use crate::engine::deliver::Attached;
use crate::source::{EventSource, SourceStatus};
use crate::work::EventKey;

/// So many feeds that are not ready are named in a condition.
const NAMED: usize = 5;
/// So much of what each of them says.
const LONGEST: usize = 400;

/// The feeds that are read.
#[derive(Default)]
pub(super) struct Feeds {
    feeds: Mutex<BTreeMap<Arc<str>, Feed>>,
    /// The deliveries in flight of each feed, while there are any: they outlast its reading.
    in_flight: Mutex<BTreeMap<Arc<str>, Weak<Semaphore>>>,
}

struct Feed {
    attached: Attached,
    status: Option<SourceStatus>,
}

impl Feeds {
    /// What bounds the deliveries of a feed that are in flight, those among them that an earlier one of its name delivered.
    pub(super) fn in_flight(&self, feed: &Arc<str>, most: usize) -> Arc<Semaphore> {
        let mut in_flight = self.in_flight.lock();
        in_flight.retain(|_, known| known.strong_count() > 0);
        if let Some(known) = in_flight.get(feed).and_then(Weak::upgrade) {
            return known;
        }
        let new = Arc::new(Semaphore::new(most));
        in_flight.insert(Arc::clone(feed), Arc::downgrade(&new));
        new
    }

    /// Takes a feed in place of the one of its name, which is returned.
    pub(super) fn insert(&self, feed: &Arc<str>, attached: Attached) -> Option<Attached> {
        let feed_now = Feed { attached, status: None };
        self.feeds.lock().insert(Arc::clone(feed), feed_now).map(|old| old.attached)
    }

    /// Takes a feed out; with it comes what is to be said of its EventSource now, if anything is left of that.
    pub(super) fn remove(&self, feed: &str) -> Option<(Attached, Option<Condition>)> {
        let mut feeds = self.feeds.lock();
        let removed = feeds.remove(feed)?.attached;
        let name = removed.source.name();
        let left = feeds.values().filter(|other| other.attached.source.name() == name);
        // Of what has not said anything yet, nothing is to be said.
        let condition = left.clone().any(|other| other.status.is_some()).then(|| sum_up(left));
        drop(feeds);
        Some((removed, condition))
    }

    /// Takes note of how a feed is doing. Returns what is to be said of its EventSource; nothing if it is not read any
    /// more.
    pub(super) fn report(&self, feed: &str, status: SourceStatus) -> Option<Condition> {
        let mut feeds = self.feeds.lock();
        let reporting = feeds.get_mut(feed)?;
        reporting.status = Some(status);
        let source = Arc::clone(&reporting.attached.source);
        let name = source.name();
        if source.feed() == name {
            return reporting.status.clone().map(condition);
        }
        Some(sum_up(feeds.values().filter(|other| other.attached.source.name() == name)))
    }

    /// How many events each EventSource knows to be lost.
    pub(super) fn lost(&self) -> BTreeMap<Arc<str>, u64> {
        let mut lost = BTreeMap::new();
        for feed in self.feeds.lock().values() {
            if let Some(status) = &feed.status {
                *lost.entry(feed.attached.source.name().into()).or_default() += status.lost;
            }
        }
        lost
    }

    /// The feed of this name.
    pub(super) fn get(&self, feed: &str) -> Option<Arc<dyn EventSource>> {
        self.feeds.lock().get(feed).map(|feed| Arc::clone(&feed.attached.source))
    }

    /// Any feed of an EventSource: all of them read messages in the same way.
    pub(super) fn any_of(&self, name: &str) -> Option<Arc<dyn EventSource>> {
        let feeds = self.feeds.lock();
        let found = feeds.values().map(|feed| &feed.attached.source).find(|source| source.name() == name);
        found.map(Arc::clone)
    }

    /// All feeds of an EventSource.
    pub(super) fn of(&self, name: &str) -> Vec<Arc<dyn EventSource>> {
        let feeds = self.feeds.lock();
        let of_source = feeds.values().map(|feed| &feed.attached.source).filter(|it| it.name() == name);
        of_source.map(Arc::clone).collect()
    }

    /// The feeds of an EventSource that may deliver an event of this key.
    pub(super) fn that_may_renew(&self, name: &str, key: &EventKey) -> Vec<(Arc<str>, Arc<dyn EventSource>)> {
        let from = match key {
            EventKey::About { origin, .. } => origin.clone(),
            // Clusters may share such keys.
            _ => None,
        };
        let may = |source: &dyn EventSource| {
            let only = source.origin();
            source.name() == name && (only.is_none() || from.is_none() || only == from)
        };
        let feeds = self.feeds.lock();
        let renewing = feeds.iter().filter(|(_, feed)| may(&*feed.attached.source));
        renewing.map(|(name, feed)| (Arc::clone(name), Arc::clone(&feed.attached.source))).collect()
    }

    /// The names of all feeds.
    pub(super) fn names(&self) -> Vec<Arc<str>> {
        self.feeds.lock().keys().cloned().collect()
    }

    /// Where their dead letters go.
    pub(super) fn letters(&self) -> Vec<Arc<dyn DeadLetterBox>> {
        self.feeds.lock().values().map(|feed| Arc::clone(&feed.attached.letters)).collect()
    }
}

fn condition(status: SourceStatus) -> Condition {
    Condition { ready: status.ready, reason: status.reason, message: status.message }
}

/// One condition for all feeds of an EventSource: ready if all of them are; else which are not, and why.
fn sum_up<'a>(feeds: impl Iterator<Item = &'a Feed> + Clone) -> Condition {
    let total = feeds.clone().count();
    let is_ready = |feed: &&Feed| feed.status.as_ref().is_some_and(|status| status.ready);
    let mut waiting = feeds.clone().filter(|feed| !is_ready(feed)).peekable();
    if waiting.peek().is_none() {
        let mut statuses = feeds.filter_map(|feed| Some((feed, feed.status.as_ref()?)));
        let plain = |status: &SourceStatus| status.reason == "Connected";
        let odd = statuses.clone().find(|(_, status)| !plain(status)).or_else(|| statuses.next());
        let (reason, message) = match odd {
            Some((feed, status)) => (status.reason.clone(), said(feed, &status.message)),
            None => ("Connected".to_owned(), String::new()),
        };
        let message = if total == 1 { message } else { format!("all {total} feeds are read; {message}") };
        return Condition { ready: true, reason, message };
    }
    let number = waiting.clone().count();
    let reason_of = |feed: &Feed| feed.status.as_ref().map(|status| status.reason.clone());
    let mut reasons: Vec<String> = waiting.clone().filter_map(reason_of).collect();
    reasons.dedup();
    let reason = match reasons.as_slice() {
        [] => "Connecting".to_owned(),
        [same] => same.clone(),
        _ => "FeedsNotReady".to_owned(),
    };
    let tell = |feed: &Feed| match &feed.status {
        Some(status) => said(feed, &status.message),
        None => said(feed, "being connected"),
    };
    let mut told: Vec<String> = waiting.take(NAMED).map(tell).collect();
    if number > NAMED {
        told.push(format!("and {} more", number - NAMED));
    }
    let told = told.join("; ");
    let message = if total == 1 { told } else { format!("{number} of {total} feeds are not ready: {told}") };
    Condition { ready: false, reason, message }
}

/// Whose words these are, and the words, as far as they are not too many.
fn said(feed: &Feed, message: &str) -> String {
    let source = &feed.attached.source;
    let whose = source.origin().map_or_else(|| source.feed().to_owned(), |origin| origin.to_string());
    match message.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{whose}: {}…", message.get(..end).unwrap_or_default()),
        None => format!("{whose}: {message}"),
    }
}
