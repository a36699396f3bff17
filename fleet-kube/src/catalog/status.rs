//! Conditions: what the engine and we say of an object, written into its status.
//!
//! Only the last word on an object counts, so what is to be written is bounded by the number of objects. One task writes
//! it, a few objects at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;
use kube::Client;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use serde_json::{Map, Value, json};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::finalizers::Held;
use super::index::chain;
use super::scope::resource;
use crate::api::{KUBERNETES_VERSION_LABEL, kubernetes_version_label};
use crate::definitions::sveltos::VERSION_LABEL;
use crate::definitions::{Definitions, Family, Fault, Kind, ObjectId};

/// The name under which we write.
pub(super) const MANAGER: &str = "fleet-operator";
/// How many statuses are written at the same time.
pub(super) const WRITERS: usize = 4;
/// How long one write may take.
pub(super) const DEADLINE: Duration = Duration::from_secs(10);
/// How long nothing is written after a write failed.
const PAUSE: Duration = Duration::from_secs(2);
/// How long a message may be, in characters.
const MESSAGE: usize = 2048;

/// A word on how an object is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) ready: bool,
    /// Not ready until somebody changes something.
    pub(super) stalled: bool,
    pub(super) reason: String,
    pub(super) message: String,
    pub(super) version: Option<String>,
}

/// What an object's status says now.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Observed {
    generation: Option<i64>,
    status: Value,
    version_label: Option<String>,
    driven_by: &'static str,
    pub(super) held: Held,
}

impl Observed {
    /// What there is to know of an object; nothing for kinds that have no status of ours.
    pub(super) fn new(kind: Kind, family: Family, object: &DynamicObject) -> Option<Self> {
        if matches!(kind, Kind::ConfigMap | Kind::Secret) {
            return None;
        }
        let labels = object.metadata.labels.as_ref();
        Some(Self {
            generation: object.metadata.generation,
            status: object.data.get("status").cloned().unwrap_or(Value::Null),
            version_label: labels.and_then(|labels| labels.get(version_label(family)).cloned()),
            driven_by: if object.data.pointer("/spec/agent").is_some() { "agent" } else { "hub" },
            held: Held::new(object),
        })
    }
}

/// All that was said, and what of it is still to be written.
#[derive(Default)]
pub(super) struct Reports {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    observed: BTreeMap<ObjectId, Observed>,
    /// What definitions lack. It outweighs what the engine says, which knows less.
    judged: BTreeMap<ObjectId, Verdict>,
    reported: BTreeMap<ObjectId, Verdict>,
    unwritten: BTreeSet<ObjectId>,
}

impl Reports {
    /// Takes word on an object.
    pub(super) fn report(&self, id: ObjectId, verdict: Verdict) {
        let mut state = self.lock();
        if state.reported.get(&id) != Some(&verdict) {
            state.unwritten.insert(id.clone());
            state.reported.insert(id, verdict);
            drop(state);
            self.changed.notify_one();
        }
    }

    /// Takes what was found wrong with definitions, in place of what was found before.
    pub(super) fn judge(&self, read: &Definitions) {
        let mut judged: BTreeMap<ObjectId, Verdict> = BTreeMap::new();
        for problem in &read.problems {
            let Some(id) = &problem.object else { continue };
            if id.kind == Kind::Cluster && problem.fault == Fault::MissingReference {
                // Whoever reaches for the cluster says so, and knows when that ends.
                continue;
            }
            let text = match &problem.field {
                Some(field) => format!("{field}: {}", problem.reason),
                None => problem.reason.clone(),
            };
            judged
                .entry(id.clone())
                .and_modify(|verdict| verdict.message.push_str(&format!("; {text}")))
                .or_insert_with(|| Verdict {
                    ready: false,
                    stalled: true,
                    reason: format!("{:?}", problem.fault),
                    message: text,
                    version: None,
                });
        }
        let mut state = self.lock();
        let State { judged: before, unwritten, .. } = &mut *state;
        unwritten.extend(
            before.iter().filter(|(id, verdict)| judged.get(id) != Some(verdict)).map(|(id, _)| id.clone()),
        );
        unwritten.extend(
            judged.iter().filter(|(id, verdict)| before.get(id) != Some(verdict)).map(|(id, _)| id.clone()),
        );
        *before = judged;
        drop(state);
        self.changed.notify_one();
    }

    /// Takes what objects' statuses are now.
    pub(super) fn observe(&self, observed: Vec<(ObjectId, Option<Observed>)>) {
        let mut state = self.lock();
        for (id, observed) in observed {
            match observed {
                Some(observed) => {
                    state.unwritten.insert(id.clone());
                    state.observed.insert(id, observed);
                }
                None => {
                    state.observed.remove(&id);
                    state.reported.remove(&id);
                    state.judged.remove(&id);
                    state.unwritten.remove(&id);
                }
            }
        }
        drop(state);
        self.changed.notify_one();
    }

    /// A few objects whose status is not what it should be.
    fn due(&self, family: Family) -> Vec<(ObjectId, Write)> {
        let mut state = self.lock();
        let mut due = Vec::new();
        while due.len() < WRITERS {
            let Some(id) = state.unwritten.pop_first() else { break };
            let verdict = state.judged.get(&id).or_else(|| state.reported.get(&id));
            let (Some(verdict), Some(observed)) = (verdict, state.observed.get(&id)) else { continue };
            let write = match (family, id.kind) {
                (Family::Fleet, kind) => Write::new(kind, verdict, observed, Timestamp::now()),
                (Family::Sveltos, Kind::Cluster) => Write::of_sveltos_cluster(verdict, observed),
                // Their statuses have no room for what is to be said; it is logged and shown.
                (Family::Sveltos, _) => continue,
            };
            if write.is_needed() {
                due.push((id, write));
            }
        }
        due
    }

    /// A status was written; the watch will tell the same.
    fn written(&self, id: &ObjectId, write: Write) {
        if let (Some(observed), Some(status)) = (self.lock().observed.get_mut(id), write.status) {
            observed.status = status;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where an object is written.
pub(super) fn api(client: &Client, family: Family, id: &ObjectId) -> Api<DynamicObject> {
    let resource = resource(id.kind, family);
    match &id.namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    }
}

/// The label with a cluster's version of Kubernetes.
fn version_label(family: Family) -> &'static str {
    match family {
        Family::Fleet => KUBERNETES_VERSION_LABEL,
        Family::Sveltos => VERSION_LABEL,
    }
}

/// What is to be written of one object.
#[derive(Debug, PartialEq)]
struct Write {
    status: Option<Value>,
    version_label: Option<String>,
}

impl Write {
    fn new(kind: Kind, verdict: &Verdict, observed: &Observed, now: Timestamp) -> Self {
        let before = |name: &str| {
            let conditions = observed.status.get("conditions").and_then(Value::as_array);
            conditions.into_iter().flatten().find(|condition| condition["type"] == name)
        };
        let message: String = verdict.message.chars().take(MESSAGE).collect();
        let condition = |name: &str, status: &str| {
            let since = before(name).filter(|condition| condition["status"] == status);
            let since = since.and_then(|condition| condition["lastTransitionTime"].as_str());
            json!({
                "type": name,
                "status": status,
                "reason": verdict.reason,
                "message": message,
                "lastTransitionTime": since.map_or_else(|| now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(), str::to_owned),
            })
        };
        let mut conditions = vec![condition("Ready", if verdict.ready { "True" } else { "False" })];
        if !verdict.ready {
            conditions.push(condition(if verdict.stalled { "Stalled" } else { "Reconciling" }, "True"));
        }
        let mut status = Map::new();
        status.insert("conditions".to_owned(), Value::Array(conditions));
        status.extend(
            observed.generation.map(|generation| ("observedGeneration".to_owned(), generation.into())),
        );
        let before = observed.status.get("version").and_then(Value::as_str);
        let mut version_label = None;
        if let (Kind::Cluster, Some(version)) = (kind, verdict.version.as_deref().or(before)) {
            let label = kubernetes_version_label(version);
            version_label = (observed.version_label.as_ref() != Some(&label)).then_some(label);
            status.insert("version".to_owned(), version.into());
        }
        if kind == Kind::Cluster {
            status.insert("drivenBy".to_owned(), observed.driven_by.into());
        }
        let status = Value::Object(status);
        let status = (status != observed.status).then_some(status);
        Self { status, version_label }
    }

    /// What Sveltos says of its clusters.
    fn of_sveltos_cluster(verdict: &Verdict, observed: &Observed) -> Self {
        let before = observed.status.as_object().cloned().unwrap_or_default();
        let mut status = before.clone();
        status.insert("ready".to_owned(), verdict.ready.into());
        let health = if verdict.ready { "Healthy" } else { "Down" };
        status.insert("connectionStatus".to_owned(), health.into());
        let message: String = verdict.message.chars().take(MESSAGE).collect();
        match verdict.ready {
            true => status.remove("failureMessage"),
            false => status.insert("failureMessage".to_owned(), message.into()),
        };
        let known = before.get("version").and_then(Value::as_str);
        let mut version_label = None;
        if let Some(version) = verdict.version.as_deref().or(known) {
            // They leave out what stands behind the +.
            let label = kubernetes_version_label(version.split('+').next().unwrap_or(version));
            version_label = (observed.version_label.as_ref() != Some(&label)).then_some(label);
            status.insert("version".to_owned(), version.into());
        }
        Self { status: (status != before).then_some(Value::Object(status)), version_label }
    }

    fn is_needed(&self) -> bool {
        self.status.is_some() || self.version_label.is_some()
    }

    async fn send(&self, client: &Client, family: Family, id: &ObjectId) -> kube::Result<()> {
        let (resource, api) = (resource(id.kind, family), api(client, family, id));
        if let Some(status) = &self.status {
            // A status cannot be applied to an object that is not there, so this creates nothing.
            let patch = json!({
                "apiVersion": resource.api_version,
                "kind": resource.kind,
                "metadata": {"name": id.name, "namespace": id.namespace},
                "status": status,
            });
            api.patch_status(&id.name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(patch)).await?;
        }
        if let Some(label) = &self.version_label {
            // A merge: applying would create an object that was deleted meanwhile.
            let patch = json!({"metadata": {"labels": {version_label(family): label}}});
            let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
            api.patch(&id.name, &params, &Patch::Merge(patch)).await?;
        }
        Ok(())
    }
}

/// Writes what is to be written, until it is stopped.
pub(super) async fn write(
    client: Client,
    family: Family,
    reports: std::sync::Arc<Reports>,
    stop: CancellationToken,
) {
    let work = async {
        loop {
            let due = reports.due(family);
            if due.is_empty() {
                reports.changed.notified().await;
                continue;
            }
            let writes = futures::stream::iter(due).map(|(id, write)| {
                let client = &client;
                async move {
                    let sent = timeout(DEADLINE, write.send(client, family, &id)).await;
                    (id, write, sent)
                }
            });
            let mut failed = Vec::new();
            let mut answers = writes.buffer_unordered(WRITERS);
            while let Some((id, write, sent)) = answers.next().await {
                match sent {
                    Ok(Ok(())) => reports.written(&id, write),
                    Ok(Err(kube::Error::Api(status))) if status.is_not_found() => {}
                    Ok(Err(error)) => {
                        tracing::debug!(object = %id, error = chain(&error), "a status cannot be written; trying again");
                        failed.push(id);
                    }
                    Err(_) => failed.push(id),
                }
            }
            if !failed.is_empty() {
                reports.lock().unwritten.extend(failed);
                sleep(PAUSE).await;
            }
        }
    };
    stop.run_until_cancelled(work).await;
}
