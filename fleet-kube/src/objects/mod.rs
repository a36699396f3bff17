//! Kubernetes as a source of events: the objects of managed clusters that some selectors choose.
//!
//! What is told of an object is a state: that it is there and matches, as it is now, or that it is gone or matches no more.
//! After each start, and after each list that is complete, a [`Snapshot`](fleet_core::source::Snapshot) says what else is
//! gone. All that is read of one kind in one cluster goes over one watch, whoever reads it ([`KindWatches`]); only metadata
//! is asked for unless a selector looks at more, or somebody wants the content.
//!
//! An event's `source` is the path of the collection that the kind has in all namespaces (`/apis/apps/v1/deployments`), its
//! `subject` `namespace/name` or `name`, its `type` [`PREFIX`], the kind in lower case, and `.live` or `.gone`, its `id` the
//! object's UID and version, and its data the object: all of its metadata but `managedFields`, `resourceVersion` and what
//! `kubectl apply` keeps there, and its content where the selection says so.
//!
//! Whoever the cluster's kubeconfig stands for needs `list` and `watch` for the kinds: in the cluster, or in those namespaces
//! that all selectors of a kind name.

mod again;
mod object;
mod reading;
mod selection;
mod shared;
mod source;
#[cfg(test)]
mod tests;

pub use fleet_core::event::RESOURCE as PREFIX;
pub use selection::{Rule, Selection, Selector};
pub use shared::KindWatches;
pub use source::ObjectSource;
