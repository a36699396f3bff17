//! The HTTP server: `/events` takes events, `/healthz`, `/readyz` and `/metrics` tell how the operator is doing.

mod access;
mod admit;
mod decode;
pub mod decoded;
mod events;
mod problem;
mod source;
mod tls;
mod tokens;
mod webhook;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use http::{HeaderMap, HeaderValue, StatusCode};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

pub use self::access::{Access, AccessError, AccessOptions, Clients, TlsFiles};
pub(crate) use self::decode::decode_kept;
pub use self::source::{HttpSource, Intake};
pub use self::tls::TlsError;
pub use self::tokens::TokenError;
pub use self::webhook::{Origin, OriginError, Webhook};

use self::access::Peer;
use self::tls::Tls;

/// What a server takes at most.
#[derive(Clone, Debug)]
pub struct Limits {
    /// The longest body of a request, in bytes.
    pub body: usize,
    /// The bodies of all requests under way, in KiB.
    pub room: usize,
    /// How many connections are open at once.
    pub connections: usize,
    /// How long a connection may be idle, and how long a request's head may take to arrive.
    pub head: Duration,
    /// How long a request's body may take to arrive.
    pub read: Duration,
    /// How long an event waits for a place in the queue before its sender is told to come back later.
    pub patience: Duration,
    /// How long a request waits for its events to be durable.
    pub settle: Duration,
    /// How often files of tokens and certificates are looked at.
    pub reread: Duration,
    /// How long requests under way may take to end when the server stops.
    pub stop: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body: 1024 * 1024,
            room: 64 * 1024,
            connections: 1024,
            head: Duration::from_secs(30),
            read: Duration::from_secs(30),
            patience: Duration::from_secs(2),
            settle: Duration::from_secs(30),
            reread: Duration::from_secs(2),
            stop: Duration::from_secs(10),
        }
    }
}

/// What `/readyz` and `/metrics` show.
pub trait Health: Send + Sync + 'static {
    /// Why the operator is not ready yet; `None` if it is.
    fn unready(&self) -> Option<String>;
    /// All metrics, in the OpenMetrics text format.
    fn metrics(&self) -> String;
}

#[derive(Clone)]
struct Shared {
    intake: Intake,
    access: Arc<Access>,
    health: Arc<dyn Health>,
    limits: Limits,
    room: Arc<Semaphore>,
}

/// An HTTP server that has its port already.
pub struct Server {
    listener: TcpListener,
    shared: Shared,
}

impl Server {
    /// Takes the port. Requests wait until [`run`](Self::run).
    ///
    /// # Errors
    /// When the address cannot be listened on.
    pub async fn bind(
        address: SocketAddr,
        intake: Intake,
        access: Access,
        health: Arc<dyn Health>,
        limits: Limits,
    ) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let room = Arc::new(Semaphore::new(limits.room));
        Ok(Self { listener, shared: Shared { intake, access: Arc::new(access), health, limits, room } })
    }

    /// Where it listens, with the port that the system chose if it was asked for port 0.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `shutdown`; then takes no new connection and lets requests under way come to their end.
    pub async fn run(self, shutdown: CancellationToken) {
        let Self { listener, shared } = self;
        let limits = shared.limits.clone();
        let access = Arc::clone(&shared.access);
        let mut follow = std::pin::pin!(access.follow(limits.reread));
        let router = Router::new()
            .route("/events", post(events::post).options(options))
            .route("/healthz", get(|| async { "ok\n" }))
            .route("/readyz", get(readyz))
            .route("/metrics", get(metrics))
            .with_state(shared);
        let places = Arc::new(Semaphore::new(limits.connections));
        let mut connections = JoinSet::new();
        loop {
            let accept = async {
                let place = Arc::clone(&places).acquire_owned().await;
                (place, listener.accept().await)
            };
            let (place, accepted) = tokio::select! {
                () = shutdown.cancelled() => break,
                Some(_) = connections.join_next() => continue,
                () = follow.as_mut() => continue,
                accepted = accept => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    let serve = serve(stream, access.tls(), router.clone(), limits.clone(), shutdown.clone());
                    connections.spawn(async move {
                        serve.await;
                        drop(place);
                    });
                }
                Err(error) => {
                    // Too many open files, as a rule: others must close first.
                    warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
        drop(listener);
        let ended = async { while connections.join_next().await.is_some() {} };
        if timeout(limits.stop, ended).await.is_err() {
            warn!("requests that were still under way have been cut off");
        }
    }
}

async fn serve(
    stream: TcpStream,
    tls: Option<Arc<Tls>>,
    router: Router,
    limits: Limits,
    shutdown: CancellationToken,
) {
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "TCP_NODELAY could not be set");
    }
    let Some(tls) = tls else {
        return requests(stream, Peer::Unknown, router, &limits, shutdown.cancelled()).await;
    };
    let shaken = tokio::select! {
        shaken = timeout(limits.head, tls.accept(stream)) => shaken,
        () = shutdown.cancelled() => return,
    };
    match shaken {
        Ok(Ok((stream, peer))) => {
            let end = async {
                tokio::select! {
                    () = shutdown.cancelled() => {}
                    () = tls.retired() => {}
                }
            };
            requests(stream, peer, router, &limits, end).await;
        }
        Ok(Err(error)) => debug!(%error, "a TLS connection was not made"),
        Err(_) => debug!("a TLS connection was not made in time"),
    }
}

/// Answers the requests of a connection, until one comes to its end after `end`.
async fn requests(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: Peer,
    router: Router,
    limits: &Limits,
    end: impl Future<Output = ()>,
) {
    let router = router.layer(Extension(peer));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_buf_size(64 * 1024)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = end => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!(%error, "a connection ended early");
    }
}

async fn options(State(shared): State<Shared>, headers: HeaderMap) -> Response {
    shared.access.webhook.answer(&headers)
}

async fn readyz(State(shared): State<Shared>) -> Response {
    match shared.health.unready() {
        None => "ready\n".into_response(),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {reason}\n")).into_response(),
    }
}

async fn metrics(State(shared): State<Shared>) -> Response {
    const OPEN_METRICS: HeaderValue =
        HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    ([(http::header::CONTENT_TYPE, OPEN_METRICS)], shared.health.metrics()).into_response()
}

#[cfg(test)]
mod tests;
