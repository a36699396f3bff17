//! One cluster's probe: makes the connection, and sees whether the API server answers.

use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;

use fleet_core::cluster::ClusterId;
use fleet_core::manifest::Gvk;
use jiff::Timestamp;
use serde::Deserialize;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};

use super::{Health, Link, Shared};
use crate::client::{Call, ClusterClient, Failure, spread};
use crate::connection::Connection;
use crate::kubeconfig;

/// How often clusters are probed. Each wait varies by a fifth, so that clusters do not move in step.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Between two probes of a cluster that answers. Also keeps one connection warm.
    pub healthy: Duration,
    /// After the first failure; doubles with each further one, up to `healthy`.
    pub failing: Duration,
    /// How long a probe may take.
    pub deadline: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            healthy: Duration::from_secs(30),
            failing: Duration::from_secs(1),
            deadline: Duration::from_secs(5),
        }
    }
}

pub(super) struct Probe {
    registry: Weak<Shared>,
    id: ClusterId,
    incarnation: u64,
    source: Connection,
    permits: Arc<Semaphore>,
    pace: Pace,
    link: Option<Arc<Link>>,
    /// The kubeconfig file that the connection was made from.
    file: Option<Vec<u8>>,
}

impl Probe {
    pub(super) fn new(
        registry: Weak<Shared>,
        id: ClusterId,
        incarnation: u64,
        source: Connection,
        permits: Arc<Semaphore>,
        pace: Pace,
    ) -> Self {
        Self { registry, id, incarnation, source, permits, pace, link: None, file: None }
    }

    pub(super) async fn run(mut self) {
        let mut failures = 0_u32;
        loop {
            let health = {
                let Ok(_permit) = Arc::clone(&self.permits).acquire_owned().await else {
                    return;
                };
                self.probe().await
            };
            failures = if health.ready { 0 } else { failures.saturating_add(1) };
            match self.registry.upgrade() {
                Some(registry) => registry.report(&self.id, self.incarnation, self.link.as_ref(), health),
                None => return,
            }
            let wait = self.pause(failures);
            match &self.link {
                // A doubt shortens the wait, but never below the shortest.
                Some(link) if failures == 0 => {
                    sleep(self.pace.failing.min(wait)).await;
                    tokio::select! {
                        () = sleep(wait.saturating_sub(self.pace.failing)) => {}
                        () = link.doubted() => {}
                    }
                }
                _ => sleep(wait).await,
            }
        }
    }

    fn pause(&self, failures: u32) -> Duration {
        let Pace { healthy, failing, .. } = self.pace;
        let base = match failures.checked_sub(1) {
            None => healthy,
            Some(doublings) => failing.saturating_mul(1 << doublings.min(16)).min(healthy),
        };
        spread(base)
    }

    async fn probe(&mut self) -> Health {
        let link = match self.connected().await {
            Ok(link) => link,
            Err(message) => {
                self.link = None;
                return Health { ready: false, version: None, reason: "KubeconfigInvalid", message };
            }
        };
        let health = ask(&link, Instant::now() + self.pace.deadline).await;
        let renew = matches!(health.reason, "Unauthorized")
            || (!health.ready && !matches!(self.source, Connection::KubeconfigSecret { .. }));
        self.link = Some(link);
        if renew {
            // Credentials expire and files change: next time all is read anew. Until then the old one serves.
            self.file = None;
        }
        health
    }

    /// The connection there is, or a new one if there is none or its source changed.
    async fn connected(&mut self) -> Result<Arc<Link>, String> {
        let file = match &self.source {
            Connection::KubeconfigFile(path) => Some(read(path).await?),
            _ => Some(Vec::new()),
        };
        if let Some(link) = &self.link
            && self.file == file
        {
            return Ok(Arc::clone(link));
        }
        let source = self.source.clone();
        let connecting = tokio::task::spawn_blocking(move || connect(&source));
        let client = connecting.await.map_err(|_| "the connection could not be made".to_owned())??;
        self.file = file;
        let link = Arc::new(Link::new(client));
        self.link = Some(Arc::clone(&link));
        Ok(link)
    }
}

async fn read(path: &Path) -> Result<Vec<u8>, String> {
    let owned = path.to_owned();
    match tokio::task::spawn_blocking(move || std::fs::read(owned)).await {
        Ok(Ok(content)) => Ok(content),
        Ok(Err(error)) => Err(format!("{}: the kubeconfig cannot be read: {error}", path.display())),
        Err(_) => Err(format!("{}: the kubeconfig cannot be read", path.display())),
    }
}

/// Blocks: files are read, and the kubeconfig of a file may run its credential plugin.
fn connect(source: &Connection) -> Result<ClusterClient, String> {
    let now = Timestamp::now();
    let (origin, config) = match source {
        Connection::KubeconfigSecret { kubeconfig: Err(why), .. } => return Err(why.clone()),
        Connection::KubeconfigSecret { name, kubeconfig: Ok(text) } => {
            (name.clone(), kubeconfig::from_secret(name, text, now).map_err(|error| error.to_string())?)
        }
        Connection::KubeconfigFile(path) => {
            (path.display().to_string(), kubeconfig::from_file(path, now).map_err(|error| error.to_string())?)
        }
        Connection::InCluster => {
            let config = kube::Config::incluster().map_err(|error| {
                format!("this does not run in a cluster: {}", crate::client::chain(&error))
            })?;
            ("the service account".to_owned(), config)
        }
        Connection::Management(client) => return Ok(client.clone()),
        Connection::Directory => return Err("a folder has no API server".to_owned()),
        Connection::Agent => return Err("an agent acts in it, and nobody from here".to_owned()),
    };
    ClusterClient::new(config).map_err(|error| format!("{origin}: {error}"))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Version {
    git_version: String,
}

async fn ask(link: &Link, deadline: Instant) -> Health {
    let version = match link.client.call(Call::get("/version"), deadline).await {
        Ok(body) => match serde_json::from_slice::<Version>(&body) {
            Ok(version) => version.git_version,
            Err(_) => {
                return unready(
                    "NotAnApiServer",
                    "what answers at the cluster's address is no API server".to_owned(),
                );
            }
        },
        Err(failure) => return failed(failure, &link.client),
    };
    let health = match link.client.call(Call::get("/readyz"), deadline).await {
        // Not everybody may ask; then the version is all there is to go by.
        Ok(_) | Err(Failure::Forbidden { .. } | Failure::NoSuchPath | Failure::NotFound { .. }) => Health {
            ready: true,
            version: None,
            reason: "Connected",
            message: "the API server answers".to_owned(),
        },
        Err(Failure::NoAnswer { .. }) => unready(
            "NotReady",
            "the API server says that it is not ready (see its /readyz?verbose)".to_owned(),
        ),
        Err(failure) => failed(failure, &link.client),
    };
    // The first event should find the common kinds known.
    let namespace = Gvk { group: "".into(), version: "v1".into(), kind: "Namespace".into() };
    let _ = link.kinds.find(&link.client, &namespace, deadline).await;
    Health { version: Some(version), ..health }
}

fn unready(reason: &'static str, message: String) -> Health {
    Health { ready: false, version: None, reason, message }
}

fn failed(failure: Failure, client: &ClusterClient) -> Health {
    match failure {
        Failure::Unauthorized => unready(
            "Unauthorized",
            "the API server does not accept the kubeconfig's credentials; renew them".to_owned(),
        ),
        Failure::Forbidden { .. } => unready(
            "Forbidden",
            "the kubeconfig's user may not even read /version; grant it access".to_owned(),
        ),
        Failure::Unreachable { reason } => {
            let url = client.url();
            unready(
                "Unreachable",
                format!(
                    "the API server cannot be reached at {url}: {reason}; it is tried again; check that it runs, and the \
                     address in the kubeconfig"
                ),
            )
        }
        Failure::NoAnswer { reason } | Failure::NotTried { reason } | Failure::Throttled { reason, .. } => {
            unready("NoAnswer", reason)
        }
        Failure::NoSuchPath | Failure::NotFound { .. } => {
            unready("NotAnApiServer", "what answers at the cluster's address is no API server".to_owned())
        }
        other => unready("Failed", format!("the API server could not be asked for its version: {other:?}")),
    }
}
