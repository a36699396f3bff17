//! JetStream as a source: nothing is lost, whatever happens to reader, server, stream or consumer. What comes of each way to
//! settle a delivery is in `acks`, with a table of all of it.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use async_nats::jetstream::{self, consumer, stream};
use fleet_nats::connection::Connections;
use fleet_nats::jetstream::{JetStreamConfig, JetStreamSource, Start};

use crate::reader::{Reader, Server, payload};

fn source(server: &Server, config: JetStreamConfig) -> JetStreamSource {
    JetStreamSource::new("logins", &Connections::new(), server.config(), config)
}

fn events() -> JetStreamConfig {
    JetStreamConfig::new("EVENTS")
}

async fn create_stream(server: &Server) -> jetstream::Context {
    let context = jetstream::new(server.client().await);
    let config =
        stream::Config { name: "EVENTS".into(), subjects: vec!["events.>".into()], ..Default::default() };
    context.create_stream(config).await.unwrap();
    context
}

async fn publish(context: &jetstream::Context, ids: impl IntoIterator<Item = u32>) {
    for id in ids {
        context.publish("events.login", payload(id)).await.unwrap().await.unwrap();
    }
}

#[tokio::test]
async fn events_arrive_in_order_with_their_positions_from_the_beginning() {
    let server = Server::with_jetstream().await;
    let context = create_stream(&server).await;
    publish(&context, 1..=3).await;
    let mut reader = Reader::open(&source(&server, events())).await;
    let mut last = None;
    for id in 1..=3_u64 {
        let delivery = reader.delivery().await;
        assert_eq!(delivery.event.as_ref().unwrap().id(), id.to_string());
        assert_eq!(delivery.message.subject, "events.login");
        assert!(delivery.published.is_some());
        let position = delivery.position.clone().unwrap();
        assert_eq!(position.sequence, id);
        assert!(last.is_none_or(|last| position.is_above(&last)));
        last = Some(position);
        delivery.settle.ack().await.unwrap();
    }
}

#[tokio::test]
async fn a_start_and_subjects_may_be_asked_for() {
    let server = Server::with_jetstream().await;
    let context = create_stream(&server).await;
    publish(&context, 1..=3).await;
    let new = JetStreamConfig { start: Start::New, durable: Some("new".to_owned()), ..events() };
    let mut new = Reader::open(&source(&server, new)).await;
    new.ready().await;
    let third = JetStreamConfig { start: Start::Sequence(3), durable: Some("third".to_owned()), ..events() };
    let mut third = Reader::open(&source(&server, third)).await;
    let some = JetStreamConfig {
        subjects: vec!["events.logout".to_owned()],
        durable: Some("some".to_owned()),
        ..events()
    };
    let mut some = Reader::open(&source(&server, some)).await;
    some.ready().await;
    context.publish("events.logout", payload(4)).await.unwrap().await.unwrap();
    assert_eq!(new.acked().await, "4");
    assert_eq!((third.acked().await, third.acked().await), ("3".to_owned(), "4".to_owned()));
    assert_eq!(some.acked().await, "4");
}

#[tokio::test]
async fn what_was_not_acknowledged_comes_again_after_a_crash() {
    let server = Server::with_jetstream().await;
    let context = create_stream(&server).await;
    publish(&context, 1..=4).await;
    let mut reader = Reader::open(&source(&server, events())).await;
    assert_eq!(reader.acked().await, "1");
    let (_kept, dropped) = (reader.delivery().await, reader.delivery().await);
    assert_eq!(_kept.event.as_ref().unwrap().id(), "2");
    let positions = [_kept.position.clone(), dropped.position.clone()];
    // 2 and 3 were handed out, 4 waits in the source; all of it is dropped.
    drop((reader, _kept, dropped));
    let mut again = Reader::open(&source(&server, events())).await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        let delivery = again.delivery().await;
        if let Some(at) = positions.iter().position(|position| *position == delivery.position) {
            assert_eq!(delivery.position.as_ref().unwrap().sequence, at as u64 + 2);
        }
        ids.push(delivery.event.as_ref().unwrap().id().to_owned());
        delivery.settle.ack().await.unwrap();
    }
    ids.sort();
    assert_eq!(ids, ["2", "3", "4"]);
    again.nothing_for(Duration::from_secs(2)).await;
}

/// As one process after the other reads, each with a runtime that ends with it, while events pour in.
#[tokio::test]
async fn what_a_closed_source_had_fetched_comes_again_at_once() {
    const EVENTS: u32 = 3000;
    const ACK_WAIT: Duration = Duration::from_secs(30);
    let server = Server::with_jetstream().await;
    let context = create_stream(&server).await;
    let publishing = tokio::spawn(async move { publish(&context, 1..=EVENTS).await });
    let mut left: BTreeSet<String> = (1..=EVENTS).map(|id| id.to_string()).collect();
    for _ in 0..10 {
        let (servers, config) = (server.config(), JetStreamConfig { ack_wait: ACK_WAIT, ..events() });
        let process = move || {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            let acked = runtime.block_on(async {
                let connections = Connections::new();
                let source = JetStreamSource::new("logins", &connections, servers, config);
                let mut reader = Reader::open(&source).await;
                let mut acked = Vec::new();
                for _ in 0..50 {
                    acked.push(reader.acked().await);
                }
                let _unsettled = reader.delivery().await;
                drop((reader, _unsettled));
                connections.closed().await;
                acked
            });
            runtime.shutdown_background();
            acked
        };
        for id in tokio::task::spawn_blocking(process).await.unwrap() {
            left.remove(&id);
        }
    }
    publishing.await.unwrap();
    let begun = Instant::now();
    let mut reader = Reader::open(&source(&server, JetStreamConfig { ack_wait: ACK_WAIT, ..events() })).await;
    while !left.is_empty() {
        left.remove(&reader.acked().await);
    }
    assert!(begun.elapsed() < ACK_WAIT / 2, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_missing_stream_is_said_and_found_when_it_is_created() {
    let server = Server::with_jetstream().await;
    let mut reader = Reader::open(&source(&server, events())).await;
    let status = reader.reason("StreamNotFound").await;
    assert!(!status.ready && status.message.contains("EVENTS does not exist"), "{}", status.message);
    let context = create_stream(&server).await;
    publish(&context, [1]).await;
    assert_eq!(reader.acked().await, "1");
    assert!(reader.ready().await.message.contains("EVENTS"));
}

#[tokio::test]
async fn a_stream_is_created_on_request_only() {
    let server = Server::with_jetstream().await;
    let config = JetStreamConfig { create: true, subjects: vec!["made.>".to_owned()], ..events() };
    let mut reader = Reader::open(&source(&server, config)).await;
    reader.ready().await;
    let context = jetstream::new(server.client().await);
    context.publish("made.x", payload(1)).await.unwrap().await.unwrap();
    assert_eq!(reader.acked().await, "1");
}

#[tokio::test]
async fn jetstream_that_is_off_is_said() {
    let server = Server::start(local_fleet::NatsOptions::default()).await;
    let mut reader = Reader::open(&source(&server, events())).await;
    assert!(reader.reason("JetStreamUnavailable").await.message.contains("runs with JetStream"));
}

#[tokio::test]
async fn a_restart_of_the_server_costs_nothing_but_time() {
    let server = Server::with_jetstream().await;
    let context = create_stream(&server).await;
    publish(&context, 1..=2).await;
    let mut reader = Reader::open(&source(&server, events())).await;
    assert_eq!(reader.acked().await, "1");
    let held = reader.delivery().await;
    server.nats.server().kill().await.unwrap();
    reader.status("not ready", |status| !status.ready).await;
    server.nats.server().start().await.unwrap();
    reader.ready().await;
    publish(&jetstream::new(server.client().await), [3]).await;
    // A server that is killed may have forgotten that it delivered something: then that comes once more.
    let mut next = reader.acked().await;
    if next == "2" {
        next = reader.acked().await;
    }
    assert_eq!(next, "3");
    held.settle.ack().await.unwrap();
    reader.nothing_for(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn a_server_that_hangs_is_said_and_read_on_when_it_wakes() {
    let server = Server::with_jetstream().await;
    let context = create_stream(&server).await;
    let mut reader = Reader::open(&source(&server, events())).await;
    reader.ready().await;
    server.nats.server().pause().await.unwrap();
    let status = reader.reason("RequestTimedOut").await;
    assert!(!status.ready && status.message.contains("no answer"), "{}", status.message);
    server.nats.server().resume().await.unwrap();
    reader.ready().await;
    publish(&context, [1]).await;
    assert_eq!(reader.acked().await, "1");
}

#[tokio::test]
async fn a_consumer_that_is_deleted_is_made_again_where_it_was() {
    let server = Server::with_jetstream().await;
    let context = create_stream(&server).await;
    publish(&context, 1..=3).await;
    let mut reader = Reader::open(&source(&server, events())).await;
    for _ in 0..3 {
        reader.acked().await;
    }
    reader.floor(3).await;
    context.delete_consumer_from_stream("fleet-logins", "EVENTS").await.unwrap();
    publish(&context, [4]).await;
    assert_eq!(reader.acked().await, "4", "what is settled does not come again");
    assert!(reader.status("created again", |status| status.message.contains("created again")).await.ready);
}

#[tokio::test]
async fn a_consumer_that_does_not_fit_is_refused_with_what_differs() {
    let server = Server::with_jetstream().await;
    let context = create_stream(&server).await;
    let stream = context.get_stream("EVENTS").await.unwrap();
    let theirs = consumer::pull::Config {
        durable_name: Some("theirs".to_owned()),
        ack_policy: consumer::AckPolicy::All,
        filter_subject: "events.other".to_owned(),
        ..Default::default()
    };
    stream.create_consumer(theirs).await.unwrap();
    let config = JetStreamConfig {
        durable: Some("theirs".to_owned()),
        subjects: vec!["events.login".to_owned()],
        ..events()
    };
    let mut reader = Reader::open(&source(&server, config)).await;
    let status = reader.reason("ConsumerConflict").await;
    for expected in ["theirs", "ack policy", "events.other", "events.login"] {
        assert!(status.message.contains(expected), "{}", status.message);
    }
    // Without its cause, it heals.
    stream.delete_consumer("theirs").await.unwrap();
    reader.ready().await;
}

#[tokio::test]
async fn our_consumer_follows_the_configuration() {
    let server = Server::with_jetstream().await;
    let context = create_stream(&server).await;
    Reader::open(&source(&server, events())).await.ready().await;
    let edited = JetStreamConfig {
        subjects: vec!["events.logout".to_owned()],
        max_ack_pending: 7,
        ack_wait: Duration::from_secs(9),
        ..events()
    };
    Reader::open(&source(&server, edited)).await.ready().await;
    let stream = context.get_stream("EVENTS").await.unwrap();
    let config = stream.consumer_info("fleet-logins").await.unwrap().config;
    assert_eq!(
        (config.max_ack_pending, config.ack_wait, config.max_deliver),
        (7, Duration::from_secs(9), -1)
    );
    let filters: Vec<String> = config
        .filter_subjects
        .into_iter()
        .chain(Some(config.filter_subject))
        .filter(|f| !f.is_empty())
        .collect();
    assert_eq!(filters, ["events.logout"]);
}

#[tokio::test]
async fn a_users_consumer_that_gives_messages_up_is_reported() {
    let server = Server::with_jetstream().await;
    let context = create_stream(&server).await;
    let stream = context.get_stream("EVENTS").await.unwrap();
    let theirs = consumer::pull::Config {
        durable_name: Some("theirs".to_owned()),
        max_deliver: 1,
        ..Default::default()
    };
    stream.create_consumer(theirs).await.unwrap();
    let config = JetStreamConfig { durable: Some("theirs".to_owned()), ..events() };
    let mut reader = Reader::open(&source(&server, config)).await;
    assert!(reader.ready().await.message.contains("max_deliver"));
    publish(&context, [1]).await;
    reader.delivery().await.settle.give_back(Duration::ZERO).await.unwrap();
    let status = reader.status("given up", |status| status.lost == 1).await;
    assert!(status.message.contains("given up"), "{}", status.message);
    assert_eq!(stream.consumer_info("theirs").await.unwrap().config.max_deliver, 1, "it is not changed");
}

#[tokio::test]
async fn messages_that_left_the_stream_unread_are_reported() {
    let server = Server::with_jetstream().await;
    let context = jetstream::new(server.client().await);
    let config = stream::Config {
        name: "EVENTS".into(),
        subjects: vec!["events.>".into()],
        max_messages: 1,
        ..Default::default()
    };
    context.create_stream(config).await.unwrap();
    publish(&context, [1]).await;
    let mut reader = Reader::open(&source(&server, events())).await;
    assert_eq!(reader.acked().await, "1");
    drop(reader);
    // Until the server knows that nobody waits, it may still deliver.
    let consumer = context.get_stream("EVENTS").await.unwrap();
    while consumer.consumer_info("fleet-logins").await.unwrap().num_waiting > 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    publish(&context, 2..=5).await;
    let mut reader = Reader::open(&source(&server, events())).await;
    let status = reader.status("unread", |status| status.lost > 0).await;
    assert_eq!(status.lost, 3, "2, 3 and 4: {}", status.message);
    assert_eq!(reader.acked().await, "5");
}

#[tokio::test]
async fn not_more_is_fetched_than_may_wait() {
    let server = Server::with_jetstream().await;
    let context = create_stream(&server).await;
    let payloads = (1..=200).collect::<Vec<u32>>();
    publish(&context, payloads).await;
    let config = JetStreamConfig { batch: 10, ..events() };
    let mut reader = Reader::open(&source(&server, config)).await;
    let first = reader.delivery().await;
    let stream = context.get_stream("EVENTS").await.unwrap();
    for _ in 0..10 {
        let pending = stream.consumer_info("fleet-logins").await.unwrap().num_ack_pending;
        assert!(pending <= 25, "{pending} messages were fetched for one that was read");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    first.settle.ack().await.unwrap();
    for id in 2..=200 {
        assert_eq!(reader.acked().await, id.to_string());
    }
}
