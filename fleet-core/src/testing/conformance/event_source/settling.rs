//! What settling does.

use std::time::Duration;

use tokio::time::Instant;

use super::Fixture;
use super::reader::{QUIET, Reader, subject_of};
use crate::source::Delivery;
use crate::testing::conformance::{Finding, OrBroken, holds};

type Verdict = Result<(), Finding>;

pub(super) async fn dropped_unsettled_comes_again(fixture: &impl Fixture) -> Verdict {
    fixture.abilities().redelivers?;
    let mut reader = Reader::open(fixture).await?;
    fixture.publish("dropped").await;
    drop(reader.delivery("dropped").await?);
    reader.acknowledge("dropped").await
}

pub(super) async fn given_back_comes_again_not_before_its_delay(fixture: &impl Fixture) -> Verdict {
    const DELAY: Duration = Duration::from_secs(2);
    fixture.abilities().redelivers?;
    let mut reader = Reader::open(fixture).await?;
    fixture.publish("given-back").await;
    let delivery = reader.delivery("given-back").await?;
    let given_back = Instant::now();
    delivery.settle.give_back(DELAY).await.or_broken("a delivery could not be given back")?;
    // Nothing else waits for it.
    fixture.publish("meanwhile").await;
    reader.acknowledge("meanwhile").await?;
    reader.acknowledge("given-back").await?;
    let after = given_back.elapsed();
    holds!(after >= DELAY, "given back for {DELAY:?}, it came after {after:?}");
    Ok(())
}

/// Settles one of two deliveries, and looks whether it comes again, now or to the next process.
async fn never_again(fixture: &impl Fixture, settle: impl AsyncFnOnce(Delivery) -> Verdict) -> Verdict {
    let mut reader = Reader::open(fixture).await?;
    reader.listens(fixture).await?;
    fixture.publish("settled").await;
    settle(reader.delivery("settled").await?).await?;
    fixture.publish("after").await;
    reader.acknowledge("after").await?;
    let deadline = fixture.abilities().redelivers.unwrap_or_default();
    reader.nothing_for(deadline + QUIET).await?;
    if fixture.abilities().reopens.is_ok() && fixture.abilities().redelivers.is_ok() {
        let floors = reader.stored_floors();
        drop(reader);
        let mut next = Reader::open_at(fixture, &*fixture.source().await, floors.clone()).await?;
        fixture.publish("to-the-next").await;
        loop {
            let delivery = next.next().await?;
            let (subject, position) = (subject_of(&delivery)?, delivery.position.clone());
            delivery.settle.ack().await.or_broken("a delivery could not be acknowledged")?;
            if subject == "to-the-next" {
                break;
            }
            // What lies above the floor may come again: its position tells that it is known.
            let above = position.is_some_and(|position| floors.iter().all(|floor| position.is_above(floor)));
            holds!(above, "{subject} came again to the next process, the floors are {floors:?}");
        }
    }
    Ok(())
}

pub(super) async fn what_is_acknowledged_never_comes_again(fixture: &impl Fixture) -> Verdict {
    never_again(fixture, async |delivery| {
        delivery.settle.ack().await.or_broken("a delivery could not be acknowledged")
    })
    .await
}

pub(super) async fn what_is_terminated_never_comes_again(fixture: &impl Fixture) -> Verdict {
    never_again(fixture, async |delivery| {
        delivery.settle.terminate("NotACloudEvent").await.or_broken("a delivery could not be terminated")
    })
    .await
}

pub(super) async fn what_is_worked_on_is_not_delivered_again(fixture: &impl Fixture) -> Verdict {
    let deadline = fixture.abilities().redelivers?;
    let mut reader = Reader::open(fixture).await?;
    fixture.publish("slow").await;
    let slow = reader.delivery("slow").await?;
    let begun = Instant::now();
    let step = (deadline / 4).max(Duration::from_millis(20));
    while begun.elapsed() < deadline * 2 {
        slow.settle.progress().await.or_broken("progress could not be told")?;
        reader.nothing_for(step).await?;
    }
    slow.settle.ack().await.or_broken("a delivery could not be acknowledged")
}

pub(super) async fn what_was_unsettled_comes_again_to_the_next_process(fixture: &impl Fixture) -> Verdict {
    fixture.abilities().redelivers?;
    fixture.abilities().reopens?;
    let mut reader = Reader::open(fixture).await?;
    for subject in ["held", "unread"] {
        fixture.publish(subject).await;
    }
    let held = reader.delivery("held").await?;
    let floors = reader.stored_floors();
    drop((reader, held));
    let mut next = Reader::open_at(fixture, &*fixture.source().await, floors).await?;
    let mut left = vec!["held", "unread"];
    while !left.is_empty() {
        let delivery = next.next().await?;
        let subject = subject_of(&delivery)?;
        left.retain(|other| *other != subject);
        delivery.settle.ack().await.or_broken("a delivery could not be acknowledged")?;
    }
    Ok(())
}
