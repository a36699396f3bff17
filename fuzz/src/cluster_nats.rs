//! The Secret in a cluster that says how its NATS is read. What it leads to is bounded, and no mistake shows what it holds.

use std::collections::BTreeSet;

use fleet_kube::cluster_nats::read;
use serde_json::Value;

use crate::{Outcome, SECRET};

/// The target.
pub fn run(input: &[u8]) -> Outcome {
    let Ok(text) = std::str::from_utf8(input) else { return Outcome::Refused };
    match read(text) {
        Ok(feeds) => {
            assert!((1..=65).contains(&feeds.len()));
            assert_eq!(feeds.iter().map(|it| &it.name).collect::<BTreeSet<_>>().len(), feeds.len());
            for feed in &feeds {
                let transport = &feed.transport;
                assert!((1..=16).contains(&transport.servers.len()) && transport.subjects.len() <= 64);
                assert!(transport.jet_stream.is_some() || !transport.subjects.is_empty());
                for server in &transport.servers {
                    assert!(server.contains("://") && !server.contains('@'), "{server}");
                }
            }
            let again = read(text);
            assert!(again.is_ok_and(|again| again == feeds), "read again, it is something else");
            Outcome::Taken
        }
        Err(mistake) => {
            let told = mistake.to_string();
            assert!(named(text) || !told.contains(SECRET), "{told:?} shows a value");
            Outcome::Refused
        }
    }
}

/// Whether the secret word is the name of a field, which is shown.
fn named(text: &str) -> bool {
    fn is_in(value: &Value) -> bool {
        match value {
            Value::Object(fields) => fields.iter().any(|(key, value)| key.contains(SECRET) || is_in(value)),
            Value::Array(items) => items.iter().any(is_in),
            _ => false,
        }
    }
    serde_json::from_str(text).is_ok_and(|value| is_in(&value))
}
