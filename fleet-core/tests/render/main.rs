//! The renderers, from template text to manifests: minijinja's, and in `go` the one of Go templates.

#![cfg(feature = "minijinja")]
// A test that meets the unexpected says so loudly and stops, in its helpers too.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod conformance;
#[cfg(feature = "go-templates")]
mod go;
mod hostile;
mod positions;
mod refusals;
mod rules;
mod setting;
