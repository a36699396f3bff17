//! The EventSources that run: made, replaced and stopped as definitions change.

mod readers;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fleet_core::catalog::Condition;
use fleet_kube::agent::is_read_by_agents_alone;
use fleet_kube::definitions::{Definitions, Transport};
use fleet_nats::connection::{ConfigError, Connections};

use tracing::warn;

use super::transport::{self, Built};
use crate::http::Intake;
pub(super) use readers::Readers;

/// What is said of an EventSource that agents read.
pub(super) fn read_by_agents() -> Condition {
    let message = "it is read by the agents in the clusters that its triggers select, and not from here";
    Condition { ready: true, reason: "ReadByAgents".to_owned(), message: message.to_owned() }
}

/// Attaches sources to whoever reads them.
pub(super) struct Sources {
    readers: Readers,
    intake: Intake,
    connections: Connections,
    running: BTreeMap<Arc<str>, Transport>,
    /// Those that agents read, and nobody from here.
    left: BTreeSet<Arc<str>>,
}

impl Sources {
    pub(super) fn new(readers: Readers, intake: Intake, connections: Connections) -> Self {
        Self { readers, intake, connections, running: BTreeMap::new(), left: BTreeSet::new() }
    }

    /// Makes what runs agree with what is defined. What did not change is left alone.
    pub(super) fn follow(&mut self, definitions: &Definitions) {
        self.intake.set_sources(&self.over_http(definitions));
        for (name, wanted) in &definitions.transports {
            if is_read_by_agents_alone(definitions, name) {
                if self.left.insert(Arc::clone(name)) {
                    self.readers.detach(name);
                    self.running.remove(name);
                    self.readers.report(name, read_by_agents());
                }
                continue;
            }
            self.left.remove(name);
            if self.running.get(name) == Some(wanted) {
                continue;
            }
            match self.build(name, wanted) {
                // Its feeds follow the clusters.
                Ok(None) => self.readers.detach(name),
                Ok(Some(built)) => self.readers.attach(built, matches!(wanted, Transport::Http)),
                Err(error) => {
                    let message = format!("{error}; correct the EventSource");
                    warn!("EventSource {name}: {message}");
                    let condition = Condition { ready: false, reason: "CannotConnect".to_owned(), message };
                    self.readers.report(name, condition);
                    self.readers.detach(name);
                }
            }
            self.running.insert(Arc::clone(name), wanted.clone());
        }
        if definitions.catalog.complete {
            let gone = |name: &Arc<str>| !definitions.catalog.sources.contains_key(name);
            for name in self.running.keys().filter(|name| gone(name)).cloned().collect::<Vec<_>>() {
                self.readers.detach(&name);
                self.running.remove(&name);
            }
            self.left.retain(|name| !gone(name));
        }
    }

    /// All that are to take events over HTTP from here: known before the first of them is read, since none may miss one.
    fn over_http(&self, definitions: &Definitions) -> BTreeSet<Arc<str>> {
        let http = |(name, transport): (&Arc<str>, &Transport)| {
            (*transport == Transport::Http).then(|| Arc::clone(name))
        };
        let mut names: BTreeSet<_> = definitions.transports.iter().filter_map(http).collect();
        let catalog = &definitions.catalog;
        // What runs and is missing is only gone if the definitions are complete.
        let goes_on = |name: &Arc<str>| {
            !definitions.transports.contains_key(name)
                && (!catalog.complete || catalog.sources.contains_key(name))
        };
        names.extend(self.running.iter().filter(|(name, _)| goes_on(name)).filter_map(http));
        names.retain(|name| !is_read_by_agents_alone(definitions, name));
        names
    }

    fn build(&self, name: &Arc<str>, transport: &Transport) -> Result<Option<Built>, ConfigError> {
        match transport {
            Transport::Http => {
                let source = Arc::new(self.intake.source(Arc::clone(name)));
                Ok(Some(Built { source, letters: None }))
            }
            Transport::Nats(nats) => transport::nats(name, nats, &self.connections).map(Some),
            Transport::ClusterNats(_) | Transport::Objects(_) => Ok(None),
        }
    }
}
