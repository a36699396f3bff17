//! What only a WorkStore in a file promises.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that meets the unexpected says so and stops; so do its helpers"
)]

use std::sync::Arc;

use fleet_core::cluster::ClusterId;
use fleet_core::event::Event;
use fleet_core::position::{Domain, Position, Positions};
use fleet_core::redb::{OpenError, RedbStore};
use fleet_core::source::Message;
use fleet_core::store::{StoreError, WorkStore};
use fleet_core::work::{AppliedWork, EventKey, Intent, Work, WorkId};
use jiff::Timestamp;

fn work(trigger: &str, subject: &str, generation: u64) -> Arc<Work> {
    let key = EventKey::About { origin: None, source: "s".into(), subject: Some(subject.into()) };
    let event =
        serde_json::json!({"specversion": "1.0", "id": "1", "source": "s", "type": "t", "subject": subject});
    Arc::new(Work {
        id: WorkId::new(trigger, &key),
        trigger: trigger.into(),
        source: "users".into(),
        key,
        origin: None,
        generation,
        intent: Intent::Create,
        event: Arc::new(Event::from_json(event.to_string().as_bytes()).unwrap()),
        message: Arc::new(Message::default()),
        positions: Positions::default(),
        received: Timestamp::UNIX_EPOCH,
        published: Some(Timestamp::UNIX_EPOCH),
        recent: Vec::new(),
    })
}

fn cluster(name: &str) -> ClusterId {
    ClusterId::new("civo", name).unwrap()
}

fn applied(work: &Work, name: &str) -> AppliedWork {
    AppliedWork::pending(work, cluster(name), Timestamp::UNIX_EPOCH)
}

fn at(epoch: u64, sequence: u64) -> Position {
    Position { domain: Domain::new("d"), epoch, sequence }
}

#[tokio::test]
async fn a_file_survives_being_closed_and_is_private() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fleet.redb");
    let work = work("t", "kept", 1);
    let store = RedbStore::open(&path).unwrap();
    let revision = store.put_work(Arc::clone(&work), None, vec![applied(&work, "c1")]).await.unwrap();
    store.raise_floor("src", &at(3, 4)).await.unwrap();
    assert_eq!(store.next_epoch(&Domain::operator()).await.unwrap(), 1);
    drop(store);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

    let store = RedbStore::open(&path).unwrap();
    let stored = store.work(&work.id).await.unwrap().unwrap();
    assert_eq!((stored.value, stored.revision), (work.clone(), revision.clone()));
    assert_eq!(store.applied(&work.id).await.unwrap().len(), 1);
    assert_eq!(store.floors("src").await.unwrap(), [at(3, 4)]);
    assert_eq!(store.next_epoch(&Domain::operator()).await.unwrap(), 2);
    let next = store.put_work(work, Some(revision.clone()), vec![]).await.unwrap();
    assert_ne!(next, revision, "a revision never comes twice");
}

#[tokio::test]
async fn a_second_operator_is_refused_and_a_reader_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fleet.redb");
    assert!(matches!(RedbStore::open_to_read(&path), Err(OpenError::Missing { .. })));
    let store = RedbStore::open(&path).unwrap();
    let refused = RedbStore::open(&path).unwrap_err();
    assert!(matches!(refused, OpenError::InUse { .. }), "{refused}");
    let work = work("t", "read", 1);
    store.put_work(Arc::clone(&work), None, vec![]).await.unwrap();
    let reader = RedbStore::open_to_read(&path).unwrap();
    assert!(reader.work(&work.id).await.unwrap().is_some());
    let written = reader.put_work(work, None, vec![]).await.unwrap_err();
    assert!(matches!(written, StoreError::Unavailable(_)), "{written}");
}
