//! The checks, each of one rule.

use std::sync::Arc;

use futures::StreamExt;

use super::Fixture;
use super::records::{Names, applied, odd_applied};
use crate::cluster::ClusterId;
use crate::dead_letter::DeadLetter;
use crate::store::{Revision, StoreChange, StoreError, WorkStore};
use crate::testing::conformance::{Finding, OrBroken, holds};
use crate::work::{AppliedWork, Work, WorkId};

type Verdict = Result<(), Finding>;

/// More pages than there are records end a listing that goes in circles.
const PAGES: usize = 10_000;

/// A write that has to fail as a conflict.
fn conflicts<T>(written: Result<T, StoreError>, what: &str) -> Verdict {
    match written {
        Ok(_) => Err(Finding::Broken(format!("{what} went through, a conflict was expected"))),
        Err(error) if error.is_conflict() => Ok(()),
        Err(error) => Err(Finding::Broken(format!("{what} failed otherwise than as a conflict: {error}"))),
    }
}

async fn put(
    store: &dyn WorkStore,
    work: &Arc<Work>,
    expected: Option<Revision>,
) -> Result<Revision, Finding> {
    store.put_work(Arc::clone(work), expected, vec![]).await.or_broken("a Work could not be written")
}

async fn put_applied(
    store: &dyn WorkStore,
    record: AppliedWork,
    expected: Option<Revision>,
) -> Result<Revision, Finding> {
    store.put_applied(Arc::new(record), expected).await.or_broken("an AppliedWork could not be written")
}

async fn read(store: &dyn WorkStore, id: &WorkId) -> Result<(Arc<Work>, Revision), Finding> {
    let stored = store.work(id).await.or_broken("a Work could not be read")?;
    let stored = stored.or_broken("a Work that was written is not there")?;
    Ok((stored.value, stored.revision))
}

async fn read_applied(
    store: &dyn WorkStore,
    work: &WorkId,
    cluster: &ClusterId,
) -> Result<(Arc<AppliedWork>, Revision), Finding> {
    let stored = store.applied_in(work, cluster).await.or_broken("an AppliedWork could not be read")?;
    let stored = stored.or_broken("an AppliedWork that was written is not there")?;
    Ok((stored.value, stored.revision))
}

pub(super) async fn a_work_comes_back_as_it_was(fixture: &impl Fixture) -> Verdict {
    let [c1, ..] = fixture.clusters();
    let (store, names) = (fixture.store().await, Names::new());
    let odd = names.odd_work(c1);
    put(&*store, &odd, None).await?;
    let (found, _) = read(&*store, &odd.id).await?;
    holds!(found == odd, "a Work came back as {found:?}, written was {odd:?}");
    Ok(())
}

pub(super) async fn an_applied_work_comes_back_as_it_was(fixture: &impl Fixture) -> Verdict {
    let [c1, ..] = fixture.clusters();
    let (store, names) = (fixture.store().await, Names::new());
    let work = names.work("t", "applied", 1);
    let odd = odd_applied(&work, &c1);
    put_applied(&*store, odd.clone(), None).await?;
    let (found, _) = read_applied(&*store, &work.id, &c1).await?;
    holds!(*found == odd, "an AppliedWork came back as {found:?}, written was {odd:?}");
    Ok(())
}

pub(super) async fn a_dead_letter_comes_back_byte_for_byte(fixture: &impl Fixture) -> Verdict {
    let [c1, ..] = fixture.clusters();
    let (store, names) = (fixture.store().await, Names::new());
    let letter = Arc::new(names.letter(1, c1));
    store.add_dead_letter(Arc::clone(&letter)).await.or_broken("a dead letter could not be added")?;
    let found = store.dead_letter(&letter.id).await.or_broken("a dead letter could not be read")?;
    let found = found.or_broken("a dead letter that was added is not there")?;
    holds!(found == letter, "a dead letter came back as {found:?}, added was {letter:?}");
    Ok(())
}

pub(super) async fn a_stale_write_of_a_work_fails(fixture: &impl Fixture) -> Verdict {
    let (store, names) = (fixture.store().await, Names::new());
    let (first, second) = (names.work("t", "a", 1), names.work("t", "a", 2));
    let one = put(&*store, &first, None).await?;
    conflicts(store.put_work(Arc::clone(&first), None, vec![]).await, "making a Work that is there already")?;
    let two = put(&*store, &second, Some(one.clone())).await?;
    conflicts(
        store.put_work(first, Some(one.clone()), vec![]).await,
        "a write that names an earlier revision",
    )?;
    conflicts(store.delete_work(&second.id, one).await, "a deletion that names an earlier revision")?;
    store.delete_work(&second.id, two.clone()).await.or_broken("a Work could not be deleted")?;
    conflicts(store.put_work(second, Some(two), vec![]).await, "a change of a Work that is gone")
}

pub(super) async fn a_stale_write_of_an_applied_work_fails(fixture: &impl Fixture) -> Verdict {
    let [c1, ..] = fixture.clusters();
    let (store, names) = (fixture.store().await, Names::new());
    let work = names.work("t", "applied", 1);
    let record = applied(&work, &c1);
    let one = put_applied(&*store, record.clone(), None).await?;
    let again = Arc::new(record.clone());
    conflicts(store.put_applied(again, None).await, "making an AppliedWork that is there already")?;
    let changed = AppliedWork { generation: 2, ..record.clone() };
    let two = put_applied(&*store, changed, Some(one.clone())).await?;
    let stale = store.put_applied(Arc::new(record), Some(one.clone())).await;
    conflicts(stale, "a write that names an earlier revision")?;
    let stale = store.delete_applied(&work.id, &c1, one).await;
    conflicts(stale, "a deletion that names an earlier revision")?;
    let deleted = store.delete_applied(&work.id, &c1, two.clone()).await;
    deleted.or_broken("an AppliedWork could not be deleted")?;
    conflicts(store.delete_applied(&work.id, &c1, two).await, "deleting an AppliedWork that is gone")
}

pub(super) async fn one_of_many_writers_wins(fixture: &impl Fixture) -> Verdict {
    const WRITERS: u64 = 32;
    let (store, names) = (fixture.store().await, Names::new());
    let first = put(&*store, &names.work("t", "race", 1), None).await?;
    let writers = (0..WRITERS).map(|writer| {
        let (store, first) = (Arc::clone(&store), first.clone());
        let work = names.work("t", "race", writer + 2);
        tokio::spawn(async move { store.put_work(work, Some(first), vec![]).await })
    });
    let mut won = 0;
    for written in futures::future::join_all(writers).await {
        match written.or_broken("a writer panicked")? {
            Ok(_) => won += 1,
            Err(error) => conflicts(Err::<(), _>(error), "one of many writes with one revision")?,
        }
    }
    holds!(won == 1, "{won} of {WRITERS} writes that name one revision went through, not one");
    Ok(())
}

pub(super) async fn a_revision_never_comes_twice(fixture: &impl Fixture) -> Verdict {
    let (store, names) = (fixture.store().await, Names::new());
    let work = |generation| names.work("t", "a", generation);
    let one = put(&*store, &work(1), None).await?;
    let two = put(&*store, &work(2), Some(one.clone())).await?;
    let (found, read) = read(&*store, &work(1).id).await?;
    holds!((found.generation, &read) == (2, &two), "a read gives revision {read:?}, the write gave {two:?}");
    store.delete_work(&found.id, two.clone()).await.or_broken("a Work could not be deleted")?;
    let three = put(&*store, &work(1), None).await?;
    let distinct = one != two && two != three && one != three;
    holds!(distinct, "three writes of one record have the revisions {one:?}, {two:?}, {three:?}");
    Ok(())
}

pub(super) async fn reads_see_what_was_written(fixture: &impl Fixture) -> Verdict {
    let [c1, c2, _] = fixture.clusters();
    let (store, names) = (fixture.store().await, Names::new());
    let work = names.work("t", "a", 1);
    let none = store.work(&work.id).await.or_broken("a Work that is not there could not be asked for")?;
    holds!(none.is_none(), "a Work that nobody wrote is there");
    let plans = vec![applied(&work, &c1), applied(&work, &c2)];
    let one =
        store.put_work(Arc::clone(&work), None, plans).await.or_broken("a Work could not be written")?;
    let all = store.applied(&work.id).await.or_broken("what was applied could not be read")?;
    holds!(all.len() == 2, "of two plans written with a Work, {} are read", all.len());
    put(&*store, &names.work("t", "a", 2), Some(one)).await?;
    let (found, _) = read(&*store, &work.id).await?;
    holds!(found.generation == 2, "generation {} is read after 2 was written", found.generation);
    let (planned, revision) = read_applied(&*store, &work.id, &c1).await?;
    let changed = AppliedWork { generation: 2, ..(*planned).clone() };
    let revision = put_applied(&*store, changed, Some(revision)).await?;
    let (found, _) = read_applied(&*store, &work.id, &c1).await?;
    holds!(found.generation == 2, "an AppliedWork is read as it was before it was written");
    store.delete_applied(&work.id, &c1, revision).await.or_broken("an AppliedWork could not be deleted")?;
    let left = store.applied(&work.id).await.or_broken("what was applied could not be read")?;
    let left: Vec<_> = left.iter().map(|it| &it.value.cluster).collect();
    holds!(left == [&c2], "after a deletion records in {left:?} are read, not in {c2}");
    // A store that keeps plans with their Work may have written that meanwhile.
    let (_, revision) = read(&*store, &work.id).await?;
    store.delete_work(&work.id, revision).await.or_broken("a Work could not be deleted")?;
    let gone = store.work(&work.id).await.or_broken("a Work could not be asked for")?;
    holds!(gone.is_none(), "a Work that was deleted is read");
    Ok(())
}

pub(super) async fn plans_replace_nothing(fixture: &impl Fixture) -> Verdict {
    let [c1, c2, _] = fixture.clusters();
    let (store, names) = (fixture.store().await, Names::new());
    let work = names.work("t", "plans", 1);
    let done = odd_applied(&work, &c1);
    put_applied(&*store, done.clone(), None).await?;
    let plans = vec![applied(&work, &c1), applied(&work, &c2)];
    store.put_work(Arc::clone(&work), None, plans).await.or_broken("a Work could not be written")?;
    let (kept, _) = read_applied(&*store, &work.id, &c1).await?;
    holds!(*kept == done, "a plan replaced what was done in {c1}");
    let (planned, _) = read_applied(&*store, &work.id, &c2).await?;
    holds!(*planned == applied(&work, &c2), "the plan for {c2}, where nothing is stored, came back changed");
    Ok(())
}

pub(super) async fn works_are_listed_in_the_order_of_their_ids(fixture: &impl Fixture) -> Verdict {
    const EACH: usize = 7;
    let (store, names) = (fixture.store().await, Names::new());
    // Names that run together where ids are cut or joined.
    let long = "x".repeat(30);
    let triggers = ["list", "list-b", "lis", &long, &format!("{long}y")].map(|name| names.trigger(name));
    for trigger in &triggers {
        for subject in 0..EACH {
            put(&*store, &names.work_of(trigger, &subject.to_string(), 1), None).await?;
        }
    }
    for trigger in &triggers {
        let found = list_works(&*store, Some(trigger), 3).await?;
        holds!(found.len() == EACH, "of {EACH} Works of trigger {trigger} {} are listed", found.len());
        let strange = found.iter().find(|work| *work.trigger != **trigger);
        holds!(strange.is_none(), "among the Works of trigger {trigger} is {strange:?}");
    }
    let all = list_works(&*store, None, 1000).await?;
    let ours = all.iter().filter(|work| triggers.iter().any(|name| **name == *work.trigger)).count();
    let written = EACH * triggers.len();
    holds!(ours == written, "of {written} Works {ours} are listed where no trigger is named");
    Ok(())
}

/// All Works, page by page, in their order.
async fn list_works(
    store: &dyn WorkStore,
    trigger: Option<&str>,
    limit: usize,
) -> Result<Vec<Arc<Work>>, Finding> {
    let mut found: Vec<Arc<Work>> = Vec::new();
    for _ in 0..PAGES {
        let after = found.last().map(|work| work.id.clone());
        let page =
            store.works(trigger, after.as_ref(), limit).await.or_broken("Works could not be listed")?;
        if page.is_empty() {
            let sorted = found.is_sorted_by(|a, b| a.id < b.id);
            holds!(sorted, "Works are not listed in the order of their ids, each once");
            return Ok(found);
        }
        found.extend(page.into_iter().map(|stored| stored.value));
    }
    Err(Finding::Broken(format!("after {PAGES} pages of Works there was still another")))
}

pub(super) async fn what_was_applied_is_listed_also_without_its_work(fixture: &impl Fixture) -> Verdict {
    let clusters = fixture.clusters();
    let (store, names) = (fixture.store().await, Names::new());
    let mut written = std::collections::BTreeSet::new();
    for subject in 0..5 {
        let orphan = names.work("orphans", &subject.to_string(), 1);
        for cluster in clusters.iter().rev() {
            put_applied(&*store, applied(&orphan, cluster), None).await?;
            written.insert((orphan.id.clone(), cluster.clone()));
        }
    }
    let mut found: Vec<(WorkId, ClusterId)> = Vec::new();
    for _ in 0..PAGES {
        let after = found.last().cloned();
        let after = after.as_ref().map(|(work, cluster)| (work, cluster));
        let page = store.all_applied(after, 4).await.or_broken("what was applied could not be listed")?;
        if page.is_empty() {
            break;
        }
        found.extend(page.into_iter().map(|it| (it.value.work.clone(), it.value.cluster.clone())));
    }
    holds!(found.is_sorted_by(|a, b| a.0 <= b.0), "what was applied is not listed in the order of Works");
    found.retain(|it| written.contains(it));
    let each_once = found.len() == written.len() && written.iter().all(|it| found.contains(it));
    holds!(each_once, "of {} AppliedWorks whose Works are gone {} are listed", written.len(), found.len());
    Ok(())
}

pub(super) async fn pages_have_a_limit(fixture: &impl Fixture) -> Verdict {
    let [c1, ..] = fixture.clusters();
    let (store, names) = (fixture.store().await, Names::new());
    for number in 1..=4 {
        let work = names.work("t", &number.to_string(), 1);
        put(&*store, &work, None).await?;
        put_applied(&*store, applied(&work, &c1), None).await?;
        let letter = Arc::new(names.letter(number, c1.clone()));
        store.add_dead_letter(letter).await.or_broken("a dead letter could not be added")?;
    }
    let works = store.works(None, None, 3).await.or_broken("Works could not be listed")?.len();
    let applied = store.all_applied(None, 3).await.or_broken("what was applied could not be listed")?.len();
    let letters = store.dead_letters(None, 3).await.or_broken("dead letters could not be listed")?.len();
    for (what, length) in [("Works", works), ("AppliedWorks", applied), ("dead letters", letters)] {
        holds!(length == 3, "of four or more {what} a page of 3 has {length}");
    }
    Ok(())
}

pub(super) async fn floors_only_rise(fixture: &impl Fixture) -> Verdict {
    let (store, names) = (fixture.store().await, Names::new());
    let source = names.source("src");
    let floors = async || store.floors(&source).await.or_broken("floors could not be read");
    let raise = async |epoch, sequence| {
        let raised = store.raise_floor(&source, &names.at(epoch, sequence)).await;
        raised.or_broken("a floor could not be raised")
    };
    holds!(floors().await?.is_empty(), "a source that nobody heard of has floors");
    for (epoch, sequence, expected) in
        [(1, 5, (1, 5)), (1, 3, (1, 5)), (1, 7, (1, 7)), (1, 6, (1, 7)), (2, 1, (2, 1)), (1, 9, (2, 1))]
    {
        raise(epoch, sequence).await?;
        let (found, expected) = (floors().await?, names.at(expected.0, expected.1));
        holds!(found == [expected.clone()], "the floors are {found:?}, not {expected}");
    }
    let elsewhere = store.floors(&names.source("sr")).await.or_broken("floors could not be read")?;
    holds!(elsewhere.is_empty(), "a floor of one source is one of another");
    Ok(())
}

pub(super) async fn epochs_only_grow(fixture: &impl Fixture) -> Verdict {
    let (store, names) = (fixture.store().await, Names::new());
    let next =
        async |name| store.next_epoch(&names.domain(name)).await.or_broken("an epoch could not be had");
    let first = next("a").await?;
    holds!(first == 1, "the first epoch of a domain is {first}, not 1");
    let second = next("a").await?;
    holds!(second > first, "after epoch {first} came {second}");
    let other = next("b").await?;
    holds!(other == 1, "the first epoch of another domain is {other}, not 1");
    Ok(())
}

/// The letters of this run, page by page.
async fn letters(store: &dyn WorkStore, names: &Names) -> Result<Vec<Arc<DeadLetter>>, Finding> {
    let ours = names.letter_id(0).split_once('-').map(|(_, hash)| hash.to_owned()).unwrap_or_default();
    let mut found: Vec<Arc<DeadLetter>> = Vec::new();
    for _ in 0..PAGES {
        let after = found.last().map(|letter| letter.id.clone());
        let page =
            store.dead_letters(after.as_deref(), 2).await.or_broken("dead letters could not be listed")?;
        if page.is_empty() {
            let sorted = found.is_sorted_by(|a, b| a.id < b.id);
            holds!(sorted, "dead letters are not listed in the order of their ids, each once");
            found.retain(|letter| letter.id.ends_with(&ours));
            return Ok(found);
        }
        found.extend(page);
    }
    Err(Finding::Broken(format!("after {PAGES} pages of dead letters there was still another")))
}

pub(super) async fn dead_letters_are_listed_in_the_order_of_their_ids(fixture: &impl Fixture) -> Verdict {
    let [c1, ..] = fixture.clusters();
    let (store, names) = (fixture.store().await, Names::new());
    for number in [2, 1, 3] {
        let letter = Arc::new(names.letter(number, c1.clone()));
        store.add_dead_letter(letter).await.or_broken("a dead letter could not be added")?;
    }
    let listed = letters(&*store, &names).await?.len();
    holds!(listed == 3, "of three dead letters {listed} are listed");
    let drop = async |id: &str| store.drop_dead_letter(id).await.or_broken("a letter could not be dropped");
    let second = names.letter_id(2);
    holds!(drop(&second).await?, "dropping a dead letter says that there was none");
    holds!(!drop(&second).await?, "a dead letter was dropped twice");
    let listed = letters(&*store, &names).await?.len();
    holds!(listed == 2, "of three dead letters one was dropped and {listed} are listed");
    Ok(())
}

pub(super) async fn a_dead_letter_replaces_itself(fixture: &impl Fixture) -> Verdict {
    let [c1, ..] = fixture.clusters();
    let (store, names) = (fixture.store().await, Names::new());
    for detail in ["why", "another reason"] {
        let letter = DeadLetter { detail: detail.to_owned(), ..names.letter(1, c1.clone()) };
        store.add_dead_letter(Arc::new(letter)).await.or_broken("a dead letter could not be added")?;
    }
    let details: Vec<_> = letters(&*store, &names).await?.iter().map(|it| it.detail.clone()).collect();
    holds!(details == ["another reason"], "one dead letter, added twice, is listed with {details:?}");
    Ok(())
}

pub(super) async fn what_another_handle_wrote_is_told(fixture: &impl Fixture) -> Verdict {
    let [c1, ..] = fixture.clusters();
    let (store, names) = (fixture.store().await, Names::new());
    let other = fixture.another().await?;
    let mut changes = store.watch().await.or_broken("changes could not be watched")?;
    let watched = names.work("t", "watched", 1);
    let plans = vec![applied(&watched, &c1)];
    other.put_work(Arc::clone(&watched), None, plans).await.or_broken("a Work could not be written")?;
    let told = async {
        loop {
            match changes.next().await {
                Some(StoreChange::Work(id)) if id == watched.id => return Ok(()),
                Some(StoreChange::Many) => return Ok(()),
                Some(_) => {}
                None => return Err(Finding::Broken("the feed of changes ended".to_owned())),
            }
        }
    };
    let told = tokio::time::timeout(fixture.patience(), told).await;
    told.or_broken("what another handle wrote was not told in time")??;
    let (found, _) = read(&*store, &watched.id).await?;
    holds!(found == watched, "what was told of reads as something else");
    let found = store.applied(&watched.id).await.or_broken("what was applied could not be read")?;
    holds!(found.len() == 1, "a plan written with what was told of cannot be read");
    Ok(())
}

pub(super) async fn after_a_conflict_a_read_is_fresh(fixture: &impl Fixture) -> Verdict {
    let (store, names) = (fixture.store().await, Names::new());
    let other = fixture.another().await?;
    let work = |generation| names.work("t", "shared", generation);
    let ours = put(&*store, &work(1), None).await?;
    // The other one may not know of it yet: a conflict has it look.
    let _conflict = other.put_work(work(2), None, vec![]).await;
    let (_, theirs) = read(&*other, &work(1).id).await?;
    put(&*other, &work(2), Some(theirs)).await?;
    conflicts(store.put_work(work(3), Some(ours), vec![]).await, "a write over another handle's")?;
    let (fresh, revision) = read(&*store, &work(1).id).await?;
    holds!(fresh.generation == 2, "after a conflict generation {} is read, not 2", fresh.generation);
    put(&*store, &work(3), Some(revision)).await?;
    Ok(())
}

pub(super) async fn floors_and_epochs_are_read_as_they_are(fixture: &impl Fixture) -> Verdict {
    let (store, names) = (fixture.store().await, Names::new());
    let other = fixture.another().await?;
    let source = names.source("shared");
    for sequence in 1..=3 {
        let floor = names.at(4, sequence);
        other.raise_floor(&source, &floor).await.or_broken("a floor could not be raised")?;
        let found = store.floors(&source).await.or_broken("floors could not be read")?;
        holds!(found == [floor.clone()], "another handle raised the floor to {floor}, {found:?} is read");
    }
    let mut last = 0;
    for handle in [&store, &other, &store] {
        let epoch =
            handle.next_epoch(&names.domain("shared")).await.or_broken("an epoch could not be had")?;
        holds!(epoch > last, "two handles were given the epochs {last} and {epoch}");
        last = epoch;
    }
    Ok(())
}

pub(super) async fn everything_survives_a_crash(fixture: &impl Fixture) -> Verdict {
    let [c1, c2, _] = fixture.clusters();
    let (store, names) = (fixture.store().await, Names::new());
    let work = names.work("t", "kept", 1);
    let source = names.source("src");
    let letter = Arc::new(names.letter(1, c1.clone()));
    let plans = vec![applied(&work, &c1), applied(&work, &c2)];
    store.put_work(Arc::clone(&work), None, plans).await.or_broken("a Work could not be written")?;
    let (_, planned) = read_applied(&*store, &work.id, &c1).await?;
    let done = put_applied(&*store, odd_applied(&work, &c1), Some(planned)).await?;
    store.raise_floor(&source, &names.at(3, 4)).await.or_broken("a floor could not be raised")?;
    let epoch = store.next_epoch(&names.domain("d")).await.or_broken("an epoch could not be had")?;
    store.add_dead_letter(Arc::clone(&letter)).await.or_broken("a dead letter could not be added")?;

    let after = fixture.after_a_crash().await?;
    drop(store);
    let (found, revision) = read(&*after, &work.id).await?;
    holds!(found == work, "a Work was read differently after a crash");
    let (found, revision_of_applied) = read_applied(&*after, &work.id, &c1).await?;
    holds!(
        (&*found, &revision_of_applied) == (&odd_applied(&work, &c1), &done),
        "an AppliedWork was read differently after a crash"
    );
    read_applied(&*after, &work.id, &c2).await?;
    let floors = after.floors(&source).await.or_broken("floors could not be read")?;
    holds!(floors == [names.at(3, 4)], "after a crash the floors are {floors:?}");
    let next = after.next_epoch(&names.domain("d")).await.or_broken("an epoch could not be had")?;
    holds!(next > epoch, "epoch {epoch} was given before a crash, {next} after it");
    let kept = after.dead_letter(&letter.id).await.or_broken("a dead letter could not be read")?;
    holds!(kept == Some(letter), "a dead letter was lost in a crash");
    let next = put(&*after, &names.work("t", "kept", 2), Some(revision.clone())).await?;
    holds!(next != revision, "a revision from before a crash came again");
    Ok(())
}
