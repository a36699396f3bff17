//! Parts that live in memory: for tests, examples, and embedding where nothing has to survive a restart.

mod applier;
mod catalog;
mod clusters;
mod source;
mod store;

pub use applier::{MemoryApplier, MemoryObject};
pub use catalog::MemoryCatalog;
pub use clusters::MemoryClusters;
pub use source::MemorySource;
pub use store::MemoryStore;
