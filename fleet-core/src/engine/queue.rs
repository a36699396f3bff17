//! In which order Works of a lane have their turn, and how fast bulk work is brought in.

use std::collections::BTreeMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::work::WorkId;

/// So many Works that events ask for have their turn in a row while others wait; then one of those has its turn.
const IN_A_ROW: u32 = 15;
/// Bulk work comes in portions that are so far apart, at most.
const PORTION: Duration = Duration::from_millis(10);

/// Why a Work is to be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// An event, or something that was seen in the cluster.
    Event,
    /// One of many that are looked at again: after a change of definitions or clusters, or because they found no room.
    Sweep,
}

/// What waits for its turn: what events ask for goes first, and the other goes on all the same.
#[derive(Debug, Default)]
pub(super) struct Queue {
    events: BTreeMap<u64, WorkId>,
    sweeps: BTreeMap<u64, WorkId>,
    last: u64,
    in_a_row: u32,
}

impl Queue {
    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty() && self.sweeps.is_empty()
    }

    /// How many wait because of sweeps.
    pub(super) fn swept(&self) -> usize {
        self.sweeps.len()
    }

    /// Puts a Work at the end. Returns its number.
    pub(super) fn push(&mut self, work: WorkId, cause: Cause) -> u64 {
        self.last += 1;
        match cause {
            Cause::Event => self.events.insert(self.last, work),
            Cause::Sweep => self.sweeps.insert(self.last, work),
        };
        self.last
    }

    /// An event asks for a Work that a sweep brought. Returns its new number.
    pub(super) fn promote(&mut self, number: u64) -> Option<u64> {
        let work = self.sweeps.remove(&number)?;
        Some(self.push(work, Cause::Event))
    }

    pub(super) fn pop(&mut self) -> Option<WorkId> {
        let sweeps_first = self.events.is_empty() || self.in_a_row >= IN_A_ROW;
        if sweeps_first && let Some((_, work)) = self.sweeps.pop_first() {
            self.in_a_row = 0;
            return Some(work);
        }
        self.in_a_row = if self.sweeps.is_empty() { 0 } else { self.in_a_row + 1 };
        self.events.pop_first().map(|(_, work)| work)
    }
}

/// Bounds how fast sweeps bring in Works.
#[derive(Debug)]
pub(super) struct Pace {
    each: Duration,
    next: Mutex<Option<Instant>>,
}

impl Pace {
    pub(super) fn new(per_second: u32) -> Self {
        Self { each: Duration::from_secs(1) / per_second.max(1), next: Mutex::default() }
    }

    /// Waits until the next one may come.
    pub(super) async fn turn(&self) {
        let now = Instant::now();
        let at = {
            let mut next = self.next.lock();
            let at = next.map_or(now, |next| next.max(now));
            *next = Some(at + self.each);
            at
        };
        if at.duration_since(now) >= PORTION {
            tokio::time::sleep_until(at).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::work::EventKey;

    fn work(name: &str) -> WorkId {
        WorkId::new(name, &EventKey::All)
    }

    #[test]
    fn events_go_first_and_nothing_waits_for_good() {
        let mut queue = Queue::default();
        let promoted = queue.push(work("promoted"), Cause::Sweep);
        (0..3).for_each(|_| _ = queue.push(work("swept"), Cause::Sweep));
        (0..100).for_each(|_| _ = queue.push(work("event"), Cause::Event));
        queue.promote(promoted).unwrap();
        let order: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
        let places =
            |name| order.iter().enumerate().filter(move |(_, it)| **it == work(name)).map(|(place, _)| place);
        assert_eq!(places("swept").collect::<Vec<_>>(), [15, 31, 47]);
        assert_eq!(places("promoted").collect::<Vec<_>>(), [103]);
        assert!(queue.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn the_pace_is_kept_and_what_was_not_used_is_not_made_up_for() {
        let pace = Pace::new(1000);
        for _ in 0..2 {
            tokio::time::sleep(Duration::from_secs(60)).await;
            let began = Instant::now();
            for _ in 0..5000 {
                pace.turn().await;
            }
            let took = began.elapsed().as_millis();
            assert!((4900..=5100).contains(&took), "{took}");
        }
    }
}
