//! One cluster's API server, as the Applier talks to it.
//!
//! Differs from [`kube::Client`]'s own stack where that matters for writes: TCP_NODELAY (without it the first request
//! of each connection waits 40 ms for a delayed acknowledgement), no hidden retries, a deadline on every call that the
//! server is told of, a bound on connections, and failures that say whether the request may have taken effect.

mod dial;
mod failure;
mod kinds;
mod patience;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fleet_core::apply::Identity;
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::client::{Body, ConfigExt};
use secrecy::SecretString;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tower::util::option_layer;
use tower::{BoxError, Layer, ServiceExt};

pub use failure::{Cause, Failure};
pub use kinds::{Kinds, Resource};
pub(crate) use patience::{Patience, spread};
pub(crate) use watch::{Lines, Refused};

/// The field manager under which everything is written.
pub const FIELD_MANAGER: &str = "fleet";

/// How many requests to one cluster are under way at most; HTTP/1.1 needs a connection for each.
const IN_FLIGHT: usize = 32;
/// How long TCP and TLS may take. Whatever takes longer was certainly not sent.
const CONNECT: Duration = Duration::from_secs(5);
/// Larger answers are refused.
const LARGEST_ANSWER: usize = 16 << 20;

/// A client of one cluster. Cheap to clone; connections are shared.
#[derive(Clone)]
pub struct ClusterClient {
    inner: kube::Client,
    in_flight: Arc<Semaphore>,
    config: Arc<kube::Config>,
}

/// One request.
#[derive(Clone, Debug)]
pub struct Call<'a> {
    /// The method.
    pub method: Method,
    /// Path and query, as `/api/v1/namespaces?fieldManager=fleet`.
    pub path: String,
    /// The media type of the body, if there is one.
    pub content_type: Option<&'static str>,
    /// The media type asked for.
    pub accept: &'static str,
    /// The body; empty if none.
    pub body: Bytes,
    /// Whom to act as; the kubeconfig's user if none.
    pub identity: Option<&'a Identity>,
}

impl Call<'_> {
    /// A GET.
    pub fn get(path: impl Into<String>) -> Self {
        Self {
            method: Method::GET,
            path: path.into(),
            content_type: None,
            accept: JSON,
            body: Bytes::new(),
            identity: None,
        }
    }
}

/// Plain JSON.
pub const JSON: &str = "application/json";

/// Why no client can be made of a configuration.
#[derive(Debug, thiserror::Error)]
#[error("no connection can be made from it: {reason}")]
pub struct ClientError {
    /// What is wrong. No credentials.
    pub reason: String,
}

impl ClusterClient {
    /// Makes a client. Nothing is sent before the first call, but a kubeconfig of the operator's own machine may run
    /// its credential plugin here: call it where blocking is allowed. Needs a tokio runtime.
    ///
    /// # Errors
    /// When certificates, keys or tokens cannot be used.
    pub fn new(mut config: kube::Config) -> Result<Self, ClientError> {
        // A proxy from the environment is not meant for clusters; one in a kubeconfig is refused where that is read.
        config.proxy_url = None;
        let refused = |error: kube::Error| ClientError { reason: chain(&error) };
        let auth = config.auth_layer().map_err(refused)?;
        let headers = config.extra_headers_layer().map_err(refused)?;
        let http = hyper_util::client::legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(90))
            .pool_max_idle_per_host(IN_FLIGHT)
            .build::<_, Body>(dial::Dial::new(&config, CONNECT).map_err(refused)?)
            .map_err(BoxError::from);
        let service = config.base_uri_layer().layer(option_layer(auth).layer(headers.layer(http)));
        Ok(Self {
            inner: kube::Client::new(service, config.default_namespace.clone()),
            in_flight: Arc::new(Semaphore::new(IN_FLIGHT)),
            config: Arc::new(config),
        })
    }

    /// The same cluster for [`kube::Api`], with the same connections and without deadlines: for callers that bring
    /// their own.
    pub fn api(&self) -> kube::Client {
        self.inner.clone()
    }

    /// A client with connections of its own for watches, which hold them for minutes.
    ///
    /// # Errors
    /// When certificates, keys or tokens cannot be used any more.
    pub fn for_watches(&self) -> Result<kube::Client, ClientError> {
        kube::Client::try_from((*self.config).clone()).map_err(|error| ClientError { reason: chain(&error) })
    }

    /// How to connect, as a kubeconfig's text for another program. What is read anew for each request (a token file, a
    /// credential plugin) stands in it as that.
    ///
    /// # Errors
    /// Never in practice: when it cannot be written.
    pub(crate) fn kubeconfig(&self) -> Result<SecretString, crate::kubeconfig::Fault> {
        crate::kubeconfig::of_config(&self.config)
    }

    /// A kubeconfig for the same API server with a token for credentials, for somebody who reaches it at `server` if that is
    /// another address.
    ///
    /// # Errors
    /// Never in practice: when it cannot be written.
    pub(crate) fn kubeconfig_with_token(
        &self,
        server: Option<&str>,
        token: SecretString,
    ) -> Result<SecretString, crate::kubeconfig::Fault> {
        let contained = crate::kubeconfig::SelfContained::of_config(&self.config);
        contained.with_token(token).at(server).to_yaml()
    }

    /// Whether the kubeconfig itself acts as somebody else. Then it cannot act as yet another.
    pub fn impersonates(&self) -> bool {
        self.config.auth_info.impersonate.is_some()
    }

    /// Sends a request and reads its answer, both by the deadline. The server is told of the deadline (`timeout=`), so
    /// that it does not work on for a caller that left.
    ///
    /// # Errors
    /// When the server refused, or did not answer; [`Failure::may_have_taken_effect`] says whether it may have acted.
    ///
    /// Cancelled, the request may have taken effect.
    pub async fn call(&self, call: Call<'_>, deadline: Instant) -> Result<Bytes, Failure> {
        if deadline <= Instant::now() {
            return Err(Failure::NotTried { reason: "no time was left to ask the API server".to_owned() });
        }
        let Ok(permit) = tokio::time::timeout_at(deadline, self.in_flight.acquire()).await else {
            return Err(Failure::Throttled {
                retry_after: Duration::from_secs(1),
                reason: format!("all {IN_FLIGHT} connections to the cluster are in use"),
                cluster: true,
            });
        };
        let _permit =
            permit.map_err(|_| Failure::Unreachable { reason: "the client was closed".to_owned() })?;
        let sent = call.body.len();
        let request = build(call, deadline)?;
        match tokio::time::timeout_at(deadline, self.exchange(request, sent)).await {
            Ok(answer) => answer,
            Err(_) => Err(Failure::NoAnswer { reason: "the API server did not answer in time".to_owned() }),
        }
    }

    async fn exchange(&self, request: Request<Body>, sent: usize) -> Result<Bytes, Failure> {
        let response = self.inner.send(request).await.map_err(Failure::of_transport)?;
        let (parts, body) = response.into_parts();
        let body = Limited::new(body, LARGEST_ANSWER).collect().await.map_err(|_| Failure::NoAnswer {
            reason: "the answer of the API server broke off, or is larger than 16 MiB".to_owned(),
        })?;
        let body = body.to_bytes();
        if parts.status.is_success() {
            return Ok(body);
        }
        let retry_after = retry_after(parts.status, &parts.headers);
        Err(Failure::of_status(parts.status, retry_after, sent, &body))
    }
}

#[cfg(test)]
impl ClusterClient {
    /// Whose API server is a function.
    pub(crate) fn scripted<F, A, B>(answer: F) -> Self
    where
        F: FnMut(Request<Body>) -> A + Send + 'static,
        A: Future<Output = Result<http::Response<B>, BoxError>> + Send + 'static,
        B: BodyExt<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let config = kube::Config::new(http::Uri::from_static("http://cluster"));
        Self {
            inner: kube::Client::new(tower::service_fn(answer), "default"),
            in_flight: Arc::new(Semaphore::new(IN_FLIGHT)),
            config: Arc::new(config),
        }
    }
}

impl ClusterClient {
    /// Where the API server is. No credentials.
    pub(crate) fn url(&self) -> &http::Uri {
        &self.config.cluster_url
    }
}

impl std::fmt::Debug for ClusterClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ClusterClient({})", self.config.cluster_url)
    }
}

fn build(call: Call<'_>, deadline: Instant) -> Result<Request<Body>, Failure> {
    let left = deadline.saturating_duration_since(Instant::now()).as_millis().max(1);
    let separator = if call.path.contains('?') { '&' } else { '?' };
    let mut request = Request::builder()
        .method(call.method)
        .uri(format!("{}{separator}timeout={left}ms", call.path))
        .header(header::ACCEPT, call.accept);
    if let Some(content_type) = call.content_type {
        request = request.header(header::CONTENT_TYPE, content_type);
    }
    if let Some(Identity { namespace, name }) = call.identity {
        // The API server adds the groups of a service account by itself.
        request = request.header("Impersonate-User", format!("system:serviceaccount:{namespace}:{name}"));
    }
    request.body(Body::from(call.body)).map_err(|_| Failure::Invalid {
        message: "the request's path or identity is malformed".to_owned(),
        causes: Vec::new(),
    })
}

/// Seconds only, as API servers send it.
fn retry_after(status: StatusCode, headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(header::RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    (status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error())
        .then(|| Duration::from_secs(seconds))
}

/// An error and its sources on one line, without what says nothing.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
