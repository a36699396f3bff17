//! What a relay reads, what the hub has of it, and when that is acknowledged. In virtual time.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use fleet_core::catalog::SourceDef;
use fleet_core::event::Event;
use fleet_core::filter::Filter;
use fleet_core::memory::MemoryStore;
use fleet_core::selector::LabelSelector;
use fleet_core::source::{Settle, Settled, SourceError, SourceItem};
use futures::stream::{self, BoxStream, StreamExt as _};
use http::{Method, Response};
use http_body_util::{BodyExt as _, Full};
use serde_json::json;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::*;
use crate::api::{RelayProgress, RelayedEventSpec};
use crate::definitions::RawObject;
use crate::store::read_position;

/// A hub: what was written there, and whether it takes events.
#[derive(Clone, Default)]
struct Hub(Arc<Mutex<AtHub>>);

#[derive(Default)]
struct AtHub {
    refuses: bool,
    asked: usize,
    events: BTreeMap<String, RelayedEventSpec>,
    progress: RelayProgress,
}

impl Hub {
    fn lock(&self) -> MutexGuard<'_, AtHub> {
        self.0.lock().unwrap()
    }

    fn refuses(&self, refuses: bool) {
        self.lock().refuses = refuses;
    }

    fn client(&self) -> ClusterClient {
        let hub = self.clone();
        ClusterClient::scripted(move |request| {
            let hub = hub.clone();
            async move {
                let method = request.method().clone();
                let body = request.into_body().collect().await?.to_bytes();
                let (status, body) = hub.lock().answer(&method, &body);
                Ok(Response::builder().status(status).body(Full::new(Bytes::from(body.to_string()))).unwrap())
            }
        })
    }

    /// Who published it, by the places of what is there.
    fn has(&self) -> Vec<(Position, String)> {
        let hub = self.lock();
        let events = hub.events.values().map(|spec| {
            let event = spec.event.as_ref().unwrap();
            (read_position(&event.position).unwrap(), event.message.subject.clone())
        });
        let mut events: Vec<_> = events.collect();
        events.sort_by_key(|(position, _)| (position.epoch, position.sequence));
        events
    }

    /// When an event was published, as the hub has it.
    fn published(&self, subject: &str) -> Timestamp {
        let hub = self.lock();
        let mut events = hub.events.values().filter_map(|spec| spec.event.as_ref());
        events.find(|event| event.message.subject == subject).unwrap().published.parse().unwrap()
    }

    fn settled(&self) -> Option<Timestamp> {
        self.lock().progress.settled.as_ref().map(|settled| settled.parse().unwrap())
    }
}

impl AtHub {
    fn answer(&mut self, method: &Method, body: &Bytes) -> (u16, Value) {
        self.asked += 1;
        let failed = |code: u16, reason: &str| {
            (
                code,
                json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason}),
            )
        };
        if *method == Method::GET {
            return (200, json!({"metadata": {}, "items": []}));
        }
        let object: Value = serde_json::from_slice(body).unwrap();
        let spec: RelayedEventSpec = serde_json::from_value(object["spec"].clone()).unwrap();
        if let Some(progress) = spec.progress {
            self.progress = progress;
            return (200, object);
        }
        if self.refuses {
            return failed(503, "ServiceUnavailable");
        }
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        if self.events.contains_key(&name) {
            return failed(409, "AlreadyExists");
        }
        self.events.insert(name, spec);
        (201, object)
    }
}

/// A feed that cannot deliver anything again, and knows no places: as core NATS and HTTP.
struct Feed(Mutex<Option<mpsc::Receiver<SourceItem>>>);

#[async_trait]
impl EventSource for Feed {
    fn name(&self) -> &str {
        "users"
    }

    async fn open(&self, _floors: Vec<Position>) -> Result<BoxStream<'static, SourceItem>, SourceError> {
        let items = self.0.lock().unwrap().take().unwrap();
        Ok(stream::unfold(items, |mut items| async move { Some((items.recv().await?, items)) }).boxed())
    }
}

/// An agent that hands on what somebody tells it.
struct Agent {
    hub: Hub,
    store: Arc<MemoryStore>,
    relay: Arc<Relay>,
    told: mpsc::Sender<SourceItem>,
    _running: AbortOnDropHandle<()>,
}

impl Agent {
    fn start() -> Self {
        let (hub, store) = (Hub::default(), Arc::<MemoryStore>::default());
        let only_logins = Filter::Exact([("type".to_owned(), "login".to_owned())].into());
        let trigger = TriggerDef {
            destination_clusters: Some(LabelSelector::everything()),
            filter: only_logins,
            ttl: Some(Duration::from_secs(60)),
            ..TriggerDef::new("across", "users", LabelSelector::everything())
        };
        let mut definitions = Definitions::default();
        definitions.catalog.sources.insert("users".into(), Arc::new(SourceDef::new("users")));
        definitions.catalog.triggers.insert("across".into(), Arc::new(trigger));
        let relay = Arc::new(Relay::new(RelayPlace {
            id: ClusterId::new("prod1", "c1").unwrap(),
            store: Arc::clone(&store) as _,
            definitions: watch::channel(Some(Arc::new(definitions))).1,
            hub: watch::channel(Some(hub.client())).1,
            owner: Box::new(|| None),
        }));
        let telling = Arc::clone(&relay);
        let _running = AbortOnDropHandle::new(tokio::spawn(async move { telling.run().await }));
        let told = Self::attach(&relay, None);
        Self { hub, store, relay, told, _running }
    }

    fn attach(relay: &Relay, patience: Option<Duration>) -> mpsc::Sender<SourceItem> {
        let (told, items) = mpsc::channel(8);
        relay.attach(Arc::new(Feed(Mutex::new(Some(items)))), patience);
        told
    }

    /// The same feed, by another connection.
    fn attach_again(&mut self, patience: Option<Duration>) {
        self.told = Self::attach(&self.relay, patience);
    }

    /// Somebody published something; what becomes of it.
    async fn publish(&self, ty: &str, subject: &str) -> oneshot::Receiver<Settled> {
        self.publish_at(ty, subject, None).await
    }

    async fn publish_at(
        &self,
        ty: &str,
        subject: &str,
        position: Option<Position>,
    ) -> oneshot::Receiver<Settled> {
        let (settled, outcome) = oneshot::channel();
        let event = Event::builder("1", "auth", ty).subject(subject).build().unwrap();
        let raw = event.to_json().to_string();
        let message = fleet_core::source::Message { subject: subject.to_owned(), headers: Vec::new() };
        let settle = Settle::tell(move |how| _ = settled.send(how));
        let delivery =
            Delivery { message: Arc::new(message), position, ..Delivery::new(Ok(event), raw, settle) };
        self.told.send(SourceItem::Delivery(delivery)).await.unwrap();
        outcome
    }

    async fn hands_on(&self, subject: &str) {
        assert_eq!(self.publish("login", subject).await.await.unwrap(), Settled::Acked);
        assert!(self.hub.has().iter().any(|(_, there)| there == subject));
    }
}

async fn until(holds: impl Fn() -> bool) {
    let waiting = async {
        while !holds() {
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(Duration::from_secs(60), waiting).await.expect("it never holds");
}

#[tokio::test(start_paused = true)]
async fn an_event_is_acknowledged_once_the_hub_has_it_and_not_before() {
    let agent = Agent::start();
    agent.hub.refuses(true);
    let mut anna = agent.publish("login", "anna").await;
    assert!(timeout(Duration::from_secs(600), &mut anna).await.is_err(), "the hub has nothing of it");
    // What no trigger wants is not for the hub, and waits for nothing.
    let asked = agent.hub.lock().asked;
    assert!(asked > 0);
    let unwanted = timeout(Duration::from_secs(600), agent.publish("logout", "anna").await).await;
    assert_eq!(unwanted.expect("it waits for the hub").unwrap(), Settled::Acked);
    agent.hub.refuses(false);
    assert_eq!(anna.await.unwrap(), Settled::Acked);
    let there: Vec<String> = agent.hub.has().into_iter().map(|(_, subject)| subject).collect();
    assert_eq!(there, ["anna"]);
}

/// An agent that is killed before it has acknowledged hands it on once more.
#[tokio::test(start_paused = true)]
async fn what_comes_twice_is_there_once_and_has_floors_of_its_own() {
    let agent = Agent::start();
    let at = |sequence| Position { domain: Domain::new("users"), epoch: 1, sequence };
    for _ in 0..2 {
        let settled = agent.publish_at("login", "anna", Some(at(7))).await.await.unwrap();
        assert_eq!(settled, Settled::Acked);
    }
    assert_eq!(agent.hub.has(), [(at(7), "anna".to_owned())]);
    agent.told.send(SourceItem::Floor(at(7))).await.unwrap();
    until(|| agent.hub.lock().progress.floors == [at(7).to_string()]).await;
    // What the cluster's own engine has settled is another matter.
    assert_eq!(agent.store.floors("users").await.unwrap(), []);
    assert_eq!(agent.store.floors("users_relay").await.unwrap(), [at(7)]);
}

/// Over HTTP somebody waits for an answer.
#[tokio::test(start_paused = true)]
async fn whoever_waits_is_told_to_send_it_again() {
    let mut agent = Agent::start();
    agent.attach_again(Some(Duration::from_secs(5)));
    agent.hub.refuses(true);
    let anna = timeout(Duration::from_secs(6), agent.publish("login", "anna").await).await;
    assert!(matches!(anna.expect("it waits for the hub").unwrap(), Settled::GivenBack(_)));
    agent.hub.refuses(false);
    agent.hands_on("anna").await;
}

/// It reads beside the engine, and takes nothing from it.
#[test]
fn what_is_read_for_the_hub_is_read_by_consumers_of_its_own() {
    let object = |kind: &str, name: &str, spec: Value| {
        let api = "fleet-events.dev/v1alpha1";
        RawObject::in_api(json!({"apiVersion": api, "kind": kind, "metadata": {"name": name}, "spec": spec}))
    };
    let nats = |further: Value| {
        let mut nats = json!({"urls": ["nats://a:4222"], "subjects": ["x"]});
        nats.as_object_mut().unwrap().extend(further.as_object().unwrap().clone());
        json!({"nats": nats})
    };
    let trigger = |source: &str, destination: Value| {
        let mut spec = json!({"eventSourceName": source, "oneForEvent": true, "policyRefs": [{"kind": "ConfigMap", "namespace": "default", "name": "t"}],
            "sourceClusterSelector": {}});
        spec.as_object_mut().unwrap().extend(destination.as_object().unwrap().clone());
        spec
    };
    let across = json!({"destinationClusterSelector": {}});
    let definitions = Definitions::read(
        [
            object("EventSource", "stream", nats(json!({"jetStream": {"stream": "s", "durable": "d"}}))),
            object("EventSource", "core", nats(json!({"queueGroup": "g"}))),
            object("EventSource", "here", nats(json!({}))),
            object("EventTrigger", "one", trigger("stream", across.clone())),
            object("EventTrigger", "two", trigger("core", across.clone())),
            object("EventTrigger", "three", trigger("here", across)),
            object("EventTrigger", "four", trigger("stream", json!({}))),
        ],
        Vec::new(),
        None,
    );
    let relayed = relayed_definitions(&definitions, &["stream".into(), "core".into()].into());
    let triggers: Vec<&str> = relayed.catalog.triggers.keys().map(|name| &**name).collect();
    assert_eq!(triggers, ["one", "two"], "{:?}", definitions.problems);
    let named = relayed.transports.values().map(|transport| match transport {
        Transport::Nats(nats) => {
            let durable = nats.jet_stream.as_ref().and_then(|stream| stream.durable.clone());
            (durable, nats.queue_group.clone())
        }
        other => panic!("{other:?}"),
    });
    let named: Vec<_> = named.collect();
    assert_eq!(named, [(None, Some("g_relay".to_owned())), (Some("d_relay".to_owned()), None)]);
}

/// A Secret was edited, say: the feed is the same one, and what it delivers comes after all that it has delivered.
#[tokio::test(start_paused = true)]
async fn a_feed_that_is_attached_again_counts_on_above_all_that_it_has_delivered() {
    let mut agent = Agent::start();
    agent.hands_on("anna").await;
    agent.hands_on("berta").await;
    agent.attach_again(None);
    agent.hands_on("carla").await;
    let there = agent.hub.has();
    let subjects: Vec<&str> = there.iter().map(|(_, subject)| &**subject).collect();
    assert_eq!(subjects, ["anna", "berta", "carla"], "{there:?}");
    let domains: BTreeSet<&Domain> = there.iter().map(|(position, _)| &position.domain).collect();
    assert_eq!(domains.len(), 1, "they compare with each other");
}

/// The hub lets a key expire once it is told that what may renew it is there.
#[tokio::test(start_paused = true)]
async fn the_hub_is_told_how_far_all_is_handed_on_and_no_further() {
    let agent = Agent::start();
    agent.hands_on("anna").await;
    until(|| agent.hub.settled() > Some(agent.hub.published("anna"))).await;
    agent.hub.refuses(true);
    let before = agent.hub.settled().unwrap();
    // What is published in the same millisecond counts as if it were under way.
    while Timestamp::now().duration_since(before) < jiff::SignedDuration::from_millis(2) {}
    let berta = agent.publish("login", "berta").await;
    // It waits for long; all before it is there, and the hub knows.
    until(|| agent.hub.settled() > Some(before)).await;
    sleep(Duration::from_secs(60)).await;
    let meanwhile = agent.hub.settled().unwrap();
    agent.hub.refuses(false);
    assert_eq!(berta.await.unwrap(), Settled::Acked);
    assert!(meanwhile < agent.hub.published("berta"), "what waits may renew a key");
    until(|| agent.hub.settled() > Some(agent.hub.published("berta"))).await;
}
