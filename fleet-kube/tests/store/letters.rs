//! Dead letters as Secrets.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use fleet_core::dead_letter::DeadLetter;
use fleet_core::source::Message;
use fleet_core::store::{StoreError, WorkStore};
use fleet_kube::store::SECRET_TYPE;
use jiff::Timestamp;
use serde_json::Value;

use crate::rig::*;

const SECRETS: &str = "/api/v1/namespaces/fleet/secrets";

fn letter(id: &str, raw: Vec<u8>) -> Arc<DeadLetter> {
    Arc::new(DeadLetter {
        id: id.to_owned(),
        source: "users".to_owned(),
        trigger: None,
        reason: "TooLarge".to_owned(),
        detail: "why".to_owned(),
        time: Timestamp::UNIX_EPOCH,
        position: None,
        origin: None,
        message: Message { subject: "a".to_owned(), headers: vec![("h".to_owned(), "v".repeat(2000))] },
        raw: Bytes::from(raw),
    })
}

/// Bytes that no text has.
fn bytes(length: usize, seed: u8) -> Vec<u8> {
    (0..length).map(|place| (place as u8).wrapping_mul(31).wrapping_add(seed)).collect()
}

async fn secrets(rig: &Rig) -> Vec<Value> {
    rig.admin.get(SECRETS).await.unwrap()["items"].as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_larger_than_a_secret_is_kept_whole() {
    let rig = Rig::new().await;
    let store = rig.open().await;
    let large = letter("0000000000002-0123456789abcdef0123", bytes(3 << 20, 1));
    store.add_dead_letter(Arc::clone(&large)).await.unwrap();
    store.add_dead_letter(letter("an id/of another KIND", bytes(10, 2))).await.unwrap();
    let stored = secrets(&rig).await;
    assert_eq!(stored.len(), 4 + 1);
    assert!(stored.iter().all(|secret| secret["type"] == SECRET_TYPE));
    assert!(*store.dead_letter(&large.id).await.unwrap().unwrap() == *large, "it came back changed");
    let listed = store.dead_letters(None, 10).await.unwrap();
    let ids: Vec<_> = listed.iter().map(|letter| letter.id.as_str()).collect();
    assert_eq!(ids, [large.id.as_str(), "an id/of another KIND"], "parts are no letters");
    assert!(listed[0].raw == large.raw);

    // Replaced by another large one, and by a small one, nothing is left over.
    let other = letter(&large.id, bytes(2 << 20, 3));
    store.add_dead_letter(Arc::clone(&other)).await.unwrap();
    assert!(*store.dead_letter(&large.id).await.unwrap().unwrap() == *other);
    assert_eq!(secrets(&rig).await.len(), 3 + 1);
    let small = letter(&large.id, b"small".to_vec());
    store.add_dead_letter(Arc::clone(&small)).await.unwrap();
    store.add_dead_letter(Arc::clone(&small)).await.unwrap();
    assert!(*store.dead_letter(&large.id).await.unwrap().unwrap() == *small);
    let left = secrets(&rig).await;
    assert_eq!(left.len(), 2);
    // Anybody with kubectl gets at the bytes.
    let secret =
        left.iter().find(|it| it["metadata"]["name"].as_str().unwrap().contains("0000000000002")).unwrap();
    assert_eq!(STANDARD.decode(secret["data"]["raw"].as_str().unwrap()).unwrap(), b"small");

    store.add_dead_letter(Arc::clone(&large)).await.unwrap();
    assert!(store.drop_dead_letter(&large.id).await.unwrap());
    assert!(!store.drop_dead_letter(&large.id).await.unwrap());
    assert_eq!(secrets(&rig).await.len(), 1, "its parts are gone too");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_that_lost_a_part_says_so() {
    let rig = Rig::new().await;
    let store = rig.open().await;
    let large = letter("1", bytes(1 << 20, 1));
    store.add_dead_letter(Arc::clone(&large)).await.unwrap();
    let mut parts =
        secrets(&rig).await.into_iter().map(|it| it["metadata"]["name"].as_str().unwrap().to_owned());
    let part = parts.find(|name| name.contains('.')).unwrap();
    rig.admin.send("DELETE", &format!("{SECRETS}/{part}"), None).await.unwrap();
    let error = store.dead_letter("1").await.unwrap_err();
    assert!(matches!(error, StoreError::Corrupt(_)), "{error}");
    assert!(error.to_string().contains("is missing"), "{error}");
    store.add_dead_letter(Arc::clone(&large)).await.unwrap();
    assert!(*store.dead_letter("1").await.unwrap().unwrap() == *large, "another delivery mends it");
}
