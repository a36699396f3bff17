//! What is watched: one kind, in all namespaces or in one.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject};
use kube::runtime::WatchStreamExt;
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::{self, Event, watcher};
use tokio::time::Instant;

use crate::api::{GROUP, VERSION};
use crate::definitions::{Kind, ObjectId};

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
    pub(super) fn ours() -> [Self; 3] {
        [Kind::EventSource, Kind::EventTrigger, Kind::Cluster].map(|kind| Self { kind, namespace: None })
    }

    /// Where a ConfigMap or Secret is found.
    pub(super) fn of(id: &ObjectId) -> Self {
        Self { kind: id.kind, namespace: id.namespace.clone() }
    }

    /// Everything in it, and then every change. Errors are retried with growing delays.
    pub(super) fn watch(
        &self,
        client: Client,
    ) -> BoxStream<'static, Result<Event<DynamicObject>, watcher::Error>> {
        let resource = resource(self.kind);
        let api: Api<DynamicObject> = match &self.namespace {
            Some(namespace) => Api::namespaced_with(client, namespace, &resource),
            None => Api::all_with(client, &resource),
        };
        let config = watcher::Config::default().timeout(WATCH.as_secs() as u32);
        let config = match self.kind {
            // Helm keeps its releases in Secrets: large ones, and nobody refers to them.
            Kind::Secret => config.fields("type!=helm.sh/release.v1"),
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
pub(super) fn resource(kind: Kind) -> ApiResource {
    let (group, version, plural) = match kind {
        Kind::EventSource => (GROUP, VERSION, "eventsources"),
        Kind::EventTrigger => (GROUP, VERSION, "eventtriggers"),
        Kind::Cluster => (GROUP, VERSION, "clusters"),
        Kind::ConfigMap => ("", "v1", "configmaps"),
        Kind::Secret => ("", "v1", "secrets"),
    };
    let api_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    ApiResource {
        group: group.to_owned(),
        version: version.to_owned(),
        api_version,
        kind: kind.to_string(),
        plural: plural.to_owned(),
    }
}

/// Delays between attempts. The watcher says "well" before each attempt to list, so what counts is only how long ago
/// the last failure was.
#[derive(Debug, Default)]
struct Patience {
    last: Option<(Instant, Duration)>,
}

impl Patience {
    const SHORTEST: Duration = Duration::from_millis(250);
    const LONGEST: Duration = Duration::from_secs(5);
    /// After that much time without a failure the delays begin anew.
    const FORGIVEN: Duration = Duration::from_secs(30);
}

impl Iterator for Patience {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let now = Instant::now();
        let delay = match self.last {
            Some((at, delay)) if now < at + delay + Self::FORGIVEN => (delay * 2).min(Self::LONGEST),
            _ => Self::SHORTEST,
        };
        self.last = Some((now, delay));
        Some(delay)
    }
}

impl Backoff for Patience {
    fn reset(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn patience_grows_and_is_forgiven() {
        let mut patience = Patience::default();
        let delays: Vec<u128> = patience.by_ref().take(6).map(|delay| delay.as_millis()).collect();
        assert_eq!(delays, [250, 500, 1000, 2000, 4000, 5000]);
        patience.reset();
        assert_eq!(patience.next(), Some(Patience::LONGEST), "a list that is tried again is no success");
        tokio::time::advance(Patience::LONGEST + Patience::FORGIVEN).await;
        assert_eq!(patience.next(), Some(Patience::SHORTEST));
    }
}
