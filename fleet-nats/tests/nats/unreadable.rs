//! Messages whose headers no client library takes: each is handed out as what it is, and the others come through.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;

use async_nats::jetstream::{self, stream};
use fleet_nats::connection::Connections;
use fleet_nats::jetstream::{JetStreamConfig, JetStreamSource};
use local_fleet::Route;

use crate::reader::{Reader, Server, payload};

/// Publishes as the protocol has it, and waits until the server has it.
fn publish_raw(server: &Server, subject: &str, headers: &[u8], body: &[u8]) {
    let url = server.nats.url(Route::Direct);
    let mut stream = TcpStream::connect(url.trim_start_matches("nats://")).unwrap();
    let headers = [b"NATS/1.0\r\n", headers, b"\r\n\r\n"].concat();
    let all = headers.len() + body.len();
    let head = format!(
        "CONNECT {{\"verbose\":false,\"headers\":true}}\r\nSUB inbox 1\r\nHPUB {subject} inbox {} {all}\r\n",
        headers.len()
    );
    stream.write_all(&[head.as_bytes(), &headers, body, b"\r\n"].concat()).unwrap();
    let acknowledged =
        BufReader::new(stream).lines().map(Result::unwrap).any(|line| line.starts_with("{\"stream\""));
    assert!(acknowledged, "NATS closed the connection");
}

#[tokio::test]
async fn a_message_with_headers_that_cannot_be_read_stops_no_other() {
    let server = Server::with_jetstream().await;
    let context = jetstream::new(server.client().await);
    let config =
        stream::Config { name: "EVENTS".into(), subjects: vec!["events.>".into()], ..Default::default() };
    let mut stream = context.create_stream(config).await.unwrap();
    let bad: [(&[u8], &str); 3] = [
        (b"ce-subject: \xff\xfe", "not UTF-8"),
        (b"there is none", "no colon"),
        (b"My Header: it is", "a name among them"),
    ];
    for (number, (headers, _)) in bad.iter().enumerate() {
        context.publish("events.login", payload(number)).await.unwrap().await.unwrap();
        publish_raw(&server, "events.login", headers, format!("body {number}").as_bytes());
        // Of no concern here: it is not among the subjects that are read.
        publish_raw(&server, "events.other", headers, b"other");
    }
    context.publish("events.login", payload(3)).await.unwrap().await.unwrap();

    let config =
        JetStreamConfig { subjects: vec!["events.login".to_owned()], ..JetStreamConfig::new("EVENTS") };
    let source = JetStreamSource::new("logins", &Connections::new(), server.config(), config);
    let mut reader = Reader::open(&source).await;
    let mut good = BTreeSet::new();
    let mut refused = BTreeSet::new();
    while (good.len(), refused.len()) != (4, 3) {
        let delivery = reader.delivery().await;
        let sequence = delivery.position.as_ref().unwrap().sequence;
        match &delivery.event {
            Ok(event) => {
                good.insert(event.id().to_owned());
                delivery.settle.ack().await.unwrap();
            }
            Err(error) => {
                let number = (sequence - 2) / 3;
                let (headers, expected) = bad[number as usize];
                assert!(error.reason.contains(expected) && error.reason.contains("events.login"), "{error}");
                assert_eq!(delivery.raw, format!("body {number}"));
                assert_eq!(delivery.message.subject, "events.login");
                let line = String::from_utf8_lossy(headers);
                let shown: Vec<_> =
                    delivery.message.headers.iter().map(|(a, b)| format!("{a}: {b}")).collect();
                assert!(shown.iter().all(|shown| *shown == line), "{shown:?}");
                assert!(delivery.published.is_some());
                refused.insert(sequence);
                delivery.settle.terminate("it is none").await.unwrap();
            }
        }
    }
    assert_eq!(refused, [2, 5, 8].into());
    reader.floor(10).await;
    let consumer = stream.consumer_info("fleet-logins").await.unwrap();
    assert_eq!((consumer.num_pending, consumer.num_ack_pending), (0, 0));
    assert_eq!(stream.info().await.unwrap().state.messages, 10, "a user's stream is never changed");
}
