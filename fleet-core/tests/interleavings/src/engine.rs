//! The parts, and the models that need to see into them.

mod config {
    pub use fleet_core::engine::Backoff;
}
#[path = "../../../src/engine/lane.rs"]
mod lane;
#[path = "../../../src/engine/queue.rs"]
mod queue;
#[path = "../../../src/engine/schedule.rs"]
mod schedule;
#[path = "../../../src/engine/turns.rs"]
mod turns;

pub mod lanes;
pub mod order;
