//! What is watched: one kind, in all namespaces or in one.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};

use crate::agent::SECRET_TYPE;
use crate::api::{GROUP, VERSION};
use crate::client::Patience;
use crate::definitions::{Family, Kind, ObjectId};

/// After what time a watch is ended by the server and begun again.
pub const WATCH: Duration = Duration::from_secs(60);

/// One kind, in all namespaces or in one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Scope {
    pub(super) kind: Kind,
    pub(super) namespace: Option<Arc<str>>,
}

impl Scope {
    /// What is always watched.
    pub(super) fn ours() -> [Self; 4] {
        [Kind::EventSource, Kind::EventTrigger, Kind::ClusterProfile, Kind::Cluster]
            .map(|kind| Self { kind, namespace: None })
    }

    /// Where a ConfigMap or Secret is found.
    pub(super) fn of(id: &ObjectId) -> Self {
        Self { kind: id.kind, namespace: id.namespace.clone() }
    }

    /// Everything in it, and then every change. Errors are retried with growing delays.
    pub(super) fn watch(
        &self,
        client: Client,
        family: Family,
    ) -> BoxStream<'static, Result<Event<DynamicObject>, watcher::Error>> {
        let resource = resource(self.kind, family);
        let api: Api<DynamicObject> = match &self.namespace {
            Some(namespace) => Api::namespaced_with(client, namespace, &resource),
            None => Api::all_with(client, &resource),
        };
        let config = watcher::Config::default().timeout(WATCH.as_secs() as u32);
        let config = match self.kind {
            // Large ones, and nobody refers to them: Helm keeps its releases in Secrets, and we what agents are given.
            Kind::Secret => config.fields(&format!("type!=helm.sh/release.v1,type!={SECRET_TYPE}")),
            _ => config,
        };
        watcher(api, config).backoff(Patience::default()).into_stream().boxed()
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}s", self.kind)?;
        match &self.namespace {
            Some(namespace) => write!(f, " in namespace {namespace}"),
            None => Ok(()),
        }
    }
}

/// How the API calls a kind.
pub(super) fn resource(kind: Kind, family: Family) -> ApiResource {
    let (ours, theirs) = ((GROUP, VERSION), ("lib.projectsveltos.io", "v1beta1"));
    let mut name = kind.to_string();
    let ((group, version), plural) = match (kind, family) {
        (Kind::ConfigMap, _) => (("", "v1"), "configmaps"),
        (Kind::Secret, _) => (("", "v1"), "secrets"),
        (Kind::EventSource, Family::Fleet) => (ours, "eventsources"),
        (Kind::EventSource, Family::Sveltos) => (theirs, "eventsources"),
        (Kind::EventTrigger, Family::Fleet) => (ours, "eventtriggers"),
        (Kind::EventTrigger, Family::Sveltos) => (theirs, "eventtriggers"),
        (Kind::ClusterProfile, Family::Fleet) => (ours, "clusterprofiles"),
        (Kind::ClusterProfile, Family::Sveltos) => {
            (("config.projectsveltos.io", "v1beta1"), "clusterprofiles")
        }
        (Kind::Cluster, Family::Fleet) => (ours, "clusters"),
        (Kind::Cluster, Family::Sveltos) => {
            "SveltosCluster".clone_into(&mut name);
            (theirs, "sveltosclusters")
        }
    };
    let api_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    ApiResource {
        group: group.to_owned(),
        version: version.to_owned(),
        api_version,
        kind: name,
        plural: plural.to_owned(),
    }
}
