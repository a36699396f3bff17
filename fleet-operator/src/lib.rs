//! The reference operator: composes the engine with folders or Kubernetes, HTTP, NATS and the embedded database.

pub mod control;
pub mod http;
pub mod show;
