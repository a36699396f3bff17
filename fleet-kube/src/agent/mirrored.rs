//! What agents show of theirs, as the hub reads it.

use std::time::Duration;

use fleet_core::work::AppliedWork;
use serde::Deserialize;
use serde_json::Value;
use tokio::time::Instant;

use super::AGENT_LABEL;
use super::mirror::TRIGGER;
use crate::api::{GROUP, VERSION};
use crate::client::{Call, ClusterClient, Failure};
use crate::store::read_applied_object;

/// How long reading all of it may take.
const DEADLINE: Duration = Duration::from_secs(15);
const PAGE: usize = 500;

/// What agents have done, at the hub.
#[derive(Clone, Debug)]
pub struct Mirrored {
    client: ClusterClient,
}

/// What an agent has done for one Work.
#[derive(Clone, Debug)]
pub struct MirroredWork {
    /// The Work's trigger.
    pub trigger: String,
    /// What was done, as far as the hub was told.
    pub applied: AppliedWork,
}

impl Mirrored {
    /// Of the hub that a client talks to.
    pub fn new(client: ClusterClient) -> Self {
        Self { client }
    }

    /// All of it.
    ///
    /// # Errors
    /// When the hub's API server does not answer, or refuses.
    pub async fn list(&self) -> Result<Vec<MirroredWork>, Failure> {
        #[derive(Deserialize)]
        struct List {
            metadata: Value,
            items: Vec<Value>,
        }
        let deadline = Instant::now() + DEADLINE;
        let mut found = Vec::new();
        let mut more = String::new();
        loop {
            let path = format!(
                "/apis/{GROUP}/{VERSION}/appliedworks?limit={PAGE}&labelSelector={AGENT_LABEL}{more}"
            );
            let answer = self.client.call(Call::get(path), deadline).await?;
            let list: List = serde_json::from_slice(&answer)
                .map_err(|_| Failure::NoAnswer { reason: "the answer is no list".to_owned() })?;
            for mut item in list.items {
                let text = |pointer: &str| item.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
                let namespace = text("/metadata/namespace").unwrap_or_default();
                let annotations = item.pointer("/metadata/annotations");
                let trigger = annotations.and_then(|all| all.get(TRIGGER)).and_then(Value::as_str);
                let trigger = trigger.unwrap_or_default().to_owned();
                let spec = item.get_mut("spec").map(Value::take).unwrap_or_default();
                // Of other clusters an agent has nothing to say.
                match read_applied_object(spec) {
                    Some(applied) if applied.cluster.namespace() == namespace => {
                        found.push(MirroredWork { trigger, applied });
                    }
                    _ => tracing::debug!("an AppliedWork in {namespace} is not as an agent writes it"),
                }
            }
            match list.metadata.get("continue").and_then(Value::as_str).filter(|token| !token.is_empty()) {
                Some(token) => {
                    let token =
                        percent_encoding::utf8_percent_encode(token, percent_encoding::NON_ALPHANUMERIC);
                    more = format!("&continue={token}");
                }
                None => return Ok(found),
            }
        }
    }
}
