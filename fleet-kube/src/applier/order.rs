//! Which objects go first: what others need before what needs it.

use std::collections::BTreeSet;

use fleet_core::apply::Outcome;
use fleet_core::manifest::Gvk;
use futures::StreamExt;

/// How many objects of one request are worked on at the same time.
const PARALLEL: usize = 8;

/// The place of a kind in the order in which objects are created; they are deleted in the reverse one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    Namespace,
    /// Limits what comes into a namespace.
    Policy,
    ServiceAccount,
    /// What workloads read.
    Configuration,
    Storage,
    StorageClaim,
    /// Definitions of kinds.
    Definition,
    Role,
    RoleBinding,
    /// What workloads refer to, or learn from their environment when they start.
    Service,
    Workload,
    /// Built-in kinds that are about workloads.
    AroundWorkloads,
    /// Kinds that are not Kubernetes' own: whatever serves them may be among the workloads.
    Custom,
    /// What every request passes through, and would fail at if what serves it were not there.
    Admission,
}

impl Rank {
    pub(super) fn of(gvk: &Gvk) -> Self {
        match (&*gvk.group, &*gvk.kind) {
            ("", "Namespace") => Self::Namespace,
            ("", "ResourceQuota" | "LimitRange")
            | ("networking.k8s.io", "NetworkPolicy")
            | ("policy", "PodDisruptionBudget")
            | ("scheduling.k8s.io", "PriorityClass")
            | ("flowcontrol.apiserver.k8s.io", _) => Self::Policy,
            ("", "ServiceAccount") => Self::ServiceAccount,
            ("", "Secret" | "ConfigMap") => Self::Configuration,
            ("", "PersistentVolume") | ("storage.k8s.io", _) => Self::Storage,
            ("", "PersistentVolumeClaim") => Self::StorageClaim,
            ("apiextensions.k8s.io", _) => Self::Definition,
            ("rbac.authorization.k8s.io", "ClusterRole" | "Role") => Self::Role,
            ("rbac.authorization.k8s.io", _) => Self::RoleBinding,
            ("", "Service" | "Endpoints")
            | ("discovery.k8s.io", _)
            | ("networking.k8s.io", "IngressClass")
            | ("node.k8s.io" | "resource.k8s.io", _) => Self::Service,
            ("", "Pod" | "ReplicationController") | ("apps" | "batch", _) => Self::Workload,
            ("admissionregistration.k8s.io" | "apiregistration.k8s.io", _) => Self::Admission,
            ("" | "autoscaling" | "policy" | "extensions", _)
            | (
                "networking.k8s.io"
                | "scheduling.k8s.io"
                | "coordination.k8s.io"
                | "certificates.k8s.io"
                | "events.k8s.io",
                _,
            ) => Self::AroundWorkloads,
            _ => Self::Custom,
        }
    }
}

/// Runs one future for each rank in the list: those of the same rank a few at a time, and each rank after the one before.
pub(super) async fn in_order<R, F, Fut>(ranks: &[R], run: F) -> Vec<Outcome>
where
    R: Ord + Copy,
    F: Fn(usize) -> Fut,
    Fut: Future<Output = Option<Outcome>>,
{
    let mut outcomes = vec![Outcome::Unknown { reason: "it was not tried".to_owned() }; ranks.len()];
    for rank in ranks.iter().copied().collect::<BTreeSet<_>>() {
        let group: Vec<usize> =
            ranks.iter().enumerate().filter(|(_, other)| **other == rank).map(|(index, _)| index).collect();
        let mut running = futures::stream::iter(group)
            .map(|index| {
                let one = run(index);
                async move { (index, one.await) }
            })
            .buffer_unordered(PARALLEL);
        while let Some((index, outcome)) = running.next().await {
            if let (Some(place), Some(outcome)) = (outcomes.get_mut(index), outcome) {
                *place = outcome;
            }
        }
    }
    outcomes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_need_goes_first() {
        let order = [
            ("", "Namespace"),
            ("", "ResourceQuota"),
            ("", "ServiceAccount"),
            ("", "Secret"),
            ("storage.k8s.io", "StorageClass"),
            ("", "PersistentVolumeClaim"),
            ("apiextensions.k8s.io", "CustomResourceDefinition"),
            ("rbac.authorization.k8s.io", "ClusterRole"),
            ("rbac.authorization.k8s.io", "RoleBinding"),
            ("", "Service"),
            ("apps", "Deployment"),
            ("networking.k8s.io", "Ingress"),
            ("cert-manager.io", "Issuer"),
            ("admissionregistration.k8s.io", "ValidatingWebhookConfiguration"),
        ];
        let rank = |(group, kind): &(&str, &str)| {
            Rank::of(&Gvk { group: (*group).into(), version: "v1".into(), kind: (*kind).into() })
        };
        assert!(order.is_sorted_by(|one, next| rank(one) < rank(next)));
        assert_eq!(rank(&("gateway.networking.k8s.io", "Gateway")), Rank::Custom);
    }
}
