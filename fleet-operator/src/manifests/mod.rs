//! What runs Fleet in a management cluster, as objects to be applied there: each set of an account with what it has to be
//! allowed, and what runs under it. [`operator`] is one.

mod objects;
mod rbac;

use fleet_core::manifest::names;
use fleet_core::yaml;
use fleet_kube::definitions::Family;
use serde::Serialize;
use serde_json::Value;

use crate::run::StoreKind;

/// The name of all that belongs to the operator.
const OPERATOR: &str = "fleet-operator";

/// How an operator is to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Its own namespace.
    pub namespace: String,
    /// The image; its entry point is the program.
    pub image: String,
    /// Whose kinds the definitions are.
    pub api: Family,
    /// Where it keeps Works.
    pub store: StoreKind,
    /// Whether it runs only while it leads.
    pub leader_elect: bool,
    /// How many there are.
    pub replicas: u16,
    /// Where ConfigMaps and Secrets are that definitions refer to, beside its own namespace.
    pub read_namespaces: Vec<String>,
    /// Namespaces with Clusters that agents drive.
    pub agent_namespaces: Vec<String>,
    /// Who may send events, and over what: the Secrets in its own namespace that say it.
    pub access: AccessSecrets,
}

/// Names of Secrets that say who may send events over HTTP. They are mounted, and so read again when they change.
#[derive(Clone, Debug, Default)]
pub struct AccessSecrets {
    /// The server's certificate: `tls.crt` and `tls.key`.
    pub tls: Option<String>,
    /// The authorities of those who may send: `ca.crt`. Only with `tls`.
    pub client_ca: Option<String>,
    /// The tokens of those who may send: `tokens`, one a line.
    pub tokens: Option<String>,
}

/// Why there are no objects for these options.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestsError {
    /// A namespace cannot be called so.
    #[error("namespace {name:?} {why}")]
    Namespace {
        /// The name.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A Secret cannot be called so.
    #[error("Secret {name:?} {why}")]
    Secret {
        /// The name.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Client certificates without TLS.
    #[error("--client-ca-secret needs --tls-secret: certificates are shown over TLS alone")]
    ClientsWithoutTls,
    /// More than one would act at the same time.
    #[error(
        "--replicas {0} needs --leader-elect: of several operators on one management cluster one may act at a time"
    )]
    OneWithoutElection(u16),
    /// A leader could not go on with what the one before it did.
    #[error(
        "--leader-elect needs --store kubernetes: with --store file, what an operator has stored lies in its own volume, \
         where the next leader cannot go on with it"
    )]
    ElectionNeedsSharedStore,
    /// An object cannot be written: a bug.
    #[error("an object cannot be written; this is a bug, please report it")]
    Written(#[from] serde_json::Error),
}

/// The objects of an operator, in the order in which they are to be applied; without the CustomResourceDefinitions.
///
/// # Errors
/// When the options do not go together.
pub fn operator(options: &Options) -> Result<Vec<Value>, ManifestsError> {
    let others = options.read_namespaces.iter().chain(&options.agent_namespaces);
    for name in others.chain([&options.namespace]) {
        if let Err(why) = names::dns_label(name) {
            return Err(ManifestsError::Namespace { name: name.clone(), why });
        }
    }
    let AccessSecrets { tls, client_ca, tokens } = &options.access;
    for name in [tls, client_ca, tokens].into_iter().flatten() {
        if let Err(why) = names::dns_subdomain(name) {
            return Err(ManifestsError::Secret { name: name.clone(), why });
        }
    }
    if client_ca.is_some() && tls.is_none() {
        return Err(ManifestsError::ClientsWithoutTls);
    }
    match (options.store, options.leader_elect, options.replicas) {
        (StoreKind::File, true, _) => return Err(ManifestsError::ElectionNeedsSharedStore),
        (_, false, replicas @ 2..) => return Err(ManifestsError::OneWithoutElection(replicas)),
        _ => {}
    }
    let mut objects = vec![value(objects::namespace(options))?, value(objects::account(options))?];
    rbac::operator(options).objects(&options.namespace, &mut objects)?;
    if options.store == StoreKind::File {
        objects.push(value(objects::volume_claim(options))?);
    }
    objects.extend([value(objects::deployment(options))?, value(objects::service(options))?]);
    Ok(objects)
}

/// Objects as YAML documents.
///
/// # Errors
/// None in practice.
pub fn yaml(objects: &[Value]) -> Result<String, yaml::WriteError> {
    let mut text = String::new();
    for object in objects {
        text.push_str("---\n");
        text.push_str(&yaml::to_string(object)?);
    }
    Ok(text)
}

fn value(object: impl Serialize) -> Result<Value, serde_json::Error> {
    serde_json::to_value(object)
}
