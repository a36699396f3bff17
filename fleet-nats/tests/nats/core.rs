//! Core NATS as a source.

use std::time::Duration;

use fleet_core::event::Event;
use fleet_core::source::EventSource;
use fleet_nats::connection::{Connections, NatsConfig};
use fleet_nats::core::{CoreConfig, CoreSource};
use local_fleet::NatsOptions;

use crate::reader::{Reader, Server, payload};

fn source(server: &Server, config: CoreConfig) -> CoreSource {
    CoreSource::new("s", &Connections::new(), server.config(), config)
}

#[tokio::test]
async fn events_arrive_in_every_mode_and_what_is_none_arrives_as_that() {
    let server = Server::start(NatsOptions::default()).await;
    let mut reader = Reader::open(&source(&server, CoreConfig::new(["users.*.logins", "other"]))).await;
    reader.ready().await;
    let client = server.client().await;
    client.publish("users.civo.logins", payload("plain")).await.unwrap();
    let mut headers = async_nats::HeaderMap::new();
    for (name, value) in
        [("ce-specversion", "1.0"), ("ce-id", "binary"), ("ce-source", "/s"), ("ce-type", "t")]
    {
        headers.insert(name, value);
    }
    client.publish_with_headers("other", headers, "[1]".into()).await.unwrap();
    client.publish("other", "garbage".into()).await.unwrap();
    client.flush().await.unwrap();

    let mut got = Vec::new();
    for _ in 0..3 {
        let delivery = reader.delivery().await;
        assert!(delivery.position.is_none());
        let id =
            delivery.event.as_ref().map(Event::id).map_err(|error| error.reason.clone()).map(str::to_owned);
        got.push((id, delivery.message.tokens().nth(1).map(str::to_owned), delivery.raw.len()));
        delivery.settle.ack().await.unwrap();
    }
    got.sort();
    assert_eq!(got[0], (Ok("binary".to_owned()), None, 3));
    assert_eq!((got[1].0.as_deref(), got[1].1.as_deref()), (Ok("plain"), Some("civo")));
    assert!(got[2].0.as_ref().unwrap_err().starts_with("the message is not JSON"));
    assert_eq!(got[2].2, "garbage".len());
}

#[tokio::test]
async fn a_queue_group_gets_each_message_once() {
    let server = Server::start(NatsOptions::default()).await;
    let config = CoreConfig { queue_group: Some("operators".to_owned()), ..CoreConfig::new(["logins"]) };
    let mut one = Reader::open(&source(&server, config.clone())).await;
    let mut two = Reader::open(&source(&server, config)).await;
    one.ready().await;
    two.ready().await;
    let client = server.client().await;
    for id in 0..50 {
        client.publish("logins", payload(id)).await.unwrap();
    }
    let mut ids = Vec::new();
    for _ in 0..50 {
        let delivery = tokio::select! { it = one.delivery() => it, it = two.delivery() => it };
        ids.push(delivery.event.unwrap().id().to_owned());
    }
    ids.sort_by_key(|id| id.parse::<u32>().unwrap());
    assert_eq!(ids, (0..50).map(|id| id.to_string()).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_a_slow_reader_had_to_drop_is_counted_and_said() {
    let server = Server::start(NatsOptions::default()).await;
    let config = CoreConfig { queue_messages: 8, ..CoreConfig::new(["logins"]) };
    let mut reader = Reader::open(&source(&server, config)).await;
    assert_eq!(reader.ready().await.lost, 0);
    let client = server.client().await;
    for id in 0..100 {
        client.publish("logins", payload(id)).await.unwrap();
    }
    let mut lost = 0;
    while lost < 92 {
        let status = reader.status("that events were lost", |status| status.lost > 0).await;
        assert!(
            status.ready && status.reason == "SlowConsumer" && status.message.contains("dropped"),
            "{status:?}"
        );
        lost = status.lost;
        // Reading makes room; what is read was not lost.
        if lost < 92 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    assert_eq!(lost, 92);
    for id in 0..8 {
        assert_eq!(reader.acked().await, id.to_string());
    }
    client.publish("logins", payload("after")).await.unwrap();
    assert_eq!(reader.acked().await, "after");
}

#[tokio::test]
async fn a_server_that_is_down_at_first_and_restarts_later() {
    let server = Server::start(NatsOptions::default()).await;
    server.nats.server().stop().await.unwrap();
    let mut reader = Reader::open(&source(&server, CoreConfig::new(["logins"]))).await;
    let status = reader.reason("ConnectionFailed").await;
    assert!(!status.ready && status.message.contains("check that the server runs"), "{}", status.message);

    server.nats.server().start().await.unwrap();
    reader.ready().await;
    server.nats.server().restart().await.unwrap();
    let said = "keeps nothing that was published meanwhile";
    let status = reader.status("connected again", |status| status.message.contains(said)).await;
    assert!(status.ready);
    let client = server.client().await;
    client.publish("logins", payload("after")).await.unwrap();
    assert_eq!(reader.acked().await, "after");
}

#[tokio::test]
async fn a_subject_that_may_not_be_read_is_said() {
    let user = "authorization { users: [ { user: u, password: p, permissions: { subscribe: { allow: [\"allowed\", \"_INBOX.>\"] } } } ] }";
    let server = Server::start(NatsOptions::default().config(user)).await;
    let url = server.nats.url(local_fleet::Route::Direct).replace("nats://", "nats://u:p@");
    let source = |subject: &str| {
        CoreSource::new(
            "s",
            &Connections::new(),
            NatsConfig::new([&url]).unwrap(),
            CoreConfig::new([subject]),
        )
    };
    let mut denied = Reader::open(&source("forbidden")).await;
    let status = denied.reason("PermissionDenied").await;
    assert!(!status.ready && status.message.contains("forbidden"), "{status:?}");
    Reader::open(&source("allowed")).await.ready().await;
}

#[tokio::test]
async fn sources_with_equal_configurations_share_a_connection() {
    let server = Server::start(NatsOptions::default()).await;
    let connections = Connections::new();
    let open = async |subject: &str| {
        let source = CoreSource::new("s", &connections, server.config(), CoreConfig::new([subject]));
        let mut reader = Reader::open(&source).await;
        reader.ready().await;
        reader
    };
    let count = async || {
        let client = server.client().await;
        let id = client.server_info().client_id;
        // Ids are given in order: those of connections made between two looks show as a gap.
        id
    };
    let before = count().await;
    let (one, two) = (open("a").await, open("b").await);
    assert_eq!(count().await, before + 2, "one connection for both, one for the second look");
    drop((one, two));
    let _three = open("c").await;
    assert_eq!(count().await, before + 4, "closed when unused, made anew when used");
}

#[tokio::test]
async fn a_configuration_that_cannot_work_fails_at_once() {
    let nats = || NatsConfig::new(["nats://127.0.0.1:1"]).unwrap();
    for (config, expected) in [
        (CoreConfig::new(["a..b"]), "subject \"a..b\" cannot be read"),
        (CoreConfig::new(Vec::<String>::new()), "no subject is given"),
        (CoreConfig { queue_group: Some("a b".to_owned()), ..CoreConfig::new(["a"]) }, "queue group"),
    ] {
        let source = CoreSource::new("s", &Connections::new(), nats(), config);
        let Err(error) = source.open(Vec::new()).await else { panic!("opened: {expected}") };
        assert!(error.reason.starts_with(expected), "{}", error.reason);
    }
}
