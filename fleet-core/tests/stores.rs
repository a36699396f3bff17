//! Every WorkStore keeps the contract: one set of tests, run on each.
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
use fleet_core::memory::MemoryStore;
use fleet_core::position::{Domain, Position, Positions};
use fleet_core::redb::{OpenError, RedbStore};
use fleet_core::source::Message;
use fleet_core::store::{DeadLetter, StoreChange, StoreError, WorkStore};
use fleet_core::work::{AppliedState, AppliedWork, EventKey, Intent, Work, WorkId};
use futures::StreamExt;
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
    })
}

fn cluster(name: &str) -> ClusterId {
    ClusterId::new("civo", name).unwrap()
}

fn applied(work: &Work, name: &str) -> AppliedWork {
    AppliedWork {
        work: work.id.clone(),
        cluster: cluster(name),
        generation: work.generation,
        digest: None,
        inventory: Vec::new(),
        state: AppliedState::Pending,
        updated: Timestamp::UNIX_EPOCH,
    }
}

fn at(epoch: u64, sequence: u64) -> Position {
    Position { domain: Domain::new("d"), epoch, sequence }
}

async fn works_are_compared_and_swapped(store: &dyn WorkStore) {
    let first = work("t", "a", 1);
    assert!(store.work(&first.id).await.unwrap().is_none());
    let one = store.put_work(Arc::clone(&first), None, vec![]).await.unwrap();
    let twice = store.put_work(Arc::clone(&first), None, vec![]).await.unwrap_err();
    assert!(twice.is_conflict(), "{twice}");
    let second = work("t", "a", 2);
    let two = store.put_work(Arc::clone(&second), Some(one.clone()), vec![]).await.unwrap();
    assert!(store.put_work(first, Some(one.clone()), vec![]).await.unwrap_err().is_conflict());
    let stored = store.work(&second.id).await.unwrap().unwrap();
    assert_eq!((&stored.value, &stored.revision), (&second, &two));
    assert!(store.delete_work(&second.id, one).await.unwrap_err().is_conflict());
    store.delete_work(&second.id, two).await.unwrap();
    assert!(store.work(&second.id).await.unwrap().is_none());
}

async fn plans_are_stored_with_their_work_but_replace_nothing(store: &dyn WorkStore) {
    let work = work("t", "plans", 1);
    let mut done = applied(&work, "c1");
    done.digest = Some("digest".to_owned());
    store.put_applied(Arc::new(done.clone()), None).await.unwrap();
    let plans = vec![applied(&work, "c1"), applied(&work, "c2")];
    store.put_work(Arc::clone(&work), None, plans).await.unwrap();
    let mut stored = store.applied(&work.id).await.unwrap();
    stored.sort_by(|a, b| a.value.cluster.cmp(&b.value.cluster));
    let stored: Vec<_> = stored.iter().map(|stored| (*stored.value).clone()).collect();
    assert_eq!(stored, [done, applied(&work, "c2")]);
    assert!(
        store.put_work(Arc::clone(&work), None, vec![applied(&work, "c3")]).await.unwrap_err().is_conflict()
    );
    assert!(
        store.applied_in(&work.id, &cluster("c3")).await.unwrap().is_none(),
        "a refused write leaves no plan"
    );
}

async fn applied_works_are_compared_and_swapped(store: &dyn WorkStore) {
    let work = work("t", "applied", 1);
    let record = Arc::new(applied(&work, "c1"));
    let one = store.put_applied(Arc::clone(&record), None).await.unwrap();
    assert!(store.put_applied(Arc::clone(&record), None).await.unwrap_err().is_conflict());
    let two = store.put_applied(Arc::clone(&record), Some(one.clone())).await.unwrap();
    assert_ne!(one, two);
    assert!(store.delete_applied(&work.id, &cluster("c1"), one).await.unwrap_err().is_conflict());
    store.delete_applied(&work.id, &cluster("c1"), two.clone()).await.unwrap();
    assert!(store.applied(&work.id).await.unwrap().is_empty());
    assert!(store.delete_applied(&work.id, &cluster("c1"), two).await.unwrap_err().is_conflict());
}

async fn works_are_listed_in_pages_and_by_trigger(store: &dyn WorkStore) {
    // Names that run together where ids are cut or joined.
    let long = "x".repeat(45);
    let other = format!("{long}y");
    for trigger in ["list", "list-b", "lis", &long, &other] {
        for subject in 0..7 {
            store.put_work(work(trigger, &subject.to_string(), 1), None, vec![]).await.unwrap();
        }
    }
    for trigger in ["list", "list-b", "lis", &long, &other] {
        let mut found = Vec::new();
        let mut after = None;
        loop {
            let page = store.works(Some(trigger), after.as_ref(), 3).await.unwrap();
            assert!(page.len() <= 3);
            let Some(last) = page.last() else { break };
            after = Some(last.value.id.clone());
            found.extend(page.into_iter().map(|stored| stored.value));
        }
        assert_eq!(found.len(), 7, "{trigger}");
        assert!(found.iter().all(|work| &*work.trigger == trigger));
        assert!(found.is_sorted_by(|a, b| a.id < b.id));
    }
    assert_eq!(
        store
            .works(None, None, 1000)
            .await
            .unwrap()
            .iter()
            .filter(|it| it.value.trigger.starts_with("lis"))
            .count(),
        21
    );
}

async fn floors_only_rise(store: &dyn WorkStore) {
    assert!(store.floors("src").await.unwrap().is_empty());
    for position in [at(1, 5), at(1, 3), at(1, 7), at(1, 6)] {
        store.raise_floor("src", &position).await.unwrap();
    }
    assert_eq!(store.floors("src").await.unwrap(), [at(1, 7)]);
    store.raise_floor("src", &at(2, 1)).await.unwrap();
    store.raise_floor("src", &at(1, 9)).await.unwrap();
    assert_eq!(store.floors("src").await.unwrap(), [at(2, 1)]);
    assert!(store.floors("sr").await.unwrap().is_empty() && store.floors("src2").await.unwrap().is_empty());
}

async fn epochs_only_grow(store: &dyn WorkStore) {
    let first = store.next_epoch(&Domain::operator()).await.unwrap();
    assert!(store.next_epoch(&Domain::operator()).await.unwrap() > first);
    assert_eq!(store.next_epoch(&Domain::new("another")).await.unwrap(), 1);
}

async fn dead_letters_come_back_byte_for_byte(store: &dyn WorkStore) {
    let letter = |id: &str| {
        Arc::new(DeadLetter {
            id: id.to_owned(),
            source: "users".to_owned(),
            trigger: None,
            reason: "NotACloudEvent".to_owned(),
            detail: "why".to_owned(),
            time: Timestamp::UNIX_EPOCH,
            position: Some(at(1, 1)),
            message: Message { subject: "a.b".to_owned(), headers: vec![("N".to_owned(), "ä".to_owned())] },
            raw: (0..=255).collect::<Vec<u8>>().into(),
        })
    };
    for id in ["2", "1", "3"] {
        store.add_dead_letter(letter(id)).await.unwrap();
    }
    assert_eq!(store.dead_letters(None, 2).await.unwrap(), [letter("1"), letter("2")]);
    assert_eq!(store.dead_letters(Some("2"), 2).await.unwrap(), [letter("3")]);
    assert!(store.drop_dead_letter("2").await.unwrap());
    assert!(!store.drop_dead_letter("2").await.unwrap());
    assert_eq!(store.dead_letters(None, 9).await.unwrap().len(), 2);
}

async fn watchers_hear_of_changes(store: &dyn WorkStore) {
    let mut changes = store.watch().await.unwrap();
    let work = work("t", "watched", 1);
    let revision = store.put_work(Arc::clone(&work), None, vec![]).await.unwrap();
    assert_eq!(changes.next().await, Some(StoreChange::Work(work.id.clone())));
    store.delete_work(&work.id, revision).await.unwrap();
    assert_eq!(changes.next().await, Some(StoreChange::Work(work.id.clone())));
}

async fn one_of_many_writers_wins(store: Arc<dyn WorkStore>) {
    let first = store.put_work(work("t", "race", 1), None, vec![]).await.unwrap();
    let writers = (2..34).map(|generation| {
        let (store, first) = (Arc::clone(&store), first.clone());
        tokio::spawn(async move { store.put_work(work("t", "race", generation), Some(first), vec![]).await })
    });
    let results = futures::future::join_all(writers).await;
    let won = results.iter().filter(|result| result.as_ref().unwrap().is_ok()).count();
    assert_eq!(won, 1);
}

macro_rules! conformance {
    ($module:ident, $store:expr) => {
        mod $module {
            use super::*;

            #[tokio::test(flavor = "multi_thread")]
            async fn keeps_the_contract() {
                let (store, _kept): (Arc<dyn WorkStore>, _) = $store;
                works_are_compared_and_swapped(&*store).await;
                plans_are_stored_with_their_work_but_replace_nothing(&*store).await;
                applied_works_are_compared_and_swapped(&*store).await;
                works_are_listed_in_pages_and_by_trigger(&*store).await;
                floors_only_rise(&*store).await;
                epochs_only_grow(&*store).await;
                dead_letters_come_back_byte_for_byte(&*store).await;
                watchers_hear_of_changes(&*store).await;
                one_of_many_writers_wins(store).await;
            }
        }
    };
}

conformance!(memory, (Arc::new(MemoryStore::default()), ()));
conformance!(redb, {
    let folder = tempfile::tempdir().unwrap();
    (Arc::new(RedbStore::open(&folder.path().join("fleet.redb")).unwrap()), folder)
});

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
