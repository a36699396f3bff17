//! Replays: everything is delivered again, on purpose, and nothing of earlier ones stays behind.

use async_nats::jetstream::{self, consumer, stream};
use fleet_core::position::Position;
use fleet_core::source::EventSource;
use fleet_nats::connection::Connections;
use fleet_nats::jetstream::{JetStreamConfig, JetStreamSource};

use crate::reader::{Reader, Server, payload};

fn source(server: &Server, replay: u64) -> JetStreamSource {
    let config = JetStreamConfig { replay, ..JetStreamConfig::new("EVENTS") };
    JetStreamSource::new("logins", &Connections::new(), server.config(), config)
}

async fn create_stream(server: &Server, retention: stream::RetentionPolicy) -> stream::Stream {
    let config = stream::Config {
        name: "EVENTS".into(),
        subjects: vec!["events".into()],
        retention,
        ..Default::default()
    };
    jetstream::new(server.client().await).create_stream(config).await.unwrap()
}

async fn publish(server: &Server, ids: impl IntoIterator<Item = u32>) {
    let context = jetstream::new(server.client().await);
    for id in ids {
        context.publish("events", payload(id)).await.unwrap().await.unwrap();
    }
}

/// As a store does: the highest of each domain stays.
fn stored(mut before: Vec<Position>, now: Vec<Position>) -> Vec<Position> {
    for floor in now {
        match before.iter_mut().find(|known| known.domain == floor.domain) {
            Some(known) if floor.is_above(known) => *known = floor,
            Some(_) => {}
            None => before.push(floor),
        }
    }
    before
}

async fn consumers(stream: &stream::Stream) -> Vec<String> {
    let mut names: Vec<String> =
        futures::TryStreamExt::try_collect(stream.consumer_names()).await.expect("the server answers");
    names.sort();
    names
}

/// Reads events 1 to 3, acknowledged, and gives their positions and the floors then.
async fn read_three(source: &JetStreamSource, floors: Vec<Position>) -> (Vec<Position>, Vec<Position>) {
    let mut reader = Reader::open_at(source, floors.clone()).await;
    let mut positions = Vec::new();
    for id in 1..=3_u32 {
        let delivery = reader.delivery().await;
        assert_eq!(delivery.event.as_ref().unwrap().id(), id.to_string());
        positions.push(delivery.position.clone().unwrap());
        delivery.settle.ack().await.unwrap();
    }
    let floors = stored(floors, reader.floor_in(&positions[0].domain, 3).await);
    (positions, floors)
}

#[tokio::test]
async fn a_raised_replay_delivers_everything_again_and_goes_on_after_a_restart() {
    let server = Server::with_jetstream().await;
    let stream = create_stream(&server, stream::RetentionPolicy::Limits).await;
    publish(&server, 1..=3).await;
    let (first, floors) = read_three(&source(&server, 0), Vec::new()).await;
    let (second, floors) = read_three(&source(&server, 1), floors).await;
    assert!(second.iter().all(|position| first.iter().all(|before| position.is_above(before))));
    assert_eq!(consumers(&stream).await, ["fleet-logins-replay-1"], "the earlier consumer is deleted");
    // What is kept because of the earlier replay can go: nothing of it comes again.
    for position in &first {
        assert!(floors.iter().any(|floor| !position.is_above(floor)), "{floors:?}");
    }

    let mut again = Reader::open_at(&source(&server, 1), floors.clone()).await;
    publish(&server, [4]).await;
    assert_eq!(again.acked().await, "4", "the same replay goes on");
    let floors = stored(floors, again.floor_in(&second[0].domain, 4).await);
    drop(again);

    let mut third = Reader::open_at(&source(&server, 7), floors).await;
    for id in 1..=4_u32 {
        assert_eq!(third.acked().await, id.to_string());
    }
    assert_eq!(consumers(&stream).await, ["fleet-logins-replay-7"]);
}

#[tokio::test]
async fn a_lowered_replay_is_refused_also_if_nothing_was_read() {
    let server = Server::with_jetstream().await;
    let mut reader = Reader::open(&source(&server, 2)).await;
    // The stream is not even there.
    reader.reason("StreamNotFound").await;
    let floors = reader.stored_floors();
    drop(reader);
    for lower in [0, 1] {
        let refused = source(&server, lower).open(floors.clone()).await.err().unwrap().reason;
        assert!(refused.contains("replay may only grow"), "{refused}");
        assert!(refused.contains("set it to 2"), "{refused}");
    }
    create_stream(&server, stream::RetentionPolicy::Limits).await;
    publish(&server, [1]).await;
    assert_eq!(Reader::open_at(&source(&server, 2), floors).await.acked().await, "1");
}

#[tokio::test]
async fn a_users_own_consumer_is_left_to_the_user() {
    let server = Server::with_jetstream().await;
    let stream = create_stream(&server, stream::RetentionPolicy::Limits).await;
    let theirs = consumer::pull::Config { durable_name: Some("theirs".to_owned()), ..Default::default() };
    stream.create_consumer(theirs).await.unwrap();
    publish(&server, 1..=3).await;
    let with = |replay| {
        let config =
            JetStreamConfig { durable: Some("theirs".to_owned()), replay, ..JetStreamConfig::new("EVENTS") };
        JetStreamSource::new("logins", &Connections::new(), server.config(), config)
    };
    let (_, floors) = read_three(&with(0), Vec::new()).await;
    read_three(&with(1), floors).await;
    assert_eq!(consumers(&stream).await, ["theirs", "theirs-replay-1"]);
}

#[tokio::test]
async fn a_replay_of_a_work_queue_brings_what_is_left_in_it() {
    let server = Server::with_jetstream().await;
    let stream = create_stream(&server, stream::RetentionPolicy::WorkQueue).await;
    publish(&server, 1..=3).await;
    let mut reader = Reader::open(&source(&server, 0)).await;
    assert_eq!(reader.acked().await, "1");
    let floors = reader.floor(1).await;
    let held = reader.delivery().await;
    drop((reader, held));
    let mut again = Reader::open_at(&source(&server, 1), floors).await;
    assert_eq!((again.acked().await, again.acked().await), ("2".to_owned(), "3".to_owned()));
    assert_eq!(consumers(&stream).await, ["fleet-logins-replay-1"]);
}
