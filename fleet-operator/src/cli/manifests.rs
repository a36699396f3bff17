//! `manifests`: what runs an operator in a management cluster.

use clap::Args;
use fleet_kube::api::crds;

use super::{ApiArg, Failure, OWN_NAMESPACE, print};
use crate::manifests::{AccessSecrets, Options, operator, yaml};
use crate::run::StoreKind;

#[derive(Debug, Args)]
pub(super) struct ManifestsArgs {
    /// The image, whose entry point is this program.
    #[arg(long)]
    image: String,
    #[command(flatten)]
    api: ApiArg,
    /// The operator's own namespace.
    #[arg(short, long, default_value = OWN_NAMESPACE)]
    namespace: String,
    /// A namespace with ConfigMaps and Secrets that EventTriggers, ClusterProfiles, EventSources and Clusters refer to; may
    /// be given many times. They are read in these, which have to be there already, and in the operator's own namespace;
    /// nowhere else. Other kinds that templateResourceRefs names are granted by hand: list and watch.
    #[arg(long, value_name = "NAMESPACE", value_delimiter = ',')]
    read_namespace: Vec<String>,
    /// A namespace with a Cluster that is driven by an agent; may be given many times. The operator writes there what the
    /// agent is to do.
    #[arg(long, value_name = "NAMESPACE", value_delimiter = ',')]
    agent_namespace: Vec<String>,
    /// Where Works, what was applied for them, floors and dead letters are kept; `file` needs a volume that outlives the pod
    /// (a PersistentVolumeClaim).
    #[arg(long, value_name = "STORE", default_value = "kubernetes")]
    store: StoreKind,
    /// Have them elect one that runs, while the others wait.
    #[arg(long)]
    leader_elect: bool,
    /// How many there are; more than one needs --leader-elect.
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    replicas: u16,
    /// A Secret in the operator's own namespace with the certificate to serve HTTPS with: tls.crt and tls.key, as
    /// cert-manager writes them.
    #[arg(long, value_name = "NAME")]
    tls_secret: Option<String>,
    /// A Secret there with the authorities of client certificates that let send events: ca.crt.
    #[arg(long, value_name = "NAME", requires = "tls_secret")]
    client_ca_secret: Option<String>,
    /// A Secret there with the tokens that let send events: tokens, one a line.
    #[arg(long, value_name = "NAME")]
    token_secret: Option<String>,
}

pub(super) fn manifests(args: ManifestsArgs) -> Result<(), Failure> {
    let ManifestsArgs {
        image,
        api,
        namespace,
        read_namespace,
        agent_namespace,
        store,
        leader_elect,
        replicas,
        tls_secret,
        client_ca_secret,
        token_secret,
    } = args;
    let options = Options {
        namespace,
        image,
        api: api.api.into(),
        store,
        leader_elect,
        replicas,
        read_namespaces: read_namespace,
        agent_namespaces: agent_namespace,
        access: AccessSecrets { tls: tls_secret, client_ca: client_ca_secret, tokens: token_secret },
    };
    let mut objects = Vec::new();
    for crd in crds() {
        objects.push(serde_json::to_value(crd).map_err(|error| Failure::because(&error))?);
    }
    objects.extend(operator(&options).map_err(|error| Failure::because(&error))?);
    print(yaml(&objects).map_err(|error| Failure::because(&error))?.trim_end());
    Ok(())
}
