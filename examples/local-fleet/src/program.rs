//! The programs of the lab, and the one place where their versions stand.
//!
//! `programs/go.mod` repeats those of Kubernetes and etcd, because Go wants them there; a test compares them.

use std::fmt;
use std::str::FromStr;

/// Kubernetes: API server, controller manager, kubectl.
const KUBERNETES: &str = "1.36.3";
/// etcd: the version that this Kubernetes itself requires.
const ETCD: &str = "3.6.8";
/// nats-server.
const NATS_SERVER: &str = "2.15.2";
/// The `nats` command line client.
const NATS: &str = "0.5.1";
/// Helm 4.
const HELM: &str = "4.3.1";
/// Helm 3.
const HELM3: &str = "3.22.0";
/// The registry of go-containerregistry: all in memory, for charts by oci://.
const REGISTRY: &str = "0.20.6";

/// A program that the lab runs, or offers beside the servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Program {
    /// etcd, the API servers' database.
    Etcd,
    /// The Kubernetes API server.
    KubeApiserver,
    /// Kubernetes' controllers: they finish what the deletion of a namespace starts.
    KubeControllerManager,
    /// The Kubernetes command line client.
    Kubectl,
    /// The NATS server.
    NatsServer,
    /// The NATS command line client.
    Nats,
    /// Helm 4.
    Helm,
    /// Helm 3.
    Helm3,
    /// An OCI registry that forgets everything when it ends.
    Registry,
}

/// Where the Go source of a program comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// A folder in `programs/`, built with the go.mod there.
    Here { folder: &'static str },
    /// A published Go command, by `go install`.
    Published { package: &'static str },
}

/// One compilation: it yields one file, under one or several names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Recipe {
    /// Names the folder in the cache, with the version.
    pub(crate) name: &'static str,
    pub(crate) version: &'static str,
    pub(crate) source: Source,
    /// What the Go linker is asked to set, so that the program knows its version.
    pub(crate) stamps: &'static [&'static str],
    /// What the build yields; the first is the file, the others are links to it.
    pub(crate) programs: &'static [Program],
}

const RECIPES: [Recipe; 7] = [
    Recipe {
        name: "etcd",
        version: ETCD,
        source: Source::Here { folder: "etcd" },
        stamps: &[],
        programs: &[Program::Etcd],
    },
    Recipe {
        name: "nats-server",
        version: NATS_SERVER,
        source: Source::Published { package: "github.com/nats-io/nats-server/v2" },
        stamps: &[],
        programs: &[Program::NatsServer],
    },
    Recipe {
        name: "kubernetes",
        version: KUBERNETES,
        source: Source::Here { folder: "kubernetes" },
        // The first is what `/version` and `kubectl version` print, the second stands in the User-Agent.
        stamps: &["k8s.io/component-base/version.gitVersion", "k8s.io/client-go/pkg/version.gitVersion"],
        programs: &[Program::KubeApiserver, Program::KubeControllerManager, Program::Kubectl],
    },
    Recipe {
        name: "nats",
        version: NATS,
        source: Source::Published { package: "github.com/nats-io/natscli/nats" },
        stamps: &["main.version"],
        programs: &[Program::Nats],
    },
    Recipe {
        name: "helm",
        version: HELM,
        source: Source::Published { package: "helm.sh/helm/v4/cmd/helm" },
        stamps: &["helm.sh/helm/v4/internal/version.version"],
        programs: &[Program::Helm],
    },
    Recipe {
        name: "helm3",
        version: HELM3,
        source: Source::Published { package: "helm.sh/helm/v3/cmd/helm" },
        stamps: &["helm.sh/helm/v3/internal/version.version"],
        programs: &[Program::Helm3],
    },
    Recipe {
        name: "registry",
        version: REGISTRY,
        source: Source::Published { package: "github.com/google/go-containerregistry/cmd/registry" },
        stamps: &[],
        programs: &[Program::Registry],
    },
];

impl Program {
    /// All programs, in the order in which it is best to get them: quick ones and servers first.
    pub const ALL: [Program; 9] = [
        Program::Etcd,
        Program::NatsServer,
        Program::KubeApiserver,
        Program::KubeControllerManager,
        Program::Kubectl,
        Program::Nats,
        Program::Helm,
        Program::Helm3,
        Program::Registry,
    ];

    /// The name of its file.
    pub const fn name(self) -> &'static str {
        match self {
            Program::Etcd => "etcd",
            Program::KubeApiserver => "kube-apiserver",
            Program::KubeControllerManager => "kube-controller-manager",
            Program::Kubectl => "kubectl",
            Program::NatsServer => "nats-server",
            Program::Nats => "nats",
            Program::Helm => "helm",
            Program::Helm3 => "helm3",
            Program::Registry => "registry",
        }
    }

    /// The version that the lab builds; one found on `PATH` may be newer within the same major version.
    pub fn version(self) -> &'static str {
        self.recipe().version
    }

    /// What makes the program print its version.
    pub(crate) fn version_arguments(self) -> &'static [&'static str] {
        match self {
            Program::Kubectl => &["version", "--client"],
            Program::Helm | Program::Helm3 => &["version", "--short"],
            _ => &["--version"],
        }
    }

    pub(crate) fn recipe(self) -> Recipe {
        let [etcd, nats_server, kubernetes, nats, helm, helm3, registry] = RECIPES;
        match self {
            Program::Etcd => etcd,
            Program::NatsServer => nats_server,
            Program::KubeApiserver | Program::KubeControllerManager | Program::Kubectl => kubernetes,
            Program::Nats => nats,
            Program::Helm => helm,
            Program::Helm3 => helm3,
            Program::Registry => registry,
        }
    }

    /// The ways to help when the program is missing, for errors.
    pub(crate) fn how_to_get(self) -> String {
        let name = self.name();
        let version = self.version();
        format!(
            "Install Go 1.26 or newer (https://go.dev/doc/install) so that the lab can build {name}, \
             or put {name} {version} or newer on PATH, or into a folder named by KUBEBUILDER_ASSETS"
        )
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Program {
    type Err = UnknownProgram;

    fn from_str(name: &str) -> Result<Self, UnknownProgram> {
        let found = Program::ALL.into_iter().find(|program| program.name() == name);
        found.ok_or_else(|| UnknownProgram { name: name.to_owned() })
    }
}

/// A name that is not that of a [`Program`].
#[derive(Debug, thiserror::Error)]
#[error("the lab has no program {name}")]
pub struct UnknownProgram {
    name: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_go_module_pins_the_same_versions() {
        let module = include_str!("../programs/go.mod");
        for line in [
            format!("k8s.io/kubernetes v{KUBERNETES}"),
            format!("k8s.io/client-go => k8s.io/client-go v{}", KUBERNETES.replacen('1', "0", 1)),
            format!("go.etcd.io/etcd/server/v3 v{ETCD}"),
        ] {
            assert!(module.contains(&line), "programs/go.mod lacks `{line}`");
        }
    }

    #[test]
    fn every_program_is_yielded_by_its_recipe() {
        for program in Program::ALL {
            assert!(program.recipe().programs.contains(&program), "{program}");
        }
    }
}
