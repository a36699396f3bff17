//! Which Applier an object goes through: by how its cluster is reached, and whether it is a release of a chart.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use fleet_core::apply::{Applier, ApplyRequest, Mode, Outcome, RemoveRequest};
use fleet_core::cluster::ClusterId;
use fleet_core::directory::DirectoryApplier;
use fleet_core::manifest::Gvk;
use fleet_core::observe::{Depth, Observation};
use fleet_kube::applier::KubeApplier;
use fleet_kube::clusters::{Clusters, Route};
use fleet_kube::connection::{ClusterDefinition, Connection};
use fleet_kube::helm::{self, HelmApplier, HelmSetup};
use futures::stream::BoxStream;

/// Applies to folders and to API servers alike, and installs charts.
pub(super) struct Routed {
    clusters: Arc<Clusters>,
    folders: DirectoryApplier,
    servers: KubeApplier,
    charts: HelmApplier,
    /// Whether there is, or was, a cluster that is no folder.
    any_server: AtomicBool,
    leads: Leads,
}

/// Whether this operator may act: another one may be at work once it does not lead any more.
pub(super) type Leads = Arc<dyn Fn() -> bool + Send + Sync>;

/// When somebody who leads no more might try again; the process ends before.
const LEADS_NO_MORE: Duration = Duration::from_secs(1);

impl Routed {
    pub(super) fn new(
        clusters: Arc<Clusters>,
        folders: DirectoryApplier,
        helm: HelmSetup,
        protected: Vec<String>,
        leads: Leads,
    ) -> Self {
        let charts = HelmApplier::new(Arc::clone(&clusters), helm);
        let servers = KubeApplier::new(Arc::clone(&clusters)).protecting(protected);
        Self { clusters, folders, servers, charts, any_server: AtomicBool::new(false), leads }
    }

    /// Takes note of how clusters are reached, before anything is applied to them.
    pub(super) fn note(&self, clusters: &[ClusterDefinition]) {
        if clusters.iter().any(|cluster| !matches!(cluster.connection, Connection::Directory)) {
            self.any_server.store(true, Ordering::Release);
        }
    }

    /// What is answered in place of acting, by a process that was frozen and does not lead any more.
    fn refusal(&self, objects: usize) -> Option<Vec<Outcome>> {
        let reason = "this operator does not lead any more".to_owned();
        let outcome = Outcome::Retry { after: LEADS_NO_MORE, reason, cluster: true };
        (!(self.leads)()).then(|| vec![outcome; objects])
    }

    fn applier(&self, cluster: &ClusterId) -> &dyn Applier {
        if self.is_folder(cluster) { &self.folders } else { &self.servers }
    }
}

impl Routed {
    /// Charts after everything else: what they need may be among that. If that is in conflict and holds up what comes
    /// after it, they are not begun.
    async fn apply_parts(&self, plain: ApplyRequest, charts: ApplyRequest) -> (Vec<Outcome>, Vec<Outcome>) {
        let goes_on = plain.policy.continue_on_conflict || plain.mode == Mode::Preview;
        let names: Vec<_> = plain.manifests.iter().map(|manifest| manifest.id().clone()).collect();
        let first = match plain.manifests.is_empty() {
            true => Vec::new(),
            false => self.applier(&plain.cluster.id).apply(plain).await,
        };
        let conflict = names.iter().zip(&first).find_map(|(id, outcome)| match outcome {
            Outcome::Conflict { owner } if !goes_on => Some(Outcome::held_up(id, owner)),
            _ => None,
        });
        let is_down = |outcome: &&Outcome| matches!(outcome, Outcome::Retry { cluster: true, .. });
        let second = match conflict.or_else(|| first.iter().find(is_down).cloned()) {
            Some(outcome) => vec![outcome; charts.manifests.len()],
            None => self.charts.apply(charts).await,
        };
        (first, second)
    }

    fn is_folder(&self, cluster: &ClusterId) -> bool {
        match self.clusters.route(cluster) {
            Route::Directory => true,
            // A folder that left is still there, so that it can be cleaned.
            Route::Unknown => self.folders.has(cluster),
            _ => false,
        }
    }
}

/// Puts outcomes back into the order of what they are for.
fn in_order(is_chart: &[bool], plain: Vec<Outcome>, charts: Vec<Outcome>) -> Vec<Outcome> {
    let (mut plain, mut charts) = (plain.into_iter(), charts.into_iter());
    is_chart.iter().filter_map(|is_chart| if *is_chart { charts.next() } else { plain.next() }).collect()
}

#[async_trait]
impl Applier for Routed {
    async fn apply(&self, request: ApplyRequest) -> Vec<Outcome> {
        if let Some(refusal) = self.refusal(request.manifests.len()) {
            return refusal;
        }
        let is_chart: Vec<bool> =
            request.manifests.iter().map(|manifest| helm::is_release(&manifest.id().gvk)).collect();
        if !is_chart.contains(&true) {
            return self.applier(&request.cluster.id).apply(request).await;
        }
        let part = |charts: bool| {
            let of_part =
                request.manifests.iter().zip(&is_chart).filter(|(_, is_chart)| **is_chart == charts);
            let manifests = of_part.map(|(manifest, _)| manifest.clone()).collect();
            ApplyRequest { manifests, ..request.clone() }
        };
        let (plain, charts) = self.apply_parts(part(false), part(true)).await;
        in_order(&is_chart, plain, charts)
    }

    async fn remove(&self, request: RemoveRequest) -> Vec<Outcome> {
        if let Some(refusal) = self.refusal(request.items.len()) {
            return refusal;
        }
        let is_chart: Vec<bool> =
            request.items.iter().map(|item| helm::is_release(&item.object.gvk)).collect();
        if !is_chart.contains(&true) {
            return self.applier(&request.cluster.id).remove(request).await;
        }
        let part = |charts: bool| {
            let of_part = request.items.iter().zip(&is_chart).filter(|(_, is_chart)| **is_chart == charts);
            let items = of_part.map(|(item, _)| item.clone()).collect();
            RemoveRequest { items, ..request.clone() }
        };
        let (plain, charts) = (part(false), part(true));
        // None was ever installed in a folder.
        let charts = match self.is_folder(&request.cluster.id) {
            true => vec![Outcome::Gone; charts.items.len()],
            false => self.charts.remove(charts).await,
        };
        // What charts need stays as long as they do.
        let reason = || "a chart of the same Work is uninstalled first".to_owned();
        let plain = match charts.iter().all(|outcome| matches!(outcome, Outcome::Gone | Outcome::Would(_))) {
            true if plain.items.is_empty() => Vec::new(),
            true => self.applier(&request.cluster.id).remove(plain).await,
            false => vec![Outcome::Waiting { reason: reason() }; plain.items.len()],
        };
        in_order(&is_chart, plain, charts)
    }

    fn settle_time(&self) -> Duration {
        let over_network = self.servers.settle_time().max(self.charts.settle_time());
        let servers = if self.any_server.load(Ordering::Acquire) { over_network } else { Duration::ZERO };
        servers.max(self.folders.settle_time())
    }

    fn observe(&self, cluster: &ClusterId, kind: &Gvk, depth: Depth) -> BoxStream<'static, Observation> {
        if helm::is_release(kind) {
            return self.charts.observe(cluster, kind, depth);
        }
        self.applier(cluster).observe(cluster, kind, depth)
    }
}

#[cfg(test)]
mod contract;
#[cfg(test)]
mod tests {
    use fleet_core::apply::{InventoryItem, Mode, Placed};
    use fleet_core::cluster::{Cluster, Labels};
    use fleet_core::manifest::Manifest;
    use fleet_core::work::{EventKey, WorkId};
    use futures::{FutureExt as _, StreamExt as _};
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn each_cluster_is_watched_in_its_own_way() {
        let dir = tempfile::tempdir().unwrap();
        let cluster = |name: &str, connection| ClusterDefinition {
            id: ClusterId::new("civo", name).unwrap(),
            labels: Labels::new(),
            annotations: Labels::new(),
            resolve: Vec::new(),
            connection,
        };
        let clusters = Arc::new(Clusters::new());
        // A server that is not there is waited for.
        let missing = Connection::KubeconfigFile(dir.path().join("missing"));
        clusters.update(vec![cluster("folder", Connection::Directory), cluster("server", missing)]);
        let folders = DirectoryApplier::new(dir.path()).unwrap();
        let helm = HelmSetup::new(dir.path().join("helm"));
        let routed = Routed::new(Arc::clone(&clusters), folders, helm, Vec::new(), Arc::new(|| true));
        let kind = Gvk { group: "".into(), version: "v1".into(), kind: "Namespace".into() };
        let observe =
            |name: &str| routed.observe(&ClusterId::new("civo", name).unwrap(), &kind, Depth::Metadata);
        let mut folder = observe("folder");
        assert!(matches!(folder.next().await, Some(Observation::Listing)));
        assert!(matches!(folder.next().await, Some(Observation::Listed { .. })));
        let mut server = observe("server");
        assert!(server.next().now_or_never().is_none(), "it waits");
        clusters.update(vec![cluster("folder", Connection::Directory)]);
        assert!(server.next().await.is_none(), "it ends with the cluster");
        assert!(observe("nowhere").next().await.is_none());
    }

    #[tokio::test]
    async fn who_does_not_lead_any_more_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let id = ClusterId::new("civo", "one").unwrap();
        let clusters = Arc::new(Clusters::new());
        clusters.update(vec![ClusterDefinition {
            id: id.clone(),
            labels: Labels::new(),
            annotations: Labels::new(),
            resolve: Vec::new(),
            connection: Connection::Directory,
        }]);
        let leads = Arc::new(AtomicBool::new(true));
        let asked = Arc::clone(&leads);
        let folders = DirectoryApplier::new(dir.path()).unwrap();
        let ask = Arc::new(move || asked.load(Ordering::Relaxed));
        let helm = HelmSetup::new(dir.path().join("helm"));
        let routed = Routed::new(clusters, folders, helm, Vec::new(), ask);
        let manifest = |name: &str| {
            Manifest::new(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}))
                .unwrap()
        };
        let cluster = Arc::new(Cluster::new(id, Labels::new()));
        let work = WorkId::new("t", &EventKey::Text("k".to_owned()));
        let apply = |name: &str| ApplyRequest {
            cluster: Arc::clone(&cluster),
            work: work.clone(),
            manifests: vec![manifest(name)].into(),
            inventory: Vec::new(),
            identity: None,
            claims: Vec::new(),
            policy: Arc::default(),
            mode: Mode::Write,
            deadline: Duration::from_secs(5),
        };
        let Outcome::Applied(Placed { uid, .. }) = routed.apply(apply("a")).await.remove(0) else { panic!() };
        leads.store(false, Ordering::Relaxed);
        assert!(matches!(routed.apply(apply("b")).await[..], [Outcome::Retry { cluster: true, .. }]));
        let planned = InventoryItem::planned(manifest("a").id().clone());
        let items = vec![InventoryItem { uid: Some(uid), ..planned }];
        let remove = || RemoveRequest {
            cluster: Arc::clone(&cluster),
            work: work.clone(),
            items: items.clone(),
            mode: Mode::Write,
            identity: None,
            deadline: Duration::from_secs(5),
        };
        assert!(matches!(routed.remove(remove()).await[..], [Outcome::Retry { cluster: true, .. }]));
        leads.store(true, Ordering::Relaxed);
        assert_eq!(routed.remove(remove()).await, [Outcome::Gone], "it was still there");
    }

    #[tokio::test]
    async fn charts_and_objects_of_one_request_keep_its_order() {
        let dir = tempfile::tempdir().unwrap();
        let id = ClusterId::new("civo", "one").unwrap();
        let clusters = Arc::new(Clusters::new());
        clusters.update(vec![ClusterDefinition {
            id: id.clone(),
            labels: Labels::new(),
            annotations: Labels::new(),
            resolve: Vec::new(),
            connection: Connection::Directory,
        }]);
        let folders = DirectoryApplier::new(dir.path()).unwrap();
        let helm = HelmSetup::new(dir.path().join("helm"));
        let routed = Routed::new(clusters, folders, helm, Vec::new(), Arc::new(|| true));
        let chart = json!({"apiVersion": "fleet-events.dev/v1alpha1", "kind": helm::KIND,
            "metadata": {"name": "nats", "namespace": "nats"}, "spec": {}});
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a"}});
        let manifests: Vec<Manifest> =
            [&chart, &object, &chart].map(|it| Manifest::new(it.clone()).unwrap()).into();
        let request = ApplyRequest {
            cluster: Arc::new(Cluster::new(id, Labels::new())),
            work: WorkId::new("t", &EventKey::Text("k".to_owned())),
            manifests: manifests.clone().into(),
            inventory: Vec::new(),
            identity: None,
            claims: Vec::new(),
            policy: Arc::default(),
            mode: Mode::Write,
            deadline: Duration::from_secs(5),
        };
        let outcomes = routed.apply(request.clone()).await;
        let [Outcome::Rejected { reason }, Outcome::Applied(Placed { uid, .. }), Outcome::Rejected { .. }] =
            &outcomes[..]
        else {
            panic!("{outcomes:?}")
        };
        assert!(reason.contains("is a folder"), "{reason}");
        let item = |manifest: &Manifest| InventoryItem {
            uid: Some(Arc::clone(uid)),
            ..InventoryItem::planned(manifest.id().clone())
        };
        let ApplyRequest { cluster, work, identity, mode, deadline, .. } = request;
        let items = manifests.iter().map(item).collect();
        let removed = routed.remove(RemoveRequest { cluster, work, items, mode, identity, deadline }).await;
        assert_eq!(removed, [Outcome::Gone, Outcome::Gone, Outcome::Gone]);
        assert!(!dir.path().join("civo/one/_cluster/namespace.core/a.yaml").exists());
    }
}
