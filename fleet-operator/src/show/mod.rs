//! What `show` shows: rows, gathered from a store and from what a running operator knows besides.

mod addons;
mod dead_letters;
mod rows;

pub use self::addons::{addons, tallies};
pub use self::dead_letters::dead_letters;
pub use self::rows::{AddonRow, ClusterRow, DeadLetterRow, SourceRow, Tally, TriggerRow};
