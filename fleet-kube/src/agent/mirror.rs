//! The mirror: what an agent has done in its cluster, shown at the hub.
//!
//! What is there and what should be are compared: all of it when the hub is reached (again) and from time to time, and what
//! changed since, each second. The hub may have been away for long: in the end it has what there is then.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use fleet_core::cluster::ClusterId;
use fleet_core::store::{Revision, WorkStore};
use fleet_core::work::{AppliedWork, WorkId};
use futures::StreamExt as _;
use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::bundle::digest;
use super::{AGENT_LABEL, label_value};
use crate::api::{GROUP, VERSION};
use crate::client::{Call, ClusterClient, Failure, Patience};
use crate::store::{applied_object_name, applied_object_spec};

/// Who writes at the hub.
const FIELD_MANAGER: &str = "fleet-agent";
/// How often is looked what changed.
const LOOK: Duration = Duration::from_secs(1);
/// How many AppliedWorks are written at most each time.
const MOST: usize = 100;
/// How many are written at the same time.
const WRITERS: usize = 4;
/// How many are read at a time.
const PAGE: usize = 256;
/// After what time everything is compared again.
const COMPARE: Duration = Duration::from_secs(600);
/// How long one request may take.
const DEADLINE: Duration = Duration::from_secs(10);

/// Which state of an AppliedWork a mirrored one shows.
const STATE: &str = "fleet-events.dev/state";
/// The trigger of its Work.
pub(super) const TRIGGER: &str = "fleet-events.dev/trigger";

/// Mirrors the AppliedWorks of an agent's store into its namespace at the hub, for as long as it runs. `owner` is the Cluster
/// there, as an owner reference: what is mirrored goes with it.
///
/// Cancel safe.
pub async fn mirror(
    store: Arc<dyn WorkStore>,
    id: ClusterId,
    mut hub: watch::Receiver<Option<ClusterClient>>,
    owner: impl Fn() -> Option<Value> + Send + Sync,
) {
    let mut patience = Patience::default();
    loop {
        let Some(client) = hub.borrow_and_update().clone() else {
            if hub.changed().await.is_err() {
                return;
            }
            continue;
        };
        let shown = Shown { client, id: &id, owner: &owner };
        if let Err(failure) = shown.follow(&*store).await {
            tracing::debug!("the hub cannot be shown what is here: {failure}; it is tried again");
            sleep(patience.next().unwrap_or(DEADLINE)).await;
        }
    }
}

/// What the hub shows of an agent.
struct Shown<'a> {
    client: ClusterClient,
    id: &'a ClusterId,
    owner: &'a (dyn Fn() -> Option<Value> + Send + Sync),
}

/// An AppliedWork here.
struct Here {
    name: String,
    applied: Arc<AppliedWork>,
    revision: Revision,
}

#[derive(Deserialize)]
struct List {
    metadata: ListMeta,
    items: Vec<Item>,
}

#[derive(Deserialize)]
struct ListMeta {
    #[serde(rename = "continue", default)]
    more: String,
}

#[derive(Deserialize)]
struct Item {
    metadata: Metadata,
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

impl Shown<'_> {
    /// Goes on until something fails, or everything is to be compared again.
    async fn follow(&self, store: &dyn WorkStore) -> Result<(), Failure> {
        let begun = Instant::now();
        let mut there = self.list().await?;
        while begun.elapsed() < COMPARE {
            self.bring_up_to_date(store, &mut there).await?;
            sleep(LOOK).await;
        }
        Ok(())
    }

    /// The names of all that is mirrored, and which state each shows.
    async fn list(&self) -> Result<BTreeMap<String, String>, Failure> {
        let mut found = BTreeMap::new();
        let mut more = String::new();
        loop {
            let token = match more.is_empty() {
                true => String::new(),
                false => format!(
                    "&continue={}",
                    percent_encoding::utf8_percent_encode(&more, percent_encoding::NON_ALPHANUMERIC)
                ),
            };
            let path = format!(
                "{}?limit={PAGE}&labelSelector={AGENT_LABEL}%3D{}{token}",
                self.collection(),
                label_value(self.id)
            );
            let answer = self.client.call(Call::get(path), Instant::now() + DEADLINE).await?;
            let list: List = serde_json::from_slice(&answer).map_err(|_| unreadable())?;
            found.extend(list.items.into_iter().map(|item| {
                let Metadata { name, mut annotations } = item.metadata;
                (name, annotations.remove(STATE).unwrap_or_default())
            }));
            more = list.metadata.more;
            if more.is_empty() {
                return Ok(found);
            }
        }
    }

    /// Writes what differs, as far as that goes at once.
    async fn bring_up_to_date(
        &self,
        store: &dyn WorkStore,
        there: &mut BTreeMap<String, String>,
    ) -> Result<(), Failure> {
        let mut gone: BTreeSet<String> = there.keys().cloned().collect();
        let mut differ = Vec::new();
        let mut after: Option<(WorkId, ClusterId)> = None;
        loop {
            let from = after.as_ref().map(|(work, cluster)| (work, cluster));
            let page = store.all_applied(from, PAGE).await.map_err(|error| Failure::NotTried {
                reason: format!("what is here cannot be read: {error}"),
            })?;
            let full = page.len() == PAGE;
            after = page.last().map(|last| (last.value.work.clone(), last.value.cluster.clone()));
            for stored in page {
                let name = applied_object_name(&stored.value.work, &stored.value.cluster);
                gone.remove(&name);
                let is_shown = there.get(&name).is_some_and(|state| *state == state_of(&stored.revision));
                if !is_shown && differ.len() < MOST {
                    differ.push(Here { name, applied: stored.value, revision: stored.revision });
                }
            }
            if !full {
                break;
            }
        }
        let writes = differ.into_iter().map(|here| async move {
            self.write(store, &here).await.map(|()| (here.name, Some(state_of(&here.revision))))
        });
        let removals = gone
            .into_iter()
            .take(MOST)
            .map(|name| async move { self.remove(&name).await.map(|()| (name, None)) });
        let writes = futures::stream::iter(writes).buffer_unordered(WRITERS).left_stream();
        let removals = futures::stream::iter(removals).buffer_unordered(WRITERS).right_stream();
        for mut done in [writes, removals] {
            while let Some(done) = done.next().await {
                match done? {
                    (name, Some(state)) => _ = there.insert(name, state),
                    (name, None) => _ = there.remove(&name),
                }
            }
        }
        Ok(())
    }

    async fn write(&self, store: &dyn WorkStore, here: &Here) -> Result<(), Failure> {
        let work = store.work(&here.applied.work).await.ok().flatten();
        let trigger = work.map(|work| work.value.trigger.to_string());
        let spec = applied_object_spec(&here.applied, 0)
            .map_err(|error| Failure::NotTried { reason: error.to_string() })?;
        let owner = (self.owner)();
        let object = json!({
            "apiVersion": format!("{GROUP}/{VERSION}"),
            "kind": "AppliedWork",
            "metadata": {
                "name": here.name,
                "labels": {(AGENT_LABEL): label_value(self.id)},
                "annotations": {(STATE): state_of(&here.revision), (TRIGGER): trigger.unwrap_or_default()},
                "ownerReferences": owner.into_iter().collect::<Vec<_>>(),
            },
            "spec": spec,
        });
        let path = format!("{}/{}?fieldManager={FIELD_MANAGER}&force=true", self.collection(), here.name);
        let call = Call {
            method: Method::PATCH,
            content_type: Some("application/apply-patch+yaml"),
            body: object.to_string().into(),
            ..Call::get(path)
        };
        self.client.call(call, Instant::now() + DEADLINE).await.map(drop)
    }

    async fn remove(&self, name: &str) -> Result<(), Failure> {
        let path = format!("{}/{name}", self.collection());
        let call = Call { method: Method::DELETE, ..Call::get(path) };
        match self.client.call(call, Instant::now() + DEADLINE).await {
            Ok(_) | Err(Failure::NotFound { .. }) => Ok(()),
            Err(failure) => Err(failure),
        }
    }

    fn collection(&self) -> String {
        format!("/apis/{GROUP}/{VERSION}/namespaces/{}/appliedworks", self.id.namespace())
    }
}

/// A state in one word: every write of a record is another one.
fn state_of(revision: &Revision) -> String {
    let mut state = digest(format!("{revision:?}").as_bytes());
    state.truncate(20);
    state
}

fn unreadable() -> Failure {
    Failure::NoAnswer { reason: "the answer is not what an API server answers".to_owned() }
}
