//! Leading: of several operators on one management cluster one runs, the others wait.

use std::hash::{BuildHasher, Hasher, RandomState};

use fleet_kube::client::ClusterClient;
use fleet_kube::leader::{Election, Standing, Timing};
use tokio::sync::watch;

use super::StartError;

/// How an operator takes part in an election.
#[derive(Clone, Debug)]
pub struct LeaderElection {
    /// The Lease's name.
    pub lease: String,
    /// Its times.
    pub timing: Timing,
}

impl LeaderElection {
    pub(super) fn candidate(&self, client: ClusterClient, namespace: &str) -> Result<Election, StartError> {
        Ok(Election::new(client, namespace, &self.lease, &identity(), self.timing)?)
    }
}

/// This process's alone, and of use to a person: the pod's name, or the machine's.
fn identity() -> String {
    let machine = || std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let name = ["POD_NAME", "HOSTNAME"].into_iter().find_map(|name| std::env::var(name).ok());
    let name = name.or_else(machine).unwrap_or_default();
    let name = Some(name.trim()).filter(|name| !name.is_empty()).unwrap_or("fleet-operator").to_owned();
    // A new RandomState hashes with keys of its own.
    let chance = RandomState::new().build_hasher().finish();
    format!("{name}_{chance:016x}")
}

/// Why somebody who waits is not ready, in the words of `/readyz`.
pub(super) fn waiting(standing: &watch::Receiver<Standing>) -> String {
    match &*standing.borrow() {
        Standing::Unknown => "waiting to lead".to_owned(),
        Standing::Waiting { holder } if holder.is_empty() => "waiting to lead; nobody does now".to_owned(),
        Standing::Waiting { holder } => format!("waiting to lead; {holder} does now"),
        Standing::Trouble { reason } => format!("waiting to lead; the Lease cannot be had: {reason}"),
        Standing::Leading => "leading; the operator starts".to_owned(),
    }
}

/// Logs what keeps this from leading, or from staying the leader, when it changes.
pub(super) async fn log(lease: String, mut standing: watch::Receiver<Standing>) {
    loop {
        match &*standing.borrow_and_update() {
            Standing::Waiting { holder } if !holder.is_empty() => {
                tracing::info!("waiting to lead: {holder} holds Lease {lease}");
            }
            Standing::Trouble { reason } => tracing::warn!("Lease {lease}: {reason}"),
            _ => {}
        }
        if standing.changed().await.is_err() {
            return;
        }
    }
}
