//! What `show` shows: rows, gathered from a store and from what a running operator knows besides.

mod addons;
mod dead_letters;
mod rows;

pub use self::addons::{addons, remains, tallies};
pub use self::dead_letters::{dead_letter, dead_letters, stalled};
pub use self::rows::{
    AddonRow, ClusterRow, DeadLetterDetail, DeadLetterKind, DeadLetterRow, HandledRow, Original, SourceRow,
    StalledIn, Tally, TriggerRow,
};
