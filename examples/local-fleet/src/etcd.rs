//! etcd: the database under the API servers.

use std::path::Path;
use std::sync::Arc;

use crate::http::Endpoint;
use crate::port::{Ports, local};
use crate::server::{Recipe, Server};
use crate::{Program, Progress, Result, install};

/// One etcd member. Clones are the same one; it ends when the last clone, and the last [`Cluster`](crate::Cluster)
/// on it, is dropped.
///
/// Clusters that share an etcd freeze together when it is paused: a test that pauses it gives its cluster an etcd of
/// its own.
#[derive(Debug, Clone)]
pub struct Etcd {
    server: Arc<Server>,
}

impl Etcd {
    /// Starts etcd with its data in `dir/etcd`, and waits until it is ready.
    ///
    /// It does not wait for the disk (no fsync): what was written survives a kill, but not a power failure.
    ///
    /// # Errors
    /// If the program cannot be had, ends, or does not get ready in time.
    pub async fn start(dir: impl AsRef<Path>) -> Result<Self> {
        Etcd::start_named(dir, "etcd", &Progress::default()).await
    }

    /// As [`Etcd::start`], with its data in `dir/name`, telling its progress to `progress`.
    ///
    /// # Errors
    /// As [`Etcd::start`].
    pub async fn start_named(dir: impl AsRef<Path>, name: &str, progress: &Progress) -> Result<Self> {
        let program = install::find(Program::Etcd, progress).await?;
        let dir = dir.as_ref().join(name);
        let ports = Ports::of(&dir);
        let server = Server::start_new(name, &dir, |taken| {
            if taken {
                ports.forget("client");
            }
            let port = ports.remembered("client");
            let (program, dir) = (program.clone(), dir.clone());
            async move {
                let address = local(port?);
                let url = format!("http://{address}");
                // Nobody talks to the peer port of a single member: any port will do.
                let args = vec![
                    "--data-dir".into(),
                    dir.join("data").into(),
                    "--listen-client-urls".into(),
                    url.clone().into(),
                    "--advertise-client-urls".into(),
                    url.into(),
                    "--listen-peer-urls".into(),
                    "http://127.0.0.1:0".into(),
                    "--unsafe-no-fsync".into(),
                    "--log-level=warn".into(),
                    format!("--quota-backend-bytes={}", 8_u64 << 30).into(),
                ];
                Ok(Recipe {
                    program,
                    args,
                    address,
                    health: Endpoint { address, tls: None },
                    ready_path: "/readyz",
                })
            }
        })
        .await?;
        Ok(Etcd { server: Arc::new(server) })
    }

    /// Its process.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// Its address for clients, without TLS.
    pub fn url(&self) -> String {
        format!("http://{}", self.server.address())
    }
}
