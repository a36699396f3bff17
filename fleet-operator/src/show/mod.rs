//! What `show` and `explain` show: rows, gathered from a store and from what a running operator knows besides.

mod addons;
mod dead_letters;
mod dry_run;
mod events;
mod explain;
mod rows;
mod strays;
mod usage;

pub use self::addons::{add_mirrored, addons, applied_of, remains, tallies};
pub use self::dead_letters::{dead_letter, dead_letters, stalled};
pub use self::dry_run::dry_run;
pub use self::events::events;
pub use self::explain::{ClusterState, Sought, explain};
pub use self::rows::{
    AddonRow, ClusterRow, DeadLetterDetail, DeadLetterKind, DeadLetterRow, DryRunRow, EventRow,
    EventTriggerRow, ExplainedEvent, ExplainedWork, Explanation, HandledRow, Original, SourceRow, StalledIn,
    StrayRow, Tally, TriggerRow, UsageRow,
};
pub use self::strays::strays;
pub use self::usage::usage;
