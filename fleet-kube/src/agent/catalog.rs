//! The Catalog of an agent: the one Secret at the hub, and its last good version in the agent's own cluster.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use fleet_core::catalog::{Catalog, CatalogError, CatalogSnapshot, Condition, Subject};
use fleet_core::cluster::ClusterId;
use fleet_core::resolve::Resolve;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use http::Method;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::watch_object;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::task::AbortOnDropHandle;

use super::bundle::Bundle;
use super::narrow::narrow;
use super::relay::relayed_definitions;
use super::{object_name, owner_reference};
use crate::client::{Call, ClusterClient, FIELD_MANAGER, Failure, Patience, chain};
use crate::connection::Connection;
use crate::definitions::{Definitions, Kind, ObjectId};

/// The Secret in the agent's own cluster with the last good version.
const LAST_GOOD: &str = "fleet-agent-definitions";
/// When is tried again to keep a version.
const KEEP_AGAIN: Duration = Duration::from_secs(5);
/// How long one request may take.
const DEADLINE: Duration = Duration::from_secs(10);

/// Where an agent is.
#[derive(Clone, Debug)]
pub struct AgentPlace {
    /// Its cluster, as the hub calls it.
    pub id: ClusterId,
    /// How it reaches that.
    pub connection: Connection,
    /// Where names are reached that do not resolve for it.
    pub resolve: Vec<Resolve>,
    /// A client of its own cluster.
    pub own: ClusterClient,
    /// The agent's namespace there.
    pub namespace: String,
}

/// Definitions that the hub wrote for an agent. Dropping it ends its task.
pub struct AgentCatalog {
    id: ClusterId,
    definitions: watch::Receiver<Option<Arc<Definitions>>>,
    digest: watch::Receiver<Option<Arc<str>>>,
    relayed: watch::Receiver<Option<Arc<Definitions>>>,
    trouble: watch::Receiver<Option<String>>,
    _task: AbortOnDropHandle<()>,
}

impl AgentCatalog {
    /// Follows what the hub says, from what it said last. Needs a tokio runtime.
    pub fn start(place: AgentPlace, hub: watch::Receiver<Option<ClusterClient>>) -> Self {
        let (publish, definitions) = watch::channel(None);
        let (tell, digest) = watch::channel(None);
        let (complain, trouble) = watch::channel(None);
        let (relay, relayed) = watch::channel(None);
        let id = place.id.clone();
        let reader = Reader { place, publish, relay, tell, complain };
        let _task = AbortOnDropHandle::new(tokio::spawn(reader.run(hub)));
        Self { id, definitions, digest, relayed, trouble, _task }
    }

    /// The definitions: none until there are any, then always the last good ones.
    pub fn definitions(&self) -> watch::Receiver<Option<Arc<Definitions>>> {
        self.definitions.clone()
    }

    /// Of these, what concerns other clusters, and so the hub is to hear of.
    pub fn relayed(&self) -> watch::Receiver<Option<Arc<Definitions>>> {
        self.relayed.clone()
    }

    /// The digest of what the hub wrote that is in force here.
    pub fn digest(&self) -> watch::Receiver<Option<Arc<str>>> {
        self.digest.clone()
    }

    /// The Cluster at the hub, as an owner reference.
    pub fn owner(&self) -> Option<Value> {
        let definitions = self.definitions.borrow().clone()?;
        let id = ObjectId::namespaced(Kind::Cluster, self.id.namespace(), self.id.name());
        owner_reference(&serde_json::from_str(definitions.original(&id)?).ok()?)
    }

    /// What keeps the hub's word from coming, in a sentence that says what to do.
    pub fn trouble(&self) -> watch::Receiver<Option<String>> {
        self.trouble.clone()
    }
}

#[async_trait]
impl Catalog for AgentCatalog {
    async fn subscribe(&self) -> Result<BoxStream<'static, Arc<CatalogSnapshot>>, CatalogError> {
        let mut definitions = self.definitions.clone();
        definitions.mark_changed();
        let snapshots = stream::unfold(definitions, |mut definitions| async move {
            loop {
                definitions.changed().await.ok()?;
                let read = definitions.borrow_and_update().clone();
                if let Some(read) = read {
                    return Some((Arc::new(read.catalog.clone()), definitions));
                }
            }
        });
        Ok(snapshots.boxed())
    }

    /// There is no object to write it on: it is logged, and shown.
    fn report(&self, _subject: &Subject, _condition: Condition) {}
}

struct Reader {
    place: AgentPlace,
    publish: watch::Sender<Option<Arc<Definitions>>>,
    relay: watch::Sender<Option<Arc<Definitions>>>,
    tell: watch::Sender<Option<Arc<str>>>,
    complain: watch::Sender<Option<String>>,
}

impl Reader {
    async fn run(self, mut hub: watch::Receiver<Option<ClusterClient>>) {
        // Whoever answers first: what is kept here must not wait for the hub, nor the other way round.
        let kept = self.last_good();
        tokio::pin!(kept);
        let mut loading = true;
        let mut unkept: Option<Value> = None;
        loop {
            let client = hub.borrow_and_update().clone();
            let mut seen = match &client {
                Some(client) => {
                    let api: Api<Secret> = Api::namespaced(client.api(), self.place.id.namespace());
                    watch_object(api, &object_name(&self.place.id)).backoff(Patience::default()).boxed()
                }
                None => stream::pending().boxed(),
            };
            loop {
                tokio::select! {
                    changed = hub.changed() => {
                        if changed.is_err() {
                            return;
                        }
                        break;
                    }
                    secret = &mut kept, if loading => {
                        loading = false;
                        if let Some(secret) = secret {
                            self.take(&secret);
                        }
                    }
                    Some(now) = seen.next() => match now {
                        Ok(Some(secret)) => {
                            let secret = serde_json::to_value(secret).unwrap_or_default();
                            loading = false;
                            if self.take(&secret) {
                                unkept = self.keep(secret).await;
                            }
                        }
                        // Absence is not an order.
                        Ok(None) => self.complain(Some(format!(
                            "Secret {}/{} is not at the hub; the operator there writes it once it knows a Cluster {} with spec.agent",
                            self.place.id.namespace(), object_name(&self.place.id), self.place.id
                        ))),
                        Err(error) => self.complain(Some(format!("definitions cannot be read at the hub: {}", chain(&error)))),
                    },
                    () = sleep(KEEP_AGAIN), if unkept.is_some() => {
                        if let Some(secret) = unkept.take() {
                            unkept = self.keep(secret).await;
                        }
                    }
                }
            }
        }
    }

    fn complain(&self, trouble: Option<String>) {
        self.complain.send_if_modified(|told| {
            let news = *told != trouble;
            if let (true, Some(trouble)) = (news, &trouble) {
                tracing::warn!("{trouble}");
            }
            *told = trouble;
            news
        });
    }

    /// Takes what the hub wrote; whether it is news.
    fn take(&self, secret: &Value) -> bool {
        let (bundle, digest) = match Bundle::of_secret(secret, &self.place.id) {
            Ok(read) => read,
            Err(error) => {
                self.complain(Some(format!(
                    "the definitions in Secret {}/{} are not used, and the last ones are: {error}",
                    self.place.id.namespace(),
                    object_name(&self.place.id)
                )));
                return false;
            }
        };
        self.complain(None);
        if self.tell.borrow().as_deref() == Some(&*digest) {
            return false;
        }
        let previous = self.publish.borrow().clone();
        let mut read = Definitions::read(bundle.objects(), Vec::new(), previous.as_deref());
        read.catalog.complete &= bundle.complete();
        read.catalog.resources = Arc::new(bundle.resources());
        read.catalog.withheld = bundle.withheld().clone();
        narrow(&mut read, &self.place.id, &self.place.connection, &self.place.resolve);
        for problem in &read.problems {
            if !previous.as_ref().is_some_and(|previous| previous.problems.contains(problem)) {
                tracing::warn!("{problem}");
            }
        }
        tracing::info!("definitions {} of the hub are in force", digest.get(..12).unwrap_or(&digest));
        self.relay.send_replace(Some(Arc::new(relayed_definitions(&read, bundle.relayed()))));
        self.publish.send_replace(Some(Arc::new(read)));
        self.tell.send_replace(Some(digest.into()));
        true
    }

    fn path(&self) -> String {
        format!("/api/v1/namespaces/{}/secrets/{LAST_GOOD}", self.place.namespace)
    }

    /// What was kept, once the own cluster says it; nothing, if there is none.
    async fn last_good(&self) -> Option<Value> {
        let mut patience = Patience::default();
        loop {
            match self.place.own.call(Call::get(self.path()), Instant::now() + DEADLINE).await {
                Ok(answer) => return serde_json::from_slice(&answer).ok(),
                Err(Failure::NotFound { .. }) => return None,
                Err(failure) => {
                    tracing::debug!("the last definitions cannot be read here yet: {failure}");
                    sleep(patience.next().unwrap_or(DEADLINE)).await;
                }
            }
        }
    }

    /// Keeps a version for the next start; what could not be kept is given back.
    async fn keep(&self, secret: Value) -> Option<Value> {
        let object = json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": LAST_GOOD, "namespace": self.place.namespace},
            "type": super::SECRET_TYPE,
            "data": secret.get("data"),
        });
        let call = Call {
            method: Method::PATCH,
            content_type: Some("application/apply-patch+yaml"),
            body: object.to_string().into(),
            ..Call::get(format!("{}?fieldManager={FIELD_MANAGER}&force=true", self.path()))
        };
        match self.place.own.call(call, Instant::now() + DEADLINE).await {
            Ok(_) => None,
            Err(failure) => {
                tracing::debug!("definitions cannot be kept here yet: {failure}");
                Some(secret)
            }
        }
    }
}
