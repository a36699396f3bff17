//! What every WorkStore keeps to.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;

use crate::apply::{ChartVersion, InventoryItem, Owner};
use crate::cluster::ClusterId;
use crate::dead_letter::DeadLetter;
use crate::event::Event;
use crate::health::Health;
use crate::manifest::{Gvk, ObjectRef};
use crate::position::{Domain, Position, Positions};
use crate::source::Message;
use crate::store::{StoreChange, WorkStore};
use crate::work::{AppliedState, AppliedWork, Blocked, EventKey, Intent, RecentEvent, Work, WorkId};

/// How long a handle may take to see what another one wrote.
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs the suite. Each call of `open` gives a handle on the same data, which is empty at first: another one where the
/// store can have several, else the same. Clusters are named `civo/c1` to `civo/c3`.
///
/// # Panics
/// When the store breaks its contract.
pub async fn work_store<F>(open: impl Fn() -> F)
where
    F: Future<Output = Arc<dyn WorkStore>>,
{
    let store = open().await;
    works_are_compared_and_swapped(&*store).await;
    a_work_comes_back_as_it_was(&*store).await;
    plans_are_stored_with_their_work_but_replace_nothing(&*store).await;
    applied_works_are_compared_and_swapped(&*store).await;
    works_are_listed_in_pages_and_by_trigger(&*store).await;
    what_was_applied_is_listed_also_without_its_work(&*store).await;
    floors_only_rise(&*store).await;
    epochs_only_grow(&*store).await;
    dead_letters_come_back_byte_for_byte(&*store).await;
    one_of_many_writers_wins(Arc::clone(&store)).await;
    let other = open().await;
    if !Arc::ptr_eq(&store, &other) {
        another_handle_is_heard_and_cannot_overwrite(&*store, &*other).await;
    }
    drop((store, other));
    everything_is_there_for_the_next_handle(&*open().await).await;
}

fn work(trigger: &str, subject: &str, generation: u64) -> Arc<Work> {
    let key = EventKey::About { origin: None, source: "s".into(), subject: Some(subject.into()) };
    let event =
        serde_json::json!({"specversion": "1.0", "id": "1", "source": "s", "type": "t", "subject": subject});
    let mut positions = Positions::default();
    positions.record(at(1, generation));
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
        positions,
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

async fn works_are_compared_and_swapped(store: &dyn WorkStore) {
    let first = work("t", "a", 1);
    assert!(store.work(&first.id).await.unwrap().is_none(), "the store is not empty");
    let one = store.put_work(Arc::clone(&first), None, vec![]).await.unwrap();
    let twice = store.put_work(Arc::clone(&first), None, vec![]).await.unwrap_err();
    assert!(twice.is_conflict(), "a Work that is there was made again: {twice}");
    let second = work("t", "a", 2);
    let two = store.put_work(Arc::clone(&second), Some(one.clone()), vec![]).await.unwrap();
    assert_ne!(one, two, "two writes have the same revision");
    let stale = store.put_work(first, Some(one.clone()), vec![]).await;
    assert!(stale.unwrap_err().is_conflict(), "a stale write went through");
    let stored = store.work(&second.id).await.unwrap().unwrap();
    assert_eq!((&stored.value, &stored.revision), (&second, &two), "a read does not see the last write");
    let stale = store.delete_work(&second.id, one.clone()).await;
    assert!(stale.unwrap_err().is_conflict(), "a stale deletion went through");
    store.delete_work(&second.id, two.clone()).await.unwrap();
    assert!(store.work(&second.id).await.unwrap().is_none(), "a deleted Work is still read");
    let gone = store.put_work(Arc::clone(&second), Some(two), vec![]).await;
    assert!(gone.unwrap_err().is_conflict(), "a Work that is gone was changed");
    let again = store.put_work(second, None, vec![]).await.unwrap();
    assert_ne!(again, one, "a revision came twice");
}

async fn a_work_comes_back_as_it_was(store: &dyn WorkStore) {
    let subject = "https://example.com/ä b?c=%20\u{1F600}\n".repeat(8);
    let mut odd = (*work("t", &subject, 7)).clone();
    odd.origin = Some(cluster("c1"));
    odd.intent = Intent::Delete;
    odd.message = Arc::new(Message {
        subject: "a.b".to_owned(),
        headers: vec![("N".to_owned(), "1".to_owned()), ("N".to_owned(), "2".to_owned())],
    });
    odd.positions.record(Position { domain: Domain::new("x/y z"), epoch: u64::MAX, sequence: u64::MAX });
    odd.recent = vec![RecentEvent { hash: "hash".to_owned(), at: Timestamp::UNIX_EPOCH }];
    let odd = Arc::new(odd);
    store.put_work(Arc::clone(&odd), None, vec![]).await.unwrap();
    assert_eq!(store.work(&odd.id).await.unwrap().unwrap().value, odd, "a Work came back changed");
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
    assert_eq!(
        stored,
        [done, applied(&work, "c2")],
        "plans are written where nothing is stored, and only there"
    );
}

async fn applied_works_are_compared_and_swapped(store: &dyn WorkStore) {
    let work = work("t", "applied", 1);
    let mut record = applied(&work, "c1");
    record.state = AppliedState::Stalled { reason: "Conflict".to_owned(), message: "why".to_owned() };
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
        Blocked { object: object.clone(), owner: Owner::Other("helm".to_owned()) },
    ];
    let record = Arc::new(record);
    let one = store.put_applied(Arc::clone(&record), None).await.unwrap();
    assert!(store.put_applied(Arc::clone(&record), None).await.unwrap_err().is_conflict());
    let read = store.applied_in(&work.id, &cluster("c1")).await.unwrap().unwrap();
    assert_eq!((&read.value, &read.revision), (&record, &one), "an AppliedWork came back changed");
    let changed = AppliedWork { generation: 2, ..(*record).clone() };
    let two = store.put_applied(Arc::new(changed.clone()), Some(one.clone())).await.unwrap();
    assert_ne!(one, two, "two writes have the same revision");
    assert!(store.put_applied(record, Some(one.clone())).await.unwrap_err().is_conflict());
    assert!(store.delete_applied(&work.id, &cluster("c1"), one).await.unwrap_err().is_conflict());
    store.delete_applied(&work.id, &cluster("c1"), two.clone()).await.unwrap();
    assert!(store.applied(&work.id).await.unwrap().is_empty(), "a deleted AppliedWork is still read");
    let gone = store.delete_applied(&work.id, &cluster("c1"), two).await;
    assert!(gone.unwrap_err().is_conflict(), "an AppliedWork was deleted twice");
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
            assert!(page.len() <= 3, "a page is longer than asked for");
            let Some(last) = page.last() else { break };
            after = Some(last.value.id.clone());
            found.extend(page.into_iter().map(|stored| stored.value));
        }
        assert_eq!(found.len(), 7, "the Works of trigger {trigger}");
        assert!(found.iter().all(|work| &*work.trigger == trigger), "Works of another trigger");
        assert!(found.is_sorted_by(|a, b| a.id < b.id), "pages are not in the order of ids");
    }
    let all = store.works(None, None, 1000).await.unwrap();
    assert_eq!(all.iter().filter(|it| it.value.trigger.starts_with("lis")).count(), 21);
}

async fn what_was_applied_is_listed_also_without_its_work(store: &dyn WorkStore) {
    for subject in 0..5 {
        let orphan = work("orphans", &subject.to_string(), 1);
        for name in ["c3", "c1", "c2"] {
            store.put_applied(Arc::new(applied(&orphan, name)), None).await.unwrap();
        }
    }
    let mut found = Vec::new();
    let mut after: Option<(WorkId, ClusterId)> = None;
    loop {
        let place = after.as_ref().map(|(work, cluster)| (work, cluster));
        let page = store.all_applied(place, 4).await.unwrap();
        assert!(page.len() <= 4, "a page is longer than asked for");
        let Some(last) = page.last() else { break };
        after = Some((last.value.work.clone(), last.value.cluster.clone()));
        let orphans = page.iter().filter(|it| it.value.work.as_str().starts_with("orphans-"));
        found.extend(orphans.map(|it| (it.value.work.clone(), it.value.cluster.clone())));
    }
    assert_eq!(found.len(), 15, "every AppliedWork is listed once, its Work there or not");
    assert!(found.is_sorted_by(|a, b| a.0 <= b.0), "pages are not in the order of Works");
    let distinct: std::collections::BTreeSet<_> = found.iter().collect();
    assert_eq!(distinct.len(), 15, "an AppliedWork is listed twice");
}

async fn floors_only_rise(store: &dyn WorkStore) {
    assert!(store.floors("src").await.unwrap().is_empty());
    for position in [at(1, 5), at(1, 3), at(1, 7), at(1, 6)] {
        store.raise_floor("src", &position).await.unwrap();
    }
    assert_eq!(store.floors("src").await.unwrap(), [at(1, 7)], "a floor was lowered");
    store.raise_floor("src", &at(2, 1)).await.unwrap();
    store.raise_floor("src", &at(1, 9)).await.unwrap();
    assert_eq!(store.floors("src").await.unwrap(), [at(2, 1)], "a later epoch is above everything earlier");
    assert!(store.floors("sr").await.unwrap().is_empty() && store.floors("src2").await.unwrap().is_empty());
    let odd = Position { domain: Domain::new("a/b c: \"d\"\n_é"), epoch: u64::MAX, sequence: u64::MAX };
    store.raise_floor("a source/1", &odd).await.unwrap();
    assert_eq!(store.floors("a source/1").await.unwrap(), [odd], "names come back as they were");
}

async fn epochs_only_grow(store: &dyn WorkStore) {
    let first = store.next_epoch(&Domain::operator()).await.unwrap();
    assert!(store.next_epoch(&Domain::operator()).await.unwrap() > first, "an epoch came twice");
    assert_eq!(store.next_epoch(&Domain::new("another/one")).await.unwrap(), 1, "epochs begin with 1");
}

fn letter(id: &str) -> Arc<DeadLetter> {
    Arc::new(DeadLetter {
        id: id.to_owned(),
        source: "users".to_owned(),
        trigger: None,
        reason: "NotACloudEvent".to_owned(),
        detail: "why".to_owned(),
        time: Timestamp::UNIX_EPOCH,
        position: Some(at(1, 1)),
        origin: Some(cluster("c1")),
        message: Message { subject: "a.b".to_owned(), headers: vec![("N".to_owned(), "ä".to_owned())] },
        raw: (0..=255).collect::<Vec<u8>>().into(),
    })
}

/// An id as the engine makes them.
fn letter_id(number: u64) -> String {
    format!("{number:013}-0123456789abcdef0123")
}

async fn dead_letters_come_back_byte_for_byte(store: &dyn WorkStore) {
    for number in [2, 1, 3] {
        store.add_dead_letter(letter(&letter_id(number))).await.unwrap();
    }
    let again = DeadLetter { detail: "another reason".to_owned(), ..(*letter(&letter_id(3))).clone() };
    store.add_dead_letter(Arc::new(again.clone())).await.unwrap();
    let first = store.dead_letters(None, 2).await.unwrap();
    assert_eq!(first, [letter(&letter_id(1)), letter(&letter_id(2))], "letters came back changed");
    assert_eq!(
        store.dead_letters(Some(&letter_id(2)), 2).await.unwrap(),
        [Arc::new(again.clone())],
        "the same letter replaces itself"
    );
    assert_eq!(store.dead_letter(&letter_id(3)).await.unwrap(), Some(Arc::new(again)));
    assert_eq!(store.dead_letter(&letter_id(9)).await.unwrap(), None);
    assert!(store.drop_dead_letter(&letter_id(2)).await.unwrap());
    assert!(!store.drop_dead_letter(&letter_id(2)).await.unwrap(), "a letter was dropped twice");
    assert_eq!(store.dead_letters(None, 9).await.unwrap().len(), 2);
}

async fn one_of_many_writers_wins(store: Arc<dyn WorkStore>) {
    let first = store.put_work(work("t", "race", 1), None, vec![]).await.unwrap();
    let writers = (2..34).map(|generation| {
        let (store, first) = (Arc::clone(&store), first.clone());
        tokio::spawn(async move { store.put_work(work("t", "race", generation), Some(first), vec![]).await })
    });
    let results = futures::future::join_all(writers).await;
    let won = results.iter().filter(|result| result.as_ref().unwrap().is_ok()).count();
    assert_eq!(won, 1, "so many of 32 writers with one revision got through");
}

async fn another_handle_is_heard_and_cannot_overwrite(store: &dyn WorkStore, other: &dyn WorkStore) {
    let mut changes = store.watch().await.unwrap();
    let mut told = async |what: &WorkId| {
        tokio::time::timeout(PATIENCE, async {
            loop {
                match changes.next().await {
                    Some(StoreChange::Work(id)) if id == *what => return,
                    Some(StoreChange::Many) => return,
                    Some(_) => {}
                    None => panic!("the feed of changes ended"),
                }
            }
        })
        .await
        .expect("what another handle changed is told");
    };
    let watched = work("t", "watched", 1);
    other.put_work(Arc::clone(&watched), None, vec![applied(&watched, "c1")]).await.unwrap();
    told(&watched.id).await;
    let ours = store.work(&watched.id).await.unwrap().expect("what was told can be read");
    assert_eq!(ours.value, watched);
    let theirs = other.work(&watched.id).await.unwrap().unwrap();
    other.put_work(work("t", "watched", 2), Some(theirs.revision), vec![]).await.unwrap();
    // Whether or not this handle knows yet: the stale write fails, and the next read is fresh.
    let stale = store.put_work(work("t", "watched", 3), Some(ours.revision), vec![]).await;
    assert!(stale.unwrap_err().is_conflict(), "another handle's write was overwritten");
    let fresh = store.work(&watched.id).await.unwrap().unwrap();
    assert_eq!(fresh.value.generation, 2, "after a conflict a read is fresh");
    store.put_work(work("t", "watched", 3), Some(fresh.revision), vec![]).await.unwrap();
    let unseen = work("t", "unseen", 1);
    other.put_work(Arc::clone(&unseen), None, vec![]).await.unwrap();
    assert!(store.put_work(unseen, None, vec![]).await.unwrap_err().is_conflict(), "a Work was made twice");
    other.raise_floor("shared", &at(4, 4)).await.unwrap();
    assert_eq!(store.floors("shared").await.unwrap(), [at(4, 4)], "floors are read as they are");
    let epoch = store.next_epoch(&Domain::operator()).await.unwrap();
    assert!(other.next_epoch(&Domain::operator()).await.unwrap() > epoch, "two handles got one epoch");
}

async fn everything_is_there_for_the_next_handle(store: &dyn WorkStore) {
    let race = work("t", "race", 1);
    assert!(store.work(&race.id).await.unwrap().is_some_and(|it| it.value.generation > 1), "a Work was lost");
    let plans = store.applied(&work("t", "plans", 1).id).await.unwrap();
    assert_eq!(plans.len(), 2, "an AppliedWork was lost");
    assert_eq!(store.floors("src").await.unwrap(), [at(2, 1)], "a floor was lost");
    assert!(store.next_epoch(&Domain::operator()).await.unwrap() > 2, "an epoch came twice");
    assert_eq!(store.dead_letters(None, 9).await.unwrap().len(), 2, "a dead letter was lost");
}
