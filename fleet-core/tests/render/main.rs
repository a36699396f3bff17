//! The minijinja renderer, from template text to manifests.

#![cfg(feature = "minijinja")]
// A test that meets the unexpected says so loudly and stops, in its helpers too.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod corpus;
mod hostile;
mod positions;
mod refusals;
mod rules;
mod setting;
