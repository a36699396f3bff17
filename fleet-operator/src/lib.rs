//! The reference operator: composes the engine with folders or Kubernetes, HTTP, NATS and the embedded database.

pub mod cli;
pub mod control;
pub mod convert;
pub mod folder;
pub mod http;
pub mod manifests;
pub mod render;
pub mod run;
pub mod show;
