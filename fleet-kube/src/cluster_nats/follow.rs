//! Following the one Secret in a cluster.

use std::pin::pin;
use std::sync::Arc;

use fleet_core::cluster::ClusterId;
use futures::StreamExt;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, watch_object};
use tokio::sync::watch;

use super::{ClusterFeed, read};
use crate::client::chain;
use crate::clusters::{Clusters, Link, Reach, Route};
use crate::definitions::ClusterSecret;

/// What is known of the Secret.
#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    /// What it says is to be read.
    Feeds(Vec<ClusterFeed>),
    /// It is not there, or cannot be used: somebody has to change something in the cluster.
    Wrong {
        /// One CamelCase word.
        reason: &'static str,
        /// What is wrong, and what to do. Nothing out of the Secret.
        message: String,
    },
    /// The cluster does not say. What was told before may be so still.
    Unreachable {
        /// One CamelCase word.
        reason: &'static str,
        /// Why.
        message: String,
    },
}

/// Follows the Secret in a cluster, for as long as that is there, and tells whenever it is another one; it may tell the
/// same twice. One watch, on that Secret only.
///
/// Cancel safe.
pub async fn follow(
    clusters: Arc<Clusters>,
    id: ClusterId,
    secret: ClusterSecret,
    mut tell: impl FnMut(Told) + Send,
) {
    let reach = clusters.reach(&id);
    let is_folder = matches!(clusters.route(&id), Route::Directory);
    // What ends the watch is that the registry ends.
    drop(clusters);
    let Some(mut reach) = reach else {
        if is_folder {
            let message = format!("the cluster is a folder, and no {secret} can be read in one");
            tell(Told::Wrong { reason: "NotSupported", message });
        }
        return;
    };
    loop {
        let link = reach.borrow_and_update().link.clone();
        match link {
            None => {
                let message = format!("the cluster cannot be reached to read its {secret}");
                tell(Told::Unreachable { reason: "ClusterUnreachable", message });
                if reach.changed().await.is_err() {
                    return;
                }
            }
            Some(link) => {
                tokio::select! {
                    there = until_another(&mut reach, &link) => if !there { return },
                    () = watch(&link, &secret, &mut tell) => {}
                }
            }
        }
    }
}

/// Waits until the cluster has another connection, or is back; `false` if it has left.
async fn until_another(reach: &mut watch::Receiver<Reach>, link: &Arc<Link>) -> bool {
    let mut was_ready = reach.borrow_and_update().ready;
    loop {
        if reach.changed().await.is_err() {
            return false;
        }
        let now = reach.borrow_and_update();
        let same = now.link.as_ref().is_some_and(|now| Arc::ptr_eq(now, link));
        if !same || (now.ready && !was_ready) {
            return true;
        }
        was_ready = now.ready;
    }
}

/// Goes on until it is dropped.
async fn watch(link: &Link, secret: &ClusterSecret, tell: &mut (impl FnMut(Told) + Send)) {
    let api: Api<Secret> = Api::namespaced(link.client.api(), &secret.namespace);
    let mut seen = pin!(watch_object(api, &secret.name).default_backoff());
    while let Some(now) = seen.next().await {
        let told = match now {
            Ok(Some(there)) => told(&there, secret),
            Ok(None) => {
                let message = format!("{secret} does not exist in the cluster; create it");
                Told::Wrong { reason: "SecretMissing", message }
            }
            Err(error) => refused(&error, secret),
        };
        tell(told);
    }
}

fn told(there: &Secret, secret: &ClusterSecret) -> Told {
    let key = &secret.key;
    let wrong = |message: String| Told::Wrong { reason: "SecretInvalid", message };
    let Some(bytes) = there.data.as_ref().and_then(|data| data.get(key)) else {
        return wrong(format!("{secret} has no key {key}; add it, or name another one"));
    };
    let Ok(text) = std::str::from_utf8(&bytes.0) else {
        return wrong(format!("{secret}, key {key} is no text"));
    };
    match read(text) {
        Ok(feeds) => Told::Feeds(feeds),
        Err(mistake) if mistake.path.is_empty() => wrong(format!("{secret}, key {key} {mistake}")),
        Err(mistake) => wrong(format!("{secret}, key {key}: {mistake}")),
    }
}

fn refused(error: &watcher::Error, secret: &ClusterSecret) -> Told {
    let status = match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status)) => Some(status),
        _ => None,
    };
    if status.is_some_and(|status| status.code == 403) {
        let message = format!(
            "the cluster does not let its kubeconfig's user read {secret}; allow get, list and watch for Secrets there"
        );
        return Told::Unreachable { reason: "Forbidden", message };
    }
    let message = format!("{secret} cannot be read: {}", chain(error));
    Told::Unreachable { reason: "ClusterUnreachable", message }
}
