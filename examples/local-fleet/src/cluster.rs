//! A Kubernetes cluster: API server and controller manager, without nodes.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::http::Endpoint;
use crate::kubeconfig::{Identities, WRITERS};
use crate::port::{Ports, local};
use crate::server::{Recipe, Server};
use crate::{Etcd, LabError, Program, Progress, Proxy, Result, Route, User, install, private};

/// What differs between clusters.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ClusterOptions {
    /// Further flags for the API server, for example `--max-requests-inflight=4`; they override the lab's own.
    pub api_server_flags: Vec<String>,
    /// Whether a controller manager runs. Without one a deleted namespace stays in `Terminating` and the objects that
    /// an owner leaves behind stay too; a cluster then takes a third less memory.
    pub controller_manager: bool,
    /// Where to tell what takes long.
    pub progress: Progress,
}

impl Default for ClusterOptions {
    fn default() -> Self {
        ClusterOptions {
            api_server_flags: Vec::new(),
            controller_manager: true,
            progress: Progress::default(),
        }
    }
}

impl ClusterOptions {
    /// Adds a flag for the API server.
    #[must_use]
    pub fn api_server_flag(mut self, flag: impl Into<String>) -> Self {
        self.api_server_flags.push(flag.into());
        self
    }

    /// Says whether a controller manager runs.
    #[must_use]
    pub fn controller_manager(mut self, runs: bool) -> Self {
        self.controller_manager = runs;
        self
    }

    /// Says where to tell what takes long.
    #[must_use]
    pub fn progress(mut self, progress: Progress) -> Self {
        self.progress = progress;
        self
    }
}

/// A cluster without nodes: objects are stored, validated, watched and collected as in any cluster, but no pod runs.
///
/// Access is by RBAC. Dropping it ends its processes.
#[derive(Debug)]
pub struct Cluster {
    name: String,
    dir: PathBuf,
    // Dropped in this order: clients before their server.
    controller_manager: Option<Server>,
    proxy: Proxy,
    api_server: Server,
    identities: Identities,
    etcd: Etcd,
}

impl Cluster {
    /// Starts a cluster on `etcd` with its files in `dir/name`, and waits until all of it is ready.
    ///
    /// # Errors
    /// If a program cannot be had, ends, or does not get ready in time.
    pub async fn start(
        etcd: &Etcd,
        dir: impl AsRef<Path>,
        name: &str,
        options: &ClusterOptions,
    ) -> Result<Self> {
        let dir = dir.as_ref().join(name);
        private::create_dir(&dir).map_err(LabError::file("create", &dir))?;
        let identities = Identities::in_folder(dir.join("identities"), name)?;
        let api_server = start_api_server(etcd, &dir, name, &identities, options).await?;
        let ports = Ports::of(&dir);
        let proxy = Proxy::start(ports.remembered("proxy")?, api_server.address())
            .await
            .map_err(LabError::file("open the proxy of", &dir))?;
        bind_writers(&api_server).await?;
        let controller_manager = match options.controller_manager {
            true => Some(start_controller_manager(&api_server, &dir, name, &identities, options).await?),
            false => None,
        };
        Ok(Cluster {
            name: name.to_owned(),
            dir,
            controller_manager,
            proxy,
            api_server,
            identities,
            etcd: etcd.clone(),
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The folder with its files.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Its API server.
    pub fn api_server(&self) -> &Server {
        &self.api_server
    }

    /// Its controller manager, if it was started with one.
    pub fn controller_manager(&self) -> Option<&Server> {
        self.controller_manager.as_ref()
    }

    /// The network in front of its API server, for clients that take [`Route::Proxied`].
    pub fn proxy(&self) -> &Proxy {
        &self.proxy
    }

    /// The etcd under it.
    pub fn etcd(&self) -> &Etcd {
        &self.etcd
    }

    /// The API server's address.
    pub fn url(&self, route: Route) -> String {
        format!("https://{}", self.address(route))
    }

    /// A kubeconfig for the administrator, straight to the API server. All it needs is inside, and it holds secrets.
    ///
    /// # Errors
    /// If the cluster's files cannot be read.
    pub fn kubeconfig(&self) -> Result<String> {
        self.kubeconfig_for(User::Admin, Route::Direct)
    }

    /// A kubeconfig for any user and route.
    ///
    /// # Errors
    /// If the cluster's files cannot be read.
    pub fn kubeconfig_for(&self, user: User, route: Route) -> Result<String> {
        self.identities.kubeconfig(&self.name, self.address(route), user)
    }

    /// Writes a kubeconfig into a file that only its owner may read.
    ///
    /// # Errors
    /// If the cluster's files cannot be read, or the file cannot be written.
    pub fn write_kubeconfig(&self, file: impl AsRef<Path>, user: User, route: Route) -> Result<()> {
        let file = file.as_ref();
        let text = self.kubeconfig_for(user, route)?;
        private::write(file, text.as_bytes()).map_err(LabError::file("write", file))
    }

    /// Stops its processes in order; dropping it kills them. Its etcd stays.
    ///
    /// # Errors
    /// If a process does not end.
    pub async fn stop(&self) -> Result<()> {
        if let Some(controller_manager) = &self.controller_manager {
            controller_manager.stop().await?;
        }
        self.api_server.stop().await
    }

    /// Bytes of memory that its processes have for themselves now, as [`Server::own_memory`]; without etcd.
    ///
    /// # Errors
    /// If one of them does not run.
    pub async fn own_memory(&self) -> Result<u64> {
        let mut bytes = self.api_server.own_memory().await?;
        if let Some(controller_manager) = &self.controller_manager {
            bytes = bytes.saturating_add(controller_manager.own_memory().await?);
        }
        Ok(bytes)
    }

    fn address(&self, route: Route) -> SocketAddr {
        match route {
            Route::Direct => self.api_server.address(),
            Route::Proxied => self.proxy.address(),
        }
    }
}

fn flag(name: &str, value: impl Into<OsString>) -> OsString {
    let mut flag = OsString::from(format!("--{name}="));
    flag.push(value.into());
    flag
}

async fn start_api_server(
    etcd: &Etcd,
    dir: &Path,
    name: &str,
    identities: &Identities,
    options: &ClusterOptions,
) -> Result<Server> {
    let program = install::find(Program::KubeApiserver, &options.progress).await?;
    let tls = identities.admin_tls()?;
    let dir = dir.join("kube-apiserver");
    let ports = Ports::of(&dir);
    let mut args = vec![
        flag("etcd-servers", etcd.url()),
        // Many clusters share one etcd.
        flag("etcd-prefix", format!("/{name}")),
        flag("bind-address", "127.0.0.1"),
        flag("tls-cert-file", identities.file("server.crt")),
        flag("tls-private-key-file", identities.file("server.key")),
        flag("client-ca-file", identities.file("ca.crt")),
        flag("token-auth-file", identities.tokens()),
        flag("service-account-issuer", "https://kubernetes.default.svc"),
        flag("service-account-key-file", identities.file("service-account.pub")),
        flag("service-account-signing-key-file", identities.file("service-account.key")),
        flag("authorization-mode", "RBAC"),
        // No controller makes the default service account that it would wait for.
        flag("disable-admission-plugins", "ServiceAccount"),
        // Nothing in the cluster calls its API server by the Service `kubernetes`.
        flag("endpoint-reconciler-type", "none"),
        flag("service-cluster-ip-range", "10.0.0.0/24"),
        flag("profiling", "false"),
    ];
    let fixed = args.len();
    Server::start_new(&format!("{name}/kube-apiserver"), &dir.clone(), move |taken| {
        if taken {
            ports.forget("https");
        }
        let port = ports.remembered("https");
        args.truncate(fixed);
        let (program, mut args, tls) = (program.clone(), args.clone(), tls.clone());
        let cert_dir = dir.join("certificates");
        let further = options.api_server_flags.clone();
        async move {
            let address = local(port?);
            args.push(flag("secure-port", address.port().to_string()));
            args.push(flag("cert-dir", cert_dir));
            args.extend(further.into_iter().map(OsString::from));
            let health = Endpoint { address, tls: Some(tls) };
            Ok(Recipe { program, args, address, health, ready_path: "/readyz" })
        }
    })
    .await
}

async fn start_controller_manager(
    api_server: &Server,
    dir: &Path,
    name: &str,
    identities: &Identities,
    options: &ClusterOptions,
) -> Result<Server> {
    let program = install::find(Program::KubeControllerManager, &options.progress).await?;
    let tls = identities.admin_tls()?;
    let dir = dir.join("kube-controller-manager");
    private::create_dir(&dir).map_err(LabError::file("create", &dir))?;
    let kubeconfig = dir.join("kubeconfig");
    let text = identities.kubeconfig(name, api_server.address(), User::Admin)?;
    private::write(&kubeconfig, text.as_bytes()).map_err(LabError::file("write", &kubeconfig))?;
    let ports = Ports::of(&dir);
    let args = vec![
        flag("kubeconfig", &kubeconfig),
        flag("controllers", "namespace-controller,garbage-collector-controller"),
        flag("leader-elect", "false"),
        flag("bind-address", "127.0.0.1"),
        flag("tls-cert-file", identities.file("server.crt")),
        flag("tls-private-key-file", identities.file("server.key")),
        // A namespace takes some sixty requests to delete; the default of twenty a second is for real clusters.
        flag("kube-api-qps", "1000"),
        flag("kube-api-burst", "2000"),
        flag("profiling", "false"),
    ];
    Server::start_new(&format!("{name}/kube-controller-manager"), &dir.clone(), move |taken| {
        if taken {
            ports.forget("https");
        }
        let port = ports.remembered("https");
        let (program, mut args, tls) = (program.clone(), args.clone(), tls.clone());
        async move {
            let address = local(port?);
            args.push(flag("secure-port", address.port().to_string()));
            let health = Endpoint { address, tls: Some(tls) };
            Ok(Recipe { program, args, address, health, ready_path: "/healthz" })
        }
    })
    .await
}

/// Gives [`User::Writer`] its rights.
async fn bind_writers(api_server: &Server) -> Result<()> {
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": WRITERS},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": WRITERS}],
    });
    let path = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";
    let answer = match api_server.health().request("POST", path, &binding.to_string()).await {
        // 409: the cluster was started before and has it.
        Ok(answer) if matches!(answer.status, 201 | 409) => return Ok(()),
        Ok(answer) => format!("{}: {}", answer.status, answer.body),
        Err(error) => error.to_string(),
    };
    let server = api_server.name().to_owned();
    Err(LabError::Refused { server, request: "the role binding of lab-writer".to_owned(), answer })
}
