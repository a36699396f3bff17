//! The way to the hub: objects that are written there, as many as there may be.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fleet_core::cluster::ClusterId;
use fleet_core::position::Position;
use fleet_core::source::Message;
use http::Method;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::MOST_WAITING;
use crate::agent::bundle::digest;
use crate::agent::{AGENT_LABEL, label_value, relayed_path};
use crate::api::{
    GROUP, RelayProgress, RelayedBody, RelayedDelivery, RelayedEventSpec, VERSION, WorkHeader, WorkMessage,
};
use crate::client::{Call, ClusterClient, Failure, JSON, Patience};

/// Who writes at the hub.
const FIELD_MANAGER: &str = "fleet-agent";
/// How long one request may take.
const DEADLINE: Duration = Duration::from_secs(10);
/// How often is looked whether there is room again.
const LOOK: Duration = Duration::from_secs(1);
/// Metadata is enough to count.
const NAMES: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";

pub(super) struct Outbox {
    id: ClusterId,
    hub: watch::Receiver<Option<ClusterClient>>,
    owner: Box<dyn Fn() -> Option<Value> + Send + Sync>,
    /// How many may be written until it has to be counted how many wait.
    room: tokio::sync::Mutex<usize>,
    trouble: Mutex<Option<String>>,
}

/// An event that is handed on.
pub(super) struct Letter<'a> {
    pub(super) source: &'a str,
    pub(super) position: &'a Position,
    pub(super) published: Timestamp,
    pub(super) message: &'a Message,
    pub(super) body: &'a [u8],
}

/// The hub will never take it.
pub(super) struct Never(pub(super) String);

impl Outbox {
    pub(super) fn new(
        id: ClusterId,
        hub: watch::Receiver<Option<ClusterClient>>,
        owner: Box<dyn Fn() -> Option<Value> + Send + Sync>,
    ) -> Self {
        Self { id, hub, owner, room: tokio::sync::Mutex::new(0), trouble: Mutex::default() }
    }

    pub(super) fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Hands an event on, however long that takes. Cancel safe: handed on again, it is there once.
    pub(super) async fn send(&self, letter: &Letter<'_>) -> Result<(), Never> {
        let object = self.object(letter);
        let body = bytes::Bytes::from(object.to_string());
        let mut patience = Patience::default();
        self.take_room().await;
        loop {
            let failure = match self.client().await {
                Some(client) => {
                    let call = Call {
                        method: Method::POST,
                        content_type: Some(JSON),
                        body: body.clone(),
                        ..Call::get(format!("{}?fieldManager={FIELD_MANAGER}", relayed_path(&self.id)))
                    };
                    match client.call(call, Instant::now() + DEADLINE).await {
                        // Whether this call made it or an earlier one.
                        Ok(_) | Err(Failure::AlreadyExists) => {
                            self.complain(None);
                            return Ok(());
                        }
                        Err(failure @ (Failure::TooLarge { .. } | Failure::Invalid { .. })) => {
                            return Err(Never(failure.to_string()));
                        }
                        Err(failure) => failure,
                    }
                }
                None => Failure::NotTried { reason: "the hub is not known yet".to_owned() },
            };
            self.complain(Some(refused(&failure)));
            sleep(patience.next().unwrap_or(LOOK)).await;
        }
    }

    /// Tells how far an EventSource is handed on.
    pub(super) async fn tell(
        &self,
        source: &str,
        floors: &[Position],
        settled: Option<Timestamp>,
    ) -> Result<(), Failure> {
        let progress = RelayProgress {
            floors: floors.iter().map(ToString::to_string).collect(),
            settled: settled.map(|time| time.to_string()),
        };
        let name = name(&[source]);
        let spec = RelayedEventSpec { source: source.to_owned(), event: None, progress: Some(progress) };
        let Some(client) = self.client().await else {
            return Err(Failure::NotTried { reason: "the hub is not known yet".to_owned() });
        };
        let call = Call {
            method: Method::PATCH,
            content_type: Some("application/apply-patch+yaml"),
            body: self.wrapped(&name, &spec).to_string().into(),
            ..Call::get(format!("{}/{name}?fieldManager={FIELD_MANAGER}&force=true", relayed_path(&self.id)))
        };
        client.call(call, Instant::now() + DEADLINE).await.map(drop)
    }

    fn object(&self, letter: &Letter<'_>) -> Value {
        let Letter { source, position, published, message, body } = letter;
        let header =
            |(name, value): &(String, String)| WorkHeader { name: name.clone(), value: value.clone() };
        let event = RelayedDelivery {
            position: position.to_string(),
            published: published.to_string(),
            message: WorkMessage {
                subject: message.subject.clone(),
                headers: message.headers.iter().map(header).collect(),
            },
            body: RelayedBody(STANDARD.encode(body)),
        };
        let name = name(&[source, &position.to_string()]);
        let spec = RelayedEventSpec { source: (*source).to_owned(), event: Some(event), progress: None };
        self.wrapped(&name, &spec)
    }

    fn wrapped(&self, name: &str, spec: &RelayedEventSpec) -> Value {
        json!({
            "apiVersion": format!("{GROUP}/{VERSION}"),
            "kind": "RelayedEvent",
            "metadata": {
                "name": name,
                "namespace": self.id.namespace(),
                "labels": {(AGENT_LABEL): label_value(&self.id)},
                // It goes with the Cluster.
                "ownerReferences": (self.owner)().into_iter().collect::<Vec<_>>(),
            },
            "spec": spec,
        })
    }

    async fn client(&self) -> Option<ClusterClient> {
        self.hub.borrow().clone()
    }

    /// Waits until there is room for one more, and takes it. What is then not written leaves room that the next count finds.
    async fn take_room(&self) {
        let mut room = self.room.lock().await;
        let mut patience = Patience::default();
        while *room == 0 {
            match self.count().await {
                Ok(waiting) if waiting < MOST_WAITING => *room = MOST_WAITING - waiting,
                Ok(waiting) => {
                    self.complain(Some(format!(
                        "{waiting} events wait at the hub to be taken, which is as many as there may be; see whether the operator \
                         there runs, and can read and delete relayedevents"
                    )));
                    sleep(LOOK).await;
                }
                Err(failure) => {
                    self.complain(Some(refused(&failure)));
                    sleep(patience.next().unwrap_or(LOOK)).await;
                }
            }
        }
        *room -= 1;
    }

    /// How many wait at the hub.
    async fn count(&self) -> Result<usize, Failure> {
        #[derive(Deserialize)]
        struct List {
            items: Vec<serde::de::IgnoredAny>,
        }
        let Some(client) = self.client().await else {
            return Err(Failure::NotTried { reason: "the hub is not known yet".to_owned() });
        };
        let path = format!("{}?limit={}", relayed_path(&self.id), 2 * MOST_WAITING);
        let answer =
            client.call(Call { accept: NAMES, ..Call::get(path) }, Instant::now() + DEADLINE).await?;
        let list: List = serde_json::from_slice(&answer)
            .map_err(|_| Failure::NoAnswer { reason: "the answer is no list".to_owned() })?;
        Ok(list.items.len())
    }

    fn complain(&self, trouble: Option<String>) {
        let mut told = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        if *told != trouble {
            match &trouble {
                Some(trouble) => tracing::warn!("events for other clusters: {trouble}"),
                None => tracing::info!("events for other clusters are handed on to the hub"),
            }
            *told = trouble;
        }
    }
}

fn refused(failure: &Failure) -> String {
    match failure {
        Failure::Forbidden { message } => format!(
            "the hub does not let them in: {message}; register the cluster again (fleet-operator register cluster --agent)"
        ),
        Failure::NoSuchPath => {
            "the hub does not know the kind RelayedEvent; install it there: fleet-operator crds | \
             kubectl apply --server-side -f -"
                .to_owned()
        }
        failure => format!("the hub cannot be given them now: {failure}; it is tried again"),
    }
}

/// The same for the same parts, whoever asks when.
pub(super) fn name(parts: &[&str]) -> String {
    let mut text = String::new();
    for part in parts {
        text.push_str(&format!("{}:{part}", part.len()));
    }
    let mut name = digest(text.as_bytes());
    name.truncate(40);
    name
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use fleet_core::position::Domain;
    use http_body_util::Full;

    use super::*;

    /// An outbox whose hub answers as told, and what it was asked.
    fn outbox(mut answers: Vec<(u16, String)>) -> (Outbox, Arc<Mutex<Vec<String>>>) {
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let log = Arc::clone(&asked);
        answers.reverse();
        let client = ClusterClient::scripted(move |request| {
            log.lock().unwrap().push(request.method().to_string());
            let (status, body) = answers.pop().expect("it asks no more than that");
            async move {
                let response = http::Response::builder().status(status);
                Ok(response.body(Full::new(bytes::Bytes::from(body))).unwrap())
            }
        });
        let (_, hub) = watch::channel(Some(client));
        let id = ClusterId::new("prod1", "c1").unwrap();
        (Outbox::new(id, hub, Box::new(|| None)), asked)
    }

    fn list(waiting: usize) -> (u16, String) {
        (200, json!({"metadata": {}, "items": vec![json!({}); waiting]}).to_string())
    }

    fn status(code: u16, reason: &str) -> (u16, String) {
        let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason,
            "message": "told"});
        (code, status.to_string())
    }

    async fn send(outbox: &Outbox) -> Result<(), Never> {
        let position = Position { domain: Domain::new("s"), epoch: 1, sequence: 1 };
        let (message, published) = (Message::default(), Timestamp::UNIX_EPOCH);
        let letter =
            Letter { source: "users", position: &position, published, message: &message, body: b"{}" };
        outbox.send(&letter).await
    }

    #[tokio::test(start_paused = true)]
    async fn at_the_bound_nothing_is_handed_on_until_there_is_room() {
        let made = (201, "{}".to_owned());
        let answers =
            vec![list(MOST_WAITING), list(MOST_WAITING), list(MOST_WAITING - 2), made.clone(), made, list(0)];
        let (outbox, asked) = outbox([answers, vec![(201, "{}".to_owned())]].concat());
        for _ in 0..3 {
            assert!(send(&outbox).await.is_ok());
        }
        let asked = asked.lock().unwrap().join(" ");
        assert_eq!(asked, "GET GET GET POST POST GET POST", "it counts again once the room is used up");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_there_already_is_handed_on_and_what_cannot_be_is_told() {
        let (outbox, _) = outbox(vec![
            list(0),
            status(503, "ServiceUnavailable"),
            status(409, "AlreadyExists"),
            status(413, "RequestEntityTooLarge"),
        ]);
        assert!(send(&outbox).await.is_ok());
        assert_eq!(outbox.trouble(), None);
        assert!(send(&outbox).await.is_err());
    }

    #[test]
    fn names_are_the_same_for_the_same_place_only() {
        assert_eq!(name(&["a", "s@1.1"]), name(&["a", "s@1.1"]));
        assert_ne!(name(&["a", "bs@1.1"]), name(&["ab", "s@1.1"]));
    }
}
