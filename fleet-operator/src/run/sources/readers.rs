//! Who reads EventSources.

use std::sync::Arc;
use std::time::Duration;

use fleet_core::catalog::{Catalog, Condition, Subject};
use fleet_core::engine::Handle;
use fleet_kube::agent::Relay;

use super::super::definitions::Recorded;
use super::super::transport::Built;

/// How long a sender over HTTP waits until the hub has an event.
const HTTP_PATIENCE: Duration = Duration::from_secs(5);

/// Who reads EventSources: the engine; or, of an agent, what hands events on to the hub.
#[derive(Clone)]
pub(in super::super) enum Readers {
    /// The engine, and where it is said how sources do.
    Engine { engine: Handle, catalog: Arc<Recorded> },
    /// What hands events on.
    Relay(Arc<Relay>),
}

impl Readers {
    /// Reads a source from now on; over HTTP its sender waits for an answer.
    pub(in super::super) fn attach(&self, built: Built, over_http: bool) {
        let Built { source, letters } = built;
        match (self, letters) {
            (Self::Engine { engine, .. }, None) => engine.attach(source),
            (Self::Engine { engine, .. }, Some(letters)) => engine.attach_with_dead_letters(source, letters),
            (Self::Relay(relay), _) => relay.attach(source, over_http.then_some(HTTP_PATIENCE)),
        }
    }

    /// Stops reading a feed.
    pub(in super::super) fn detach(&self, feed: &str) {
        match self {
            Self::Engine { engine, .. } => engine.detach(feed),
            Self::Relay(relay) => relay.detach(feed),
        }
    }

    /// Says how a source does that has no feed to say so. Of what is handed on, the engine's own feeds say it.
    pub(in super::super) fn report(&self, source: &Arc<str>, condition: Condition) {
        if let Self::Engine { catalog, .. } = self {
            catalog.report(&Subject::Source(Arc::clone(source)), condition);
        }
    }
}
