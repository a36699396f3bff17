//! Dead letters: one Secret each, as event data is treated like a Secret's; several for what is larger than one.
//!
//! The first Secret is written last and deleted first, and names the others: a letter is there as a whole or not at all.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use fleet_core::dead_letter::DeadLetter;
use fleet_core::store::StoreError;
use futures::{StreamExt as _, TryStreamExt as _};
use http::Method;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::ledger::HOLDS;
use super::objects::{Objects, deadline, failed};
use super::record::hash;
use crate::client::{Call, Failure};

/// The type of the Secrets.
pub const SECRET_TYPE: &str = "fleet-events.dev/dead-letter";
/// The label's value of the first Secret of each letter.
const LETTER: &str = "dead-letter";
/// The label's value of the others.
const PART: &str = "dead-letter-part";
/// The letter's id, on its first Secret.
const ID: &str = "fleet-events.dev/dead-letter-id";
/// How many further Secrets it has, on its first.
const PARTS: &str = "fleet-events.dev/dead-letter-parts";
/// A hash of what it holds, on its first: part of the others' names, so that a letter is replaced at once.
const CONTENT: &str = "fleet-events.dev/dead-letter-content";

/// What one Secret holds at most. It may hold 1 MiB.
const LARGEST: usize = 900 * 1024;
/// How many Secrets are listed at a time, without their data.
const PAGE: usize = 500;
/// How many letters are read at a time.
const AT_ONCE: usize = 8;
const METADATA_LIST: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";

/// Where dead letters are kept.
#[derive(Debug)]
pub(super) struct Letters {
    objects: Objects,
    collection: String,
}

#[derive(Deserialize)]
struct Secret {
    metadata: Metadata,
    #[serde(default)]
    data: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    name: String,
    uid: String,
    resource_version: String,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct List {
    #[serde(default)]
    metadata: ListMetadata,
    items: Vec<Listed>,
}

#[derive(Default, Deserialize)]
struct ListMetadata {
    #[serde(default, rename = "continue")]
    next: String,
}

#[derive(Deserialize)]
struct Listed {
    metadata: Metadata,
}

impl Metadata {
    fn annotation(&self, name: &str) -> Option<&str> {
        self.annotations.get(name).map(String::as_str)
    }

    /// The names of the further Secrets.
    fn parts(&self) -> Option<Vec<String>> {
        let number: usize = self.annotation(PARTS)?.parse().ok()?;
        let content = self.annotation(CONTENT)?;
        Some((1..=number).map(|part| part_name(&self.name, content, part)).collect())
    }
}

fn part_name(first: &str, content: &str, part: usize) -> String {
    format!("{first}.{content}.{part}")
}

/// Ids as the engine makes them are names of objects; others are hashed.
fn name(id: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if id.len() <= 128 && id.bytes().all(plain) && !id.ends_with('-') && !id.is_empty() {
        format!("fleet-dead-letter-{id}")
    } else {
        format!("fleet-dead-letter.{}", hash(id.as_bytes()))
    }
}

fn what(id: &str) -> String {
    format!("dead letter {id}")
}

impl Letters {
    pub(super) fn new(objects: Objects, namespace: &str) -> Self {
        Self { objects, collection: format!("/api/v1/namespaces/{namespace}/secrets") }
    }

    fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.collection)
    }

    pub(super) async fn add(&self, letter: &DeadLetter) -> Result<(), StoreError> {
        let deadline = deadline();
        let what = what(&letter.id);
        let failed = |failure| failed(&what, failure);
        // The bytes apart from the rest, so that `kubectl get -o jsonpath={.data.raw} | base64 -d` gives them.
        let about = DeadLetter { raw: Bytes::new(), ..letter.clone() };
        let about = serde_json::to_vec(&about).map_err(|error| StoreError::Corrupt(error.to_string()))?;
        let content = hash(&[about.as_slice(), &letter.raw].concat());
        let first = name(&letter.id);
        let pieces = pieces(&about, &letter.raw);
        let parts = pieces.len().saturating_sub(1);
        let secret = |metadata: Value, (about, raw): &(&[u8], &[u8])| {
            json!({
                "apiVersion": "v1",
                "kind": "Secret",
                "type": SECRET_TYPE,
                "metadata": metadata,
                "data": {"letter": STANDARD.encode(about), "raw": STANDARD.encode(raw)},
            })
        };
        for (part, piece) in pieces.iter().enumerate().skip(1) {
            let name = part_name(&first, &content, part);
            let object = secret(json!({"name": name, "labels": {(HOLDS): PART}}), piece);
            match self.objects.send(Method::POST, &self.collection, &object, deadline).await {
                // The same bytes, by the name: of an earlier attempt.
                Ok(()) | Err(Failure::AlreadyExists) => {}
                Err(failure) => return Err(failed(failure)),
            }
        }
        let annotations = json!({(ID): letter.id, (PARTS): parts.to_string(), (CONTENT): content});
        let Some(piece) = pieces.first() else { return Ok(()) };
        let whole = |version: Option<&str>| {
            let labels = json!({(HOLDS): LETTER});
            let metadata = json!({"name": first, "labels": labels, "annotations": annotations, "resourceVersion": version});
            secret(metadata, piece)
        };
        loop {
            match self.objects.send(Method::POST, &self.collection, &whole(None), deadline).await {
                Err(Failure::AlreadyExists) => {}
                sent => return sent.map_err(failed),
            }
            let path = self.path(&first);
            let Some(before) = self.objects.get::<Secret>(&path, deadline).await.map_err(failed)? else {
                continue;
            };
            let object = whole(Some(&before.metadata.resource_version));
            match self.objects.send(Method::PUT, &path, &object, deadline).await {
                Ok(()) if before.metadata.annotation(CONTENT) == Some(content.as_str()) => return Ok(()),
                Ok(()) => return self.remove_parts(&before.metadata, deadline).await.map_err(failed),
                Err(Failure::Conflict { .. } | Failure::NotFound { .. } | Failure::UidMismatch) => {}
                Err(failure) => return Err(failed(failure)),
            }
        }
    }

    pub(super) async fn get(&self, id: &str) -> Result<Option<Arc<DeadLetter>>, StoreError> {
        self.read(id, deadline()).await
    }

    async fn read(&self, id: &str, deadline: Instant) -> Result<Option<Arc<DeadLetter>>, StoreError> {
        let what = what(id);
        let failed = |failure| failed(&what, failure);
        let corrupt = |why: &str| StoreError::Corrupt(format!("{what}: {why}; delete its Secret"));
        let path = self.path(&name(id));
        loop {
            let Some(first) = self.objects.get::<Secret>(&path, deadline).await.map_err(failed)? else {
                return Ok(None);
            };
            let names = first.metadata.parts().ok_or_else(|| corrupt("its annotations were edited"))?;
            let mut parts = Vec::with_capacity(names.len());
            for name in &names {
                parts.push(self.objects.get::<Secret>(&self.path(name), deadline).await.map_err(failed)?);
            }
            if parts.iter().any(Option::is_none) {
                let now = self.objects.get::<Secret>(&path, deadline).await.map_err(failed)?;
                if now.is_some_and(|now| now.metadata.resource_version == first.metadata.resource_version) {
                    return Err(corrupt("one of the Secrets it consists of is missing"));
                }
                // It was replaced or removed meanwhile.
                continue;
            }
            let (mut about, mut raw) = (Vec::new(), Vec::new());
            for secret in std::iter::once(first).chain(parts.into_iter().flatten()) {
                for (key, bytes) in [("letter", &mut about), ("raw", &mut raw)] {
                    let text = secret.data.get(key).map_or("", String::as_str);
                    STANDARD.decode_vec(text, bytes).map_err(|_| corrupt("its data is not base64"))?;
                }
            }
            let letter: DeadLetter =
                serde_json::from_slice(&about).map_err(|_| corrupt("it is not as the operator wrote it"))?;
            return Ok(Some(Arc::new(DeadLetter { raw: raw.into(), ..letter })));
        }
    }

    pub(super) async fn list(
        &self,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Arc<DeadLetter>>, StoreError> {
        let deadline = deadline();
        let mut ids = self.ids(deadline).await.map_err(|failure| failed("dead letters", failure))?;
        ids.retain(|id| after.is_none_or(|after| id.as_str() > after));
        ids.sort_unstable();
        ids.truncate(limit);
        let letters = ids.into_iter().map(|id| async move { self.read(&id, deadline).await });
        let letters: Vec<Option<Arc<DeadLetter>>> =
            futures::stream::iter(letters).buffered(AT_ONCE).try_collect().await?;
        Ok(letters.into_iter().flatten().collect())
    }

    async fn ids(&self, deadline: Instant) -> Result<Vec<String>, Failure> {
        let mut ids = Vec::new();
        let mut next = String::new();
        loop {
            let mut path = format!("{}?labelSelector={HOLDS}%3D{LETTER}&limit={PAGE}", self.collection);
            if !next.is_empty() {
                path.push_str(&format!("&continue={}", utf8_percent_encode(&next, NON_ALPHANUMERIC)));
            }
            let call = Call { accept: METADATA_LIST, ..Call::get(path) };
            let answer = self.objects.client().call(call, deadline).await?;
            let list: List = serde_json::from_slice(&answer).map_err(|_| Failure::NoAnswer {
                reason: "the answer is not what an API server answers".to_owned(),
            })?;
            ids.extend(list.items.into_iter().filter_map(|mut item| item.metadata.annotations.remove(ID)));
            if list.metadata.next.is_empty() {
                return Ok(ids);
            }
            next = list.metadata.next;
        }
    }

    pub(super) async fn remove(&self, id: &str) -> Result<bool, StoreError> {
        let deadline = deadline();
        let what = what(id);
        let failed = |failure| failed(&what, failure);
        let path = self.path(&name(id));
        let Some(first) = self.objects.get::<Secret>(&path, deadline).await.map_err(failed)? else {
            return Ok(false);
        };
        match self.objects.delete(&path, &first.metadata.uid, None, deadline).await {
            Ok(()) => {}
            Err(Failure::NotFound { .. }) => return Ok(false),
            Err(failure) => return Err(failed(failure)),
        }
        self.remove_parts(&first.metadata, deadline).await.map_err(failed)?;
        Ok(true)
    }

    async fn remove_parts(&self, first: &Metadata, deadline: Instant) -> Result<(), Failure> {
        for name in first.parts().unwrap_or_default() {
            let call = Call { method: Method::DELETE, ..Call::get(self.path(&name)) };
            match self.objects.client().call(call, deadline).await {
                Ok(_) | Err(Failure::NotFound { .. }) => {}
                Err(failure) => return Err(failure),
            }
        }
        Ok(())
    }
}

/// Cuts a letter into what Secrets hold: first all that is known of it, then its bytes.
fn pieces<'a>(mut about: &'a [u8], mut raw: &'a [u8]) -> Vec<(&'a [u8], &'a [u8])> {
    let mut pieces = Vec::new();
    while pieces.is_empty() || !about.is_empty() || !raw.is_empty() {
        let (of_about, left) = about.split_at(about.len().min(LARGEST));
        about = left;
        let (of_raw, left) = raw.split_at(raw.len().min(LARGEST.saturating_sub(of_about.len())));
        raw = left;
        pieces.push((of_about, of_raw));
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_fit_and_make_up_the_whole() {
        let about = vec![1; LARGEST + 10];
        let raw = vec![2; 2 * LARGEST];
        for (about, raw, number) in
            [(&about[..5], &raw[..0], 1), (&about[..5], &raw[..LARGEST], 2), (&about, &raw, 4)]
        {
            let pieces = pieces(about, raw);
            assert_eq!(pieces.len(), number);
            assert!(pieces.iter().all(|(about, raw)| about.len() + raw.len() <= LARGEST));
            assert_eq!(pieces.iter().flat_map(|(about, _)| *about).copied().collect::<Vec<u8>>(), about);
            assert_eq!(pieces.iter().flat_map(|(_, raw)| *raw).copied().collect::<Vec<u8>>(), raw);
        }
    }

    #[test]
    fn names_are_told_apart() {
        assert_eq!(
            name("0000000000001-0123456789abcdef0123"),
            "fleet-dead-letter-0000000000001-0123456789abcdef0123"
        );
        let names: std::collections::BTreeSet<_> =
            ["", "a", "A", "a-", "a.b", &"a".repeat(300)].into_iter().map(name).collect();
        assert_eq!(names.len(), 6);
        assert!(names.iter().all(|name| name.len() <= 200));
    }
}
