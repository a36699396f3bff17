//! Certificates of servers that are reached under another address than they are named.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use super::config::{ConfigError, wrong};

/// The name that counts for a server at an address.
#[derive(Debug)]
pub(super) struct Expected {
    pub(super) at: ServerName<'static>,
    pub(super) name: ServerName<'static>,
}

/// Checks a certificate as ever, but against the names that are expected at an address. Servers that share an address,
/// at several ports, may show a certificate for any of their names: they are one NATS system.
#[derive(Debug)]
pub(super) struct ByName {
    inner: Arc<WebPkiServerVerifier>,
    expected: Vec<Expected>,
}

impl ByName {
    pub(super) fn new(
        roots: RootCertStore,
        provider: Arc<CryptoProvider>,
        expected: Vec<Expected>,
    ) -> Result<Self, ConfigError> {
        match WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build() {
            Ok(inner) => Ok(Self { inner, expected }),
            Err(error) => wrong(format!("TLS cannot be set up: {error}; name a certificate authority")),
        }
    }
}

impl ServerCertVerifier for ByName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let check = |name: &ServerName<'_>| {
            self.inner.verify_server_cert(end_entity, intermediates, name, ocsp_response, now)
        };
        let mut names = self.expected.iter().filter(|it| it.at == *server_name).map(|it| &it.name);
        let Some(first) = names.next() else { return check(server_name) };
        names.fold(check(first), |checked, name| checked.or_else(|_| check(name)))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
