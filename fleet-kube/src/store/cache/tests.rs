//! What the cache makes of watches, answers and own writes, in whatever order they come.

use fleet_core::work::{AppliedState, EventKey};
use jiff::Timestamp;

use super::*;

fn place() -> Place {
    Place::in_cluster(
        &WorkId::new("t", &EventKey::Text("k".to_owned())),
        &ClusterId::new("civo", "c1").unwrap(),
    )
}

/// A record that tells which one it is by its generation.
fn record(number: i64) -> Arc<AppliedWork> {
    Arc::new(AppliedWork {
        work: place().work,
        cluster: place().cluster.unwrap(),
        local: None,
        generation: number.unsigned_abs(),
        digest: None,
        inventory: Vec::new(),
        state: AppliedState::Pending,
        health: None,
        blocked: Vec::new(),
        updated: Timestamp::UNIX_EPOCH,
    })
}

fn version(uid: &str, number: i64) -> Version {
    Version { uid: uid.into(), generation: number, resource: number.unsigned_abs() * 10 }
}

/// As a watch does.
fn told(cache: &Cache, uid: &str, number: i64) {
    let mut table = cache.lock::<AppliedWork>();
    if table.is_news(&place(), &version(uid, number)) {
        let effect = table.put(&place(), record(number), version(uid, number));
        drop(table);
        cache.follow(&place(), effect);
    }
}

fn gone(cache: &Cache, uid: &str) {
    let effect = cache.lock::<AppliedWork>().gone(&place(), &uid.into());
    cache.follow(&place(), effect);
}

fn wrote(cache: &Cache, uid: &str, number: i64) {
    cache.begin::<AppliedWork>(place()).wrote(record(number), version(uid, number));
}

fn known(cache: &Cache) -> Option<u64> {
    cache.lock::<AppliedWork>().get(&place()).map(|(record, _)| record.generation)
}

fn heard(changes: &mut broadcast::Receiver<Place>) -> usize {
    std::iter::from_fn(|| changes.try_recv().ok()).count()
}

#[test]
fn what_is_older_changes_nothing() {
    let cache = Cache::default();
    wrote(&cache, "a", 3);
    told(&cache, "a", 1);
    told(&cache, "a", 2);
    assert_eq!(known(&cache), Some(3));
    told(&cache, "a", 4);
    wrote(&cache, "a", 3);
    assert_eq!(known(&cache), Some(4), "an answer may come after the next one's event");
    // Deleted and made anew by others: each event of the old one comes too late.
    wrote(&cache, "b", 6);
    told(&cache, "a", 5);
    gone(&cache, "a");
    assert_eq!(known(&cache), Some(6));
}

#[test]
fn what_we_deleted_does_not_come_back() {
    let cache = Cache::default();
    wrote(&cache, "a", 1);
    cache.begin::<AppliedWork>(place()).deleted(&"a".into());
    assert_eq!(known(&cache), None);
    told(&cache, "a", 1);
    assert_eq!(known(&cache), None);
    gone(&cache, "a");
    assert!(cache.lock::<AppliedWork>().deleted.is_empty(), "nothing is remembered for longer than needed");
    // The event may come before the answer.
    wrote(&cache, "b", 2);
    let write = cache.begin::<AppliedWork>(place());
    gone(&cache, "b");
    write.deleted(&"b".into());
    assert!(cache.lock::<AppliedWork>().deleted.is_empty());
}

#[test]
fn a_list_takes_away_what_is_not_in_it_and_nothing_newer() {
    let cache = Cache::default();
    told(&cache, "a", 1);
    cache.lock::<AppliedWork>().list_begins();
    assert_eq!(cache.lock::<AppliedWork>().list_ends().len(), 1);
    assert_eq!(known(&cache), None);
    cache.lock::<AppliedWork>().list_begins();
    wrote(&cache, "b", 2);
    assert!(cache.lock::<AppliedWork>().list_ends().is_empty());
    assert_eq!(known(&cache), Some(2), "written while it was read");
    // Listed before we deleted it.
    cache.lock::<AppliedWork>().list_begins();
    cache.begin::<AppliedWork>(place()).deleted(&"b".into());
    told(&cache, "b", 2);
    cache.lock::<AppliedWork>().list_ends();
    assert_eq!(known(&cache), None);
}

#[test]
fn only_others_are_told_of_whenever_events_and_answers_come() {
    let cache = Cache::default();
    let mut changes = cache.changes.subscribe();
    let write = cache.begin::<AppliedWork>(place());
    told(&cache, "a", 1);
    write.wrote(record(1), version("a", 1));
    wrote(&cache, "a", 2);
    told(&cache, "a", 2);
    assert_eq!(heard(&mut changes), 0, "ours");
    let write = cache.begin::<AppliedWork>(place());
    told(&cache, "a", 3);
    told(&cache, "a", 4);
    assert_eq!(heard(&mut changes), 0, "it is not known yet whose they are");
    write.wrote(record(3), version("a", 3));
    assert_eq!((heard(&mut changes), known(&cache)), (1, Some(4)));
    told(&cache, "a", 5);
    gone(&cache, "a");
    assert_eq!(heard(&mut changes), 2);
}

#[test]
fn a_write_without_an_end_leaves_doubt_until_a_later_look() {
    let cache = Cache::default();
    let earlier = cache.lock::<AppliedWork>().tick();
    drop(cache.begin::<AppliedWork>(place()));
    let doubtful = || cache.lock::<AppliedWork>().is_doubtful(&place());
    assert!(doubtful());
    cache.lock::<AppliedWork>().settle_doubt(&place(), earlier);
    assert!(doubtful(), "asked before the write");
    let later = cache.lock::<AppliedWork>().tick();
    cache.lock::<AppliedWork>().settle_doubt(&place(), later);
    assert!(!doubtful());
    cache.begin::<AppliedWork>(place()).had_no_effect();
    assert!(!doubtful());
    // A look that began before our write returned cannot take it away.
    let began = cache.lock::<AppliedWork>().tick();
    wrote(&cache, "a", 1);
    cache.lock::<AppliedWork>().absent(&place(), began);
    assert_eq!(known(&cache), Some(1));
}
