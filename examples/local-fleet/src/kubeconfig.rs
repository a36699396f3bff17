//! Who a cluster's clients are, and the kubeconfig files that say so.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::ClientConfig;

use crate::certificate::{self, Authority};
use crate::{LabError, Result, private};

/// Whom a kubeconfig makes its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum User {
    /// The user `lab-admin` of the group `system:masters`, by client certificate: may do everything, and the API
    /// server's limits on requests in flight do not apply.
    Admin,
    /// The user `lab-writer`, by token: may do everything too (by a ClusterRoleBinding to `cluster-admin`), within
    /// the API server's limits.
    Writer,
    /// The user `lab-guest`, by token: may do nothing until a test gives it a role.
    Guest,
}

/// Which way a client takes to its server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Route {
    /// Straight to the server.
    #[default]
    Direct,
    /// Through the [`Proxy`](crate::Proxy) in front of it, which can cut and slow down the network.
    Proxied,
}

/// The group that the ClusterRoleBinding of [`User::Writer`] names.
pub(crate) const WRITERS: &str = "lab:writers";

const TOKENS: &str = "tokens.csv";

/// The keys, certificates and tokens of one cluster, in files.
#[derive(Debug, Clone)]
pub(crate) struct Identities {
    dir: PathBuf,
}

impl Identities {
    /// Those in the folder, made if it is new.
    pub(crate) fn in_folder(dir: PathBuf, cluster: &str) -> Result<Self> {
        certificate::folder_once(&dir, || {
            let authority = Authority::new(&format!("authority of {cluster}"))?;
            let server = authority.server("kube-apiserver", &["kubernetes", "kubernetes.default.svc"])?;
            let admin = authority.client("lab-admin", "system:masters")?;
            let (signing, verifying) = certificate::signing_key()?;
            let secret = || private::secret().map_err(LabError::file("draw a secret for", &dir));
            let tokens =
                format!("{},lab-writer,lab-writer,{WRITERS}\n{},lab-guest,lab-guest\n", secret()?, secret()?);
            Ok(vec![
                ("ca.crt", authority.certificate()),
                ("server.crt", server.certificate),
                ("server.key", server.key),
                ("admin.crt", admin.certificate),
                ("admin.key", admin.key),
                ("service-account.key", signing),
                ("service-account.pub", verifying),
                (TOKENS, tokens),
            ])
        })?;
        Ok(Identities { dir })
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    pub(crate) fn tokens(&self) -> PathBuf {
        self.file(TOKENS)
    }

    /// TLS as the administrator.
    pub(crate) fn admin_tls(&self) -> Result<Arc<ClientConfig>> {
        let (certificate, key) = (self.file("admin.crt"), self.file("admin.key"));
        certificate::client_tls(&self.file("ca.crt"), Some((&certificate, &key)))
    }

    /// The token of a user that has one.
    pub(crate) fn token(&self, user: User) -> Result<Option<String>> {
        let name = match user {
            User::Admin => return Ok(None),
            User::Writer => "lab-writer",
            User::Guest => "lab-guest",
        };
        let file = self.tokens();
        let tokens = fs::read_to_string(&file).map_err(LabError::file("read", &file))?;
        Ok(tokens.lines().find_map(|line| {
            let (token, rest) = line.split_once(',')?;
            rest.starts_with(name).then(|| token.to_owned())
        }))
    }

    /// A kubeconfig with all it needs inside.
    pub(crate) fn kubeconfig(&self, cluster: &str, address: SocketAddr, user: User) -> Result<String> {
        let authority = self.encoded("ca.crt")?;
        let mut text = format!(
            "apiVersion: v1\n\
             kind: Config\n\
             clusters:\n\
             - name: {cluster}\n  \
               cluster:\n    \
                 server: https://{address}\n    \
                 certificate-authority-data: {authority}\n\
             contexts:\n\
             - name: {cluster}\n  \
               context:\n    \
                 cluster: {cluster}\n    \
                 user: {cluster}\n\
             current-context: {cluster}\n\
             users:\n\
             - name: {cluster}\n  \
               user:\n"
        );
        // Writing to a string does not fail.
        let _written = match self.token(user)? {
            Some(token) => writeln!(text, "    token: {token}"),
            None => writeln!(
                text,
                "    client-certificate-data: {}\n    client-key-data: {}",
                self.encoded("admin.crt")?,
                self.encoded("admin.key")?
            ),
        };
        Ok(text)
    }

    fn encoded(&self, name: &str) -> Result<String> {
        let path: &Path = &self.file(name);
        Ok(STANDARD.encode(fs::read(path).map_err(LabError::file("read", path))?))
    }
}
