//! What agents hand on, at the hub: a feed for each agent and EventSource, as definitions say.

use std::collections::BTreeMap;
use std::sync::Arc;

use fleet_core::cluster::ClusterId;
use fleet_core::engine::Handle;
use fleet_kube::agent::{Decode, Relayed, RelayedFeed, relayed_feeds};
use fleet_kube::client::ClusterClient;
use fleet_kube::definitions::{Definitions, Transport};
use fleet_nats::binding;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::http::decode_kept;

/// Keeps the feeds of agents as definitions say.
pub(super) struct RelayedFeeds {
    engine: Handle,
    relayed: Arc<Relayed>,
    /// By the names of the feeds: how their events are read.
    attached: BTreeMap<String, bool>,
}

impl RelayedFeeds {
    pub(super) fn new(engine: Handle, hub: ClusterClient) -> Self {
        Self { engine, relayed: Arc::new(Relayed::new(hub)), attached: BTreeMap::new() }
    }

    /// Runs until `shutdown`. The feeds stay as they are then: the engine closes them.
    pub(super) async fn run(
        mut self,
        mut definitions: watch::Receiver<Option<Arc<Definitions>>>,
        shutdown: CancellationToken,
    ) {
        let relayed = Arc::clone(&self.relayed);
        let mut has_agents = false;
        let mut reading = std::pin::pin!(relayed.run(shutdown.clone()));
        loop {
            if let Some(now) = definitions.borrow_and_update().clone() {
                has_agents |= self.follow(&now);
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                changed = definitions.changed() => if changed.is_err() { return },
                // Without agents there is nothing to read, and no need to be allowed to.
                () = &mut reading, if has_agents => return,
            }
        }
    }

    /// Whether there are agents.
    fn follow(&mut self, definitions: &Definitions) -> bool {
        let (agents, feeds) = relayed_feeds(definitions);
        let mut wanted: BTreeMap<String, (ClusterId, Arc<str>, bool)> = BTreeMap::new();
        for (id, source) in &feeds {
            let over_http = matches!(definitions.transports.get(source), Some(Transport::Http));
            wanted.insert(RelayedFeed::name_of(source, id), (id.clone(), Arc::clone(source), over_http));
        }
        if definitions.catalog.complete {
            for feed in
                self.attached.keys().filter(|feed| !wanted.contains_key(*feed)).cloned().collect::<Vec<_>>()
            {
                self.engine.detach(&feed);
                self.attached.remove(&feed);
            }
            self.relayed.keep(&agents, feeds);
        }
        for (feed, (id, source, over_http)) in wanted {
            if self.attached.get(&feed) != Some(&over_http) {
                let decode: Decode = match over_http {
                    true => Arc::new(decode_kept),
                    false => Arc::new(|message, raw| binding::decode_pairs(&message.headers, raw.clone())),
                };
                self.engine.attach(Arc::new(self.relayed.feed(&source, &id, decode)));
                self.attached.insert(feed, over_http);
            }
        }
        !agents.is_empty()
    }
}
