//! Why there is no connection, in words that a condition can show.

use std::error::Error as _;
use std::io;

use async_nats::{ConnectError, ConnectErrorKind};

use super::NatsConfig;

/// The reason of a status when the name of a server does not resolve: it may be one that only a cluster knows.
pub const NAME_NOT_RESOLVED: &str = "NameNotResolved";

/// Why something does not work, as a condition has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trouble {
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

impl NatsConfig {
    /// Why a connection cannot be made.
    pub(crate) fn trouble(&self, error: &ConnectError) -> Trouble {
        let io = error.source().and_then(|source| source.downcast_ref::<io::Error>());
        let tls = io.and_then(io::Error::get_ref).and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match (error.kind(), tls) {
            (kind, Some(tls)) if kind == ConnectErrorKind::Io || kind == ConnectErrorKind::Tls => {
                self.tls_trouble(&tls.to_string())
            }
            (ConnectErrorKind::Tls, None) => self.tls_trouble(&error.to_string()),
            (ConnectErrorKind::AuthorizationViolation, _) => self.not_let_in(),
            (ConnectErrorKind::Authentication, _) => self.cannot_sign(),
            (ConnectErrorKind::Dns, _) => self.not_resolved(),
            _ => self.not_reached(&error.to_string()),
        }
    }

    /// After a loss, the library tells the kind of the error only.
    pub(super) fn trouble_again(&self, text: &str) -> Trouble {
        match text {
            text if text == ConnectErrorKind::AuthorizationViolation.to_string() => self.not_let_in(),
            text if text == ConnectErrorKind::Authentication.to_string() => self.cannot_sign(),
            text if text == ConnectErrorKind::Dns.to_string() => self.not_resolved(),
            text if text == ConnectErrorKind::Tls.to_string() => self.tls_trouble(text),
            other => self.not_reached(other),
        }
    }

    fn not_let_in(&self) -> Trouble {
        Trouble {
            reason: "AuthorizationViolation",
            message: format!(
                "authorization violation: {} did not let us in; check {}, in the Secret that the EventSource names, or where else they are given",
                self.servers_text(),
                self.auth_text()
            ),
        }
    }

    fn cannot_sign(&self) -> Trouble {
        Trouble {
            reason: "AuthorizationViolation",
            message: format!(
                "{} wants a signature that cannot be made; check {}, in the Secret that the EventSource names, or where else they are given",
                self.servers_text(),
                self.auth_text()
            ),
        }
    }

    fn tls_trouble(&self, detail: &str) -> Trouble {
        Trouble {
            reason: "TlsFailed",
            message: format!(
                "no TLS connection to {}: {detail}; check the certificate authority, the client certificate and the host name",
                self.servers_text()
            ),
        }
    }

    fn not_resolved(&self) -> Trouble {
        Trouble {
            reason: NAME_NOT_RESOLVED,
            message: format!("the name in {} does not resolve here; it is tried again", self.servers_text()),
        }
    }

    fn not_reached(&self, detail: &str) -> Trouble {
        Trouble {
            reason: "ConnectionFailed",
            message: format!(
                "cannot connect to {}: {detail}; it is tried again; check that the server runs and that its address is right",
                self.servers_text()
            ),
        }
    }
}
