//! What an operator runs as: within what Pod Security calls restricted.

use std::collections::BTreeMap;

use fleet_kube::definitions::Family;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy};
use k8s_openapi::api::core::v1::{
    Capabilities, Container, ContainerPort, EmptyDirVolumeSource, EnvVar, EnvVarSource, HTTPGetAction,
    Namespace, ObjectFieldSelector, PersistentVolumeClaim, PersistentVolumeClaimSpec,
    PersistentVolumeClaimVolumeSource, PodSecurityContext, PodSpec, PodTemplateSpec, Probe,
    ResourceRequirements, SeccompProfile, SecretVolumeSource, SecurityContext, Service, ServiceAccount,
    ServicePort, ServiceSpec, Volume, VolumeMount, VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::api::ObjectMeta;

use super::{AccessSecrets, OPERATOR, Options};
use crate::run::StoreKind;

/// Where the pod has its data.
const DATA: &str = "/data";
/// Where it takes events over HTTP, and is asked how it is.
const PORT: i32 = 8080;
/// Where the Secrets are that say who may send.
const ACCESS: &str = "/access";
/// A user that is nobody else.
const USER: i64 = 65_532;
/// How long it has to stop: `run --drain-timeout`, and what its help says.
const GRACE_SECONDS: i64 = 30;

fn labels() -> BTreeMap<String, String> {
    BTreeMap::from([("app.kubernetes.io/name".to_owned(), OPERATOR.to_owned())])
}

/// Metadata of something that has no name yet.
pub(super) fn unnamed() -> ObjectMeta {
    let mut labels = labels();
    labels.insert("app.kubernetes.io/version".to_owned(), env!("CARGO_PKG_VERSION").to_owned());
    ObjectMeta { labels: Some(labels), ..ObjectMeta::default() }
}

fn metadata(options: &Options) -> ObjectMeta {
    ObjectMeta { name: Some(OPERATOR.to_owned()), namespace: Some(options.namespace.clone()), ..unnamed() }
}

pub(super) fn namespace(options: &Options) -> Namespace {
    let mut metadata = ObjectMeta { name: Some(options.namespace.clone()), ..unnamed() };
    let enforce = ("pod-security.kubernetes.io/enforce".to_owned(), "restricted".to_owned());
    metadata.labels.get_or_insert_default().extend([enforce]);
    Namespace { metadata, ..Namespace::default() }
}

pub(super) fn account(options: &Options) -> ServiceAccount {
    ServiceAccount { metadata: metadata(options), ..ServiceAccount::default() }
}

/// For a store that is a file: it has to outlive the pod.
pub(super) fn volume_claim(options: &Options) -> PersistentVolumeClaim {
    PersistentVolumeClaim {
        metadata: metadata(options),
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".to_owned()]),
            resources: Some(VolumeResourceRequirements {
                requests: Some(quantities([("storage", "1Gi")])),
                ..VolumeResourceRequirements::default()
            }),
            ..PersistentVolumeClaimSpec::default()
        }),
        ..PersistentVolumeClaim::default()
    }
}

pub(super) fn deployment(options: &Options) -> Deployment {
    Deployment {
        metadata: metadata(options),
        spec: Some(DeploymentSpec {
            replicas: Some(i32::from(options.replicas)),
            selector: LabelSelector { match_labels: Some(labels()), ..LabelSelector::default() },
            // Who waits to lead is not ready, so that a rolling update would wait for it without end; and without an
            // election two would act at the same time.
            strategy: Some(DeploymentStrategy {
                type_: Some("Recreate".to_owned()),
                ..DeploymentStrategy::default()
            }),
            template: PodTemplateSpec { metadata: Some(unnamed()), spec: Some(pod(options)) },
            ..DeploymentSpec::default()
        }),
        ..Deployment::default()
    }
}

fn pod(options: &Options) -> PodSpec {
    let (empty_dir, persistent_volume_claim) = match options.store {
        StoreKind::Kubernetes => (Some(EmptyDirVolumeSource::default()), None),
        StoreKind::File => {
            let claim = PersistentVolumeClaimVolumeSource {
                claim_name: OPERATOR.to_owned(),
                ..PersistentVolumeClaimVolumeSource::default()
            };
            (None, Some(claim))
        }
    };
    let mut volumes =
        vec![Volume { name: "data".to_owned(), empty_dir, persistent_volume_claim, ..Volume::default() }];
    volumes.extend(secrets(options).map(|(volume, secret)| {
        let source = SecretVolumeSource {
            secret_name: Some(secret.clone()),
            // For the pod's group, which is fs_group.
            default_mode: Some(0o440),
            ..SecretVolumeSource::default()
        };
        Volume { name: volume.to_owned(), secret: Some(source), ..Volume::default() }
    }));
    PodSpec {
        service_account_name: Some(OPERATOR.to_owned()),
        automount_service_account_token: Some(true),
        termination_grace_period_seconds: Some(GRACE_SECONDS),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(USER),
            run_as_group: Some(USER),
            fs_group: Some(USER),
            seccomp_profile: Some(SeccompProfile {
                type_: "RuntimeDefault".to_owned(),
                ..SeccompProfile::default()
            }),
            ..PodSecurityContext::default()
        }),
        containers: vec![container(options)],
        volumes: Some(volumes),
        ..PodSpec::default()
    }
}

/// The Secrets that say who may send, by the names of their volumes.
fn secrets(options: &Options) -> impl Iterator<Item = (&'static str, &String)> {
    let AccessSecrets { tls, client_ca, tokens } = &options.access;
    let all = [("tls", tls), ("client-ca", client_ca), ("tokens", tokens)];
    all.into_iter().filter_map(|(volume, secret)| Some((volume, secret.as_ref()?)))
}

fn scheme(options: &Options) -> &'static str {
    if options.access.tls.is_some() { "https" } else { "http" }
}

fn container(options: &Options) -> Container {
    let mut args = vec!["run".to_owned(), format!("--listen=0.0.0.0:{PORT}")];
    for (volume, _) in secrets(options) {
        args.extend(match volume {
            "tls" => {
                vec![format!("--tls-cert={ACCESS}/tls/tls.crt"), format!("--tls-key={ACCESS}/tls/tls.key")]
            }
            "client-ca" => vec![format!("--client-ca={ACCESS}/client-ca/ca.crt")],
            _ => vec![format!("--token-file={ACCESS}/tokens/tokens")],
        });
    }
    let mut mounts =
        vec![VolumeMount { name: "data".to_owned(), mount_path: DATA.to_owned(), ..VolumeMount::default() }];
    mounts.extend(secrets(options).map(|(volume, _)| VolumeMount {
        name: volume.to_owned(),
        mount_path: format!("{ACCESS}/{volume}"),
        read_only: Some(true),
        ..VolumeMount::default()
    }));
    args.extend(options.leader_elect.then(|| "--leader-elect".to_owned()));
    let store = match options.store {
        StoreKind::File => "file",
        StoreKind::Kubernetes => "kubernetes",
    };
    let api = if options.api == Family::Sveltos { "sveltos" } else { "fleet" };
    Container {
        name: OPERATOR.to_owned(),
        image: Some(options.image.clone()),
        args: Some(args),
        // Not as arguments: so commands that are run in the pod have them too.
        env: Some(vec![
            given("FLEET_DATA", DATA),
            given("FLEET_STORE", store),
            given("FLEET_API", api),
            from_field("POD_NAME", "metadata.name"),
            from_field("POD_NAMESPACE", "metadata.namespace"),
        ]),
        ports: Some(vec![ContainerPort {
            name: Some(scheme(options).to_owned()),
            container_port: PORT,
            ..ContainerPort::default()
        }]),
        liveness_probe: Some(Probe {
            period_seconds: Some(10),
            failure_threshold: Some(6),
            ..probe(options, "/healthz")
        }),
        readiness_probe: Some(Probe { period_seconds: Some(5), ..probe(options, "/readyz") }),
        resources: Some(ResourceRequirements {
            requests: Some(quantities([("cpu", "100m"), ("memory", "128Mi")])),
            limits: Some(quantities([("memory", "1Gi")])),
            ..ResourceRequirements::default()
        }),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            read_only_root_filesystem: Some(true),
            capabilities: Some(Capabilities {
                drop: Some(vec!["ALL".to_owned()]),
                ..Capabilities::default()
            }),
            ..SecurityContext::default()
        }),
        volume_mounts: Some(mounts),
        ..Container::default()
    }
}

fn given(name: &str, value: &str) -> EnvVar {
    EnvVar { name: name.to_owned(), value: Some(value.to_owned()), ..EnvVar::default() }
}

fn from_field(name: &str, field: &str) -> EnvVar {
    let field = ObjectFieldSelector { field_path: field.to_owned(), ..ObjectFieldSelector::default() };
    let source = EnvVarSource { field_ref: Some(field), ..EnvVarSource::default() };
    EnvVar { name: name.to_owned(), value_from: Some(source), ..EnvVar::default() }
}

fn probe(options: &Options, path: &str) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::String(scheme(options).to_owned()),
            scheme: Some(scheme(options).to_ascii_uppercase()),
            ..HTTPGetAction::default()
        }),
        ..Probe::default()
    }
}

pub(super) fn service(options: &Options) -> Service {
    Service {
        metadata: metadata(options),
        spec: Some(ServiceSpec {
            selector: Some(labels()),
            ports: Some(vec![ServicePort {
                name: Some(scheme(options).to_owned()),
                port: if options.access.tls.is_some() { 443 } else { PORT },
                target_port: Some(IntOrString::String(scheme(options).to_owned())),
                ..ServicePort::default()
            }]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

fn quantities<const N: usize>(all: [(&str, &str); N]) -> BTreeMap<String, Quantity> {
    all.into_iter().map(|(name, quantity)| (name.to_owned(), Quantity(quantity.to_owned()))).collect()
}
