//! Kubeconfigs: read, checked, and made into a connection's configuration.
//!
//! One that comes from a Secret may be hostile. It may not run a program or read a file of the operator's machine, and
//! no error shows any of its content but the names of fields, contexts, clusters and users.

mod certificate;
mod fault;

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use kube::config::{AuthInfo, Cluster, Context, Kubeconfig, NamedAuthInfo, NamedCluster, NamedContext};
use secrecy::{ExposeSecret, SecretString};

pub use fault::{Fault, KubeconfigError};

/// The configuration of a kubeconfig that was read from a Secret.
///
/// # Errors
/// When it is no kubeconfig, asks to run a program or to read a file, or its credentials have expired. The error names
/// `origin` and the field.
pub fn from_secret(
    origin: &str,
    text: &SecretString,
    now: Timestamp,
) -> Result<kube::Config, KubeconfigError> {
    let read = || {
        let mut selected = select(parse(text.expose_secret())?, None)?;
        selected.refuse_what_runs_or_reads()?;
        selected.check(now)?;
        selected.into_config()
    };
    read().map_err(|fault| KubeconfigError { origin: origin.to_owned(), fault })
}

/// The configuration of a kubeconfig file of the operator's own machine, for its current context. Paths in it are
/// followed, from the file's folder where they are relative, and credential plugins may run when a client is made.
/// Blocks on files.
///
/// # Errors
/// When a file cannot be read, is no kubeconfig, or its credentials have expired.
pub fn from_file(path: &Path, now: Timestamp) -> Result<kube::Config, KubeconfigError> {
    let read = || {
        let mut selected = select(read_file(path)?, None)?;
        selected.inline_certificates()?;
        selected.check(now)?;
        selected.into_config()
    };
    read().map_err(|fault| KubeconfigError { origin: path.display().to_string(), fault })
}

/// What a kubeconfig file says of one context, with nothing left that points to another file: certificates, keys and
/// tokens stand in it. Blocks on files.
///
/// # Errors
/// As [`from_file`], and when the context is not there.
pub fn self_contained(
    path: &Path,
    context: Option<&str>,
    now: Timestamp,
) -> Result<SelfContained, KubeconfigError> {
    let read = || {
        let mut selected = select(read_file(path)?, context)?;
        selected.inline_certificates()?;
        selected.inline_token()?;
        selected.check(now)?;
        Ok(SelfContained(selected))
    };
    read().map_err(|fault| KubeconfigError { origin: path.display().to_string(), fault })
}

/// As [`from_secret`], for whoever writes it anew with another token.
///
/// # Errors
/// As [`from_secret`].
pub fn contained_in_text(
    origin: &str,
    text: &SecretString,
    now: Timestamp,
) -> Result<SelfContained, KubeconfigError> {
    let read = || {
        let mut selected = select(parse(text.expose_secret())?, None)?;
        selected.refuse_what_runs_or_reads()?;
        selected.check(now)?;
        Ok(SelfContained(selected))
    };
    read().map_err(|fault| KubeconfigError { origin: origin.to_owned(), fault })
}

/// One context of a kubeconfig that needs no other file. It may still name a program that gives credentials.
#[derive(Clone)]
pub struct SelfContained(Selected);

impl SelfContained {
    /// The program that it runs to get credentials, if any: `exec`, or the name of an `auth-provider`.
    pub fn credential_plugin(&self) -> Option<&str> {
        let user = &self.0.user;
        user.exec
            .as_ref()
            .map(|exec| exec.command.as_deref().unwrap_or("exec"))
            .or_else(|| user.auth_provider.as_ref().map(|provider| provider.name.as_str()))
    }

    /// What a connection's configuration says.
    pub(crate) fn of_config(config: &kube::Config) -> Self {
        let name = "cluster".to_owned();
        let pem = |der: &Vec<u8>| {
            format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", STANDARD.encode(der))
        };
        let authorities =
            config.root_cert.as_ref().map(|all| STANDARD.encode(all.iter().map(pem).collect::<String>()));
        let cluster = Cluster {
            server: Some(config.cluster_url.to_string()),
            insecure_skip_tls_verify: config.accept_invalid_certs.then_some(true),
            certificate_authority_data: authorities.filter(|_| !config.accept_invalid_certs),
            tls_server_name: config.tls_server_name.clone(),
            ..Cluster::default()
        };
        let context = Context {
            cluster: name.clone(),
            user: Some(name.clone()),
            namespace: Some(config.default_namespace.clone()),
            ..Context::default()
        };
        let user = config.auth_info.clone();
        Self(Selected { context_name: name.clone(), context, cluster, user_name: name, user })
    }

    /// The same cluster, reached at another address if one is given.
    #[must_use]
    pub(crate) fn at(mut self, server: Option<&str>) -> Self {
        if let Some(server) = server {
            self.0.cluster.server = Some(server.to_owned());
        }
        self
    }

    /// The bearer token in it.
    pub(crate) fn token(&self) -> Option<&SecretString> {
        self.0.user.token.as_ref()
    }

    /// The same cluster, with a bearer token for all credentials.
    #[must_use]
    pub fn with_token(mut self, token: SecretString) -> Self {
        self.0.user = AuthInfo { token: Some(token), ..AuthInfo::default() };
        self
    }

    /// How to connect.
    ///
    /// # Errors
    /// When the server's address cannot be understood.
    pub fn config(&self) -> Result<kube::Config, Fault> {
        self.0.clone().into_config()
    }

    /// As a kubeconfig's text.
    ///
    /// # Errors
    /// Never in practice: when it cannot be written as YAML.
    pub fn to_yaml(&self) -> Result<SecretString, Fault> {
        let yaml = serde_saphyr::to_string(&self.0.clone().into_kubeconfig());
        yaml.map(SecretString::from).map_err(|_| Fault::Unusable("it cannot be written as YAML".to_owned()))
    }
}

impl std::fmt::Debug for SelfContained {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SelfContained(context {:?})", self.0.context_name)
    }
}

/// A connection's configuration, as a kubeconfig's text.
///
/// # Errors
/// Never in practice: when it cannot be written as YAML.
pub(crate) fn of_config(config: &kube::Config) -> Result<SecretString, Fault> {
    SelfContained::of_config(config).to_yaml()
}

fn read_file(path: &Path) -> Result<Kubeconfig, Fault> {
    use kube::config::KubeconfigError as Kube;
    // The library resolves relative paths; its parse errors may show content, so ours are made from the text again.
    match Kubeconfig::read_from(path) {
        Ok(kubeconfig) => Ok(kubeconfig),
        Err(Kube::ReadConfig(source, _)) => Err(Fault::Unreadable(source)),
        Err(Kube::Parse(error)) => Err(Fault::of_yaml(&error)),
        Err(_) => Err(Fault::Unusable("its documents contradict each other".to_owned())),
    }
}

fn parse(text: &str) -> Result<Kubeconfig, Fault> {
    use kube::config::KubeconfigError as Kube;
    match Kubeconfig::from_yaml(text) {
        Ok(kubeconfig) => Ok(kubeconfig),
        Err(Kube::Parse(error)) => Err(Fault::of_yaml(&error)),
        Err(_) => Err(Fault::Unusable("its documents contradict each other".to_owned())),
    }
}

/// One context's cluster and user.
#[derive(Clone)]
struct Selected {
    context_name: String,
    context: Context,
    cluster: Cluster,
    user_name: String,
    user: AuthInfo,
}

fn select(kubeconfig: Kubeconfig, context: Option<&str>) -> Result<Selected, Fault> {
    if kubeconfig.clusters.is_empty() && kubeconfig.contexts.is_empty() {
        return Err(Fault::Empty);
    }
    let context_name = match context {
        Some(name) => name.to_owned(),
        None => kubeconfig.current_context.filter(|name| !name.is_empty()).ok_or(Fault::NoCurrentContext)?,
    };
    let context = kubeconfig
        .contexts
        .into_iter()
        .find(|named| named.name == context_name)
        .and_then(|named| named.context)
        .ok_or_else(|| Fault::NoSuchContext(context_name.clone()))?;
    let cluster = kubeconfig
        .clusters
        .into_iter()
        .find(|named| named.name == context.cluster)
        .and_then(|named| named.cluster)
        .ok_or_else(|| Fault::NoSuchCluster {
            context: context_name.clone(),
            cluster: context.cluster.clone(),
        })?;
    let user_name = context.user.clone().unwrap_or_default();
    let user = kubeconfig.auth_infos.into_iter().find(|named| named.name == user_name);
    if user.is_none() && !user_name.is_empty() {
        return Err(Fault::NoSuchUser { context: context_name, user: user_name });
    }
    let user = user.and_then(|named| named.auth_info).unwrap_or_default();
    Ok(Selected { context_name, context, cluster, user_name, user })
}

impl Selected {
    fn cluster_field(&self, field: &str) -> String {
        format!("clusters[{:?}].{field}", self.context.cluster)
    }

    fn user_field(&self, field: &str) -> String {
        format!("users[{:?}].{field}", self.user_name)
    }

    /// What a kubeconfig from a Secret must not have.
    fn refuse_what_runs_or_reads(&self) -> Result<(), Fault> {
        let runs = [("exec", self.user.exec.is_some()), ("auth-provider", self.user.auth_provider.is_some())];
        if let Some((field, _)) = runs.into_iter().find(|(_, there)| *there) {
            return Err(Fault::RunsProgram { field: self.user_field(field) });
        }
        let reads = [
            ("tokenFile", self.user.token_file.is_some()),
            ("client-certificate", self.user.client_certificate.is_some()),
            ("client-key", self.user.client_key.is_some()),
        ];
        if let Some((field, _)) = reads.into_iter().find(|(_, there)| *there) {
            return Err(Fault::ReadsFile { field: self.user_field(field) });
        }
        if self.cluster.certificate_authority.is_some() {
            return Err(Fault::ReadsFile { field: self.cluster_field("certificate-authority") });
        }
        Ok(())
    }

    /// Puts the content of certificate and key files in their place.
    fn inline_certificates(&mut self) -> Result<(), Fault> {
        let ca_field = self.cluster_field("certificate-authority");
        let certificate_field = self.user_field("client-certificate");
        let key_field = self.user_field("client-key");
        let cluster = &mut self.cluster;
        inline(&ca_field, &mut cluster.certificate_authority, &mut cluster.certificate_authority_data)?;
        let user = &mut self.user;
        inline(&certificate_field, &mut user.client_certificate, &mut user.client_certificate_data)?;
        let mut key = user.client_key_data.take().map(|key| key.expose_secret().to_owned());
        inline(&key_field, &mut user.client_key, &mut key)?;
        user.client_key_data = key.map(SecretString::from);
        Ok(())
    }

    fn inline_token(&mut self) -> Result<(), Fault> {
        let field = self.user_field("tokenFile");
        if let Some(path) = self.user.token_file.take()
            && self.user.token.is_none()
        {
            let token = std::fs::read_to_string(&path).map_err(|source| Fault::FileUnreadable {
                field,
                path: path.clone(),
                source,
            })?;
            self.user.token = Some(SecretString::from(token.trim().to_owned()));
        }
        Ok(())
    }

    /// What would otherwise show as a TLS error that names no field.
    fn check(&mut self, now: Timestamp) -> Result<(), Fault> {
        match self.cluster.server.as_deref() {
            None | Some("") => {
                return Err(Fault::Missing { field: self.cluster_field("server") });
            }
            Some(server) => {
                let uri = server.parse::<http::Uri>().ok();
                if !uri.is_some_and(|uri| {
                    uri.host().is_some() && matches!(uri.scheme_str(), Some("https" | "http"))
                }) {
                    return Err(Fault::Malformed {
                        field: self.cluster_field("server"),
                        expected: "a URL such as https://10.0.0.1:6443",
                    });
                }
            }
        }
        if self.cluster.proxy_url.as_deref().is_some_and(|proxy| !proxy.is_empty()) {
            return Err(Fault::Unsupported { field: self.cluster_field("proxy-url") });
        }
        if let Some(ca) = &self.cluster.certificate_authority_data {
            let field = || self.cluster_field("certificate-authority-data");
            certificate::first(&decode(field, ca)?)
                .ok_or_else(|| Fault::Malformed { field: field(), expected: CERTIFICATE })?;
        }
        let has_key = self.user.client_key_data.is_some();
        if let Some(text) = &self.user.client_certificate_data {
            let field = || self.user_field("client-certificate-data");
            let der = certificate::first(&decode(field, text)?)
                .ok_or_else(|| Fault::Malformed { field: field(), expected: CERTIFICATE })?;
            if !has_key {
                return Err(Fault::Missing { field: self.user_field("client-key-data") });
            }
            if let Some(since) = certificate::not_after(&der).filter(|not_after| *not_after < now) {
                return Err(Fault::Expired { field: field(), since });
            }
        } else if has_key {
            return Err(Fault::Missing { field: self.user_field("client-certificate-data") });
        }
        if let Some(key) = &self.user.client_key_data {
            let field = || self.user_field("client-key-data");
            if !certificate::is_key(&decode(field, key.expose_secret())?) {
                return Err(Fault::Malformed { field: field(), expected: "a private key as base64 of PEM" });
            }
        }
        Ok(())
    }

    fn into_config(self) -> Result<kube::Config, Fault> {
        kube::Config::try_from(self.into_kubeconfig())
            .map_err(|error| Fault::Unusable(crate::client::chain(&error)))
    }

    fn into_kubeconfig(self) -> Kubeconfig {
        let Self { context_name, context, cluster, user_name, user } = self;
        Kubeconfig {
            api_version: Some("v1".to_owned()),
            kind: Some("Config".to_owned()),
            current_context: Some(context_name.clone()),
            clusters: vec![NamedCluster {
                name: context.cluster.clone(),
                cluster: Some(cluster),
                ..NamedCluster::default()
            }],
            auth_infos: vec![NamedAuthInfo {
                name: user_name,
                auth_info: Some(user),
                ..NamedAuthInfo::default()
            }],
            contexts: vec![NamedContext {
                name: context_name,
                context: Some(context),
                ..NamedContext::default()
            }],
            ..Kubeconfig::default()
        }
    }
}

const CERTIFICATE: &str = "a certificate as base64 of PEM";

fn decode(field: impl Fn() -> String, text: &str) -> Result<Vec<u8>, Fault> {
    let text: String = text.split_whitespace().collect();
    STANDARD.decode(text).map_err(|_| Fault::Malformed { field: field(), expected: "base64" })
}

/// As `kubectl` does, data wins over a path.
fn inline(field: &str, path: &mut Option<String>, data: &mut Option<String>) -> Result<(), Fault> {
    if let Some(path) = path.take()
        && data.is_none()
    {
        let content = std::fs::read(&path).map_err(|source| Fault::FileUnreadable {
            field: field.to_owned(),
            path: path.clone(),
            source,
        })?;
        *data = Some(STANDARD.encode(content));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
