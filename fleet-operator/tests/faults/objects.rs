//! Objects in a cluster that carry Fleet's mark, as the cluster's administrator sees them.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::Client;
use kube::api::{Api, ListParams, ObjectMeta};
use kube::config::{KubeConfigOptions, Kubeconfig};
use local_fleet::Cluster;

use crate::stage::wait_for;

/// The label that every object has which Fleet made.
const MARK: &str = "fleet-events.dev/work";
/// The annotation with the id of the event that an object was last rendered from.
const LOGIN: &str = "login";

pub(crate) struct Objects {
    config_maps: Api<ConfigMap>,
    namespaces: Api<Namespace>,
}

/// An object with a mark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Marked {
    /// Whose it is.
    pub(crate) mark: String,
    /// The event that it was last rendered from.
    pub(crate) login: String,
    /// Whether it is being deleted.
    pub(crate) dying: bool,
}

impl Objects {
    pub(crate) fn of(cluster: &Cluster) -> Self {
        let kubeconfig = Kubeconfig::from_yaml(&cluster.kubeconfig().unwrap()).unwrap();
        let client = wait_for(async {
            let options = KubeConfigOptions::default();
            let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options).await.unwrap();
            Client::try_from(config).unwrap()
        });
        Self { config_maps: Api::namespaced(client.clone(), "default"), namespaces: Api::all(client) }
    }

    /// All that is marked, by name.
    pub(crate) fn marked(&self) -> Result<BTreeMap<String, Marked>, String> {
        wait_for(async {
            let marked = ListParams::default().labels(MARK);
            let config_maps =
                self.config_maps.list_metadata(&marked).await.map_err(|error| error.to_string())?;
            let namespaces =
                self.namespaces.list_metadata(&marked).await.map_err(|error| error.to_string())?;
            let objects = config_maps.items.into_iter().map(|it| it.metadata);
            Ok(objects.chain(namespaces.items.into_iter().map(|it| it.metadata)).map(read).collect())
        })
    }

    /// How many ConfigMaps there are, marked or not; cheap, however many there are.
    pub(crate) fn count(&self) -> Result<u64, String> {
        wait_for(async {
            let one = self.config_maps.list_metadata(&ListParams::default().limit(1)).await;
            let one = one.map_err(|error| error.to_string())?;
            let rest = one.metadata.remaining_item_count.unwrap_or_default();
            Ok(one.items.len() as u64 + u64::try_from(rest).unwrap())
        })
    }
}

fn read(metadata: ObjectMeta) -> (String, Marked) {
    let labels = metadata.labels.unwrap_or_default();
    let annotations = metadata.annotations.unwrap_or_default();
    let marked = Marked {
        mark: labels[MARK].clone(),
        login: annotations.get(LOGIN).cloned().unwrap_or_default(),
        dying: metadata.deletion_timestamp.is_some(),
    };
    (metadata.name.unwrap(), marked)
}
