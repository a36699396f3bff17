#![doc = include_str!("../README.md")]

#[cfg(not(target_os = "linux"))]
compile_error!("local-fleet needs Linux: the kernel ends its servers together with it");

mod certificate;
mod cluster;
mod error;
mod etcd;
mod go;
mod http;
pub mod install;
mod keeper;
mod kubeconfig;
mod lab;
mod leftover;
mod nats;
mod port;
mod private;
mod process;
mod program;
mod progress;
mod proxy;
mod scratch;
mod server;

pub use certificate::{Authority, Pair};
pub use cluster::{Cluster, ClusterOptions};
pub use error::{LabError, Result};
pub use etcd::Etcd;
pub use kubeconfig::{Route, User};
pub use lab::{Lab, LabBuilder};
pub use nats::{Nats, NatsAccess, NatsAuth, NatsOptions, NatsTls};
pub use program::{Program, UnknownProgram};
pub use progress::Progress;
pub use proxy::{Network, Proxy};
pub use server::Server;
