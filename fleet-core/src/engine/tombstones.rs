//! Tombstones: Works that are gone, kept because an older event of their key may still come again. A floor that passes
//! the last position of a key ends that.

use std::collections::{BTreeMap, BTreeSet};

use parking_lot::Mutex;

use crate::position::{Domain, Position};
use crate::work::{Work, WorkId};

/// Epoch, sequence, and whose.
type Place = (u64, u64, WorkId);

/// Which tombstones may go once a domain's floor passes a place.
#[derive(Debug, Default)]
pub(super) struct Tombstones {
    waiting: Mutex<BTreeMap<Domain, BTreeSet<Place>>>,
}

impl Tombstones {
    /// Remembers a tombstone, by its first position that a floor has to pass and has not, as far as `passed` knows.
    pub(super) fn add(&self, work: &Work, passed: impl Fn(&Position) -> bool) {
        let operator = Domain::operator();
        let waits = |position: &&Position| position.domain != operator && !passed(position);
        if let Some(position) = work.positions.iter().find(waits) {
            let entry = (position.epoch, position.sequence, work.id.clone());
            self.waiting.lock().entry(position.domain.clone()).or_default().insert(entry);
        }
    }

    /// Takes out those whose place is at or below a floor.
    pub(super) fn take_below(&self, floor: &Position) -> Vec<WorkId> {
        let mut waiting = self.waiting.lock();
        let Some(in_domain) = waiting.get_mut(&floor.domain) else {
            return Vec::new();
        };
        let mut passed = Vec::new();
        while let Some((epoch, sequence, _)) = in_domain.first() {
            if (*epoch, *sequence) > (floor.epoch, floor.sequence) {
                break;
            }
            passed.extend(in_domain.pop_first().map(|(_, _, id)| id));
        }
        passed
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.waiting.lock().values().map(BTreeSet::len).sum()
    }
}
