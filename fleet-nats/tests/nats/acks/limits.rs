//! Accounts that may not have all that is asked for: what stands in the way is said, and what to do; and once there is
//! room, it goes on by itself.

use async_nats::jetstream::{self, consumer, stream};
use fleet_nats::connection::{Auth, Connections, NatsConfig};
use fleet_nats::jetstream::{JetStreamConfig, JetStreamSource};
use local_fleet::{NatsOptions, Route};

use super::{Dialect, create_stream, id_of, publish};
use crate::reader::{Reader, Server};

/// A server with one account, with these limits.
struct Limited {
    server: Server,
    context: jetstream::Context,
}

impl Limited {
    async fn to(limits: &str) -> Self {
        let account = format!(
            "accounts {{ LIMITED {{ users: [{{user: limited, password: limited}}], jetstream: {{{limits}}} }} }}"
        );
        let server = Server::start(NatsOptions::default().jetstream(true).config(&account)).await;
        let options = async_nats::ConnectOptions::with_user_and_password("limited".into(), "limited".into());
        let client = options.connect(server.nats.url(Route::Direct)).await.unwrap();
        Self { server, context: jetstream::new(client) }
    }

    async fn reader(&self, config: JetStreamConfig) -> Reader {
        let nats = NatsConfig::new([self.server.nats.url(Route::Direct)]).unwrap();
        let nats = nats.auth(Auth::UserPassword { user: "limited".into(), password: "limited".into() });
        Reader::open(&JetStreamSource::new("logins", &Connections::new(), nats, config)).await
    }
}

/// What is said when a limit is reached: all of these words.
async fn is_told(reader: &mut Reader, words: &[&str]) {
    let status = reader.reason("LimitReached").await;
    assert!(!status.ready);
    for word in words {
        assert!(status.message.contains(word), "{word:?} is not in {:?}", status.message);
    }
}

#[tokio::test]
async fn consumers() {
    let limited = Limited::to("max_consumers: 1").await;
    create_stream(&limited.context).await;
    publish(&limited.context, Dialect::Binary, 1).await;
    let stream = limited.context.get_stream("EVENTS").await.unwrap();
    let other = consumer::pull::Config { durable_name: Some("other".to_owned()), ..Default::default() };
    stream.create_consumer(other).await.unwrap();
    let mut reader = limited.reader(JetStreamConfig::new("EVENTS")).await;
    is_told(
        &mut reader,
        &["creating consumer fleet-logins of stream EVENTS", "maximum consumers limit", "delete"],
    )
    .await;
    stream.delete_consumer("other").await.unwrap();
    reader.ready().await;
    let delivery = reader.delivery().await;
    assert_eq!(id_of(&delivery), 1);
    delivery.settle.ack().await.unwrap();
}

#[tokio::test]
async fn streams() {
    let limited = Limited::to("max_streams: 1").await;
    let other = stream::Config { name: "OTHER".into(), subjects: vec!["other".into()], ..Default::default() };
    limited.context.create_stream(other).await.unwrap();
    let config = JetStreamConfig {
        create: true,
        subjects: vec!["events.>".to_owned()],
        ..JetStreamConfig::new("EVENTS")
    };
    let mut reader = limited.reader(config).await;
    is_told(&mut reader, &["creating stream EVENTS", "maximum number of streams", "delete"]).await;
    limited.context.delete_stream("OTHER").await.unwrap();
    reader.ready().await;
    publish(&limited.context, Dialect::Structured, 1).await;
    assert_eq!(id_of(&reader.delivery().await), 1);
}

#[tokio::test]
async fn pending_acknowledgements() {
    let limited = Limited::to("max_ack_pending: 10").await;
    create_stream(&limited.context).await;
    let mut reader = limited.reader(JetStreamConfig::new("EVENTS")).await;
    is_told(
        &mut reader,
        &["creating consumer fleet-logins of stream EVENTS", "max ack pending", "maxAckPending"],
    )
    .await;
    let lower = JetStreamConfig { max_ack_pending: 10, ..JetStreamConfig::new("EVENTS") };
    limited.reader(lower).await.ready().await;
    // It exists now, though not as it was asked for.
    is_told(&mut reader, &["updating consumer fleet-logins", "max ack pending"]).await;
}

/// A reader needs no room.
#[tokio::test]
async fn storage() {
    let limited = Limited::to("max_file: 64KB").await;
    create_stream(&limited.context).await;
    let mut reader = limited.reader(JetStreamConfig::new("EVENTS")).await;
    reader.ready().await;
    let mut stored = 0;
    let refused = loop {
        let (headers, body) = Dialect::of(stored + 1).message(stored + 1);
        let padding = [body.as_ref(), " ".repeat(4000).as_bytes()].concat();
        let sent = limited.context.publish_with_headers("events.login", headers, padding.into()).await;
        match sent.unwrap().await {
            Ok(_) => stored += 1,
            Err(error) => break error,
        }
        assert!(stored < 100, "it is never full");
    };
    assert!(refused.to_string().contains("resource"), "{refused}");
    for id in 1..=stored {
        let delivery = reader.delivery().await;
        assert_eq!(id_of(&delivery), id);
        delivery.settle.ack().await.unwrap();
    }
    reader.floor(stored).await;
    limited.context.get_stream("EVENTS").await.unwrap().purge().await.unwrap();
    publish(&limited.context, Dialect::of(stored + 1), stored + 1).await;
    assert_eq!(id_of(&reader.delivery().await), stored + 1);
}
