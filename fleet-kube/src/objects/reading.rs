//! What is told of the objects of a cluster becomes deliveries and snapshots.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use fleet_core::cluster::ClusterId;
use fleet_core::event::Event;
use fleet_core::manifest::Gvk;
use fleet_core::source::{Delivery, GONE, Live, Message, Settle, Snapshot, SourceItem, SourceStatus};
use serde_json::{Map, Value};

use super::PREFIX;
use super::again::{Again, Return};
use super::object::{Object, Told, Trouble};
use super::selection::{Doubt, Needs, Selection};
use super::shared::{KindWatches, Message as Heard, Part, Subscription};

/// How the type of an event ends that says that an object is there and matches.
const LIVE: &str = ".live";

/// One cluster's objects.
pub(super) struct Reading {
    cluster: ClusterId,
    selection: Arc<Selection>,
    watches: Arc<KindWatches>,
    again: Arc<Again>,
    kinds: Vec<Kind>,
    /// What was made of the last that was heard.
    items: VecDeque<SourceItem>,
    said: Option<SourceStatus>,
    /// Whether it was said that nothing is live of other kinds.
    told_kinds: bool,
    message: Arc<Message>,
}

/// What is known of a kind's objects.
struct Kind {
    kind: Gvk,
    needs: Needs,
    subscription: Option<Subscription>,
    /// The path of all of its objects, once it is known.
    path: Option<Arc<str>>,
    parts: BTreeMap<Part, Known>,
    trouble: Option<Trouble>,
    /// Why it cannot be told of some object whether it matches.
    doubtful: Option<String>,
}

/// What matches in one part, by subject, and a hash of what was told of each; `None`: it has to be told again.
type Matching = HashMap<String, Option<u64>>;

#[derive(Default)]
struct Known {
    matching: Matching,
    /// What a list that is under way has brought.
    listing: Option<Matching>,
    is_listed: bool,
}

impl Reading {
    pub(super) fn new(
        cluster: ClusterId,
        selection: Arc<Selection>,
        watches: Arc<KindWatches>,
        again: Arc<Again>,
    ) -> Self {
        let kinds = selection.needs().into_iter().map(|(kind, needs)| Kind {
            kind,
            needs,
            subscription: None,
            path: None,
            parts: BTreeMap::new(),
            trouble: None,
            doubtful: None,
        });
        let mut reading = Self {
            cluster,
            kinds: kinds.collect(),
            selection,
            watches,
            again,
            items: VecDeque::new(),
            said: None,
            told_kinds: false,
            message: Arc::default(),
        };
        reading.say();
        reading
    }

    /// Cancel safe.
    pub(super) async fn next(&mut self) -> SourceItem {
        loop {
            if let Some(item) = self.items.pop_front() {
                return item;
            }
            for kind in self.kinds.iter_mut().filter(|kind| kind.subscription.is_none()) {
                kind.subscription = Some(self.watches.read(&self.cluster, &kind.kind, kind.needs.clone()));
            }
            let again = Arc::clone(&self.again);
            tokio::select! {
                biased;
                () = again.due() => self.begin_again(),
                (place, heard) = next_of(&mut self.kinds) => self.hear(place, heard),
            }
        }
    }

    /// Has all told again, and tells it.
    fn begin_again(&mut self) {
        for kind in &mut self.kinds {
            let parts = kind.parts.values_mut();
            parts.flat_map(|part| part.matching.values_mut()).for_each(|told| *told = None);
            kind.subscription.iter().for_each(Subscription::again);
        }
    }

    fn hear(&mut self, place: usize, heard: Option<Heard>) {
        let Some(kind) = self.kinds.get_mut(place) else { return };
        match heard {
            // It did not keep up; it joins again.
            None => kind.subscription = None,
            Some(Heard::Begins(parts)) => kind.begin(&parts),
            Some(Heard::Told(part, told)) => self.hear_of(place, &part, told),
        }
        self.say();
    }

    fn hear_of(&mut self, place: usize, part: &Part, told: Told) {
        let Some(kind) = self.kinds.get_mut(place) else { return };
        match told {
            Told::Listing(path) => {
                kind.path = Some(path);
                kind.doubtful = None;
                if let Some(known) = kind.parts.get_mut(part) {
                    known.listing = Some(Matching::new());
                }
            }
            Told::There(object) => self.there(place, part, &object),
            Told::Gone(object) => self.gone(place, part, &object),
            Told::Listed => {
                kind.trouble = None;
                if let Some(known) = kind.parts.get_mut(part)
                    && let Some(listing) = known.listing.take()
                {
                    known.matching = listing;
                    known.is_listed = true;
                    self.tell_snapshots(place);
                }
            }
            Told::Trouble(trouble) => kind.trouble = Some(trouble),
            Told::Recovered => kind.trouble = None,
        }
    }

    fn there(&mut self, place: usize, part: &Part, object: &Object) {
        let Some(kind) = self.kinds.get_mut(place) else { return };
        let Some(known) = kind.parts.get_mut(part) else { return };
        let subject = object.subject();
        let before = known.matching.get(&subject).copied();
        let chosen = self.selection.chooses(&kind.kind, object);
        if let Err(Doubt(why)) = &chosen {
            kind.doubtful = Some(format!("{why}, for {} {subject}; it is left as it was", kind.kind.kind));
        }
        let (now, item) = match chosen {
            Ok(true) => {
                let data = told_of(object, self.selection.content);
                let hash = hash(&data);
                let item = (before.flatten() != Some(hash))
                    .then(|| deliver(&self.cluster, &self.again, &self.message, kind, object, data, LIVE));
                (Some(Some(hash)), item)
            }
            Ok(false) => {
                let data = told_of(object, self.selection.content);
                let item = before
                    .is_some()
                    .then(|| deliver(&self.cluster, &self.again, &self.message, kind, object, data, GONE));
                (None, item)
            }
            // It is taken for what it was: what is not known ends nothing.
            Err(_) => (Some(before.flatten()), None),
        };
        self.items.extend(item);
        let Some(known) = kind.parts.get_mut(part) else { return };
        match (now, &mut known.listing) {
            (Some(hash), Some(listing)) => drop(listing.insert(subject, hash)),
            (Some(hash), None) => drop(known.matching.insert(subject, hash)),
            (None, _) => drop(known.matching.remove(&subject)),
        }
    }

    fn gone(&mut self, place: usize, part: &Part, object: &Object) {
        let Some(kind) = self.kinds.get_mut(place) else { return };
        let known = kind.parts.get_mut(part);
        if known.and_then(|known| known.matching.remove(&object.subject())).is_some() {
            let data = told_of(object, self.selection.content);
            let item = deliver(&self.cluster, &self.again, &self.message, kind, object, data, GONE);
            self.items.push_back(item);
        }
    }

    /// Tells what is live of a kind, once all of it was listed; and once that was so of all kinds, that there are no others.
    fn tell_snapshots(&mut self, place: usize) {
        let Some(kind) = self.kinds.get(place).filter(|kind| kind.is_listed()) else { return };
        let Some(path) = &kind.path else { return };
        let subjects = kind.parts.values().flat_map(|known| known.matching.keys()).cloned().collect();
        self.tell_live(Live::Subjects { source: path.to_string(), subjects });
        if !self.told_kinds && self.kinds.iter().all(Kind::is_listed) {
            self.told_kinds = true;
            let paths: BTreeSet<_> = self.kinds.iter().filter_map(|kind| kind.path.as_deref()).collect();
            self.tell_live(Live::Sources(paths.into_iter().map(str::to_owned).collect()));
        }
    }

    fn tell_live(&mut self, live: Live) {
        let origin = Some(self.cluster.clone());
        self.items.push_back(SourceItem::Snapshot(Snapshot { origin, live, position: None }));
    }

    /// Says how it goes, if that is something else than before.
    fn say(&mut self) {
        let trouble = self.kinds.iter().find_map(|kind| kind.trouble.clone());
        let doubtful = self.kinds.iter().find_map(|kind| kind.doubtful.clone());
        let is_listed = self.kinds.iter().all(Kind::is_listed);
        let (ready, reason, message) = match (trouble, doubtful) {
            (Some(trouble), _) => (false, trouble.reason, trouble.message),
            (None, Some(message)) => (false, "ExpressionFailed", message),
            (None, None) if !is_listed => {
                (false, "Listing", "objects are being listed; nothing is deleted before all are".to_owned())
            }
            (None, None) => {
                let kinds: Vec<_> = self
                    .kinds
                    .iter()
                    .map(|it| format!("{} ({})", it.kind.kind, it.kind.api_version()))
                    .collect();
                (true, "Connected", format!("watching {}", kinds.join(", ")))
            }
        };
        let status = SourceStatus { ready, reason: reason.to_owned(), message, lost: 0 };
        if self.said.as_ref() != Some(&status) {
            self.items.push_back(SourceItem::Status(status.clone()));
            self.said = Some(status);
        }
    }
}

impl Kind {
    /// All is told anew in these parts, of which some may concern others only.
    fn begin(&mut self, parts: &[Part]) {
        let is_ours = |part: &&Part| match (part, &self.needs.namespaces) {
            (None, _) | (_, None) => true,
            (Some(namespace), Some(ours)) => ours.contains(namespace),
        };
        let ours: BTreeSet<Part> = parts.iter().filter(is_ours).cloned().collect();
        self.parts.retain(|part, _| ours.contains(part));
        for part in ours {
            let known = self.parts.entry(part).or_default();
            known.is_listed = false;
            known.listing = None;
        }
    }

    fn is_listed(&self) -> bool {
        !self.parts.is_empty() && self.parts.values().all(|known| known.is_listed)
    }
}

/// The next message of any kind, and of which; `None`: its readers were left behind.
async fn next_of(kinds: &mut [Kind]) -> (usize, Option<Heard>) {
    std::future::poll_fn(|cx| {
        for (place, kind) in kinds.iter_mut().enumerate() {
            if let Some(subscription) = &mut kind.subscription
                && let Poll::Ready(heard) = subscription.messages.poll_recv(cx)
            {
                return Poll::Ready((place, heard));
            }
        }
        Poll::Pending
    })
    .await
}

/// What is told of an object.
fn told_of(object: &Object, content: bool) -> Value {
    if content {
        return Value::Object(object.content.clone());
    }
    let told = ["apiVersion", "kind", "metadata"];
    let told =
        told.into_iter().filter_map(|field| Some((field.to_owned(), object.content.get(field)?.clone())));
    Value::Object(told.collect::<Map<_, _>>())
}

fn hash(data: &Value) -> u64 {
    let mut hasher = DefaultHasher::new();
    data.hash(&mut hasher);
    hasher.finish()
}

fn deliver(
    cluster: &ClusterId,
    again: &Arc<Again>,
    message: &Arc<Message>,
    kind: &Kind,
    object: &Object,
    data: Value,
    how: &str,
) -> SourceItem {
    let source = kind.path.as_deref().unwrap_or_default();
    let ty = format!("{PREFIX}{}{how}", kind.kind.kind.to_ascii_lowercase());
    let event = Event::builder(object.id(), source, ty).subject(object.subject()).json(data).build();
    let raw = event.as_ref().map(|event| Bytes::from(event.to_json().to_string())).unwrap_or_default();
    SourceItem::Delivery(Delivery {
        event,
        origin: Some(cluster.clone()),
        message: Arc::clone(message),
        raw,
        position: None,
        published: None,
        settle: Settle::new(Return(Some(Arc::clone(again)))),
    })
}
