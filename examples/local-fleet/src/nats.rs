//! A NATS server, with every way to prove who one is.

mod access;
mod jwt;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::certificate::{self, Authority};
use crate::http::Endpoint;
use crate::port::{Ports, local};
use crate::server::{Recipe, Server};
use crate::{LabError, Program, Progress, Proxy, Result, Route, install, private};

pub use access::NatsAccess;

/// How the server makes its clients prove who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NatsAuth {
    /// Not at all.
    #[default]
    None,
    /// By user and password.
    UserPassword,
    /// By a token.
    Token,
    /// By signing with an nkey.
    NKey,
    /// By a creds file: a JWT that an account signed, and the account's by an operator (decentralised authentication).
    Creds,
}

/// Whether the server speaks TLS, and to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NatsTls {
    /// No TLS.
    #[default]
    Off,
    /// TLS with a certificate of the lab's own authority.
    Server,
    /// TLS, and clients must show a certificate of that authority too.
    Mutual,
}

/// What differs between NATS servers.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct NatsOptions {
    /// Whether JetStream is on; its streams are kept in the server's folder.
    pub jetstream: bool,
    /// How clients prove who they are.
    pub auth: NatsAuth,
    /// Whether clients speak TLS.
    pub tls: NatsTls,
    /// Names that the server's certificate is for, beside `localhost` and `127.0.0.1`.
    pub tls_names: Vec<String>,
    /// Further lines for the server's configuration file, for example `max_payload: 1024`.
    pub config: String,
    /// Where to tell what takes long.
    pub progress: Progress,
}

impl NatsOptions {
    /// Says whether JetStream is on.
    #[must_use]
    pub fn jetstream(mut self, on: bool) -> Self {
        self.jetstream = on;
        self
    }

    /// Says how clients prove who they are.
    #[must_use]
    pub fn auth(mut self, auth: NatsAuth) -> Self {
        self.auth = auth;
        self
    }

    /// Says whether clients speak TLS.
    #[must_use]
    pub fn tls(mut self, tls: NatsTls) -> Self {
        self.tls = tls;
        self
    }

    /// Adds a name that the server's certificate is for. It counts where the server's folder is new.
    #[must_use]
    pub fn tls_name(mut self, name: &str) -> Self {
        self.tls_names.push(name.to_owned());
        self
    }

    /// Adds lines to the server's configuration file.
    #[must_use]
    pub fn config(mut self, lines: &str) -> Self {
        self.config.push_str(lines);
        self.config.push('\n');
        self
    }

    /// Says where to tell what takes long.
    #[must_use]
    pub fn progress(mut self, progress: Progress) -> Self {
        self.progress = progress;
        self
    }
}

/// A NATS server. Dropping it ends its process.
#[derive(Debug)]
pub struct Nats {
    dir: PathBuf,
    proxy: Proxy,
    server: Server,
    access: NatsAccess,
    tls: NatsTls,
    monitor: SocketAddr,
}

impl Nats {
    /// Starts a server with its files in `dir/nats`, and waits until it is ready.
    ///
    /// A later start in the same folder finds the streams, the secrets and the port of the earlier one, also with
    /// other options.
    ///
    /// # Errors
    /// If the program cannot be had, ends, or does not get ready in time.
    pub async fn start(dir: impl AsRef<Path>, options: &NatsOptions) -> Result<Self> {
        Nats::start_named(dir, "nats", options).await
    }

    /// As [`Nats::start`], with its files in `dir/name`, for several servers in one folder.
    ///
    /// # Errors
    /// As [`Nats::start`].
    pub async fn start_named(dir: impl AsRef<Path>, name: &str, options: &NatsOptions) -> Result<Self> {
        let program = install::find(Program::NatsServer, &options.progress).await?;
        let dir = dir.as_ref().join(name);
        private::create_dir(&dir).map_err(LabError::file("create", &dir))?;
        let access = NatsAccess::in_folder(&dir.join("access"), options.auth)?;
        let tls = tls_files(&dir, &options.tls_names)?;
        let ports = Ports::of(&dir);
        let mut monitor = local(0);
        let server = Server::start_new(name, &dir, |taken| {
            if taken {
                ports.forget("client");
                ports.forget("monitor");
            }
            let chosen = ports.remembered("client").and_then(|client| {
                let address = local(client);
                monitor = local(ports.remembered("monitor")?);
                let file = dir.join("nats.conf");
                let text = configuration(name, &dir, address, monitor, &access, &tls, options);
                private::write(&file, text.as_bytes()).map_err(LabError::file("write", &file))?;
                Ok(Recipe {
                    program: program.clone(),
                    args: vec!["--config".into(), file.into()],
                    address,
                    health: Endpoint { address: monitor, tls: None },
                    ready_path: "/healthz",
                })
            });
            async move { chosen }
        })
        .await?;
        let proxy = Proxy::start(ports.remembered("proxy")?, server.address())
            .await
            .map_err(LabError::file("open the proxy of", &dir))?;
        Ok(Nats { dir, proxy, server, access, tls: options.tls, monitor })
    }

    /// Its process.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// The network in front of it, for clients that take [`Route::Proxied`].
    pub fn proxy(&self) -> &Proxy {
        &self.proxy
    }

    /// Its address for clients: `nats://…`, or `tls://…` if it speaks TLS. It holds no secret.
    pub fn url(&self, route: Route) -> String {
        let address = match route {
            Route::Direct => self.server.address(),
            Route::Proxied => self.proxy.address(),
        };
        match self.tls {
            NatsTls::Off => format!("nats://{address}"),
            NatsTls::Server | NatsTls::Mutual => format!("tls://{address}"),
        }
    }

    /// Its monitoring pages, for example `/varz` and `/connz`; without TLS.
    pub fn monitor_url(&self) -> String {
        format!("http://{}", self.monitor)
    }

    /// What a client must show.
    pub fn access(&self) -> &NatsAccess {
        &self.access
    }

    /// Writes `NATS_URL`, and `NATS_USER` and `NATS_PASSWORD` if it asks for them, into a file for the shell, which only
    /// its owner may read. The `nats` program knows these variables.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write_env(&self, file: impl AsRef<Path>) -> Result<()> {
        let file = file.as_ref();
        let mut text = format!("export NATS_URL='{}'\n", self.url(Route::Direct));
        if let NatsAccess::UserPassword { user, password } = &self.access {
            text.push_str(&format!("export NATS_USER='{user}'\nexport NATS_PASSWORD='{password}'\n"));
        }
        private::write(file, text.as_bytes()).map_err(LabError::file("write", file))
    }

    /// The file with the authority that signed its certificate.
    pub fn authority_file(&self) -> PathBuf {
        self.dir.join("tls/ca.crt")
    }

    /// The files with a client's certificate and key, for [`NatsTls::Mutual`].
    pub fn client_certificate_files(&self) -> (PathBuf, PathBuf) {
        (self.dir.join("tls/client.crt"), self.dir.join("tls/client.key"))
    }
}

/// The certificates, made once.
fn tls_files(dir: &Path, names: &[String]) -> Result<PathBuf> {
    let folder = dir.join("tls");
    certificate::folder_once(&folder, || {
        let authority = Authority::new("authority of nats")?;
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let server = authority.server("nats-server", &names)?;
        let client = authority.client("lab", "clients")?;
        Ok(vec![
            ("ca.crt", authority.certificate()),
            ("server.crt", server.certificate),
            ("server.key", server.key),
            ("client.crt", client.certificate),
            ("client.key", client.key),
        ])
    })?;
    Ok(folder)
}

/// A string as NATS' configuration language quotes it.
fn quoted(text: impl std::fmt::Display) -> String {
    format!("\"{}\"", text.to_string().replace('\\', "\\\\").replace('"', "\\\""))
}

fn configuration(
    name: &str,
    dir: &Path,
    address: SocketAddr,
    monitor: SocketAddr,
    access: &NatsAccess,
    tls: &Path,
    options: &NatsOptions,
) -> String {
    let mut lines = vec![
        format!("server_name: {}", quoted(name)),
        format!("listen: {}", quoted(address)),
        format!("http: {}", quoted(monitor)),
    ];
    if options.jetstream {
        lines.push(format!("jetstream {{ store_dir: {} }}", quoted(dir.join("data").display())));
    }
    lines.extend(access.configuration());
    if options.tls != NatsTls::Off {
        lines.push(format!(
            "tls {{ cert_file: {}, key_file: {}, ca_file: {}, verify: {} }}",
            quoted(tls.join("server.crt").display()),
            quoted(tls.join("server.key").display()),
            quoted(tls.join("ca.crt").display()),
            options.tls == NatsTls::Mutual,
        ));
    }
    lines.push(options.config.clone());
    lines.join("\n") + "\n"
}
