//! Messages that can never become Work, of every kind there is, each with the reason that a person is to be told.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use async_nats::HeaderMap;
use bytes::Bytes;
use serde_json::{Value, json};

use crate::feed::{Feed, SUBJECT};
use crate::stage::wait_for;
use crate::world::World;

pub(crate) struct Bad {
    /// In one word, as a dead letter has it.
    pub(crate) reason: &'static str,
    /// Part of what the dead letter says.
    pub(crate) detail: &'static str,
    headers: Headers,
    pub(crate) payload: Bytes,
}

enum Headers {
    None,
    Good(&'static [(&'static str, &'static str)]),
    /// The bytes between the version line and the empty line, which no client library would send.
    Raw(&'static [u8]),
}

/// So many of them, of each kind in turn.
pub(crate) fn bad_messages(count: usize) -> Vec<Bad> {
    (0..).flat_map(kinds).take(count).collect()
}

/// A good event, with something else in it.
fn spoilt(number: usize, spoil: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut event = good(number, true);
    spoil(&mut event);
    event.to_string().into_bytes()
}

/// An event that is as it should be; not all have a quota.
pub(crate) fn good(number: usize, quota: bool) -> Value {
    let mut event = json!({
        "specversion": "1.0", "type": "auth.example.com.login", "source": "auth.example.com",
        "id": number.to_string(), "subject": format!("user-{number}"), "origin": "civo/cluster1",
        "data": {"secret": "hunter2", "key": format!("user-{number}"), "action": "Create"},
    });
    if quota {
        event["data"]["quota"] = json!(number);
    }
    event
}

fn remove(event: &mut Value, name: &str) {
    event.as_object_mut().unwrap().remove(name);
}

#[rustfmt::skip]
fn kinds(number: usize) -> Vec<Bad> {
    const NOT: &str = "NotACloudEvent";
    const BINARY: &[(&str, &str)] =
        &[("ce-specversion", "1.0"), ("ce-type", "t"), ("ce-source", "s"), ("ce-id", "1"), ("ce-origin", "civo/cluster1")];
    let bad = |reason, detail, headers, payload: Vec<u8>| Bad { reason, detail, headers, payload: payload.into() };
    let plain = |reason, detail, payload| bad(reason, detail, Headers::None, payload);
    let mut cut = good(number, true).to_string().into_bytes();
    cut.truncate(cut.len() / 2);
    let mut not_utf8 = good(number, true).to_string().into_bytes();
    let at = not_utf8.windows(7).position(|text| text == b"hunter2").unwrap();
    not_utf8[at] = 0xff;
    vec![
        plain(NOT, "not JSON", format!("hello {number}").into()),
        plain(NOT, "not JSON", Vec::new()),
        plain(NOT, "not JSON", cut),
        plain(NOT, "", not_utf8),
        plain(NOT, "not an object", b"[]".to_vec()),
        plain(NOT, "specversion", spoilt(number, |event| remove(event, "specversion"))),
        plain(NOT, "specversion", spoilt(number, |event| event["specversion"] = json!("0.3"))),
        plain(NOT, "id", spoilt(number, |event| remove(event, "id"))),
        plain(NOT, "source", spoilt(number, |event| event["source"] = json!(""))),
        plain(NOT, "type", spoilt(number, |event| event["type"] = json!(5))),
        plain(NOT, "time", spoilt(number, |event| event["time"] = json!("yesterday"))),
        plain(NOT, "", spoilt(number, |event| event["No-Name"] = json!("x"))),
        bad(NOT, "batch", Headers::Good(&[("Content-Type", "application/cloudevents-batch+json")]),
            format!("[{}]", good(number, true)).into()),
        bad(NOT, "avro", Headers::Good(&[("Content-Type", "application/cloudevents+avro")]), vec![0, 1, 2, 0xff]),
        bad(NOT, "source is missing", Headers::Good(&[("ce-specversion", "1.0"), ("ce-type", "t"), ("ce-id", "1")]),
            b"{}".to_vec()),
        bad(NOT, "UTF-8", Headers::Good(&[("ce-specversion", "1.0"), ("ce-type", "t"), ("ce-source", "s"),
            ("ce-id", "1"), ("ce-subject", "%ff")]), b"{}".to_vec()),
        bad(NOT, "", Headers::Good(&[("ce-specversion", "1.0"), ("ce-type", "t"), ("ce-source", "s"),
            ("ce-id", "1"), ("ce-time", "yesterday")]), b"{}".to_vec()),
        bad(NOT, "data is not JSON", Headers::Good(BINARY), b"{\"broken\": ".to_vec()),
        plain("OriginMissing", "none", spoilt(number, |event| remove(event, "origin"))),
        plain("OriginMissing", "origin", spoilt(number, |event| event["origin"] = json!("not a cluster"))),
        plain("KeyEmpty", "gave nothing", spoilt(number, |event| event["data"]["key"] = json!(" "))),
        plain("KeyInvalid", "event.data.key", spoilt(number, |event| remove(&mut event["data"], "key"))),
        plain("ActionInvalid", "Create or Delete", spoilt(number, |event| event["data"]["action"] = json!("Perhaps"))),
        plain("ActionInvalid", "event.data.action", spoilt(number, |event| remove(&mut event["data"], "action"))),
        plain("TooLarge", "maxEventBytes", spoilt(number, |event| event["data"]["more"] = json!("x".repeat(5000)))),
        bad(NOT, "not UTF-8", Headers::Raw(b"ce-subject: \xff\xfe\r\n"), good(number, true).to_string().into()),
        bad(NOT, "no colon", Headers::Raw(b"no colon here\r\n"), good(number, true).to_string().into()),
    ]
}

impl Bad {
    /// Publishes it. Its sequence in the stream.
    pub(crate) fn publish(&self, id: &str, world: &World, feed: &Feed) -> u64 {
        let mut headers = HeaderMap::new();
        match self.headers {
            Headers::None => {}
            Headers::Good(pairs) => {
                for (name, value) in pairs {
                    headers.insert(*name, *value);
                }
            }
            Headers::Raw(bytes) => return publish_raw(world, bytes, &self.payload),
        }
        wait_for(feed.publish(id, &headers, &self.payload))
    }
}

/// Publishes as the protocol has it: no client library looks at the headers.
fn publish_raw(world: &World, headers: &[u8], payload: &[u8]) -> u64 {
    let (url, user, password) = world.access();
    let mut stream = TcpStream::connect(url.trim_start_matches("nats://")).unwrap();
    let hello = json!({"user": user, "pass": password, "verbose": false, "headers": true});
    let headers = [b"NATS/1.0\r\n", headers, b"\r\n"].concat();
    let all = headers.len() + payload.len();
    let head = format!("CONNECT {hello}\r\nSUB inbox 1\r\nHPUB {SUBJECT} inbox {} {all}\r\n", headers.len());
    stream.write_all(&[head.as_bytes(), &headers, payload, b"\r\n"].concat()).unwrap();
    let mut answer = BufReader::new(stream);
    let mut line = String::new();
    while !line.starts_with("MSG ") {
        line.clear();
        assert!(answer.read_line(&mut line).unwrap() > 0, "NATS closed the connection");
        assert!(!line.starts_with("-ERR"), "{line}");
    }
    let length = line.split_whitespace().next_back().unwrap().parse().unwrap();
    let mut acknowledgement = vec![0; length];
    answer.read_exact(&mut acknowledgement).unwrap();
    let acknowledgement: Value = serde_json::from_slice(&acknowledgement).unwrap();
    acknowledgement["seq"].as_u64().unwrap()
}
