//! What a source says is over for good, and what is live.

use std::collections::BTreeSet;

use super::Fixture;
use super::reader::{QUIET, Reader, subject_of};
use crate::position::Position;
use crate::source::Live;
use crate::testing::conformance::{Finding, NotChecked, OrBroken, holds};

type Verdict = Result<(), Finding>;

/// The floor of a position's domain that reaches it.
fn reaching<'a>(floors: &'a [Position], position: &Position) -> Option<&'a Position> {
    floors.iter().find(|floor| floor.domain == position.domain && !position.is_above(floor))
}

pub(super) async fn a_floor_stays_below_what_is_unsettled(fixture: &impl Fixture) -> Verdict {
    fixture.abilities().floors?;
    let mut reader = Reader::open(fixture).await?;
    for subject in ["settled", "held", "above"] {
        fixture.publish(subject).await;
    }
    reader.acknowledge("settled").await?;
    let held = reader.delivery("held").await?;
    reader.acknowledge("above").await?;
    let position = held.position.clone().or_broken("a source that tells floors left a position out")?;
    reader.read_for(fixture.abilities().redelivers.unwrap_or_default() / 2 + QUIET).await?;
    if let Some(floor) = reaching(&reader.floors, &position) {
        return Err(Finding::Broken(format!("the floor {floor} was told while {position} was not settled")));
    }
    // Whatever the source may have taken its time for: it still is to come.
    drop(held);
    reader
        .delivery_among_others("held")
        .await?
        .settle
        .ack()
        .await
        .or_broken("a delivery could not be acknowledged")
}

pub(super) async fn nothing_below_a_floor_comes_again(fixture: &impl Fixture) -> Verdict {
    fixture.abilities().floors?;
    let mut reader = Reader::open(fixture).await?;
    fixture.publish("below").await;
    let below = reader.delivery("below").await?;
    let position = below.position.clone().or_broken("a source that tells floors left a position out")?;
    below.settle.ack().await.or_broken("a delivery could not be acknowledged")?;
    reader.floor_at(&position).await?;
    let floors = reader.stored_floors();
    fixture.abilities().reopens?;
    drop(reader);
    for floors in [floors.clone(), floors] {
        let mut next = Reader::open_at(fixture, &*fixture.source().await, floors.clone()).await?;
        fixture.publish("above").await;
        let delivery = next.next().await?;
        let position =
            delivery.position.clone().or_broken("a source that tells floors left a position out")?;
        if let Some(floor) = reaching(&floors, &position) {
            return Err(Finding::Broken(format!("a delivery at {position} came after the floor {floor}")));
        }
        let other =
            floors.iter().find(|floor| floor.domain == position.domain && floor.epoch == position.epoch);
        holds!(
            other.is_some(),
            "the next process counts from anew: it delivers at {position}, the floors are {floors:?}"
        );
        drop(delivery);
        drop(next);
    }
    Ok(())
}

pub(super) async fn what_is_settled_does_not_reach_what_is_held(fixture: &impl Fixture) -> Verdict {
    let source = fixture.source().await;
    if !source.report_settled() {
        return Err(NotChecked::because("nothing waits in its transport").into());
    }
    let mut reader = Reader::open_at(fixture, &*source, Vec::new()).await?;
    fixture.publish("held").await;
    let held = reader.delivery("held").await?;
    let published =
        held.published.or_broken("a source whose messages wait does not say when one was published")?;
    let settled = reader.settled(&*source).await?;
    holds!(
        settled <= published,
        "all until {settled} is settled, it says; what was published at {published} is held"
    );
    held.settle.ack().await.or_broken("a delivery could not be acknowledged")?;
    let deadline = tokio::time::Instant::now() + fixture.patience();
    loop {
        let settled = reader.settled(&*source).await?;
        if settled > published {
            return Ok(());
        }
        holds!(
            tokio::time::Instant::now() < deadline,
            "all is settled, and it says that this holds until {settled}; the last was published at {published}"
        );
    }
}

type Pairs = BTreeSet<(String, String)>;

/// Reads snapshots until all that is live was told of; each has to be complete.
async fn listed(reader: &mut Reader, live: &Pairs) -> Verdict {
    let mut untold = live.clone();
    loop {
        match reader.snapshot().await? {
            Live::Subjects { source, subjects } => {
                let there = live.iter().filter(|(of, _)| *of == source).map(|(_, subject)| subject.clone());
                let there: BTreeSet<String> = there.collect();
                holds!(there == subjects, "a snapshot of {source} tells {subjects:?}, live are {there:?}");
                untold.retain(|(of, _)| *of != source);
            }
            Live::Sources(sources) => {
                let missing = live.iter().find(|(source, _)| !sources.contains(source));
                holds!(missing.is_none(), "a snapshot of sources tells {sources:?}, live is {missing:?}");
                untold.clear();
            }
        }
        if untold.is_empty() {
            return Ok(());
        }
    }
}

pub(super) async fn a_snapshot_is_complete(fixture: &impl Fixture) -> Verdict {
    fixture.live().await?;
    for subject in ["one", "two", "three"] {
        fixture.publish(subject).await;
    }
    let mut reader = Reader::open(fixture).await?;
    listed(&mut reader, &fixture.live().await?).await
}

pub(super) async fn a_snapshot_follows_each_opening(fixture: &impl Fixture) -> Verdict {
    fixture.live().await?;
    fixture.abilities().reopens?;
    fixture.publish("one").await;
    let source = fixture.source().await;
    let mut floors = Vec::new();
    for _ in 0..2 {
        let mut reader = Reader::open_at(fixture, &*source, floors).await?;
        reader.snapshot().await?;
        floors = reader.stored_floors();
    }
    Ok(())
}

pub(super) async fn a_failed_list_says_nothing(fixture: &impl Fixture) -> Verdict {
    fixture.live().await?;
    fixture.publish("one").await;
    let live = fixture.live().await?;
    fixture.break_off().await?;
    let mut reader = Reader::open(fixture).await?;
    reader.read_for(QUIET).await?;
    holds!(!reader.has_snapshot(), "a snapshot was told while nothing could be listed");
    fixture.mend().await;
    listed(&mut reader, &live).await
}

pub(super) async fn all_that_is_live_is_told_again(fixture: &impl Fixture) -> Verdict {
    fixture.live().await?;
    let source = fixture.source().await;
    let mut reader = Reader::open_at(fixture, &*source, Vec::new()).await?;
    reader.listens(fixture).await?;
    let subjects = ["one", "two"];
    for subject in subjects {
        fixture.publish(subject).await;
        reader.acknowledge(subject).await?;
    }
    reader.nothing_for(QUIET).await?;
    reader.forget_snapshots();
    source.tell_again();
    let mut again = BTreeSet::new();
    while again.len() < subjects.len() {
        let delivery = reader.next().await?;
        let subject = subject_of(&delivery)?;
        holds!(subjects.contains(&&*subject), "{subject} was told again, live are {subjects:?}");
        again.insert(subject);
        delivery.settle.ack().await.or_broken("a delivery could not be acknowledged")?;
    }
    listed(&mut reader, &fixture.live().await?).await
}
