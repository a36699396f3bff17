//! A cluster's connection, and what is known of the cluster besides.

use tokio::sync::Notify;

use crate::client::{ClusterClient, Kinds};

/// A cluster's connection.
pub struct Link {
    /// The client.
    pub client: ClusterClient,
    /// The kinds that the cluster serves.
    pub kinds: Kinds,
    doubt: Notify,
}

impl Link {
    pub(crate) fn new(client: ClusterClient) -> Self {
        Self { client, kinds: Kinds::default(), doubt: Notify::new() }
    }

    /// Says that the cluster did not behave: it is probed soon.
    pub fn doubt(&self) {
        self.doubt.notify_one();
    }

    pub(super) async fn doubted(&self) {
        self.doubt.notified().await;
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Link").field(&self.client).finish()
    }
}
