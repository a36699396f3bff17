//! What an event, or ClusterProfiles, would change in the clusters, as a unified diff.

use std::sync::Arc;
use std::time::Duration;

use fleet_core::apply::{ApplyRequest, Change, InventoryItem, Mode, Outcome, RemoveRequest};
use fleet_core::catalog::TriggerDef;
use fleet_core::cluster::Cluster;
use fleet_core::diff::masked;
use fleet_core::engine::{Fate, Foretold, Meaning, Piece};
use fleet_core::manifest::{Manifest, ObjectRef};
use fleet_core::work::{AppliedWork, Intent, Local, WorkId};
use fleet_core::yaml;
use serde_json::Value;

use super::called;
use super::unified::Unified;
use crate::run::LiveClusters;

/// How long one cluster may take.
const DEADLINE: Duration = Duration::from_secs(30);

/// What was found.
#[derive(Debug, Default)]
pub struct Comparison {
    /// The diff.
    pub text: Unified,
    /// Whether anything would change.
    pub differs: bool,
    /// What would fail, or could not be compared.
    pub faults: Vec<String>,
}

/// Compares what an event would mean to triggers, or ClusterProfiles mean, with what is there. `known` is what is recorded of the Work in each
/// cluster.
pub async fn compare(
    foretold: &[Foretold],
    known: impl AsyncFn(&Meaning) -> Vec<AppliedWork>,
    clusters: &LiveClusters,
    find: impl Fn(&fleet_core::cluster::ClusterId) -> Option<Arc<Cluster>>,
    colour: bool,
) -> Comparison {
    let mut found = Comparison { text: Unified::new(colour), ..Comparison::default() };
    for Foretold { trigger, fate } in foretold {
        match fate {
            Fate::Refused { reason, detail } => {
                found
                    .faults
                    .push(format!("{}: refused as a dead letter: {reason}: {detail}", called(trigger)));
            }
            Fate::Taken(_) if !trigger.one_for_event => found.faults.push(format!(
                "{}: cannot be compared, as it renders all its keys together (oneForEvent: false)",
                called(trigger)
            )),
            Fate::Taken(meaning) => {
                let records = known(meaning).await;
                found.meaning(trigger, meaning, &records, clusters, &find).await;
            }
            _ => {}
        }
    }
    found
}

impl Comparison {
    async fn meaning(
        &mut self,
        trigger: &TriggerDef,
        meaning: &Meaning,
        records: &[AppliedWork],
        clusters: &LiveClusters,
        find: &impl Fn(&fleet_core::cluster::ClusterId) -> Option<Arc<Cluster>>,
    ) {
        if meaning.work.intent == Intent::Delete {
            for record in records {
                let Some(cluster) = find(&record.cluster) else { continue };
                self.remove(trigger, &record.work, &cluster, record.inventory.clone(), clusters).await;
            }
            return;
        }
        for place in &meaning.places {
            let pieces = match &place.pieces {
                Ok(pieces) => pieces,
                Err(error) => {
                    self.faults.push(format!("{}, {}: {error}", place.cluster.id, called(trigger)));
                    continue;
                }
            };
            let work = meaning.work.id.clone();
            let (cluster, work) = match &place.local {
                None => (&place.cluster, work),
                Some(management) => (management, Local { work, cluster: place.cluster.id.clone() }.id()),
            };
            let manifests: Arc<[Manifest]> = pieces.iter().map(|piece| piece.manifest.clone()).collect();
            let inventory = records.iter().find(|record| record.work == work && record.cluster == cluster.id);
            let inventory = inventory.map(|record| record.inventory.clone()).unwrap_or_default();
            let is_stale =
                |item: &InventoryItem| !manifests.iter().any(|it| it.id().same_object(&item.object));
            let stale: Vec<_> = inventory.iter().filter(|item| is_stale(item)).cloned().collect();
            if let Err(why) = clusters.reached(&cluster.id).await {
                self.faults.push(format!("{}: {why}", cluster.id));
                continue;
            }
            let request = ApplyRequest {
                cluster: Arc::clone(cluster),
                work: work.clone(),
                manifests: Arc::clone(&manifests),
                inventory,
                claims: Vec::new(),
                policy: Arc::clone(&trigger.policy),
                identity: trigger.identity.clone(),
                mode: Mode::Preview,
                deadline: DEADLINE,
            };
            let outcomes = clusters.ask_to_apply(request).await;
            for (piece, outcome) in pieces.iter().zip(outcomes) {
                let created = as_new(piece, &work);
                self.outcome(trigger, cluster, piece.manifest.id(), outcome, &created);
            }
            self.remove(trigger, &work, cluster, stale, clusters).await;
        }
    }

    async fn remove(
        &mut self,
        trigger: &TriggerDef,
        work: &WorkId,
        cluster: &Arc<Cluster>,
        items: Vec<InventoryItem>,
        clusters: &LiveClusters,
    ) {
        if items.is_empty() {
            return;
        }
        if let Err(why) = clusters.reached(&cluster.id).await {
            self.faults.push(format!("{}: {why}", cluster.id));
            return;
        }
        let request = RemoveRequest {
            cluster: Arc::clone(cluster),
            work: work.clone(),
            items: items.clone(),
            mode: Mode::Preview,
            identity: trigger.identity.clone(),
            deadline: DEADLINE,
        };
        let outcomes = clusters.ask_to_remove(request).await;
        for (item, outcome) in items.iter().zip(outcomes) {
            self.outcome(trigger, cluster, &item.object, outcome, "");
        }
    }

    fn outcome(
        &mut self,
        trigger: &TriggerDef,
        cluster: &Cluster,
        object: &ObjectRef,
        outcome: Outcome,
        created: &str,
    ) {
        let name = format!("{} {object}", cluster.id);
        let now = format!("{name} ({})", called(trigger));
        match outcome {
            Outcome::Applied(_) | Outcome::Gone | Outcome::Would(Change::Nothing) => {}
            Outcome::Would(Change::Create) => self.difference("/dev/null", &now, created),
            Outcome::Would(Change::Update { diff }) => self.difference(&name, &now, &diff),
            Outcome::Would(Change::Recreate { reason }) => {
                let lines = format!("@@ is deleted and created anew: {reason}\n{created}");
                self.difference(&name, &now, &lines);
            }
            Outcome::Would(Change::Delete) => {
                self.difference(&name, "/dev/null", &format!("@@\n{}", identity(object)));
            }
            Outcome::Would(Change::GiveBack) => {
                self.difference(&name, &now, "@@ is given back to whoever had it: mark and ownership go\n");
            }
            Outcome::Would(_) => self.difference(&name, &now, ""),
            Outcome::Conflict { owner } => {
                self.faults.push(format!("{now}: conflict: it belongs to {owner}"));
            }
            Outcome::Waiting { reason }
            | Outcome::Rejected { reason }
            | Outcome::Retry { reason, .. }
            | Outcome::Unknown { reason } => self.faults.push(format!("{now}: {reason}")),
            other => self.faults.push(format!("{now}: {other:?}")),
        }
    }

    fn difference(&mut self, before: &str, after: &str, lines: &str) {
        self.differs = true;
        self.text.difference(before, after, lines);
    }
}

/// An object that is not there yet, as a diff.
fn as_new(piece: &Piece, work: &WorkId) -> String {
    let mut object = masked(&piece.manifest.marked(work));
    piece.hide(&mut object);
    let text = yaml::to_string(&Value::Object(object)).unwrap_or_else(|_| "(cannot be shown)".to_owned());
    text.lines().fold("@@\n".to_owned(), |diff, line| diff + "+" + line + "\n")
}

/// What is known of an object that is taken away: the rest of it is not looked at.
fn identity(object: &ObjectRef) -> String {
    let namespace = object.namespace.as_ref().map(|it| format!("-  namespace: {it}\n")).unwrap_or_default();
    format!(
        "-apiVersion: {}\n-kind: {}\n-metadata:\n-  name: {}\n{namespace}",
        object.gvk.api_version(),
        object.gvk.kind,
        object.name
    )
}
