//! The minijinja renderer, from template text to manifests.

#![cfg(feature = "minijinja")]

mod hostile;
mod rules;
mod setting;
