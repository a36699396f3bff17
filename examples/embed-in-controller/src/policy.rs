//! What may not be put into clusters, whatever a definition says.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use fleet_core::apply::{Applier, ApplyRequest, Outcome, RemoveRequest};
use fleet_core::cluster::ClusterId;
use fleet_core::manifest::{Gvk, Manifest};
use fleet_core::observe::{Depth, Observation};
use futures::stream::BoxStream;

/// An Applier that gives nobody rights in a whole cluster; all else is left to the one within.
pub struct NoClusterWideRights<A>(pub A);

fn gives_rights(manifest: &Manifest) -> bool {
    let gvk = &manifest.id().gvk;
    &*gvk.group == "rbac.authorization.k8s.io" && matches!(&*gvk.kind, "ClusterRole" | "ClusterRoleBinding")
}

#[async_trait]
impl<A: Applier> Applier for NoClusterWideRights<A> {
    async fn apply(&self, mut request: ApplyRequest) -> Vec<Outcome> {
        let asked = Arc::clone(&request.manifests);
        request.manifests = asked.iter().filter(|it| !gives_rights(it)).cloned().collect();
        let mut outcomes = self.0.apply(request).await.into_iter();
        let outcome = |manifest| {
            if gives_rights(manifest) {
                let reason =
                    "nobody gets rights in a whole cluster by an event; bind a Role in the team's namespace";
                return Outcome::Rejected { reason: reason.to_owned() };
            }
            let missing = || Outcome::Unknown { reason: "nothing is known of it".to_owned() };
            outcomes.next().unwrap_or_else(missing)
        };
        asked.iter().map(outcome).collect()
    }

    async fn remove(&self, request: RemoveRequest) -> Vec<Outcome> {
        self.0.remove(request).await
    }

    fn settle_time(&self) -> Duration {
        self.0.settle_time()
    }

    fn observe(&self, cluster: &ClusterId, kind: &Gvk, depth: Depth) -> BoxStream<'static, Observation> {
        self.0.observe(cluster, kind, depth)
    }
}
