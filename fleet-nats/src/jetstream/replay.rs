//! Replays: reading a stream again from its start, on purpose.
//!
//! Each replay has a domain and a durable consumer of its own, so neither positions nor floors nor acknowledgements of
//! earlier ones count. The number may only grow: an earlier replay is closed for good, by a floor above everything, so
//! that what was kept because of it (tombstones) can go, and its consumer is deleted if this source created it.

use fleet_core::position::{Domain, Position};
use fleet_core::source::SourceError;

/// The replay that a source is in, and those before it.
#[derive(Debug)]
pub(super) struct Replay {
    number: u64,
    base: String,
    /// Earlier ones that are not closed yet, ascending.
    earlier: Vec<u64>,
}

impl Replay {
    /// Finds among the floors of a feed which replays there were.
    pub(super) fn restore(
        feed: &str,
        stream: &str,
        number: u64,
        floors: &[Position],
    ) -> Result<Self, SourceError> {
        let mut replay = Self { number, base: format!("jetstream/{feed}/{stream}"), earlier: Vec::new() };
        for floor in floors {
            match replay.number_of(&floor.domain) {
                Some(seen) if seen > number => {
                    return Err(SourceError {
                        reason: format!(
                            "replay is {number}, but stream {stream} was read with replay {seen} before; replay may only grow: set it to {seen} to read on, or to {} to have everything delivered again",
                            seen.saturating_add(1)
                        ),
                    });
                }
                Some(seen) if seen < number && *floor != end_of(floor.domain.clone()) => {
                    replay.earlier.push(seen);
                }
                _ => {}
            }
        }
        replay.earlier.sort_unstable();
        replay.earlier.dedup();
        Ok(replay)
    }

    /// The domain of this replay's positions.
    pub(super) fn domain(&self) -> Domain {
        self.domain_of(self.number)
    }

    /// The domain in which this replay's newest message is kept.
    pub(super) fn witness_domain(&self) -> Domain {
        witness_of(&self.domain())
    }

    /// What says, once it is stored, that this replay has begun: then a lower one is refused, also if nothing was read.
    pub(super) fn begun(&self) -> Option<Position> {
        (self.number > 0).then(|| Position { domain: self.domain(), epoch: 0, sequence: 0 })
    }

    /// Earlier replays that are not closed, ascending.
    pub(super) fn earlier(&self) -> &[u64] {
        &self.earlier
    }

    /// Closes the earlier replays: the floors that say so.
    pub(super) fn close(&mut self) -> Vec<Position> {
        let closed = std::mem::take(&mut self.earlier);
        closed
            .into_iter()
            .flat_map(|number| {
                let domain = self.domain_of(number);
                [end_of(witness_of(&domain)), end_of(domain)]
            })
            .collect()
    }

    fn domain_of(&self, number: u64) -> Domain {
        match number {
            0 => Domain::new(self.base.as_str()),
            // No name of a stream holds a slash.
            number => Domain::new(format!("{}/replay-{number}", self.base)),
        }
    }

    fn number_of(&self, domain: &Domain) -> Option<u64> {
        let rest = domain.as_str().strip_prefix(&self.base)?;
        let rest = rest.strip_suffix(NEWEST).unwrap_or(rest);
        if rest.is_empty() { Some(0) } else { rest.strip_prefix("/replay-")?.parse().ok() }
    }
}

const NEWEST: &str = "/newest";

fn witness_of(domain: &Domain) -> Domain {
    Domain::new(format!("{}{NEWEST}", domain.as_str()))
}

/// Above everything in a domain.
fn end_of(domain: Domain) -> Position {
    Position { domain, epoch: u64::MAX, sequence: u64::MAX }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn restore(number: u64, floors: &[Position]) -> Result<Replay, SourceError> {
        Replay::restore("s", "EVENTS", number, floors)
    }

    fn at(domain: &str, epoch: u64, sequence: u64) -> Position {
        Position { domain: Domain::new(domain), epoch, sequence }
    }

    #[test]
    fn earlier_replays_are_closed_once() {
        let first = restore(0, &[]).unwrap();
        assert_eq!((first.domain().as_str(), first.begun()), ("jetstream/s/EVENTS", None));
        let floors = [
            at("jetstream/s/EVENTS", 5, 7),
            at("jetstream/s/EVENTS/newest", 5, 9),
            at("jetstream/s/EVENTS/replay-2/newest", 6, 1),
            at("jetstream/s/OTHER/replay-9", 6, 1),
        ];
        let mut third = restore(3, &floors).unwrap();
        assert_eq!(third.domain().as_str(), "jetstream/s/EVENTS/replay-3");
        assert_eq!(third.earlier(), [0, 2]);
        let closed = third.close();
        let end = |domain: &str| at(domain, u64::MAX, u64::MAX);
        assert_eq!(
            closed,
            [
                end("jetstream/s/EVENTS/newest"),
                end("jetstream/s/EVENTS"),
                end("jetstream/s/EVENTS/replay-2/newest"),
                end("jetstream/s/EVENTS/replay-2"),
            ]
        );
        assert!(third.close().is_empty());
        assert!(restore(3, &closed).unwrap().earlier().is_empty());
    }

    #[test]
    fn a_replay_may_only_grow() {
        let begun = restore(2, &[]).unwrap().begun().unwrap();
        assert!(restore(2, std::slice::from_ref(&begun)).is_ok());
        let lowered = restore(1, std::slice::from_ref(&begun)).unwrap_err().reason;
        assert!(lowered.contains("replay may only grow: set it to 2"), "{lowered}");
        assert!(restore(0, &[begun]).is_err());
    }
}
