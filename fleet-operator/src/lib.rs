//! The reference operator: composes the engine with folders or Kubernetes, HTTP, NATS and the embedded database.
//!
//! It is a program first, `fleet-operator`; as a library it is there to be read, and to be started within tests:
//!
//! * [`run`] composes the parts. Everything that it uses, embedders can use too.
//! * [`cli`] is what the command line says, and [`show`], [`render`], [`convert`], [`manifests`] what it answers.
//! * [`folder`] reads definitions from files, [`http`] is an EventSource of its own.

pub mod cli;
pub mod control;
pub mod convert;
pub mod folder;
pub mod http;
pub mod manifests;
pub mod render;
pub mod run;
pub mod show;
