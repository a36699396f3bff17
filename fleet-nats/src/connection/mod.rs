//! Connections to NATS: shared, made in the background, made again when they are lost.

mod config;
mod trouble;
mod verify;

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use async_nats::{Client, ClientError, Event, ServerError, Subject};
use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::{broadcast, mpsc, watch};
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use crate::backoff::Backoff;

pub(crate) use config::wrong;
pub use config::{Auth, ClientCertificate, ConfigError, NatsConfig, Tls};
pub use trouble::NAME_NOT_RESOLVED;
pub(crate) use trouble::Trouble;

/// How many dropped deliveries can wait to be given back; more come again when their acknowledgement is overdue.
const GIVE_BACKS: usize = 2048;

/// The connections of one process. Sources with equal configurations share one; it is closed when the last of them,
/// and the last delivery from it, is gone.
#[derive(Clone, Debug, Default)]
pub struct Connections {
    open: Arc<Mutex<Vec<Weak<Connection>>>>,
    /// What gives back deliveries that were dropped.
    returning: TaskTracker,
}

impl Connections {
    /// No connections yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The connection for a configuration, which is made in the background.
    pub(crate) fn get(&self, config: &NatsConfig) -> Result<Arc<Connection>, ConfigError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|connection| connection.strong_count() > 0);
        if let Some(shared) =
            open.iter().filter_map(Weak::upgrade).find(|connection| connection.config == *config)
        {
            return Ok(shared);
        }
        let connection = Arc::new(Connection::start(config.clone(), &self.returning)?);
        open.push(Arc::downgrade(&connection));
        Ok(connection)
    }

    /// Waits until the sources and deliveries that used the connections are gone, and what was dropped unsettled is
    /// given back: a process that ends earlier leaves it to be overdue. Two seconds at most. Cancel safe.
    pub async fn closed(&self) {
        const DEADLINE: Duration = Duration::from_secs(2);
        self.returning.close();
        let _ = tokio::time::timeout(DEADLINE, self.returning.wait()).await;
    }
}

/// One connection, and the task that keeps it.
#[derive(Debug)]
pub(crate) struct Connection {
    config: NatsConfig,
    link: watch::Receiver<Link>,
    complaints: broadcast::Sender<String>,
    give_backs: mpsc::Sender<GiveBack>,
    dropped: watch::Receiver<u64>,
    returning: TaskTracker,
    runtime: Handle,
    _keeper: AbortOnDropHandle<()>,
}

/// Whether there is a connection now.
#[derive(Clone, Debug)]
pub(crate) enum Link {
    /// There is none; what is the matter.
    Down(Trouble),
    /// There is one. Sent anew for each connection; the client stays the same.
    Up(Client),
}

#[derive(Debug)]
struct GiveBack {
    client: Client,
    reply: Subject,
    delay: Duration,
}

impl Connection {
    fn start(config: NatsConfig, returning: &TaskTracker) -> Result<Self, ConfigError> {
        config.options()?;
        let trouble =
            Trouble { reason: "Connecting", message: format!("connecting to {}", config.servers_text()) };
        let (link, watched) = watch::channel(Link::Down(trouble));
        let (complaints, _) = broadcast::channel(16);
        let (give_backs, returned) = mpsc::channel(GIVE_BACKS);
        let (dropping, dropped) = watch::channel(0);
        let keeper =
            Keeper { config: config.clone(), link, complaints: complaints.clone(), dropped: dropping };
        // Ends with the last sender, that is, with this connection.
        returning.spawn(give_back_dropped(returned));
        let keeper = AbortOnDropHandle::new(tokio::spawn(keeper.run()));
        let (returning, runtime) = (returning.clone(), Handle::current());
        Ok(Self {
            config,
            link: watched,
            complaints,
            give_backs,
            dropped,
            returning,
            runtime,
            _keeper: keeper,
        })
    }

    /// Whether there is a connection, and each change of that.
    pub(crate) fn link(&self) -> watch::Receiver<Link> {
        self.link.clone()
    }

    /// What the server complains about (a subject that may not be read), from now on.
    pub(crate) fn complaints(&self) -> broadcast::Receiver<String> {
        self.complaints.subscribe()
    }

    /// How many messages the client library had to drop, for all subscriptions together.
    pub(crate) fn dropped(&self) -> watch::Receiver<u64> {
        self.dropped.clone()
    }

    /// Gives back a JetStream message that was dropped unsettled. If there are too many at once, the server finds out
    /// by itself when its acknowledgement is overdue.
    pub(crate) fn give_back(&self, client: Client, reply: Subject, delay: Duration) {
        let _ = self.give_backs.try_send(GiveBack { client, reply, delay });
    }

    /// Has something done, after its source was dropped, that gives back what still arrives.
    pub(crate) fn after_drop(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.returning.spawn_on(task, &self.runtime);
    }
}

/// Waits until the server has seen all that was sent before: it answers a request to nobody at once. A user who may not
/// send that waits for the deadline.
pub(crate) async fn round_trip(client: &Client) {
    const DEADLINE: Duration = Duration::from_secs(1);
    let request = async_nats::Request::new().timeout(Some(DEADLINE));
    let _ = client.send_request(client.new_inbox(), request).await;
}

async fn give_back_dropped(mut returned: mpsc::Receiver<GiveBack>) {
    const DEADLINE: Duration = Duration::from_secs(2);
    let mut last = None;
    while let Some(GiveBack { client, reply, delay }) = returned.recv().await {
        let _ = tokio::time::timeout(DEADLINE, client.publish(reply, nak(delay))).await;
        last = Some(client);
    }
    if let Some(client) = last {
        let _ = tokio::time::timeout(DEADLINE, client.flush()).await;
    }
}

/// The payload that gives a JetStream message back.
pub(crate) fn nak(delay: Duration) -> Bytes {
    match delay.as_nanos() {
        0 => Bytes::from_static(b"-NAK"),
        nanos => Bytes::from(format!("-NAK {{\"delay\":{nanos}}}")),
    }
}

/// Makes the connection and follows what the client library tells of it. The library makes it again by itself when it
/// is lost, for ever; only the first time it must be told to.
struct Keeper {
    config: NatsConfig,
    link: watch::Sender<Link>,
    complaints: broadcast::Sender<String>,
    dropped: watch::Sender<u64>,
}

impl Keeper {
    async fn run(self) {
        // The library hands its events to one callback at a time and drops those that find no room.
        let (events, mut told) = mpsc::channel(64);
        let client = self.first_connection(events).await;
        self.link.send_replace(Link::Up(client.clone()));
        while let Some(event) = told.recv().await {
            let up = matches!(*self.link.borrow(), Link::Up(_));
            match event {
                Event::Connected if !up => {
                    tracing::info!(servers = self.config.servers_text(), "connected to NATS again");
                    self.link.send_replace(Link::Up(client.clone()));
                }
                Event::Disconnected => {
                    let message = format!(
                        "the connection to {} was lost; it is made again",
                        self.config.servers_text()
                    );
                    self.down(Trouble { reason: "Disconnected", message });
                }
                Event::ClientError(ClientError::Other(text)) if !up => {
                    self.down(self.config.trouble_again(&text))
                }
                Event::SlowConsumer(_) => self.dropped.send_modify(|dropped| *dropped += 1),
                Event::ServerError(ServerError::Other(text)) => {
                    tracing::warn!(servers = self.config.servers_text(), "NATS complains: {text}");
                    let _ = self.complaints.send(text);
                }
                _ => {}
            }
        }
    }

    /// Tried here, not by the library's `retry_on_initial_connect`: that hides why it fails.
    async fn first_connection(&self, events: mpsc::Sender<Event>) -> Client {
        let mut backoff = Backoff::default();
        loop {
            let events = events.clone();
            let trouble = match self.config.options() {
                Err(ConfigError { reason }) => Trouble { reason: "ConfigurationInvalid", message: reason },
                Ok(options) => {
                    let options = options.event_callback(move |event| {
                        let events = events.clone();
                        async move { drop(events.send(event).await) }
                    });
                    match options.connect(self.config.servers()).await {
                        Ok(client) => return client,
                        Err(error) => self.config.trouble(&error),
                    }
                }
            };
            self.down(trouble);
            tokio::time::sleep(backoff.next()).await;
        }
    }

    fn down(&self, trouble: Trouble) {
        self.link.send_if_modified(|link| {
            if matches!(link, Link::Down(known) if *known == trouble) {
                return false;
            }
            // The sources that use the connection tell it, by their names.
            tracing::debug!(reason = trouble.reason, "{}", trouble.message);
            *link = Link::Down(trouble);
            true
        });
    }
}
