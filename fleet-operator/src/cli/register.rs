//! `register cluster`, `deregister cluster` and `crds`: preparing a management cluster.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, Subcommand};
use fleet_core::cluster::{ClusterId, Labels};
use fleet_core::resolve::Resolve;
use fleet_kube::api::parse_duration;
use fleet_kube::client::ClusterClient;
use fleet_kube::connection::ClusterDefinition;
use fleet_kube::kubeconfig;
use fleet_kube::register::{
    Access, AgentRegistration, Registration, Wait, deregister as take_out, install_agent, register as put_in,
    register_agent,
};
use jiff::Timestamp;
use serde_json::Value;

use super::progress::Spinner;
use super::terminal::note;
use super::{ApiFamily, Failure, OWN_NAMESPACE, print};
use crate::run::connect_management;

/// How often is said that a Cluster is still waited for.
const SAY_AFTER: Duration = Duration::from_secs(5);

#[derive(Debug, Args)]
pub(super) struct RegisterArgs {
    #[command(subcommand)]
    command: RegisterCommand,
}

#[derive(Debug, Subcommand)]
enum RegisterCommand {
    /// Register a cluster with the management cluster that KUBECONFIG names: writes a Secret and a Cluster.
    Cluster(RegisterClusterArgs),
}

#[derive(Debug, Args)]
struct NameArgs {
    /// The cluster's name.
    name: String,
    /// The namespace of its Cluster object; made if it is missing.
    #[arg(short, long, default_value = "default")]
    namespace: String,
}

impl NameArgs {
    fn id(&self) -> Result<ClusterId, Failure> {
        ClusterId::new(&self.namespace, &self.name).map_err(|error| Failure::because(&error))
    }
}

#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("access").required(true).multiple(true).args(["kubeconfig", "in_cluster", "agent"])))]
struct RegisterClusterArgs {
    #[command(flatten)]
    name: NameArgs,
    /// The kubeconfig of the cluster. Certificates and tokens that it names as files are copied into the Secret. With
    /// --agent --apply: where the agent is installed; it is stored nowhere.
    #[arg(long, value_name = "FILE", conflicts_with = "in_cluster")]
    kubeconfig: Option<PathBuf>,
    /// Which context of the kubeconfig; its current one by default.
    #[arg(long, requires = "kubeconfig")]
    context: Option<String>,
    /// Register the management cluster itself.
    #[arg(long, conflicts_with = "agent")]
    in_cluster: bool,
    #[command(flatten)]
    with_agent: AgentArgs,
    /// The cluster's labels, which selectors match: env=production,team=a.
    #[arg(long, value_name = "KEY=VALUE,…", value_delimiter = ',', value_parser = label)]
    labels: Vec<(String, String)>,
    /// Make a service account in the cluster and use its token: for a kubeconfig that runs a program (`exec`).
    #[arg(long, requires = "kubeconfig", conflicts_with = "agent")]
    create_service_account: bool,
    /// Register the cluster also if it cannot be reached.
    #[arg(long, conflicts_with = "agent")]
    force: bool,
    /// Write nothing; print what would be written, without credentials.
    #[arg(long)]
    dry_run: bool,
    /// The operator's own namespace in the management cluster (its `--namespace`): no other cluster may be called what the
    /// management cluster is there.
    #[arg(long, value_name = "NAMESPACE", default_value = OWN_NAMESPACE, env = "POD_NAMESPACE")]
    operator_namespace: String,
}

impl RegisterClusterArgs {
    /// The cluster's name, if it may have that.
    fn id(&self) -> Result<ClusterId, Failure> {
        let id = self.name.id()?;
        let operator = &self.operator_namespace;
        let management =
            ClusterDefinition::management_id(operator).map_err(|error| Failure::because(&error))?;
        if id == management && !self.in_cluster {
            return Err(Failure::new(format!(
                "{id} is what the operator calls the management cluster; give the cluster another --namespace or name, register \
                 the management cluster itself (--in-cluster), or say where the operator is (--operator-namespace, now \
                 {operator})"
            )));
        }
        if self.with_agent.agent && id.namespace() == operator {
            return Err(Failure::new(format!(
                "a cluster with an agent needs a --namespace of its own, and {operator} is the operator's, which keeps there \
                 what no agent may write; choose another one, or say where the operator is (--operator-namespace)"
            )));
        }
        Ok(id)
    }
}

/// A cluster that is not reached from here.
#[derive(Debug, Args)]
struct AgentArgs {
    /// An agent in the cluster does all there. Writes to the management cluster what it takes, in a namespace that must be
    /// this cluster's own, and prints what is to be installed in the cluster, credentials among it:
    /// fleet-operator register cluster NAME -n NAMESPACE --agent --image IMAGE | kubectl --context CLUSTER apply -f -
    #[arg(long, requires = "image")]
    agent: bool,
    /// Install it in the cluster that --kubeconfig names, rather than print it.
    #[arg(long, requires_all = ["agent", "kubeconfig"])]
    apply: bool,
    /// The image with this program, for the agent.
    #[arg(long, requires = "agent")]
    image: Option<String>,
    /// Whose kinds the definitions in the management cluster are: it becomes a Cluster, or a SveltosCluster with pullMode.
    #[arg(long, value_name = "API", default_value = "fleet", requires = "agent")]
    api: ApiFamily,
    /// The agent's namespace in the cluster.
    #[arg(long, value_name = "NAMESPACE", default_value = "fleet-events", requires = "agent")]
    agent_namespace: String,
    /// The ClusterRole in the cluster that says what the agent may put there. What it needs besides, it gets.
    #[arg(long, value_name = "NAME", default_value = "cluster-admin", requires = "agent")]
    cluster_role: String,
    /// Where the agent reaches the API server of the management cluster, if not where it is reached from here:
    /// https://HOST:PORT.
    #[arg(long, value_name = "URL", requires = "agent")]
    hub_server: Option<String>,
    /// Where the agent reaches what a name stands for that does not resolve for it.
    #[arg(long, value_name = "HOST:PORT=ADDRESS", requires = "agent")]
    resolve: Vec<Resolve>,
    /// How long the agent's first token for the management cluster is good. It renews it before.
    #[arg(long, value_name = "DURATION", default_value = "168h", value_parser = parse_duration, requires = "agent")]
    token_lifetime: Duration,
}

#[derive(Debug, Args)]
pub(super) struct DeregisterArgs {
    #[command(subcommand)]
    command: DeregisterCommand,
}

#[derive(Debug, Subcommand)]
enum DeregisterCommand {
    /// Take a cluster out: the operator withdraws what it put there. Waits until that is done and the Cluster is gone; while
    /// no operator runs, it is not.
    Cluster(DeregisterClusterArgs),
}

#[derive(Debug, Args)]
struct DeregisterClusterArgs {
    #[command(flatten)]
    name: NameArgs,
    /// Leave in the cluster what was put there.
    #[arg(long)]
    leave: bool,
    /// Whether to wait until the Cluster is gone; `--wait=false` leaves the rest to the operator.
    #[arg(long, value_name = "BOOL", action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_value_t = true, default_missing_value = "true")]
    wait: bool,
}

fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected key=value".to_owned()),
    }
}

pub(super) async fn register(args: RegisterArgs) -> Result<(), Failure> {
    let RegisterCommand::Cluster(args) = args.command;
    let id = args.id()?;
    if args.with_agent.agent {
        return register_with_agent(args, id).await;
    }
    let access = match args.kubeconfig {
        Some(file) => Access::Kubeconfig {
            file,
            context: args.context,
            create_service_account: args.create_service_account,
        },
        None => Access::InCluster,
    };
    let registration = Registration {
        id,
        labels: args.labels.into_iter().collect::<Labels>(),
        access,
        force: args.force,
        dry_run: args.dry_run,
    };
    let management = connect_management().await.map_err(|error| Failure::because(&error))?;
    let registered = put_in(&management, &registration).await.map_err(|error| Failure::because(&error))?;
    if registration.dry_run {
        for mut object in registered.objects {
            without_credentials(&mut object);
            print_object(&object)?;
        }
    } else {
        let version =
            registered.version.map(|version| format!(" (Kubernetes {version})")).unwrap_or_default();
        print(&format!("cluster {} is registered{version}", registration.id));
    }
    registered.notes.iter().for_each(|text| note(text));
    Ok(())
}

async fn register_with_agent(args: RegisterClusterArgs, id: ClusterId) -> Result<(), Failure> {
    let AgentArgs {
        apply,
        image,
        api,
        agent_namespace,
        cluster_role,
        hub_server,
        resolve,
        token_lifetime,
        ..
    } = args.with_agent;
    let failed = |error: &dyn std::error::Error| Failure::because(error);
    let registration = AgentRegistration {
        id,
        labels: args.labels.into_iter().collect::<Labels>(),
        family: api.into(),
        namespace: agent_namespace,
        image: image.unwrap_or_default(),
        cluster_role,
        hub_server,
        resolve,
        token_lifetime,
        dry_run: args.dry_run,
    };
    let id = &registration.id;
    // Before anything is written.
    let cluster = match args.kubeconfig.filter(|_| apply) {
        Some(file) => Some(connect_to(file, args.context).await?),
        None => None,
    };
    let hub = connect_management().await.map_err(|error| failed(&error))?;
    let registered = register_agent(&hub, &registration).await.map_err(|error| failed(&error))?;
    if registration.dry_run {
        for mut object in registered.hub.into_iter().chain(registered.cluster) {
            without_credentials(&mut object);
            print_object(&object)?;
        }
        return Ok(());
    }
    match cluster {
        Some(cluster) => {
            install_agent(&cluster, &registered.cluster).await.map_err(|error| failed(&error))?;
            print(&format!("cluster {id} is registered, and its agent is installed there"));
        }
        None => {
            registered.cluster.iter().try_for_each(print_object)?;
            eprintln!("note: cluster {id} is registered; install in it what was printed");
        }
    }
    Ok(())
}

async fn connect_to(file: PathBuf, context: Option<String>) -> Result<ClusterClient, Failure> {
    // A kubeconfig may run a program, which blocks.
    let connect = move || -> Result<ClusterClient, Failure> {
        let contained = kubeconfig::self_contained(&file, context.as_deref(), Timestamp::now())
            .map_err(|error| Failure::because(&error))?;
        let config = contained.config().map_err(|error| Failure::because(&error))?;
        ClusterClient::new(config).map_err(|error| Failure::because(&error))
    };
    let connected = tokio::task::spawn_blocking(connect).await;
    connected.map_err(|_| Failure::new("reading the kubeconfig was interrupted"))?
}

fn print_object(object: &Value) -> Result<(), Failure> {
    let yaml = serde_saphyr::to_string(object).map_err(|error| Failure::because(&error))?;
    print(&format!("---\n{}", yaml.trim_end()));
    Ok(())
}

pub(super) async fn deregister(args: DeregisterArgs) -> Result<(), Failure> {
    let DeregisterCommand::Cluster(args) = args.command;
    let id = args.name.id()?;
    let management = connect_management().await.map_err(|error| Failure::because(&error))?;
    let mut said = SAY_AFTER;
    let spinner = args.wait.then(|| Spinner::turn(format!("the operator withdraws what it put into {id}")));
    let is_seen = spinner.as_ref().is_some_and(Spinner::is_seen);
    let mut told = |since: Duration| {
        if since >= said && !is_seen {
            said += SAY_AFTER;
            eprintln!(
                "waiting ({} s) until the operator has withdrawn what it put into {id}; if none runs, start one",
                since.as_secs()
            );
        }
    };
    let wait = if args.wait { Wait::UntilGone(&mut told) } else { Wait::No };
    let done =
        take_out(&management, &id, args.leave, wait).await.map_err(|error| Failure::because(&error))?;
    drop(spinner);
    if !done.cluster {
        return Err(Failure::new(format!("there is no Cluster {id}")));
    }
    print(&if done.held_back {
        format!("cluster {id} is being taken out; its Cluster goes once the operator is done with it")
    } else {
        format!("cluster {id} is no longer registered")
    });
    Ok(())
}

pub(super) fn crds() -> Result<(), Failure> {
    let yaml = fleet_kube::api::crds_yaml().map_err(|error| Failure::because(&error))?;
    print(yaml.trim_end());
    Ok(())
}

/// Replaces what a Secret holds: the kubeconfig is known already to whoever asks, and need not be in a terminal's history.
fn without_credentials(object: &mut Value) {
    if object.get("kind").and_then(Value::as_str) != Some("Secret") {
        return;
    }
    for field in ["data", "stringData"] {
        for (_, value) in object.get_mut(field).and_then(Value::as_object_mut).into_iter().flatten() {
            *value = "(left out)".into();
        }
    }
}
