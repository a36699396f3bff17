//! The records that the checks store.

use std::sync::Arc;

use jiff::Timestamp;

use crate::apply::{ChartVersion, InventoryItem, Owner};
use crate::cluster::ClusterId;
use crate::dead_letter::DeadLetter;
use crate::event::Event;
use crate::health::Health;
use crate::manifest::{Gvk, ObjectRef};
use crate::position::{Domain, Position, Positions};
use crate::source::Message;
use crate::testing::conformance::tag;
use crate::work::{AppliedState, AppliedWork, Blocked, EventKey, Intent, RecentEvent, Work, WorkId};

pub(super) const CLUSTERS: [&str; 3] = ["c1", "c2", "c3"];

pub(super) fn cluster(name: &str) -> ClusterId {
    #[allow(clippy::expect_used, reason = "a literal")]
    ClusterId::new("civo", name).expect("a name of a cluster")
}

/// Names that no other run of a check has.
pub(super) struct Names {
    tag: String,
}

impl Names {
    pub(super) fn new() -> Self {
        Self { tag: tag() }
    }

    /// The name of a trigger.
    pub(super) fn trigger(&self, name: &str) -> String {
        format!("k{}-{name}", self.tag)
    }

    /// The name of an EventSource.
    pub(super) fn source(&self, name: &str) -> String {
        format!("{} {name}/1", self.tag)
    }

    pub(super) fn domain(&self, name: &str) -> Domain {
        Domain::new(format!("{}/b c: \"{name}\"\n_é", self.tag))
    }

    /// A position in the domain of this run.
    pub(super) fn at(&self, epoch: u64, sequence: u64) -> Position {
        Position { domain: self.domain("d"), epoch, sequence }
    }

    /// A Work with a subject and a generation.
    pub(super) fn work(&self, trigger: &str, subject: &str, generation: u64) -> Arc<Work> {
        self.work_of(&self.trigger(trigger), subject, generation)
    }

    /// The same for a trigger that is named in full.
    #[allow(clippy::expect_used, reason = "a literal but for the subject, which may be any text")]
    pub(super) fn work_of(&self, trigger: &str, subject: &str, generation: u64) -> Arc<Work> {
        let key = EventKey::About { origin: None, source: "s".into(), subject: Some(subject.into()) };
        let event = Event::builder("1", "s", "t").subject(subject).build().expect("a CloudEvent");
        let mut positions = Positions::default();
        positions.record(self.at(1, generation));
        Arc::new(Work {
            id: WorkId::new(trigger, &key),
            trigger: trigger.into(),
            source: "users".into(),
            key,
            origin: None,
            generation,
            intent: Intent::Create,
            event: Arc::new(event),
            message: Arc::new(Message::default()),
            positions,
            received: Timestamp::UNIX_EPOCH,
            published: Some(Timestamp::UNIX_EPOCH),
            recent: Vec::new(),
        })
    }

    /// A Work in which everything is set, and odd.
    pub(super) fn odd_work(&self, origin: ClusterId) -> Arc<Work> {
        let subject = "https://example.com/ä b?c=%20\u{1F600}\n".repeat(8);
        let mut odd = (*self.work("odd", &subject, 7)).clone();
        odd.origin = Some(origin);
        odd.intent = Intent::Delete;
        odd.message = Arc::new(Message {
            subject: "a.b".to_owned(),
            headers: vec![("N".to_owned(), "1".to_owned()), ("N".to_owned(), "2".to_owned())],
        });
        odd.positions.record(Position { domain: self.domain("x"), epoch: u64::MAX, sequence: u64::MAX });
        odd.recent = vec![RecentEvent { hash: "hash".to_owned(), at: Timestamp::UNIX_EPOCH }];
        Arc::new(odd)
    }

    /// The id of a dead letter, as the engine makes them.
    pub(super) fn letter_id(&self, number: u64) -> String {
        use std::hash::{DefaultHasher, Hash, Hasher};
        let mut hash = DefaultHasher::new();
        self.tag.hash(&mut hash);
        format!("{number:013}-{:020x}", hash.finish())
    }

    pub(super) fn letter(&self, number: u64, origin: ClusterId) -> DeadLetter {
        DeadLetter {
            id: self.letter_id(number),
            source: "users".to_owned(),
            trigger: None,
            reason: "NotACloudEvent".to_owned(),
            detail: "why".to_owned(),
            time: Timestamp::UNIX_EPOCH,
            position: Some(self.at(1, 1)),
            origin: Some(origin),
            message: Message { subject: "a.b".to_owned(), headers: vec![("N".to_owned(), "ä".to_owned())] },
            raw: (0..=255).collect::<Vec<u8>>().into(),
        }
    }
}

pub(super) fn applied(work: &Work, cluster: &ClusterId) -> AppliedWork {
    AppliedWork::pending(work, cluster.clone(), Timestamp::UNIX_EPOCH)
}

/// An AppliedWork in which everything is set.
pub(super) fn odd_applied(work: &Work, cluster: &ClusterId) -> AppliedWork {
    let mut record = applied(work, cluster);
    record.state = AppliedState::Stalled { reason: "Conflict".to_owned(), message: "why".to_owned() };
    record.digest = Some("digest".to_owned());
    let object = ObjectRef {
        gvk: Gvk { group: "apps".into(), version: "v1".into(), kind: "Deployment".into() },
        namespace: Some("ns".into()),
        name: "n".into(),
    };
    record.inventory.push(InventoryItem {
        object: object.clone(),
        uid: Some("uid".into()),
        uncertain_until: Some(Timestamp::UNIX_EPOCH),
        applied_at: Some(Timestamp::UNIX_EPOCH),
        repaired_at: Some(Timestamp::UNIX_EPOCH),
        print: Some("0123".into()),
        version: Some("7".into()),
        adopted: true,
        template: Some("ConfigMap default/a, key b".into()),
        chart: Some(ChartVersion { version: "1.2.9".into(), digest: "sha256:0a".into() }),
    });
    record.health = Some(Health::Progressing { message: "why".to_owned() });
    record.blocked = vec![
        Blocked { object: object.clone(), owner: Owner::Work("0123".into()) },
        Blocked { object, owner: Owner::Other("helm".to_owned()) },
    ];
    record
}
