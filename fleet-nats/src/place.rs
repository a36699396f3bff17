//! Which of the places in which an EventSource is read, where that is more than one.

use fleet_core::cluster::ClusterId;

/// The NATS inside one cluster, of an EventSource that reads that of many: a [feed] of its own, and what comes from there
/// comes from that cluster.
///
/// [feed]: fleet_core::source::EventSource::feed
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The name of the feed. It stays the same over restarts, for floors are kept under it.
    pub feed: String,
    /// The cluster.
    pub origin: ClusterId,
}
