//! Floors and epochs of JetStream, across restarts, and for streams that are made again or lose their tail.

use std::fs;
use std::path::Path;
use std::time::Duration;

use async_nats::jetstream::{self, stream};
use fleet_core::cluster::ClusterId;
use fleet_core::source::{Delivery, EventSource};
use fleet_nats::connection::Connections;
use fleet_nats::jetstream::{JetStreamConfig, JetStreamSource};
use fleet_nats::place::Place;
use jiff::Timestamp;

use crate::reader::{Reader, Server, payload};

fn source(server: &Server) -> JetStreamSource {
    JetStreamSource::new("logins", &Connections::new(), server.config(), JetStreamConfig::new("EVENTS"))
}

async fn create_stream(server: &Server) {
    let config =
        stream::Config { name: "EVENTS".into(), subjects: vec!["events".into()], ..Default::default() };
    jetstream::new(server.client().await).create_stream(config).await.unwrap();
}

async fn publish(server: &Server, ids: impl IntoIterator<Item = u32>) {
    let context = jetstream::new(server.client().await);
    for id in ids {
        context.publish("events", payload(id)).await.unwrap().await.unwrap();
    }
}

#[tokio::test]
async fn a_floor_stays_below_what_is_outstanding_and_rises_when_it_is_settled() {
    let server = Server::with_jetstream().await;
    create_stream(&server).await;
    publish(&server, 1..=5).await;
    let mut reader = Reader::open(&source(&server)).await;
    assert_eq!(reader.acked().await, "1");
    let held = reader.delivery().await;
    for id in 3..=5 {
        assert_eq!(reader.acked().await, id.to_string());
    }
    let position = held.position.clone().unwrap();
    reader.floor(1).await;
    reader.nothing_for(Duration::from_secs(4)).await;
    assert!(reader.floors.iter().all(|floor| floor.domain != position.domain || floor.sequence == 1));
    held.settle.ack().await.unwrap();
    let floors = reader.floor(5).await;
    assert!(floors.iter().any(|floor| floor.domain == position.domain && floor.epoch == position.epoch));
}

/// Streams of one name in two clusters have nothing to do with each other.
#[tokio::test]
async fn each_feed_has_a_domain_of_its_own_and_names_its_cluster() {
    let server = Server::with_jetstream().await;
    create_stream(&server).await;
    publish(&server, [1]).await;
    let mut domains = Vec::new();
    for name in ["one", "two"] {
        let origin = ClusterId::new("civo", name).unwrap();
        let place = Place { feed: format!("logins/civo/{name}"), origin: origin.clone() };
        let durable = Some(format!("fleet-{name}"));
        let config = JetStreamConfig { durable, ..JetStreamConfig::new("EVENTS") };
        let source = JetStreamSource::new("logins", &Connections::new(), server.config(), config);
        let source = source.in_place(place);
        assert_eq!((source.name(), source.feed()), ("logins", &*format!("logins/civo/{name}")));
        let mut reader = Reader::open(&source).await;
        let delivery = reader.delivery().await;
        assert_eq!(delivery.origin, Some(origin));
        domains.push(delivery.position.unwrap().domain);
        delivery.settle.ack().await.unwrap();
        let floors = reader.floor(1).await;
        assert!(floors.iter().all(|floor| floor.domain.as_str().contains(name)), "{floors:?}");
    }
    assert_ne!(domains[0], domains[1]);
}

#[tokio::test]
async fn a_floor_does_not_pass_what_another_reader_of_the_same_consumer_holds() {
    let server = Server::with_jetstream().await;
    create_stream(&server).await;
    let mut one = Reader::open(&source(&server)).await;
    let mut two = Reader::open(&source(&server)).await;
    one.ready().await;
    two.ready().await;
    publish(&server, 1..=20).await;
    let (mut acked, mut held) = (0, Vec::new());
    while acked + held.len() < 20 {
        tokio::select! {
            delivery = one.delivery() => {
                delivery.settle.ack().await.unwrap();
                acked += 1;
            }
            delivery = two.delivery() => held.push(delivery),
        }
    }
    let lowest_held = held.iter().map(|delivery| delivery.position.as_ref().unwrap().sequence).min();
    one.nothing_for(Duration::from_secs(3)).await;
    if let Some(lowest) = lowest_held {
        let floors = one.stored_floors();
        let floor = floors.iter().find(|floor| !floor.domain.as_str().ends_with("/newest"));
        assert!(floor.is_none_or(|floor| floor.sequence < lowest), "{floor:?} passed {lowest}");
    }
    for delivery in held {
        delivery.settle.ack().await.unwrap();
    }
    // The one that got messages looks again soon.
    tokio::select! { _ = one.floor(20) => {}, _ = two.floor(20) => {} }
}

#[tokio::test]
async fn floors_and_positions_go_on_after_a_restart() {
    let server = Server::with_jetstream().await;
    create_stream(&server).await;
    publish(&server, 1..=3).await;
    let mut reader = Reader::open(&source(&server)).await;
    for _ in 0..3 {
        reader.acked().await;
    }
    let floors = reader.floor(3).await;
    drop(reader);
    // Even if the consumer is lost, nothing below the floor comes again.
    let context = jetstream::new(server.client().await);
    context.delete_consumer_from_stream("fleet-logins", "EVENTS").await.unwrap();
    publish(&server, [4]).await;
    let mut reader = Reader::open_at(&source(&server), floors.clone()).await;
    let delivery = reader.delivery().await;
    let position = delivery.position.clone().unwrap();
    assert_eq!(position.sequence, 4);
    let floor = floors.iter().find(|floor| floor.domain == position.domain).unwrap();
    assert_eq!(position.epoch, floor.epoch);
    assert!(position.is_above(floor));
}

#[tokio::test]
async fn what_is_settled_does_not_reach_what_is_unread_or_held() {
    let server = Server::with_jetstream().await;
    create_stream(&server).await;
    publish(&server, 1..=2).await;
    let source = source(&server);
    let mut reader = Reader::open(&source).await;
    let first = reader.delivery().await;
    let second = reader.delivery().await;
    let published = |delivery: &Delivery| delivery.published.unwrap();
    assert_eq!(reader.settled(&source).await, published(&first));
    let (of_second, before) = (published(&second), Timestamp::now());
    first.settle.ack().await.unwrap();
    // Also what nobody has asked for yet counts, and what was given back.
    publish(&server, [3]).await;
    while reader.settled(&source).await != of_second {}
    second.settle.give_back(Duration::from_secs(1)).await.unwrap();
    assert_eq!(reader.settled(&source).await, of_second);
    let third = reader.delivery().await;
    third.settle.ack().await.unwrap();
    assert_eq!(reader.settled(&source).await, of_second);
    reader.delivery().await.settle.ack().await.unwrap();
    while reader.settled(&source).await <= before {}
    publish(&server, [4]).await;
    let fourth = reader.delivery().await;
    assert_eq!(reader.settled(&source).await, published(&fourth));
}

#[tokio::test]
async fn a_stream_made_again_is_a_new_epoch() {
    let server = Server::with_jetstream().await;
    create_stream(&server).await;
    publish(&server, 1..=3).await;
    let mut reader = Reader::open(&source(&server)).await;
    reader.acked().await;
    reader.acked().await;
    let last = reader.delivery().await;
    let old = last.position.clone().unwrap();
    last.settle.ack().await.unwrap();
    let floors = reader.floor(3).await;

    let context = jetstream::new(server.client().await);
    context.delete_stream("EVENTS").await.unwrap();
    create_stream(&server).await;
    publish(&server, [4]).await;
    let delivery = reader.delivery().await;
    let new = delivery.position.clone().unwrap();
    assert_eq!((delivery.event.as_ref().unwrap().id(), new.sequence), ("4", 1));
    assert!(new.is_above(&old));
    reader.status("a new epoch", |status| status.message.contains("new epoch")).await;
    drop((reader, delivery));

    // The same after a restart that knows the old floors only.
    let mut reader = Reader::open_at(&source(&server), floors).await;
    let delivery = reader.delivery().await;
    assert_eq!(delivery.position, Some(new.clone()));
    delivery.settle.ack().await.unwrap();
    while !reader.floors.iter().any(|floor| floor.domain == new.domain) {
        reader.floor(1).await;
    }
    assert_eq!(reader.floors.iter().find(|floor| floor.domain == new.domain), Some(&new));
}

#[tokio::test]
async fn a_stream_that_lost_its_tail_is_a_new_epoch_while_we_look() {
    tail_loss(true).await;
}

#[tokio::test]
async fn a_stream_that_lost_its_tail_is_a_new_epoch_after_a_restart() {
    tail_loss(false).await;
}

/// A power failure, as the server's disk shows it: the stream's files are those of a while ago.
async fn tail_loss(while_we_look: bool) {
    let server = Server::with_jetstream().await;
    create_stream(&server).await;
    publish(&server, 1..=3).await;
    let mut reader = Reader::open(&source(&server)).await;
    for _ in 0..3 {
        reader.acked().await;
    }
    reader.floor(3).await;
    let store = server.dir.path().join("nats/data");
    let copy = server.dir.path().join("copy");
    server.nats.server().stop().await.unwrap();
    copy_folder(&store, &copy);
    server.nats.server().start().await.unwrap();
    reader.ready().await;
    publish(&server, 4..=6).await;
    let mut before = None;
    for id in 4..=6 {
        let delivery = reader.delivery().await;
        assert_eq!(delivery.event.as_ref().unwrap().id(), id.to_string());
        before = delivery.position.clone();
        delivery.settle.ack().await.unwrap();
    }
    let floors = reader.floor(6).await;
    let before = before.unwrap();
    assert_eq!(before.sequence, 6);

    let reader = while_we_look.then_some(reader);
    server.nats.server().stop().await.unwrap();
    fs::remove_dir_all(&store).unwrap();
    copy_folder(&copy, &store);
    server.nats.server().start().await.unwrap();
    // As many as were lost, so that the numbers alone look right.
    publish(&server, 7..=10).await;
    let mut reader = match reader {
        Some(reader) => reader,
        None => Reader::open_at(&source(&server), floors).await,
    };
    for (id, sequence) in [(7, 4), (8, 5), (9, 6), (10, 7)] {
        let delivery = reader.delivery().await;
        let position = delivery.position.clone().unwrap();
        assert_eq!(
            (delivery.event.as_ref().unwrap().id(), position.sequence),
            (id.to_string().as_str(), sequence)
        );
        assert!(position.is_above(&before), "{position} is not above {before}");
        delivery.settle.ack().await.unwrap();
    }
    reader.status("a new epoch", |status| status.message.contains("new epoch")).await;
    let floors = reader.floor(7).await;
    assert!(floors.iter().all(|floor| floor.domain != before.domain || floor.epoch > before.epoch));
}

pub(crate) fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
