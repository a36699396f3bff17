//! An agent's sign of life: a Lease at the hub that it renews, with a word on how it is.

use std::time::Duration;

use fleet_core::cluster::ClusterId;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::lease_path;
use crate::client::{Call, ClusterClient, FIELD_MANAGER, Failure};

/// How long one request may take.
const DEADLINE: Duration = Duration::from_secs(5);
/// How long a message may be, in characters.
const MESSAGE: usize = 1024;

pub(super) const DIGEST: &str = "fleet-events.dev/digest";
pub(super) const VERSION: &str = "fleet-events.dev/kubernetes-version";
pub(super) const MESSAGE_KEY: &str = "fleet-events.dev/message";
pub(super) const NOTES: &str = "fleet-events.dev/notes";
pub(super) const WITHDRAWN: &str = "fleet-events.dev/withdrawn";

/// What an agent says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heartbeat {
    /// Who it is, of use to a person: its pod's name.
    pub holder: String,
    /// The digest of the definitions that are in force.
    pub digest: Option<String>,
    /// The version of its cluster's API server.
    pub version: Option<String>,
    /// What is the matter, if anything is. No secrets.
    pub message: Option<String>,
    /// What else people should know: EventSources that cannot be read. No secrets.
    pub notes: Vec<String>,
    /// Its Cluster is being taken out, and nothing is left in it.
    pub withdrawn: bool,
}

impl Heartbeat {
    fn patch(&self, every: Duration, now: Timestamp) -> Value {
        let cut = |text: &String| text.chars().take(MESSAGE).collect::<String>();
        let message = self.message.as_ref().map(cut);
        let notes = (!self.notes.is_empty()).then(|| cut(&self.notes.join("; ")));
        // In a merge, null takes away.
        json!({
            "metadata": {"annotations": {
                (DIGEST): self.digest,
                (VERSION): self.version,
                (MESSAGE_KEY): message,
                (NOTES): notes,
                (WITHDRAWN): self.withdrawn.then_some("true"),
            }},
            "spec": {
                "holderIdentity": self.holder,
                "leaseDurationSeconds": every.as_secs().max(1),
                "renewTime": now.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string(),
            },
        })
    }
}

/// Renews the Lease of a cluster's agent for as long as it runs. The hub may be away: then it is tried again.
///
/// Cancel safe.
pub async fn heartbeat(
    id: ClusterId,
    hub: watch::Receiver<Option<ClusterClient>>,
    every: Duration,
    say: impl Fn() -> Heartbeat + Send,
) {
    let mut beats = interval(every);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut failing = false;
    loop {
        beats.tick().await;
        let Some(client) = hub.borrow().clone() else { continue };
        let call = Call {
            method: http::Method::PATCH,
            content_type: Some("application/merge-patch+json"),
            body: say().patch(every, Timestamp::now()).to_string().into(),
            ..Call::get(format!("{}?fieldManager={FIELD_MANAGER}", lease_path(&id)))
        };
        match client.call(call, Instant::now() + DEADLINE).await {
            Ok(_) => {
                if std::mem::take(&mut failing) {
                    tracing::info!("the hub hears of this agent again");
                }
            }
            Err(failure) => {
                let why = match failure {
                    Failure::NotFound { .. } => {
                        "there is no Lease for it; the operator there makes it once it knows the Cluster"
                            .to_owned()
                    }
                    failure => failure.to_string(),
                };
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!("the hub does not hear of this agent: {why}; it is tried again");
                }
            }
        }
    }
}
