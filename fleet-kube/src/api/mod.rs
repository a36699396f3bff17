//! The custom resources of group `fleet-events.dev`: their types, and the CustomResourceDefinitions made from them.
//!
//! Cluster, ClusterProfile, EventSource and EventTrigger are what users write, read from a folder of manifests or from the Kubernetes
//! API; what the engine works with is made from them in [`definitions`](crate::definitions). Work and AppliedWork are
//! what the operator writes, in [`store`](crate::store), and RelayedEvent what agents do, in [`agent`](crate::agent). Rules that one field alone cannot
//! express are CEL rules here, so that an API server refuses what we would refuse, and are checked again when read,
//! because a folder has no API server.

// `KubeSchema` repeats each type inside a function, where `pub` reaches nobody.
#![allow(unreachable_pub)]
// Printer columns share attributes.
#![allow(clippy::duplicated_attributes)]

mod applied;
mod cluster;
mod crd;
mod duration;
mod filter;
mod helm;
mod policy;
mod profile;
mod relayed;
mod resource;
mod source;
mod status;
mod trigger;
mod work;

pub use applied::{
    AppliedBlocked, AppliedChange, AppliedChart, AppliedForeseen, AppliedHealth, AppliedLocal, AppliedObject,
    AppliedObjectRef, AppliedOwner, AppliedWork, AppliedWorkSpec, AppliedWorkState,
};
pub use cluster::{
    AgentSpec, Cluster, ClusterSpec, ClusterStatus, DirectorySpec, InClusterSpec, SecretKeyRef,
};
pub use crd::{crds, crds_yaml};
pub use duration::{InvalidDuration, parse_duration};
pub use helm::{
    HelmAction, HelmChart, HelmInstallOptions, HelmOptions, HelmUpgradeOptions, RegistryCredentialsConfig,
    SecretName, ValuesFrom,
};
pub use policy::{
    CelRule, DriftExclusion, PayloadPolicy, ResourceTarget, StopMatchingBehavior, SyncMode, ValidateHealth,
};
pub use profile::{ClusterProfile, ClusterProfileSpec};
pub use relayed::{RelayProgress, RelayedBody, RelayedDelivery, RelayedEvent, RelayedEventSpec};
pub use resource::{ReferredResource, TemplateResourceRef};
pub use source::{
    ClusterRef, ClusterSecretRef, DeadLetterSpec, DeadLetterStreamSpec, DedupeBy, DedupeSpec, DeliverFrom,
    EventSource, EventSourceSpec, HttpSpec, JetStreamSpec, KubernetesSpec, NatsSpec, OriginSpec,
    ResourceRule, ResourceSelector, SecretRef, SubjectTokens,
};
pub use status::Status;
pub use trigger::{DeploymentType, EventTrigger, EventTriggerSpec, PolicyKind, PolicyRef};
pub use work::{
    EventText, FailingCluster, Work, WorkHeader, WorkIntent, WorkKey, WorkKeyAbout, WorkMessage, WorkPlan,
    WorkRecentEvent, WorkSpec, WorkStatus,
};

/// The API group of all our kinds, and the prefix of our labels and annotations.
pub const GROUP: &str = "fleet-events.dev";

/// The version of the group that is written and read.
pub const VERSION: &str = "v1alpha1";

/// A ConfigMap or Secret with this annotation set to `"true"` holds templates; others are applied as they stand.
pub const TEMPLATE_ANNOTATION: &str = "fleet-events.dev/template";

/// A ConfigMap or Secret with this annotation of Sveltos' holds Go templates over the event, whatever its value.
pub const GO_EVENT_ANNOTATION: &str = "projectsveltos.io/instantiate";

/// A ConfigMap or Secret with this annotation of Sveltos' holds Go templates over the target cluster, whatever its value.
pub const GO_CLUSTER_ANNOTATION: &str = "projectsveltos.io/template";

/// The annotation of a SveltosCluster that says what `resolve` says in the spec of a Cluster: mappings, with commas
/// between them.
pub const RESOLVE_ANNOTATION: &str = "fleet-events.dev/resolve";

/// The finalizer of EventTriggers, ClusterProfiles and Clusters: they go once what is there because of them is withdrawn.
pub const WITHDRAW_FINALIZER: &str = "fleet-events.dev/withdraw";

/// The label of a `Cluster` that tells which version of Kubernetes it runs.
pub const KUBERNETES_VERSION_LABEL: &str = "fleet-events.dev/kubernetes-version";

/// A version as that label may hold it: `v1.30.2+k3s1` becomes `v1.30.2_k3s1`.
pub(crate) fn kubernetes_version_label(version: &str) -> String {
    let allowed = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '_' };
    let label: String = version.chars().map(allowed).take(63).collect();
    label.trim_matches(|c: char| !c.is_ascii_alphanumeric()).to_owned()
}
