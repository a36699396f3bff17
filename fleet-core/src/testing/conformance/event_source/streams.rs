//! How a source is opened, read and closed.

use futures::FutureExt;
use futures::stream::{FuturesUnordered, StreamExt};

use super::Fixture;
use super::reader::{QUIET, Reader};
use crate::testing::conformance::{Finding, OrBroken, holds};

type Verdict = Result<(), Finding>;

/// How many more messages are published than may wait.
const TOO_MANY: u64 = 64;

pub(super) async fn a_stream_goes_on(fixture: &impl Fixture) -> Verdict {
    let mut reader = Reader::open(fixture).await?;
    reader.listens(fixture).await?;
    for subject in ["once", "after-a-while"] {
        fixture.publish(subject).await;
        reader.acknowledge(subject).await?;
        reader.nothing_for(QUIET).await?;
    }
    Ok(())
}

pub(super) async fn a_source_heals_by_itself(fixture: &impl Fixture) -> Verdict {
    let mut reader = Reader::open(fixture).await?;
    reader.listens(fixture).await?;
    fixture.publish("before").await;
    reader.acknowledge("before").await?;
    fixture.break_off().await?;
    told(&mut reader, fixture).await?;
    fixture.mend().await;
    reader.listens(fixture).await?;
    fixture.publish("healed").await;
    reader.delivery_among_others("healed").await.map(drop)
}

pub(super) async fn a_source_opens_while_its_transport_is_down(fixture: &impl Fixture) -> Verdict {
    fixture.break_off().await?;
    let mut reader = Reader::open(fixture).await?;
    told(&mut reader, fixture).await?;
    fixture.mend().await;
    reader.listens(fixture).await?;
    fixture.publish("healed").await;
    reader.acknowledge("healed").await
}

/// That the source says what is the matter, if it says anything.
async fn told(reader: &mut Reader, fixture: &impl Fixture) -> Verdict {
    if fixture.abilities().status.is_err() {
        return reader.nothing_for(QUIET).await;
    }
    let status = reader.trouble().await?;
    let word = !status.reason.is_empty() && status.reason.chars().all(char::is_alphanumeric);
    holds!(word, "the reason {:?} is not one CamelCase word, as conditions have it", status.reason);
    holds!(!status.message.is_empty(), "a status that is not ready says nothing");
    Ok(())
}

pub(super) async fn what_waits_unread_is_bounded(fixture: &impl Fixture) -> Verdict {
    let bound = fixture.abilities().bound?;
    let mut reader = Reader::open(fixture).await?;
    reader.listens(fixture).await?;
    // From here on nobody reads. A publisher may be kept waiting.
    let subjects: Vec<_> = (0..bound + TOO_MANY).map(|number| format!("flood-{number}")).collect();
    let mut publishing: FuturesUnordered<_> = subjects.iter().map(|it| fixture.publish(it)).collect();
    let mut published: u64 = 0;
    let all = async {
        while publishing.next().await.is_some() {
            published += 1;
        }
    };
    let _kept_waiting = tokio::time::timeout(fixture.patience() / 4, all).await;
    drop(publishing);
    tokio::time::sleep(QUIET).await;
    if fixture.abilities().redelivers.is_ok() {
        let taken = fixture.taken().await?;
        holds!(
            taken <= bound,
            "of {published} messages {taken} were taken while nobody read, at most {bound} may wait"
        );
        return Ok(());
    }
    // What nobody can deliver again and is delivered now has waited in the source.
    reader.read_for(QUIET).await?;
    let waited = reader.waiting();
    let count = waited.len() as u64;
    holds!(count <= bound, "{count} of {published} messages waited in the source, at most {bound} may");
    for delivery in waited {
        // Whoever published may be gone.
        let _ = delivery.settle.ack().await;
    }
    Ok(())
}

pub(super) async fn deliveries_outlive_the_stream(fixture: &impl Fixture) -> Verdict {
    let source = fixture.source().await;
    let mut reader = Reader::open_at(fixture, &*source, Vec::new()).await?;
    reader.listens(fixture).await?;
    fixture.publish("outlives").await;
    let delivery = reader.delivery("outlives").await?;
    let floors = reader.stored_floors();
    drop(reader);
    let settled = delivery.settle.ack().boxed();
    let settled =
        tokio::time::timeout(fixture.patience(), settled).await.or_broken("settling came to no end")?;
    settled.or_broken("a delivery could not be acknowledged after its stream was dropped")?;
    if fixture.abilities().reopens.is_ok() && fixture.abilities().redelivers.is_ok() {
        let mut reader = Reader::open_at(fixture, &*source, floors).await?;
        fixture.publish("after").await;
        reader.acknowledge("after").await?;
    }
    Ok(())
}

pub(super) async fn a_dropped_stream_takes_nothing_more(fixture: &impl Fixture) -> Verdict {
    fixture.abilities().reopens?;
    let source = fixture.source().await;
    let mut reader = Reader::open_at(fixture, &*source, Vec::new()).await?;
    reader.listens(fixture).await?;
    drop(reader);
    let mut reader = Reader::open_at(fixture, &*source, Vec::new()).await?;
    reader.listens(fixture).await?;
    for subject in ["one", "two", "three"] {
        fixture.publish(subject).await;
        reader.acknowledge(subject).await?;
    }
    Ok(())
}
