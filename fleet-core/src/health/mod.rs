//! Whether what was applied is as it should be: the rules of [kstatus], which `kubectl` plugins and GitOps tools share,
//! and a trigger's own checks.
//!
//! [kstatus]: https://github.com/kubernetes-sigs/cli-utils/tree/master/pkg/kstatus

mod check;
mod kstatus;

use serde::{Deserialize, Serialize};

use crate::manifest::{Gvk, ObjectRef};
use crate::observe::Depth;

pub use check::Check;
pub use kstatus::of_object;

/// Longer messages are cut.
const LONGEST: usize = 300;

/// How an object, or all that a Work has in a cluster, is doing. What is worse is greater.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "status", rename_all_fields = "camelCase")]
pub enum Health {
    /// It is as it should be.
    Ready,
    /// It may become so by itself.
    Progressing {
        /// What is waited for. No values of Secrets.
        message: String,
    },
    /// It will not become so by itself.
    Failed {
        /// What is wrong. No values of Secrets.
        message: String,
    },
}

impl Health {
    /// It may become ready by itself.
    pub fn progressing(message: impl AsRef<str>) -> Self {
        Self::Progressing { message: shown(message.as_ref()) }
    }

    /// It will not become ready by itself.
    pub fn failed(message: impl AsRef<str>) -> Self {
        Self::Failed { message: shown(message.as_ref()) }
    }

    /// The worse of two; the first if they are equally bad.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        if other.rank() > self.rank() { other } else { self }
    }

    /// How several objects together are doing: as the first of the worst, which is named. Ready if there are none.
    pub fn worst<'a>(objects: impl IntoIterator<Item = (&'a ObjectRef, &'a Self)>) -> Self {
        let worst = objects.into_iter().reduce(
            |worst, next| {
                if next.1.rank() > worst.1.rank() { next } else { worst }
            },
        );
        match worst {
            None | Some((_, Self::Ready)) => Self::Ready,
            Some((object, Self::Progressing { message })) => {
                Self::Progressing { message: format!("{object}: {message}") }
            }
            Some((object, Self::Failed { message })) => {
                Self::Failed { message: format!("{object}: {message}") }
            }
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Ready => 0,
            Self::Progressing { .. } => 1,
            Self::Failed { .. } => 2,
        }
    }
}

/// How much of objects of a kind has to be seen to tell how they are doing; a [`Check`] needs them whole.
pub fn depth(kind: &Gvk) -> Depth {
    let existence_is_all = match &*kind.group {
        "" => matches!(
            &*kind.kind,
            "ConfigMap"
                | "Endpoints"
                | "LimitRange"
                | "Namespace"
                | "PodTemplate"
                | "ResourceQuota"
                | "Secret"
                | "ServiceAccount"
        ),
        "rbac.authorization.k8s.io" => true,
        "admissionregistration.k8s.io" => {
            kind.kind.ends_with("Configuration") || kind.kind.ends_with("Binding")
        }
        "batch" => &*kind.kind == "CronJob",
        "coordination.k8s.io" => &*kind.kind == "Lease",
        "discovery.k8s.io" => &*kind.kind == "EndpointSlice",
        "networking.k8s.io" => matches!(&*kind.kind, "IngressClass" | "NetworkPolicy"),
        "node.k8s.io" => &*kind.kind == "RuntimeClass",
        "scheduling.k8s.io" => &*kind.kind == "PriorityClass",
        "storage.k8s.io" => matches!(&*kind.kind, "CSIDriver" | "StorageClass"),
        _ => false,
    };
    if existence_is_all { Depth::Metadata } else { Depth::Whole }
}

/// How an object is doing of which nothing is known but that it is there, and not being deleted.
pub fn of_existence(kind: &Gvk) -> Health {
    match depth(kind) {
        Depth::Metadata => Health::Ready,
        Depth::Whole => Health::progressing("its status was not seen yet"),
    }
}

/// A message on one line, cut where it is long.
fn shown(message: &str) -> String {
    let mut shown: String =
        message.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST + 1).collect();
    if let Some((end, _)) = shown.char_indices().nth(LONGEST) {
        shown.truncate(end);
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(kind: &str, name: &str) -> ObjectRef {
        let gvk = Gvk { group: "apps".into(), version: "v1".into(), kind: kind.into() };
        ObjectRef { gvk, namespace: Some("web".into()), name: name.into() }
    }

    #[test]
    fn of_several_the_worst_counts_and_is_named() {
        let (a, b, c) = (object("Deployment", "a"), object("Deployment", "b"), object("Job", "c"));
        let (waits, fails) = (Health::progressing("Ready: 0/1"), Health::failed("Job failed"));
        assert_eq!(Health::worst([]), Health::Ready);
        assert_eq!(Health::worst([(&a, &Health::Ready), (&b, &Health::Ready)]), Health::Ready);
        assert_eq!(
            Health::worst([(&a, &Health::Ready), (&b, &waits), (&a, &waits)]),
            Health::Progressing { message: "Deployment web/b: Ready: 0/1".to_owned() }
        );
        assert_eq!(
            Health::worst([(&a, &waits), (&c, &fails), (&b, &Health::Ready)]),
            Health::Failed { message: "Job web/c: Job failed".to_owned() }
        );
        assert_eq!(Health::Ready.and(waits.clone()).and(Health::Ready), waits);
        assert_eq!(fails.clone().and(waits), fails);
    }

    #[test]
    fn existence_is_enough_for_what_has_no_status() {
        let kind =
            |group: &str, kind: &str| Gvk { group: group.into(), version: "v1".into(), kind: kind.into() };
        for (group, name, expected) in [
            ("", "ConfigMap", Depth::Metadata),
            ("", "Secret", Depth::Metadata),
            ("", "Namespace", Depth::Metadata),
            ("rbac.authorization.k8s.io", "ClusterRoleBinding", Depth::Metadata),
            ("networking.k8s.io", "NetworkPolicy", Depth::Metadata),
            ("networking.k8s.io", "Ingress", Depth::Whole),
            ("", "Service", Depth::Whole),
            ("apps", "Deployment", Depth::Whole),
            ("policy", "PodDisruptionBudget", Depth::Whole),
            ("example.com", "ConfigMap", Depth::Whole),
        ] {
            let kind = kind(group, name);
            assert_eq!(depth(&kind), expected, "{group} {name}");
            assert_eq!(of_existence(&kind) == Health::Ready, expected == Depth::Metadata);
        }
    }

    #[test]
    fn messages_stay_on_one_line_and_short() {
        let Health::Failed { message } = Health::failed("a\nb".to_owned() + &"ü".repeat(1000)) else {
            panic!()
        };
        assert!(message.starts_with("a bü") && message.chars().count() == LONGEST + 1, "{message}");
    }
}
