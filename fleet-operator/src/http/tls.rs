//! TLS, and how clients are known by their certificates.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use super::access::{Clients, Peer, TlsFiles};

/// Why TLS cannot be made of its files. Nothing of a key is ever shown.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file holds no certificate.
    #[error("{} holds no certificate that can be read (PEM)", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
    },
    /// A file holds no private key.
    #[error("{} holds no private key that can be read (PEM: PKCS #8, PKCS #1 or SEC 1, not encrypted)", path.display())]
    Key {
        /// The file.
        path: PathBuf,
    },
    /// They do not belong together, or are not of use.
    #[error("the certificate {} and the key {} cannot be used together: {error}", certificate.display(), key.display())]
    Pair {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// Why.
        error: rustls::Error,
    },
    /// Certificates of clients cannot be checked.
    #[error("client certificates cannot be checked by {}: {reason}", path.display())]
    Authorities {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

/// One life of the files.
pub(super) struct Tls {
    acceptor: TlsAcceptor,
    clients: Option<Clients>,
    retired: CancellationToken,
}

impl Tls {
    /// Of what the files hold: certificate, key, and the clients' authorities if there are any.
    pub(super) fn new(files: &TlsFiles, texts: &[Vec<u8>]) -> Result<Self, TlsError> {
        let text = |index: usize| texts.get(index).map_or(&[][..], Vec::as_slice);
        let chain = certificates(&files.certificate, text(0))?;
        let key =
            PrivateKeyDer::from_pem_slice(text(1)).map_err(|_| TlsError::Key { path: files.key.clone() })?;
        let pair =
            |error| TlsError::Pair { certificate: files.certificate.clone(), key: files.key.clone(), error };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(pair)?;
        let builder = match &files.clients {
            None => builder.with_no_client_auth(),
            Some(Clients { authorities: path, .. }) => {
                let fault = |reason: String| TlsError::Authorities { path: path.clone(), reason };
                let mut roots = RootCertStore::empty();
                for certificate in certificates(path, text(2))? {
                    roots.add(certificate).map_err(|error| fault(error.to_string()))?;
                }
                // Whoever looks at /healthz has none; who sends is looked at when something is sent.
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                    .allow_unauthenticated()
                    .build()
                    .map_err(|error| fault(error.to_string()))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut config = builder.with_single_cert(chain, key).map_err(pair)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self {
            acceptor: TlsAcceptor::from(Arc::new(config)),
            clients: files.clients.clone(),
            retired: CancellationToken::new(),
        })
    }

    pub(super) async fn accept(&self, stream: TcpStream) -> std::io::Result<(TlsStream<TcpStream>, Peer)> {
        let stream = self.acceptor.accept(stream).await?;
        let certificates = stream.get_ref().1.peer_certificates();
        let peer = match (&self.clients, certificates.and_then(|chain| chain.first())) {
            (Some(clients), Some(certificate)) => Peer::Verified(may_send(clients, certificate)),
            _ => Peer::Unknown,
        };
        Ok((stream, peer))
    }

    /// Other files took its place.
    pub(super) fn retire(&self) {
        self.retired.cancel();
    }

    /// Until other files took its place.
    pub(super) async fn retired(&self) {
        self.retired.cancelled().await;
    }
}

fn certificates(path: &std::path::Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let fault = || TlsError::Certificate { path: path.to_owned() };
    let all = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>().map_err(|_| fault())?;
    if all.is_empty() { Err(fault()) } else { Ok(all) }
}

fn may_send(clients: &Clients, certificate: &CertificateDer<'_>) -> bool {
    if clients.names.is_empty() {
        return true;
    }
    let Ok(certificate) = webpki::EndEntityCert::try_from(certificate) else { return false };
    let mut names = certificate.valid_dns_names().chain(certificate.valid_uri_names());
    names.any(|name| clients.names.contains(name))
}
