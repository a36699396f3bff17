//! The Catalog of a management cluster: definitions from the Kubernetes API, and conditions written back.
//!
//! One task owns all watches and everything that they told (`index`); it publishes [`Definitions`] when all of them
//! are complete. Another writes statuses (`status`). The API server may go away at any time: what was read last holds.
//!
//! # Deletion
//! A catalog that was started with [`KubeCatalog::start_holding`] puts the finalizer [`WITHDRAW_FINALIZER`] on triggers,
//! profiles and Clusters, so that an operator sees each deletion, also one that happened while none ran: the object goes once what is
//! there because of it is withdrawn. A Cluster goes after a timeout in any case, and an Event says what is left in it.
//! While no operator runs, nothing goes; who has taken it out for good, takes the finalizer off by hand:
//! ```sh
//! kubectl patch eventtrigger NAME --type=merge -p '{"metadata":{"finalizers":null}}'
//! kubectl patch clusters.fleet-events.dev NAME -n NAMESPACE --type=merge -p '{"metadata":{"finalizers":null}}'
//! ```
//!
//! # Sveltos
//! [`Family::Sveltos`] reads Sveltos' own kinds in place of ours (and needs the same permissions for those). Of their
//! statuses only that of a SveltosCluster is written, and its label `projectsveltos.io/k8s-version`. Sveltos' own
//! controllers must not run beside it: [`sveltos_controllers`] tells.
//!
//! # Permissions
//! ```yaml
//! # ClusterRole
//! - apiGroups: [fleet-events.dev]
//!   resources: [eventsources, eventtriggers, clusterprofiles, clusters]
//!   verbs: [list, watch]
//! # the finalizer, and the label with a cluster's version
//! - apiGroups: [fleet-events.dev]
//!   resources: [eventtriggers, clusterprofiles, clusters]
//!   verbs: [patch]
//! - apiGroups: [fleet-events.dev]
//!   resources: [eventsources/status, eventtriggers/status, clusterprofiles/status, clusters/status]
//!   verbs: [patch]
//! # what is left in a Cluster that goes before its time
//! - apiGroups: [events.k8s.io]
//!   resources: [events]
//!   verbs: [create, patch]
//! # Role in each namespace that a trigger, a ClusterProfile, an EventSource or a Cluster refers to
//! - apiGroups: [""]
//!   resources: [configmaps, secrets]
//!   verbs: [list, watch]
//! ```
//! A namespace that may not be read is a problem of those who refer to it, and of nobody else.
//!
//! What `templateResourceRefs` names is watched object by object (`fieldSelector: metadata.name=…`), so that list and watch
//! of other kinds can be granted for single objects (`resourceNames`), too. Where the namespace is left out, it is that of
//! the Cluster.

mod beside;
mod finalizers;
mod index;
mod resources;
mod scope;
mod status;
mod watching;

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use fleet_core::catalog::{Catalog, CatalogError, CatalogSnapshot, Condition, Subject};
use fleet_core::cluster::ClusterId;
use fleet_core::resource::{ResourceId, Resources};
use futures::stream::{self, BoxStream, StreamExt};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

pub use crate::api::WITHDRAW_FINALIZER;
use crate::definitions::{Definitions, Family, Kind, ObjectId};
pub use beside::sveltos_controllers;
use finalizers::Finalizers;
pub use finalizers::Holding;
pub use resources::look_up;
use resources::{Following, Wanted};
pub use scope::WATCH;
use status::{Reports, Verdict};
use watching::Watching;

/// Definitions in a management cluster.
///
/// Dropping it ends its tasks.
pub struct KubeCatalog {
    definitions: watch::Receiver<Option<Arc<Definitions>>>,
    health: watch::Receiver<CatalogHealth>,
    reports: Arc<Reports>,
    finalizers: Arc<Finalizers>,
    wanted: watch::Sender<Wanted>,
    resources: watch::Receiver<Arc<Resources>>,
    stop: CancellationToken,
    tasks: Vec<AbortOnDropHandle<()>>,
}

/// How the catalog itself is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CatalogHealth {
    /// Whether everything was read once.
    pub loaded: bool,
    /// What keeps definitions from being read now, each a sentence that says what to do. While there is any, what was
    /// read last holds.
    pub troubles: Vec<String>,
}

impl KubeCatalog {
    /// Starts to watch the cluster that the client talks to. Needs a tokio runtime.
    ///
    /// Watches end by themselves after [`WATCH`]. The client should have a read timeout a little above that, so that a
    /// connection that died without a word is noticed.
    ///
    /// It holds no deletion back; see [`start_holding`](Self::start_holding).
    pub fn start(client: kube::Client) -> Self {
        Self::spawn(client, Family::Fleet, None, None, true)
    }

    /// As [`start`](Self::start), for a look at the definitions: it writes nothing, no status either. `management` as in
    /// [`Holding`].
    pub fn start_reading(client: kube::Client, family: Family, management: Option<ClusterId>) -> Self {
        Self::spawn(client, family, management, None, false)
    }

    /// As [`start`](Self::start), for whoever withdraws what is there because of triggers and Clusters that are deleted:
    /// they are held back until that is done. See [Deletion](crate::catalog#deletion).
    pub fn start_holding(client: kube::Client, family: Family, holding: Holding) -> Self {
        Self::spawn(client, family, holding.management.clone(), Some(holding), true)
    }

    fn spawn(
        client: kube::Client,
        family: Family,
        management: Option<ClusterId>,
        holding: Option<Holding>,
        writes: bool,
    ) -> Self {
        let (publish, definitions) = watch::channel(None);
        let (tell, health) = watch::channel(CatalogHealth::default());
        let (reports, finalizers) = (Arc::new(Reports::default()), Arc::new(Finalizers::default()));
        let stop = CancellationToken::new();
        let (told, held) = (Arc::clone(&reports), Arc::clone(&finalizers));
        let watching = Watching::new(client.clone(), family, publish, tell, told, held, management);
        let writing = status::write(client.clone(), family, Arc::clone(&reports), stop.clone());
        let ((wanted, asked), (found, resources)) =
            (watch::channel(Wanted::default()), watch::channel(Arc::default()));
        let following = Following::new(client.clone(), asked, found);
        let mut tasks = vec![
            AbortOnDropHandle::new(tokio::spawn(watching.run(stop.clone()))),
            AbortOnDropHandle::new(tokio::spawn(following.run(stop.clone()))),
        ];
        if writes {
            tasks.push(AbortOnDropHandle::new(tokio::spawn(writing)));
        }
        if let Some(holding) = holding {
            let keeping = finalizers::keep(client, family, Arc::clone(&finalizers), holding, stop.clone());
            tasks.push(AbortOnDropHandle::new(tokio::spawn(keeping)));
        }
        Self { definitions, health, reports, finalizers, wanted, resources, stop, tasks }
    }

    /// The definitions: none until everything was read once, then always the last good ones.
    pub fn definitions(&self) -> watch::Receiver<Option<Arc<Definitions>>> {
        self.definitions.clone()
    }

    /// What is known of the objects that templates see.
    pub fn resources(&self) -> watch::Receiver<Arc<Resources>> {
        self.resources.clone()
    }

    /// Takes word on which objects templates see in clusters with agents: all of them, whenever that may have changed.
    /// Does not block.
    pub fn refer_for_agents(&self, resources: BTreeSet<ResourceId>) {
        self.wanted.send_if_modified(|wanted| {
            let is_news = wanted.agents != resources;
            wanted.agents = resources;
            is_news
        });
    }

    /// How the catalog itself is doing, for readiness and for whoever waits.
    pub fn health(&self) -> watch::Receiver<CatalogHealth> {
        self.health.clone()
    }

    /// Takes word on how a managed cluster is doing, to show it in the status of its `Cluster` object, and its version
    /// of Kubernetes in a label. Does not block. Without a version the last one stays.
    pub fn report_cluster(
        &self,
        id: &ClusterId,
        ready: bool,
        version: Option<&str>,
        reason: &str,
        message: impl Into<String>,
    ) {
        let verdict = Verdict {
            ready,
            // It is tried again, whatever it is.
            stalled: false,
            reason: reason.to_owned(),
            message: message.into(),
            version: version.map(str::to_owned),
        };
        self.reports.report(ObjectId::namespaced(Kind::Cluster, id.namespace(), id.name()), verdict);
    }

    /// Takes word that nothing is left in a cluster that is being taken out: its `Cluster` may go. Does not block.
    pub fn withdrawn_cluster(&self, id: &ClusterId) {
        self.finalizers.withdrawn(&ObjectId::namespaced(Kind::Cluster, id.namespace(), id.name()));
    }

    /// Stops watching and writing, and waits until that is done.
    pub async fn stop(self) {
        self.stop.cancel();
        for task in self.tasks {
            // A task that panicked has ended too.
            let _ = task.await;
        }
    }
}

#[async_trait]
impl Catalog for KubeCatalog {
    async fn subscribe(&self) -> Result<BoxStream<'static, Arc<CatalogSnapshot>>, CatalogError> {
        let (mut definitions, resources) = (self.definitions.clone(), self.resources.clone());
        definitions.mark_changed();
        let snapshots =
            stream::unfold((definitions, resources), |(mut definitions, mut resources)| async move {
                loop {
                    tokio::select! {
                        changed = definitions.changed() => changed.ok()?,
                        changed = resources.changed() => changed.ok()?,
                    }
                    let snapshot = definitions.borrow_and_update().as_ref().map(|read| read.catalog.clone());
                    if let Some(snapshot) = snapshot {
                        let known = Arc::clone(&resources.borrow_and_update());
                        let snapshot = CatalogSnapshot { resources: known, ..snapshot };
                        return Some((Arc::new(snapshot), (definitions, resources)));
                    }
                }
            });
        Ok(snapshots.boxed())
    }

    fn report(&self, subject: &Subject, condition: Condition) {
        let Condition { ready, reason, message } = condition;
        let (id, stalled) = match subject {
            // A source tries again by itself; a trigger waits for somebody to change something.
            Subject::Source(name) => (ObjectId::cluster_scoped(Kind::EventSource, name), false),
            Subject::Trigger(name) => (ObjectId::cluster_scoped(Kind::EventTrigger, name), !ready),
            Subject::Profile(name) => (ObjectId::cluster_scoped(Kind::ClusterProfile, name), !ready),
            other => {
                tracing::debug!(subject = ?other, "there is no object to show this condition on");
                return;
            }
        };
        self.reports.report(id, Verdict { ready, stalled, reason, message, version: None });
    }

    fn refer(&self, resources: BTreeSet<ResourceId>) {
        self.wanted.send_modify(|wanted| wanted.engine = resources);
    }

    fn withdrawn(&self, subject: &Subject) {
        match subject {
            Subject::Trigger(name) => {
                self.finalizers.withdrawn(&ObjectId::cluster_scoped(Kind::EventTrigger, name));
            }
            Subject::Profile(name) => {
                self.finalizers.withdrawn(&ObjectId::cluster_scoped(Kind::ClusterProfile, name));
            }
            _ => {}
        }
    }
}
