//! What waits of one agent's EventSource. Pure.

use std::collections::BTreeMap;

use fleet_core::cluster::ClusterId;
use fleet_core::position::{Domain, Position};
use jiff::Timestamp;
use tokio::time::Instant;

use crate::api::RelayedEvent;
use crate::store::read_position;

/// In how many domains an agent's EventSource may be at most.
const MOST_DOMAINS: usize = 64;
/// How long the name of a domain may be.
const LONGEST_DOMAIN: usize = 512;

/// What waits, and how far the agent says it is.
#[derive(Default)]
pub(super) struct Inbox {
    waiting: BTreeMap<String, Waiting>,
    progress: Option<Progress>,
    /// Whether the engine asked how far it is settled, and was not told since.
    pub(super) asked: bool,
}

struct Waiting {
    uid: String,
    position: Position,
    published: Timestamp,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It is to be delivered.
    New,
    /// The engine has it.
    Delivered,
    /// It is to be delivered again then.
    Later(Instant),
    /// Its object is to be deleted.
    Done,
    /// Its object is being deleted.
    Going,
}

struct Progress {
    name: String,
    floors: Vec<Position>,
    settled: Option<Timestamp>,
}

/// What a feed has to do next.
#[derive(Debug, PartialEq)]
pub(super) enum Next {
    Deliver {
        name: String,
        uid: String,
        position: Position,
    },
    Floor(Position),
    Settled(Timestamp),
    /// Nothing, until there is news, or until then.
    Wait(Option<Instant>),
}

impl Inbox {
    /// Takes note of an object. One that cannot be understood is to be deleted.
    pub(super) fn put(&mut self, name: &str, object: RelayedEvent) -> Result<(), &'static str> {
        let uid = object.metadata.uid.unwrap_or_default();
        if let Some(progress) = object.spec.progress {
            let floors =
                progress.floors.iter().filter_map(|text| position(text)).take(MOST_DOMAINS).collect();
            let settled = progress.settled.and_then(|time| time.parse().ok());
            self.progress = Some(Progress { name: name.to_owned(), floors, settled });
            return Ok(());
        }
        if self.waiting.get(name).is_some_and(|known| known.uid == uid) {
            // Nobody edits them.
            return Ok(());
        }
        let read = object
            .spec
            .event
            .and_then(|event| Some((position(&event.position)?, event.published.parse::<Timestamp>().ok()?)));
        let is_read = read.is_some();
        let (position, published) = read.unwrap_or_else(|| {
            (Position { domain: Domain::new(""), epoch: 0, sequence: 0 }, Timestamp::UNIX_EPOCH)
        });
        let stage = if is_read { Stage::New } else { Stage::Done };
        self.waiting.insert(name.to_owned(), Waiting { uid, position, published, stage });
        if is_read { Ok(()) } else { Err("its position or its time cannot be read") }
    }

    /// Forgets objects that are not there any more.
    pub(super) fn retain(&mut self, is_there: impl Fn(&str) -> bool) {
        self.waiting.retain(|name, _| is_there(name));
        if self.progress.as_ref().is_some_and(|progress| !is_there(&progress.name)) {
            self.progress = None;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.progress.is_none()
    }

    /// What is to be deleted, as many as that.
    pub(super) fn take_done(&mut self, most: usize, mut tell: impl FnMut(&str, &str)) {
        let done = self.waiting.iter_mut().filter(|(_, waiting)| waiting.stage == Stage::Done);
        for (name, waiting) in done.take(most) {
            waiting.stage = Stage::Going;
            tell(name, &waiting.uid);
        }
    }

    /// No trigger wants what was not delivered yet.
    pub(super) fn refuse(&mut self) {
        for waiting in self.waiting.values_mut() {
            if matches!(waiting.stage, Stage::New | Stage::Later(_)) {
                waiting.stage = Stage::Done;
            }
        }
    }

    pub(super) fn deleted(&mut self, name: &str, uid: &str, is_gone: bool) {
        let Some(waiting) = self.waiting.get_mut(name).filter(|waiting| waiting.uid == uid) else { return };
        if is_gone {
            self.waiting.remove(name);
        } else {
            waiting.stage = Stage::Done;
        }
    }

    /// The engine is done with an event: its object may go.
    pub(super) fn done(&mut self, name: &str, uid: &str) {
        self.set(name, uid, Stage::Done);
    }

    /// An event is to be delivered again.
    pub(super) fn again(&mut self, name: &str, uid: &str, at: Instant) {
        self.set(name, uid, Stage::Later(at));
    }

    fn set(&mut self, name: &str, uid: &str, stage: Stage) {
        let waiting = self.waiting.get_mut(name);
        if let Some(waiting) = waiting.filter(|it| it.uid == uid && it.stage == Stage::Delivered) {
            waiting.stage = stage;
        }
    }

    /// What its feed has to do next; `told` are the floors that were told, in the hub's domains.
    pub(super) fn next(&mut self, of: &Origin<'_>, told: &BTreeMap<Domain, Position>) -> Next {
        let now = Instant::now();
        let is_due = |waiting: &Waiting| match waiting.stage {
            Stage::New => true,
            Stage::Later(at) => at <= now,
            _ => false,
        };
        let due = self.waiting.iter_mut().filter(|(_, waiting)| is_due(waiting));
        let first = due.min_by_key(|(_, it)| {
            (it.published, it.position.domain.clone(), it.position.epoch, it.position.sequence)
        });
        if let Some((name, waiting)) = first {
            waiting.stage = Stage::Delivered;
            let position = of.at_hub(&waiting.position);
            return Next::Deliver { name: name.clone(), uid: waiting.uid.clone(), position };
        }
        for floor in self.progress.iter().flat_map(|progress| &progress.floors) {
            let floor = of.at_hub(&self.reached(floor));
            let is_news = told.get(&floor.domain).is_none_or(|told| floor.is_above(told));
            if is_news
                && floor.sequence > 0
                && (told.len() < MOST_DOMAINS || told.contains_key(&floor.domain))
            {
                return Next::Floor(floor);
            }
        }
        if let (true, Some(settled)) = (self.asked, self.progress.as_ref().and_then(|it| it.settled)) {
            let waiting = self.waiting.values().map(|it| it.published).min();
            // What waits may renew a key; what was published with it, as well.
            let before = |time: Timestamp| time.saturating_sub(jiff::SignedDuration::from_millis(1)).ok();
            let until = waiting.map_or(Some(settled), |time| Some(before(time)?.min(settled)));
            self.asked = false;
            if let Some(until) = until {
                return Next::Settled(until);
            }
        }
        let later = self.waiting.values().filter_map(|waiting| match waiting.stage {
            Stage::Later(at) => Some(at),
            _ => None,
        });
        Next::Wait(later.min())
    }

    /// How far a floor of the agent's holds at the hub: not past what waits here.
    fn reached(&self, floor: &Position) -> Position {
        let same = self.waiting.values().map(|it| &it.position).filter(|it| it.domain == floor.domain);
        match same.min_by_key(|it| (it.epoch, it.sequence)) {
            Some(first) if !first.is_above(floor) => {
                Position { sequence: first.sequence.saturating_sub(1), ..first.clone() }
            }
            _ => floor.clone(),
        }
    }
}

/// Whose events these are: no agent's positions compare with another's, or with our own.
pub(super) struct Origin<'a> {
    pub(super) cluster: &'a ClusterId,
    pub(super) source: &'a str,
}

impl Origin<'_> {
    fn at_hub(&self, position: &Position) -> Position {
        let domain =
            format!("{} of the agent of {}: {}", self.source, self.cluster, position.domain.as_str());
        Position { domain: Domain::new(domain), ..position.clone() }
    }
}

fn position(text: &str) -> Option<Position> {
    read_position(text)
        .filter(|it| it.domain.as_str().len() <= LONGEST_DOMAIN && it.domain != Domain::new(""))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(name: &str, position: &str, second: u64) -> RelayedEvent {
        let published = format!("2026-01-01T00:00:{second:02}Z");
        serde_json::from_value(json!({
            "apiVersion": "fleet-events.dev/v1alpha1", "kind": "RelayedEvent",
            "metadata": {"namespace": "prod1", "name": name, "uid": format!("uid-{name}")},
            "spec": {"source": "users", "event": {"position": position, "published": published, "body": ""}},
        }))
        .unwrap()
    }

    fn progress(floors: &[&str], settled: Option<&str>) -> RelayedEvent {
        serde_json::from_value(json!({
            "apiVersion": "fleet-events.dev/v1alpha1", "kind": "RelayedEvent",
            "metadata": {"namespace": "prod1", "name": "progress", "uid": "uid-progress"},
            "spec": {"source": "users", "progress": {"floors": floors, "settled": settled}},
        }))
        .unwrap()
    }

    fn next(inbox: &mut Inbox, told: &mut BTreeMap<Domain, Position>) -> String {
        let cluster = ClusterId::new("prod1", "c1").unwrap();
        let next = inbox.next(&Origin { cluster: &cluster, source: "users" }, told);
        match next {
            Next::Deliver { name, .. } => name,
            Next::Floor(floor) => {
                told.insert(floor.domain.clone(), floor.clone());
                format!("floor {floor}")
            }
            Next::Settled(until) => format!("settled {until}"),
            Next::Wait(_) => "nothing".to_owned(),
        }
    }

    const AT_HUB: &str = "floor users of the agent of prod1/c1: s";

    #[tokio::test]
    async fn no_floor_passes_what_waits() {
        let (mut inbox, mut told) = (Inbox::default(), BTreeMap::new());
        for (name, position, second) in [("b", "s@1.5", 5), ("a", "s@1.3", 3), ("old", "s@1.3", 3)] {
            inbox.put(name, event(name, position, second)).unwrap();
        }
        inbox.retain(|name| name != "old");
        inbox.put("progress", progress(&["s@1.9"], None)).unwrap();
        assert_eq!(next(&mut inbox, &mut told), "a", "in order");
        assert_eq!(next(&mut inbox, &mut told), "b");
        assert_eq!(next(&mut inbox, &mut told), format!("{AT_HUB}@1.2"));
        inbox.done("a", "uid-a");
        assert_eq!(next(&mut inbox, &mut told), "nothing", "until its object is gone, it may come again");
        inbox.take_done(8, |name, uid| assert_eq!((name, uid), ("a", "uid-a")));
        inbox.deleted("a", "uid-a", true);
        assert_eq!(next(&mut inbox, &mut told), format!("{AT_HUB}@1.4"));
        inbox.again("b", "uid-b", Instant::now());
        assert_eq!(next(&mut inbox, &mut told), "b", "given back, it comes again");
        inbox.done("b", "uid-b");
        inbox.take_done(8, |_, _| {});
        inbox.deleted("b", "uid-b", true);
        assert_eq!(next(&mut inbox, &mut told), format!("{AT_HUB}@1.9"));
        assert_eq!(next(&mut inbox, &mut told), "nothing");
    }

    #[tokio::test]
    async fn positions_are_in_domains_of_that_agent_alone() {
        let (mut inbox, told) = (Inbox::default(), BTreeMap::new());
        // As the operator itself puts events in order.
        inbox.put("a", event("a", "operator@99.1", 1)).unwrap();
        let cluster = ClusterId::new("prod1", "c1").unwrap();
        let Next::Deliver { position, .. } =
            inbox.next(&Origin { cluster: &cluster, source: "users" }, &told)
        else {
            panic!("it is delivered")
        };
        assert_eq!(position.domain.as_str(), "users of the agent of prod1/c1: operator");
        // What nobody can read is not kept for ever.
        assert!(inbox.put("odd", event("odd", "nowhere", 1)).is_err());
        let mut gone = Vec::new();
        inbox.take_done(8, |name, _| gone.push(name.to_owned()));
        assert_eq!(gone, ["odd"]);
    }

    #[tokio::test]
    async fn keys_expire_no_sooner_than_what_waits_was_published() {
        let (mut inbox, mut told) = (Inbox::default(), BTreeMap::new());
        inbox.put("a", event("a", "s@1.3", 3)).unwrap();
        inbox.put("progress", progress(&[], Some("2026-01-01T00:00:30Z"))).unwrap();
        assert_eq!(next(&mut inbox, &mut told), "a");
        assert_eq!(next(&mut inbox, &mut told), "nothing", "nobody asked");
        inbox.asked = true;
        assert_eq!(next(&mut inbox, &mut told), "settled 2026-01-01T00:00:02.999Z");
        inbox.done("a", "uid-a");
        inbox.take_done(8, |_, _| {});
        inbox.deleted("a", "uid-a", true);
        inbox.asked = true;
        assert_eq!(next(&mut inbox, &mut told), "settled 2026-01-01T00:00:30Z");
    }
}
