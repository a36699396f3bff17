//! How events of an EventSource arrive, with all that is needed to connect.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use fleet_core::resolve::Resolve;
use secrecy::{ExposeSecret, SecretString};

use crate::api::{ClusterSecretRef, DeliverFrom};
use crate::objects::Selection;

/// How events arrive. Two that are equal need no new connection.
#[derive(Clone, Debug, PartialEq)]
pub enum Transport {
    /// At the operator's own HTTP endpoint.
    Http,
    /// From NATS.
    Nats(Box<NatsTransport>),
    /// From the NATS in each source cluster.
    ClusterNats(ClusterNats),
    /// From the objects in each source cluster.
    Objects(Arc<Selection>),
}

/// What of the NATS in clusters is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterNats {
    /// The Secret in each cluster that says it.
    pub secret: ClusterSecret,
    /// Which replay this is, of what is read from streams.
    pub replay: u32,
}

/// A key of a Secret in a managed cluster, printed as `Secret namespace/name`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClusterSecret {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The key in its data.
    pub key: String,
}

impl From<ClusterSecretRef> for ClusterSecret {
    fn from(at: ClusterSecretRef) -> Self {
        Self { namespace: at.namespace, name: at.name, key: at.key }
    }
}

impl fmt::Display for ClusterSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret {}/{}", self.namespace, self.name)
    }
}

/// What to connect to, and what to read there.
#[derive(Clone, Debug, PartialEq)]
pub struct NatsTransport {
    /// The servers of one NATS system: `nats://host:4222` or `tls://host:4222`. Never with credentials.
    pub servers: Vec<String>,
    /// Who we are.
    pub auth: NatsAuth,
    /// Whom to trust: a certificate authority in PEM; the system's own if none. Given, TLS is required.
    pub ca: Option<String>,
    /// The client certificate to show. Given, TLS is required.
    pub client_certificate: Option<ClientCertificate>,
    /// The name that the servers' certificates are for; that of the URL if none. Given, TLS is required.
    pub tls_server_name: Option<String>,
    /// Begin with the TLS handshake. Then TLS is required.
    pub tls_first: bool,
    /// Where servers are reached whose names do not resolve here.
    pub resolve: Vec<Resolve>,
    /// The subjects; with JetStream, which of the stream's subjects (all, if empty).
    pub subjects: Vec<String>,
    /// Core NATS: the group whose members share the messages.
    pub queue_group: Option<String>,
    /// The stream to read; core NATS if none.
    pub jet_stream: Option<JetStream>,
    /// Where dead letters are kept, with the same servers; the operator's store if none.
    pub dead_letters: Option<DeadLetterStream>,
}

/// Who we are to NATS.
#[derive(Clone)]
pub enum NatsAuth {
    /// Nobody, or who the client certificate says.
    None,
    /// A user and a password.
    UserPassword {
        /// The user.
        user: String,
        /// The password.
        password: SecretString,
    },
    /// A token.
    Token(SecretString),
    /// The seed of an nkey.
    Nkey(SecretString),
    /// The text of a `.creds` file.
    Creds(SecretString),
}

impl PartialEq for NatsAuth {
    fn eq(&self, other: &Self) -> bool {
        let same = |one: &SecretString, other: &SecretString| one.expose_secret() == other.expose_secret();
        match (self, other) {
            (Self::None, Self::None) => true,
            (
                Self::UserPassword { user, password },
                Self::UserPassword { user: other_user, password: other_password },
            ) => user == other_user && same(password, other_password),
            (Self::Token(one), Self::Token(other))
            | (Self::Nkey(one), Self::Nkey(other))
            | (Self::Creds(one), Self::Creds(other)) => same(one, other),
            _ => false,
        }
    }
}

/// Names the way, and shows nothing else.
impl fmt::Debug for NatsAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::UserPassword { .. } => "UserPassword",
            Self::Token(_) => "Token",
            Self::Nkey(_) => "Nkey",
            Self::Creds(_) => "Creds",
        })
    }
}

/// A certificate with its key, both in PEM.
#[derive(Clone)]
pub struct ClientCertificate {
    /// The certificate, and those that lead to its authority.
    pub certificate: String,
    /// The private key.
    pub key: SecretString,
}

impl PartialEq for ClientCertificate {
    fn eq(&self, other: &Self) -> bool {
        self.certificate == other.certificate && self.key.expose_secret() == other.key.expose_secret()
    }
}

/// Leaves out what it holds.
impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientCertificate")
    }
}

/// Which stream to read, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JetStream {
    /// The stream.
    pub stream: String,
    /// The durable consumer; named after the EventSource if `None`.
    pub durable: Option<String>,
    /// Where a new consumer begins.
    pub deliver_from: DeliverFrom,
    /// After what time without a word an event is delivered again; the server's default if `None`.
    pub ack_wait: Option<Duration>,
    /// How many events may be under way at once; the adapter's default if `None`.
    pub max_ack_pending: Option<u32>,
    /// Create the stream, with the subjects, if there is none.
    pub create: bool,
    /// Which replay this is: raised, everything is delivered again.
    pub replay: u32,
}

/// In which stream dead letters are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetterStream {
    /// The stream.
    pub stream: String,
    /// What the subjects begin with.
    pub subject: String,
    /// Create the stream, for those subjects, if there is none.
    pub create: bool,
}
