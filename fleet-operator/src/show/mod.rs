//! What `show` and `explain` show: rows, gathered from a store and from what a running operator knows besides.

mod addons;
mod dead_letters;
mod explain;
mod rows;
mod strays;

pub use self::addons::{add_mirrored, addons, remains, tallies};
pub use self::dead_letters::{dead_letter, dead_letters, stalled};
pub use self::explain::{ClusterState, Sought, explain};
pub use self::rows::{
    AddonRow, ClusterRow, DeadLetterDetail, DeadLetterKind, DeadLetterRow, ExplainedEvent, ExplainedWork,
    Explanation, HandledRow, Original, SourceRow, StalledIn, StrayRow, Tally, TriggerRow,
};
pub use self::strays::strays;
