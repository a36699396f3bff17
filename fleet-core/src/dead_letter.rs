//! Dead letters: deliveries that never became Work, and where they are kept.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::cluster::ClusterId;
use crate::position::Position;
use crate::source::Message;
use crate::store::{StoreError, WorkStore};

/// Keeps dead letters: the operator's own store, or wherever an EventSource says.
///
/// # Contract
/// * When [`add`](Self::add) returns `Ok`, the letter survives whatever the place promises to survive: only then is the
///   delivery terminated. A letter with the same id is replaced: the same delivery was refused again.
/// * The original bytes and headers come back as they were, byte for byte.
/// * An error is [`StoreError::Unavailable`] where trying again may help.
/// * Cancelled, a call may or may not have had its effect.
#[cfg_attr(any(test, feature = "testing"), mockall::automock)]
#[async_trait]
pub trait DeadLetterBox: Send + Sync + 'static {
    /// Keeps a letter.
    async fn add(&self, letter: Arc<DeadLetter>) -> Result<(), StoreError>;

    /// One letter.
    async fn get(&self, id: &str) -> Result<Option<Arc<DeadLetter>>, StoreError>;

    /// A page of letters in the order of their ids (that is, of time), after an id.
    async fn list<'a>(
        &self,
        after: Option<&'a str>,
        limit: usize,
    ) -> Result<Vec<Arc<DeadLetter>>, StoreError>;

    /// Drops a letter; whether there was one.
    async fn remove(&self, id: &str) -> Result<bool, StoreError>;
}

/// The dead letters that a WorkStore keeps.
#[derive(Clone)]
pub struct InStore(Arc<dyn WorkStore>);

impl InStore {
    /// Those of this store.
    pub fn of(store: Arc<dyn WorkStore>) -> Self {
        Self(store)
    }
}

impl std::fmt::Debug for InStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("InStore")
    }
}

#[async_trait]
impl DeadLetterBox for InStore {
    async fn add(&self, letter: Arc<DeadLetter>) -> Result<(), StoreError> {
        self.0.add_dead_letter(letter).await
    }

    async fn get(&self, id: &str) -> Result<Option<Arc<DeadLetter>>, StoreError> {
        self.0.dead_letter(id).await
    }

    async fn list<'a>(
        &self,
        after: Option<&'a str>,
        limit: usize,
    ) -> Result<Vec<Arc<DeadLetter>>, StoreError> {
        self.0.dead_letters(after, limit).await
    }

    async fn remove(&self, id: &str) -> Result<bool, StoreError> {
        self.0.drop_dead_letter(id).await
    }
}

/// A delivery that never became Work, with all that is needed to send it again.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeadLetter {
    /// Sorts by time; two letters never share it.
    pub id: String,
    /// The EventSource it came from.
    pub source: String,
    /// The trigger that refused it, unless it was refused before any trigger saw it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trigger: Option<String>,
    /// One CamelCase word: `NotACloudEvent`, `OriginMissing`, `KeyEmpty`, `ActionInvalid`, `TooLarge`.
    pub reason: String,
    /// What was wrong and what to do.
    pub detail: String,
    /// When it was refused.
    pub time: Timestamp,
    /// Its place in the source's feed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<Position>,
    /// The cluster it came from, where the source itself knew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<ClusterId>,
    /// Subject and headers.
    pub message: Message,
    /// The original bytes; base64 where the letter is written as text.
    #[serde(with = "base64_text")]
    pub raw: Bytes,
}

mod base64_text {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use bytes::Bytes;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map(Bytes::from).map_err(serde::de::Error::custom)
    }
}

/// Leaves out headers and bytes.
impl std::fmt::Debug for DeadLetter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeadLetter")
            .field("id", &self.id)
            .field("source", &self.source)
            .field("trigger", &self.trigger)
            .field("reason", &self.reason)
            .finish_non_exhaustive()
    }
}
