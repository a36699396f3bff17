#![doc = include_str!("../README.md")]

mod certificate;
mod cluster;
mod error;
mod etcd;
mod go;
mod http;
pub mod install;
mod keeper;
mod kubeconfig;
mod leftover;
mod nats;
mod port;
mod private;
mod process;
mod program;
mod progress;
mod proxy;
mod server;

pub use cluster::{Cluster, ClusterOptions};
pub use error::{LabError, Result};
pub use etcd::Etcd;
pub use kubeconfig::{Route, User};
pub use nats::{Nats, NatsAccess, NatsAuth, NatsOptions, NatsTls};
pub use program::Program;
pub use progress::Progress;
pub use proxy::{Network, Proxy};
pub use server::Server;
