//! What a delivery is.

use serde_json::json;

use super::Fixture;
use super::reader::{QUIET, Reader, subject_of};
use crate::event::Event;
use crate::position::Position;
use crate::testing::conformance::{Finding, NotChecked, OrBroken, holds};

type Verdict = Result<(), Finding>;

pub(super) async fn each_message_is_one_delivery(fixture: &impl Fixture) -> Verdict {
    let mut reader = Reader::open(fixture).await?;
    reader.listens(fixture).await?;
    // Where nothing pushes back, more would be lost.
    let count = fixture.abilities().bound.map_or(20, |bound| bound.min(20));
    let mut left: Vec<_> = (1..=count).map(|number| format!("each-{number}")).collect();
    for subject in &left {
        fixture.publish(subject).await;
    }
    while !left.is_empty() {
        let delivery = reader.next().await?;
        let subject = subject_of(&delivery)?;
        let count = left.len();
        left.retain(|other| *other != subject);
        holds!(left.len() < count, "{subject} was delivered, expected were {left:?}");
        delivery.settle.ack().await.or_broken("a delivery could not be acknowledged")?;
    }
    reader.nothing_for(QUIET).await
}

/// An event in which everything is set.
fn odd_event() -> Result<Event, Finding> {
    Event::builder("1/ä", "https://example.com/a?b=c%20d", "com.example.odd")
        .subject("a subject/ü \"x\"")
        .time("2026-01-02T03:04:05.678Z")
        .extension("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
        .json(json!({"text": "a\nb: {c}", "number": 1.5, "null": null, "list": [1, {"deep": true}]}))
        .build()
        .or_broken("the kit has no event")
}

pub(super) async fn an_event_arrives_as_it_was_published(fixture: &impl Fixture) -> Verdict {
    let mut reader = Reader::open(fixture).await?;
    reader.listens(fixture).await?;
    let published = odd_event()?;
    fixture.publish_event(&published).await?;
    let delivery = reader.next().await?;
    let found = delivery.event.or_broken("an event arrived as none")?;
    let same = found.to_json() == published.to_json();
    holds!(same, "{} arrived, published was {}", found.to_json(), published.to_json());
    Ok(())
}

pub(super) async fn what_is_no_event_arrives_with_its_bytes(fixture: &impl Fixture) -> Verdict {
    const GARBAGE: &[u8] = b"{\"specversion\": \"1.0\", this is no event";
    let mut reader = Reader::open(fixture).await?;
    reader.listens(fixture).await?;
    fixture.publish_garbage(GARBAGE).await?;
    let delivery = reader.next().await?;
    holds!(delivery.event.is_err(), "what is no event was delivered as one");
    holds!(delivery.raw == GARBAGE, "what is no event has {} bytes of {}", delivery.raw.len(), GARBAGE.len());
    delivery.settle.terminate("no event").await.or_broken("a delivery could not be terminated")?;
    fixture.publish("after").await;
    reader.acknowledge("after").await
}

pub(super) async fn a_kept_message_decodes_as_its_delivery_did(fixture: &impl Fixture) -> Verdict {
    let source = fixture.source().await;
    let mut reader = Reader::open_at(fixture, &*source, Vec::new()).await?;
    reader.listens(fixture).await?;
    fixture.publish("kept").await;
    let delivery = reader.delivery("kept").await?;
    let event = delivery.event.or_broken("an event arrived as none")?;
    let again =
        source.decode(&delivery.message, &delivery.raw).or_broken("a kept message does not decode")?;
    holds!(
        again == event,
        "a kept message decodes as {}, delivered was {}",
        again.to_json(),
        event.to_json()
    );
    Ok(())
}

pub(super) async fn a_position_is_the_place_in_the_feed(fixture: &impl Fixture) -> Verdict {
    fixture.abilities().redelivers?;
    let mut reader = Reader::open(fixture).await?;
    for subject in ["first", "second", "third"] {
        fixture.publish(subject).await;
    }
    let mut last = None;
    for subject in ["first", "second", "third"] {
        let delivery = reader.delivery(subject).await?;
        let position = delivery.position.clone();
        let position = position.or_broken("a source that can redeliver left the position out")?;
        holds!(position.epoch > 0 && position.sequence > 0, "{position}: epochs and sequences begin with 1");
        if let Some(last) = &last {
            holds!(position.is_above(last), "{subject} came after {last}, and is at {position}");
            holds!(position.domain == last.domain, "one feed has the domains of {last} and {position}");
        }
        if subject == "third" {
            drop(delivery);
            let again = reader.delivery(subject).await?.position;
            let same = again.as_ref() == Some(&position);
            holds!(same, "{subject} was at {position}, and came again at {again:?}");
        } else {
            delivery.settle.ack().await.or_broken("a delivery could not be acknowledged")?;
        }
        last = Some(position);
    }
    Ok(())
}

pub(super) async fn without_redelivery_there_is_no_position(fixture: &impl Fixture) -> Verdict {
    if fixture.abilities().redelivers.is_ok() {
        return Err(NotChecked::because("it can redeliver").into());
    }
    let mut reader = Reader::open(fixture).await?;
    reader.listens(fixture).await?;
    fixture.publish("placed").await;
    let position = reader.delivery("placed").await?.position;
    holds!(position.is_none(), "a source that cannot redeliver gave the position {position:?}");
    Ok(())
}

/// Acknowledges an event of a feed that was begun anew after a position, and gives its own.
async fn anew(reader: &mut Reader, subject: &str, after: &Position) -> Result<Position, Finding> {
    let delivery = reader.delivery_among_others(subject).await?;
    let position = delivery.position.clone();
    let position = position.or_broken("a source that can redeliver left the position out")?;
    let above = position.domain == after.domain && position.epoch > after.epoch;
    holds!(above, "the feed was begun anew after {after}, and {subject} came at {position}");
    delivery.settle.ack().await.or_broken("a delivery could not be acknowledged")?;
    Ok(position)
}

pub(super) async fn a_feed_begun_anew_counts_in_a_higher_epoch(fixture: &impl Fixture) -> Verdict {
    fixture.abilities().redelivers?;
    let mut reader = Reader::open(fixture).await?;
    reader.listens(fixture).await?;
    fixture.publish("before").await;
    let delivery = reader.delivery("before").await?;
    let before = delivery.position.clone();
    let before = before.or_broken("a source that can redeliver left the position out")?;
    delivery.settle.ack().await.or_broken("a delivery could not be acknowledged")?;
    // While it is read.
    fixture.begin_anew().await?;
    fixture.publish("anew").await;
    let second = anew(&mut reader, "anew", &before).await?;
    fixture.abilities().reopens?;
    // And while it is not: then nothing but the floors tells.
    fixture.abilities().floors?;
    reader.floor_at(&second).await?;
    let floors = reader.stored_floors();
    drop(reader);
    fixture.begin_anew().await?;
    fixture.publish("once-more").await;
    let mut next = Reader::open_at(fixture, &*fixture.source().await, floors).await?;
    anew(&mut next, "once-more", &second).await.map(drop)
}
