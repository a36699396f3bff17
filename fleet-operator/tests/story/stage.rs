//! What all stories have in common: managed clusters, started once, which end with the program. Each story keeps to
//! users (and so namespaces) of its own, and leaves the servers alone.

use std::path::PathBuf;
use std::sync::LazyLock;

use futures::StreamExt;
use futures::stream::BoxStream;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, ListParams, WatchEvent, WatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use local_fleet::{Cluster, Lab, Program, Progress, install};
use tokio::runtime::Runtime;

use crate::CLUSTERS;
use crate::wait::{PATIENCE, until};

static STAGE: LazyLock<Stage> = LazyLock::new(Stage::start);

pub(crate) struct Stage {
    runtime: Runtime,
    lab: Lab,
    clusters: Vec<Managed>,
    programs: Vec<PathBuf>,
}

/// The stage, which the first to ask sets up.
pub(crate) fn stage() -> &'static Stage {
    &STAGE
}

/// A managed cluster.
pub(crate) fn cluster(number: usize) -> &'static Managed {
    &stage().clusters[number - 1]
}

/// Runs something to its end.
pub(crate) fn wait_for<F: Future>(future: F) -> F::Output {
    stage().runtime.block_on(future)
}

impl Stage {
    fn start() -> Self {
        // Another test may have done it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let runtime = Runtime::new().unwrap();
        let lab = runtime.block_on(Lab::builder().clusters(CLUSTERS).start_scratch()).unwrap();
        let programs = [Program::Kubectl, Program::Nats]
            .map(|program| runtime.block_on(install::find(program, &Progress::default())).unwrap());
        let clusters = lab.clusters().iter().map(|cluster| runtime.block_on(Managed::new(cluster))).collect();
        Self { runtime, lab, clusters, programs: programs.into() }
    }

    pub(crate) fn lab(&self) -> &Lab {
        &self.lab
    }

    /// The programs that users need.
    pub(crate) fn programs(&self) -> &[PathBuf] {
        &self.programs
    }
}

/// A managed cluster, as its administrator sees it.
pub(crate) struct Managed {
    pub(crate) name: String,
    pub(crate) kubeconfig: String,
    /// As somebody else uses it, beside the operator.
    pub(crate) client: kube::Client,
    namespaces: Api<Namespace>,
}

impl Managed {
    pub(crate) async fn new(cluster: &Cluster) -> Self {
        let kubeconfig = cluster.kubeconfig().unwrap();
        let parsed = Kubeconfig::from_yaml(&kubeconfig).unwrap();
        let options = KubeConfigOptions::default();
        let config = kube::Config::from_custom_kubeconfig(parsed, &options).await.unwrap();
        let client = kube::Client::try_from(config).unwrap();
        Self {
            name: cluster.name().to_owned(),
            kubeconfig,
            client: client.clone(),
            namespaces: Api::all(client),
        }
    }

    /// A namespace as it is, also while it is being deleted.
    pub(crate) fn namespace(&self, name: &str) -> Option<Namespace> {
        wait_for(self.namespaces.get_opt(name)).unwrap()
    }

    /// The UID of a namespace that is not being deleted.
    pub(crate) fn uid(&self, name: &str) -> Option<String> {
        let metadata = self.namespace(name)?.metadata;
        metadata.deletion_timestamp.is_none().then_some(metadata.uid?)
    }

    /// What happens to namespaces from now on.
    pub(crate) fn history(&self) -> History {
        wait_for(async {
            let now = self.namespaces.list(&ListParams::default().limit(1)).await.unwrap();
            let version = now.metadata.resource_version.unwrap();
            let events = self.namespaces.watch(&WatchParams::default().timeout(290), &version).await.unwrap();
            History { events: events.map(Result::unwrap).boxed() }
        })
    }

    /// Waits for a namespace; its UID.
    pub(crate) fn gets(&self, name: &str, log: impl Fn() -> String) -> String {
        until(&format!("namespace {name} is in {}", self.name), || {
            self.uid(name).ok_or_else(|| format!("{:?}\n{}", self.namespace(name), log()))
        })
    }

    /// Waits until a namespace is gone altogether.
    pub(crate) fn loses(&self, name: &str, log: impl Fn() -> String) {
        until(&format!("namespace {name} is gone from {}", self.name), || match self.namespace(name) {
            None => Ok(()),
            Some(there) => Err(format!("{there:?}\n{}", log())),
        })
    }
}

/// What happens to a cluster's namespaces, from a certain moment on.
pub(crate) struct History {
    events: BoxStream<'static, WatchEvent<Namespace>>,
}

impl History {
    /// Waits until a namespace is made. The names of all that were made, in that order.
    pub(crate) fn until(mut self, name: &str) -> Vec<String> {
        let mut made = Vec::new();
        let until = async {
            while made.last().is_none_or(|last| last != name) {
                if let WatchEvent::Added(namespace) = self.events.next().await.expect("the watch goes on") {
                    made.push(namespace.metadata.name.unwrap());
                }
            }
        };
        let in_time = wait_for(async { tokio::time::timeout(PATIENCE, until).await.is_ok() });
        assert!(in_time, "gave up waiting for namespace {name}; made were {made:?}");
        made
    }
}
