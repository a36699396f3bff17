//! What becomes of marked objects.

mod seen;

use std::sync::Arc;

use fleet_core::cluster::ClusterId;
use fleet_core::manifest::Gvk;
use fleet_core::observe::{Depth, Observation};
use futures::stream::BoxStream;

use self::seen::Marked;
pub(crate) use self::seen::Select;
use crate::clusters::Clusters;
pub use crate::follow::Watches;
use crate::follow::follow;

pub(super) fn observe(
    clusters: &Arc<Clusters>,
    cluster: &ClusterId,
    kind: &Gvk,
    depth: Depth,
    watches: Watches,
) -> BoxStream<'static, Observation> {
    follow(clusters, cluster, Marked::new(kind.clone(), depth), watches)
}

/// The same of objects that are chosen otherwise than by their mark; of their metadata only.
pub(crate) fn observe_labelled(
    clusters: &Arc<Clusters>,
    cluster: &ClusterId,
    kind: &Gvk,
    select: Select,
    watches: Watches,
) -> BoxStream<'static, Observation> {
    follow(clusters, cluster, Marked::new(kind.clone(), Depth::Metadata).selecting(select), watches)
}

#[cfg(test)]
mod tests;
