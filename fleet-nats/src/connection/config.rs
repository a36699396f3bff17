//! What is needed to connect to NATS, checked.

use std::fmt;
use std::sync::Arc;

use async_nats::{ConnectOptions, ServerAddr};
use fleet_core::resolve::Resolve;
use fleet_core::source::SourceError;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use secrecy::{ExposeSecret, SecretString};

use super::verify::{ByName, Expected};

/// Where NATS is and how to get in. Equal configurations share one connection. `Debug` shows no secrets.
#[derive(Clone)]
pub struct NatsConfig {
    servers: Vec<ServerAddr>,
    auth: Auth,
    tls: Option<Tls>,
    resolve: Vec<Resolve>,
    discovers: bool,
    name: String,
}

/// How to get in.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum Auth {
    /// The server lets everybody in.
    #[default]
    None,
    /// User and password.
    UserPassword {
        /// The user.
        user: String,
        /// The password.
        password: SecretString,
    },
    /// A token.
    Token(SecretString),
    /// The seed of an nkey (`SU…`).
    NKey(SecretString),
    /// The text of a credentials file: a JWT and the seed that belongs to it.
    Creds(SecretString),
}

/// TLS, all in PEM text. With it, a connection is never made without TLS.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    /// The certificate authorities to trust; without them, those of the platform.
    pub ca: Option<String>,
    /// The certificate that the client shows, where the server asks for one.
    pub client: Option<ClientCertificate>,
    /// Begin with the TLS handshake, as servers with `handshake_first` want it.
    pub first: bool,
    /// The name that the servers' certificates are for; that of the URL, if none. The handshake then names no server.
    pub server_name: Option<String>,
}

/// A client certificate with its key, in PEM text.
#[derive(Clone, Debug)]
pub struct ClientCertificate {
    /// The certificate, and those between it and the authority.
    pub certificate: String,
    /// Its private key.
    pub key: SecretString,
}

/// A configuration cannot work. Trying again heals nothing: it has to be corrected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct ConfigError {
    /// What is wrong, where, and what to do. No secrets.
    pub reason: String,
}

pub(crate) fn wrong<T>(reason: impl Into<String>) -> Result<T, ConfigError> {
    Err(ConfigError { reason: reason.into() })
}

impl From<ConfigError> for SourceError {
    fn from(error: ConfigError) -> Self {
        Self { reason: error.reason }
    }
}

impl NatsConfig {
    /// A configuration for these servers: `nats://host:4222`, `tls://host` (TLS required), or `host:port`. User and
    /// password, or a token, may stand in the first URL (`nats://user:password@host`); [`auth`](Self::auth) goes before
    /// them.
    ///
    /// # Errors
    /// When there is no URL, or one that cannot be used.
    pub fn new(urls: impl IntoIterator<Item = impl AsRef<str>>) -> Result<Self, ConfigError> {
        let mut servers = Vec::new();
        let mut auth = Auth::None;
        for url in urls {
            let (url, login) = without_login(url.as_ref().trim());
            let server: ServerAddr = match url.parse() {
                Ok(server) => server,
                Err(error) => {
                    return wrong(format!(
                        "{url:?} is no URL of a NATS server ({error}); expected nats://host:4222"
                    ));
                }
            };
            if server.is_websocket() {
                return wrong(format!(
                    "{url:?}: NATS over WebSocket is not supported; use nats:// or tls://"
                ));
            }
            if server.host().is_empty() {
                return wrong(format!("{url:?} names no host; expected nats://host:4222"));
            }
            if servers.is_empty() {
                auth = login;
            }
            servers.push(server);
        }
        if servers.is_empty() {
            return wrong("no NATS server is given; expected at least one URL such as nats://host:4222");
        }
        let (resolve, name) = (Vec::new(), "fleet".to_owned());
        Ok(Self { servers, auth, tls: None, resolve, discovers: true, name })
    }

    /// How to get in.
    #[must_use]
    pub fn auth(self, auth: Auth) -> Self {
        Self { auth, ..self }
    }

    /// Connect with TLS only.
    #[must_use]
    pub fn tls(self, tls: Tls) -> Self {
        Self { tls: Some(tls), ..self }
    }

    /// Connects to other addresses than the URLs say. Certificates are still checked against the names in the URLs, but
    /// the handshake names no server. Addresses that the servers tell of each other are not used then.
    #[must_use]
    pub fn resolve(self, resolve: impl IntoIterator<Item = Resolve>) -> Self {
        let named = |one: &Resolve| self.servers.iter().any(|it| one.is_for(it.host(), it.port()));
        // What concerns no server here makes no other connection.
        let resolve: Vec<_> = resolve.into_iter().filter(named).collect();
        Self { discovers: self.discovers && resolve.is_empty(), resolve, ..self }
    }

    /// Uses these servers only, and none that they tell of: inside a cluster they tell each other's inner addresses.
    #[must_use]
    pub fn without_discovery(self) -> Self {
        Self { discovers: false, ..self }
    }

    /// The name under which the server lists the connection.
    #[must_use]
    pub fn name(self, name: impl Into<String>) -> Self {
        Self { name: name.into(), ..self }
    }

    /// Checks all that can be checked without a server.
    ///
    /// # Errors
    /// What is wrong, and what to do.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.options().map(drop)
    }

    /// The servers, for messages: never with credentials.
    pub(crate) fn servers_text(&self) -> String {
        let each = self
            .servers
            .iter()
            .map(|server| format!("{}://{}:{}", server.scheme(), server.host(), server.port()));
        each.collect::<Vec<_>>().join(", ")
    }

    /// Where to connect to.
    pub(crate) fn servers(&self) -> Vec<ServerAddr> {
        self.servers.iter().map(|server| self.mapped(server).unwrap_or_else(|| server.clone())).collect()
    }

    /// Where to connect to instead. The client library checks certificates against the address it is given, so where
    /// they differ [`names`] puts that right.
    fn mapped(&self, server: &ServerAddr) -> Option<ServerAddr> {
        let to = self.resolve.iter().find(|one| one.is_for(server.host(), server.port()))?;
        let address =
            if to.address().contains(':') { format!("[{}]", to.address()) } else { to.address().to_owned() };
        format!("{}://{address}:{}", server.scheme(), to.address_port()).parse().ok()
    }

    /// Which names count for a server at the address that is connected to, where they are others.
    fn names(&self, tls: &Tls) -> Result<Vec<Expected>, ConfigError> {
        let mut expected = Vec::new();
        for server in &self.servers {
            let dialed = self.mapped(server);
            let name = match (&tls.server_name, &dialed) {
                (Some(name), _) => name,
                (None, Some(_)) => server.host(),
                (None, None) => continue,
            };
            let parse = |name: &str| {
                ServerName::try_from(name.to_owned()).map_err(|_| ConfigError {
                    reason: format!("{name:?} is no name that a certificate can be for"),
                })
            };
            let at = parse(dialed.as_ref().unwrap_or(server).host())?;
            expected.push(Expected { at, name: parse(name)? });
        }
        Ok(expected)
    }

    /// What to look at when the server does not let us in.
    pub(crate) fn auth_text(&self) -> &'static str {
        match self.auth {
            Auth::None => "that no credentials are given",
            Auth::UserPassword { .. } => "user and password",
            Auth::Token(_) => "the token",
            Auth::NKey(_) => "the nkey",
            Auth::Creds(_) => "the credentials (JWT and seed)",
        }
    }

    /// Everything that can be checked without a server, and the options to connect with.
    pub(crate) fn options(&self) -> Result<ConnectOptions, ConfigError> {
        let options = ConnectOptions::new().name(&self.name).reconnect_delay_callback(|attempts| {
            // The first attempt after a loss is made at once.
            match u32::try_from(attempts).unwrap_or(u32::MAX) {
                0 | 1 => std::time::Duration::ZERO,
                attempts => crate::backoff::after(attempts - 2),
            }
        });
        let options = match &self.auth {
            Auth::None => options,
            Auth::UserPassword { user, password } => {
                options.user_and_password(user.clone(), password.expose_secret().to_owned())
            }
            Auth::Token(token) => options.token(token.expose_secret().to_owned()),
            Auth::NKey(seed) => {
                let seed = seed.expose_secret().trim();
                if !seed.starts_with("SU") || !seed.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
                    return wrong(
                        "the nkey is no user seed: one begins with SU (the server has the public key, U…)",
                    );
                }
                options.nkey(seed.to_owned())
            }
            // The library's error may show parts of the text.
            Auth::Creds(text) => match options.credentials(text.expose_secret()) {
                Ok(options) => options,
                Err(_) => {
                    return wrong(
                        "the NATS credentials hold no JWT with its seed; expected the text of a .creds file",
                    );
                }
            },
        };
        let options = if self.discovers { options } else { options.ignore_discovered_servers() };
        let wants_tls = self.tls.is_some() || self.servers.iter().any(ServerAddr::tls_required);
        let tls = self.tls.clone().unwrap_or_default();
        if !wants_tls && self.resolve.is_empty() {
            return Ok(options);
        }
        let names = self.names(&tls)?;
        if !wants_tls {
            // The server may ask for TLS all the same; if there is nobody to trust, only that fails.
            return Ok(match tls.client_config(names) {
                Ok(config) => options.tls_client_config(config),
                Err(_) => options,
            });
        }
        let options = options.require_tls(true).tls_client_config(tls.client_config(names)?);
        Ok(if tls.first { options.tls_first() } else { options })
    }
}

impl Tls {
    fn client_config(&self, names: Vec<Expected>) -> Result<ClientConfig, ConfigError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let begun =
            ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
        let builder = match begun {
            Ok(builder) => builder,
            Err(error) => return wrong(format!("TLS cannot be set up: {error}")),
        };
        let renamed = !names.is_empty();
        let builder = if renamed {
            let verifier = ByName::new(self.roots()?, provider, names)?;
            builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier))
        } else {
            builder.with_root_certificates(self.roots()?)
        };
        let mut config = match &self.client {
            None => builder.with_no_client_auth(),
            Some(client) => {
                let chain = certificates(&client.certificate, "the client certificate")?;
                let Ok(key) = PrivateKeyDer::from_pem_slice(client.key.expose_secret().as_bytes()) else {
                    return wrong("the key of the NATS client certificate is no PEM private key");
                };
                builder.with_client_auth_cert(chain, key).map_err(|error| ConfigError {
                    reason: format!("the NATS client certificate and its key cannot be used: {error}"),
                })?
            }
        };
        // It would be that of the address.
        config.enable_sni = !renamed;
        Ok(config)
    }

    fn roots(&self) -> Result<RootCertStore, ConfigError> {
        let mut roots = RootCertStore::empty();
        match &self.ca {
            Some(pem) => {
                for certificate in certificates(pem, "the certificate authority")? {
                    if let Err(error) = roots.add(certificate) {
                        return wrong(format!("the certificate authority for NATS cannot be used: {error}"));
                    }
                }
            }
            None => {
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
        }
        Ok(roots)
    }
}

fn certificates(pem: &str, what: &str) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    match CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<Vec<_>, _>>() {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => wrong(format!("{what} for NATS is no PEM text with a CERTIFICATE in it")),
    }
}

/// The URL without user and password, and those.
fn without_login(url: &str) -> (String, Auth) {
    let (scheme, rest) = match url.split_once("://") {
        Some((scheme, rest)) => (scheme, rest),
        None => ("nats", url),
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let Some((login, host)) = authority.rsplit_once('@') else {
        return (format!("{scheme}://{rest}"), Auth::None);
    };
    let decoded = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
    let auth = match login.split_once(':') {
        Some((user, password)) => {
            Auth::UserPassword { user: decoded(user), password: SecretString::from(decoded(password)) }
        }
        None => Auth::Token(SecretString::from(decoded(login))),
    };
    (format!("{scheme}://{host}{path}"), auth)
}

impl fmt::Debug for NatsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsConfig")
            .field("servers", &self.servers_text())
            .field("auth", &self.auth)
            .field("tls", &self.tls.is_some())
            .field("resolve", &self.resolve)
            .field("name", &self.name)
            .finish()
    }
}

impl PartialEq for NatsConfig {
    fn eq(&self, other: &Self) -> bool {
        self.servers == other.servers
            && self.auth == other.auth
            && self.tls == other.tls
            && self.resolve == other.resolve
            && self.discovers == other.discovers
            && self.name == other.name
    }
}

impl PartialEq for Auth {
    fn eq(&self, other: &Self) -> bool {
        let same = |a: &SecretString, b: &SecretString| a.expose_secret() == b.expose_secret();
        match (self, other) {
            (Self::None, Self::None) => true,
            (Self::UserPassword { user: a, password: x }, Self::UserPassword { user: b, password: y }) => {
                a == b && same(x, y)
            }
            (Self::Token(a), Self::Token(b))
            | (Self::NKey(a), Self::NKey(b))
            | (Self::Creds(a), Self::Creds(b)) => same(a, b),
            _ => false,
        }
    }
}

impl PartialEq for Tls {
    fn eq(&self, other: &Self) -> bool {
        let same = |a: &ClientCertificate, b: &ClientCertificate| {
            a.certificate == b.certificate && a.key.expose_secret() == b.key.expose_secret()
        };
        self.ca == other.ca
            && self.first == other.first
            && self.server_name == other.server_name
            && match (&self.client, &other.client) {
                (None, None) => true,
                (Some(a), Some(b)) => same(a, b),
                _ => false,
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_leave_the_url_and_never_show() {
        let config = NatsConfig::new(["nats://me:p%40ss@one:4333", "two"]).unwrap();
        assert_eq!(config.servers_text(), "nats://one:4333, nats://two:4222");
        let expected = Auth::UserPassword { user: "me".to_owned(), password: SecretString::from("p@ss") };
        assert!(config.auth == expected);
        assert!(
            NatsConfig::new(["nats://s3cret@one"]).unwrap().auth == Auth::Token(SecretString::from("s3cret"))
        );
        let tls = Tls {
            client: Some(ClientCertificate { certificate: String::new(), key: SecretString::from("p@ss") }),
            ..Tls::default()
        };
        let shown = format!("{:?} {tls:?}", config.tls(tls.clone()));
        assert!(!shown.contains("p@ss") && !shown.contains("p%40ss"), "{shown}");
    }

    #[test]
    fn what_cannot_work_is_refused_with_the_reason() {
        let new = |url: &str| NatsConfig::new([url]);
        for (result, expected) in [
            (NatsConfig::new(Vec::<String>::new()), "no NATS server is given"),
            (new("http://x"), "\"http://x\" is no URL of a NATS server"),
            (new("ws://x"), "\"ws://x\": NATS over WebSocket"),
            (new("nats://"), "\"nats://\""),
        ] {
            let reason = result.unwrap_err().reason;
            assert!(reason.starts_with(expected), "{reason}");
        }
        let base = new("nats://x").unwrap();
        let secret = || SecretString::from("s3cret");
        let key = ClientCertificate { certificate: "none".to_owned(), key: secret() };
        for (config, expected) in [
            (base.clone().auth(Auth::NKey(secret())), "the nkey is no user seed"),
            (base.clone().auth(Auth::Creds(secret())), "the NATS credentials hold no JWT"),
            (
                base.clone().tls(Tls { ca: Some("x".to_owned()), ..Tls::default() }),
                "the certificate authority for NATS is no PEM",
            ),
            (
                base.tls(Tls { client: Some(key), ..Tls::default() }),
                "the client certificate for NATS is no PEM",
            ),
        ] {
            let reason = config.options().err().unwrap().reason;
            assert!(reason.starts_with(expected), "{reason}");
            assert!(!reason.contains("s3cret"));
        }
    }

    #[test]
    fn a_mapped_server_is_dialed_elsewhere_and_told_by_its_name() {
        let config = NatsConfig::new(["nats://nats.svc", "tls://nats.svc:9", "nats://other:1"]).unwrap();
        let resolve = ["nats.svc:4222=[::1]:7", "NATS.svc:9=10.0.0.1", "nobody:1=10.0.0.2"];
        let mapped = config.clone().resolve(resolve.map(|text| text.parse().unwrap()));
        assert_eq!(mapped.servers_text(), config.servers_text());
        let dialed: Vec<_> = mapped.servers().iter().map(|it| it.as_url_str().to_owned()).collect();
        assert_eq!(dialed, ["nats://[::1]:7", "tls://10.0.0.1:9", "nats://other:1"]);
        assert!(mapped.options().is_ok());
        assert!(mapped != config);
        let beside = config.clone().resolve(["nobody:1=10.0.0.2".parse().unwrap()]);
        assert!(beside == config, "what maps nothing here makes no difference");
    }

    #[test]
    fn equal_means_the_same_servers_and_credentials() {
        let config = |password: &str| {
            NatsConfig::new(["nats://x"])
                .unwrap()
                .auth(Auth::UserPassword { user: "me".to_owned(), password: SecretString::from(password) })
        };
        assert!(config("a") == config("a"));
        assert!(config("a") != config("b"));
        assert!(config("a") != config("a").tls(Tls::default()));
        assert!(config("a") != config("a").auth(Auth::None));
    }
}
