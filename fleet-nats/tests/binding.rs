//! The corpus of messages in `tests/binding`: each `.msg` (headers, an empty line, the payload, as on the wire) decodes
//! to the event of the `.json` beside it, or is refused with what its `.error` begins with. Also seeds for fuzzing.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fs;
use std::path::Path;

use bytes::Bytes;
use fleet_core::event::Event;
use fleet_nats::binding::{decode, decode_pairs, encode};
use serde_json::Value;

fn message(bytes: &[u8]) -> (Vec<(String, String)>, Bytes) {
    let mut headers = Vec::new();
    let mut rest = bytes;
    loop {
        let end = rest.windows(2).position(|pair| pair == b"\r\n").expect("headers end with an empty line");
        let line = std::str::from_utf8(&rest[..end]).expect("headers are UTF-8");
        rest = &rest[end + 2..];
        match line.split_once(": ") {
            Some((name, value)) => headers.push((name.to_owned(), value.to_owned())),
            None => return (headers, Bytes::copy_from_slice(rest)),
        }
    }
}

#[test]
fn every_message_of_the_corpus() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/binding");
    let mut seen = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "msg") {
            continue;
        }
        seen += 1;
        let (headers, payload) = message(&fs::read(&path).unwrap());
        let decoded = decode_pairs(&headers, payload);
        if let Ok(expected) = fs::read_to_string(path.with_extension("error")) {
            let reason = decoded.expect_err(&path.display().to_string()).reason;
            assert!(reason.starts_with(expected.trim_end()), "{}: {reason}", path.display());
        } else {
            let expected: Value =
                serde_json::from_slice(&fs::read(path.with_extension("json")).unwrap()).unwrap();
            let event = decoded.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            assert_eq!(event.to_json(), expected, "{}", path.display());
        }
    }
    assert!(seen > 30, "the corpus was not found");
}

#[test]
fn what_is_encoded_decodes_to_the_same_event() {
    for event in [
        Event::builder("1", "/s", "t").json(serde_json::json!({"a": 1})),
        Event::builder("1", "/s", "t").data("application/x-own", vec![0_u8, 255].into()).extension("n", 5),
        Event::builder("1", "/s", "t").subject("€ \"%20\"").data("text/plain", "x".into()),
    ] {
        let event = event.build().unwrap();
        let (headers, payload) = encode(&event);
        assert_eq!(decode(Some(&headers), payload).unwrap(), event);
    }
}
