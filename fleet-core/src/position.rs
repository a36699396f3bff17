//! Positions: the order of deliveries, and what of it has been processed for good.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// One ordered feed: a JetStream stream read by one EventSource, or the operator that receives events which carry
/// no order of their own. Positions compare only within a domain.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Domain(Arc<str>);

impl Domain {
    /// A domain of this name.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self(name.into())
    }

    /// The domain of events that the operator itself puts in order, at acceptance.
    pub fn operator() -> Self {
        Self::new("operator")
    }

    /// Its name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A place in a domain. A later epoch is above everything in an earlier one: the feed was begun anew.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Position {
    /// The feed this is a place in.
    pub domain: Domain,
    /// Which life of the feed.
    pub epoch: u64,
    /// The place in that life, counted from 1. As a floor, 0 means: nothing yet.
    pub sequence: u64,
}

impl Position {
    /// Whether this place comes after `other`, or lies in another domain, where there is no order between the two.
    pub fn is_above(&self, other: &Position) -> bool {
        self.domain != other.domain || (self.epoch, self.sequence) > (other.epoch, other.sequence)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}.{}", self.domain.as_str(), self.epoch, self.sequence)
    }
}

/// The highest position of each domain that a key has seen. There are few domains, so it is a short list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Positions(Vec<Position>);

impl Positions {
    /// Whether `position` comes after all that was seen in its domain.
    pub fn admits(&self, position: &Position) -> bool {
        self.0.iter().all(|seen| position.is_above(seen))
    }

    /// Remembers `position`, unless something above it in its domain is remembered already.
    pub fn record(&mut self, position: Position) {
        match self.0.iter_mut().find(|seen| seen.domain == position.domain) {
            Some(seen) if position.is_above(seen) => *seen = position,
            Some(_) => {}
            None => self.0.push(position),
        }
    }

    /// The highest position seen in a domain.
    pub fn in_domain(&self, domain: &Domain) -> Option<&Position> {
        self.0.iter().find(|seen| seen.domain == *domain)
    }

    /// All of them, one a domain.
    pub fn iter(&self) -> impl Iterator<Item = &Position> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(domain: &str, epoch: u64, sequence: u64) -> Position {
        Position { domain: Domain::new(domain), epoch, sequence }
    }

    #[test]
    fn later_sequences_and_later_epochs_are_above() {
        assert!(at("a", 1, 2).is_above(&at("a", 1, 1)));
        assert!(!at("a", 1, 1).is_above(&at("a", 1, 1)));
        assert!(at("a", 2, 1).is_above(&at("a", 1, 900)));
        assert!(at("b", 1, 1).is_above(&at("a", 9, 9)));
    }

    #[test]
    fn a_key_remembers_its_highest_position_per_domain() {
        let mut seen = Positions::default();
        seen.record(at("a", 1, 5));
        seen.record(at("a", 1, 3));
        seen.record(at("b", 1, 1));
        assert!(!seen.admits(&at("a", 1, 5)));
        assert!(seen.admits(&at("a", 1, 6)));
        assert!(!seen.admits(&at("b", 1, 1)));
        assert!(seen.admits(&at("c", 1, 1)));
    }
}
