//! Conformance suites: what every implementation of a trait has to keep to, ours and yours (feature `testing`).
//!
//! A suite panics with the name of the contract that was broken.

// A suite says what it found by panicking, as tests do.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod work_store;

pub use self::work_store::work_store;
