//! The ledger: every event of a history in the order of publishing, and what is known of each.

use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::json;

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Login,
    Logout,
    /// Its action is neither.
    Odd,
    /// It is no CloudEvent.
    Garbage,
}

/// One event.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) kind: Kind,
    pub(crate) key: String,
    pub(crate) raw: Bytes,
    /// Nobody can ever get it (again): the stream lost it, or it never took it.
    pub(crate) lost: bool,
    /// It was given to an operator at least once.
    pub(crate) handed_out: bool,
    /// An operator said that it is durable, or will never be.
    pub(crate) settled: bool,
}

/// All events.
#[derive(Default)]
pub(crate) struct Ledger {
    entries: Mutex<Vec<Entry>>,
}

impl Ledger {
    /// Writes an event down; its number and its bytes.
    pub(crate) fn add(&self, kind: Kind, key: &str) -> (usize, Bytes) {
        let mut entries = self.entries.lock();
        let number = entries.len();
        let raw = match kind {
            Kind::Garbage => format!("garbage {number}"),
            _ => json!({
                "specversion": "1.0", "id": format!("e{number}"), "source": "auth", "subject": key,
                "type": format!("{kind:?}"),
            })
            .to_string(),
        };
        let raw = Bytes::from(raw);
        let key = key.to_owned();
        let entry = Entry { kind, key, raw: raw.clone(), lost: false, handed_out: false, settled: false };
        entries.push(entry);
        (number, raw)
    }

    pub(crate) fn name(&self, number: usize) -> String {
        let entries = self.entries.lock();
        let Entry { kind, key, .. } = &entries[number];
        format!("e{number} ({kind:?} {key})")
    }

    pub(crate) fn lost(&self, number: usize) {
        self.entries.lock()[number].lost = true;
    }

    pub(crate) fn handed_out(&self, number: usize) {
        self.entries.lock()[number].handed_out = true;
    }

    pub(crate) fn settled(&self, number: usize) {
        self.entries.lock()[number].settled = true;
    }

    pub(crate) fn entries(&self) -> Vec<Entry> {
        self.entries.lock().clone()
    }
}
