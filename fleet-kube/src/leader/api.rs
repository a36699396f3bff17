//! Asking an API server for a Lease.

use http::Method;
use tokio::time::Instant;

use super::candidate::{Answer, Ask};
use super::lease::Lease;
use crate::client::{Call, ClusterClient, FIELD_MANAGER, Failure, JSON};

/// Where Leases are kept.
pub(super) trait Leases: Send + Sync + 'static {
    /// Sends one request, which is over by the deadline. Cancelled, it may have taken effect.
    fn ask(&self, ask: &Ask, deadline: Instant) -> impl Future<Output = Answer> + Send;
}

/// One Lease on an API server.
pub(super) struct OnServer {
    client: ClusterClient,
    namespace: String,
    name: String,
}

impl OnServer {
    pub(super) fn new(client: ClusterClient, namespace: &str, name: &str) -> Self {
        Self { client, namespace: namespace.to_owned(), name: name.to_owned() }
    }

    fn call(&self, ask: &Ask) -> Call<'static> {
        let all = format!("/apis/coordination.k8s.io/v1/namespaces/{}/leases", self.namespace);
        let one = format!("{all}/{}", self.name);
        let write = |method, path: String, lease: &Lease| Call {
            method,
            content_type: Some(JSON),
            body: lease.body().into(),
            ..Call::get(format!("{path}?fieldManager={FIELD_MANAGER}"))
        };
        match ask {
            Ask::Read => Call::get(one),
            Ask::Create(lease) => write(Method::POST, all, lease),
            Ask::Update(lease) => write(Method::PUT, one, lease),
        }
    }

    fn failed(&self, ask: &Ask, failure: Failure) -> Answer {
        match (ask, failure) {
            (Ask::Read, Failure::NotFound { .. }) => Answer::Absent,
            (Ask::Create(_), Failure::AlreadyExists) => Answer::Raced,
            // PUT of what was deleted meanwhile: 404, or 409 because of its UID.
            (Ask::Update(_), Failure::Conflict { .. } | Failure::NotFound { .. } | Failure::UidMismatch) => {
                Answer::Raced
            }
            (Ask::Create(_), Failure::NotFound { .. }) => {
                Answer::Failed(format!("namespace {} is not there; create it", self.namespace))
            }
            (_, Failure::Forbidden { message }) => Answer::Failed(format!(
                "{message}; allow get, create and update of leases (coordination.k8s.io) in namespace {}",
                self.namespace
            )),
            (_, failure) => Answer::Failed(failure.to_string()),
        }
    }
}

impl Leases for OnServer {
    async fn ask(&self, ask: &Ask, deadline: Instant) -> Answer {
        match self.client.call(self.call(ask), deadline).await {
            Ok(body) => Lease::parse(&body).map_or_else(Answer::Failed, Answer::Is),
            Err(failure) => self.failed(ask, failure),
        }
    }
}
