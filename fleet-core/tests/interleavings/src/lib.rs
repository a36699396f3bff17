//! Parts of the engine that synchronise themselves, compiled from their own files, but with locks, channels and notifications
//! of [Shuttle](https://docs.rs/shuttle): each model runs again and again, and each time threads take their steps in another
//! order. A thread that nobody wakes is found as a deadlock.

// The parts' own tests need the real tokio.
#![cfg(not(test))]
// A model that finds something stops; what a model does not need of a part is not dead.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]
#![allow(dead_code, unreachable_pub, missing_docs)]

mod cluster {
    pub use fleet_core::cluster::*;
}

/// What the parts need of a Work: that it has an id.
mod work {
    #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
    pub struct WorkId(pub usize);

    impl WorkId {
        pub(crate) fn shard(&self, shards: usize) -> usize {
            self.0 % shards
        }
    }

    /// No model has any.
    #[derive(Clone, Debug, PartialEq, Eq, Hash)]
    pub enum Local {}

    impl Local {
        pub fn id(&self) -> WorkId {
            match *self {}
        }
    }
}

#[path = "../../../src/memory/clusters.rs"]
mod memory;

pub mod clusters;
pub mod engine;
