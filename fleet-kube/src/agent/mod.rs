//! Clusters that are driven by an agent in them, where nobody reaches them from outside.
//!
//! The agent runs the same engine as the operator of the management cluster, the hub, with other parts:
//!
//! | part | hub | agent |
//! |---|---|---|
//! | definitions | [`KubeCatalog`](crate::catalog::KubeCatalog) | [`AgentCatalog`]: the one Secret that the hub wrote for it |
//! | clusters | all that are not agent-driven | its own |
//! | Works | the operator's store | [`KubeStore`](crate::store::KubeStore) in its own cluster |
//!
//! What it may do at the hub is all in one namespace, that of its `Cluster`, which is nobody else's: read its Secret, renew
//! its Lease and its token, write AppliedWorks, as a mirror of its own ([`mirror`]), and add RelayedEvents.
//!
//! | object at the hub | who writes it | what for |
//! |---|---|---|
//! | Secret `fleet-agent-NAME` | the hub ([`Agents`]) | the definitions that concern the cluster, and the hub's objects that templates see there ([`Bundle`]) |
//! | Lease `fleet-agent-NAME` | made by the hub, renewed by the agent | whether the agent lives, and how it is |
//! | ServiceAccount, Role, RoleBinding `fleet-agent-NAME` | `fleet-operator register cluster --agent` | what the agent may do |
//! | AppliedWorks with [`AGENT_LABEL`] | the agent | what it has done |
//! | RelayedEvents | the agent; deleted by the hub ([`Relayed`]) | events of triggers that put something into other clusters ([`Relay`]) |
//!
//! # Permissions
//! Beside what [`catalog`](crate::catalog) lists, the hub needs
//! ```yaml
//! # ClusterRole
//! - apiGroups: [""]
//!   resources: [secrets]
//!   verbs: [create, patch]
//! - apiGroups: [coordination.k8s.io]
//!   resources: [leases]
//!   verbs: [list, watch, create, patch]
//! - apiGroups: [fleet-events.dev]
//!   resources: [appliedworks]
//!   verbs: [list]
//! - apiGroups: [fleet-events.dev]
//!   resources: [relayedevents]
//!   verbs: [get, list, watch]
//! # Role in the namespaces of agents
//! - apiGroups: [fleet-events.dev]
//!   resources: [relayedevents]
//!   verbs: [delete]
//! ```
//! What agents need, [`register_agent`](crate::register::register_agent) makes.
//!
//! # Triggers that put something into other clusters
//! An agent puts into its own cluster what such a trigger wants there; the hub does so in all that it drives itself, with the
//! cluster that the event came from as origin. An event is acknowledged where it is read once both have it for good: the
//! agent's engine as Work in its cluster, by one consumer, and the hub as a RelayedEvent, by another one. Into a cluster
//! with an agent nothing is put by events of other clusters; the trigger says so.
//!
//! # Being away
//! The hub may be away for as long as it likes: the agent goes on with the definitions that it had last, which it keeps in
//! its own cluster. The agent may be away as well: nothing is withdrawn because of that, its Cluster is not ready, and what
//! is known of its Works is shown as unknown.

mod access;
mod bundle;
mod catalog;
mod compile;
mod heartbeat;
mod hub;
mod mirror;
mod mirrored;
mod narrow;
mod readers;
mod relay;
mod relayed;

use fleet_core::cluster::ClusterId;

pub use access::{HubAccess, HubError, Kept, Renewal};
pub use bundle::{Bundle, BundleError, SECRET_TYPE};
pub use catalog::{AgentCatalog, AgentPlace};
pub use heartbeat::{Heartbeat, heartbeat};
pub(crate) use hub::owner_reference;
pub use hub::{AgentHealth, AgentNews, Agents};
pub use mirror::mirror;
pub use mirrored::{Mirrored, MirroredWork};
pub use readers::{is_read_by_agents_alone, relayed_feeds};
pub use relay::{MOST_WAITING, ON_THEIR_WAY, RELAY_SUFFIX, Relay, RelayPlace, relayed_definitions};
pub use relayed::{Decode, Relayed, RelayedFeed};

/// The label of everything at the hub that belongs to an agent; its value is the cluster's name, or a hash of a long one.
pub const AGENT_LABEL: &str = "fleet-events.dev/agent";

/// What an agent's objects at the hub are called.
pub fn object_name(id: &ClusterId) -> String {
    let name = format!("fleet-agent-{}", id.name());
    // The longest that everything can be called.
    if name.len() > 253 { format!("fleet-agent-{}", short_hash(id.name())) } else { name }
}

/// The value of [`AGENT_LABEL`] for a cluster.
pub fn label_value(id: &ClusterId) -> String {
    if id.name().len() > 63 { short_hash(id.name()) } else { id.name().to_owned() }
}

/// 40 hex digits.
fn short_hash(text: &str) -> String {
    let mut digest = bundle::digest(text.as_bytes());
    digest.truncate(40);
    digest
}

/// Where one of an agent's objects at the hub is.
fn secret_path(id: &ClusterId) -> String {
    format!("/api/v1/namespaces/{}/secrets/{}", id.namespace(), object_name(id))
}

/// Where an agent hands events on.
fn relayed_path(id: &ClusterId) -> String {
    relayed_path_in(id.namespace())
}

fn relayed_path_in(namespace: &str) -> String {
    format!("/apis/{}/{}/namespaces/{namespace}/relayedevents", crate::api::GROUP, crate::api::VERSION)
}

fn lease_path(id: &ClusterId) -> String {
    format!("/apis/coordination.k8s.io/v1/namespaces/{}/leases/{}", id.namespace(), object_name(id))
}
