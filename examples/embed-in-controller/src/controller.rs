//! The controller: every team that is there, changes or goes is an event.

use std::sync::Arc;
use std::time::Duration;

use fleet_core::event::{DecodeError, Event};
use fleet_core::memory::MemorySource;
use fleet_core::source::Settled;
use futures::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::Api;
use kube::runtime::controller::Action;
use kube::runtime::finalizer::{self, finalizer};
use kube::runtime::{Controller, watcher};
use kube::{Client, ResourceExt};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

/// The label of ConfigMaps that are teams, and the finalizer that keeps one until its end is stored.
const TEAM: &str = "example.dev/team";

/// What the engine did not take. It is tried again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotTold {
    #[error("the team makes no event: {0}")]
    NoEvent(#[from] DecodeError),
    #[error("the engine did not take the event: {0:?}")]
    NotTaken(Settled),
}

struct Context {
    client: Client,
    teams: Arc<MemorySource>,
    reconciled: Counter,
}

/// Looks after teams until `stop`.
pub(crate) fn run(
    client: Client,
    teams: Arc<MemorySource>,
    registry: &mut Registry,
    stop: CancellationToken,
) -> impl Future<Output = ()> + Send + use<> {
    let reconciled = Counter::default();
    registry.register("teams_reconciled", "Times a team was looked at", reconciled.clone());
    let context = Arc::new(Context { client: client.clone(), teams, reconciled });
    Controller::new(Api::<ConfigMap>::all(client), watcher::Config::default().labels(TEAM))
        .graceful_shutdown_on(stop.cancelled_owned())
        .run(reconcile, |_, _, _| Action::requeue(Duration::from_secs(5)), context)
        .for_each(async |_| ())
}

async fn reconcile(
    team: Arc<ConfigMap>,
    context: Arc<Context>,
) -> Result<Action, Box<finalizer::Error<NotTold>>> {
    context.reconciled.inc();
    let api = Api::namespaced(context.client.clone(), &team.namespace().unwrap_or_default());
    let told = finalizer(&api, TEAM, team, async |event| match event {
        finalizer::Event::Apply(team) => tell(&context, "team.there", &team).await,
        finalizer::Event::Cleanup(team) => tell(&context, "team.gone", &team).await,
    });
    told.await.map_err(Box::new)
}

/// Tells the engine. Once this returns, what the event asks for is stored: the finalizer may go.
async fn tell(context: &Context, ty: &str, team: &ConfigMap) -> Result<Action, NotTold> {
    let mut data: serde_json::Map<String, Value> =
        team.data.iter().flatten().map(|(key, value)| (key.clone(), json!(value))).collect();
    data.insert("name".to_owned(), json!(team.name_any()));
    let subject = format!("{}/{}", team.namespace().unwrap_or_default(), team.name_any());
    let id = format!("{}-{}", team.uid().unwrap_or_default(), team.resource_version().unwrap_or_default());
    let event = Event::builder(id, "/teams", ty).subject(subject).json(Value::Object(data)).build()?;
    match context.teams.send(event).await.await {
        Settled::Acked => Ok(Action::await_change()),
        other => Err(NotTold::NotTaken(other)),
    }
}
